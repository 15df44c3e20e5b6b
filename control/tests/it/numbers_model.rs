//! What is around a hub that speaks version 2: daemons that write down what they must, and a store. Each believes
//! nothing that breaks a promise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use makima_control::hub::{DaemonState, Event, Numbers, Ordered, Record, Said, SessionId, Snapshot, TaskState, Tell};
use makima_core::protocol::{
    DaemonCommand, DaemonMessage, Heartbeat, Hello, MergeResult, MergeStatusResponse, Meta, Place,
};
use uuid::Uuid;

use crate::common::{made, output};

/// The byte of every task's output at this place.
pub(crate) fn stream(from: u64, to: u64) -> String {
    (from..to).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect()
}

/// A task as its daemon knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    pub(crate) log: u64,
    pub(crate) sent: u64,
    pub(crate) got: u64,
    pub(crate) ended: bool,
    pub(crate) gentle: u32,
    /// What its agent was told, in order.
    pub(crate) heard: Vec<String>,
    pub(crate) holds: bool,
}

/// A daemon: all of it is on its disk, but for the link.
#[derive(Debug, Default)]
pub(crate) struct Daemon {
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    pub(crate) outbox: BTreeMap<u64, DaemonMessage>,
    /// The server's numbers.
    pub(crate) of: u64,
    pub(crate) applied: u64,
    pub(crate) jobs: BTreeMap<Uuid, Job>,
    pub(crate) link: Option<Link>,
    /// Branches that it was asked to merge.
    pub(crate) merged: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) session: SessionId,
    pub(crate) up: VecDeque<Said>,
    pub(crate) down: VecDeque<Down>,
    pub(crate) live: bool,
    /// What was said, to be said again.
    pub(crate) said: Vec<Said>,
}

#[derive(Clone, Debug)]
pub(crate) enum Down {
    Numbered(u64, Box<DaemonCommand>),
    Tell(Tell),
}

impl Daemon {
    pub(crate) fn say(&mut self, said: Said) {
        if let Some(link) = &mut self.link
            && link.live
        {
            link.up.push_back(said.clone());
            link.said.push(said);
        }
    }

    pub(crate) fn number(&mut self, message: DaemonMessage) {
        self.last += 1;
        self.outbox.insert(self.last, message.clone());
        self.say(Said { seq: Some(self.last), body: Some(message), ..Said::default() });
    }

    /// Sends a task's output from where it was sent to.
    pub(crate) fn output(&mut self, id: Uuid) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        while job.sent < job.log {
            let (off, end) = (job.sent, (job.sent + 7).min(job.log));
            job.sent = end;
            let meta = Meta { off: Some(off), end: Some(end), len: None };
            let said = Said { body: Some(output(id, &stream(off, end), true)), meta, ..Said::default() };
            if let Some(link) = self.link.as_mut().filter(|link| link.live) {
                link.up.push_back(said.clone());
                link.said.push(said);
            }
        }
    }

    pub(crate) fn hear(&mut self, down: Down) {
        match down {
            Down::Numbered(seq, command) => self.command(seq, *command),
            Down::Tell(Tell::Hello(hello)) => self.greeted(&hello),
            Down::Tell(Tell::Ack(n)) => self.outbox = self.outbox.split_off(&(n + 1)),
            Down::Tell(Tell::Got(place)) => {
                if let Some(job) = self.jobs.get_mut(&place.task) {
                    job.got = job.got.max(place.off);
                }
            }
            Down::Tell(Tell::Rewind(place)) => {
                if let Some(job) = self.jobs.get_mut(&place.task) {
                    job.sent = place.off;
                    // One that has lost its log runs the task anew.
                    job.log = job.log.max(place.off);
                }
                self.output(place.task);
            }
            Down::Tell(Tell::Pong(_)) => {}
        }
    }

    pub(crate) fn command(&mut self, seq: u64, command: DaemonCommand) {
        assert!(seq <= self.applied + 1, "{seq} after {}", self.applied);
        if seq == self.applied + 1 {
            self.applied = seq;
            if let DaemonCommand::SpawnTask(body) = command {
                let known = self.jobs.insert(body.task_id, Job::default());
                assert!(known.is_none(), "a command came twice");
            } else if let DaemonCommand::InterruptTask(body) = command {
                let job = self.jobs.get_mut(&body.task_id);
                if let Some(job) = job.filter(|_| body.graceful) {
                    job.gentle += 1;
                    assert_eq!(job.gentle, 1, "a gentle one came twice");
                }
            } else if let DaemonCommand::SendMessage(body) = command {
                if let Some(job) = self.jobs.get_mut(&body.task_id) {
                    assert!(!job.heard.contains(&body.message), "a message came twice");
                    job.heard.push(body.message);
                }
            } else if let DaemonCommand::MergeStart(body) = command {
                self.merged.push(body.source_branch.clone());
                self.number(merged(body.task_id, body.source_branch));
            } else if let DaemonCommand::MergeStatus(body) = command {
                self.number(standing(body.task_id));
            } else if let DaemonCommand::PauseTask(body) = command {
                self.jobs.get_mut(&body.task_id).into_iter().for_each(|job| job.holds = true);
            } else if let DaemonCommand::ResumeTask(body) = command {
                self.jobs.get_mut(&body.task_id).into_iter().for_each(|job| job.holds = false);
            } else {
                panic!("{} was never asked for", command.kind());
            }
        }
        let ack = Some(self.applied);
        self.say(Said { ack, ..Said::default() });
    }

    pub(crate) fn greeted(&mut self, hello: &Hello) {
        if hello.epoch != self.of {
            (self.of, self.applied) = (hello.epoch, 0);
        }
        let applied = if hello.of == self.epoch { hello.applied } else { 0 };
        assert!(applied <= self.last);
        self.outbox = self.outbox.split_off(&(applied + 1));
        let places = self.jobs.iter().filter(|(_, job)| !job.ended || !self.outbox.is_empty());
        let tasks = places.map(|(task, job)| Place { task: *task, off: job.log }).collect();
        let ours = Hello { epoch: self.epoch, of: self.of, applied: self.applied, tasks };
        self.link.as_mut().unwrap().live = true;
        self.say(Said { hello: Some(ours), ..Said::default() });
        self.say(Said { body: Some(Heartbeat { active_tasks: Vec::new() }.into()), ..Said::default() });
        for (seq, message) in self.outbox.clone() {
            self.say(Said { seq: Some(seq), body: Some(message), ..Said::default() });
        }
        self.say(Said { ping: Some(1), ..Said::default() });
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            let job = self.jobs.get_mut(&id).unwrap();
            let place = hello.tasks.iter().find(|place| place.task == id);
            // As the server says, or from where this side knows it to be: both are right.
            let place = place.map_or(job.got, |place| place.off);
            job.sent = if self.last.is_multiple_of(2) { place } else { job.got }.min(job.log);
            self.output(id);
        }
    }
}

/// What a store has: it believes nothing that breaks a promise.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) daemons: BTreeMap<Uuid, DaemonState>,
    pub(crate) tasks: BTreeMap<Uuid, TaskState>,
    pub(crate) text: BTreeMap<Uuid, String>,
    pub(crate) steps: Vec<String>,
    pub(crate) ended: BTreeSet<Uuid>,
    /// Tasks of which it was said that a message may not have reached their agent.
    pub(crate) doubtful: BTreeSet<Uuid>,
}

impl Ledger {
    pub(crate) fn record(&mut self, record: Record) {
        match record {
            Record::Daemon { id, machine, hostname, max_tasks, seen } => {
                let numbers = self.daemons.get(&id).map(|old| old.numbers.clone()).unwrap_or_default();
                self.daemons.insert(id, DaemonState { id, machine, hostname, max_tasks, seen, numbers });
            }
            record @ Record::Task { .. } => {
                let state = made(record);
                self.tasks.insert(state.id, state);
            }
            Record::Assigned { task, daemon } => self.tasks.get_mut(&task).unwrap().daemon = Some(daemon),
            Record::Interrupt { task, forced } => self.tasks.get_mut(&task).unwrap().interrupt = Some(forced),
            Record::Branch { .. } => {}
            Record::Hold { task, paused } => {
                let kept = self.tasks.get_mut(&task).unwrap();
                kept.hold = paused;
                kept.ordered.forget_hold();
            }
            Record::Words { task, words } => self.tasks.get_mut(&task).unwrap().words.push(words),
            Record::Told { n } => {
                let of = self.tasks.values_mut().find(|kept| kept.words.first().is_some_and(|words| words.n == n));
                drop(of.expect("the oldest of its task").words.remove(0));
            }
            Record::Epoch { daemon, epoch } => {
                let numbers = &mut self.daemons.get_mut(&daemon).unwrap().numbers;
                assert!(epoch > numbers.epoch);
                *numbers = Numbers { epoch, last: 0, orders: BTreeMap::new(), ..*numbers };
                let of = self.tasks.values_mut().filter(|task| task.daemon == Some(daemon));
                of.for_each(|task| task.ordered = Ordered::default());
            }
            Record::Ordered { daemon, n, order } => {
                let numbers = &mut self.daemons.get_mut(&daemon).unwrap().numbers;
                assert_eq!(n, numbers.last + 1);
                numbers.last = n;
                numbers.orders.insert(n, order.clone());
                self.tasks.get_mut(&order.task).unwrap().ordered.add(&order.what);
            }
            Record::Acked { daemon, n } => {
                let numbers = &mut self.daemons.get_mut(&daemon).unwrap().numbers;
                numbers.orders = numbers.orders.split_off(&(n + 1));
            }
            Record::Applied { daemon, epoch, n } => {
                let numbers = &mut self.daemons.get_mut(&daemon).unwrap().numbers;
                assert!((epoch == numbers.theirs && n == numbers.applied + 1) || n == 0);
                (numbers.theirs, numbers.applied) = (epoch, n);
            }
            Record::Placed { task, at } => self.tasks.get_mut(&task).unwrap().log_at = at,
            Record::Event { task, n, event, .. } => self.happened(task, n, event),
        }
    }

    fn happened(&mut self, task: Uuid, n: u64, event: Event) {
        assert!(!self.ended.contains(&task));
        let kept = self.tasks.get_mut(&task).unwrap();
        assert_eq!(kept.events + 1, n);
        kept.events = n;
        if let Event::Progress { summary } = event {
            if summary.contains("message") {
                self.doubtful.insert(task);
                return;
            }
            // What the server says itself may be said again: a wish that changes twice is told twice.
            if ["it will stand still as soon as it would run", "it will not stand still"].contains(&summary.as_str()) {
                return;
            }
            assert!(!self.steps.contains(&summary), "{summary} twice");
            self.steps.push(summary);
        } else if let Event::End(_) = event {
            kept.spawn = None;
            kept.words.clear();
            self.ended.insert(task);
        }
    }

    pub(crate) fn output(&mut self, task: Uuid, offset: u64, text: &str) {
        let all = self.text.entry(task).or_default();
        assert_eq!(all.len() as u64, offset);
        all.push_str(text);
        self.tasks.get_mut(&task).unwrap().bytes = all.len() as u64;
        // Neither a hole nor a double, whatever came. A line that its agent left unfinished is ended with its task.
        let told = all.strip_suffix('\n').unwrap_or(all);
        assert_eq!(*told, stream(0, told.len() as u64));
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { daemons: self.daemons.values().cloned().collect(), tasks: self.tasks.values().cloned().collect() }
    }
}

fn merged(task_id: Uuid, branch: String) -> DaemonMessage {
    MergeResult { task_id, success: true, message: branch, commit_sha: None, conflicts: None }.into()
}

fn standing(task_id: Uuid) -> DaemonMessage {
    MergeStatusResponse { task_id, in_progress: false, source_branch: None, conflicted_files: Vec::new() }.into()
}
