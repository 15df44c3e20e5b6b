//! An orchestrator and its subtasks: it is told as each of them ends.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::cx::Cx;
use super::phase::Phase;
use super::spec::{End, Status};
use super::{Surroundings, Task};
use crate::agent::Sibling;
use crate::id::TaskId;
use crate::index::Index;
use crate::limits;
use crate::policy::BranchName;
use crate::time::Millis;

/// The subtasks of an orchestrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Brood {
    /// How many have not ended here.
    unended: usize,
    /// How many have, and the server does not know it yet.
    untold: usize,
}

impl Brood {
    pub(super) fn of(task: TaskId, index: &Index) -> Self {
        Self { unended: index.unended_children(task), untold: index.untold_children(task) }
    }

    /// Whether some of them are at work.
    pub(super) const fn is_at_work(self) -> bool {
        self.unended > 0
    }
}

/// What may be on its way to an orchestrator: subtasks that its agent has asked the server for, and those that begin after
/// another's end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Follows {
    /// It has done something that others may follow.
    since: Millis,
    /// They are here by then, unless the server is away.
    until: Millis,
    /// It was.
    away: bool,
}

impl Follows {
    /// From now on; none where the task leads nobody.
    pub(super) fn from_now(cx: &Cx<'_>) -> Option<Self> {
        cx.brood.map(|_| Self { since: cx.now, until: cx.now + limits::FOLLOWS, away: false })
    }

    /// When it is looked at again.
    pub(super) const fn deadline(&self) -> Millis {
        self.until
    }

    /// What is left of it by now.
    pub(super) fn left(self, cx: &Cx<'_>) -> Option<Self> {
        if self.until > cx.now {
            return Some(self);
        }
        let away = !cx.live || cx.brood.is_some_and(|brood| brood.untold > 0);
        let goes_on = (away || self.away) && cx.now < self.since + limits::FOLLOWS_AT_LAST;
        goes_on.then(|| Self { until: cx.now + limits::FOLLOWS, away, ..self })
    }
}

/// A subtask that has ended.
pub(crate) struct Subtask {
    id: TaskId,
    branch: BranchName,
    news: Sibling,
}

impl Task {
    /// Its end, for the task that it is a subtask of.
    pub(crate) fn news_for_its_parent(&self) -> Option<(TaskId, Subtask)> {
        let parent = self.spec.parent?;
        let Phase::Ended(End { status, error, .. }) = &self.phase else { return None };
        let status = Status::from(*status).as_str().to_string();
        let news = Sibling { name: self.spec.name.clone(), status, summary: error.clone(), files: Vec::new() };
        Some((parent, Subtask { id: self.spec.id, branch: self.spec.branch.clone(), news }))
    }

    /// A subtask of its has ended. An agent that has turns begins another with that; a script is told nothing unasked.
    pub(crate) fn subtask_ended(&mut self, subtask: &Subtask, s: &mut Surroundings<'_>) {
        if !self.spec.orchestrator || bug!(NobodyIsWoken) {
            return;
        }
        let left = s.index.unended_children(self.spec.id);
        let more = [
            ("task", subtask.id.to_string()),
            ("branch", subtask.branch.to_string()),
            ("subtasks still at work", left.to_string()),
        ];
        let news = subtask.news.told_as("a subtask of yours that has ended", &more);
        let (old, was_ended) = (self.phase.status(), self.has_ended());
        let (phase, is_told) = self.within(s, |mut phase, _, cx| {
            let is_told = phase.dialog().map(|dialog| dialog.subtask_ended(subtask.id, &news, cx)).is_some();
            (phase, is_told)
        });
        self.phase = phase;
        if is_told {
            self.changed(old, was_ended, s);
        }
    }
}
