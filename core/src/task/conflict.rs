//! A conflict that nobody resolves: people are told of it, and no more once somebody has.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::cx::Cx;
use crate::effect::{Merge, Work};
use crate::id::EffectId;
use crate::input::{Merging, Outcome};
use crate::limits;
use crate::policy::cut;
use crate::time::Millis;

/// A merge under way with files in conflict.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Conflict {
    files: Vec<String>,
    /// When it is looked at whether they still are.
    look: Millis,
    /// That is being looked at.
    asked: Option<EffectId>,
    /// They were for long.
    lasts: bool,
}

impl Conflict {
    /// How a merge stands was told: whether there is one, and since when, is known from that.
    pub(super) fn after(known: Option<Self>, merging: &Merging, now: Millis) -> Option<Self> {
        match merging {
            Merging::Open { conflicts, .. } if !conflicts.is_empty() => {
                let new = Self { files: Vec::new(), look: now + limits::CONFLICT, asked: None, lasts: false };
                Some(Self { files: conflicts.clone(), ..known.unwrap_or(new) })
            }
            Merging::Open { .. } | Merging::Nothing | Merging::Already | Merging::Committed(_) | Merging::Aborted => {
                None
            }
            Merging::NoBranch | Merging::InTheWay(_) | Merging::Busy(_) | Merging::NoConflict | Merging::Skipped => {
                known
            }
        }
    }

    /// When it is looked at.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.asked.is_none().then_some(self.look)
    }

    /// Looks at it, if it is time.
    pub(super) fn due(&mut self, cx: &mut Cx<'_>) {
        if self.asked.is_none() && self.look <= cx.now {
            self.asked = Some(cx.work(Work::Merge(Merge::Status)));
        }
    }

    /// It was looked at: what is left of it. None where that effect is of something else.
    pub(super) fn answered(&mut self, id: EffectId, outcome: &Outcome, now: Millis) -> Option<Option<Self>> {
        self.asked.take_if(|asked| *asked == id)?;
        let known = Self { look: now + limits::CONFLICT, lasts: true, ..self.clone() };
        // Perhaps it can be seen another time.
        let Outcome::Merging(merging) = outcome else { return Some(Some(known)) };
        Some(Self::after(Some(known), merging, now))
    }

    /// The daemon has a new life: nobody answers what the one before has asked.
    pub(super) const fn recover(&mut self) {
        self.asked = None;
    }

    /// What a person is needed for.
    pub(super) fn needs(&self) -> Option<String> {
        let files = self.files.join("`, `");
        self.lasts.then(|| cut(&format!("a conflict that nobody resolves, in `{files}`"), limits::REASON))
    }
}
