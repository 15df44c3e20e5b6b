//! The daemon's state in a form that can be written down and read back. Never the wire's types.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::Config;
use crate::daemon::{Core, Daemon};
use crate::digest::{self, Digests};
use crate::id::TaskId;
use crate::index::Index;
use crate::task::Task;

/// The version of the form that this build writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// Under what the tasks stand. A build that is given a version of its own writes another name than the usual one, and
/// each build reads both: to change from one to the other is to change from one form to another, as an upgrade may be.
const TASKS: &str = if option_env!("MAKIMA_BUILD_VERSION").is_some() { OTHER } else { USUAL };
const USUAL: &str = "tasks";
const OTHER: &str = "work";

/// The whole state of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    version: u32,
    config: Config,
    core: Core,
    #[serde(alias = "work")]
    tasks: Vec<(TaskId, Task)>,
    /// Of all of the above.
    seal: u64,
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write(TASKS, serializer)
    }
}

impl Snapshot {
    fn write<S: Serializer>(&self, tasks: &'static str, serializer: S) -> Result<S::Ok, S::Error> {
        let mut form = serializer.serialize_struct("Snapshot", 5)?;
        form.serialize_field("version", &self.version)?;
        form.serialize_field("config", &self.config)?;
        form.serialize_field("core", &self.core)?;
        form.serialize_field(tasks, &self.tasks)?;
        form.serialize_field("seal", &self.seal)?;
        form.end()
    }
}

/// Why a snapshot is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It was written by another version.
    #[error("the snapshot has version {found}; this makima reads version {VERSION}")]
    Version {
        /// The version that it has.
        found: u32,
    },
    /// What it holds does not add up to what was written.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

impl Snapshot {
    /// The state of a daemon with the same settings to which nothing has happened yet.
    #[must_use]
    pub fn blank(&self) -> Self {
        Daemon::new(self.config.clone()).snapshot()
    }
}

impl Daemon {
    /// The state as it stands between two steps.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: VERSION,
            config: self.config.clone(),
            core: self.core.clone(),
            tasks: self.tasks.iter().map(|(id, task)| (*id, task.clone())).collect(),
            seal: self.seal(),
        }
    }

    /// The digest is the state's; the settings belong to the snapshot too.
    fn seal(&self) -> u64 {
        digest::of(&(self.digest_anew(), &self.config))
    }

    /// The daemon that the snapshot was taken of.
    ///
    /// # Errors
    /// A snapshot of another version, or one that was damaged: it is refused, never misread.
    pub fn restore(snapshot: Snapshot) -> Result<Self, SnapshotError> {
        if snapshot.version != VERSION {
            return Err(SnapshotError::Version { found: snapshot.version });
        }
        let tasks: BTreeMap<TaskId, Task> = snapshot.tasks.into_iter().collect();
        let (config, core) = (snapshot.config, snapshot.core);
        let mut daemon = Self { config, core, tasks, index: Index::default(), digests: Digests::default() };
        if daemon.seal() != snapshot.seal || !daemon.tasks.values().all(Task::is_whole) {
            return Err(SnapshotError::Damaged(
                "its contents do not match its digest, as this build reckons it".into(),
            ));
        }
        for id in daemon.tasks.keys().copied().collect::<Vec<_>>() {
            daemon.reindex(id);
        }
        daemon.restore_starved();
        Ok(daemon)
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::string::ToString as _;
    use alloc::vec::Vec;

    use serde::{Serialize, Serializer};

    use super::{OTHER, Snapshot, TASKS, USUAL};
    use crate::config::{Compat, Config};
    use crate::daemon::Daemon;
    use crate::id::Epoch;
    use crate::input::{Boot, Input};
    use crate::protocol::{Authenticated, DaemonCommand, SpawnTask, Wire};
    use crate::retain::Keep;
    use crate::time::Now;

    /// A snapshot as a build writes it that has this name for the tasks.
    struct Form<'a>(&'a Snapshot, &'static str);

    impl Serialize for Form<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.write(self.1, serializer)
        }
    }

    /// A daemon with a task.
    fn daemon() -> Daemon {
        let config = Config {
            machine_id: "machine".to_string(),
            hostname: "host".to_string(),
            max_tasks: 1,
            working_directory: "/work".to_string(),
            home_directory: "/home".to_string(),
            worktrees_directory: "/trees".to_string(),
            api_url: "http://127.0.0.1:1".to_string(),
            program: "/bin/makima".into(),
            agent: crate::agent::Agent::default(),
            once: false,
            compat: Compat::default(),
            keep: Keep::default(),
            allowance: crate::allowance::Allowance::default(),
        };
        let mut daemon = Daemon::new(config);
        let epoch = Epoch(1);
        let command =
            |command: DaemonCommand| Input::Command { epoch, seq: None, command: Box::new(command), credentials: None };
        let id = uuid::Uuid::from_u128(7);
        for input in [
            Input::Boot(Boot { incarnation: 1, seed: 1, config: None, leftovers: Vec::new() }),
            Input::LinkUp { epoch, wire: Wire::One },
            command(Authenticated { daemon_id: id }.into()),
            command(SpawnTask::new(id, "true".to_string()).into()),
        ] {
            daemon.step(Now::default(), input, &mut Vec::new());
        }
        daemon
    }

    #[test]
    fn a_snapshot_of_either_form_is_restored_and_goes_on() {
        let daemon = daemon();
        assert_eq!(daemon.statuses().count(), 1, "there is a task to be lost");
        let snapshot = daemon.snapshot();
        let written = [USUAL, OTHER].map(|name| serde_json::to_string(&Form(&snapshot, name)).expect("JSON"));
        assert_ne!(written[0], written[1]);
        assert!(written.contains(&serde_json::to_string(&snapshot).expect("JSON")), "this build writes one of them");
        for text in written {
            let read: Snapshot = serde_json::from_str(&text).expect("it is read");
            let mut restored = Daemon::restore(read).expect("it is whole");
            restored.check();
            assert_eq!(restored, daemon);
            let boot = Boot { incarnation: 2, seed: 2, config: None, leftovers: Vec::new() };
            restored.step(Now::default(), Input::Boot(boot), &mut Vec::new());
            restored.check();
            assert_eq!(restored.statuses().count(), 1);
        }
    }

    #[test]
    fn only_a_build_with_a_version_of_its_own_writes_the_other_form() {
        assert_eq!(TASKS == OTHER, option_env!("MAKIMA_BUILD_VERSION").is_some());
    }

    /// Neither half of one form and half of the other, nor both at once.
    #[test]
    fn a_snapshot_without_tasks_or_with_two_lists_of_them_is_none() {
        let text = serde_json::to_string(&Form(&daemon().snapshot(), USUAL)).expect("JSON");
        let without = text.replacen("\"tasks\":[", "\"tusks\":[", 1);
        assert_ne!(without, text);
        assert!(serde_json::from_str::<Snapshot>(&without).is_err());
        let twice = text.replacen("\"tasks\":[", "\"work\":[],\"tasks\":[", 1);
        assert!(serde_json::from_str::<Snapshot>(&twice).is_err());
    }
}
