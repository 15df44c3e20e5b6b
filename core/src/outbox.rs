//! What is to be told to the server, kept until it is known to have got there.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::TaskId;
use crate::limits;
use crate::protocol::{
    BranchList, CheckTargetExistsResult, CloneWorktreeResult, CompletionActionResult, DaemonDirectories, DaemonMessage,
    MergeCompleteCheck, MergeResult, MergeStatusResponse, TaskComplete, TaskProgress, TaskStatusChange,
};
use crate::task::{Completion, Status};

/// What is said under a number whose message has become untrue.
const PAST: &str = "what was to be told here is past";

/// One thing to tell about a task. The wire's message is made when it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The status changed; the same twice where a command could not apply.
    Status {
        /// What it was.
        old: Status,
        /// What it is.
        new: Status,
    },
    /// A step. Only the newest is kept while it cannot be sent.
    Progress(String),
    /// The task was taken on. Kept like a status.
    Accepted,
    /// How the completion action went.
    Completion(Completion),
    /// The task has ended.
    Complete {
        /// Whether the agent did what it was to do.
        success: bool,
        /// Why not.
        error: Option<String>,
    },
    /// `listBranches` cannot apply.
    NoBranches,
    /// `mergeStatus` cannot apply.
    NoMerge,
    /// A command that moves a merge cannot apply.
    MergeRefused(String),
    /// `checkMergeComplete` cannot apply.
    CannotComplete,
    /// `cloneWorktree` cannot apply.
    CloneRefused(String),
    /// `checkTargetExists` cannot apply to this path.
    NoTarget(String),
    /// Where things lie on this machine. About no task.
    Directories {
        /// The working directory.
        working: String,
        /// Where finished work is cloned to.
        home: String,
        /// One folder per task.
        worktrees: String,
    },
}

impl Report {
    /// As the wire has it.
    pub(crate) fn message(&self, task: TaskId) -> DaemonMessage {
        let task_id = task.0;
        match self {
            Self::Status { old, new } => {
                TaskStatusChange { task_id, old_status: old.as_str().to_string(), new_status: new.as_str().to_string() }
                    .into()
            }
            Self::Progress(summary) => TaskProgress { task_id, summary: summary.clone() }.into(),
            Self::Accepted => TaskProgress { task_id, summary: "accepted".to_string() }.into(),
            Self::Completion(Completion { success, message }) => {
                CompletionActionResult { task_id, success: *success, message: message.clone(), pr_url: None }.into()
            }
            Self::Complete { success, error } => {
                TaskComplete { task_id, success: *success, error: error.clone() }.into()
            }
            Self::NoBranches => BranchList { task_id, branches: Vec::new() }.into(),
            Self::NoMerge => {
                MergeStatusResponse { task_id, in_progress: false, source_branch: None, conflicted_files: Vec::new() }
                    .into()
            }
            Self::MergeRefused(message) => {
                let message = message.clone();
                MergeResult { task_id, success: false, message, commit_sha: None, conflicts: None }.into()
            }
            Self::CannotComplete => MergeCompleteCheck {
                task_id,
                can_complete: false,
                unmerged_branches: Vec::new(),
                merged_count: 0,
                skipped_count: 0,
            }
            .into(),
            Self::CloneRefused(message) => {
                CloneWorktreeResult { task_id, success: false, message: message.clone(), target_dir: None }.into()
            }
            Self::NoTarget(path) => CheckTargetExistsResult { task_id, exists: false, target_dir: path.clone() }.into(),
            Self::Directories { working, home, worktrees } => DaemonDirectories {
                working_directory: working.clone(),
                home_directory: home.clone(),
                worktrees_directory: worktrees.clone(),
            }
            .into(),
        }
    }

    /// `retryCompletionAction` cannot apply.
    pub(crate) const fn action_refused(message: String) -> Self {
        Self::Completion(Completion { success: false, message })
    }

    /// Whether it answers a command and tells nothing new about the task. Only such are ever dropped.
    const fn is_answer(&self) -> bool {
        match self {
            Self::Accepted | Self::Completion(_) | Self::Complete { .. } | Self::Directories { .. } => false,
            Self::Status { old, new } => *old as u8 == *new as u8,
            Self::Progress(_)
            | Self::NoBranches
            | Self::NoMerge
            | Self::MergeRefused(_)
            | Self::CannotComplete
            | Self::CloneRefused(_)
            | Self::NoTarget(_) => true,
        }
    }
}

/// A report on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Entry {
    task: TaskId,
    report: Report,
    /// It is held until the task's output has been delivered up to here.
    after: u64,
    /// The frame that carried it in this session.
    sent: Option<u64>,
    /// Its number in version 2 of the wire, from when it was sent first until the server has applied it.
    seq: Option<u64>,
}

impl Entry {
    /// Whether it may be left out: progress that no number was given to.
    const fn is_passing(&self) -> bool {
        matches!(self.report, Report::Progress(_)) && self.seq.is_none()
    }

    fn sending(&self) -> Sending {
        let len = matches!(self.report, Report::Complete { .. }).then_some(self.after);
        Sending { message: Box::new(self.report.message(self.task)), len }
    }
}

/// A message that is sent, and what goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) message: Box<DaemonMessage>,
    /// With a task's end: where its output log ends.
    pub(crate) len: Option<u64>,
}

/// Reports in the order in which the server is to see them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
}

impl Outbox {
    /// Takes a report. False where it was dropped because too many wait.
    pub(crate) fn push(&mut self, task: TaskId, report: Report, after: u64, live: bool) -> bool {
        if !live && matches!(report, Report::Progress(_)) {
            self.entries.retain(|entry| !entry.is_passing());
        }
        if self.entries.len() >= limits::REPORTS && report.is_answer() {
            return false;
        }
        self.entries.push_back(Entry { task, report, after, sent: None, seq: None });
        true
    }

    /// The next report to be sent as frame `n`, if one may be sent while the output's gate stands at `gate`; from then
    /// on it bears the number `seq`, where it gets one.
    pub(crate) fn send(&mut self, gate: u64, n: u64, seq: Option<u64>) -> Option<Sending> {
        let entry = self.entries.iter_mut().find(|entry| entry.sent.is_none())?;
        if entry.after > gate {
            return None;
        }
        entry.sent = Some(n);
        entry.seq = seq;
        Some(entry.sending())
    }

    /// The report that bears this number, to be sent once more as frame `n`.
    pub(crate) fn send_again(&mut self, seq: u64, n: u64) -> Option<Sending> {
        let entry = self.entries.iter_mut().find(|entry| entry.seq == Some(seq))?;
        entry.sent = Some(n);
        Some(entry.sending())
    }

    /// The server has applied everything up to this number. True where that told it of an end.
    pub(crate) fn applied(&mut self, seq: u64) -> bool {
        self.gone(|entry| entry.seq.is_some_and(|its| its <= seq))
    }

    /// The numbers that were given so far count no more.
    pub(crate) fn renumber(&mut self) {
        for entry in &mut self.entries {
            entry.seq = None;
        }
    }

    /// Takes back what tells where things lie, if it has no number yet: there is news of it.
    pub(crate) fn replace_directories(&mut self, directories: Report, none: TaskId) {
        self.entries.retain(|entry| !matches!(entry.report, Report::Directories { .. }) || entry.seq.is_some());
        if self.entries.back().is_none_or(|last| last.report != directories) {
            self.entries.push_back(Entry { task: none, report: directories, after: 0, sent: None, seq: None });
        }
    }

    /// Everything up to frame `n` has been delivered. True where that told the server of an end.
    pub(crate) fn delivered(&mut self, n: u64) -> bool {
        self.gone(|entry| entry.sent.is_some_and(|sent| sent <= n))
    }

    /// Lets go of what is known to have got there. True where that told the server of an end.
    fn gone(&mut self, gone: impl Fn(&Entry) -> bool) -> bool {
        let mut ended = false;
        self.entries.retain(|entry| {
            let gone = gone(entry);
            ended |= gone && matches!(entry.report, Report::Complete { .. });
            !gone
        });
        ended
    }

    /// Nothing about this task needs to be told from here any more.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.entries.retain(|entry| entry.task != task || entry.seq.is_some());
        // A number that was given has to be said. What is said under it does no harm any more.
        for entry in self.entries.iter_mut().filter(|entry| entry.task == task) {
            entry.report = Report::Progress(PAST.to_string());
        }
    }

    /// The session is over: what was not delivered will be sent again. Says how many that are.
    pub(crate) fn unsend(&mut self) -> u64 {
        let mut again = 0;
        for entry in &mut self.entries {
            again += u64::from(entry.sent.take().is_some());
        }
        self.keep_newest_progress();
        again
    }

    /// Progress is for whoever looks on: beyond the newest it is not kept.
    fn keep_newest_progress(&mut self) {
        let newest = self.entries.iter().rposition(Entry::is_passing);
        let mut at = 0;
        self.entries.retain(|entry| {
            let keep = !entry.is_passing() || Some(at) == newest;
            at += 1;
            keep
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether something was sent in this session that is not known to have got there.
    pub(crate) fn in_flight(&self) -> bool {
        self.entries.front().is_some_and(|entry| entry.sent.is_some())
    }

    /// Whether the task's end still has to be told.
    pub(crate) fn owes_end(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.report, Report::Complete { .. }))
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        let mut unsent = false;
        let mut last = 0;
        let numbered = self.entries.iter().take_while(|entry| entry.seq.is_some()).map(|entry| entry.seq);
        assert!(numbered.is_sorted(), "numbers are out of order");
        assert!(
            self.entries.iter().skip_while(|entry| entry.seq.is_some()).all(|entry| entry.seq.is_none()),
            "a report has a number, and an older one has none"
        );
        for entry in &self.entries {
            match entry.sent {
                Some(n) => {
                    assert!(!unsent, "a report was sent before an older one");
                    assert!(n >= last, "reports were sent out of order");
                    last = n;
                }
                None => unsent = true,
            }
        }
    }
}

#[cfg(test)]
mod tests;
