//! The sandbox: what gets out of it, tried by each way that is known. Every attempt is made without it too, where it has to
//! succeed: one that cannot succeed proves nothing.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::Value;

use crate::support::{Done, Place, Repo};

/// Stands in files that are not to be read.
const SECRET: &str = "not-for-agents";

/// A call that changes something outside, in which `F` is a file there with something in it, `D` its folder. It may fail.
const CHANGES: &[(&str, &str)] = &[
    ("overwrite", "echo x > F"),
    ("append", "echo x >> F"),
    ("remove", "rm F"),
    ("remove a folder", "rm -r D"),
    ("rename", "mv F D/other"),
    ("put in its place", "echo x > own; mv own F"),
    ("take out", "mv F taken"),
    ("a file", "touch D/new"),
    ("a folder", "mkdir D/new"),
    ("a pipe", "mkfifo D/new"),
    ("a link", "ln -s /etc D/new"),
    ("a second name", "ln F second && echo x > second"),
    ("behind a link", "ln -s D way; echo x > way/f"),
    ("cut", "perl -e 'truncate(\"F\", 0)'"),
    ("by the root of a process", "echo x > /proc/self/root/F"),
    ("by the folder of a process", "cd D && cd - > /dev/null && perl -e 'chdir \"D\"; open(OUT, \">f\")'"),
    ("by who watches over it", "echo x > /proc/${PPID}/root/F"),
    ("from a session of its own", "setsid sh -c 'echo x > F' < /dev/null > /dev/null 2>&1 & wait"),
    ("from one that has no parent", "(setsid sh -c 'echo x > F; touch D/done' &) ; sleep 0.3"),
    ("without its environment", "env -i /bin/sh -c 'echo x > F'"),
    ("by git", "git init -q D/repo"),
    ("by git's worktree", "git worktree add -q D/new"),
    (
        "by git's hook",
        "printf '#!/bin/sh\\necho x > F\\n' > .git/hooks/post-commit; chmod +x .git/hooks/post-commit; \
      git -c user.name=n -c user.email=e commit -q --allow-empty -m m",
    ),
    ("by git's file system monitor", "git config core.fsmonitor 'echo x > F; false'; git status > /dev/null"),
];

/// A call that says what stands in a file that is not to be read; in it `F` is the file.
const READS: &[(&str, &str)] = &[
    ("read", "cat F"),
    ("behind a link", "ln -s F link && cat link"),
    ("by the root of a process", "cat /proc/self/root/F"),
    ("by the root of who watches over it", "cat /proc/${PPID}/root/F"),
    ("by a second name", "ln F name && cat name"),
    ("a copy", "cp F copy && cat copy"),
    ("from a session of its own", "setsid cat F"),
    ("by git", "git hash-object -w F | xargs git cat-file -p"),
];

struct Scene {
    place: Place,
    repo: Repo,
}

impl Scene {
    fn new(settings: &str) -> Self {
        let place = Place::new();
        place.configure(settings);
        let repo = place.repo();
        Self { place, repo }
    }

    /// A folder outside with a file in it, for one attempt.
    fn outside(&self, number: usize) -> PathBuf {
        let folder = self.place.path("outside").join(number.to_string());
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("f"), "as it was").expect("a file");
        folder
    }

    fn run(&self, mode: &str, script: &str) -> Done {
        let run = self.place.makima(["run", "--agent", "shell", "--on-complete", "none", script]);
        run.env("MAKIMA_SANDBOX", mode).at(self.repo.path()).done()
    }
}

/// What lies in a folder, and what stands in it.
fn seen(folder: &Path) -> Vec<(PathBuf, Option<String>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut seen: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let text = path.is_file().then(|| fs::read_to_string(&path).unwrap_or_default());
            (path, text)
        })
        .collect();
    seen.sort();
    seen
}

/// Each attempt in a shell of its own, one after the other. Where one fails the next is made all the same.
fn attempts(calls: &[(&str, &str)], of: impl Fn(usize, &str) -> String) -> String {
    let call = |(number, (_, call)): (usize, &(&str, &str))| {
        let call = of(number, call).replace('\'', "'\\''");
        format!("mkdir -p try-{number}; cp -r .git try-{number}; (cd try-{number} && sh -c '{call}') 2> /dev/null\n")
    };
    calls.iter().enumerate().map(call).collect::<String>() + "true\n"
}

/// Names of a call that stand for a file and its folder.
fn with_places(call: &str, folder: &Path) -> String {
    let folder = folder.display().to_string();
    call.replace("D/", &format!("{folder}/"))
        .replace(" D ", &format!(" {folder} "))
        .replace("\"D\"", &format!("\"{folder}\""))
        .replace("\"F\"", &format!("\"{folder}/f\""))
        .replace("/F", &format!("{folder}/f"))
        .replace(" F", &format!(" {folder}/f"))
        .replace("-r D", &format!("-r {folder}"))
}

/// Protects everything of the user's that an agent was not given.
#[test]
fn an_agent_changes_nothing_outside() {
    for mode in ["required", "off"] {
        let scene = Scene::new("");
        let folders: Vec<PathBuf> = (0..CHANGES.len()).map(|number| scene.outside(number)).collect();
        let before: Vec<_> = folders.iter().map(|folder| seen(folder)).collect();
        let script = attempts(CHANGES, |number, call| with_places(call, &folders[number]));
        scene.run(mode, &script).code(0);
        for ((folder, before), (name, call)) in folders.iter().zip(before).zip(CHANGES) {
            let is_changed = seen(folder) != before;
            assert_eq!(is_changed, mode == "off", "{mode}: {name}: {call}: {:?}", seen(folder));
        }
    }
}

/// Protects what the daemon keeps: its token, its journal, the records of other tasks.
#[test]
fn an_agent_reads_nothing_of_the_daemons() {
    for mode in ["required", "off"] {
        let scene = Scene::new("");
        let key = scene.place.path("keys/of the daemon");
        fs::create_dir(scene.place.path("keys")).expect("a folder");
        fs::write(&key, SECRET).expect("room");
        fs::copy(&key, scene.place.path("keys/of another")).expect("room");
        scene.place.configure(&format!("api_key_file = '{}'\n", key.display()));
        scene.run("off", &format!("echo {SECRET} > work")).code(0);
        let home = scene.place.home();
        let only = |folder: &str| {
            let first = fs::read_dir(home.join(folder)).expect("a folder").next();
            first.expect("one task").expect("an entry").path()
        };
        fs::write(home.join("token.copy"), SECRET).expect("room");
        let files = [home.join("token.copy"), only("tasks").join("plan"), only("worktrees").join("work")];
        let journal = fs::read_dir(home.join("journal")).expect("a journal").next();
        let journal = journal.expect("a segment").expect("an entry").path();
        let out = scene.run(mode, &format!("cat '{}'", scene.place.path("keys/of another").display()));
        assert!(out.code(0).out().contains(SECRET), "what is beside it is not hidden");
        for file in files.iter().chain([&journal, &key]) {
            let script = attempts(READS, |number, call| {
                let path = file.display().to_string().replace(' ', "\\ ");
                let call = call.replace("/F", &path).replace(" F", &format!(" {path}"));
                format!("echo attempt {number}; {call}")
            });
            let out = scene.run(mode, &script).code(0).out();
            let is_told = |number: usize| {
                let told = out.split(&format!("attempt {number}\n")).nth(1).expect("it was made");
                told.split("attempt ").next().is_some_and(|told| told.contains(SECRET))
            };
            for (number, (name, call)) in READS.iter().enumerate() {
                assert_eq!(is_told(number), mode == "off", "{mode}: {}: {name}: {call}: {out}", file.display());
            }
        }
    }
}

/// Protects the daemon, its supervisors and whatever else runs for this user.
#[test]
fn an_agent_reaches_no_process_outside() {
    for mode in ["required", "off"] {
        let scene = Scene::new("");
        let mut bystander = Bystander(Command::new("sleep").arg("600").spawn().expect("a process"));
        let pid = bystander.0.id();
        let name = format!("makima-test-{pid}");
        let heard = abstract_listener(&name);
        let script = format!(
            "head -c 1 /proc/{pid}/environ > /dev/null 2>&1 && echo read its environment
             perl -e 'exit !open(my $m, \"<\", \"/proc/{pid}/mem\")' && echo opened its memory
             perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); exit !connect(S, pack(\"Sa*\", AF_UNIX, \"\\0{name}\"))' && echo spoke to a socket without a file
             sh -c 'echo 0 > /proc/{pid}/oom_score_adj' 2> /dev/null && echo changed it
             kill -0 {pid} 2> /dev/null && echo could signal it
             kill -9 {pid} 2> /dev/null
             true"
        );
        let out = scene.run(mode, &script).code(0).out();
        let all =
            "read its environment\nopened its memory\nspoke to a socket without a file\nchanged it\ncould signal it\n";
        assert_eq!(out, if mode == "off" { all } else { "" }, "{mode}");
        let is_there = bystander.0.try_wait().expect("a child").is_none();
        assert_eq!(is_there, mode == "required", "{mode}");
        drop(heard);
    }
}

/// Somebody who has nothing to do with it.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A socket that has a name and no file.
fn abstract_listener(name: &str) -> UnixListener {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name");
    UnixListener::bind_addr(&address).expect("a socket")
}

/// Protects a machine's network from an agent that is to have none, and other programs from being spoken to.
#[test]
fn without_a_network_nobody_is_reached() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    udp.set_nonblocking(true).expect("a socket");
    let port = |address: std::io::Result<std::net::SocketAddr>| address.expect("a port").port();
    let (tcp_port, udp_port) = (port(tcp.local_addr()), port(udp.local_addr()));
    for (settings, out) in [
        ("", "tcp\nudp\nunix\npair\n"),
        ("[sandbox]\nnetwork = 'none'\n", "unix\npair\n"),
        ("[sandbox]\nsockets = false\n", "tcp\nudp\npair\n"),
        ("[sandbox]\nnetwork = 'none'\nsockets = false\n", "pair\n"),
    ] {
        let scene = Scene::new(settings);
        let path = scene.place.path("socket");
        let _listener = UnixListener::bind(&path).expect("a socket");
        let script = format!(
            "perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0) or exit 1; exit !connect(S, pack_sockaddr_in({tcp_port}, inet_aton(\"127.0.0.1\")))' && echo tcp
             perl -MSocket -e 'socket(S, PF_INET, SOCK_DGRAM, 0) or exit 1; exit !send(S, \"x\", 0, pack_sockaddr_in({udp_port}, inet_aton(\"127.0.0.1\")))' && echo udp
             perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0) or exit 1; exit !connect(S, pack_sockaddr_un(\"{}\"))' && echo unix
             perl -MSocket -e 'exit !socketpair(A, B, PF_UNIX, SOCK_STREAM, 0)' && echo pair
             true",
            path.display()
        );
        let said = scene.run("required", &script).code(0).out();
        assert_eq!(said, out, "{settings}");
        let mut bytes = [0; 8];
        assert_eq!(udp.recv(&mut bytes).is_ok(), out.contains("udp"), "{settings}");
    }
    drop(tcp);
}

/// Protects work in the sandbox: what agents need for it is there.
#[test]
fn inside_there_is_all_that_work_needs() {
    let scene = Scene::new("");
    let cache = scene.place.user().join(".cache");
    fs::create_dir_all(&cache).expect("a folder");
    fs::write(scene.place.user().join(".gitconfig"), "[user]\nname = Cleo\n").expect("room");
    let script = "set -e
        echo x > here; mkdir -p a/b; mv here a/b; rm a/b/here
        echo x > $TMPDIR/x; mv $TMPDIR/x moved; ln moved again
        echo x > $HOME/.cache/x
        echo x > /dev/null
        git add -A; git commit -qm 'by hand'; git log --oneline | wc -l
        git config --global user.name
        ls / $HOME > /dev/null; cat /etc/passwd > /dev/null
        perl -e 'open(my $pty, \"+<\", \"/dev/ptmx\") or die \"no terminal: $!\"; print \"a terminal\\n\"'
        perl -e 'open(my $pty, \"+<\", \"/dev/ptmx\"); my $x = \"x\"; print ioctl($pty, 0x5412, $x) ? \"types\\n\" : \"$!\\n\"'
        sh -c 'sleep 60' & kill $!
        makima --version > /dev/null 2>&1 || true";
    let done = scene.run("required", script).code(0);
    assert_eq!(done.out(), "2\nCleo\na terminal\nOperation not permitted\n", "{}", done.err());
    assert!(done.err().contains(", sandboxed"), "{}", done.err());
    assert!(cache.join("x").exists());
}

/// Protects a user from code of a repository that they have allowed: it is fenced in as the agent is.
#[test]
fn what_comes_before_and_after_an_agent_is_fenced_in_too() {
    for mode in ["required", "off"] {
        let scene = Scene::new("");
        let out = scene.place.path("outside");
        fs::create_dir(&out).expect("a folder");
        let [setup, check] = ["setup", "check"].map(|name| out.join(name).display().to_string());
        let wants = format!(
            "setup = ['touch {setup} || true; touch inside']\nchecks = ['touch {check} || true; test -e inside']\n"
        );
        scene.repo.write(".makima.toml", &wants);
        scene.repo.commit("what it wants");
        let path = scene.repo.path().display().to_string();
        scene.run("off", "true").code(0);
        scene.place.makima(["repo", "allow", &path]).done().code(0);
        let done = scene.run(mode, "ls inside; echo x > work").code(0);
        assert!(done.err().contains("the checks have passed"), "{}", done.err());
        for path in [&setup, &check] {
            assert_eq!(Path::new(path).exists(), mode == "off", "{mode}: {path}");
        }
    }
}

/// Protects a user from thinking that there is a sandbox where there is none, and the other way round.
#[test]
fn it_is_said_whether_there_is_a_sandbox_and_nothing_starts_without_one_that_is_required() {
    let place = Place::new();
    let doctor = |mode: &str| {
        place.configure(&format!("sandbox = '{mode}'\n"));
        let checks = place.makima(["doctor", "--json"]).done().json();
        let check = checks.as_array().expect("checks").iter().find(|check| check["check"] == "sandbox").cloned();
        check.expect("it is looked at")
    };
    let told = |check: &Value| check["detail"].as_str().unwrap_or_default().to_owned();
    assert_eq!(told(&doctor("off")), "none: it is switched off");
    assert!(told(&doctor("auto")).starts_with("held by "), "{}", doctor("auto"));
    let shown = place.makima(["config", "show", "--json"]).done().code(0).json();
    let of = |key: &str| shown.as_array().expect("settings").iter().find(|it| it["key"] == key).cloned().expect(key);
    assert_eq!((&of("sandbox.mode")["value"], &of("sandbox.mode")["source"]), (&"off".into(), &"environment".into()));
    // A container that the user has put around agents does what a sandbox would, and only one of them can be.
    place.configure("[agent]\nname = 'shell'\nwrap = ['env', 'WRAPPED={worktree}']\n");
    let repo = place.repo();
    let run = |mode: &str| {
        let run = place.makima(["run", "--on-complete", "none", "echo $WRAPPED; pwd"]).at(repo.path());
        run.env("MAKIMA_SANDBOX", mode).done()
    };
    let done = run("auto").code(0);
    let out = done.out();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{lines:?}");
    assert!(done.err().contains("no sandbox"), "{}", done.err());
    assert!(run("required").code(2).err().contains("`wrap` under [agent] does without"));
}

/// Where bubblewrap does it, the same holds.
#[test]
fn bubblewrap_holds_what_the_kernel_would() {
    let scene = Scene::new("[sandbox]\nby = 'bubblewrap'\n");
    let checks = scene.place.makima(["doctor", "--json"]).env("MAKIMA_SANDBOX", "auto").done().json();
    let check = checks.as_array().expect("checks").iter().find(|check| check["check"] == "sandbox").cloned();
    let told = check.expect("it is looked at")["detail"].as_str().unwrap_or_default().to_owned();
    if !told.starts_with("held by bubblewrap") {
        assert!(std::env::var_os("CI").is_none(), "the machine that tests has it: {told}");
        return eprintln!("skipped: {told}");
    }
    let folders: Vec<PathBuf> = (0..CHANGES.len()).map(|number| scene.outside(number)).collect();
    let before: Vec<_> = folders.iter().map(|folder| seen(folder)).collect();
    let script = attempts(CHANGES, |number, call| with_places(call, &folders[number]));
    let token = scene.place.home().join("token");
    let script = format!("{script}\ncat {} 2> /dev/null; echo x > $TMPDIR/x && cat $TMPDIR/x > kept", token.display());
    // Nor are processes outside to be seen, where it says so.
    let mut bystander = Bystander(Command::new("sleep").arg("600").spawn().expect("a process"));
    let script = match told.contains("they may signal programs") {
        true => script,
        false => format!("{script}; (kill -9 {0}; cat /proc/{0}/cmdline) 2> /dev/null", bystander.0.id()),
    };
    let done = scene.run("required", &format!("{script}; true")).code(0);
    assert_eq!(done.out(), "", "the token, or a process");
    assert!(bystander.0.try_wait().expect("a child").is_none());
    for ((folder, before), (name, call)) in folders.iter().zip(before).zip(CHANGES) {
        assert!(seen(folder) == before, "{name}: {call}");
    }
    // A signal to the whole group ends the agent as it ends one without it.
    let place = Place::new();
    place.configure("[sandbox]\nby = 'bubblewrap'\n");
    let repo = place.repo();
    let script = "trap 'echo told; exit 0' INT; echo ready; while :; do sleep 0.05; done";
    let run = place.makima(["run", "--agent", "shell", "--on-complete", "none", script]).at(repo.path());
    let run = run.env("MAKIMA_SANDBOX", "required").start();
    run.says("ready");
    run.ctrl_c();
    let done = run.wait(std::time::Duration::from_secs(60)).code(130);
    assert_eq!(done.out(), "ready\ntold\n");
}

/// The socket on which a listener waits is there, and nobody came.
#[test]
fn nobody_can_be_fooled_by_a_listener_that_hears_nothing() {
    let name = format!("makima-test-heard-{}", std::process::id());
    let listener = abstract_listener(&name);
    let script = format!(
        "perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, pack(\"Sa*\", AF_UNIX, \"\\0{name}\")); syswrite S, \"hi\"'; true"
    );
    Scene::new("").run("off", &script).code(0);
    let (mut heard, _) = listener.accept().expect("somebody");
    let mut text = String::new();
    heard.read_to_string(&mut text).expect("words");
    assert_eq!(text, "hi");
}
