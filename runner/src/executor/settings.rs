//! What the executor is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use makima_core::wants::Wants;

use makima_core::forge::Kind;

use super::mask::Secrets;
use super::tree::Way;
use crate::sandbox::Sandbox;

/// How much of a task's output is kept on the disk where nothing else is said, in bytes.
pub(crate) const OUTPUT_MAX: u64 = 1 << 30;

/// How long a worktree may take to be set up where nothing else is said.
pub(crate) const SET_UP_MAX: Duration = Duration::from_secs(10 * 60);

/// How long a server may say nothing where nothing else is said.
const SILENCE_MAX: Duration = Duration::from_secs(2 * 60);

/// What the executor is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The daemon's own environment. Agents and git get what is allowed of it.
    pub environment: Vec<(String, String)>,
    /// Variables that the user wants every agent to have. Their values are not shown, whatever their names.
    pub agent_env: Vec<(String, String)>,
    /// Folders that may be written to on a server's word. What lies elsewhere may not.
    pub allowed_roots: Vec<PathBuf>,
    /// What the user has said of forges.
    pub forges: Vec<Forge>,
    /// What must not be shown.
    pub secrets: Secrets,
    /// The git program.
    pub git: PathBuf,
    /// The program that answers to `__launch`: this one.
    pub launcher: PathBuf,
    /// How processes are found and ended.
    pub way: Way,
    /// Whether control groups may be used where there are some.
    pub groups: bool,
    /// What is put before the command line of an agent, and of what comes before and after it.
    pub wrap: Vec<String>,
    /// The sandbox that agents and what comes before and after them run in.
    pub sandbox: Option<Sandbox>,
    /// How much of a task's output is kept on the disk, in bytes.
    pub output_max: u64,
    /// How long the commands may take that set a worktree up.
    pub set_up_max: Duration,
    /// How long a server may say nothing while a repository is brought from it or to it.
    pub silence_max: Duration,
    /// What the user wants of repositories, whatever these say themselves.
    pub repositories: Vec<OwnWants>,
}

/// What the user wants of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnWants {
    /// As [`crate::consent::key`] names it.
    pub repository: String,
    /// What is wanted of it.
    pub wants: Wants,
}

/// A forge that the user has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forge {
    /// Where it is, with a port where its pages have one.
    pub host: String,
    /// What it is like.
    pub kind: Kind,
    /// A file with a token for it.
    pub token_file: Option<PathBuf>,
}

impl Settings {
    /// The settings of this process: its environment, `git` from its PATH, itself as launcher.
    ///
    /// # Errors
    /// This program's own file cannot be found.
    pub fn here() -> std::io::Result<Self> {
        // What is no UTF-8 cannot be looked up by the rules and is not handed on.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Self {
            environment: environment.collect(),
            agent_env: Vec::new(),
            allowed_roots: Vec::new(),
            forges: Vec::new(),
            secrets: Secrets::default(),
            git: PathBuf::from("git"),
            launcher: own_program()?,
            way: Way::chosen(false),
            groups: true,
            wrap: Vec::new(),
            sandbox: None,
            output_max: OUTPUT_MAX,
            set_up_max: SET_UP_MAX,
            silence_max: SILENCE_MAX,
            repositories: Vec::new(),
        })
    }

    /// Masks from now on what the environment and the configuration say is secret.
    pub fn know_secrets(&self) {
        for (name, value) in &self.environment {
            self.secrets.add_variable(name, value);
        }
        // What was written down for agents alone is a secret by that.
        for (_, value) in &self.agent_env {
            self.secrets.add(value);
        }
    }

    /// A variable of the daemon's environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// This program's file: as the system has it, else as it was called.
fn own_program() -> std::io::Result<PathBuf> {
    std::env::current_exe().or_else(|failure| {
        let called = PathBuf::from(std::env::args_os().next().unwrap_or_default());
        if called.components().count() > 1 {
            return called.canonicalize();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(&called)).find(|program| program.is_file());
        found.ok_or(failure)?.canonicalize()
    })
}
