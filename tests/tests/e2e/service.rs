//! `makima service`, with a stand-in for the service manager that writes down what it is asked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Call, Place};

/// A place with a `systemctl` and a `loginctl` of its own.
struct Managed(Place);

impl Managed {
    fn new() -> Self {
        let managed = Self(Place::new());
        let tools = managed.0.path("tools");
        fs::create_dir(&tools).expect("a folder");
        for name in ["systemctl", "loginctl"] {
            let (calls, fails) = (managed.0.path("calls"), managed.0.path("fails"));
            let script = format!(
                "#!/bin/sh\necho \"{name} $*\" >> {}\nif test -e {}; then echo 'Failed to connect to bus' >&2; exit 1; fi\n\
                 case \"$*\" in *show*) echo ActiveState=active; echo MainPID=1;; esac\n",
                calls.display(),
                fails.display()
            );
            let path = tools.join(name);
            fs::write(&path, script).expect("a script");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        managed
    }

    fn service(&self, words: &[&str]) -> Call {
        let path = std::env::var("PATH").expect("a PATH");
        let call = self.0.makima(["service"]).args(words);
        call.env("PATH", format!("{}:{path}", self.0.path("tools").display()))
    }

    fn install(&self, words: &[&str]) -> Call {
        self.service(&["install", "--agent", "shell", "--server", "wss://a.example"]).args(words)
    }

    fn unit(&self) -> PathBuf {
        self.0.user().join(".config/systemd/user/makima.service")
    }

    /// What the manager was asked since the last time.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.0.path("calls"));
        text.lines().map(str::to_owned).collect()
    }
}

const KEY: &str = "a key that nobody may read";
const RELOAD: &str = "systemctl --user daemon-reload";
const ENABLE: &str = "systemctl --user enable --now makima.service";

#[test]
fn it_is_installed_once_and_taken_away_again() {
    let place = Managed::new();
    let done = place.install(&[]).env("MAKIMA_API_KEY", KEY).done().code(0);
    drop(done.noted(&["is written", "loginctl enable-linger"]));
    assert_eq!(place.calls()[..2], [RELOAD, ENABLE]);
    let unit = fs::read_to_string(place.unit()).expect("it is there");
    let program = crate::support::binary().display().to_string();
    let key = place.0.home().join("service-key");
    let command = format!(
        "ExecStart=\"{program}\" \"daemon\" \"--server\" \"wss://a.example\" \"--agent\" \"shell\" \"--sandbox\" \"off\" \"--api-key-file\" \"{}\"",
        key.display()
    );
    assert!(unit.lines().any(|line| line == command), "{unit}");
    assert!(unit.contains(&format!("Environment=\"MAKIMA_HOME={}\"\n", place.0.home().display())), "{unit}");
    assert!(!unit.contains(KEY));
    assert_eq!(fs::read_to_string(&key).expect("a key").trim(), KEY);
    assert_eq!(fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);

    // Once more is harmless, with the key from the file by now.
    drop(place.install(&[]).env("MAKIMA_API_KEY", KEY).done().code(0).noted(&["is as it should be"]));
    assert_eq!(place.calls()[..2], [RELOAD, ENABLE]);
    assert_eq!(fs::read_to_string(place.unit()).expect("it is there"), unit);
    // What is different is written anew, and the daemon started anew.
    place.install(&["--api-key-file", key.to_str().expect("plain")]).done().code(0);
    place.install(&["--insecure", "--api-key-file", key.to_str().expect("plain")]).done().code(0);
    assert!(place.calls().contains(&"systemctl --user restart makima.service".to_owned()));

    let told = place.service(&["status"]).done().code(0).out();
    assert!(told.contains("as makima made it") && told.contains("ActiveState=active"), "{told}");
    place.calls();
    fs::create_dir_all(place.0.home().join("tasks/kept")).expect("a folder");
    drop(place.service(&["uninstall"]).done().code(0).noted(&["agents go on"]));
    assert_eq!(place.calls(), ["systemctl --user disable --now makima.service", RELOAD]);
    assert!(!place.unit().exists() && !key.exists() && place.0.home().join("tasks/kept").exists());
    drop(place.service(&["uninstall"]).done().code(0).noted(&["there is no"]));
}

#[test]
fn what_was_changed_by_hand_stays() {
    let place = Managed::new();
    place.install(&[]).env("MAKIMA_API_KEY", KEY).done().code(0);
    let mut unit = fs::read_to_string(place.unit()).expect("it is there");
    unit.push_str("# mine\n");
    fs::write(place.unit(), &unit).expect("a file");
    place.calls();
    let done = place.install(&[]).env("MAKIMA_API_KEY", KEY).done().code(2);
    drop(done.noted(&["changed by hand", "--force", "systemctl --user edit"]));
    drop(place.service(&["uninstall"]).done().code(2).noted(&["changed by hand", "--force"]));
    assert_eq!(fs::read_to_string(place.unit()).expect("it is there"), unit);
    assert!(place.calls().is_empty());
    place.install(&["--force"]).env("MAKIMA_API_KEY", KEY).done().code(0);
    assert!(!fs::read_to_string(place.unit()).expect("it is there").contains("# mine"));
}

#[test]
fn without_a_service_manager_the_file_is_there_and_one_is_told_what_to_do() {
    let place = Managed::new();
    fs::write(place.0.path("fails"), "").expect("a file");
    let done = place.install(&[]).env("MAKIMA_API_KEY", KEY).done().code(1);
    drop(done.noted(&["was not started", "Failed to connect to bus", "XDG_RUNTIME_DIR", "enable-linger"]));
    assert!(place.unit().exists());
    drop(place.service(&["status"]).done().code(1).noted(&["Failed to connect to bus"]));
    drop(place.service(&["uninstall"]).done().code(1).noted(&["is taken away", "not reached"]));
    assert!(!place.unit().exists());
    // And where there is not even a `systemctl`.
    let call = place.install(&[]).env("MAKIMA_API_KEY", KEY).env("PATH", place.0.path("nothing"));
    drop(call.done().code(1).noted(&["cannot be started", "was not started"]));
    assert!(place.unit().exists());
}

#[test]
fn what_would_not_run_is_not_installed() {
    let place = Managed::new();
    let service = |words: &[&str]| place.service(&["install"]).args(words).done().code(2);
    drop(service(&["--server", "wss://a.example"]).noted(&["no agent was named"]));
    drop(service(&["--agent", "shell"]).noted(&["no control server was named"]));
    drop(service(&["--agent", "shell", "--server", "wss://a.example"]).noted(&["there is no key"]));
    drop(service(&["--agent", "shell", "--server", "ws://a.example"]).noted(&["unencrypted"]));
    let call = place.service(&["install", "--agent", "shell", "--server", "wss://me:pass@a.example"]);
    drop(call.env("MAKIMA_API_KEY", KEY).done().code(2).noted(&["a password"]));
    assert!(!place.unit().exists() && place.calls().is_empty());
}

#[test]
fn what_is_printed_is_what_systemd_takes() {
    let place = Managed::new();
    let printed = place.install(&["--print"]).env("MAKIMA_API_KEY", KEY).done().code(0).out();
    assert!(!place.unit().exists() && place.calls().is_empty() && !place.0.home().exists());
    assert!(!printed.contains(KEY));
    let verified = |name: &str, text: &str| {
        let unit = place.0.path(name);
        fs::write(&unit, text).expect("a file");
        let mut command = Command::new("systemd-analyze");
        command
            .args(["verify", "--user"])
            .arg(&unit)
            .env("XDG_RUNTIME_DIR", place.0.root())
            .env("HOME", place.0.user());
        command.output().ok().map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let broken = printed.replace("KillMode=process", "KillMode=nonsense");
    match verified("broken.service", &broken) {
        Some(said) if said.contains("nonsense") => {}
        _ => return eprintln!("skipped: there is no systemd-analyze that works"),
    }
    // systemd before 254 does not know that one, and passes over it.
    let told = verified("makima.service", &printed).unwrap_or_default();
    let new = |line: &&str| !line.contains("Unknown key 'DelegateSubgroup'");
    assert_eq!(told.lines().filter(new).collect::<Vec<_>>(), [""; 0]);
}
