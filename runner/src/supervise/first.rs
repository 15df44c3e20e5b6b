//! What a repository wants to be run before an agent: by this program, in the agent's place, which it then takes.
//!
//! ```text
//! makima __set_up VERDICT SECONDS COUNT COMMAND... AGENT...
//! ```
//! `VERDICT` is a FIFO in the task's temporary folder, where whoever is fenced in may write: when a command fails, its exit
//! status goes there, and no agent starts. The supervisor, which is not fenced in, keeps it. The process stays the same one
//! throughout, in one group and one tree: whatever can be done with an agent (pausing, ending, finding it again) can be done
//! with it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use makima_core::policy;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::MISUSED;
use super::orders::SetUp;
use crate::executor::{Folder, forgiving};
use crate::sandbox::Plan;

/// The word that asks for it.
pub(super) const WORD: &str = "__set_up";

/// The verdict's name in the task's folder, once the supervisor knows it.
const FILE: &str = "set-up.failed";

/// The FIFO's in the task's temporary folder.
const FIFO: &str = ".set-up";

/// The longest verdict, in characters: all of it goes into the FIFO at once, as nobody reads there before the end.
const TOLD: usize = 1000;

/// What a shell says of a command that was not found; here of an agent.
const NOT_FOUND: i32 = 127;

/// What `timeout` says of a command that took too long.
const TOO_LONG: i32 = 124;

/// Between two looks at a command that runs: the first, and the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// The supervisor's end of the FIFO.
pub(super) struct Verdict(File);

impl Verdict {
    /// A FIFO that nobody has opened yet, in this folder.
    fn awaited(folder: &Path) -> io::Result<(PathBuf, Self)> {
        let path = folder.join(FIFO);
        forgiving(fs::remove_file(&path))?;
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let end = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok((path, Self(end.into())))
    }

    /// What was told, by a process that has ended; none where no command has failed. Kept in the task's folder, in which this
    /// process is.
    pub(super) fn settle(&mut self) -> Option<i32> {
        let mut bytes = [0; TOLD * 4 + 64];
        let count = self.0.read(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(bytes.get(..count)?);
        let (code, _) = read(&text)?;
        // Where it cannot be kept, the exit status alone is told.
        let _ = fs::write(FILE, text.as_bytes());
        Some(code)
    }
}

/// The command line that runs the commands first, and where it tells what came of them. What was told before is taken away.
/// Relative to the task's folder.
pub(super) fn argv(
    setup: SetUp,
    argv: Vec<OsString>,
    fence: Option<&Plan>,
) -> Result<(Vec<OsString>, Verdict), String> {
    let failed = |failure: io::Error| failure.to_string();
    let folder = std::env::current_dir().map_err(failed)?;
    forgiving(fs::remove_file(folder.join(FILE))).map_err(failed)?;
    let (fifo, verdict) = Folder::at(&folder).temporary().and_then(|tmp| Verdict::awaited(&tmp)).map_err(failed)?;
    let own = own_program(fence).map_err(failed)?;
    let (seconds, count) = (setup.seconds.to_string(), setup.commands.len().to_string());
    let own = [own.into_os_string(), WORD.into(), fifo.into_os_string(), seconds.into(), count.into()];
    Ok((own.into_iter().chain(setup.commands).chain(argv).collect(), verdict))
}

/// The exit status of the command that failed, and how it did, where one did and so no agent was started.
pub(crate) fn failed(folder: &Path) -> Option<(i32, String)> {
    read(&fs::read_to_string(folder.join(FILE)).ok()?)
}

fn read(text: &str) -> Option<(i32, String)> {
    let (code, why) = text.split_once('\n')?;
    Some((code.parse().ok()?, why.to_owned()))
}

/// This program's file, which may have been replaced by a newer one since: where this process starts it itself, the very one
/// all the same. Where other programs do, it goes by its name: what the kernel calls by that of the process is each of them.
fn own_program(fence: Option<&Plan>) -> io::Result<PathBuf> {
    let by_name = fence.is_some_and(Plan::is_by_others);
    if cfg!(target_os = "linux") && !by_name {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    let path = std::env::current_exe()?;
    let there = path.as_os_str().as_bytes().strip_suffix(b" (deleted)").filter(|_| !path.exists());
    Ok(there.map_or_else(|| path.clone(), |there| PathBuf::from(OsStr::from_bytes(there))))
}

/// Runs the commands and becomes the agent. Gives the exit status where it does not.
pub(super) fn run(mut args: impl Iterator<Item = OsString>) -> i32 {
    let verdict = args.next().map(|path| tell(Path::new(&path)));
    let mut number = || args.next()?.to_str()?.parse::<u64>().ok();
    let (Some(verdict), Some(seconds), Some(count)) = (verdict, number(), number()) else { return MISUSED };
    let commands: Vec<OsString> = args.by_ref().take(usize::try_from(count).unwrap_or_default()).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    for command in &commands {
        let shown = command.to_string_lossy();
        say(&format!("$ {shown}"));
        let (why, code) = match run_one(command, until) {
            Ok(Some(status)) if status.success() => continue,
            Ok(Some(status)) => (told(status), code(status)),
            Ok(None) => (format!("has not ended within {seconds} s"), TOO_LONG),
            Err(failure) => (format!("could not be run: {failure}"), NOT_FOUND),
        };
        return give_up(verdict, code, &format!("`{shown}` {why}"));
    }
    let Some(program) = args.next() else { return MISUSED };
    let failure = Command::new(&program).args(args).exec();
    give_up(verdict, NOT_FOUND, &format!("`{}` cannot be run: {failure}", program.to_string_lossy()))
}

/// Opens the FIFO and takes its name away: what is run from here on can tell nothing by it, nor does it get what is open here.
fn tell(fifo: &Path) -> io::Result<File> {
    // Nobody waits for a supervisor that has gone.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let end = rustix::fs::open(fifo, flags, Mode::empty());
    forgiving(fs::remove_file(fifo))?;
    Ok(end?.into())
}

/// One command to its end; none where its time is over. It does not get what users say to the agent.
fn run_one(command: &OsStr, until: Instant) -> io::Result<Option<ExitStatus>> {
    let mut child = Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).spawn()?;
    let mut pause = LOOK.0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            end(&mut child);
            return Ok(None);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LOOK.1);
    }
}

/// What it has started is ended by the daemon, with the rest of the tree.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

/// As a shell has it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| status.signal().map_or(1, |signal| signal.saturating_add(128)))
}

/// A verdict that cannot be told leaves the exit status alone to tell of it.
fn give_up(verdict: io::Result<File>, code: i32, why: &str) -> i32 {
    say(&format!("makima: {why}"));
    let text = format!("{code}\n{}", policy::cut(why, TOLD));
    let _ = verdict.and_then(|mut verdict| verdict.write_all(text.as_bytes()));
    code.max(1)
}

/// In the task's log.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}
