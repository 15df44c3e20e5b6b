//! What a repository wants to be run before an agent: by this program, in the agent's place, which it then takes.
//!
//! ```text
//! makima __set_up VERDICT SECONDS COUNT COMMAND... AGENT...
//! ```
//! `VERDICT` is a file: where a command fails, its exit status goes there, and no agent starts. The process stays the
//! same one throughout, in one group and one tree: whatever can be done with an agent (pausing, ending, finding it
//! again) can be done with it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;

use super::MISUSED;
use super::orders::SetUp;

/// The word that asks for it.
pub(super) const WORD: &str = "__set_up";

/// The verdict's name in the task's folder.
const FILE: &str = "set-up.failed";

/// What a shell says of a command that was not found; here of an agent.
const NOT_FOUND: i32 = 127;

/// What `timeout` says of a command that took too long.
const TOO_LONG: i32 = 124;

/// Between two looks at a command that runs: the first, and the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// The command line that runs the commands first. A verdict of before is taken away. Relative to the task's folder.
pub(super) fn argv(setup: SetUp, argv: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let file = std::env::current_dir().map(|folder| folder.join(FILE));
    let own = own_program();
    let (file, own) = file.and_then(|file| Ok((file, own?))).map_err(|failure| failure.to_string())?;
    match fs::remove_file(&file) {
        Err(failure) if failure.kind() != io::ErrorKind::NotFound => return Err(failure.to_string()),
        Ok(()) | Err(_) => {}
    }
    let (seconds, count) = (setup.seconds.to_string(), setup.commands.len().to_string());
    let own = [own.into_os_string(), WORD.into(), file.into_os_string(), seconds.into(), count.into()];
    Ok(own.into_iter().chain(setup.commands).chain(argv).collect())
}

/// The exit status of the command that failed, and how it did, where one did and so no agent was started.
pub(crate) fn failed(folder: &Path) -> Option<(i32, String)> {
    let text = fs::read_to_string(folder.join(FILE)).ok()?;
    let (code, why) = text.split_once('\n')?;
    Some((code.parse().ok()?, why.to_owned()))
}

/// This program's file, which may have been replaced by a newer one since.
fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

/// Runs the commands and becomes the agent. Gives the exit status where it does not.
pub(super) fn run(mut args: impl Iterator<Item = OsString>) -> i32 {
    let verdict = args.next().map(PathBuf::from);
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
        return give_up(&verdict, code, &format!("`{shown}` {why}"));
    }
    let Some(program) = args.next() else { return MISUSED };
    let failure = Command::new(&program).args(args).exec();
    give_up(&verdict, NOT_FOUND, &format!("`{}` cannot be run: {failure}", program.to_string_lossy()))
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

/// A verdict that cannot be written leaves the exit status alone to tell of it.
fn give_up(verdict: &Path, code: i32, why: &str) -> i32 {
    say(&format!("makima: {why}"));
    let _ = fs::write(verdict, format!("{code}\n{why}"));
    code.max(1)
}

/// In the task's log.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}
