//! What users say to an agent that does not listen yet.

use alloc::collections::VecDeque;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Messages in order, bounded in number and size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Mailbox {
    messages: VecDeque<String>,
    bytes: usize,
}

impl Mailbox {
    /// Takes a message. False where it does not fit.
    pub(crate) fn push(&mut self, message: String) -> bool {
        let bytes = self.bytes.saturating_add(message.len());
        let fits = self.messages.len() < limits::MESSAGES && bytes <= limits::MESSAGE_BYTES;
        if fits {
            self.bytes = bytes;
            self.messages.push_back(message);
        }
        fits
    }

    pub(crate) fn pop(&mut self) -> Option<String> {
        let message = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len());
        Some(message)
    }

    /// Throws away what is left, and says how many that were.
    pub(crate) fn clear(&mut self) -> usize {
        self.bytes = 0;
        self.messages.drain(..).count()
    }
}
