//! Everything that is wrong with a configuration, and where. [`ConfigFile::read`] stops at the first.

use serde::{Deserialize as _, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::ConfigFile;

/// More are not looked for.
const MOST: usize = 100;

/// How alike words have to be for one to be proposed for the other, of 1.
const ALIKE: f64 = 0.7;

/// Something in a configuration that cannot stand there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that can be said.
    pub help: Option<String>,
}

/// Everything that is wrong with this text, in the order in which it stands there.
#[must_use]
pub fn problems(text: &str) -> Vec<Problem> {
    let (mut table, unreadable) = DeTable::parse_recoverable(text);
    if !unreadable.is_empty() {
        // What else is read there may be something else than was meant.
        return sorted(unreadable.iter().take(MOST).map(|error| of(text, error)).collect());
    }
    let mut problems = Vec::new();
    while problems.len() < MOST {
        // What was found wrong is taken out, so that the next shows.
        match ConfigFile::deserialize(Deserializer::from(table.clone())) {
            Ok(file) => {
                problems.extend(meaningless(text, &table, &file));
                break;
            }
            Err(error) => {
                problems.push(of(text, &error));
                if !error.span().is_some_and(|span| take_out(table.get_mut(), span.start)) {
                    break;
                }
            }
        }
    }
    sorted(problems)
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

/// Removes the innermost entry that stands at this byte.
fn take_out(table: &mut DeTable<'_>, at: usize) -> bool {
    let stands = |span: std::ops::Range<usize>| span.contains(&at) || span.start == at;
    for (_, value) in table.iter_mut() {
        if let DeValue::Table(inner) = value.get_mut()
            && take_out(inner, at)
        {
            return true;
        }
    }
    let found = table.iter().find(|(key, value)| stands(key.span()) || stands(value.span()));
    let key = found.map(|(key, _)| key.clone());
    key.is_some_and(|key| table.remove(&key).is_some())
}

fn of(text: &str, error: &Error) -> Problem {
    let at = error.span().map_or(0, |span| span.start);
    let (message, help) = match unknown(error.message()) {
        Some((key, nearest)) => {
            (format!("`{key}` is no setting"), nearest.map(|nearest| format!("did you mean `{nearest}`?")))
        }
        None => (error.message().to_owned(), None),
    };
    problem(text, at, message, help)
}

fn problem(text: &str, at: usize, message: String, help: Option<String>) -> Problem {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    Problem { line, column, message, help }
}

/// The key that is not known and what was probably meant, of serde's own words.
fn unknown(message: &str) -> Option<(&str, Option<&str>)> {
    let (key, expected) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known = expected.split('`').skip(1).step_by(2);
    let alike = known.map(|word| (strsim::jaro_winkler(key, word), word)).filter(|(alike, _)| *alike >= ALIKE);
    Some((key, alike.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, word)| word)))
}

/// What can be read, and cannot be meant.
fn meaningless(text: &str, table: &Spanned<DeTable<'_>>, file: &ConfigFile) -> Vec<Problem> {
    let said = |failure: crate::report::Failure| (failure.message, failure.hint);
    let server = file.server.as_deref().map(makima_transports::endpoint);
    let agent = file.agent_name().map(|_| super::agent(file));
    let webhook = file.notify.webhook.as_deref().map(makima_transports::endpoint);
    let wrong = [
        (&["server"][..], server.and_then(Result::err).map(|error| (error.to_string(), None))),
        (&["agent"], agent.and_then(Result::err).map(said)),
        (&["notify", "webhook"], webhook.and_then(Result::err).map(|error| (error.to_string(), None))),
        (&["metrics", "listen"], file.metrics.address().err().map(said)),
    ];
    let wrong = wrong.into_iter().filter_map(|(path, wrong)| Some((path, wrong?)));
    let wrong = wrong.map(|(path, (message, help))| problem(text, place(table.get_ref(), path), message, help));
    wrong.chain(repositories(text, table, file)).collect()
}

/// What is wanted of repositories, and cannot be done.
fn repositories(text: &str, table: &Spanned<DeTable<'_>>, file: &ConfigFile) -> Vec<Problem> {
    let places = table.get_ref().get("repository").and_then(|value| value.get_ref().as_array());
    let places = places.into_iter().flatten().map(|value| value.span().start);
    let wrong = file.repository.iter().zip(places).filter_map(|(own, at)| Some((own.wants().err()?, at)));
    wrong.map(|(why, at)| problem(text, at, why, None)).collect()
}

/// Where the value of a key begins, in bytes.
fn place(table: &DeTable<'_>, path: &[&str]) -> usize {
    let Some((first, rest)) = path.split_first() else { return 0 };
    let Some(value) = table.get(*first) else { return 0 };
    let inner = value.get_ref().as_table().filter(|_| !rest.is_empty());
    inner.map_or_else(|| value.span().start, |inner| place(inner, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(usize, usize, String, Option<String>)> {
        problems(text).into_iter().map(|it| (it.line, it.column, it.message, it.help)).collect()
    }

    /// Protects people from mending a file once for each thing that is wrong with it.
    #[test]
    fn everything_that_is_wrong_is_named_at_once_with_its_place() {
        let text = "max_taks = 3\noutput_mib = 0\n\n[log]\nfile = \"relative\"\nfiels = 2\n\n[nonsense]\nx = 1\n";
        let told = told(text);
        let places: Vec<_> = told.iter().map(|(line, column, ..)| (*line, *column)).collect();
        assert_eq!(places, [(1, 1), (2, 14), (5, 8), (6, 1), (8, 2)], "{told:#?}");
        assert_eq!(told[0].2, "`max_taks` is no setting");
        assert_eq!(told[0].3.as_deref(), Some("did you mean `max_tasks`?"));
        assert!(told[1].2.contains("from 1 to 1048576"), "{told:#?}");
        assert_eq!(told[3].3.as_deref(), Some("did you mean `files`?"));
        assert_eq!(told[4].3, None, "nothing is like it");
    }

    #[test]
    fn what_is_no_toml_is_named_by_its_lines() {
        let told = told("server = \nagent = 'shell'\nx = [1, \n");
        assert_eq!(told.first().map(|(line, ..)| *line), Some(1), "{told:#?}");
    }

    #[test]
    fn what_can_be_read_and_not_be_meant_is_named_too() {
        let told = told(
            "server = 'ftp://h'\nagent = 'nobody'\n[notify]\nwebhook = 'ftp://h'\n[metrics]\nlisten = '0.0.0.0:1'\n",
        );
        let places: Vec<_> = told.iter().map(|(line, column, ..)| (*line, *column)).collect();
        assert_eq!(places, [(1, 10), (2, 9), (4, 11), (6, 10)], "{told:#?}");
    }

    #[test]
    fn what_cannot_be_wanted_of_a_repository_is_named_with_the_place_of_its_table() {
        let text = "[[repository]]\nurl = '/a'\nsetup = ['make']\n\n[[repository]]\nurl = '/b'\nsparse = ['../c']\n";
        let told = told(text);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].0 == 5 && told[0].2.contains("`../c`"), "{told:#?}");
        assert!(problems("[[repository]]\nurl = '/a'\nsteup = []\n")[0].message.contains("steup"));
    }

    #[test]
    fn a_file_that_is_in_order_has_no_problems_and_neither_has_an_empty_one() {
        let text = "server = 'wss://h'\nmax_tasks = 3\n[agent]\nname = 'shell'\nenv = { A = 'b' }\n[log]\nfiles = 3\n";
        assert_eq!(problems(text), []);
        assert_eq!(problems(""), []);
    }
}
