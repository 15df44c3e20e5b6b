//! Effects that wait until what they stand on is written down for good.

use alloc::collections::VecDeque;

use crate::effect::Effect;

/// Effects in their order, each with the step that has to be in the journal before.
///
/// Architecture invariant: whoever carries effects out takes them through here, the binary and the simulator alike.
#[derive(Clone, Debug, Default)]
pub struct Held(VecDeque<(u64, Effect)>);

impl Held {
    /// Takes an effect of step `n`. Gives it back where it waits for nothing.
    pub fn take(&mut self, n: u64, effect: Effect) -> Option<Effect> {
        let stands_on = match self.0.back() {
            _ if effect.waits_for_the_journal() => n,
            // For no more than the one before it: nobody would ever flush the journal for its own step.
            Some((before, _)) if effect.keeps_its_place() => *before,
            Some(_) | None => return Some(effect),
        };
        self.0.push_back((stands_on, effect));
        None
    }

    /// The next effect that may be carried out, where steps up to `flushed` are written down for good. A journal in
    /// `trouble` holds up nothing; but what it does not have is not acknowledged, and told again later.
    pub fn let_go(&mut self, flushed: u64, trouble: bool) -> Option<Effect> {
        while let Some((n, effect)) = self.0.pop_front_if(|(n, _)| *n <= flushed || trouble) {
            if n <= flushed || !effect.is_acknowledgement() {
                return Some(effect);
            }
        }
        None
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use uuid::Uuid;

    use super::*;
    use crate::effect::{LinkEffect, Work};
    use crate::id::{EffectId, Epoch, TaskId};
    use crate::protocol::Said;

    fn work(work: Work) -> Effect {
        let id = EffectId { incarnation: 1, n: 1 };
        Effect::Work { id, task: TaskId(Uuid::nil()), work }
    }

    fn ping() -> Effect {
        Effect::Link(LinkEffect::Ping { epoch: Epoch(1), n: 7 })
    }

    fn ack() -> Effect {
        Effect::Link(LinkEffect::Say { epoch: Epoch(1), n: 8, said: Said::Ack(1) })
    }

    fn all(held: &mut Held, flushed: u64, trouble: bool) -> Vec<Effect> {
        core::iter::from_fn(|| held.let_go(flushed, trouble)).collect()
    }

    /// Protects frames from waiting for a flush that nobody asks for, and from going out of order.
    #[test]
    fn what_stands_behind_another_goes_with_it() {
        let mut held = Held::default();
        assert_eq!(held.take(1, ping()), Some(ping()));
        assert_eq!(held.take(2, work(Work::Empty)), None);
        assert_eq!(held.take(3, ping()), None);
        assert_eq!(held.take(3, work(Work::Read { from: 0 })), Some(work(Work::Read { from: 0 })));
        assert_eq!(held.take(4, ack()), None);
        assert_eq!(held.take(5, ping()), None);
        assert_eq!((held.len(), held.is_empty()), (4, false));
        assert_eq!(all(&mut held, 1, false), []);
        assert_eq!(all(&mut held, 2, false), [work(Work::Empty), ping()]);
        assert_eq!(all(&mut held, 3, false), []);
        assert_eq!(all(&mut held, 4, false), [ack(), ping()]);
    }

    /// Protects the server from being told that something is applied which a crash would undo.
    #[test]
    fn a_journal_in_trouble_holds_nothing_up_and_acknowledges_nothing() {
        let mut held = Held::default();
        assert_eq!(held.take(1, ack()), None);
        assert_eq!(held.take(2, work(Work::Empty)), None);
        assert_eq!(held.take(2, ack()), None);
        assert_eq!(all(&mut held, 1, true), [ack(), work(Work::Empty)]);
        assert!(held.is_empty());
    }
}
