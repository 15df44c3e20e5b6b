//! A talk with an agent that tells how it gets on: what is heard of it, and what is said to it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Answer, Result};
use super::{acp, claude};
use crate::time::Millis;

/// What was heard of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// For people.
    Tell(String),
    /// This is to be said to it, as it stands.
    Say(String),
    /// A user's message has come so far. Its name is the agent's word, and may be none of ours.
    Message { name: Uuid, state: Progress },
    /// A turn is over, and all users' messages with it that were taken up before.
    TurnOver {
        /// Whether it went well.
        well: bool,
    },
    /// How it did is settled, whatever it would still say: it has failed for good, or was asked to end by somebody else.
    Settled(Result),
    /// Its turn failed by what may pass. Always before the end of that turn.
    Trouble(String),
    /// Its turn failed, as its user may use no more of its model before this moment, since 1970. Always before the end of that
    /// turn.
    Limit { until: Millis },
    /// It asks something under this number, and waits for a person's answer.
    Asks(u64),
    /// It has broken off what it did, and there are no words by which it could be asked to end.
    Through,
    /// A line that could not be read.
    Unreadable(String),
}

/// How far a user's message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The agent works on it.
    Seen,
    /// The agent is done with it.
    Over,
    /// The agent has put it away, and will not take it up.
    Dropped,
}

/// A talk with an agent that tells how it gets on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Talk {
    Claude(claude::Talk),
    Acp(acp::Talk),
}

impl Talk {
    /// What is said first, before anything is heard.
    pub(crate) fn opening(&self) -> String {
        match self {
            Self::Claude(_) => claude::Talk::opening(),
            Self::Acp(_) => acp::Talk::opening(),
        }
    }

    /// A line that it said.
    pub(crate) fn hear(&mut self, line: &str) -> Vec<Heard> {
        match self {
            Self::Claude(talk) => talk.hear(line),
            Self::Acp(talk) => talk.hear(line),
        }
    }

    /// The head of a line that was too long: who waits for an answer to it gets one.
    pub(crate) fn hear_head(&self, head: &str) -> Vec<Heard> {
        let (line, wants) = match self {
            Self::Claude(talk) => (talk.hear_head(head), "Claude Code"),
            Self::Acp(talk) => (talk.hear_head(head), "the agent"),
        };
        let told = || Heard::Tell(format!("{wants} asks with more words than can be read, and is told so"));
        line.into_iter().flat_map(|line| [Heard::Say(line), told()]).collect()
    }

    /// Whether it takes users' messages: it is ready, and was not asked to end.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Claude(talk) => talk.is_open(),
            Self::Acp(talk) => talk.is_open(),
        }
    }

    /// A user's message, as it reads them.
    pub(crate) fn message(&mut self, text: &str, name: Uuid) -> String {
        match self {
            Self::Claude(_) => claude::Talk::message(text, name),
            Self::Acp(talk) => talk.message(text, name),
        }
    }

    /// How it did, where it has nothing more to do by its own account; none while it works.
    pub(crate) fn done(&self) -> Option<Result> {
        match self {
            Self::Claude(talk) => talk.done(),
            Self::Acp(talk) => talk.done(),
        }
    }

    /// It is to break off what it does, and then end. What is said to it for that, if there are words for it.
    pub(crate) fn break_off(&mut self) -> Vec<String> {
        match self {
            Self::Claude(talk) => Vec::from([talk.break_off()]),
            Self::Acp(talk) => talk.break_off(),
        }
    }

    /// Whether nothing of what was said before is known to it.
    pub(crate) const fn is_anew(&self) -> bool {
        match self {
            Self::Claude(_) => false,
            Self::Acp(talk) => talk.is_anew(),
        }
    }

    /// It has done its work and is to end. What is said to it for that, if there are words for it.
    pub(crate) fn close(&mut self) -> Option<String> {
        match self {
            Self::Claude(talk) => Some(talk.close()),
            Self::Acp(talk) => {
                talk.close();
                None
            }
        }
    }

    /// What it has cost so far, in millionths of a dollar, by its own account.
    pub(crate) const fn cost(&self) -> Option<u64> {
        match self {
            Self::Claude(talk) => talk.cost(),
            Self::Acp(talk) => talk.cost(),
        }
    }

    /// Whether it takes a message while it works on another.
    pub(crate) const fn takes_several(&self) -> bool {
        match self {
            Self::Claude(_) => true,
            Self::Acp(_) => false,
        }
    }

    /// Of this talk nothing is known but that so many lines were said to the agent.
    pub(crate) const fn was_begun(&mut self, lines: u64) {
        match self {
            Self::Claude(_) => {}
            Self::Acp(talk) => talk.was_begun(lines),
        }
    }

    /// How many lines come before the first message, once that is known.
    pub(crate) fn setup(&self) -> Option<u64> {
        match self {
            Self::Claude(_) => Some(1),
            Self::Acp(talk) => talk.setup(),
        }
    }

    /// All that it said before is heard.
    pub(crate) fn is_present(&mut self) -> Vec<Heard> {
        match self {
            Self::Claude(_) => Vec::new(),
            Self::Acp(talk) => talk.is_present(),
        }
    }

    /// Its own name for the conversation, where it makes that up.
    pub(crate) fn session(&self) -> Option<&str> {
        match self {
            Self::Claude(_) => None,
            Self::Acp(talk) => talk.session(),
        }
    }

    /// How it did, where it has ended by itself, as `how` says; `said` is the end of what it wrote to its standard error.
    pub(crate) fn ended(&self, how: &str, said: &str) -> Result {
        match self {
            Self::Claude(talk) => talk.ended(how, said),
            Self::Acp(talk) => talk.ended(how, said),
        }
    }

    /// What it has asked and waits for, for people.
    pub(crate) fn question(&self) -> Option<String> {
        match self {
            Self::Claude(talk) => talk.question(),
            Self::Acp(talk) => talk.question(),
        }
    }

    /// A person answers.
    ///
    /// # Errors
    /// It waits for no such answer.
    pub(crate) fn answer(&mut self, answer: &Answer) -> core::result::Result<Vec<Heard>, String> {
        match self {
            Self::Claude(talk) => talk.answer(answer),
            Self::Acp(talk) => talk.answer(answer.question, &answer.verdict),
        }
    }

    /// Nobody is there who could answer that question.
    pub(crate) fn nobody_answers(&mut self, question: u64) -> Vec<Heard> {
        match self {
            Self::Claude(talk) => talk.nobody_answers(question),
            Self::Acp(talk) => talk.nobody_answers(question),
        }
    }

    /// Nobody is there who could answer anything that it has asked.
    pub(crate) fn nobody_answers_any(&mut self) -> Vec<Heard> {
        match self {
            Self::Claude(talk) => talk.nobody_answers_any(),
            Self::Acp(talk) => talk.nobody_answers_any(),
        }
    }

    /// Whether it is at work, and has nothing to do but to wait for its model.
    pub(crate) fn awaits_its_model(&self) -> bool {
        match self {
            Self::Claude(talk) => talk.awaits_its_model(),
            Self::Acp(talk) => talk.awaits_its_model(),
        }
    }

    /// Whether it is ready and not at work.
    pub(crate) fn is_at_rest(&self) -> bool {
        match self {
            Self::Claude(talk) => talk.is_at_rest(),
            Self::Acp(talk) => talk.is_at_rest(),
        }
    }

    /// Whether it lets something run behind the conversation, and is not at work itself.
    pub(crate) fn has_background(&self) -> bool {
        match self {
            Self::Claude(talk) => talk.has_background(),
            Self::Acp(_) => false,
        }
    }

    /// Whether it is about to come back to what has ended behind the conversation.
    pub(crate) fn returns(&self) -> bool {
        match self {
            Self::Claude(talk) => talk.returns(),
            Self::Acp(_) => false,
        }
    }

    /// What it lets run behind the conversation counts no more.
    pub(crate) fn forget_background(&mut self) {
        match self {
            Self::Claude(talk) => talk.forget_background(),
            Self::Acp(_) => {}
        }
    }
}
