//! Which processes belong to a task, and how they are ended.
//!
//! A process belongs to a task if it is in the task's control group; or was started with the task's nonce in
//! its environment; or is in the session or the process group that the agent leads; or descends from one
//! that does. Each mark alone can be shaken off (a cleared environment, a session of its own, a parent that
//! ends), all of them only where there are no control groups.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::group;
use super::proc::{self, Process};
use super::record::{Identity, Intent};

/// The environment variable that bears a task's nonce.
pub(super) const MARK: &str = "MAKIMA_TREE";

/// The longest that a tree may take to die.
const BOUND: Duration = Duration::from_secs(10);

/// The marks of one task's processes.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nonce: String,
    group: Option<PathBuf>,
    agent: Option<Identity>,
    /// Whether the agent's number cannot have been given to another process while its session had members:
    /// true in the life of the daemon that started it.
    ours: bool,
}

/// How the end of a tree went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// None is left. So many were alive beside the agent.
    Empty(u32),
    /// These could not be ended.
    Left(Vec<i32>),
}

impl Tree {
    /// The tree of an agent that this life of the daemon started.
    pub(super) fn started(intent: &Intent, agent: Identity) -> Self {
        Self { nonce: intent.nonce.clone(), group: intent.group.clone(), agent: Some(agent), ours: true }
    }

    /// The tree that an earlier life of the daemon left. None if the machine was started since.
    pub(super) fn left(intent: &Intent, agent: Option<Identity>) -> Option<Self> {
        let same = !intent.boot.is_empty() && intent.boot == proc::boot();
        same.then(|| Self { nonce: intent.nonce.clone(), group: intent.group.clone(), agent, ours: false })
    }

    /// Signals the agent's process group, if the agent is there. To be called where the agent is waited for,
    /// so that its number stays its own in between.
    pub(super) fn signal_group(&self, signal: Signal) -> bool {
        let leader = self.agent.filter(|agent| proc::is_alive(*agent));
        leader.and_then(|agent| Pid::from_raw(agent.pid)).is_some_and(|pid| kill_process_group(pid, signal).is_ok())
    }

    /// Signals whoever is left of the tree. Blocks.
    pub(super) fn signal_members(&self, signal: Signal) {
        for process in self.members() {
            proc::signal(process.id, signal);
        }
    }

    /// Kills all of it and looks until two looks in a row find nobody. Blocks.
    pub(super) fn end(&self) -> Ended {
        let until = Instant::now() + BOUND;
        let mut met: BTreeSet<Identity> = BTreeSet::new();
        let mut quiet = 0;
        let mut pause = Duration::from_micros(200);
        loop {
            let members = self.members();
            quiet = if members.is_empty() { quiet + 1 } else { 0 };
            if quiet == 2 {
                break;
            }
            if quiet == 0 {
                if Instant::now() > until {
                    return Ended::Left(members.into_iter().map(|process| process.id.pid).collect());
                }
                met.extend(members.iter().map(|process| process.id));
                self.kill(&members);
                // The kernel needs a moment for each, more if it has much memory to give back.
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
        self.remove_group(until);
        let others = met.into_iter().filter(|id| Some(*id) != self.agent).count();
        Ended::Empty(u32::try_from(others).unwrap_or(u32::MAX))
    }

    fn kill(&self, members: &[Process]) {
        if let Some(group) = &self.group {
            group::kill(group);
        }
        for process in members {
            proc::signal(process.id, Signal::KILL);
        }
    }

    /// A group with nothing but zombies in it can take a moment before it counts as empty.
    fn remove_group(&self, until: Instant) {
        let Some(group) = &self.group else { return };
        while let Err(failure) = group::remove(group) {
            if Instant::now() > until {
                tracing::warn!("a control group is left behind: {failure}");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everybody alive who belongs to it.
    fn members(&self) -> Vec<Process> {
        let all = proc::all();
        let grouped: BTreeSet<i32> =
            self.group.as_deref().map(group::members).unwrap_or_default().into_iter().collect();
        let session = self.session(&all);
        let mark = format!("{MARK}={}", self.nonce);
        let born = self.agent.map_or(0, |agent| agent.start);
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let belongs = |process: &Process| {
            let by_agent = session.is_some_and(|agent| process.session == agent || process.group == agent);
            grouped.contains(&process.id.pid) || by_agent || proc::bears(process.id.pid, mark.as_bytes())
        };
        // Nobody older than the agent can belong to it; that spares looking into most processes.
        let (mut members, mut rest): (Vec<_>, Vec<_>) =
            all.into_iter().filter(|process| process.id.start >= born && process.id.pid != own).partition(belongs);
        // Descendants that have shaken off every mark.
        let mut pids: BTreeSet<i32> = members.iter().map(|process| process.id.pid).collect();
        loop {
            let (more, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|process| pids.contains(&process.parent));
            rest = others;
            if more.is_empty() {
                break;
            }
            pids.extend(more.iter().map(|process| process.id.pid));
            members.extend(more);
        }
        members.retain(|process| process.alive);
        members
    }

    /// The number of the agent's session, if it is sure to be the agent's.
    fn session(&self, all: &[Process]) -> Option<i32> {
        let agent = self.agent?;
        match all.iter().find(|process| process.id.pid == agent.pid) {
            Some(process) => (process.id == agent).then_some(agent.pid),
            // A number is not given away again while a session bears it.
            None => self.ours.then_some(agent.pid),
        }
    }
}
