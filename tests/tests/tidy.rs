//! What keeps the tree readable, and the core pure.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use makima_tests::invariants;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Everything that the core is built from, with what comes along.
const CORE_NEEDS: &[&str] = &[
    "itoa",
    "makima-core",
    "memchr",
    "proc-macro2",
    "quote",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "uuid",
    "zmij",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output().expect(program);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn sources() -> Vec<(String, String)> {
    let files = output("git", &["ls-files", "--", "*.rs"]);
    let read = |path: &str| Some((path.to_string(), std::fs::read_to_string(root().join(path)).ok()?));
    files.lines().filter_map(read).collect()
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| path.contains("/src/"))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "over {FILE_LINES} lines: {long:#?}");
}

/// The lines of each function: from its `fn` to the brace that stands below its first letter.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().enumerate().filter_map(|(at, line)| function(line, lines.get(at..)?)).collect()
}

fn function<'a>(line: &'a str, rest: &[&str]) -> Option<(&'a str, usize)> {
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"];
    let (before, name) = line.split_once("fn ")?;
    if !before.split_whitespace().all(|word| words.contains(&word)) {
        return None;
    }
    let name = name.split(['(', '<']).next()?;
    if line.ends_with(['}', ';']) {
        return Some((name, 1));
    }
    let indent = line.len() - line.trim_start().len();
    let close = format!("{}}}", " ".repeat(indent));
    Some((name, rest.iter().position(|line| *line == close)? + 1))
}

#[test]
fn functions_stay_short() {
    let sources = sources();
    let (mut all, mut long) = (0, Vec::new());
    for (path, text) in &sources {
        let found = functions(text);
        all += found.len();
        let found = found.iter().filter(|(_, lines)| *lines > FUNCTION_LINES);
        long.extend(found.map(|(name, lines)| format!("{path}: {name}: {lines} lines")));
    }
    assert!(all > 1_000, "only {all} functions were found");
    assert!(long.is_empty(), "over {FUNCTION_LINES} lines: {long:#?}");
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let macros = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    for (path, text) in sources() {
        for (n, line) in text.lines().enumerate() {
            assert!(!macros.iter().any(|name| line.contains(name)), "{path}:{}: {line}", n + 1);
        }
    }
}

#[test]
fn the_core_needs_what_it_needs_and_no_more() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    let tree = output(&cargo, &["tree", "--offline", "-p", "makima-core", "-e", "normal", "--prefix", "none"]);
    let needs: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(needs, CORE_NEEDS.iter().copied().collect());
}

/// Protects a reader of `docs/hostile.md` from tests that are not there, and from hostilities that it does not tell of.
#[test]
fn what_is_said_of_hostile_work_is_tested() {
    let said = std::fs::read_to_string(root().join("docs/hostile.md")).expect("the document");
    let folder = root().join("runner/tests/executor");
    let read = |name: &str| std::fs::read_to_string(folder.join(format!("{name}.rs"))).unwrap_or_default();
    let listed: BTreeSet<String> =
        said.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    let is_name = |name: &str| name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    let source = read("hostilities");
    let run = source.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(": \""));
    let run: BTreeSet<String> = run.map(|(name, _)| name.to_owned()).filter(|name| is_name(name)).collect();
    assert!(run.len() > 50, "the list is not found: {run:?}");
    assert_eq!(run, listed);
    let named =
        said.split('`').filter_map(|word| word.split_once("::")).filter(|(_, test)| !test.is_empty() && is_name(test));
    let absent: Vec<_> = named.filter(|(module, test)| !read(module).contains(&format!("fn {test}("))).collect();
    assert!(absent.is_empty(), "no such tests: {absent:?}");
}

/// Protects a reader of `docs/invariants.md` from one that holds no more, or that no test holds.
#[test]
fn each_invariant_has_tests_that_are_there() {
    for (file, test) in invariants::tests() {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no test `{test}`");
    }
    let path = root().join("docs/invariants.md");
    if std::env::var_os("MAKIMA_WRITE").is_some() {
        std::fs::write(&path, invariants::document()).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&path).expect("the invariants are one of the documents");
    assert!(written == invariants::document(), "MAKIMA_WRITE=1 cargo test -p makima-tests --test tidy writes it anew");
}
