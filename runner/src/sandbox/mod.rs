//! The sandbox: what an agent and everything that it starts may touch on this machine.
//!
//! It writes in its worktree, its temporary folder, the folders that the agent keeps for itself and those that the user
//! names, and nowhere else. Of the daemon's home it reads what it needs for its work; everything else of this machine that
//! its user may read it may read too. The kernel holds it to that (Landlock, from Linux 6.2 on), else bubblewrap does,
//! where that is installed. `docs/security.md` says what it does not do.
//!
//! Who decides: [`Sandbox::settle`], once, when a daemon starts. What one tree of processes may do is a `Plan`, which its
//! supervisor puts around what it starts.

#[cfg(target_os = "linux")]
mod bubblewrap;
#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod kernel;
mod places;
mod plan;
mod walls;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use self::places::{CACHES, in_home};
#[cfg(target_os = "linux")]
pub(crate) use self::plan::apart;
pub(crate) use self::plan::{Inside, Plan, Room};
pub(crate) use self::walls::Walls;
use crate::config::SandboxFile;
use crate::report::Failure;

/// Whether there is to be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// None.
    Off,
    /// Where it can be.
    #[default]
    Auto,
    /// Without it nothing starts.
    Required,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Auto, Self::Required];

    /// Its name, as it stands in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Required => "required",
        }
    }
}

/// How much of the network there is inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// All of it.
    #[default]
    Open,
    /// None, not even this machine's own.
    None,
}

/// By what it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The kernel.
    Landlock,
    /// The program of that name.
    Bubblewrap,
}

impl By {
    /// From the one that costs least on.
    const ALL: [Self; 2] = [Self::Landlock, Self::Bubblewrap];

    /// Its name, as people know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Landlock => "Landlock",
            Self::Bubblewrap => "bubblewrap",
        }
    }

    /// Whether this machine has it, with as much of the network; why not.
    #[cfg(target_os = "linux")]
    fn is_here(self, network: Network) -> Result<(), String> {
        match self {
            Self::Landlock => kernel::is_here(),
            Self::Bubblewrap => bubblewrap::is_here(network),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn is_here(self, _: Network) -> Result<(), String> {
        Err("only Linux has it".to_owned())
    }
}

/// A sandbox that this machine has, for all agents of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    by: By,
    /// Whether what is inside has a view of processes of its own.
    apart: bool,
    network: Network,
    sockets: bool,
    /// By name: where that leads is looked at anew for each task.
    write: Vec<PathBuf>,
    hide: Vec<PathBuf>,
}

/// Whether there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// This one.
    On(Sandbox),
    /// None, for this reason.
    Off(String),
}

impl Sandbox {
    /// Settles whether there is one, by what the user has written and what this machine has.
    ///
    /// # Errors
    /// One is required, and none can be.
    pub fn settle(file: &SandboxFile) -> Result<Settled, Failure> {
        if file.mode == Mode::Off {
            return Ok(Settled::Off("it is switched off".to_owned()));
        }
        let mut missing = Vec::new();
        for by in By::ALL.into_iter().filter(|by| file.by.is_none_or(|wanted| wanted == *by)) {
            match by.is_here(file.network) {
                Ok(()) => return Ok(Settled::On(Self::by(by, file))),
                Err(why) => missing.push(format!("{}: {why}", by.name())),
            }
        }
        let why = missing.join("; ");
        match file.mode {
            Mode::Required => Err(Failure::unusable(format!("agents are to be fenced in, and cannot be: {why}"))
                .hint("install bubblewrap, or use Linux 6.2 or newer; --sandbox off does without")),
            Mode::Auto | Mode::Off => Ok(Settled::Off(why)),
        }
    }

    fn by(by: By, file: &SandboxFile) -> Self {
        let usual = || CACHES.iter().map(PathBuf::from).collect();
        let write = file.write.clone().unwrap_or_else(usual);
        // Where they lead is looked at for each task: what is not there now may be by then.
        let whole = |path: &PathBuf| std::path::absolute(in_home(path)).unwrap_or_else(|_| in_home(path));
        let all = |paths: &[PathBuf]| paths.iter().map(whole).collect();
        #[cfg(target_os = "linux")]
        let apart = by == By::Bubblewrap && bubblewrap::holds_signals(file.network);
        #[cfg(not(target_os = "linux"))]
        let apart = false;
        let (network, sockets) = (file.network, file.sockets);
        Self { by, apart, network, sockets, write: all(&write), hide: all(&file.hide) }
    }

    /// By what it is held.
    #[must_use]
    pub const fn held_by(&self) -> By {
        self.by
    }

    /// What is to be hidden and is not there: its name may be a wrong one. Blocks.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let missing = self.hide.iter().filter(|path| !path.exists());
        missing.map(|path| format!("{}, which is to be hidden, is not there", path.display())).collect()
    }

    /// What is open though it could be shut, or is shut elsewhere, for people.
    #[must_use]
    pub fn gaps(&self) -> Vec<&'static str> {
        let mut gaps = Vec::new();
        match self.by {
            #[cfg(target_os = "linux")]
            By::Landlock if !kernel::holds_signals() => gaps.push(
                "this kernel (before 6.12) does not keep agents from signalling programs of yours, nor from sockets without a file",
            ),
            By::Bubblewrap if !self.apart => {
                gaps.push("no view of processes of their own can be made for agents: they may signal programs of yours");
            }
            By::Landlock | By::Bubblewrap => {}
        }
        if self.sockets {
            gaps.push("agents may speak to sockets of other programs of yours, unless `sockets = false`");
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects a user who wants no agent without a fence from one.
    #[test]
    fn what_is_required_and_cannot_be_is_an_error() {
        let file = SandboxFile { mode: Mode::Off, ..SandboxFile::default() };
        assert!(matches!(Sandbox::settle(&file), Ok(Settled::Off(_))));
        let by = By::ALL.into_iter().find(|by| by.is_here(Network::Open).is_err());
        let Some(by) = by else { return };
        let auto = SandboxFile { by: Some(by), ..SandboxFile::default() };
        assert!(matches!(Sandbox::settle(&auto), Ok(Settled::Off(why)) if why.starts_with(by.name())));
        let required = SandboxFile { mode: Mode::Required, ..auto };
        let why = Sandbox::settle(&required).expect_err("it cannot be");
        assert!(why.message.contains("cannot be"), "{why:?}");
    }
}
