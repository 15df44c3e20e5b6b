//! What a repository wants of whoever works in it, and what of that is done: it is the repository's code, so nothing of
//! it is before the user has agreed.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::policy::{InnerPath, counted, cut, shorten};

/// The file at a repository's root that says it.
pub const FILE: &str = ".makima.toml";

/// What a repository's own file may say, or the user for it. What is not known is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wants {
    /// Commands of a shell that are run in a new worktree before the agent.
    pub setup: Vec<String>,
    /// Commands of a shell that its work is checked by.
    pub checks: Vec<String>,
    /// Variables for these and for the agent.
    pub env: BTreeMap<String, String>,
    /// Whether its submodules are brought as well.
    pub submodules: bool,
    /// Folders that are all that is checked out, beside the files at the root; none for everything.
    pub sparse: Vec<String>,
}

impl Wants {
    /// Whether it comes to nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What cannot be done as it is said.
    ///
    /// # Errors
    /// Too many or empty commands, variables that cannot be set, folders that do not lie inside: for people.
    pub fn check(&self) -> Result<(), String> {
        for (name, commands) in [("setup", &self.setup), ("checks", &self.checks)] {
            if commands.len() > limits::COMMANDS {
                return Err(format!("`{name}` has more than {} commands", limits::COMMANDS));
            }
            if commands.iter().any(|command| command.trim().is_empty() || command.contains('\0')) {
                return Err(format!("`{name}` has a command that is empty or holds a zero byte"));
            }
        }
        for (name, value) in &self.env {
            let mut letters = name.chars();
            let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') || value.contains('\0') {
                return Err(format!("`env.{name}` is no variable that can be set"));
            }
            if name.starts_with("MAKIMA_") {
                return Err(format!("`env.{name}` cannot be set: names that begin with MAKIMA_ are makima's own"));
            }
        }
        for folder in &self.sparse {
            let plain = !folder.starts_with(['/', '-', '!', '#']) && !folder.contains(['*', '?', '[', '\\', '"', '\n']);
            if !plain || InnerPath::read(folder).is_err() {
                return Err(format!("`sparse` names `{folder}`, which is no plain path of a folder inside"));
            }
        }
        Ok(())
    }

    /// What it would have done, in a few words.
    fn told(&self) -> String {
        let named = |command: &String| format!("`{}`", shorten(command, limits::NAME_SHOWN));
        let commands = self.setup.iter().chain(&self.checks);
        let named: Vec<String> = commands.take(limits::COMMANDS_SHOWN).map(named).collect();
        let more = self.setup.len().saturating_add(self.checks.len()).saturating_sub(named.len());
        let mut parts = Vec::new();
        if !named.is_empty() {
            parts.push(format!("run {}", named.join(", ")));
        }
        if more > 0 {
            parts.push(counted(u64::try_from(more).unwrap_or(u64::MAX), "more command"));
        }
        if !self.env.is_empty() {
            parts.push(format!("set {}", self.env.keys().cloned().collect::<Vec<_>>().join(", ")));
        }
        if self.submodules {
            parts.push("bring submodules".to_string());
        }
        if !self.sparse.is_empty() {
            parts.push(format!("check out only {}", self.sparse.join(", ")));
        }
        parts.join("; ")
    }
}

/// What the user has agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// To nothing of this repository.
    #[default]
    None,
    /// To what the repository said then; it says something else now.
    Other,
    /// To this.
    This,
}

/// What is done in a worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What of it is done.
    pub wants: Wants,
    /// What a person should know.
    pub note: Option<String>,
}

/// What is done of what the repository wants: all of it where the user has agreed to just that, else nothing. What the
/// user's own configuration says of the repository goes before it, and needs no agreement. `repository` is what the user
/// has to name to agree.
///
/// # Errors
/// The user relies on the repository's file, and it cannot be read: better no task than one that is not set up.
pub fn settle(
    own: Option<&Wants>,
    found: Result<Option<Wants>, String>,
    consent: Consent,
    repository: &str,
) -> Result<Settled, String> {
    if let Some(own) = own {
        return Ok(Settled { wants: own.clone(), note: None });
    }
    let note = match (found, consent) {
        (Ok(None), _) => return Ok(Settled::default()),
        (Ok(Some(wants)), _) if wants.is_empty() => return Ok(Settled::default()),
        (Ok(Some(wants)), Consent::This) => return Ok(Settled { wants, note: None }),
        (Err(why), Consent::None) => format!("{FILE} is ignored: {why}"),
        (Err(why), Consent::Other | Consent::This) => return Err(format!("{FILE}: {why}")),
        (Ok(Some(wants)), Consent::None) => {
            format!("{FILE} is ignored, which would {}; to agree: makima repo allow {repository}", wants.told())
        }
        (Ok(Some(wants)), Consent::Other) => format!(
            "{FILE} has changed since you agreed to it and is ignored, which would {}; to agree: makima repo allow \
             {repository}",
            wants.told()
        ),
    };
    Ok(Settled { wants: Wants::default(), note: Some(cut(&note, limits::REASON)) })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn wants() -> Wants {
        Wants { setup: vec!["make deps".to_string()], ..Wants::default() }
    }

    /// Protects the user's machine from a repository that nobody has agreed to.
    #[test]
    fn nothing_is_done_that_was_not_agreed_to() {
        for consent in [Consent::None, Consent::Other] {
            let settled = settle(None, Ok(Some(wants())), consent, "/srv/app").expect("no failure");
            assert_eq!(settled.wants, Wants::default(), "{consent:?}");
            let note = settled.note.expect("it is said");
            assert!(note.contains("`make deps`") && note.ends_with("makima repo allow /srv/app"), "{note}");
        }
        let settled = settle(None, Ok(Some(wants())), Consent::This, "/srv/app");
        assert_eq!(settled, Ok(Settled { wants: wants(), note: None }));
    }

    #[test]
    fn the_users_own_word_goes_first_and_needs_no_agreement() {
        let own = Wants { checks: vec!["true".to_string()], ..Wants::default() };
        for found in [Ok(None), Ok(Some(wants())), Err("torn".to_string())] {
            let settled = settle(Some(&own), found, Consent::None, "x");
            assert_eq!(settled, Ok(Settled { wants: own.clone(), note: None }));
        }
    }

    #[test]
    fn what_cannot_be_read_fails_only_those_who_rely_on_it() {
        let torn = || Err("line 1: torn".to_string());
        let settled = settle(None, torn(), Consent::None, "x").expect("it is only told");
        assert!(settled.wants.is_empty() && settled.note.is_some_and(|note| note.contains("line 1: torn")));
        assert_eq!(settle(None, torn(), Consent::Other, "x"), Err(".makima.toml: line 1: torn".to_string()));
    }

    #[test]
    fn an_empty_file_is_none() {
        assert_eq!(settle(None, Ok(Some(Wants::default())), Consent::None, "x"), Ok(Settled::default()));
        assert_eq!(settle(None, Ok(None), Consent::None, "x"), Ok(Settled::default()));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_name() {
        let env = |name: &str| Wants { env: [(name.to_string(), String::new())].into(), ..Wants::default() };
        let sparse = |path: &str| Wants { sparse: vec![path.to_string()], ..Wants::default() };
        let bad = [
            env("A B"),
            env(""),
            env("1A"),
            env("MAKIMA_TREE"),
            sparse("../x"),
            sparse("/etc"),
            sparse("-x"),
            sparse("a*"),
            Wants { setup: vec![" ".to_string()], ..Wants::default() },
            Wants { checks: vec!["true".to_string(); limits::COMMANDS + 1], ..Wants::default() },
        ];
        for wants in bad {
            assert!(wants.check().is_err(), "{wants:?}");
        }
        assert_eq!(env("CI").check(), Ok(()));
        assert_eq!(sparse("core/src").check(), Ok(()));
    }
}
