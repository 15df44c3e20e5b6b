//! `makima service`: the daemon under the service manager of this user.

mod text;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fs_err as fs;
use makima_core::agent::Policy;
use tokio::process::Command;
use tokio::time::timeout;

use self::text::Plan;
use super::args::{InstallArgs, ServiceArgs, ServiceCommand};
use super::{daemon, print};
use crate::config::{self, ConfigFile, Flags};
use crate::home::{make_private, write_atomic};
use crate::report::{Failure, NOT_RUNNING};
use crate::sandbox::Mode;
use crate::service;

/// The service's name to systemd.
const UNIT: &str = "makima.service";

/// The service's name to launchd.
const LABEL: &str = "dev.makima.daemon";

/// The file in the home that holds the key which was in the environment when the service was installed.
const KEY: &str = "service-key";

/// For the service manager to do what it is asked.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) async fn service(args: ServiceArgs) -> Result<(), Failure> {
    match args.command {
        ServiceCommand::Install(args) => install(&args).await,
        ServiceCommand::Uninstall { force } => uninstall(force).await,
        ServiceCommand::Status => status().await,
    }
}

/// The service manager of this kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Systemd,
    Launchd,
}

const MANAGER: Manager = if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd };

/// Where the file belongs.
fn place() -> Result<PathBuf, Failure> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = || {
        folder("HOME").ok_or_else(|| {
            Failure::unusable("HOME is not set").hint("set it to the folder of the user that the daemon is to run as")
        })
    };
    Ok(match MANAGER {
        Manager::Systemd => {
            let settings = folder("XDG_CONFIG_HOME").map_or_else(|| user().map(|user| user.join(".config")), Ok)?;
            settings.join("systemd/user").join(UNIT)
        }
        Manager::Launchd => user()?.join("Library/LaunchAgents").join(format!("{LABEL}.plist")),
    })
}

async fn install(args: &InstallArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let mut file = ConfigFile::read(&home)?;
    file.overrule(args.agent.flags())?;
    config::agent(&file)?;
    let text = text_for(args, &home, &file)?;
    if args.print {
        print::out(&text);
        return Ok(());
    }
    let path = place()?;
    let present = fs::read_to_string(&path).ok();
    if let Some(present) = present.as_ref().filter(|present| **present != text)
        && !text::is_as_made(present)
        && !args.force
    {
        return Err(Failure::unusable(format!("{} was changed by hand, and is left as it is", path.display()))
            .hint("--force writes it anew; changes are kept where they are made with `systemctl --user edit makima`"));
    }
    keep_key(args, &home)?;
    if present.as_ref() == Some(&text) {
        print::note(&format!("{} is as it should be", path.display()));
    } else {
        let folder = path.parent().unwrap_or(&path);
        let failed = |error: std::io::Error| Failure::failed(format!("the service cannot be written down: {error}"));
        fs::create_dir_all(folder).map_err(failed)?;
        write_atomic(&path, text.as_bytes(), 0o644).map_err(failed)?;
        print::note(&format!("{} is written", path.display()));
    }
    let begun = begin(&path, present.is_some_and(|present| present != text)).await;
    begun.map_err(|failure| left_to_do(failure, &path))?;
    print::note("the daemon runs, and will whenever you are logged in");
    hint_at_linger().await;
    Ok(())
}

/// The file's text.
fn text_for(args: &InstallArgs, home: &Path, file: &ConfigFile) -> Result<String, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::unusable(format!("this program's own file cannot be found: {error}")))?;
    let mut arguments = vec!["daemon".to_owned()];
    let mut flag = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
    let Some(server) = args.server.as_ref().or(file.server.as_ref()) else {
        return Err(
            Failure::unusable("no control server was named").hint("use --server URL, or `server` in config.toml")
        );
    };
    // That refuses one with a password in it, which others could read in the file.
    service::server_endpoint(server, args.insecure)?;
    if args.server.is_some() {
        flag("--server", server);
    }
    let Flags { agent, permissions, sandbox } = args.agent.flags();
    let words =
        [("--agent", agent), ("--permissions", permissions.map(Policy::name)), ("--sandbox", sandbox.map(Mode::name))];
    for (name, word) in words {
        if let Some(word) = word {
            flag(name, word);
        }
    }
    let key = match &args.api_key_file {
        Some(path) => Some(std::path::absolute(path).map_err(|error| Failure::unusable(error.to_string()))?),
        None => given_key().map(|_| home.join(KEY)),
    };
    if daemon::given_key(args.api_key_file.as_deref(), file)?.is_none() {
        return Err(daemon::no_key(server));
    }
    if let Some(path) = key {
        flag("--api-key-file", &path.to_string_lossy());
    }
    if args.insecure {
        arguments.push("--insecure".to_owned());
    }
    let variable = |name| Some((name, std::env::var(name).ok().filter(|value| !value.is_empty())?));
    // The manager's own PATH has little in it; agents need what this user has.
    let environment = ["MAKIMA_HOME", "PATH"].into_iter().filter_map(variable).collect();
    let plan = Plan { program, arguments, environment };
    Ok(match MANAGER {
        Manager::Systemd => text::unit(&plan),
        Manager::Launchd => text::property_list(&plan, LABEL, &home.join("daemon.log")),
    })
}

fn given_key() -> Option<String> {
    std::env::var("MAKIMA_API_KEY").ok().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty())
}

/// A key that stands in the environment now will not then: it is put into a file that only this user can read.
fn keep_key(args: &InstallArgs, home: &Path) -> Result<(), Failure> {
    let Some(key) = given_key().filter(|_| args.api_key_file.is_none()) else { return Ok(()) };
    let failed = |error: std::io::Error| Failure::failed(format!("the key cannot be written down: {error}"));
    make_private(home).map_err(failed)?;
    write_atomic(&home.join(KEY), format!("{key}\n").as_bytes(), 0o600).map_err(failed)
}

/// Has the manager read the file, and start the service now and from now on.
async fn begin(path: &Path, has_changed: bool) -> Result<(), Failure> {
    match MANAGER {
        Manager::Systemd => {
            told("systemctl", &["--user", "daemon-reload"]).await?;
            told("systemctl", &["--user", "enable", "--now", UNIT]).await?;
            if has_changed {
                // Agents go on meanwhile.
                told("systemctl", &["--user", "restart", UNIT]).await?;
            }
        }
        Manager::Launchd => {
            let domain = format!("gui/{}", rustix::process::getuid().as_raw());
            let _ = told("launchctl", &["bootout", &format!("{domain}/{LABEL}")]).await;
            told("launchctl", &["bootstrap", &domain, &path.to_string_lossy()]).await?;
        }
    }
    Ok(())
}

fn left_to_do(failure: Failure, path: &Path) -> Failure {
    let todo = match MANAGER {
        Manager::Systemd => {
            "in a session of this user (over ssh: `loginctl enable-linger` and XDG_RUNTIME_DIR=/run/user/$(id -u)):\n  \
             systemctl --user daemon-reload && systemctl --user enable --now makima.service\n  \
             without systemd, have `makima daemon` started by what starts programs on this machine"
        }
        Manager::Launchd => "run: launchctl bootstrap gui/$(id -u) and the file's path",
    };
    Failure::failed(format!("{} is there, but the service was not started: {}", path.display(), failure.message))
        .hint(todo)
}

async fn hint_at_linger() {
    if MANAGER == Manager::Systemd {
        let said = told("loginctl", &["show-user", "--property=Linger", "--value"]).await.unwrap_or_default();
        if said.trim() != "yes" {
            print::note("to have it run, and agents go on, when you are logged out: loginctl enable-linger");
        }
    }
}

async fn uninstall(force: bool) -> Result<(), Failure> {
    let path = place()?;
    let Ok(present) = fs::read_to_string(&path) else {
        print::note(&format!("there is no {}", path.display()));
        return Ok(());
    };
    if !text::is_as_made(&present) && !force {
        return Err(Failure::unusable(format!("{} was changed by hand, and is left as it is", path.display()))
            .hint("--force takes it away nevertheless"));
    }
    let ended = match MANAGER {
        Manager::Systemd => told("systemctl", &["--user", "disable", "--now", UNIT]).await,
        Manager::Launchd => {
            let name = format!("gui/{}/{LABEL}", rustix::process::getuid().as_raw());
            told("launchctl", &["bootout", &name]).await
        }
    };
    fs::remove_file(&path).map_err(|error| Failure::failed(error.to_string()))?;
    if let Ok(home) = config::home_path() {
        let _ = fs::remove_file(home.join(KEY));
    }
    if MANAGER == Manager::Systemd {
        let _ = told("systemctl", &["--user", "daemon-reload"]).await;
    }
    print::note(&format!("{} is taken away; agents go on, and their work and the home stay", path.display()));
    ended.map(drop).map_err(|failure| {
        Failure::failed(format!("the service manager was not reached: {}", failure.message))
            .hint("where the daemon still runs, end it with SIGTERM; `makima status` shows its process")
    })
}

async fn status() -> Result<(), Failure> {
    let path = place()?;
    let file = match fs::read_to_string(&path) {
        Ok(text) if text::is_as_made(&text) => "as makima made it",
        Ok(_) => "changed by hand",
        Err(_) => "not there",
    };
    print::line(&format!("file     {} ({file})", path.display()));
    let said = match MANAGER {
        Manager::Systemd => {
            let facts = "--property=ActiveState,SubState,UnitFileState,MainPID,NRestarts,StatusText";
            told("systemctl", &["--user", "show", UNIT, facts]).await?
        }
        Manager::Launchd => {
            let name = format!("gui/{}/{LABEL}", rustix::process::getuid().as_raw());
            told("launchctl", &["print", &name]).await?
        }
    };
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        print::line(&print::tame(line));
    }
    let runs = said.lines().any(|line| matches!(line.trim(), "ActiveState=active" | "state = running"));
    if runs { Ok(()) } else { Err(Failure::silent(NOT_RUNNING)) }
}

/// What the service manager's program says.
async fn told(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let call = || format!("`{program} {}`", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_| Failure::failed(format!("{} does not come to an end", call())))?;
    let output = output.map_err(|error| Failure::failed(format!("{} cannot be started: {error}", call())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::failed(format!("{}: {}", call(), print::tame(said.trim()))))
}
