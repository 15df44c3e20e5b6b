//! What tasks with one parent are told of each other.

use makima_core::agent::OF_THE_AGENT;
use makima_core::cost::cost_so_far;
use makima_core::protocol::InjectSiblingContext;
use uuid::Uuid;

use super::task::{Life, Task};
use super::{Effect, End, Hub};

/// How a step begins that says what was committed.
pub(crate) const COMMITTED: &str = "committed ";

/// Whether a step is one that only an agent with turns gives.
pub(crate) fn talks(step: &str) -> bool {
    OF_THE_AGENT.iter().any(|begin| step.starts_with(begin))
}

impl Task {
    /// A step was told. Some are of a fixed form, and are read.
    pub(super) fn heed(&mut self, summary: &str) {
        self.talks |= talks(summary);
        self.cost = cost_so_far(summary).unwrap_or(self.cost);
        if summary.starts_with(COMMITTED) {
            self.committed = Some(summary.to_owned());
        }
    }
}

impl Hub {
    /// A task has ended like this: those with the same parent that are under way are told. One that takes no more just now
    /// is not: that is nothing to fail at. Nor is one whose agent has no turns: a script reads lines for what it asks for itself.
    pub(super) fn tell_siblings(&mut self, id: Uuid, end: &End, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.talks = false;
        let Some(parent) = task.parent else { return };
        let progress_summary = task.committed.take().or_else(|| end.error.clone());
        let name = task.name.clone();
        for sibling in self.children(parent) {
            let under_way = |task: &Task| task.talks && matches!(task.life, Life::Assigned { .. });
            if sibling == id || !self.tasks.get(&sibling).is_some_and(under_way) {
                continue;
            }
            let context = InjectSiblingContext {
                task_id: sibling,
                sibling_task_id: id,
                sibling_name: name.clone(),
                sibling_status: end.status.clone(),
                progress_summary: progress_summary.clone(),
                changed_files: Vec::new(),
            };
            let _ = self.tell(sibling, Box::new(context.into()), out);
        }
    }
}
