//! What the machine's git does with branches: enough of it to be asked about merges.

use std::collections::BTreeMap;

use makima_core::effect::{Child, Merge, Source};
use makima_core::id::TaskId;
use makima_core::input::{Branch, Merging, Outcome};
use makima_core::policy::BranchName;

use super::begin::FILE;
use super::machine::Machine;

/// The merges in one worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Merges {
    /// The one under way.
    open: Option<Open>,
    /// What was merged.
    merged: Vec<String>,
    /// The newest commit of a merge.
    newest: Option<String>,
    skipped: BTreeMap<TaskId, String>,
    /// Whether the task might complete, each time that somebody looked.
    pub(super) gates: Vec<Gate>,
}

/// Whether a task may complete: branches in the way, those that are merged, and those that are not meant to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) can_complete: bool,
    pub(super) unmerged: Vec<String>,
    pub(super) merged: usize,
    pub(super) skipped: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    source: String,
    conflicts: Vec<String>,
}

impl Merges {
    pub(super) fn skipped(&self) -> Vec<(TaskId, String)> {
        self.skipped.iter().map(|(id, why)| (*id, why.clone())).collect()
    }

    /// Whether the task may complete as it stands, with these branches.
    fn gate(&self, list: &[Branch]) -> Gate {
        let is_skipped = |branch: &&Branch| branch.task.is_some_and(|task| self.skipped.contains_key(&task));
        let (merged, open): (Vec<&Branch>, Vec<&Branch>) = list.iter().partition(|branch| branch.merged);
        let (skipped, unmerged): (Vec<&Branch>, Vec<&Branch>) = open.into_iter().partition(is_skipped);
        Gate {
            can_complete: unmerged.is_empty() && self.open.is_none(),
            unmerged: unmerged.into_iter().map(|branch| branch.name.clone()).collect(),
            merged: merged.len(),
            skipped: skipped.len(),
        }
    }

    /// The agent has ended: what was under way is committed as it is.
    pub(super) fn close(&mut self) {
        self.open = None;
    }
}

impl Machine {
    /// How many files of the merge under way in a task's worktree wait to be settled; none where none is under way, or
    /// there is no worktree.
    pub(crate) fn conflicts(&self, task: TaskId) -> Option<usize> {
        let folder = self.folder(task).filter(|_| self.has_worktree(task))?;
        folder.merges.open.as_ref().map(|open| open.conflicts.len())
    }

    /// A step of a merge in the worktree of `task`.
    pub(crate) fn merge(&mut self, task: TaskId, merge: Merge) -> Outcome {
        if !self.has_worktree(task) {
            return Outcome::Failed("there is no worktree".to_string());
        }
        Outcome::Merging(match merge {
            Merge::List { children } => {
                let list: Vec<_> = children.iter().map(|child| self.branch(task, child)).collect();
                let merges = self.merges(task);
                merges.gates.push(merges.gate(&list));
                return Outcome::Branches { list, merging: merges.open.is_some() };
            }
            Merge::Start { source } => match self.begin(task, source) {
                Ok(merging) => merging,
                Err(why) => return Outcome::Failed(why),
            },
            Merge::Status => self.stand(task),
            Merge::Resolve { file, .. } => match &mut self.merges(task).open {
                None => Merging::Nothing,
                Some(open) if !open.conflicts.contains(&file) => Merging::NoConflict,
                Some(open) => {
                    open.conflicts.retain(|other| *other != file);
                    self.stand(task)
                }
            },
            Merge::Commit { .. } => self.commit_merge(task),
            Merge::Abort => match self.merges(task).open.take() {
                None => Merging::Nothing,
                Some(_) => Merging::Aborted,
            },
            Merge::Skip { child: Child { branch: None, .. }, .. } => Merging::NoBranch,
            Merge::Skip { child, reason } => {
                self.merges(task).skipped.insert(child.task, reason);
                Merging::Skipped
            }
        })
    }

    fn branch(&mut self, task: TaskId, child: &Child) -> Branch {
        let name = child.branch.as_ref().map(BranchName::to_string).unwrap_or_default();
        let same = self.has_the_same(task, child.task);
        let changed = self.has_work(child.task);
        let here = !changed || same || self.merges(task).merged.contains(&name);
        let merged = child.ended && here && !self.is_dirty(child.task);
        Branch { name, task: Some(child.task), merged, commit: String::new(), subject: String::new() }
    }

    /// Whether its commit has just what the subtask's has: as a squash leaves it.
    fn has_the_same(&self, task: TaskId, child: TaskId) -> bool {
        let text = |task| self.folder(task).filter(|folder| folder.committed).and_then(|folder| folder.text);
        text(task).is_some_and(|own| text(child) == Some(own))
    }

    pub(crate) fn is_dirty(&self, task: TaskId) -> bool {
        self.folder(task).is_some_and(|folder| folder.dirty)
    }

    fn begin(&mut self, task: TaskId, source: Source) -> Result<Merging, String> {
        let (name, work) = match source {
            Source::Child(Child { branch: None, .. }) => (String::new(), None),
            Source::Child(child) => {
                assert!(child.ended, "{} is merged before it has ended", child.task);
                let name = child.branch.map(|branch| branch.to_string()).unwrap_or_default();
                let has_work = self.has_work(child.task);
                if self.is_dirty(child.task) && !has_work {
                    return Err("its work is in no commit".to_string());
                }
                (name, Some(has_work && !self.has_the_same(task, child.task)))
            }
            Source::Branch(name) => (name, None),
        };
        let dirty = self.is_dirty(task);
        let merges = self.merges(task);
        Ok(match &merges.open {
            Some(open) if open.source != name => Merging::Busy(Some(open.source.clone())),
            Some(_) => self.stand(task),
            None if merges.merged.contains(&name) || work == Some(false) => Merging::Already,
            None if work.is_none() => Merging::NoBranch,
            None if dirty => Merging::InTheWay(vec![FILE.to_string()]),
            None => {
                let conflicts = if name.ends_with(['1', '3', '5', '7']) { vec![FILE.to_string()] } else { Vec::new() };
                merges.open = Some(Open { source: name, conflicts });
                self.stand(task)
            }
        })
    }

    fn stand(&mut self, task: TaskId) -> Merging {
        match &self.merges(task).open {
            Some(Open { source, conflicts }) => {
                Merging::Open { source: Some(source.clone()), conflicts: conflicts.clone() }
            }
            None => Merging::Nothing,
        }
    }

    fn commit_merge(&mut self, task: TaskId) -> Merging {
        let merges = self.merges(task);
        match merges.open.take_if(|open| open.conflicts.is_empty()) {
            Some(open) => {
                let commit = format!("merge-of-{}", open.source);
                merges.merged.push(open.source);
                merges.newest = Some(commit.clone());
                Merging::Committed(commit)
            }
            None if merges.open.is_some() => self.stand(task),
            // Twice is harmless.
            None => merges.newest.clone().map_or(Merging::Nothing, Merging::Committed),
        }
    }
}
