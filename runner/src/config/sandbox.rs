//! What agents may touch on this machine.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::Deserializer;

use super::either::Either;
use crate::sandbox::{By, Mode, Network};

/// `sandbox = "required"`, or a table `[sandbox]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct SandboxFile {
    /// Whether there is to be one.
    pub mode: Mode,
    /// How much of the network there is inside.
    pub network: Network,
    /// Whether programs outside can be spoken to by sockets that lie in the file system: those of the desktop, of containers,
    /// of databases.
    pub sockets: bool,
    /// Where may be written beside the worktree; `~` is the user's home folder.
    pub write: Option<Vec<PathBuf>>,
    /// What may not be read beside the daemon's own.
    pub hide: Vec<PathBuf>,
    /// By what; the first that this machine has where it is not said.
    pub by: Option<By>,
}

impl Default for SandboxFile {
    fn default() -> Self {
        Self { mode: Mode::Auto, network: Network::Open, sockets: true, write: None, hide: Vec::new(), by: None }
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Table(#[serde(with = "SandboxFile")] SandboxFile);

impl<'de> Deserialize<'de> for SandboxFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either {
            expects: "off, auto or required, or a table with `mode`, `network`, `sockets`, `write`, `hide` and `by`",
            word: |name| mode(name).map(|mode| Self { mode, ..Self::default() }),
            table: |Table(file)| file,
        })
    }
}

/// Whether there is to be a sandbox, by its name.
///
/// # Errors
/// There is no such word.
pub fn mode(name: &str) -> Result<Mode, String> {
    Mode::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
        let known: Vec<&str> = Mode::ALL.iter().map(|mode| mode.name()).collect();
        format!("`{name}` is not one of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;

    #[test]
    fn it_is_a_word_or_a_table() {
        let read = |text: &str| toml::from_str::<ConfigFile>(text).map(|file| file.sandbox);
        assert_eq!(read("sandbox = 'required'").expect("a word").mode, Mode::Required);
        let table = read("[sandbox]\nnetwork = 'none'\nsockets = false\nwrite = ['~/x']\nby = 'landlock'");
        let table = table.expect("a table");
        assert_eq!((table.mode, table.network, table.sockets), (Mode::Auto, Network::None, false));
        assert_eq!((table.write, table.by), (Some(vec!["~/x".into()]), Some(By::Landlock)));
        for wrong in ["sandbox = 'on'", "[sandbox]\nmod = 'off'", "[sandbox]\nnetwork = 'some'", "sandbox = true"] {
            let why = read(wrong).expect_err(wrong).to_string();
            assert!(why.contains("required") || why.contains("mode") || why.contains("none"), "{why}");
        }
    }
}
