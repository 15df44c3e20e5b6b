//! What stands between the daemon and an agent for the millisecond before the agent runs: the same process
//! that becomes it. It makes a session of its own, joins the task's control group and turns into the agent.
//!
//! It is a program and not code between fork and exec, because that would need `unsafe` and would copy the
//! daemon's page tables for every agent.
//!
//! ```text
//! makima __launch REPORT CGROUP PROGRAM ARGUMENTS…
//! ```
//! `REPORT` is a FIFO: closed without a word once the agent runs (it is not handed on to it), else it bears
//! the reason. `CGROUP` is a control group's folder, or `-`.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use fs_err as fs;

/// The word that asks for the launcher.
pub(crate) const WORD: &str = "__launch";

/// The exit status that says that it could not even tell what is wrong.
pub(crate) const MISUSED: i32 = 2;

/// No group is to be joined.
pub(crate) const NO_GROUP: &str = "-";

/// Runs the launcher if that is what the arguments ask for. Returns only if it did and failed: with the exit
/// status; for any other arguments, at once, with none.
pub fn intercept(args: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != WORD {
        return None;
    }
    let (Some(report), Some(group), Some(program)) = (args.next(), args.next(), args.next()) else {
        return Some(MISUSED);
    };
    // std opens every file close-on-exec, so the FIFO's end tells when the agent has begun.
    let Ok(mut report) = fs::OpenOptions::new().write(true).open(&report) else {
        return Some(MISUSED);
    };
    let why = launch(&group, &program, args);
    // Nobody is left to tell if this fails; the status says it then.
    let _ = report.write_all(why.as_bytes());
    Some(127)
}

/// Becomes the program. Returns only if that failed, with the reason.
fn launch(group: &OsString, program: &OsString, args: impl Iterator<Item = OsString>) -> String {
    if let Err(failure) = rustix::process::setsid() {
        return format!("it cannot have a session of its own: {failure}");
    }
    if group != NO_GROUP {
        // Not fatal: the daemon finds the tree by other marks too, and looks whether this worked.
        let _ = fs::write(Path::new(group).join("cgroup.procs"), "0");
    }
    let failure = Command::new(program).args(args).exec();
    let program = Path::new(program).display();
    if failure.kind() == std::io::ErrorKind::NotFound {
        format!("`{program}` was not found; is it installed, and on the PATH?")
    } else if failure.kind() == std::io::ErrorKind::PermissionDenied {
        format!("`{program}` is not a program that may be run")
    } else {
        format!("`{program}` cannot be run: {failure}")
    }
}
