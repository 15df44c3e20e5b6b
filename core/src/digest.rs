//! A pinned hash of the core's state: two runs that are given the same inputs have the same digest at every
//! step, on every machine.

use alloc::collections::{BTreeMap, BTreeSet};
use core::hash::{Hash, Hasher};

use crate::id::TaskId;
use crate::rng::mix;
use crate::task::Task;

/// The hash of one part of the state.
pub(crate) fn of(part: &impl Hash) -> u64 {
    let mut hasher = Fold(0x6d61_6b69_6d61_0001);
    part.hash(&mut hasher);
    hasher.finish()
}

/// The digests of the tasks, kept so that their sum costs what has changed and not what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    each: BTreeMap<TaskId, u64>,
    /// Tasks that may have changed since they were hashed.
    stale: BTreeSet<TaskId>,
    sum: u64,
}

impl Digests {
    /// A task may have changed.
    pub(crate) fn changed(&mut self, id: TaskId) {
        self.stale.insert(id);
    }

    /// The digest of all tasks, of which only those are hashed that may have changed.
    pub(crate) fn of(&mut self, tasks: &BTreeMap<TaskId, Task>) -> u64 {
        while let Some(id) = self.stale.pop_first() {
            let new = tasks.get(&id).map(|task| of_task(id, task));
            let old = match new {
                Some(new) => self.each.insert(id, new),
                None => self.each.remove(&id),
            };
            self.sum = self.sum.wrapping_sub(old.unwrap_or(0)).wrapping_add(new.unwrap_or(0));
        }
        self.sum
    }

    /// What must hold between any two steps: whoever is not known to have changed has not.
    pub(crate) fn check(&self, tasks: &BTreeMap<TaskId, Task>) {
        let forgotten = self.each.iter().filter(|(id, _)| !tasks.contains_key(id) && self.stale.contains(id));
        let mut sum = forgotten.fold(0_u64, |sum, (_, own)| sum.wrapping_add(*own));
        for (id, task) in tasks {
            let own = self.each.get(id).copied();
            sum = sum.wrapping_add(own.unwrap_or(0));
            assert!(
                self.stale.contains(id) || own == Some(of_task(*id, task)),
                "task {id} has changed, and its digest does not know"
            );
        }
        assert!(sum == self.sum, "the digests are not those of the tasks that there are");
    }
}

/// The digest of all tasks, computed from each of them.
pub(crate) fn anew(tasks: &BTreeMap<TaskId, Task>) -> u64 {
    tasks.iter().fold(0, |sum, (id, task)| sum.wrapping_add(of_task(*id, task)))
}

fn of_task(id: TaskId, task: &Task) -> u64 {
    of(&(id, task))
}

/// One word at a time; lengths and discriminants are 64 bits wide everywhere.
struct Fold(u64);

impl Fold {
    const fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
    }
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let tail = rest.iter().rev().fold(0_u64, |tail, byte| (tail << 8) | u64::from(*byte));
        // The length keeps a short tail apart from one that ends in zeros.
        self.word(tail ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, n: u8) {
        self.word(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.word(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.word(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.word(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.word(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.word(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;
    use alloc::vec;

    use super::of;

    /// Recordings hold digests: what they are made of must not change unseen.
    #[test]
    fn digests_are_pinned() {
        assert_eq!(of(&7_u64), 0x11f0_0351_8501_b86e);
        assert_eq!(of(&("a text of some length", Some(2_u32), [1_u8, 2, 3], true)), 0x9344_bb04_2298_2410);
    }

    #[test]
    fn alike_things_have_digests_of_their_own() {
        let texts = [("", ""), ("a", ""), ("", "a"), ("ab", "c"), ("a", "bc"), ("\0", ""), ("\0\0", "")];
        let mut seen: BTreeSet<u64> = texts.iter().map(of).collect();
        seen.extend([of(&None::<u64>), of(&Some(0_u64)), of(&Some(1_u64)), of(&vec![0_u8; 8]), of(&vec![0_u8; 9])]);
        assert_eq!(seen.len(), texts.len() + 5);
        assert_eq!(of(&"text"), of(&"text".to_string()), "what is hashed counts, not how it is held");
    }
}
