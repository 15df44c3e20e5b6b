//! How the daemon stands, for people and for what watches over it. Only read; nothing is decided by it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::daemon::Daemon;
use crate::id::TaskId;
use crate::time::Millis;

/// Tasks that are told one by one; of more there is the number.
pub const TASKS: usize = 1_000;

/// How the daemon stands between two steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which life of the daemon this is.
    pub incarnation: u32,
    /// How many tasks run at once.
    pub max_tasks: u32,
    /// How many tasks hold a slot.
    pub busy: usize,
    /// How many tasks have not ended.
    pub unended: usize,
    /// How many tasks there are whose end the server is not known to know.
    pub untold: usize,
    /// How many tasks are in each status.
    pub statuses: BTreeMap<String, usize>,
    /// Reports to the server that are not known to have got there.
    pub outbox: usize,
    /// It was told to end.
    pub stopping: bool,
    /// The link to the server.
    pub link: LinkReport,
    /// The tasks that the server does not know to have ended, or has still to be told something of.
    pub tasks: Vec<TaskReport>,
    /// How many more of those there are.
    pub more_tasks: usize,
    /// What is due next, in milliseconds from the newest step, and what for.
    pub due: Option<(u64, String)>,
    /// What was counted since the start.
    pub counters: Counters,
}

/// How the link to the server stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkReport {
    /// In words.
    pub state: String,
    /// By which way it goes, while there is one.
    pub way: Option<String>,
    /// Which version of the wire it speaks, while it is open.
    pub wire: Option<u8>,
    /// Whether the session is open.
    pub live: bool,
    /// Attempts that failed since the last good session.
    pub failures: u32,
    /// When it is tried again, in milliseconds from the newest step; none while it is being tried or stands.
    pub again_in: Option<u64>,
}

/// How one task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    /// Its id.
    pub id: TaskId,
    /// What people call it.
    pub name: String,
    /// Its status, as the wire has it.
    pub status: String,
    /// How far its output is known to be at the server, in bytes of its log.
    pub delivered: u64,
    /// Messages that wait for its agent.
    pub messages: usize,
    /// What it needs a person for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    /// Reports about it that are not known to have got to the server.
    pub outbox: usize,
}

impl Daemon {
    /// How it stands.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut statuses = BTreeMap::new();
        for task in self.tasks.values() {
            *statuses.entry(String::from(task.status().as_str())).or_insert(0_usize) += 1;
        }
        let told_of = || self.index.talking.iter().filter_map(|id| self.tasks.get(id));
        let now = self.core.last.mono;
        Report {
            incarnation: self.core.ids.incarnation,
            max_tasks: self.config.max_tasks,
            busy: self.index.busy,
            unended: self.unended(),
            untold: self.untold(),
            statuses,
            outbox: told_of().map(|task| task.report().outbox).sum::<usize>().saturating_add(self.core.loose.len()),
            stopping: self.core.stopping.is_some(),
            link: self.core.link.report(now),
            tasks: told_of().take(TASKS).map(crate::task::Task::report).collect(),
            more_tasks: self.index.talking.len().saturating_sub(TASKS),
            due: self.deadline().map(|(due, why)| (due.since(now).0, String::from(why))),
            counters: self.core.counters.clone(),
        }
    }

    /// How long ago the newest deadline was, if it has passed: somebody is late with the tick.
    #[must_use]
    pub fn overdue(&self, now: Millis) -> Millis {
        self.deadline().map_or(Millis(0), |(due, _)| now.since(due))
    }
}
