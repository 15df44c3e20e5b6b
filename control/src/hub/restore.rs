//! What a hub is made from at start: all that its records added up to.

use makima_core::protocol::SpawnTask;
use makima_core::time::Millis;
use uuid::Uuid;

use super::steer::{Waiting, Words};
use super::task::{Asked, Life, Task, Told};
use super::{Daemon, Hub, Numbers, Ordered};

/// All that was kept.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every daemon ever seen.
    pub daemons: Vec<DaemonState>,
    /// Every task.
    pub tasks: Vec<TaskState>,
}

/// A daemon as it was kept.
#[derive(Clone, Debug)]
pub struct DaemonState {
    /// Its name here.
    pub id: Uuid,
    /// The machine, for good.
    pub machine: String,
    /// The machine, for people.
    pub hostname: String,
    /// How many tasks it runs at once.
    pub max_tasks: i32,
    /// When it was last heard.
    pub seen: Millis,
    /// How the numbers between us stand.
    pub numbers: Numbers,
}

/// A task as it was kept.
#[derive(Clone, Debug)]
pub struct TaskState {
    /// Which.
    pub id: Uuid,
    /// Its place in the order in which tasks came.
    pub seq: u64,
    /// What people call it.
    pub name: String,
    /// The newest status that was told.
    pub status: String,
    /// The task that it is a subtask of, whether that is there or not.
    pub parent: Option<Uuid>,
    /// What its agent has cost by its own account, in millionths of a dollar.
    pub cost: u64,
    /// The newest step that says what was committed; none once it has ended.
    pub committed: Option<String>,
    /// Whether its agent tells how it gets on; false once it has ended.
    pub talks: bool,
    /// Who has it.
    pub daemon: Option<Uuid>,
    /// Whether somebody wants it ended, and that at once.
    pub interrupt: Option<bool>,
    /// Whether its branch is known.
    pub branch_known: bool,
    /// How many events it has.
    pub events: u64,
    /// How much output it has.
    pub bytes: u64,
    /// How far into the daemon's log that reaches, if that is known.
    pub log_at: Option<u64>,
    /// Whether it ends within a line.
    pub line_begun: bool,
    /// Which commands about it were given a number.
    pub ordered: Ordered,
    /// What was wished last: that it stands still, or that it goes on.
    pub hold: Option<bool>,
    /// What its agent is to be told, and its daemon was not yet, in order.
    pub words: Vec<Words>,
    /// What it was to begin after.
    pub after: Vec<Uuid>,
    /// The whole of it; none once it has ended.
    pub spawn: Option<Box<SpawnTask>>,
}

impl Hub {
    /// The hub as it was when these were the newest records.
    #[must_use]
    pub fn restore(snapshot: Snapshot) -> Self {
        let mut hub = Self::default();
        for daemon in snapshot.daemons {
            hub.machines.insert(daemon.machine.clone(), daemon.id);
            hub.daemons.insert(
                daemon.id,
                Daemon {
                    machine: daemon.machine,
                    hostname: daemon.hostname,
                    max_tasks: daemon.max_tasks,
                    session: None,
                    seen: daemon.seen,
                    tasks: std::collections::BTreeMap::new(),
                    numbers: daemon.numbers,
                },
            );
        }
        // Those that have ended first: whether others still wait for them depends on how they did.
        let (ended, unfinished): (Vec<_>, Vec<_>) = snapshot.tasks.into_iter().partition(|task| task.spawn.is_none());
        for task in ended.into_iter().chain(unfinished) {
            hub.restore_task(task);
        }
        hub
    }

    fn restore_task(&mut self, task: TaskState) {
        self.next_seq = self.next_seq.max(task.seq.saturating_add(1));
        let next = task.words.iter().map(|words| words.n.saturating_add(1)).max();
        self.next_words = self.next_words.max(next.unwrap_or_default());
        let needs = self.open_needs(&task.after);
        if let Some(parent) = task.parent {
            self.children.add(parent, task.seq, task.id);
        }
        let holder = task.daemon.and_then(|id| self.daemons.get_mut(&id).map(|daemon| (id, daemon)));
        let life = match (task.spawn, holder) {
            (None, _) => Life::Ended { daemon: task.daemon },
            (Some(spawn), None) => {
                if needs.is_empty() {
                    self.waiting.insert(task.seq, task.id);
                } else {
                    self.hold_back(task.seq, task.id, &needs);
                }
                Life::Waiting { spawn, needs }
            }
            (Some(spawn), Some((id, daemon))) => {
                daemon.tasks.insert(task.seq, task.id);
                let asked =
                    task.interrupt.map(|forced| if forced { Asked::AtOnce } else { Asked::Gracefully(Told::Perhaps) });
                Life::Assigned { daemon: id, spawn, asked }
            }
        };
        self.tasks.insert(
            task.id,
            Task {
                seq: task.seq,
                name: task.name,
                status: task.status,
                parent: task.parent,
                cost: task.cost,
                committed: task.committed,
                talks: task.talks,
                branch_known: task.branch_known,
                events: task.events,
                bytes: task.bytes,
                log_at: task.log_at,
                line_begun: task.line_begun,
                rewinding: None,
                ordered: task.ordered,
                hold: task.hold,
                words: Waiting::restored(task.words),
                restored: true,
                life,
            },
        );
    }
}
