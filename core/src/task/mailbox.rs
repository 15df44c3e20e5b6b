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
            let last = if bug!(MessageNumberUsedAgain) { self.messages.len() as u64 } else { self.last };
            self.last = last.saturating_add(1);
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const fn id(n: u64) -> EffectId {
        EffectId { incarnation: 1, n }
    }

    /// Sends all that waits, by effects that are numbered from `first` on: what is sent, with its numbers.
    fn sent(mailbox: &mut Mailbox, first: u64) -> Vec<(u64, String)> {
        let mut sent = Vec::new();
        // Bounded, so that a mailbox that never runs dry fails here.
        for effect in (first..).take(10) {
            let send = |n, text: &str| {
                sent.push((n, text.into()));
                id(effect)
            };
            if !mailbox.send(send) {
                return sent;
            }
        }
        panic!("there is always more: {sent:?}")
    }

    /// Protects a message from being sent twice, under another number, or not at all.
    #[test]
    fn what_is_not_known_to_have_arrived_is_sent_again_under_its_number() {
        let mut mailbox = Mailbox::default();
        assert!(!mailbox.has_waiting());
        assert!(mailbox.push("one".into()) && mailbox.push("two".into()) && mailbox.push("three".into()));
        assert_eq!(sent(&mut mailbox, 1), [(1, "one".into()), (2, "two".into()), (3, "three".into())]);
        assert!(!mailbox.has_waiting());
        assert!(mailbox.answered(id(2)), "it was a message's");
        assert!(!mailbox.answered(id(2)) && !mailbox.answered(id(9)), "it is no message's any more, or never was");
        assert_eq!(mailbox.len(), 2);
        mailbox.unsend();
        assert!(mailbox.has_waiting());
        assert!(mailbox.push("four".into()));
        assert_eq!(sent(&mut mailbox, 4), [(1, "one".into()), (3, "three".into()), (4, "four".into())]);
    }

    /// Protects what is on its way from being taken for what waits.
    #[test]
    fn only_what_waits_is_thrown_away() {
        let mut mailbox = Mailbox::default();
        let full = "x".repeat(limits::MESSAGE_BYTES - 3);
        assert!(mailbox.push("one".into()));
        assert_eq!(sent(&mut mailbox, 1).len(), 1);
        assert!(mailbox.push(full.clone()) && mailbox.push(String::new()));
        assert_eq!((mailbox.clear(), mailbox.len(), mailbox.has_waiting()), (2, 1, false));
        assert!(!mailbox.push("x".repeat(limits::MESSAGE_BYTES - 2)), "what is on its way takes up room");
        assert!(mailbox.push(full), "what was thrown away does not");
    }

    /// Protects the daemon's memory; and a task from a box that is full for good.
    #[test]
    fn messages_are_bounded_in_number_and_in_size() {
        let mut mailbox = Mailbox::default();
        assert!((0..limits::MESSAGES).all(|_| mailbox.push(String::new())));
        assert!(!mailbox.push(String::new()), "one too many");
        assert_eq!(mailbox.len(), limits::MESSAGES);
        let mut mailbox = Mailbox::default();
        assert!(mailbox.push("x".repeat(limits::MESSAGE_BYTES)) && !mailbox.push("x".into()), "one byte too many");
        assert_eq!(sent(&mut mailbox, 1).len(), 1);
        assert!(mailbox.answered(id(1)) && mailbox.push("x".repeat(limits::MESSAGE_BYTES)), "there is room again");
    }
}
