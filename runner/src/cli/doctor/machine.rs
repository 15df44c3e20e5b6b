//! The machine: git, `/proc`, control groups.

use std::time::Duration;

use tokio::time::timeout;

use super::Check;
use crate::config::ConfigFile;
use crate::executor::{self, Settings, Way, proc_tells, try_a_group};
use crate::sandbox::{Mode, Settled};

/// For git to answer two questions.
const GIT: Duration = Duration::from_secs(10);

pub(super) async fn git(file: &ConfigFile) -> Check {
    const INSTALL: &str = "install git 2.41 or newer, and see that it is on PATH";
    let settings = match Settings::here() {
        Ok(settings) => Settings { agent_env: file.agent_env(), ..settings },
        Err(error) => return Check::fail("git", error.to_string(), "call makima by its whole path"),
    };
    match timeout(GIT, executor::acquaint(&settings)).await {
        Err(_) => Check::fail("git", format!("no answer within {} s", GIT.as_secs()), INSTALL),
        Ok(Err(unfit)) => Check::fail("git", unfit.to_string(), INSTALL),
        Ok(Ok(found)) if found.is_known => {
            Check::ok("git", format!("{}; work is committed as {}", version(&found.version), found.author))
        }
        Ok(Ok(found)) => Check::warn(
            "git",
            format!("{}; nobody said as whom to commit, so it is {}", version(&found.version), found.author),
            "git config --global user.name 'Your Name'; git config --global user.email you@example.com",
        ),
    }
}

/// How processes are found and told apart.
pub(super) fn processes(portable: bool) -> Vec<Check> {
    if Way::chosen(portable) == Way::Portable {
        return vec![Check::ok("processes", "the portable way: by locks and process groups (docs/portable.md)")];
    }
    let proc = if proc_tells() {
        Check::ok("/proc", "tells of processes")
    } else {
        let help = "mount it, or set MAKIMA_PORTABLE=1 to do without (see docs/portable.md)";
        Check::fail("/proc", "does not tell of processes here", help)
    };
    let groups = match try_a_group() {
        Ok(own) => Check::ok("cgroups", format!("each task gets a group below {}", own.display())),
        Err(why) => Check::warn(
            "cgroups",
            format!("{why}: tasks are told apart by their sessions and a mark in the environment"),
            "under systemd they can be made: `makima service install`",
        ),
    };
    vec![proc, groups]
}

/// What fences agents in.
pub(super) fn sandbox(file: &ConfigFile) -> Check {
    match file.sandbox() {
        Err(failure) => Check::of("sandbox", failure),
        Ok(Settled::On(sandbox)) => {
            let held = format!("held by {}", sandbox.held_by().name());
            let gaps = sandbox.gaps().into_iter().map(str::to_owned);
            let told: Vec<String> = std::iter::once(held).chain(gaps).chain(sandbox.missing()).collect();
            Check::ok("sandbox", told.join("; "))
        }
        // Whoever wants it so is not to be warned each time.
        Ok(Settled::Off(why)) if file.sandbox.mode == Mode::Off || !file.wrap().is_empty() => {
            Check::ok("sandbox", format!("none: {why}"))
        }
        Ok(Settled::Off(why)) => Check::warn(
            "sandbox",
            format!("none: {why}"),
            "agents may do here what you may: install bubblewrap, or use Linux 6.2 or newer (see docs/security.md)",
        ),
    }
}

/// `2.47.3`.
fn version(said: &str) -> &str {
    said.strip_prefix("git version ").unwrap_or(said)
}
