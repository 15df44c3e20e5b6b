//! Has `cargo mutants` try the mutants of a module, some at a time, on a copy of the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::Deserialize;

use super::{Module, Mutant, Record, Survivor, root, sources};

/// What is asked, the quick first: what it is for people, its package, what of it and how it is built, and for how many seconds.
const JUDGES: &[(&str, &str, &[&str], u32)] = &[
    ("the core's own tests", "makima-core", &["--lib"], 120),
    (
        "the simulated world",
        "makima-tests",
        &[
            "--config=profile.dev.package.makima-core.opt-level=1",
            "--config=profile.dev.package.makima-tests.opt-level=1",
            "--test=world",
            "--test=transcripts",
            "--test=cells",
            "--test=exhaust",
            "--test=fleet",
        ],
        600,
    ),
];

/// So many mutants are tried before what came of it is written down. `cargo mutants` takes its seconds each time.
const BATCH: usize = 25;

/// The environment of the tests: fewer seeds and cases, and none of chance; nothing for debuggers, which nobody starts.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("MAKIMA_SEEDS", "1000"),
    ("PROPTEST_CASES", "20"),
    ("PROPTEST_RNG_SEED", "1"),
    ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true"),
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ("RUST_BACKTRACE", "0"),
];

/// A mutant as `cargo mutants` tells of it.
#[derive(Clone, Debug, Deserialize)]
struct Listed {
    name: String,
    file: String,
    span: Span,
}

#[derive(Clone, Debug, Deserialize)]
struct Span {
    start: Place,
}

#[derive(Clone, Debug, Deserialize)]
struct Place {
    line: usize,
}

#[derive(Deserialize)]
struct Outcomes {
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    scenario: serde_json::Value,
    summary: String,
}

/// Tries those mutants of a module of which it is not known that they are caught, or why they cannot be; all of them where
/// the code is another than the record's. Says what it does, and writes the record after each batch.
///
/// # Errors
/// `cargo mutants` cannot be run, or the tests fail without a mutant: for people.
pub fn run((name, files): &Module, judges: usize) -> Result<Record, String> {
    let tree = copy()?;
    let sources = sources(files)?;
    let listed = list(&tree, files)?;
    let before = Record::read(name)?.unwrap_or_default();
    let mut record = begin(sources, &listed, &before);
    for (what, package, tests, seconds) in JUDGES.iter().take(judges) {
        let todo: Vec<&Listed> =
            listed.iter().filter(|(mutant, _)| is_open(&record, mutant)).map(|(_, it)| it).collect();
        for (n, batch) in todo.chunks(BATCH).enumerate() {
            let begun = Instant::now();
            let mut command = mutants(&tree, files);
            command.args(["--in-place", "--colors=never", "--no-times", "--no-shuffle", "--test-package", package]);
            // That the tests pass without a mutant is seen once.
            command.arg(if n == 0 { "--baseline=run" } else { "--baseline=skip" });
            command.arg(format!("--timeout={seconds}")).args(tests.iter().map(|test| format!("--cargo-arg={test}")));
            command.args(batch.iter().map(|mutant| format!("--re=^{}$", escaped(&mutant.name))));
            let came = outcomes(command, &tree)?;
            take(&mut record, &listed, &came);
            record.write(name)?;
            let (caught, viable) = record.caught();
            let each = begun.elapsed().as_secs_f64() / batch.len() as f64;
            println!("{name}: {what}: {} tried, {each:.0} s each; {caught} of {viable} are caught", batch.len());
        }
    }
    record.write(name)?;
    Ok(record)
}

/// What is known before anything is tried: all that was caught in this very code, and why others cannot be.
fn begin(sources: BTreeMap<String, String>, listed: &[(Mutant, Listed)], before: &Record) -> Record {
    let why = |mutant: &Mutant| before.survivors.iter().find(|survivor| survivor.mutant == *mutant);
    let fresh = before.sources == sources && before.mutants == listed.len();
    let survivors = listed.iter().filter_map(|(mutant, _)| match why(mutant) {
        Some(survivor) => Some(survivor.clone()),
        None if fresh => None,
        None => Some(Survivor { mutant: mutant.clone(), why: String::new() }),
    });
    let (unviable, timeouts) = if fresh { (before.unviable, before.timeouts) } else { (0, 0) };
    Record { sources, mutants: listed.len(), unviable, timeouts, survivors: survivors.collect() }
}

fn is_open(record: &Record, mutant: &Mutant) -> bool {
    record.open().any(|survivor| survivor.mutant == *mutant)
}

/// Takes in what came of a batch.
fn take(record: &mut Record, listed: &[(Mutant, Listed)], came: &BTreeMap<String, String>) {
    let summary = |mutant: &Mutant| {
        let (_, it) = listed.iter().find(|(it, _)| it == mutant)?;
        came.get(&it.name).map(String::as_str)
    };
    let (mut unviable, mut timeouts) = (0, 0);
    record.survivors.retain(|survivor| match summary(&survivor.mutant) {
        Some("CaughtMutant") => false,
        Some("Unviable") => {
            unviable += 1;
            false
        }
        Some("Timeout") => {
            timeouts += 1;
            false
        }
        _ => true,
    });
    record.unviable += unviable;
    record.timeouts += timeouts;
}

/// A copy of the tree that may be changed, beside what is built of it.
fn copy() -> Result<PathBuf, String> {
    let said = |error: std::io::Error| format!("the tree cannot be copied: {error}");
    let tree = root().join("target/mutants/tree");
    if tree.exists() {
        std::fs::remove_dir_all(&tree).map_err(said)?;
    }
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let files = String::from_utf8(output(git)?).map_err(|error| error.to_string())?;
    let files: BTreeSet<&str> = files.split('\0').filter(|file| root().join(file).is_file()).collect();
    for file in files {
        let to = tree.join(file);
        std::fs::create_dir_all(to.parent().unwrap_or(&tree)).map_err(said)?;
        std::fs::copy(root().join(file), to).map_err(said)?;
    }
    Ok(tree)
}

fn mutants(tree: &Path, files: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["mutants", "--dir"]).arg(tree).envs(ENVIRONMENT.iter().copied());
    command.args(files.iter().map(|file| format!("--file=core/src/{file}")));
    // Never where the tree itself is built: Cargo takes the two for one, and the one's tests would be the other's.
    command.env("CARGO_TARGET_DIR", root().join("target/mutants/build"));
    command
}

fn output(mut command: Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// All mutants of a module, in order.
fn list(tree: &Path, files: &[&str]) -> Result<Vec<(Mutant, Listed)>, String> {
    let mut command = mutants(tree, files);
    command.args(["--list", "--json"]);
    let listed: Vec<Listed> = serde_json::from_slice(&output(command)?).map_err(|error| error.to_string())?;
    let mut all: Vec<(Mutant, Listed)> = Vec::new();
    for it in listed {
        let text = std::fs::read_to_string(tree.join(&it.file)).map_err(|error| format!("{}: {error}", it.file))?;
        let line = text.lines().nth(it.span.start.line.saturating_sub(1)).unwrap_or_default().trim().to_string();
        // The name is `FILE:LINE:COLUMN: CHANGE`.
        let change = it.name.split_once(": ").map_or(it.name.as_str(), |(_, change)| change).to_string();
        let file = it.file.trim_start_matches("core/src/").to_string();
        let same = |other: &Mutant| (&other.file, &other.change, &other.line) == (&file, &change, &line);
        let nth = all.iter().filter(|(other, _)| same(other)).count();
        all.push((Mutant { file, change, line, nth }, it));
    }
    Ok(all)
}

/// What came of each mutant that was tried, by its name.
fn outcomes(mut command: Command, tree: &Path) -> Result<BTreeMap<String, String>, String> {
    let place = tree.with_file_name("last");
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let status = command.arg("--output").arg(&place).status().map_err(|error| format!("cargo mutants: {error}"))?;
    // All were caught; some were not; some went on for ever.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        return Err(format!("cargo mutants: {status}; see {}", place.join("mutants.out/log").display()));
    }
    let path = place.join("mutants.out/outcomes.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let Outcomes { outcomes } = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let of = |Outcome { scenario, summary }: Outcome| {
        let name = scenario.pointer("/Mutant/name")?.as_str()?.to_string();
        Some((name, summary))
    };
    Ok(outcomes.into_iter().filter_map(of).collect())
}

/// As a regular expression that only this text matches.
fn escaped(text: &str) -> String {
    let special = |letter: char| r"\.+*?()|[]{}^$#&-~".contains(letter);
    text.chars().flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<(Mutant, Listed)> {
        let one = |name: &&str| {
            let mutant = Mutant { file: "a.rs".into(), change: (*name).into(), line: "!a".into(), nth: 0 };
            (mutant, Listed { name: (*name).into(), file: "a.rs".into(), span: Span { start: Place { line: 1 } } })
        };
        names.iter().map(one).collect()
    }

    fn left(record: &Record) -> Vec<&str> {
        record.survivors.iter().map(|survivor| survivor.mutant.change.as_str()).collect()
    }

    #[test]
    fn what_is_known_of_the_same_code_is_not_tried_again_and_reasons_stay() {
        let all = listed(&["a", "b", "c", "d", "e"]);
        let code = |text: &str| BTreeMap::from([("a.rs".to_string(), text.to_string())]);
        let mut record = begin(code("1"), &all, &Record::default());
        assert_eq!(left(&record), ["a", "b", "c", "d", "e"]);
        let came = [("a", "CaughtMutant"), ("b", "Unviable"), ("c", "MissedMutant"), ("d", "Timeout")];
        take(&mut record, &all, &came.map(|(name, came)| (name.to_string(), came.to_string())).into());
        assert_eq!((left(&record), record.unviable, record.timeouts), (vec!["c", "e"], 1, 1));
        assert_eq!(record.caught(), (2, 4));
        record.survivors[0].why = "it is the same".to_string();
        assert_eq!(begin(code("1"), &all, &record), record);
        assert!(!is_open(&record, &all[2].0) && is_open(&record, &all[4].0));
        let anew = begin(code("2"), &all, &record);
        assert_eq!((left(&anew), anew.unviable), (vec!["a", "b", "c", "d", "e"], 0));
        assert_eq!(anew.open().count(), 4);
    }

    #[test]
    fn a_name_is_matched_as_it_stands() {
        assert_eq!(escaped("a.rs:1:2: replace && with ||"), r"a\.rs:1:2: replace \&\& with \|\|");
    }
}
