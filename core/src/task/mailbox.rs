//! What users say to an agent: kept until it is known to have reached it, and numbered, so that it does so once.

use alloc::collections::VecDeque;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::EffectId;
use crate::limits;

/// Messages in order, bounded in number and size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Mailbox {
    messages: VecDeque<Message>,
    bytes: usize,
    /// The number of the newest.
    last: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Message {
    n: u64,
    text: String,
    /// The effect that brings it to the agent; none while it waits.
    sent: Option<EffectId>,
}

impl Mailbox {
    /// Takes a message. False where it does not fit.
    pub(crate) fn push(&mut self, text: String) -> bool {
        let bytes = self.bytes.saturating_add(text.len());
        let fits = self.messages.len() < limits::MESSAGES && bytes <= limits::MESSAGE_BYTES;
        if fits {
            self.bytes = bytes;
            self.last = self.last.saturating_add(1);
            self.messages.push_back(Message { n: self.last, text, sent: None });
        }
        fits
    }

    /// How many messages wait, or are on their way.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether any waits to be sent.
    pub(crate) fn has_waiting(&self) -> bool {
        self.messages.iter().any(|message| message.sent.is_none())
    }

    /// Has the next message that waits sent by `send`, which is given its number and text. False where none waits.
    pub(crate) fn send(&mut self, send: impl FnOnce(u64, &str) -> EffectId) -> bool {
        let Some(message) = self.messages.iter_mut().find(|message| message.sent.is_none()) else { return false };
        message.sent = Some(send(message.n, &message.text));
        true
    }

    /// That effect was answered. True where it was one of a message's, which is done with.
    pub(crate) fn answered(&mut self, id: EffectId) -> bool {
        let Some(at) = self.messages.iter().position(|message| message.sent == Some(id)) else { return false };
        if let Some(message) = self.messages.remove(at) {
            self.bytes = self.bytes.saturating_sub(message.text.len());
        }
        true
    }

    /// The daemon has a new life: what is not known to have reached the agent is sent again, under its number.
    pub(crate) fn unsend(&mut self) {
        self.messages.iter_mut().for_each(|message| message.sent = None);
    }

    /// Throws away what waits, and says how many that were.
    pub(crate) fn clear(&mut self) -> usize {
        let before = self.messages.len();
        self.messages.retain(|message| message.sent.is_some());
        self.bytes = self.messages.iter().map(|message| message.text.len()).sum();
        before.saturating_sub(self.messages.len())
    }
}
