//! How a home and its daemon stand, as `makima status` shows it.

use std::collections::BTreeMap;
use std::path::Path;

use makima_core::report::{Report, TaskReport};
use serde::{Deserialize, Serialize};

use super::disk::{self, Disk};
use super::{Told, socket};
use crate::home::is_held;
use crate::service::{self, DaemonFile};

/// How a home and its daemon stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The folder.
    pub home: String,
    /// Its daemon; none where none runs.
    pub daemon: Option<Running>,
    /// The embedded server of this home, where one runs.
    pub server: Option<String>,
    /// The daemon's link to its server.
    pub link: Option<Link>,
    /// The tasks that the server does not know to have ended, or has still to be told something of.
    pub tasks: Vec<Task>,
    /// How many more of those there are.
    pub more_tasks: usize,
    /// How many tasks are in each status.
    pub statuses: BTreeMap<String, usize>,
    /// Reports to the server that are not known to have got there; none where no daemon says so.
    pub outbox: Option<usize>,
    /// What there is on the disk.
    pub disk: Disk,
    /// How the journal stands.
    pub journal: Option<Journal>,
    /// Lines of the daemon's log that were lost.
    pub log_lines_dropped: Option<u64>,
    /// What was counted since the daemon started.
    pub counters: BTreeMap<String, u64>,
}

/// A daemon that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its server.
    pub server: String,
    /// How the link stands, in words.
    pub link: String,
    /// What is wrong with the link, if anything.
    pub trouble: Option<String>,
    /// Whether it answers. Where it does not, this is what it has written down.
    pub answers: bool,
    /// Since when it has run, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Whether it has been told to end.
    pub stopping: bool,
    /// How many tasks hold a slot.
    pub busy: usize,
    /// How many tasks run at once.
    pub max_tasks: u32,
}

/// A daemon's link to its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// In words.
    pub state: String,
    /// Whether the session is open.
    pub live: bool,
    /// By which way.
    pub way: Option<String>,
    /// Which version of the wire is spoken, while it is open.
    pub wire: Option<u8>,
    /// Since when it has been up or down, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Attempts that failed since the last good session.
    pub failures: u32,
    /// When it is tried again, in milliseconds from the daemon's newest step.
    pub again_in: Option<u64>,
    /// The server's newest word on the key was a refusal.
    pub key_refused: bool,
}

/// How one task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// What the daemon or its folder says.
    #[serde(flatten)]
    pub told: TaskReport,
    /// The process of its agent, if that runs.
    pub pid: Option<i32>,
    /// Bytes of its output log that are not known to be at the server.
    pub lag: u64,
}

/// How the journal stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// Records up to this number outlast anything.
    pub flushed: u64,
    /// Effects that wait for it.
    pub held: usize,
    /// It cannot be written, and why.
    pub trouble: Option<String>,
}

/// Who the daemon is, whatever it is doing.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its server.
    pub server: String,
    /// When it was started, in milliseconds since 1970.
    pub since: u64,
}

impl Status {
    /// What the disk alone tells.
    #[must_use]
    pub fn of(home: &Path) -> Self {
        let (tasks, more_tasks) = disk::tasks(home);
        let file = service::read_daemon_file(home).filter(|_| is_held(home));
        let mut status = Self::bare(home, tasks, more_tasks);
        status.daemon = file.map(|DaemonFile { pid, version, server, link, trouble, .. }| Running {
            pid,
            version,
            server,
            link,
            trouble,
            answers: false,
            since: None,
            stopping: false,
            busy: 0,
            max_tasks: 0,
        });
        status
    }

    /// As the daemon tells it.
    #[must_use]
    pub fn told(home: &Path, who: &Identity, told: Told) -> Self {
        let Told { report, journal, held, meters } = told;
        let Report { link, tasks, more_tasks, statuses, outbox, counters, stopping, busy, max_tasks, .. } = report;
        let mut status = Self::bare(home, tasks, more_tasks);
        status.daemon = Some(Running {
            pid: std::process::id(),
            version: service::VERSION.to_owned(),
            server: who.server.clone(),
            link: link.state.clone(),
            trouble: meters.trouble,
            answers: true,
            since: Some(who.since),
            stopping,
            busy,
            max_tasks,
        });
        status.link = Some(Link {
            state: link.state,
            live: link.live,
            way: link.way,
            wire: link.wire,
            since: meters.link_since,
            failures: link.failures,
            again_in: link.again_in,
            key_refused: meters.key_refused,
        });
        (status.statuses, status.outbox) = (statuses, Some(outbox));
        status.journal = Some(Journal { flushed: journal.flushed, held, trouble: journal.trouble });
        status.log_lines_dropped = Some(crate::logging::counts().1);
        status.counters = counters.all().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        status
    }

    fn bare(home: &Path, tasks: Vec<TaskReport>, more_tasks: usize) -> Self {
        let mut disk = Disk::of(home);
        let tasks = tasks.into_iter().map(|told| {
            let length = disk::log_length(home, told.id);
            disk.log_bytes = disk.log_bytes.saturating_add(length);
            Task { pid: disk::agent(home, told.id), lag: length.saturating_sub(told.delivered), told }
        });
        Self {
            home: home.display().to_string(),
            daemon: None,
            server: None,
            link: None,
            tasks: tasks.collect(),
            more_tasks,
            statuses: BTreeMap::new(),
            outbox: None,
            disk,
            journal: None,
            log_lines_dropped: None,
            counters: BTreeMap::new(),
        }
    }

    /// As the daemon of a home tells it; else what the disk tells.
    pub async fn ask(home: &Path) -> Self {
        let told = socket::get(home, "/status").await.ok();
        told.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| Self::of(home))
    }
}
