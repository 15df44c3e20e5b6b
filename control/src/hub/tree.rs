//! Trees of tasks: who is below whom, and what a task that leads others may ask for.
//!
//! A parent is what was said when a task came, by whomever. So it may be a task that never came, and where people say it two
//! may be each other's: whoever climbs or descends minds where it was.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::protocol::SpawnTask;
use makima_core::time::Millis;
use uuid::Uuid;

use super::task::{Life, Task};
use super::{Answer, Effect, Hub};

/// How much tasks may ask for by their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The depth of the deepest subtask; a task of people's has 0.
    pub max_depth: i32,
    /// Tasks below the root of a tree, those that have ended too.
    pub max_subtasks: usize,
    /// What all tasks of a tree may have cost by their agents' account when one more is asked for, in millionths of a
    /// dollar; none where it does not matter.
    pub max_cost: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_depth: 3, max_subtasks: 64, max_cost: None }
    }
}

/// How a task stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// It is that task.
    Itself,
    /// It is a child of it, or of one below it.
    Below,
    /// It is not there, or elsewhere.
    Neither,
}

/// Who is whose child, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Children(BTreeMap<Uuid, BTreeMap<u64, Uuid>>);

impl Children {
    pub(super) fn add(&mut self, parent: Uuid, seq: u64, child: Uuid) {
        self.0.entry(parent).or_default().insert(seq, child);
    }

    fn of(&self, parent: Uuid) -> impl Iterator<Item = (u64, Uuid)> {
        self.0.get(&parent).into_iter().flatten().map(|(seq, child)| (*seq, *child))
    }

    pub(super) fn has(&self, parent: Uuid, seq: u64, child: Uuid) -> bool {
        self.0.get(&parent).and_then(|children| children.get(&seq)) == Some(&child)
    }
}

/// What a task asks for, as a subtask of it: where it goes and what is done with its work follows from the task that asks.
#[must_use]
pub fn subtask(asked: SpawnTask, of: &SpawnTask) -> SpawnTask {
    SpawnTask {
        parent_task_id: Some(of.task_id),
        depth: of.depth.saturating_add(1),
        // With its credentials: the daemon needs them for this one as well.
        repo_url: of.repo_url.clone(),
        // It is for its parent to merge.
        completion_action: Some("none".to_owned()),
        target_branch: None,
        target_repo_path: None,
        continue_from_task_id: None,
        ..asked
    }
}

impl Hub {
    /// How `task` stands to `of`.
    #[must_use]
    pub fn kin(&self, task: Uuid, of: Uuid) -> Kin {
        if task == of {
            return if self.tasks.contains_key(&task) { Kin::Itself } else { Kin::Neither };
        }
        if self.ancestors(task).any(|ancestor| ancestor == of) { Kin::Below } else { Kin::Neither }
    }

    /// The children of a task, oldest first.
    #[must_use]
    pub fn children(&self, parent: Uuid) -> Vec<Uuid> {
        self.children.of(parent).map(|(_, child)| child).collect()
    }

    /// Every task below one, oldest first.
    #[must_use]
    pub fn below(&self, top: Uuid) -> Vec<Uuid> {
        let mut found = BTreeMap::new();
        let mut open = vec![top];
        while let Some(parent) = open.pop() {
            for (seq, child) in self.children.of(parent).filter(|(_, child)| *child != top) {
                if found.insert(seq, child).is_none() {
                    open.push(child);
                }
            }
        }
        found.into_values().collect()
    }

    /// Whether a task has ended; one that is not there has.
    #[must_use]
    pub fn has_ended(&self, task: Uuid) -> bool {
        self.tasks.get(&task).is_none_or(|task| matches!(task.life, Life::Ended { .. }))
    }

    /// Its parent, that one's, and so on, each once.
    fn ancestors(&self, task: Uuid) -> impl Iterator<Item = Uuid> {
        let mut seen = BTreeSet::from([task]);
        let parent = |of: Uuid| self.tasks.get(&of).and_then(|task| task.parent);
        std::iter::successors(parent(task), move |of| parent(*of)).take_while(move |ancestor| seen.insert(*ancestor))
    }

    /// A task that has a key asks for one below it. (One that is there already is known, whatever the bounds.)
    pub(super) fn delegate(
        &mut self,
        now: Millis,
        parent: Uuid,
        asked: SpawnTask,
        after: Vec<Uuid>,
        bounds: Bounds,
        out: &mut Vec<Effect>,
    ) -> Answer {
        // Whom somebody has named as a parent already would bring that one's tasks below this one.
        if self.tasks.contains_key(&asked.task_id) || self.children.of(asked.task_id).next().is_some() {
            return Answer::Known;
        }
        let of = match self.tasks.get(&parent).map(|task| &task.life) {
            None => return Answer::NoSuchTask,
            Some(Life::Ended { .. }) => return Answer::Ended,
            Some(Life::Waiting { spawn, .. } | Life::Assigned { spawn, .. }) => spawn,
        };
        let spawn = subtask(asked, of);
        if after.contains(&spawn.task_id) {
            return Answer::NeedsItself;
        }
        if let Some(need) = after.iter().find(|need| self.kin(**need, parent) != Kin::Below) {
            return Answer::NoSuchNeed(*need);
        }
        if let Some(refusal) = self.refuses_more(parent, spawn.depth, bounds) {
            return refusal;
        }
        self.create(now, Box::new(spawn), after, out)
    }

    /// Whether a tree is as large as it may be.
    fn refuses_more(&self, parent: Uuid, depth: i32, bounds: Bounds) -> Option<Answer> {
        if depth > bounds.max_depth {
            return Some(Answer::TooDeep);
        }
        let there = |task: &Uuid| self.tasks.contains_key(task);
        let root = self.ancestors(parent).filter(there).last().unwrap_or(parent);
        let below = self.below(root);
        if below.len() >= bounds.max_subtasks {
            return Some(Answer::TooManySubtasks);
        }
        let cost = |task: &Uuid| self.tasks.get(task).map_or(0, |task: &Task| task.cost);
        let sum = below.iter().chain([&root]).map(cost).fold(0_u64, u64::saturating_add);
        bounds.max_cost.filter(|most| sum >= *most).map(|_| Answer::OverBudget)
    }

    /// Says where a tree contradicts itself.
    pub(super) fn check_trees(&self) -> Result<(), String> {
        let lost = self
            .tasks
            .iter()
            .find(|(id, task)| task.parent.is_some_and(|parent| !self.children.has(parent, task.seq, **id)));
        if let Some((id, _)) = lost {
            return Err(format!("task {id} is no child of its parent's"));
        }
        let live = |id: &Uuid| self.tasks.get(id).is_some_and(|task| matches!(task.life, Life::Assigned { .. }));
        match self.keys.tasks().find(|id| !live(id)) {
            Some(id) => Err(format!("task {id} has a key, and is under way nowhere")),
            None => Ok(()),
        }
    }
}
