//! Stopping an agent where it stands and letting it go on: what is wanted, and what has been done about it.

use alloc::format;

use serde::{Deserialize, Serialize};

use super::cx::{Cx, Wait};
use super::prepare::{given_up, reason};
use crate::effect::Work;
use crate::id::EffectId;
use crate::input::Outcome;
use crate::limits;
use crate::time::Millis;
use crate::view::TaskState;

/// Whether a tree is stopped, and what is under way about it. What is wanted stands in the task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Pace {
    stands: Stands,
    /// A freeze where it does not stand, else a thaw.
    under_way: Option<(Wait, Wanted)>,
    /// It could not be let go on: when that is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    again: Option<Millis>,
}

/// Whether the tree stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Stands {
    #[default]
    No,
    /// Something was tried and not done, or by an earlier life of the daemon.
    Perhaps,
    /// It did when an earlier life of the daemon knew last.
    Supposedly,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Wanted {
    Frozen,
    Going,
}

impl Pace {
    /// That of a tree which an earlier life of the daemon may have stopped.
    pub(super) fn unknown() -> Self {
        Self { stands: Stands::Perhaps, ..Self::default() }
    }

    /// The daemon has a new life. What was under way may have been done or not; and so may what that life asked for
    /// after the last that is known of it.
    pub(super) fn recover(self) -> Self {
        if bug!(StandsAsBefore) {
            return Self { stands: self.stands, ..Self::default() };
        }
        if self.is_frozen() && self.under_way.is_none() {
            return Self { stands: Stands::Supposedly, ..Self::default() };
        }
        Self::unknown()
    }

    /// Whether it is known to be neither stopped nor about to be.
    pub(super) fn is_going(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it stands still, as far as is known.
    pub(super) const fn is_frozen(&self) -> bool {
        matches!(self.stands, Stands::Yes | Stands::Supposedly)
    }

    pub(super) const fn at(&self) -> TaskState {
        match (&self.under_way, self.stands) {
            (Some((_, Wanted::Frozen)), _) => TaskState::Pausing,
            (Some((_, Wanted::Going)), _) | (None, Stands::Perhaps) => TaskState::Resuming,
            (None, Stands::Yes | Stands::Supposedly) => TaskState::Paused,
            (None, Stands::No) => TaskState::Running,
        }
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.under_way.as_ref().map(|(wait, _)| wait.due).or(self.again)
    }

    /// Does the next thing to what is wanted.
    pub(super) fn steer(&mut self, cx: &mut Cx<'_>) {
        if self.under_way.is_some() || !*cx.hold && self.again.is_some_and(|again| cx.now < again) {
            return;
        }
        self.under_way = match (self.stands, *cx.hold) {
            (Stands::Yes, true) | (Stands::No, false) => None,
            (Stands::No | Stands::Perhaps | Stands::Supposedly, true) => {
                Some((cx.wait(Work::Freeze, limits::FREEZE), Wanted::Frozen))
            }
            (Stands::Yes | Stands::Perhaps | Stands::Supposedly, false) => {
                Some((cx.wait(Work::Thaw, limits::FREEZE), Wanted::Going))
            }
        };
    }

    /// An effect was answered. True where it was the one that is under way here.
    pub(super) fn answered(&mut self, id: EffectId, outcome: &Outcome, cx: &mut Cx<'_>) -> bool {
        let Some((_, wanted)) = self.under_way.take_if(|(wait, _)| wait.id == id) else { return false };
        let done = *outcome == Outcome::Done;
        self.stands = match (wanted, done, self.stands) {
            (Wanted::Frozen, true, _) => Stands::Yes,
            // Some of it may stand.
            (Wanted::Frozen, false, _) => Stands::Perhaps,
            (Wanted::Going, false, _) if bug!(ThawTakenForDone) => Stands::No,
            (Wanted::Going, true, _) => Stands::No,
            (Wanted::Going, false, stands) => stands,
        };
        let before = self.again.take();
        if !done {
            let why = reason(outcome.clone());
            // As it stands is how it stays, until somebody asks again.
            *cx.hold = self.is_frozen();
            match wanted {
                Wanted::Frozen => cx.progress(format!("the agent could not be paused: {why}")),
                Wanted::Going => {
                    // Nobody knows that one stands which is told to be running: nobody but us lets it go on.
                    self.again = (!*cx.hold).then(|| cx.now + limits::FREEZE);
                    if before.is_none() {
                        cx.progress(format!("the agent could not be let go on: {why}"));
                    }
                }
            }
        }
        self.steer(cx);
        true
    }

    /// Time has passed.
    pub(super) fn due(&mut self, cx: &mut Cx<'_>) {
        let Some((wait, _)) = &mut self.under_way else { return self.steer(cx) };
        if wait.overdue(cx) {
            let id = wait.id;
            // Whoever does not answer may do it yet.
            if !bug!(ThawIsUndone) {
                self.stands = Stands::Perhaps;
            }
            self.answered(id, &given_up(), cx);
        }
    }
}
