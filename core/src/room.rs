//! What has ended makes room where the user has set a bound for what is kept, before its time has come: the oldest first,
//! and only what was handed over and is in commits that stay. It goes into the trash like anything else; what lies there
//! for this reason leaves it for good at a later look, if there is still too much.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Work};
use crate::id::TaskId;
use crate::input::Weighed;
use crate::notice::Notice;
use crate::step::Step;

/// So many tasks are asked about at once.
const AT_ONCE: usize = 1_000;

/// How much more there is than may be, and who may make room, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Room {
    over: u64,
    candidates: VecDeque<Candidate>,
}

/// A task that may make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) task: TaskId,
    /// So much.
    pub(crate) bytes: u64,
    /// By leaving the trash, as it is there for this.
    pub(crate) in_trash: bool,
}

impl Candidate {
    pub(crate) const fn work(&self) -> Work {
        if self.in_trash { Work::Purge } else { Work::Spare }
    }
}

impl Room {
    /// Who is to make room now; nobody where there is enough.
    pub(crate) fn next(&mut self) -> Option<Candidate> {
        if self.over == 0 {
            self.candidates.clear();
        }
        self.candidates.pop_front()
    }

    /// That one has made room, or begun to.
    pub(crate) const fn made(&mut self, candidate: Candidate) {
        self.over = self.over.saturating_sub(candidate.bytes);
    }

    /// There is too much and nobody is left to make room: how much, said once.
    pub(crate) fn is_wanting(&mut self) -> Option<u64> {
        let wanting = self.over > 0 && self.candidates.is_empty();
        wanting.then(|| core::mem::take(&mut self.over))
    }
}

impl Step<'_> {
    /// What lies there is to be weighed, and what of it could go.
    pub(crate) fn weigh(&self) -> Work {
        Work::Weigh { tasks: self.candidates().into_iter().map(|(task, _)| task).collect() }
    }

    /// It was weighed: who is to make room, if that has to be.
    pub(crate) fn weighed(&mut self, weighed: &Weighed) {
        let Some(bound) = self.daemon.config.keep.disk else { return };
        let bytes = |task: &TaskId| weighed.tasks.iter().find(|(of, _)| of == task).map_or(0, |(_, bytes)| *bytes);
        let candidates = self.candidates().into_iter();
        let candidates = candidates.map(|(task, in_trash)| Candidate { task, bytes: bytes(&task), in_trash });
        let candidates = candidates.filter(|candidate| candidate.bytes > 0).collect();
        self.daemon.core.retention.room = Room { over: weighed.all.saturating_sub(bound), candidates };
    }

    /// Says so where there is still too much.
    pub(crate) fn tell_of_room(&mut self) {
        if let Some(over) = self.daemon.core.retention.room.is_wanting() {
            self.out.push(Effect::Tell(Notice::NoMoreRoom { over }));
        }
    }

    /// Who may make room, and whether by leaving the trash: those first, as they are at their end, then the oldest.
    fn candidates(&self) -> Vec<(TaskId, bool)> {
        let free = self.free().into_iter();
        let tasks = free.filter_map(|id| self.daemon.tasks.get(&id)).filter(|task| task.is_handed_over());
        let mut found: Vec<_> = tasks.filter_map(|task| Some((task.room()?, task.id()))).collect();
        found.sort_unstable();
        found.into_iter().map(|((staying, _), id)| (id, !staying)).take(AT_ONCE).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn room(over: u64, bytes: &[u64]) -> Room {
        let candidate = |(n, bytes)| Candidate { task: TaskId(Uuid::from_u128(n)), bytes, in_trash: false };
        Room { over, candidates: (1..).zip(bytes.iter().copied()).map(candidate).collect() }
    }

    fn made(mut room: Room) -> (Vec<u64>, Option<u64>) {
        let mut went = Vec::new();
        while let Some(candidate) = room.next() {
            went.push(candidate.bytes);
            room.made(candidate);
        }
        (went, room.is_wanting())
    }

    #[test]
    fn no_more_goes_than_has_to() {
        assert_eq!(made(room(0, &[5, 5])), (Vec::new(), None));
        assert_eq!(made(room(5, &[5, 5])), ([5].to_vec(), None));
        assert_eq!(made(room(6, &[5, 5, 5])), ([5, 5].to_vec(), None));
    }

    #[test]
    fn where_too_little_goes_it_is_said_once() {
        let mut room = room(7, &[5]);
        assert_eq!(room.is_wanting(), None, "somebody is left");
        let candidate = room.next().expect("somebody");
        room.made(candidate);
        assert_eq!((room.next(), room.is_wanting(), room.is_wanting()), (None, Some(2), None));
    }
}
