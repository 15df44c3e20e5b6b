//! Asks a person at the terminal what an agent wants to know.

use std::io::IsTerminal as _;

use makima_core::agent::{Answer, Verdict};
use makima_core::needs;

use super::keyboard::Keyboard;

/// Whoever sits at the terminal, if anybody does.
pub(super) struct Asker {
    /// Whether there is anybody.
    is_there: bool,
    /// What is typed, from the first question on.
    typed: Option<Keyboard>,
    /// What waits for an answer.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    question: u64,
    /// How many things are to be chosen; none where it is one to allow or to deny.
    things: Option<usize>,
    /// An answer is on its way, and what became of it is not known.
    is_answered: bool,
}

impl Asker {
    /// At the terminal of this process, where it has one.
    pub(super) fn here() -> Self {
        Self { is_there: is_somebody_there(), typed: None, open: None }
    }

    /// Nobody.
    pub(super) const fn nobody() -> Self {
        Self { is_there: false, typed: None, open: None }
    }

    /// A task needs a person for this, which people have been shown, or for nothing. How that one is asked to answer, where there
    /// is somebody.
    pub(super) fn needs(&mut self, what: Option<&str>) -> Option<&'static str> {
        let asked = what.filter(|_| self.is_there).and_then(|what| Some((needs::question(what)?, what)));
        let Some((question, what)) = asked else {
            self.open = None;
            return None;
        };
        let known = self.open.filter(|open| open.question == question);
        if known.is_some_and(|open| open.is_answered) {
            return None;
        }
        // That others wait behind it is no new question: what is being typed is for this one.
        if known.is_none() {
            self.open = Some(Open { question, things: needs::choices(what), is_answered: false });
            self.forget();
        }
        self.how()
    }

    /// How people are told to answer.
    fn how(&self) -> Option<&'static str> {
        Some(match self.open?.things {
            None => "answer: y(es), n(o), or why not",
            Some(0 | 1) => "answer: its name or number, or other words",
            Some(_) => "answer each by its name or number, or other words, with commas between",
        })
    }

    /// What was typed before a question was there to be read is no answer to it.
    fn forget(&mut self) {
        match &mut self.typed {
            Some(typed) => typed.forget(),
            None => self.typed = Keyboard::here(),
        }
    }

    /// An answer did not get there, or was none: it is asked again. How, where it waits still.
    pub(super) fn again(&mut self) -> Option<&'static str> {
        self.open.as_mut()?.is_answered = false;
        self.forget();
        self.how()
    }

    /// A step of the task may say that an answer was none. How it is asked again, then.
    pub(super) fn refused(&mut self, step: &str) -> Option<&'static str> {
        let open = self.open.as_mut().filter(|open| open.is_answered)?;
        let things = needs::refused(step, open.question)?;
        open.things = things.or(open.things);
        self.again()
    }

    /// Whether an answer is waited for.
    pub(super) fn waits(&self) -> bool {
        self.open.is_some_and(|open| !open.is_answered) && self.typed.is_some()
    }

    /// The next line that is typed; none for ever where nobody types any more.
    pub(super) async fn line(&mut self) -> String {
        match &mut self.typed {
            Some(typed) => typed.line().await,
            None => std::future::pending().await,
        }
    }

    /// What that line answers to what is open; none where it says nothing.
    pub(super) fn answer(&mut self, line: &str) -> Option<Answer> {
        let open = self.open.as_mut().filter(|open| !open.is_answered)?;
        let verdict = verdict(line.trim(), open.things)?;
        open.is_answered = true;
        Some(Answer { question: open.question, verdict })
    }
}

/// Whether somebody sits at a terminal and can be asked.
pub(super) fn is_somebody_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn verdict(line: &str, things: Option<usize>) -> Option<Verdict> {
    if line.is_empty() {
        return None;
    }
    if let Some(things) = things {
        // A comma is one of the words, unless there are as many things to choose as it makes.
        let parts: Vec<String> = line.split(',').map(|word| word.trim().to_owned()).collect();
        return Some(Verdict::Choose(if parts.len() == things { parts } else { vec![line.to_owned()] }));
    }
    Some(match line.to_ascii_lowercase().as_str() {
        "y" | "yes" | "allow" => Verdict::Allow,
        "n" | "no" | "deny" => Verdict::Deny(None),
        _ => Verdict::Deny(Some(line.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker { is_there: true, typed: None, open: None }
    }

    fn chosen(words: &[&str]) -> Option<Verdict> {
        Some(Verdict::Choose(words.iter().map(|word| (*word).to_owned()).collect()))
    }

    /// Protects people from allowing what they did not read, and from an empty line that says yes.
    #[test]
    fn what_is_typed_answers_what_is_open() {
        let mut asker = asker();
        assert_eq!(asker.answer("y"), None, "nothing is asked");
        assert!(asker.needs(Some("question 3: Bash: ls")).is_some_and(|how| how.starts_with("answer: y(es)")));
        assert_eq!(asker.answer(" "), None);
        assert_eq!(asker.answer("Yes"), Some(Answer { question: 3, verdict: Verdict::Allow }));
        assert_eq!(asker.answer("y"), None, "once");
        assert_eq!(asker.needs(Some("question 3: Bash: ls (and 1 more)")), None, "its answer is on its way");
        asker.needs(Some("question 4: Bash: ls"));
        let why = Some(Answer { question: 4, verdict: Verdict::Deny(Some("use rg".to_owned())) });
        assert_eq!(asker.answer("use rg"), why);
        asker.needs(Some("question 6: Bash: ls"));
        asker.needs(None);
        assert_eq!(asker.answer("y"), None, "it is answered by somebody else");
        assert_eq!(asker.needs(Some("a usage limit is reached")), None);
        assert_eq!(Asker::nobody().needs(Some("question 3: Bash: ls")), None);
    }

    /// Protects a choice in somebody's own words, which may have commas in them.
    #[test]
    fn commas_divide_what_several_things_are_asked_for() {
        let mut asker = asker();
        let mut answer = |asked: &str, line: &str| {
            asker.needs(Some(asked));
            asker.answer(line).map(|answer| answer.verdict)
        };
        let one = "question 5: choose: Which? [tokio | smol]";
        assert_eq!(answer(one, "tokio, not async-std"), chosen(&["tokio, not async-std"]));
        let two = "question 6: choose: Which? [tokio | smol] When? [now | later] (and 1 more)";
        assert_eq!(answer(two, "smol, 2"), chosen(&["smol", "2"]));
        let brackets = "question 7: choose: Which [of these]? [tokio | smol]";
        assert_eq!(answer(brackets, "tokio, not smol, of course"), chosen(&["tokio, not smol, of course"]));
    }

    /// Protects people from a terminal that takes no answer any more.
    #[test]
    fn what_was_no_answer_is_asked_again() {
        let mut asker = asker();
        asker.needs(Some("question 5: choose: Which [x] one? [tokio | smol]"));
        assert_eq!(asker.answer("tokio, now").map(|it| it.verdict), chosen(&["tokio", "now"]));
        assert_eq!(asker.refused("agent: it asks 1 things"), None, "another step");
        assert!(asker.refused("it asks 1 things: Which [x] one? [tokio | smol]").is_some());
        assert_eq!(asker.answer("tokio, now").map(|it| it.verdict), chosen(&["tokio, now"]));
        assert!(asker.again().is_some(), "it did not get there");
        assert!(asker.answer("2").is_some());
        asker.needs(None);
        assert_eq!((asker.again(), asker.refused("it asks 1 things: x")), (None, None));
    }
}
