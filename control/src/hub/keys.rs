//! The keys of tasks that lead others: who shows one speaks for its task.
//!
//! A daemon tells of a key before the task's agent starts, and again in every session. So keys are nowhere but here: what is
//! lost with a server is there again with the daemon.

use std::collections::BTreeMap;
use std::fmt;

use makima_core::protocol::{RegisterToolKey, RevokeToolKey};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Answer, Hub};

/// Bytes of the longest key.
const KEY: usize = 256;

/// A key of each task that has one. They show themselves to nobody.
#[derive(Clone, Default)]
pub(super) struct Keys(BTreeMap<Uuid, String>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Whose this is, in a time that does not tell how much of which key was right.
    fn task_of(&self, shown: &str) -> Option<Uuid> {
        let same = |key: &String| bool::from(key.as_bytes().ct_eq(shown.as_bytes()));
        self.0.iter().fold(None, |found, (task, key)| if same(key) { Some(*task) } else { found })
    }

    pub(super) fn forget(&mut self, task: Uuid) {
        self.0.remove(&task);
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = &Uuid> {
        self.0.keys()
    }
}

impl Hub {
    /// The task that this is a key of.
    #[must_use]
    pub fn task_of_key(&self, shown: &str) -> Option<Uuid> {
        self.keys.task_of(shown)
    }

    /// A task's key is this one from now on.
    pub(super) fn register(&mut self, daemon: Uuid, body: RegisterToolKey) -> Answer {
        let id = body.task_id;
        if self.live(daemon, id).is_none() {
            return Answer::Ignored;
        }
        // One that anybody could show, or that would speak for two.
        let taken = self.keys.task_of(&body.key).is_some_and(|other| other != id);
        if body.key.is_empty() || body.key.len() > KEY || taken {
            self.ignored.unused = self.ignored.unused.saturating_add(1);
            return Answer::Ignored;
        }
        self.keys.0.insert(id, body.key);
        Answer::Done
    }

    /// A task's key is void.
    pub(super) fn revoke(&mut self, daemon: Uuid, body: &RevokeToolKey) -> Answer {
        if self.live(daemon, body.task_id).is_none() {
            return Answer::Ignored;
        }
        self.keys.forget(body.task_id);
        Answer::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects keys from logs, and tasks from keys that are nearly right.
    #[test]
    fn a_key_is_silent_and_exact() {
        let task = Uuid::from_u128(1);
        let keys = Keys(BTreeMap::from([(task, "hunter2".to_owned())]));
        assert!(!format!("{keys:?}").contains("hunter2"));
        assert_eq!(keys.task_of("hunter2"), Some(task));
        for wrong in ["", "hunter", "hunter22", "Hunter2", " hunter2"] {
            assert_eq!(keys.task_of(wrong), None, "{wrong}");
        }
    }
}
