//! A person's answer to an agent's question. The wire has no command for it, so it comes as a message of a fixed form.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// How such a message begins.
const BEGIN: &str = "makima-answer ";

/// A person's answer to an agent's question.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// The number of the question.
    pub question: u64,
    /// What it is.
    pub verdict: Verdict,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not, and perhaps why.
    Deny(Option<String>),
    /// What was chosen: to each thing that was asked an answer.
    Choose(Vec<String>),
}

impl Answer {
    /// Reads a message; none where it is no answer.
    #[must_use]
    pub fn read(message: &str) -> Option<Self> {
        serde_json::from_str(message.strip_prefix(BEGIN)?).ok()
    }

    /// The message that says it.
    #[must_use]
    pub fn write(&self) -> String {
        // Numbers and texts only: this can always be written.
        String::from(BEGIN) + &serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    /// Protects answers from being told to an agent as words, and words from being taken for answers.
    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let verdicts = [
            Verdict::Allow,
            Verdict::Deny(None),
            Verdict::Deny(Some("not\n\"that\"".to_string())),
            Verdict::Choose(Vec::from(["Red".to_string()])),
        ];
        for verdict in verdicts {
            let answer = Answer { question: 3, verdict };
            assert_eq!(Answer::read(&answer.write()), Some(answer));
        }
        assert_eq!(Answer::read(r#"makima-answer {"question":3,"verdict":"allow"}"#).map(|it| it.question), Some(3));
        for other in ["", "makima-answer", "makima-answer yes", r#"{"question":3,"verdict":"allow"}"#] {
            assert_eq!(Answer::read(other), None, "{other}");
        }
    }
}
