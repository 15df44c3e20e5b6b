//! What the records add up to. Any store has to come to the same; one that keeps all in memory needs nothing else.

use makima_core::cost::cost_so_far;
use makima_core::task::Status;
use uuid::Uuid;

use super::siblings::{COMMITTED, talks};
use super::{DaemonState, Event, Numbers, Ordered, Record, Snapshot, TaskState};

impl Snapshot {
    /// Takes a record in. One about a daemon or a task that there is no record of changes nothing.
    pub fn keep(&mut self, record: Record) {
        match record {
            Record::Daemon { id, machine, hostname, max_tasks, seen } => match self.daemon(id) {
                Some(daemon) => (daemon.hostname, daemon.max_tasks, daemon.seen) = (hostname, max_tasks, seen),
                None => {
                    let numbers = Numbers::default();
                    self.daemons.push(DaemonState { id, machine, hostname, max_tasks, seen, numbers });
                }
            },
            Record::Task { seq, name, spawn, after, .. } => self.tasks.push(TaskState {
                id: spawn.task_id,
                seq,
                name,
                status: Status::Pending.as_str().to_owned(),
                parent: spawn.parent_task_id,
                cost: 0,
                committed: None,
                talks: false,
                daemon: None,
                interrupt: None,
                branch_known: false,
                events: 0,
                bytes: 0,
                log_at: Some(0),
                line_begun: false,
                ordered: Ordered::default(),
                hold: None,
                words: Vec::new(),
                after,
                spawn: Some(spawn),
            }),
            Record::Assigned { task, daemon } => self.with(task, |task| task.daemon = Some(daemon)),
            Record::Interrupt { task, forced } => self.with(task, |task| task.interrupt = Some(forced)),
            Record::Hold { task, paused } => self.with(task, |task| {
                task.hold = paused;
                task.ordered.forget_hold();
            }),
            Record::Words { task, words } => self.with(task, |task| task.words.push(words)),
            Record::Told { n } => self.tasks.iter_mut().for_each(|task| task.words.retain(|words| words.n != n)),
            Record::Branch { task, .. } => self.with(task, |task| task.branch_known = true),
            Record::Placed { task, at } => self.with(task, |task| task.log_at = at),
            Record::Event { task, n, event, .. } => self.with(task, |task| task.happened(n, event)),
            Record::Epoch { daemon, epoch } => self.begin_anew(daemon, epoch),
            Record::Ordered { daemon, n, order } => {
                self.with(order.task, |task| task.ordered.add(&order.what));
                self.numbered(daemon, |numbers| {
                    numbers.last = n;
                    numbers.orders.insert(n, order);
                });
            }
            Record::Acked { daemon, n } => {
                self.numbered(daemon, |numbers| numbers.orders.retain(|order, _| *order > n))
            }
            Record::Applied { daemon, epoch, n } => {
                self.numbered(daemon, |numbers| (numbers.theirs, numbers.applied) = (epoch, n));
            }
        }
    }

    /// A task's output has grown by this.
    pub fn grow(&mut self, task: Uuid, text: &str) {
        self.with(task, |task| {
            task.bytes = task.bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
            task.line_begun = if text.is_empty() { task.line_begun } else { !text.ends_with('\n') };
        });
    }

    /// Our numbers to a daemon begin at 1 again.
    fn begin_anew(&mut self, daemon: Uuid, epoch: u64) {
        self.numbered(daemon, |numbers| {
            (numbers.epoch, numbers.last) = (epoch, 0);
            numbers.orders.clear();
        });
        let its = self.tasks.iter_mut().filter(|task| task.daemon == Some(daemon));
        its.for_each(|task| task.ordered = Ordered::default());
    }

    fn numbered(&mut self, daemon: Uuid, change: impl FnOnce(&mut Numbers)) {
        self.daemon(daemon).map(|daemon| &mut daemon.numbers).map(change);
    }

    fn daemon(&mut self, id: Uuid) -> Option<&mut DaemonState> {
        self.daemons.iter_mut().find(|daemon| daemon.id == id)
    }

    fn with(&mut self, id: Uuid, change: impl FnOnce(&mut TaskState)) {
        self.tasks.iter_mut().find(|task| task.id == id).map(change);
    }
}

impl TaskState {
    /// Something happened to it, under this number.
    fn happened(&mut self, n: u64, event: Event) {
        self.events = n;
        match event {
            Event::Status { to, .. } => self.status = to,
            Event::Progress { summary } => {
                self.cost = cost_so_far(&summary).unwrap_or(self.cost);
                self.talks |= talks(&summary);
                if summary.starts_with(COMMITTED) {
                    self.committed = Some(summary);
                }
            }
            Event::Completion { .. } => {}
            Event::End(end) => {
                self.status = end.status;
                self.spawn = None;
                self.words.clear();
                (self.committed, self.talks) = (None, false);
            }
        }
    }
}
