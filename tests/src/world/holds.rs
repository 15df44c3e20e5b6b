//! What must hold at every moment, whatever happens.

use makima_core::Daemon;
use makima_core::task::Status;

use super::folder::Folder;
use super::{Far, SLOTS, World};
use crate::holds;

impl<F: Far> World<F> {
    /// Looks whether it does.
    pub(super) fn check(&self) {
        // One that could not be ended, though it was tried, goes on without its task.
        let of_a_task = |folder: &&Folder| folder.process.is_some() && !folder.unkillable;
        let running = self.machine.folders().filter(of_a_task).count();
        // An orchestrator lends its slot to its subtasks.
        let most = SLOTS as usize + if running > SLOTS as usize { F::lenders(self) } else { 0 };
        holds!(Bounded, running <= most || self.incarnation > 1, "{running} agents run at once");
        for (task, _) in self.daemon.statuses().filter(|(_, status)| *status == Status::Paused) {
            // What an earlier life of the daemon knew last may be out of date, until it is looked at.
            let known = !self.unsure.contains(&task);
            if let Some(folder) = self.machine.folder(task).filter(|_| known) {
                holds!(EndsInTime, folder.stands_still() != Some(false), "{task} is paused, and its agent goes on");
            }
        }
    }

    /// A state that is put away is the state that is taken up.
    pub(super) fn check_put_away(&mut self) {
        let mut taken_up = Daemon::restore(self.journal.state()).expect("a whole snapshot");
        let is_same = taken_up.digest() == self.daemon.digest() && taken_up == self.daemon;
        assert!(is_same, "something is lost in a snapshot: {}", difference(&self.daemon, &taken_up));
    }
}

/// The first lines in which two daemons differ.
fn difference(one: &Daemon, other: &Daemon) -> String {
    let (one, other) = (format!("{one:#?}"), format!("{other:#?}"));
    let differ = one.lines().zip(other.lines()).filter(|(one, other)| one != other);
    let differ: Vec<String> = differ.take(3).map(|(one, other)| format!("{} / {}", one.trim(), other.trim())).collect();
    differ.join("; ")
}
