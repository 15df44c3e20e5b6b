//! By bubblewrap, a program that gives others a view of the file system of their own: for kernels without Landlock.
//!
//! It and what stands around it run outside, so nothing that an agent or a repository names is in their environment or their search
//! path. What is said to bubblewrap, the variables of whoever is inside among it, it reads from a file without a name: command
//! lines are seen by everybody.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use super::plan::Inside;
use super::{By, Network, Plan, calls};
use crate::config::is_program;

/// The program.
const PROGRAM: &str = "bwrap";

/// Where programs are where no search path says it.
const USUAL: &str = "/usr/local/bin:/usr/bin:/bin";

/// For it to start one that does nothing.
const TRIAL: Duration = Duration::from_secs(5);

/// Between two looks whether that has ended.
const LOOK: Duration = Duration::from_millis(2);

/// A view of processes of its own: those outside cannot be seen, and so neither be signalled nor looked into.
const APART: [&str; 3] = ["--unshare-pid", "--proc", "/proc"];

/// Whether it is here and can do what it is to; why not. Tried once for all who ask. Blocks.
pub(super) fn is_here(network: Network) -> Result<(), String> {
    holds(network).map(drop)
}

/// Whether what is inside sees no process outside. Blocks.
pub(super) fn holds_signals(network: Network) -> bool {
    holds(network) == Ok(Holds::Processes)
}

/// What it can hold here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Files alone: in some containers no view of processes can be made.
    Files,
    /// Processes as well.
    Processes,
}

fn holds(network: Network) -> Result<Holds, String> {
    static OPEN: OnceLock<Result<Holds, String>> = OnceLock::new();
    static NONE: OnceLock<Result<Holds, String>> = OnceLock::new();
    let known = match network {
        Network::Open => &OPEN,
        Network::None => &NONE,
    };
    let tried =
        || tries(true, network).map(|()| Holds::Processes).or_else(|_| tries(false, network).map(|()| Holds::Files));
    known.get_or_init(tried).clone()
}

/// Starts what does nothing, as all is started.
fn tries(apart: bool, network: Network) -> Result<(), String> {
    let by = By::Bubblewrap;
    let plan = Plan { by, apart, network, sockets: true, write: Vec::new(), hidden: Vec::new(), shown: Vec::new() };
    let Inside { argv, held, .. } = inside(&plan, vec![program("true")?.into()], &[])?;
    let mut argv = argv.into_iter();
    let mut command = Command::new(argv.next().unwrap_or_default());
    command.args(argv).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|failure| failure.to_string())?;
    drop(held);
    let until = Instant::now() + TRIAL;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(LOOK),
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let mut said = String::new();
                let _ = child.stderr.take().map(|err| err.take(1024).read_to_string(&mut said));
                let first = said.lines().next().map_or_else(|| status.to_string(), str::to_owned);
                return Err(format!("`{PROGRAM}` cannot fence anything in here: {first}"));
            }
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

/// How `argv` is started inside, with these variables.
pub(super) fn inside(plan: &Plan, argv: Vec<OsString>, env: &[(OsString, OsString)]) -> Result<Inside, String> {
    let failed = |failure: io::Error| format!("what is to be said to `{PROGRAM}` cannot be written down: {failure}");
    let sets = program("env")?;
    let mut words = options(plan);
    for (name, value) in env {
        words.extend(["--setenv".into(), name.clone(), value.clone()]);
    }
    let mut held = Vec::new();
    // It closes that itself behind all that it does: a filter that was there before would be in its own way.
    if let Some(filter) = calls::filter(plan)? {
        let filter = told(&calls::bytes(&filter)).map_err(failed)?;
        words.extend(["--seccomp".into(), number(&filter)]);
        held.push(filter);
    }
    let all: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"]).flatten().copied().collect();
    let said = told(&all).map_err(failed)?;
    let before = [
        sets.clone().into(),
        format!("--ignore-signal={SIGNALS}").into(),
        program(PROGRAM)?.into(),
        "--args".into(),
        number(&said),
        "--".into(),
        sets.into(),
        format!("--default-signal={SIGNALS}").into(),
    ];
    held.push(said);
    Ok(Inside { argv: before.into_iter().chain(argv).collect(), env: std::env::vars_os().collect(), held })
}

/// A program of this machine's. Folders of the search path that are relative are nobody's.
fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL.into());
    let mut places = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    places.find(|place| is_program(place)).ok_or_else(|| format!("`{name}` is not installed"))
}

/// A file without a name that says this to whoever inherits it.
fn told(bytes: &[u8]) -> io::Result<OwnedFd> {
    // Some machines make none that programs could be in, older ones do not know the difference.
    let made = memfd_create("makima", MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create("makima", MemfdFlags::empty()));
    let mut file = File::from(made?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn number(file: &OwnedFd) -> OsString {
    file.as_raw_fd().to_string().into()
}

/// What bubblewrap is to do.
fn options(plan: &Plan) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut say = |all: &[&OsStr]| words.extend(all.iter().map(|word| (*word).to_owned()));
    say(&["--ro-bind", "/", "/", "--dev", "/dev"].map(AsRef::as_ref));
    // Shared memory in which the daemon lives is not shared.
    let is_shared = !plan.hidden.iter().any(|hidden| hidden.starts_with(SHARED));
    say(&[if is_shared { "--bind" } else { "--ro-bind" }, SHARED, SHARED].map(AsRef::as_ref));
    if plan.apart {
        say(&APART.map(AsRef::as_ref));
    }
    // The superuser keeps what it has otherwise; who is none is given nothing.
    say(&["--cap-drop", "ALL"].map(AsRef::as_ref));
    for capability in calls::left() {
        say(&["--cap-add".as_ref(), capability.as_ref()]);
    }
    // What is named above something that is hidden comes before it, what lies in there behind.
    let is_inside = |path: &&PathBuf| plan.hidden.iter().any(|hidden| path.starts_with(hidden));
    let bind = |how: &'static str, path: &Path| [how.into(), path.into(), path.into()];
    words.extend(plan.write.iter().filter(|path| !is_inside(path)).flat_map(|path| bind("--bind", path)));
    // What is not there has no place to be covered.
    let there = plan.hidden.iter().filter(|path| path.exists());
    let (folders, files): (Vec<_>, Vec<_>) = there.partition(|path| path.is_dir());
    words.extend(files.iter().flat_map(|path| ["--ro-bind".into(), "/dev/null".into(), (*path).into()]));
    words.extend(folders.iter().flat_map(|path| ["--tmpfs".into(), (*path).into()]));
    words.extend(plan.shown.iter().filter(is_inside).flat_map(|path| bind("--ro-bind", path)));
    words.extend(plan.write.iter().filter(is_inside).flat_map(|path| bind("--bind", path)));
    words.extend(folders.iter().flat_map(|path| ["--remount-ro".into(), (*path).into()]));
    if plan.network == Network::None {
        words.push("--unshare-net".into());
    }
    words
}
