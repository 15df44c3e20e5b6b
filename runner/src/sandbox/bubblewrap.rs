//! By bubblewrap, a program that gives others a view of the file system of their own: for kernels without Landlock.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Network, Plan};

/// The program.
const PROGRAM: &str = "bwrap";

/// For it to start one that does nothing.
const TRIAL: Duration = Duration::from_secs(5);

/// Between two looks whether that has ended.
const LOOK: Duration = Duration::from_millis(2);

/// A view of processes of its own: those outside cannot be seen, and so neither be signalled nor looked into.
const APART: [&str; 3] = ["--unshare-pid", "--proc", "/proc"];

/// Whether it is here and can do what it is to; why not. Tried once for all who ask. Blocks.
pub(super) fn is_here() -> Result<(), String> {
    holds().map(drop)
}

/// Whether what is inside sees no process outside. Blocks.
pub(super) fn holds_signals() -> bool {
    holds() == Ok(Holds::Processes)
}

/// What it can hold here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Files alone: in some containers no view of processes can be made.
    Files,
    /// Processes as well.
    Processes,
}

fn holds() -> Result<Holds, String> {
    static TRIED: OnceLock<Result<Holds, String>> = OnceLock::new();
    let tried = || tries(&APART).map(|()| Holds::Processes).or_else(|_| tries(&[]).map(|()| Holds::Files));
    TRIED.get_or_init(tried).clone()
}

fn tries(more: &[&str]) -> Result<(), String> {
    let mut command = Command::new(PROGRAM);
    command.args(["--ro-bind", "/", "/", "--dev", "/dev"]).args(more).arg("true");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|_| format!("`{PROGRAM}` is not installed"))?;
    let until = Instant::now() + TRIAL;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(LOOK),
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => return Err(format!("`{PROGRAM}` may not make namespaces here")),
            Err(failure) => return Err(failure.to_string()),
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("`{PROGRAM}` has not answered within {} s", TRIAL.as_secs()))
}

/// Signals that go to a whole group: the program that waits for the agent leaves them to it.
const SIGNALS: &str = "INT,TERM,HUP";

/// Shared memory.
const SHARED: &str = "/dev/shm";

/// The command line that starts `argv` inside.
pub(super) fn argv(plan: &Plan, argv: Vec<OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["env".into(), format!("--ignore-signal={SIGNALS}").into(), PROGRAM.into()];
    let mut say = |all: &[&std::ffi::OsStr]| words.extend(all.iter().map(|word| (*word).to_owned()));
    say(&["--ro-bind", "/", "/", "--dev", "/dev"].map(AsRef::as_ref));
    // Shared memory in which the daemon lives is not shared.
    let is_shared = !plan.hidden.iter().any(|hidden| hidden.starts_with(SHARED));
    say(&[if is_shared { "--bind" } else { "--ro-bind" }, SHARED, SHARED].map(AsRef::as_ref));
    if plan.apart {
        say(&APART.map(AsRef::as_ref));
    }
    // The superuser keeps what it has otherwise.
    for capability in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_PERFMON", "CAP_SYS_RAWIO", "CAP_SYS_MODULE", "CAP_MKNOD"]
    {
        say(&["--cap-drop", capability].map(AsRef::as_ref));
    }
    // What is named above something that is hidden comes before it, what lies in there behind.
    let is_inside = |path: &&std::path::PathBuf| plan.hidden.iter().any(|hidden| path.starts_with(hidden));
    for path in plan.write.iter().filter(|path| !is_inside(path)) {
        say(&["--bind".as_ref(), path.as_ref(), path.as_ref()]);
    }
    let (files, folders): (Vec<_>, Vec<_>) = plan.hidden.iter().partition(|path| path.is_file());
    for path in files {
        say(&["--ro-bind".as_ref(), "/dev/null".as_ref(), path.as_ref()]);
    }
    for path in &folders {
        say(&["--tmpfs".as_ref(), path.as_ref()]);
    }
    for path in plan.shown.iter().filter(is_inside) {
        say(&["--ro-bind".as_ref(), path.as_ref(), path.as_ref()]);
    }
    for path in plan.write.iter().filter(is_inside) {
        say(&["--bind".as_ref(), path.as_ref(), path.as_ref()]);
    }
    for path in folders {
        say(&["--remount-ro".as_ref(), path.as_ref()]);
    }
    if plan.network == Network::None {
        say(&["--unshare-net".as_ref()]);
    }
    say(&["--".as_ref(), "env".as_ref(), format!("--default-signal={SIGNALS}").as_ref()]);
    words.extend(argv);
    words
}
