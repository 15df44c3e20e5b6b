//! What Claude Code has asked and waits for.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::{Question, ToolEnd};
use super::write::{self, Verdict, answer};
use crate::agent;
use crate::agent::talk::Heard;
use crate::{limits, needs, policy};

/// Questions in the order in which they were asked, with their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Asked {
    open: Vec<(u64, Question)>,
    /// How many there were.
    count: u64,
}

/// What the model is told where nobody is there to be asked.
const NOBODY: &str = "Nobody can be asked. Do without it, or say in your last words what you would have needed it for.";

/// What it is told where a person does not say why.
const NO: &str = "The user does not want that.";

impl Asked {
    /// Whether people would read another one.
    pub(super) const fn has_room(&self) -> bool {
        self.open.len() < limits::QUESTIONS
    }

    /// It asks something, and people have to answer. Under which number.
    pub(super) fn ask(&mut self, question: Question) -> u64 {
        self.count = self.count.saturating_add(1);
        self.open.push((self.count, question));
        self.count
    }

    /// Takes back what it asked under this number, if it waits still.
    pub(super) fn take(&mut self, number: u64) -> Option<Question> {
        let at = self.open.iter().position(|(open, _)| *open == number)?;
        Some(self.open.remove(at).1)
    }

    /// Takes back all that it asked.
    pub(super) fn take_all(&mut self) -> Vec<Question> {
        mem::take(&mut self.open).into_iter().map(|(_, question)| question).collect()
    }

    /// It does not want to know that any more.
    pub(super) fn withdraw(&mut self, request: &str) {
        self.open.retain(|(_, question)| question.request != request);
    }

    /// These uses of tools are over: whatever was asked of them is settled, by whomever.
    pub(super) fn tools_ended(&mut self, ends: &[ToolEnd]) {
        self.open.retain(|(_, question)| !ends.iter().any(|end| end.id == question.of_use));
    }

    /// The turn is over, and nothing of it waits.
    pub(super) fn turn_over(&mut self) {
        self.open.clear();
    }

    /// What it waits for, for people: the first, and how many others there are.
    pub(super) fn first(&self) -> Option<String> {
        let (number, question) = self.open.first()?;
        let more = self.open.len().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Some(format!("{}{number}: {}{more}", needs::QUESTION, described(question)))
    }

    /// A person answers.
    ///
    /// # Errors
    /// Why that cannot be: it waits for no such answer.
    pub(super) fn answer(&mut self, number: u64, verdict: &agent::Verdict) -> Result<Vec<Heard>, String> {
        let at = self.open.iter().position(|(open, _)| *open == number);
        let (at, question) = at
            .and_then(|at| Some((at, &self.open.get(at)?.1)))
            .ok_or_else(|| format!("question {number} waits for no answer"))?;
        let (line, how) = match verdict {
            agent::Verdict::Allow if question.for_a_person => {
                return Err(format!("{}{number} {}: {}", needs::QUESTION, needs::WANTS_A_CHOICE, described(question)));
            }
            agent::Verdict::Allow => {
                // What goes back is taken at its word: not what is masked here. Versions that want it back deny that by themselves.
                let with = Some(question.input.as_str()).filter(|input| !input.contains(policy::MASK));
                let verdict = with.map_or(Verdict::Allow, |input| Verdict::With { input });
                (answer(&question.request, verdict), "allowed".to_string())
            }
            agent::Verdict::Deny(why) => {
                let told = Verdict::Deny { why: why.as_deref().unwrap_or(NO), interrupt: false };
                let because = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                (answer(&question.request, told), format!("denied{because}"))
            }
            agent::Verdict::Choose(chosen) => {
                let input = chosen_input(question, chosen)?;
                (answer(&question.request, Verdict::With { input: &input }), chosen.join(", "))
            }
        };
        self.open.remove(at);
        Ok(Vec::from([Heard::Say(line), Heard::Tell(format!("question {number}: {how}"))]))
    }
}

/// What it is told, and people, where there is nobody who could be asked.
pub(super) fn denied(question: &Question) -> Vec<Heard> {
    let line = answer(&question.request, Verdict::Deny { why: NOBODY, interrupt: false });
    Vec::from([Heard::Say(line), Heard::Tell(format!("denied, as its permissions are: {}", described(question)))])
}

/// What it asks, for people.
fn described(question: &Question) -> String {
    if question.for_a_person {
        let one = |(text, labels): (String, Vec<String>)| format!("{text} [{}]", labels.join(" | "));
        let all: Vec<String> = choices(&question.input).into_iter().map(one).collect();
        return needs::CHOOSE.to_string() + &all.join(" ");
    }
    match (question.tool.as_str(), question.about.as_str()) {
        (tool, "") => tool.to_string(),
        (tool, about) => format!("{tool}: {about}"),
    }
}

/// What a person is to choose between, by what a tool is to be used with.
fn choices(input: &str) -> Vec<(String, Vec<String>)> {
    let input: Value = serde_json::from_str(input).unwrap_or_default();
    let texts = |it: &Value, field: &str| it.get(field).and_then(Value::as_str).unwrap_or_default().to_string();
    let list = |it: &Value, field: &str| it.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let labels = |it: &Value| list(it, "options").iter().map(|option| texts(option, "label")).collect();
    list(&input, "questions").iter().map(|it| (texts(it, "question"), labels(it))).collect()
}

/// The input of a tool that asks a person, with what was chosen: one of the labels, by its name or its number, or other words.
fn chosen_input(question: &Question, chosen: &[String]) -> Result<String, String> {
    let asked = choices(&question.input);
    if asked.len() != chosen.len() {
        return Err(format!("it asks {} things: {}", asked.len(), described(question)));
    }
    let label = |labels: &[String], word: &str| {
        let nth = word.parse::<usize>().ok().and_then(|nth| nth.checked_sub(1));
        let named = labels.iter().find(|label| label.eq_ignore_ascii_case(word));
        named.or_else(|| labels.get(nth?)).cloned().unwrap_or_else(|| word.to_string())
    };
    let picked: Vec<(String, String)> =
        asked.into_iter().zip(chosen).map(|((text, labels), word)| (text, label(&labels, word.trim()))).collect();
    let pairs = picked.iter().map(|(text, label)| (text.as_str(), label.as_str()));
    write::answers(&question.input, pairs).ok_or_else(|| "it asks nothing to choose from".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(for_a_person: bool, input: &str) -> Question {
        let (request, tool) = ("q".to_string(), if for_a_person { "AskUserQuestion" } else { "Bash" }.to_string());
        let of_use = "u".to_string();
        Question { request, tool, of_use, about: "ls".to_string(), input: input.to_string(), for_a_person }
    }

    fn said(heard: Result<Vec<Heard>, String>) -> (String, String) {
        match heard.as_deref() {
            Ok([Heard::Say(line), Heard::Tell(told)]) => (line.clone(), told.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Protects an agent from an answer to another of its questions, and from a second one.
    #[test]
    fn each_question_gets_its_own_answer_once() {
        let mut asked = Asked::default();
        assert_eq!(asked.first(), None);
        assert_eq!((asked.ask(question(false, "{\"a\":1}")), asked.ask(question(false, "{}"))), (1, 2));
        assert_eq!(asked.first().as_deref(), Some("question 1: Bash: ls (and 1 more)"));
        let (line, told) = said(asked.answer(1, &agent::Verdict::Allow));
        assert!(line.contains(r#""behavior":"allow","updatedInput":{"a":1}"#), "{line}");
        assert_eq!(told, "question 1: allowed");
        assert_eq!(asked.answer(1, &agent::Verdict::Allow), Err("question 1 waits for no answer".to_string()));
        let (line, told) = said(asked.answer(2, &agent::Verdict::Deny(Some("too dear".to_string()))));
        assert!(line.contains(r#""behavior":"deny","message":"too dear""#), "{line}");
        assert_eq!((told.as_str(), asked.first()), ("question 2: denied: too dear", None));
        asked.ask(question(false, "{}"));
        asked.withdraw("another");
        assert!(asked.first().is_some());
        asked.withdraw("q");
        assert_eq!(asked.first(), None);
        // Somebody else has answered, of which nothing is known here.
        asked.ask(question(false, "{}"));
        asked.tools_ended(&[ToolEnd { id: "v".to_string(), failed: false }]);
        assert!(asked.first().is_some());
        asked.tools_ended(&[ToolEnd { id: "u".to_string(), failed: false }]);
        assert_eq!(asked.first(), None);
        asked.ask(question(false, "{}"));
        asked.turn_over();
        assert_eq!(asked.first(), None);
        // A secret is not known here, and its mask is nothing to be written into a file.
        let number = asked.ask(question(false, r#"{"content":"KEY=***"}"#));
        let (line, _) = said(asked.answer(number, &agent::Verdict::Allow));
        assert!(line.contains(r#"{"behavior":"allow"}"#), "it does what it asked for: {line}");
        for _ in 0..limits::QUESTIONS {
            assert!(asked.has_room());
            asked.ask(question(false, "{}"));
        }
        assert!(!asked.has_room(), "nobody would read more");
    }

    /// Protects what a person chooses.
    #[test]
    fn a_choice_is_one_of_the_labels_or_other_words() {
        let input = r#"{"questions":[{"question":"Which?","options":[{"label":"Red"},{"label":"Blue"}]}]}"#;
        let chosen = |word: &str| {
            let mut asked = Asked::default();
            asked.ask(question(true, input));
            assert_eq!(asked.first().as_deref(), Some("question 1: choose: Which? [Red | Blue]"));
            said(asked.answer(1, &agent::Verdict::Choose(Vec::from([word.to_string()])))).0
        };
        for (word, label) in [("red", "Red"), ("2", "Blue"), ("3", "3"), ("neither", "neither")] {
            assert!(chosen(word).contains(&format!(r#""answers":{{"Which?":"{label}"}}"#)), "{word}");
        }
        let mut asked = Asked::default();
        asked.ask(question(true, input));
        assert!(asked.answer(1, &agent::Verdict::Allow).unwrap_err().contains("wants a choice"));
        assert!(asked.answer(1, &agent::Verdict::Choose(Vec::new())).unwrap_err().contains("1 things"));
        assert!(asked.first().is_some(), "it waits still");
    }
}
