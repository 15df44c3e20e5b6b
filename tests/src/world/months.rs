//! A long time in which nothing is asked of the daemon: what has ended goes.

use makima_core::time::Millis;

use super::folder::Folder;
use super::{Act, World};

/// So long from one look at what has ended to the next.
const SPAN: Millis = Millis::seconds(31 * 24 * 60 * 60);

/// Looks: for a worktree to be due, and due again, and the same for its task.
const LOOKS: usize = 8;

impl World {
    /// Only where the server has nothing on its way: nobody waits for an answer for months.
    pub(super) fn months(&mut self) -> bool {
        let quiet = self.server.is_quiet() && self.exit.is_none();
        if quiet {
            self.pass_months();
        }
        quiet
    }

    /// Months after everything has come to its end, nothing is known of it any more.
    ///
    /// # Panics
    /// Where something is.
    pub(super) fn check_forgotten(&mut self) {
        if self.journal.is_in_trouble() {
            self.apply(Act::Trouble);
        }
        self.pass_months();
        for (task, _) in self.daemon.statuses() {
            let excused = self.machine.folder(task).is_some_and(Folder::cannot_go);
            assert!(excused || self.exit.is_some(), "{task} is not forgotten after months");
        }
    }

    fn pass_months(&mut self) {
        for _ in 0..LOOKS {
            self.now.unix = self.now.unix + SPAN;
            self.go_to(self.now.mono + makima_core::limits::SWEEP);
            // A link that had nobody to wait for comes back.
            for _ in 0..6 {
                while self.goes_on() {}
                self.apply(Act::Advance);
            }
        }
    }
}
