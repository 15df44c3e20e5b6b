//! Mutation testing of the core: small changes of a module, each of which some test has to catch. What came of it is
//! kept in `tests/mutants`, with what the module's code was then.

mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::run::run;

/// A part of the core whose mutants are tried together: its name, and its files in `core/src`.
pub type Module = (&'static str, &'static [&'static str]);

/// Every module. One is small enough to be tried in an hour or two.
pub const MODULES: &[Module] = &[
    ("outbox", &["outbox.rs", "outbox/report.rs"]),
    ("inbox", &["numbers.rs", "second.rs"]),
    ("held", &["held.rs"]),
    ("recover", &["boot.rs", "task/recover.rs", "task/attach.rs"]),
    ("mailbox", &["task/mailbox.rs"]),
    ("dialog", &["task/dialog.rs", "task/ear.rs"]),
    ("people", &["task/person.rs", "task/inherit.rs"]),
    ("pace", &["task/pace.rs"]),
    ("meter", &["task/meter.rs", "allowance.rs"]),
    ("leading", &["task/brood.rs", "index.rs"]),
    ("merge", &["task/errand.rs"]),
    ("conflict", &["task/conflict.rs"]),
    ("link", &["link/mod.rs", "link/opening.rs", "link/route.rs", "link/session.rs", "link/shown.rs"]),
    ("sending", &["link/sending.rs"]),
    ("output", &["task/output.rs", "task/lines.rs", "task/stretches.rs"]),
    ("prepare", &["task/prepare.rs", "task/key.rs", "task/spec.rs"]),
    ("running", &["task/run.rs", "task/steer.rs", "task/words.rs"]),
    ("finish", &["task/finish.rs", "task/conclude.rs"]),
    ("task", &["task/mod.rs", "task/cx.rs", "task/phase.rs", "task/report.rs", "task/told.rs"]),
];

/// Those that are not through yet: nobody has tried them, or something in them is caught by nothing so far.
pub const UNFINISHED: &[&str] = &[
    "outbox", "recover", "mailbox", "dialog", "people", "meter", "leading", "merge", "conflict", "prepare", "running",
    "finish", "task",
];

/// So many of a hundred mutants are caught, at least, in all modules that are through together: a reason is found easily.
const PERCENT: usize = 95;

/// What came of the mutants of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// A hash of the code of each file, without comments, empty lines and tests, as it was.
    pub sources: BTreeMap<String, String>,
    /// How many mutants there are.
    pub mutants: usize,
    /// Of them such as no compiler takes.
    pub unviable: usize,
    /// Of them such as tests never come to an end with, which is caught.
    pub timeouts: usize,
    /// Those that nothing has caught.
    pub survivors: Vec<Survivor>,
}

/// A mutant that nothing has caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// What is changed, and where.
    #[serde(flatten)]
    pub mutant: Mutant,
    /// Why nobody could tell the change from what it was. Empty while that is not known.
    pub why: String,
}

/// A change of the code, known again after lines above it have come or gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutant {
    /// The file it is in.
    pub file: String,
    /// What is done to it.
    pub change: String,
    /// The line that is changed.
    pub line: String,
    /// Which of those that are the same up to here.
    pub nth: usize,
}

impl Record {
    /// The record of a module, if one is kept.
    ///
    /// # Errors
    /// It cannot be read: for people.
    pub fn read(name: &str) -> Result<Option<Self>, String> {
        let path = path(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map(Some).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// It cannot be written: for people.
    pub fn write(&self, name: &str) -> Result<(), String> {
        let path = path(name);
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
    }

    /// How many were caught, and of how many that can be.
    #[must_use]
    pub fn caught(&self) -> (usize, usize) {
        let viable = self.mutants.saturating_sub(self.unviable);
        (viable.saturating_sub(self.survivors.len()), viable)
    }

    /// Survivors of which nobody knows why.
    pub fn open(&self) -> impl Iterator<Item = &Survivor> {
        self.survivors.iter().filter(|survivor| survivor.why.is_empty())
    }

    /// What is not as it should be, given what the code is now.
    #[must_use]
    pub fn faults(&self, sources: &BTreeMap<String, String>) -> Vec<String> {
        let mut faults = Vec::new();
        if self.sources != *sources {
            faults.push("the code is another by now".to_string());
        }
        faults.extend(self.open().map(|Survivor { mutant, .. }| {
            format!("{}: {}: nothing catches it, and nobody says why\n    {}", mutant.file, mutant.change, mutant.line)
        }));
        faults
    }
}

/// What is not as it should be: with a module that is through, with the list of those that are not, with all together.
///
/// # Errors
/// Something cannot be read: for people.
pub fn check() -> Result<Vec<String>, String> {
    let (mut wrong, mut records) = (Vec::new(), Vec::new());
    for module in MODULES {
        let name = module.0;
        match (faults(module)?, UNFINISHED.contains(&name)) {
            (faults, false) => wrong.extend(faults.into_iter().map(|fault| format!("{name}: {fault}"))),
            (faults, true) if faults.is_empty() => wrong.push(format!("{name}: it is through: it comes off the list")),
            (_, true) => continue,
        }
        records.extend(Record::read(name)?);
    }
    wrong.extend(too_few(&records));
    Ok(wrong)
}

fn too_few(records: &[Record]) -> Option<String> {
    let (caught, viable) =
        records.iter().map(Record::caught).fold((0, 0), |(some, all), (caught, viable)| (some + caught, all + viable));
    (caught * 100 < viable * PERCENT).then(|| format!("only {caught} of {viable} are caught in all"))
}

/// What is not as it should be with a module.
///
/// # Errors
/// Something cannot be read: for people.
pub fn faults((name, files): &Module) -> Result<Vec<String>, String> {
    let sources = sources(files)?;
    Ok(match Record::read(name)? {
        Some(record) => record.faults(&sources),
        None => vec!["it was never tried".to_string()],
    })
}

/// The hash of the code in each of a module's files.
fn sources(files: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let hash = |file: &&str| {
        let path = root().join("core/src").join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(((*file).to_string(), hash(&text)))
    };
    files.iter().map(hash).collect()
}

/// FNV-1a of the lines that are code, up to the tests.
fn hash(text: &str) -> String {
    let code = text.lines().take_while(|line| *line != "mod tests {").map(str::trim);
    let code = code.filter(|line| !line.is_empty() && !line.starts_with("//"));
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", code.flat_map(|line| line.bytes().chain([b'\n'])).fold(0xcbf2_9ce4_8422_2325, fold))
}

fn path(name: &str) -> PathBuf {
    root().join("tests/mutants").join(format!("{name}.json"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_comments_nor_tests_are_code_and_all_else_is() {
        assert_eq!(hash("a\n\n    // b\nc"), hash("/// d\na\n  c\n"));
        assert_eq!(hash("a\nmod tests {\nb"), hash("a"));
        assert_ne!(hash("a\nc"), hash("a\nd"));
        assert_ne!(hash("a\nc"), hash("ac"));
    }

    #[test]
    fn what_is_old_open_or_rarely_caught_is_said() {
        let sources = BTreeMap::from([("a.rs".to_string(), hash("a"))]);
        let mutant = Mutant { file: "a.rs".into(), change: "delete !".into(), line: "!a".into(), nth: 0 };
        let survivor = |why: &str| Survivor { mutant: mutant.clone(), why: why.into() };
        let mut record = Record { sources: sources.clone(), mutants: 21, unviable: 1, ..Record::default() };
        record.survivors.push(survivor("it is the same"));
        assert!(record.faults(&sources).is_empty());
        assert_eq!(record.faults(&BTreeMap::new()).len(), 1);
        assert_eq!(too_few(&[record.clone()]), None, "19 of 20");
        record.survivors.push(survivor(""));
        assert_eq!(record.faults(&sources).len(), 1);
        assert_eq!(too_few(&[record.clone()]), Some("only 18 of 20 are caught in all".to_string()));
        let other = Record { mutants: 20, ..Record::default() };
        assert_eq!(too_few(&[record, other]), None, "38 of 40");
    }
}
