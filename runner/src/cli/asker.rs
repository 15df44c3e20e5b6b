//! Asks a person at the terminal what an agent wants to know.

use std::io::IsTerminal as _;

use makima_core::agent::{Answer, Verdict};
use makima_core::needs;
use tokio::sync::mpsc;

/// Whoever sits at the terminal, if anybody does.
pub(super) struct Asker {
    /// Whether there is anybody.
    is_there: bool,
    /// What is typed, from the first question on.
    typed: Option<mpsc::UnboundedReceiver<String>>,
    /// What waits for an answer.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    question: u64,
    is_choice: bool,
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

    /// A task needs a person for this, or for nothing. How that one is asked to answer, where there is somebody.
    pub(super) fn needs(&mut self, what: Option<&str>) -> Option<&'static str> {
        let question = what.and_then(needs::question).filter(|_| self.is_there);
        self.open = question.map(|question| Open { question, is_choice: what.is_some_and(needs::is_choice) });
        let open = self.open?;
        if self.typed.is_none() {
            self.typed = Some(read());
        }
        Some(if open.is_choice {
            "answer: its name or number, or other words; with commas between several"
        } else {
            "answer: y(es), n(o), or why not"
        })
    }

    /// Whether an answer is waited for.
    pub(super) const fn waits(&self) -> bool {
        self.open.is_some() && self.typed.is_some()
    }

    /// The next line that is typed; none for ever where nobody types any more.
    pub(super) async fn line(&mut self) -> String {
        match &mut self.typed {
            Some(typed) => match typed.recv().await {
                Some(line) => line,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// What that line answers to what is open; none where it says nothing.
    pub(super) fn answer(&mut self, line: &str) -> Option<Answer> {
        let open = self.open?;
        let verdict = verdict(line.trim(), open.is_choice)?;
        self.open = None;
        Some(Answer { question: open.question, verdict })
    }
}

/// Whether somebody sits at a terminal and can be asked.
pub(super) fn is_somebody_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn verdict(line: &str, is_choice: bool) -> Option<Verdict> {
    if line.is_empty() {
        return None;
    }
    if is_choice {
        return Some(Verdict::Choose(line.split(',').map(|word| word.trim().to_owned()).collect()));
    }
    Some(match line.to_ascii_lowercase().as_str() {
        "y" | "yes" | "allow" => Verdict::Allow,
        "n" | "no" | "deny" => Verdict::Deny(None),
        _ => Verdict::Deny(Some(line.to_owned())),
    })
}

/// Lines of stdin. Reading them cannot be called off: a thread of its own does it, as long as this process lives.
fn read() -> mpsc::UnboundedReceiver<String> {
    let (lines, typed) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects people from allowing what they did not read, and from an empty line that says yes.
    #[test]
    fn what_is_typed_answers_what_is_open() {
        let mut asker = Asker { is_there: true, typed: Some(mpsc::unbounded_channel().1), open: None };
        assert_eq!(asker.answer("y"), None, "nothing is asked");
        assert!(asker.needs(Some("question 3: Bash: ls")).is_some_and(|how| how.starts_with("answer: y(es)")));
        assert_eq!(asker.answer(" "), None);
        assert_eq!(asker.answer("Yes"), Some(Answer { question: 3, verdict: Verdict::Allow }));
        assert_eq!(asker.answer("y"), None, "once");
        asker.needs(Some("question 4: Bash: ls"));
        let why = Some(Answer { question: 4, verdict: Verdict::Deny(Some("use rg".to_owned())) });
        assert_eq!(asker.answer("use rg"), why);
        asker.needs(Some("question 5: choose: Which? [Red | Blue]"));
        let chosen = Verdict::Choose(vec!["red".to_owned(), "2".to_owned()]);
        assert_eq!(asker.answer("red, 2"), Some(Answer { question: 5, verdict: chosen }));
        asker.needs(Some("question 6: Bash: ls"));
        asker.needs(None);
        assert_eq!(asker.answer("y"), None, "it is answered by somebody else");
        assert_eq!(asker.needs(Some("a usage limit is reached")), None);
        assert_eq!(Asker::nobody().needs(Some("question 3: Bash: ls")), None);
    }
}
