//! What a task needs a person for. It stands beside the status: the wire has no field for it, so it is told as a step of a
//! fixed form, which servers of ours read back.

use alloc::string::{String, ToString as _};

/// How a step begins that says what a person is needed for.
pub const NEEDED: &str = "needs a person: ";

/// The step that says that none is needed any more.
pub const NOBODY: &str = "needs nobody any more";

/// How it begins where an agent waits for an answer; the question's number follows.
pub const QUESTION: &str = "question ";

/// The step that tells it.
#[must_use]
pub fn told(what: Option<&str>) -> String {
    what.map_or_else(|| NOBODY.to_string(), |what| String::from(NEEDED) + what)
}

/// What a step says of it: none where it is about something else, none inside where nobody is needed any more.
#[must_use]
pub fn read(step: &str) -> Option<Option<&str>> {
    if step == NOBODY { Some(None) } else { step.strip_prefix(NEEDED).map(Some) }
}

/// The number of the question that a person is needed for, if it is one.
#[must_use]
pub fn question(what: &str) -> Option<u64> {
    let (number, _) = what.strip_prefix(QUESTION)?.split_once(':')?;
    number.parse().ok()
}

/// How a question goes on that people choose an answer to.
pub const CHOOSE: &str = "choose: ";

/// Whether a person is needed to choose something.
#[must_use]
pub fn is_choice(what: &str) -> bool {
    let of = what.strip_prefix(QUESTION).and_then(|rest| rest.split_once(": "));
    of.is_some_and(|(_, asked)| asked.starts_with(CHOOSE))
}

/// How many things people are to choose, where they are: as far as that can be told, as what is asked may have brackets of its
/// own.
#[must_use]
pub fn choices(what: &str) -> Option<usize> {
    let ends = |(at, _): &(usize, &str)| matches!(what.as_bytes().get(at.saturating_add(1)), None | Some(b' '));
    is_choice(what).then(|| what.match_indices(']').filter(ends).count())
}

/// How it goes on behind the number of a question that was answered without the choice that it wants.
pub(crate) const WANTS_A_CHOICE: &str = "wants a choice";

/// The same of one that was answered with a choice, and wants a verdict.
pub(crate) const WANTS_A_VERDICT: &str = "is one to allow or to deny";

/// Whether a step says that an answer to this question was none, so that it waits still; and how many things are to be
/// chosen, where that was why.
#[must_use]
pub fn refused(step: &str, number: u64) -> Option<Option<usize>> {
    if let Some(rest) = step.strip_prefix("it asks ") {
        let (count, _) = rest.split_once(" things: ")?;
        return count.parse().ok().map(Some);
    }
    let (of, why) = step.strip_prefix(QUESTION)?.split_once(' ')?;
    let waits = [WANTS_A_CHOICE, WANTS_A_VERDICT].iter().any(|begin| why.starts_with(begin));
    (waits && of.parse() == Ok(number)).then_some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects whoever waits for an answer: what the daemon tells is what a server reads.
    #[test]
    fn what_is_told_is_read() {
        for what in [Some("question 3: Bash: ls"), None] {
            assert_eq!(read(&told(what)), Some(what));
        }
        assert_eq!(read("agent: needs a person: x"), None);
        assert_eq!(question("question 3: Bash: ls"), Some(3));
        assert!(is_choice("question 3: choose: Which? [A]") && !is_choice("question 3: Bash: choose: x"));
        for other in ["a usage limit", "question x: y", "question 3"] {
            assert_eq!(question(other), None, "{other}");
        }
    }

    /// Protects people's own words, which may have commas in them, from being taken for several.
    #[test]
    fn what_is_to_be_chosen_is_counted() {
        assert_eq!(choices("question 3: choose: Which? [A | B]"), Some(1));
        assert_eq!(choices("question 3: choose: Which? [A | B] When? [] (and 1 more)"), Some(2));
        assert_eq!(choices("question 3: choose: What of x[0]? [A | B]"), Some(1));
        assert_eq!(choices("question 3: Bash: [ -e x ] && ls"), None);
    }
}
