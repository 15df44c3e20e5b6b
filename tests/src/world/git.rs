//! What the machine's git does with branches: enough of it to be asked about merges.

use std::collections::BTreeMap;

use makima_core::effect::{Child, Merge, Source};
use makima_core::id::TaskId;
use makima_core::input::{Branch, Merging, Outcome};
use makima_core::policy::BranchName;

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

    /// The agent has ended: what was under way is committed as it is.
    pub(super) fn close(&mut self) {
        self.open = None;
    }
}

impl Machine {
    /// A step of a merge in the worktree of `task`.
    pub(super) fn merge(&mut self, task: TaskId, merge: Merge) -> Outcome {
        if !self.has_worktree(task) {
            return Outcome::Failed("there is no worktree".to_string());
        }
        Outcome::Merging(match merge {
            Merge::List { children } => {
                let list = children.iter().map(|child| self.branch(task, child)).collect();
                return Outcome::Branches { list, merging: self.merges(task).open.is_some() };
            }
            Merge::Start { source } => self.begin(task, source),
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
        let changed = self.has_work(child.task);
        let merged = child.ended && (!changed || self.merges(task).merged.contains(&name));
        Branch { name, task: Some(child.task), merged, commit: String::new(), subject: String::new() }
    }

    fn begin(&mut self, task: TaskId, source: Source) -> Merging {
        let (name, here) = match source {
            Source::Child(child) => {
                assert!(child.ended, "{} is merged before it has ended", child.task);
                (child.branch.map(|branch| branch.to_string()).unwrap_or_default(), self.has_work(child.task))
            }
            Source::Branch(name) => (name, false),
        };
        let merges = self.merges(task);
        match &merges.open {
            Some(open) if open.source != name => Merging::Busy(Some(open.source.clone())),
            Some(_) => self.stand(task),
            None if merges.merged.contains(&name) => Merging::Already,
            None if !here => Merging::NoBranch,
            None => {
                let conflicts = if name.ends_with(['1', '3', '5', '7']) { vec!["x".to_string()] } else { Vec::new() };
                merges.open = Some(Open { source: name, conflicts });
                self.stand(task)
            }
        }
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
