//! The file of `makima run --tasks`: read and checked as a whole, and every complaint names its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use serde::Deserialize;
use toml::Spanned;

use crate::cli::args::OnComplete;
use crate::report::Failure;

/// Tasks in one file.
const TASKS: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    repo: Option<String>,
    on_complete: Option<Spanned<String>>,
    #[serde(default)]
    task: Vec<Spanned<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    plan: Option<Spanned<String>>,
    plan_file: Option<Spanned<PathBuf>>,
    repo: Option<String>,
    base: Option<String>,
    on_complete: Option<Spanned<String>>,
    #[serde(default)]
    orchestrate: bool,
    #[serde(default)]
    after: Vec<Spanned<String>>,
}

/// A task of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// Its name, which no other has.
    pub(super) name: String,
    /// What its agent is to do.
    pub(super) plan: String,
    /// Its repository, if it is named.
    pub(super) repo: Option<String>,
    /// Where it starts, if that is said.
    pub(super) base: Option<String>,
    /// What is done with its work, if that is said.
    pub(super) on_complete: Option<OnComplete>,
    /// Whether its agent leads others.
    pub(super) orchestrate: bool,
    /// The tasks that it comes after, by their places in the list: all of them before its own.
    pub(super) after: Vec<usize>,
    /// The line that it begins in.
    pub(super) line: usize,
}

/// The text of a file, for complaints about it.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
    }

    fn wrong(&self, at: usize, what: impl std::fmt::Display) -> Failure {
        Failure::unusable(format!("{}, line {}: {what}", self.path.display(), self.line(at)))
    }
}

/// Reads the tasks of a file: each behind those that it comes after, else as they stand there.
///
/// # Errors
/// The file cannot be read, or something in it cannot be meant like this.
pub(super) fn read(path: &Path) -> Result<Vec<Planned>, Failure> {
    let unreadable = |error| Failure::unusable(format!("{} cannot be read: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&Source { path, text: &text })
}

fn parse(source: &Source<'_>) -> Result<Vec<Planned>, Failure> {
    let file: File = toml::from_str(source.text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.wrong(at, error.message().trim_end())
    })?;
    if file.task.is_empty() {
        return Err(Failure::unusable(format!("{} names no task", source.path.display()))
            .hint("`makima run --help` shows how such a file looks"));
    }
    if file.task.len() > TASKS {
        return Err(Failure::unusable(format!("{} names more than {TASKS} tasks", source.path.display())));
    }
    let names = names(source, &file.task)?;
    let common = file.on_complete.as_ref().map(|word| action(source, word)).transpose()?;
    let mut tasks = Vec::new();
    for entry in &file.task {
        let (line, entry) = (source.line(entry.span().start), entry.get_ref());
        let own = entry.on_complete.as_ref().map(|word| action(source, word)).transpose()?;
        let repo = entry.repo.as_ref().or(file.repo.as_ref());
        tasks.push(Planned {
            name: entry.name.get_ref().clone(),
            plan: plan(source, entry)?,
            repo: repo.map(|repo| beside(source.path, repo)),
            base: entry.base.clone(),
            on_complete: own.or(common),
            orchestrate: entry.orchestrate,
            after: after(source, entry, &names)?,
            line,
        });
    }
    in_order(source, tasks, &file.task)
}

/// What must hold of any text: see `crate::fuzz`. Files that it names are not read: they may be anything.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    if text.contains("plan_file") || text.contains('\\') {
        return;
    }
    match parse(&Source { path: Path::new("/nowhere/tasks.toml"), text }) {
        Ok(tasks) => {
            assert!(!tasks.is_empty() && tasks.len() <= TASKS);
            let names: std::collections::BTreeSet<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
            assert_eq!(names.len(), tasks.len());
            for (at, task) in tasks.iter().enumerate() {
                assert!(task.after.iter().all(|before| *before < at) && !task.plan.trim().is_empty(), "{task:?}");
                assert!(task.line <= text.split('\n').count(), "{task:?}");
            }
        }
        Err(failure) => assert!(failure.message.starts_with("/nowhere/tasks.toml"), "{}", failure.message),
    }
}

/// Each name, and which task has it.
fn names(source: &Source<'_>, tasks: &[Spanned<Entry>]) -> Result<BTreeMap<String, usize>, Failure> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (at, entry) in tasks.iter().enumerate() {
        let name = &entry.get_ref().name;
        if name.get_ref().trim().is_empty() || name.get_ref().chars().any(char::is_control) {
            return Err(source.wrong(name.span().start, "a task's name is empty or has a control character"));
        }
        if let Some(other) = names.insert(name.get_ref().clone(), at) {
            let first = tasks.get(other).map_or(0, |other| source.line(other.get_ref().name.span().start));
            let what = format!("the name `{}` stands twice: line {first} has it, too", name.get_ref());
            return Err(source.wrong(name.span().start, what));
        }
    }
    Ok(names)
}

fn plan(source: &Source<'_>, entry: &Entry) -> Result<String, Failure> {
    let name = entry.name.get_ref();
    let (plan, at) = match (&entry.plan, &entry.plan_file) {
        (Some(plan), None) => (plan.get_ref().clone(), plan.span().start),
        (None, Some(file)) => {
            let path = source.path.parent().unwrap_or(Path::new("")).join(file.get_ref());
            let unreadable = |error| format!("the plan of `{name}` in {} cannot be read: {error}", path.display());
            let plan = std::fs::read_to_string(&path);
            (plan.map_err(|error| source.wrong(file.span().start, unreadable(error)))?, file.span().start)
        }
        (None, None) => {
            return Err(source.wrong(entry.name.span().start, format!("`{name}` has neither `plan` nor `plan_file`")));
        }
        (Some(_), Some(file)) => {
            return Err(source.wrong(file.span().start, format!("`{name}` has both `plan` and `plan_file`")));
        }
    };
    if plan.trim().is_empty() {
        return Err(source.wrong(at, format!("the plan of `{name}` is empty")));
    }
    Ok(plan)
}

fn action(source: &Source<'_>, word: &Spanned<String>) -> Result<OnComplete, Failure> {
    OnComplete::from_str(word.get_ref(), false).map_err(|_| {
        let known: Vec<&str> = OnComplete::value_variants().iter().map(|action| action.as_str()).collect();
        let what = format!("`{}` cannot be done with work; it is one of {}", word.get_ref(), known.join(", "));
        source.wrong(word.span().start, what)
    })
}

fn after(source: &Source<'_>, entry: &Entry, names: &BTreeMap<String, usize>) -> Result<Vec<usize>, Failure> {
    let place = |name: &Spanned<String>| {
        let unknown = || source.wrong(name.span().start, format!("no task is named `{}`", name.get_ref()));
        names.get(name.get_ref()).copied().ok_or_else(unknown)
    };
    let mut places: Vec<usize> = entry.after.iter().map(place).collect::<Result<_, _>>()?;
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// A path is meant from the file's folder; what git would take for a host's name is none.
fn beside(file: &Path, repo: &str) -> String {
    use makima_core::policy::RepositoryUrl;
    match RepositoryUrl::read(repo) {
        Ok(RepositoryUrl::Local(path)) if !path.starts_with(['/', '~']) => {
            let joined = file.parent().unwrap_or(Path::new("")).join(&path);
            joined.to_str().map_or_else(|| repo.to_owned(), ToString::to_string)
        }
        Ok(_) | Err(_) => repo.to_owned(),
    }
}

/// The tasks so that each stands behind those that it comes after.
fn in_order(source: &Source<'_>, tasks: Vec<Planned>, entries: &[Spanned<Entry>]) -> Result<Vec<Planned>, Failure> {
    let mut placed: Vec<Option<usize>> = vec![None; tasks.len()];
    let mut order: Vec<usize> = Vec::new();
    while order.len() < tasks.len() {
        let free = |at: &usize| {
            let open = |need: &usize| placed.get(*need).is_none_or(Option::is_none);
            placed.get(*at) == Some(&None) && tasks.get(*at).is_some_and(|task| !task.after.iter().any(open))
        };
        let Some(next) = (0..tasks.len()).find(free) else { return Err(circle(source, &tasks, entries, &placed)) };
        if let Some(place) = placed.get_mut(next) {
            *place = Some(order.len());
        }
        order.push(next);
    }
    let moved = |task: &Planned| {
        let after = task.after.iter().filter_map(|need| placed.get(*need).copied().flatten()).collect();
        Planned { after, ..task.clone() }
    };
    Ok(order.iter().filter_map(|at| tasks.get(*at)).map(moved).collect())
}

/// Names a circle: from any task that is left, one that it waits for, and so on, until one comes again.
fn circle(source: &Source<'_>, tasks: &[Planned], entries: &[Spanned<Entry>], placed: &[Option<usize>]) -> Failure {
    let left = |at: &usize| placed.get(*at) == Some(&None);
    let mut way: Vec<usize> = Vec::new();
    let mut at = (0..tasks.len()).find(left).unwrap_or_default();
    while !way.contains(&at) {
        way.push(at);
        let need = tasks.get(at).and_then(|task| task.after.iter().copied().find(left));
        at = need.unwrap_or(at);
    }
    let circle = way.iter().skip_while(|one| **one != at).chain([&at]);
    let names: Vec<String> = circle.filter_map(|at| tasks.get(*at)).map(|task| format!("`{}`", task.name)).collect();
    let line = entries.get(at).map_or(0, |entry| entry.get_ref().name.span().start);
    source.wrong(line, format!("these wait for each other: {}", names.join(" after ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Planned>, String> {
        parse(&Source { path: Path::new("/etc/tasks.toml"), text }).map_err(|failure| failure.message)
    }

    /// Protects people from a night in which half of a file was run: what is wrong is said before, with its line.
    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, part) in [
            ("", 0, "names no task"),
            ("[[task]]\nname = 'a'\nplan = 'x'\ncolour = 1", 4, "unknown field `colour`"),
            ("[[tasks]]\nname = 'a'", 1, "unknown field `tasks`"),
            ("[[task]]\nplan = 'x'", 1, "missing field `name`"),
            ("[[task]]\nname = 'a'\n\nplan = 7", 4, "invalid type"),
            ("[[task]]\nname = 'a'\nplan = 'x'\n\n[[task]]\nname = 'a'\nplan = 'y'", 6, "`a` stands twice: line 2"),
            ("[[task]]\nname = 'a'", 2, "neither `plan` nor `plan_file`"),
            ("[[task]]\nname = 'a'\nplan = 'x'\nplan_file = 'y'", 4, "both"),
            ("[[task]]\nname = 'a'\nplan = ' '", 3, "the plan of `a` is empty"),
            ("[[task]]\nname = 'a'\nplan_file = '/no/such'", 3, "/no/such cannot be read"),
            ("[[task]]\nname = ' '\nplan = 'x'", 2, "a task's name is empty"),
            ("[[task]]\nname = 'a'\nplan = 'x'\nafter = [\n 'b']", 5, "no task is named `b`"),
            ("[[task]]\nname = 'a'\nplan = 'x'\nafter = ['a']", 2, "`a` after `a`"),
            ("on_complete = 'burn'\n[[task]]\nname = 'a'\nplan = 'x'", 1, "one of none, branch, merge, pr"),
            ("[[task]]\nname = 'a'\nplan = 'x'\nrepo", 4, "expected"),
        ] {
            let error = parsed(text).expect_err(text);
            let place =
                if line == 0 { "/etc/tasks.toml".to_owned() } else { format!("/etc/tasks.toml, line {line}: ") };
            assert!(error.starts_with(&place) && error.contains(part), "{text}: {error}");
        }
        let three = "[[task]]\nname='a'\nplan='x'\nafter=['c']\n[[task]]\nname='b'\nplan='x'\nafter=['a']\n\
            [[task]]\nname='c'\nplan='x'\nafter=['b']\n[[task]]\nname='d'\nplan='x'\nafter=['a']";
        let error = parsed(three).expect_err("a circle");
        assert!(error.ends_with("`a` after `c` after `b` after `a`"), "{error}");
    }

    /// Protects the order in which tasks are asked for: what others come after is there before them.
    #[test]
    fn each_task_stands_behind_what_it_comes_after() {
        let text = "repo = 'app'\non_complete = 'none'\n[[task]]\nname = 'c'\nplan = 'x'\nafter = ['b', 'a', 'b']\n\
            [[task]]\nname = 'a'\nplan = 'x'\nrepo = '/b'\norchestrate = true\n[[task]]\nname = 'b'\nplan = 'x'\non_complete = 'pr'\nafter = ['a']";
        let tasks = parsed(text).expect("they are fine");
        let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(tasks[2].after, [0, 1]);
        assert_eq!(tasks.iter().map(|task| task.orchestrate).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(
            (tasks[2].line, tasks[0].repo.as_deref(), tasks[2].repo.as_deref()),
            (3, Some("/b"), Some("/etc/app"))
        );
        assert_eq!((tasks[1].on_complete, tasks[2].on_complete), (Some(OnComplete::Pr), Some(OnComplete::None)));
    }
}
