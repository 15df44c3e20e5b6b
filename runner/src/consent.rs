//! What the user has agreed to: of which repository, and to just what. Whoever works in it is told by `.makima.toml` at
//! the repository's root what to run; that is somebody else's code, so it is asked for once, and again when it changes.
//!
//! ```text
//! consent/<repository>.allowed.json   written by people's commands
//! consent/<repository>.asked.json     written by the daemon: what was wanted last, and not agreed to
//! ```

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use makima_core::wants::{Consent, Wants};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::executor::fnv;
use crate::home::{make_private, write_atomic};

/// The version of the form that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Different things that one repository may be allowed, branch by branch; the oldest go.
const MOST: usize = 32;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    repository: String,
    wants: Vec<Wants>,
}

/// What is known of one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Its URL without credentials, or its path.
    pub repository: String,
    /// What the user has agreed to.
    pub allowed: Vec<Wants>,
    /// What it wanted last that the user has not agreed to.
    pub asked: Option<Wants>,
}

/// Under what a repository is known, of its URL without credentials or its path: what people take for the same one is.
#[must_use]
pub fn key(address: &str) -> String {
    let address = address.trim_end_matches('/');
    let address = address.strip_suffix("/.git").unwrap_or(address);
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    // Whoever logs in by https is nobody's business here; by ssh it is a part of the place.
    let user = if scheme.eq_ignore_ascii_case("ssh") { user.split(':').next().unwrap_or_default() } else { "" };
    let at = if user.is_empty() { "" } else { "@" };
    let path = path.strip_suffix(".git").unwrap_or(path);
    format!("{}://{user}{at}{}/{path}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase())
}

/// Reads what a `.makima.toml` says.
///
/// # Errors
/// With line and column: it is no TOML, or something in it is not known or cannot be done.
pub fn parse(text: &str) -> Result<Wants, String> {
    let wants: Wants = toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
        format!("line {line}, column {column}: {}", error.message())
    })?;
    wants.check()?;
    Ok(wants)
}

/// What the user has agreed to in this home.
#[derive(Clone, Debug)]
pub struct Book(PathBuf);

impl Book {
    /// The book of a home.
    #[must_use]
    pub fn of(home: &Path) -> Self {
        Self(home.join("consent"))
    }

    /// What the user says to this. Blocks.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn says(&self, repository: &str, wants: Option<&Wants>) -> io::Result<Consent> {
        let allowed = self.wants(repository, ALLOWED)?;
        Ok(match wants {
            Some(wants) if allowed.contains(wants) => Consent::This,
            _ if allowed.is_empty() => Consent::None,
            _ => Consent::Other,
        })
    }

    /// Takes note of what was wanted and not agreed to. Blocks.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn asks(&self, repository: &str, wants: &Wants) -> io::Result<()> {
        // An asked record that cannot be read is only overwritten.
        if self.wants(repository, ASKED).is_ok_and(|asked| asked.first() == Some(wants)) {
            return Ok(());
        }
        self.write(repository, ASKED, vec![wants.clone()])
    }

    /// Agrees. Blocks.
    ///
    /// # Errors
    /// A record cannot be read or written.
    pub fn allow(&self, repository: &str, wants: &Wants) -> io::Result<()> {
        let mut allowed = self.wants(repository, ALLOWED)?;
        allowed.retain(|known| known != wants);
        allowed.push(wants.clone());
        let surplus = allowed.len().saturating_sub(MOST);
        self.write(repository, ALLOWED, allowed.split_off(surplus))?;
        if self.wants(repository, ASKED)?.first() == Some(wants) {
            remove(&self.file(repository, ASKED))?;
        }
        Ok(())
    }

    /// Agrees to nothing of it any more. Whether there was anything. Blocks.
    ///
    /// # Errors
    /// A record cannot be removed.
    pub fn deny(&self, repository: &str) -> io::Result<bool> {
        let file = self.file(repository, ALLOWED);
        let was = file.exists();
        remove(&file)?;
        Ok(was)
    }

    /// What was wanted last and not agreed to. Blocks.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn asked(&self, repository: &str) -> io::Result<Option<Wants>> {
        Ok(self.wants(repository, ASKED)?.into_iter().next())
    }

    /// All repositories of which something is known, in their order. Blocks.
    ///
    /// # Errors
    /// The folder or a record cannot be read.
    pub fn list(&self) -> io::Result<Vec<Known>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(failure) => return Err(failure),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(ALLOWED) || name.ends_with(ASKED) {
                names.extend(read::<Record>(&path)?.map(|record| record.repository));
            }
        }
        names.sort();
        names.dedup();
        let known = |repository: String| {
            let (allowed, asked) = (self.wants(&repository, ALLOWED)?, self.asked(&repository)?);
            Ok(Known { allowed, asked, repository })
        };
        names.into_iter().map(known).collect()
    }

    fn file(&self, repository: &str, kind: &str) -> PathBuf {
        self.0.join(format!("{:032x}{kind}", fnv(repository.as_bytes())))
    }

    fn wants(&self, repository: &str, kind: &str) -> io::Result<Vec<Wants>> {
        let record: Option<Record> = read(&self.file(repository, kind))?;
        // Another one's, by a chance that somebody has helped.
        Ok(record.filter(|record| record.repository == repository).map(|record| record.wants).unwrap_or_default())
    }

    fn write(&self, repository: &str, kind: &str, wants: Vec<Wants>) -> io::Result<()> {
        make_private(&self.0)?;
        let record = Record { version: VERSION, repository: repository.to_owned(), wants };
        write_atomic(&self.file(repository, kind), &serde_json::to_vec(&record)?, 0o600)
    }
}

const ALLOWED: &str = ".allowed.json";

const ASKED: &str = ".asked.json";

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(failure) if failure.kind() != io::ErrorKind::NotFound => Err(failure),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let garbled = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(|failure| garbled(failure.to_string()))?;
    if version != VERSION {
        return Err(garbled(format!("it is of version {version}, and this program reads version {VERSION}")));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|failure| garbled(failure.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(command: &str) -> Wants {
        Wants { setup: vec![command.to_owned()], ..Wants::default() }
    }

    /// Protects the user from a repository that changes what it wants once it is trusted.
    #[test]
    fn just_what_was_agreed_to_is_allowed_until_it_is_denied() {
        let home = tempfile::tempdir().expect("a folder");
        let book = Book::of(home.path());
        let says = |wants: &Wants| book.says("/srv/app", Some(wants)).expect("it can be read");
        assert_eq!(says(&wants("make")), Consent::None);
        book.asks("/srv/app", &wants("make")).expect("room");
        assert_eq!(book.asked("/srv/app").expect("it can be read"), Some(wants("make")));
        assert_eq!(says(&wants("make")), Consent::None, "to ask is not to agree");
        book.allow("/srv/app", &wants("make")).expect("room");
        assert_eq!(says(&wants("make")), Consent::This);
        assert_eq!(says(&wants("make; evil")), Consent::Other);
        assert_eq!(book.says("/srv/other", Some(&wants("make"))).expect("it can be read"), Consent::None);
        assert_eq!(book.asked("/srv/app").expect("it can be read"), None);
        book.allow("/srv/app", &wants("make all")).expect("room");
        assert_eq!(says(&wants("make")), Consent::This, "another branch's");
        assert_eq!(book.list().expect("a list").first().map(|known| known.allowed.len()), Some(2));
        assert!(book.deny("/srv/app").expect("it can be removed"));
        assert!(!book.deny("/srv/app").expect("it can be removed"));
        assert_eq!(says(&wants("make")), Consent::None);
    }

    #[test]
    fn a_record_that_cannot_be_read_allows_nothing() {
        let home = tempfile::tempdir().expect("a folder");
        let book = Book::of(home.path());
        book.allow("/srv/app", &wants("make")).expect("room");
        for text in ["{", "{\"version\": 2}", "{\"version\": 1, \"repository\": 3}"] {
            std::fs::write(book.file("/srv/app", ALLOWED), text).expect("room");
            assert!(book.says("/srv/app", Some(&wants("make"))).is_err(), "{text}");
        }
    }

    #[test]
    fn what_people_take_for_the_same_repository_is_the_same() {
        let same = ["https://Host/a/b.git", "https://host/a/b", "HTTPS://u:p@host/a/b/", "https://host/a/b.git/"];
        for address in same {
            assert_eq!(key(address), "https://host/a/b", "{address}");
        }
        assert_eq!(key("/srv/app/.git"), "/srv/app");
        assert_eq!(key("ssh://git@Host/a.git"), "ssh://git@host/a");
        assert_eq!(key("git@host:a/b.git"), "git@host:a/b.git");
        assert_ne!(key("https://host/a"), key("https://host/A"));
    }

    #[test]
    fn a_file_is_read_and_what_is_wrong_is_named_with_its_place() {
        let text = "setup = ['make deps']\nchecks = ['make test']\nsparse = ['core']\n[env]\nCI = '1'\n";
        let wants = parse(text).expect("it is in order");
        assert_eq!((wants.setup.len(), wants.checks.len(), wants.env.len()), (1, 1, 1));
        assert_eq!(parse(""), Ok(Wants::default()));
        let why = |text: &str| parse(text).expect_err("wrong");
        assert!(why("\nsteup = []").starts_with("line 2, column 1: unknown field `steup`"), "{}", why("\nsteup = []"));
        assert!(why("setup = 'make'").starts_with("line 1, column 9:"));
        assert!(why("setup = [").starts_with("line 1"));
        assert!(why("env = { MAKIMA_X = '' }").contains("MAKIMA_X"));
    }
}
