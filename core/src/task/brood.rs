//! An orchestrator and its subtasks: it is told as each of them ends.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::phase::Phase;
use super::spec::{End, Status};
use super::{Surroundings, Task};
use crate::agent::Sibling;
use crate::id::TaskId;
use crate::policy::BranchName;

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
        if bug!(NobodyIsWoken) {
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
            let is_told = phase.dialog().map(|dialog| dialog.subtask_ended(&news, cx)).is_some();
            (phase, is_told)
        });
        self.phase = phase;
        if is_told {
            self.changed(old, was_ended, s);
        }
    }
}
