//! The records in the folders of tasks as a journal tells of them: what must have been found when a life begins.

use std::collections::BTreeMap;

use makima_core::effect::{Merge, Work};
use makima_core::id::TaskId;
use makima_core::input::{Leftover, Merging, Outcome, Prepared, Stage};
use makima_core::task::{End, Spec};

/// What is known of all tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(BTreeMap<TaskId, Folder>);

/// What is known of the records of one task. What was asked for and not answered, or failed, may be there or not.
#[derive(Clone, Debug, Default)]
struct Folder {
    /// It is known from its beginning.
    whole: bool,
    /// What it is, where that is sure to be there.
    spec: Option<Spec>,
    /// It was taken on: it is not taken on again, and its end is its last.
    taken: bool,
    prepared: Option<Prepared>,
    /// A start was asked for.
    start: bool,
    /// It was made.
    started: bool,
    end: Option<End>,
    /// Ends that may be there.
    ends: Vec<End>,
    closed: bool,
    /// The output is sure to be known as handed over up to here.
    delivered: u64,
    skipped: BTreeMap<TaskId, String>,
    /// It may be gone.
    leaves: bool,
}

impl Disk {
    /// Something is asked for.
    pub(super) fn asked(&mut self, task: TaskId, work: &Work) {
        if matches!(work, Work::Accept { .. }) && !self.0.contains_key(&task) {
            self.0.insert(task, Folder { whole: true, ..Folder::default() });
        }
        let folder = self.0.entry(task).or_default();
        if matches!(work, Work::Accept { .. }) {
            // What stands there of an attempt that was not taken on goes first.
            folder.ends.extend(folder.end.take());
            folder.closed = false;
        } else if matches!(work, Work::Start(_)) {
            folder.start = true;
        } else if let Work::Conclude { end, .. } = work {
            folder.ends.push(end.clone());
        } else if let Work::Delivered { to } = work {
            folder.delivered = folder.delivered.min(*to);
        } else if matches!(work, Work::Forget) {
            folder.leaves = true;
        }
    }

    /// It is done.
    pub(super) fn done(&mut self, task: TaskId, work: &Work, outcome: &Outcome) -> Result<(), String> {
        let folder = self.0.entry(task).or_default();
        match (work, outcome) {
            (Work::Accept { spec }, Outcome::Done) => {
                folder.spec = Some((**spec).clone());
                folder.leaves = false;
                // Called off too late, it may have come behind the record of its end.
                folder.taken = folder.end.is_none();
                folder.ends = folder.end.take().into_iter().collect();
            }
            (Work::Prepare(_), Outcome::Prepared(prepared)) => folder.prepared = Some(prepared.clone()),
            (Work::Start(_), Outcome::Started { .. }) => {
                if folder.started {
                    return Err("an agent is started twice".to_owned());
                }
                folder.started = true;
            }
            (Work::Conclude { end, spec }, Outcome::Done) => {
                folder.end = Some(end.clone());
                folder.ends.clear();
                if let Some(spec) = spec {
                    folder.spec = Some((**spec).clone());
                }
            }
            (Work::Delivered { to }, Outcome::Done) => folder.delivered = *to,
            (Work::Close, Outcome::Done) => folder.closed = true,
            (Work::Forget, Outcome::Done) => drop(self.0.remove(&task)),
            (Work::Merge(Merge::Skip { child, reason }), Outcome::Merging(Merging::Skipped)) => {
                folder.skipped.insert(child.task, reason.clone());
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether what a life of the daemon finds is what was written down before.
    pub(super) fn finds(&self, leftovers: &[Leftover]) -> Result<(), String> {
        for (task, folder) in &self.0 {
            match leftovers.iter().find(|left| left.spec.id == *task) {
                Some(left) => folder.finds(left).map_err(|why| format!("what is found of {task}: {why}"))?,
                None if folder.spec.is_some() && !folder.leaves => {
                    return Err(format!("nothing is found of {task}, which was written down"));
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Folder {
    fn finds(&self, left: &Leftover) -> Result<(), String> {
        if let Some(spec) = &self.spec
            && *spec != left.spec
        {
            return Err(format!("it is {:?}, and was written down as {spec:?}", left.spec));
        }
        match (&left.stage, &self.end) {
            (Stage::Ended(found), Some(end)) if found != end && !self.ends.contains(found) => {
                return Err(format!("it ended as {found:?}, and that was written down as {end:?}"));
            }
            (Stage::Accepted | Stage::Started(_), Some(_)) if self.taken => {
                return Err("it has not ended, and its end was written down".to_owned());
            }
            (Stage::Accepted, None) if self.started => {
                return Err("no agent was started, and its start was answered".to_owned());
            }
            (Stage::Started(_), _) if self.whole && !self.start => {
                return Err("an agent was started that nobody asked for".to_owned());
            }
            (Stage::Started(found), _) if self.prepared.as_ref().is_some_and(|prepared| prepared != found) => {
                return Err(format!("its worktree is {found:?}, and was made as {:?}", self.prepared));
            }
            (Stage::Accepted | Stage::Started(_) | Stage::Ended(_), _) => {}
        }
        if self.closed && !left.closed {
            return Err("that the server knows of its end is forgotten".to_owned());
        }
        if left.delivered < self.delivered {
            return Err(format!("{} of its output is handed over, and it was {}", left.delivered, self.delivered));
        }
        let lost = self.skipped.iter().find(|skip| !left.skipped.iter().any(|(id, why)| (id, why) == *skip));
        lost.map_or(Ok(()), |(child, _)| Err(format!("that {child} is not to be merged is forgotten")))
    }
}
