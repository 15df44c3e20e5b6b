//! What is to be told to the server, kept until it is known to have got there.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;

use serde::{Deserialize, Serialize};

use crate::id::{SecretId, TaskId};
use crate::limits;
use crate::protocol::DaemonMessage;

mod report;
#[cfg(test)]
mod tests;

pub(crate) use self::report::{Gate, MergeOpen, MergeWent, Report};

/// What is said under a number whose message has become untrue.
const PAST: &str = "what was to be told here is past";

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
    /// It is of an earlier session.
    #[serde(default)]
    old: bool,
}

impl Entry {
    /// Whether it may be left out: progress that no number was given to.
    fn is_passing(&self) -> bool {
        matches!(self.report, Report::Progress(_)) && (self.seq.is_none() || bug!(NumberLeftOut))
    }

    /// Whether nobody has to hear it where something newer of its kind is to be told.
    fn is_outdated(&self) -> bool {
        matches!(self.report, Report::Needs(_)) && self.sent.is_none() && self.seq.is_none()
    }

    fn sending(&self) -> Sending {
        let len = matches!(self.report, Report::Complete { .. }).then_some(self.after);
        Sending {
            message: Box::new(self.report.message(self.task)),
            len,
            secret: self.report.secret().filter(|_| !bug!(EmptyKey)),
        }
    }
}

/// A message that is sent, and what goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) message: Box<DaemonMessage>,
    /// With a task's end: where its output log ends.
    pub(crate) len: Option<u64>,
    /// The secret that goes into its empty field.
    pub(crate) secret: Option<SecretId>,
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
        if matches!(report, Report::Needs(_)) {
            self.entries.retain(|entry| !entry.is_outdated());
        }
        if self.entries.len() >= limits::REPORTS && report.is_answer() {
            return false;
        }
        self.entries.push_back(Entry { task, report, after, sent: None, seq: None, old: false });
        true
    }

    /// Takes the task's key, to be told before all that has no number yet, unless it is about to be told anyway.
    pub(crate) fn push_key(&mut self, task: TaskId, key: SecretId) {
        let report = Report::ToolKey(key);
        if self.entries.iter().any(|entry| entry.report == report && entry.sent.is_none()) {
            return;
        }
        let goes_before = |entry: &&Entry| (entry.sent.is_some() || entry.seq.is_some()) && !bug!(KeyJumpsTheLine);
        let at = self.entries.iter().take_while(goes_before).count();
        self.entries.insert(at, Entry { task, report, after: 0, sent: None, seq: None, old: false });
    }

    /// Whether the task's key still has to be told.
    pub(crate) fn owes_key(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.report, Report::ToolKey(_)))
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
            self.entries.push_back(Entry {
                task: none,
                report: directories,
                after: 0,
                sent: None,
                seq: None,
                old: false,
            });
        }
    }

    /// Everything up to frame `n` has been delivered. True where that told the server of an end.
    pub(crate) fn delivered(&mut self, n: u64) -> bool {
        self.gone(|entry| {
            entry.sent.is_some_and(|sent| sent <= n || bug!(DeliveredOneTooFar) && sent == n.saturating_add(1))
        })
    }

    /// Lets go of what is known to have got there: the oldest, as both frames and numbers grow. True where that told the
    /// server of an end.
    fn gone(&mut self, gone: impl Fn(&Entry) -> bool) -> bool {
        let mut ended = false;
        while let Some(entry) = self.entries.pop_front_if(|entry| gone(entry)) {
            ended |= matches!(entry.report, Report::Complete { .. });
        }
        ended
    }

    /// Nothing about this task needs to be told from here any more.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.forget_first(task, self.entries.len());
    }

    /// The server knows of this task's end, and of all that was to be told before it. Where the end is not among the reports it
    /// was `told_before` or is not known here; in the one case all of them answer what was asked since, in the other none.
    pub(crate) fn end_is_known(&mut self, task: TaskId, told_before: bool) {
        let is_end = |entry: &Entry| entry.task == task && matches!(entry.report, Report::Complete { .. });
        let past = match self.entries.iter().rposition(is_end) {
            Some(end) if !bug!(AnswerBehindAnEndTakenBack) => end.saturating_add(1),
            None if told_before && !bug!(AnswerBehindAnEndTakenBack) => 0,
            Some(_) | None => self.entries.len(),
        };
        self.forget_first(task, past);
    }

    /// What is told of this task by so many first reports is past.
    fn forget_first(&mut self, task: TaskId, past: usize) {
        // A number that was given has to be said. What is said under it does no harm any more.
        for entry in self.entries.iter_mut().take(past).filter(|entry| entry.task == task) {
            entry.report = Report::Progress(PAST.to_string());
        }
        let mut left = past;
        self.entries.retain(|entry| {
            let is_past = left > 0 && entry.task == task;
            left = left.saturating_sub(1);
            !is_past || entry.seq.is_some() && !bug!(NumberTakenBack)
        });
    }

    /// The session is over: what was not delivered will be sent again. Says how many that are.
    pub(crate) fn unsend(&mut self) -> u64 {
        let mut again = 0;
        for entry in &mut self.entries {
            again += u64::from(entry.sent.take().is_some());
            entry.old = true;
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

    /// The end of this task that an earlier session did not bring to the server, and that is on its way: why it did not end
    /// well.
    pub(crate) fn end_under_way(&self, task: TaskId) -> Option<&str> {
        let mut under_way = self.entries.iter().filter(|entry| entry.task == task && entry.old && entry.sent.is_some());
        under_way.find_map(|entry| {
            let Report::Complete { error, .. } = &entry.report else { return None };
            error.as_deref()
        })
    }

    /// Whether the task's end still has to be told.
    pub(crate) fn owes_end(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.report, Report::Complete { .. }))
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        let (mut unsent, mut unnumbered) = (false, false);
        let (mut last, mut last_number) = (0, 0);
        for entry in &self.entries {
            match entry.seq {
                Some(number) => {
                    assert!(!unnumbered, "a report has a number, and an older one has none");
                    assert!(number >= last_number, "numbers are out of order");
                    last_number = number;
                }
                None => unnumbered = true,
            }
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
