//! `config.toml` in the home folder. Flags go before the environment, and that before this file.

mod agent;
pub mod check;
mod either;
mod forge;
mod limits;
mod orchestration;
mod repository;
mod sandbox;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use fs_err as fs;
use makima_core::time::Millis;
use makima_core::{Compat, Keep};
use serde::Deserialize;
use serde::de::{self, Deserializer};

pub(crate) use agent::is_program;
pub use agent::{AGENTS, AgentSetting, AgentTable, Flags, PermissionsFile, agent, find, policy, program, told};
pub use forge::ForgeFile;
pub use limits::{LimitsFile, millionths};
pub use orchestration::OrchestrationFile;
pub use repository::RepositoryFile;
pub use sandbox::{SandboxFile, mode};

use crate::executor::Forge;
use crate::news::NotifyFile;
use crate::report::Failure;
use crate::{logging, roots};

/// What may stand in `config.toml`. Everything is optional; what is not known is an error.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The control server's URL.
    pub server: Option<String>,
    /// A file that holds the server's key.
    pub api_key_file: Option<PathBuf>,
    /// Which agent runs the tasks, by name or with its settings.
    pub agent: Option<AgentSetting>,
    /// What it may do.
    #[serde(default)]
    pub permissions: PermissionsFile,
    /// What it may touch.
    #[serde(default)]
    pub sandbox: SandboxFile,
    /// How many tasks run at once.
    #[serde(default, deserialize_with = "max_tasks")]
    pub max_tasks: Option<u32>,
    /// Folders in which a server may have branches put into repositories, `~` for the user's own. Where none
    /// are named it is that one.
    #[serde(default, deserialize_with = "roots")]
    pub allowed_roots: Option<Vec<PathBuf>>,
    /// How much of a task's output is kept on the disk, in MiB.
    #[serde(default, deserialize_with = "output_mib")]
    pub output_mib: Option<u32>,
    /// Whether processes are handled by what any unix has.
    #[serde(default)]
    pub portable: bool,
    /// What a task may use up.
    #[serde(default)]
    pub limits: LimitsFile,
    /// What the embedded server lets orchestrators do.
    #[serde(default)]
    pub orchestration: OrchestrationFile,
    /// Who is told what happens to tasks.
    #[serde(default)]
    pub notify: NotifyFile,
    /// Where the wire leaves a meaning open.
    #[serde(default)]
    pub compat: CompatFile,
    /// Where a daemon and a server say what they do.
    #[serde(default)]
    pub log: LogFile,
    /// Where a daemon tells what it has counted.
    #[serde(default)]
    pub metrics: MetricsFile,
    /// For how long what has ended is kept.
    #[serde(default)]
    pub keep: KeepFile,
    /// How long a worktree may take to be set up, in minutes.
    pub setup_minutes: Option<NonZeroU32>,
    /// What is wanted of repositories, whatever they say themselves.
    #[serde(default)]
    pub repository: Vec<RepositoryFile>,
    /// Which kind of forge is at a host: where pull requests are opened, and who is shown the user's token for it.
    #[serde(default)]
    pub forge: BTreeMap<String, ForgeFile>,
}

/// `[keep]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepFile {
    /// A worktree and its output, in days from when the server knows of the end.
    pub worktree_days: Option<NonZeroU32>,
    /// What is in the trash, in days.
    pub trash_days: Option<NonZeroU32>,
    /// What is known of a task, in days from when the server knows of the end.
    pub task_days: Option<NonZeroU32>,
    /// Gibibytes that worktrees, outputs and the trash may take before what was handed over goes earlier.
    pub disk_gib: Option<NonZeroU32>,
    /// Minutes from one look at what may go to the next.
    pub look_minutes: Option<NonZeroU32>,
}

impl KeepFile {
    /// For how long.
    #[must_use]
    pub fn keep(&self) -> Keep {
        let usual = Keep::default();
        let span = |days: Option<NonZeroU32>, usual: Millis| {
            days.map_or(usual, |days| Millis::seconds(u64::from(days.get()) * 24 * 60 * 60))
        };
        Keep {
            worktrees: span(self.worktree_days, usual.worktrees),
            trash: span(self.trash_days, usual.trash),
            tasks: span(self.task_days, usual.tasks),
            disk: self.disk_gib.map(|gib| u64::from(gib.get()) << 30),
            look: self.look_minutes.map_or(usual.look, |minutes| Millis::seconds(u64::from(minutes.get()) * 60)),
        }
    }
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsFile {
    /// Where to listen for whoever collects metrics.
    pub listen: Option<SocketAddr>,
    /// They may be read from other machines.
    #[serde(default)]
    pub allow_remote: bool,
}

impl MetricsFile {
    /// Where to listen.
    ///
    /// # Errors
    /// Other machines could read them, and nobody said that they may.
    pub fn address(&self) -> Result<Option<SocketAddr>, Failure> {
        match self.listen {
            Some(address) if !address.ip().is_loopback() && !self.allow_remote => Err(Failure::unusable(format!(
                "metrics.listen in config.toml: {address} is reached from other machines"
            ))
            .hint("use a loopback address, or say `allow_remote = true` in [metrics]")),
            address => Ok(address),
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFile {
    /// The file, by an absolute path or one that begins with `~`. Where none is named it is stderr.
    #[serde(default, deserialize_with = "absolute")]
    pub file: Option<PathBuf>,
    /// How large it becomes before it is rotated, in MiB.
    pub max_mib: Option<NonZeroU32>,
    /// How many files are kept.
    pub files: Option<NonZeroU32>,
}

impl LogFile {
    /// The file of the configuration.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let user = user_folder();
        self.file.as_ref().map(|file| roots::expand(file, user.as_deref()).unwrap_or_else(|| file.clone()))
    }

    /// How much of it is kept.
    #[must_use]
    pub fn bounds(&self) -> logging::Bounds {
        let usual = logging::Bounds::default();
        logging::Bounds {
            bytes: self.max_mib.map_or(usual.bytes, |mib| u64::from(mib.get()) << 20),
            files: self.files.map_or(usual.files, NonZeroU32::get),
        }
    }
}

/// The user's own folder.
fn user_folder() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// A relative path would mean another file wherever the daemon is started.
fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() || path.starts_with("~") {
        return Ok(Some(path));
    }
    Err(de::Error::custom(format!("{} is no absolute path", path.display())))
}

/// A relative path would mean another folder wherever the daemon is started.
fn roots<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<PathBuf>>, D::Error> {
    let roots = Vec::<PathBuf>::deserialize(deserializer)?;
    match roots.iter().find(|root| !root.is_absolute() && !root.starts_with("~")) {
        Some(root) => Err(de::Error::custom(format!("{} is no absolute path", root.display()))),
        None => Ok(Some(roots)),
    }
}

/// As many as the flag takes.
fn max_tasks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match u32::deserialize(deserializer)? {
        number @ 1..=1000 => Ok(Some(number)),
        number => Err(de::Error::custom(format!("max_tasks is a number from 1 to 1000, and not {number}"))),
    }
}

/// A log of none could not even say what is missing.
fn output_mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match u32::deserialize(deserializer)? {
        number @ 1..=1_048_576 => Ok(Some(number)),
        number => Err(de::Error::custom(format!("output_mib is a number from 1 to 1048576, and not {number}"))),
    }
}

/// `[compat]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompatFile {
    /// Codes of an `error` before `authenticated` that mean that the key is refused.
    pub refused_codes: Option<Vec<String>>,
    /// Whether `continueFromTaskId` of a plain server means the agent's conversation too, and not the worktree alone.
    pub continues_conversation: Option<bool>,
}

impl ConfigFile {
    /// Reads the file in `home`; none is as good as an empty one.
    ///
    /// # Errors
    /// It cannot be read, or something in it is not known: with the place.
    pub fn read(home: &Path) -> Result<Self, Failure> {
        let path = home.join("config.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(Failure::unusable(error.to_string())
                    .hint(format!("is {} a folder of yours? MAKIMA_HOME names another", home.display())));
            }
        };
        toml::from_str(&text).map_err(|error| {
            // It ends with a newline of its own.
            Failure::unusable(format!("{}: {}", path.display(), error.to_string().trim_end()))
        })
    }

    /// How the open places of the wire are read.
    #[must_use]
    pub fn compat(&self) -> Compat {
        let usual = Compat::default();
        let CompatFile { refused_codes, continues_conversation } = self.compat.clone();
        Compat {
            refused_codes: refused_codes.unwrap_or(usual.refused_codes),
            continues_conversation: continues_conversation.unwrap_or(usual.continues_conversation),
        }
    }

    /// Where things may be written to on a server's word, as the configuration has it.
    #[must_use]
    pub fn allowed_roots(&self) -> Vec<PathBuf> {
        let user = user_folder();
        let Some(roots) = &self.allowed_roots else { return user.into_iter().collect() };
        let expanded = roots.iter().map(|root| roots::expand(root, user.as_deref()).unwrap_or_else(|| root.clone()));
        expanded.collect()
    }

    /// The forges that it names.
    #[must_use]
    pub fn forges(&self) -> Vec<Forge> {
        let user = user_folder();
        let expand = |path: &PathBuf| roots::expand(path, user.as_deref()).unwrap_or_else(|| path.clone());
        let forge = |(host, file): (&String, &ForgeFile)| Forge {
            host: host.clone(),
            kind: file.kind,
            token_file: file.token_file.as_ref().map(expand),
        };
        self.forge.iter().map(forge).collect()
    }
}

/// The folder for everything: `MAKIMA_HOME`, else `~/.makima`.
///
/// # Errors
/// Neither that nor `HOME` is set.
pub fn home_path() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MAKIMA_HOME").or_else(|| Some(set("HOME")?.join(".makima"))).ok_or_else(|| {
        Failure::unusable("neither MAKIMA_HOME nor HOME is set").hint("set MAKIMA_HOME to a folder for makima's data")
    })
}
