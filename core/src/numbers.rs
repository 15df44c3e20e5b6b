//! Version 2 of the wire, both ways: the numbers that our messages bear, and the inbox that applies each of the
//! server's commands once. Both outlast the session, and the daemon.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::id::TaskId;
use crate::protocol::Hello;
use crate::rng::Rng;

/// Names of epochs stay below this: every reader of JSON can hold them.
const EPOCHS: u64 = 1 << 48;

/// The numbers of our own messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// Names this series; 0 until there is one.
    epoch: u64,
    /// The last number that the server is known to have applied.
    applied: u64,
    /// Whose messages bear the numbers behind it: a task's, or nobody's.
    owners: VecDeque<Option<TaskId>>,
}

impl Numbers {
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last number that was given.
    fn last(&self) -> u64 {
        self.applied.saturating_add(self.owners.len() as u64)
    }

    /// The number that the next message bears.
    pub(crate) fn next(&self) -> u64 {
        self.last().saturating_add(1)
    }

    /// It was given to a message of this task's.
    pub(crate) fn given(&mut self, owner: Option<TaskId>) {
        self.owners.push_back(owner);
    }

    /// Whether the series can go on from where the server says that it stands.
    pub(crate) fn go_on(&self, hello: &Hello) -> bool {
        (hello.of == self.epoch || bug!(SeriesOfAnother))
            && (self.applied..=self.last()).contains(&hello.applied)
            && self.epoch != 0
    }

    /// Begins anew: what was numbered and not applied has to be numbered again.
    pub(crate) fn renumber(&mut self, rng: &mut Rng) {
        let old = self.epoch;
        while self.epoch == old || self.epoch == 0 {
            self.epoch = rng.up_to(EPOCHS);
        }
        self.applied = 0;
        self.owners.clear();
    }

    /// The series is over: the same messages were told without numbers.
    pub(crate) fn drop_series(&mut self) {
        *self = Self::default();
    }

    /// The server has applied everything up to this number. Gives back whose those were that it had not before; none
    /// where it was never given.
    pub(crate) fn applied(&mut self, n: u64) -> Option<VecDeque<Option<TaskId>>> {
        if n > self.last() {
            return None;
        }
        let count = usize::try_from(n.saturating_sub(self.applied)).unwrap_or(usize::MAX);
        let count = if bug!(AckOfAll) { self.owners.len() } else { count.min(self.owners.len()) };
        let kept = self.owners.split_off(count);
        self.applied = self.applied.max(n);
        Some(core::mem::replace(&mut self.owners, kept))
    }

    /// The numbers that are not known to be applied, and whose they are.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u64, Option<TaskId>)> + '_ {
        (self.applied.saturating_add(1)..).zip(self.owners.iter().copied())
    }
}

/// What has been applied of the server's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Inbox {
    /// The server's series; 0 until there was one.
    epoch: u64,
    /// The last number of it that was applied.
    applied: u64,
    /// Whether the server has still to be told so.
    owes: bool,
    /// The journal cannot be written: nothing is acknowledged that could be forgotten.
    trouble: bool,
}

/// What becomes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is the next one: it is applied now.
    Next,
    /// It was applied before.
    Again,
    /// Something between is missing.
    Gap,
}

impl Inbox {
    /// The server says which series it is in. True where it is another one than before.
    pub(crate) fn greeted(&mut self, epoch: u64) -> bool {
        let other = epoch != self.epoch;
        if other {
            let applied = if bug!(SeriesAreMixed) { self.applied } else { 0 };
            *self = Self { epoch, applied, trouble: self.trouble, ..Self::default() };
        }
        other
    }

    /// How we stand, for our own greeting.
    pub(crate) const fn stand(&self) -> (u64, u64) {
        (self.epoch, self.applied)
    }

    /// A number came.
    pub(crate) const fn take(&mut self, n: u64) -> Turn {
        if n > self.applied.saturating_add(1) {
            return Turn::Gap;
        }
        self.owes = true;
        if n <= self.applied {
            return Turn::Again;
        }
        self.applied = n;
        Turn::Next
    }

    /// What is to be acknowledged, if anything is.
    pub(crate) const fn acknowledge(&mut self) -> Option<u64> {
        if !self.owes || self.trouble {
            return None;
        }
        self.owes = false;
        Some(self.applied)
    }

    /// Whether the journal cannot be written.
    pub(crate) const fn is_in_trouble(&self) -> bool {
        self.trouble
    }

    /// The journal cannot be written, or can again. What was about to be acknowledged is, once it can.
    pub(crate) const fn journal(&mut self, trouble: bool) {
        self.trouble = trouble;
        self.owes |= trouble;
    }
}
