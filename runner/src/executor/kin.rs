//! Which processes belong to a task, and how they are ended, where `/proc` tells of all of them.
//!
//! A process belongs to a task if it is in the task's control group; or was started with the task's mark in its
//! environment; or is in the session that its supervisor leads, or the process group that the agent leads; or descends
//! from one that does, or from the supervisor. Each mark alone can be shaken off (a cleared environment, a session of its
//! own, a parent that ends), all of them only where there are no control groups.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::group;
use super::proc::{self, Process, Run};
use super::record::{Folder, Held, Identity, Intent};
use super::tree::{Ended, MARK, Taken, no_room};

/// The longest that a supervisor may take to leave.
const LEAVE: Duration = Duration::from_secs(5);

/// The longest that a tree may take to die.
const BOUND: Duration = Duration::from_secs(10);

/// The marks of one task's processes.
#[derive(Clone, Debug)]
pub(super) struct Kin {
    mark: String,
    group: Option<PathBuf>,
    supervisor: Option<Identity>,
    agent: Option<Identity>,
}

impl Kin {
    /// The tree of a start: what is known of it is what the supervisor wrote down.
    pub(super) fn of(intent: &Intent, held: Option<&Held>) -> Self {
        let held = held.filter(|held| held.nonce == intent.nonce);
        Self {
            mark: intent.mark().to_owned(),
            group: intent.group.clone(),
            supervisor: held.map(|held| held.supervisor),
            agent: held.and_then(|held| held.agent),
        }
    }

    /// Signals whoever is left of the tree. Blocks.
    pub(super) fn signal_members(&self, signal: Signal) {
        self.signal_those(signal, |_| true);
    }

    /// Stops all of it where it stands but the supervisor, and looks until two looks in a row find nobody going on: by
    /// then all that may still be inside the kernel have been signalled, and cannot come out of it but stopped. Blocks.
    pub(super) fn freeze(&self) -> Result<(), String> {
        if let Some(group) = self.own_group() {
            group::freeze(group, true).map_err(|failure| format!("its control group cannot be frozen: {failure}"))?;
            return self.until(|| group::is_frozen(group));
        }
        self.until_quiet(|| {
            let going = self.signal_those(Signal::STOP, |process| process.run != Run::Stopped);
            going.iter().any(|process| process.run == Run::Free)
        })
    }

    /// Lets all of it go on. Blocks.
    pub(super) fn thaw(&self) -> Result<(), String> {
        if let Some(group) = self.own_group() {
            group::freeze(group, false).map_err(|failure| format!("its control group cannot go on: {failure}"))?;
        }
        // Also where there is a group: by signals it may have been stopped before that. Whoever is inside the kernel is
        // to come out of it going on, too.
        self.until_quiet(|| {
            let standing = self.signal_those(Signal::CONT, |process| process.run != Run::Free);
            standing.iter().any(|process| process.run == Run::Stopped)
        })
    }

    /// Signals those of its members that are like this, and says which they are.
    fn signal_those(&self, signal: Signal, are: impl Fn(&Process) -> bool) -> Vec<Process> {
        let those: Vec<Process> = self.members().into_iter().filter(are).collect();
        for process in &those {
            proc::signal(process.id, signal);
        }
        those
    }

    /// The group, if the agent's processes are in it and the supervisor is not: where it could not go in, nobody did.
    fn own_group(&self) -> Option<&std::path::Path> {
        let group = self.group.as_deref()?;
        let members = group::members(group);
        let with_us = self.supervisor.is_some_and(|supervisor| members.contains(&supervisor.pid));
        (!with_us && !members.is_empty()).then_some(group)
    }

    /// Acts until twice in a row nobody was left who had to be acted on.
    fn until_quiet(&self, mut act: impl FnMut() -> bool) -> Result<(), String> {
        let mut quiet = 0;
        self.until(|| {
            quiet = if act() { 0 } else { quiet + 1 };
            quiet == 2
        })
    }

    /// Looks until it is so.
    fn until(&self, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
        let until = Instant::now() + BOUND;
        while !is_so() {
            if Instant::now() > until {
                return Err(format!("not all of its processes obeyed within {} s", BOUND.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Kills all of it but the supervisor, and looks until two looks in a row find nobody; then sees the supervisor
    /// off, which has the end to write down; where it is to be heard out, it stays if it has no room for that in its
    /// folder. Blocks.
    pub(super) fn end(&self, heard_out: Option<&Folder>) -> Ended {
        let until = Instant::now() + BOUND;
        let mut met: BTreeSet<Identity> = BTreeSet::new();
        let mut quiet = 0;
        let mut pause = Duration::from_micros(200);
        loop {
            let members = self.members();
            // One that is about to be gone may have lost its marks before: its memory, its leader.
            let going: Vec<i32> = met.iter().filter(|id| proc::is_alive(**id)).map(|id| id.pid).collect();
            quiet = if members.is_empty() && going.is_empty() { quiet + 1 } else { 0 };
            if quiet == 2 {
                break;
            }
            if quiet == 0 {
                if Instant::now() > until {
                    let members = members.into_iter().map(|process| process.id.pid);
                    return Ended::Left(members.chain(going).collect::<BTreeSet<i32>>().into_iter().collect());
                }
                met.extend(members.iter().map(|process| process.id));
                self.kill(&members);
                // The kernel needs a moment for each, more if it has much memory to give back.
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
        if let Err(why) = self.see_off(heard_out) {
            return Ended::Owing(why);
        }
        self.remove_group(until);
        let others = met.into_iter().filter(|id| Some(*id) != self.agent).count();
        Ended::Empty(u32::try_from(others).unwrap_or(u32::MAX))
    }

    /// A supervisor whose agent has ended, and with it all who could write to its pipes, leaves by itself. Fails with why
    /// it cannot write down what it has to.
    fn see_off(&self, heard_out: Option<&Folder>) -> Result<(), String> {
        let Some(supervisor) = self.supervisor else { return Ok(()) };
        // It tries once a second: where there is room just now, it has a while more.
        for _ in 0..2 {
            if is_gone_within(supervisor, LEAVE) {
                return Ok(());
            }
            if let Some(why) = heard_out.and_then(no_room) {
                return Err(why);
            }
        }
        tracing::warn!("a supervisor does not leave: it is killed");
        proc::signal(supervisor, Signal::KILL);
        Ok(())
    }

    /// What they take: as their group counts it, where it does, else each by itself.
    pub(super) fn takes(&self) -> Taken {
        let members = self.members();
        let counted = self.own_group().and_then(group::memory);
        let memory = counted.unwrap_or_else(|| members.iter().filter_map(|process| proc::memory(process.id.pid)).sum());
        Taken { memory, processes: u32::try_from(members.len()).unwrap_or(u32::MAX) }
    }

    fn kill(&self, members: &[Process]) {
        if let Some(group) = &self.group {
            // It is in there for a moment only, unless it may not leave.
            let spared = self.supervisor.is_some_and(|supervisor| group::members(group).contains(&supervisor.pid));
            if !spared {
                group::kill(group);
            }
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

    /// Everybody alive who belongs to it, but the supervisor.
    fn members(&self) -> Vec<Process> {
        let all = proc::all();
        let grouped: BTreeSet<i32> =
            self.group.as_deref().map(group::members).unwrap_or_default().into_iter().collect();
        let session = leads(self.supervisor, &all);
        let group = leads(self.agent, &all);
        let mark = format!("{MARK}={}", self.mark);
        let born = self.supervisor.map_or(0, |supervisor| supervisor.start);
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let other = |process: &Process| process.id.pid != own && Some(process.id) != self.supervisor;
        let belongs = |process: &Process| {
            let by_number = session.is_some_and(|leader| process.session == leader) || group == Some(process.group);
            grouped.contains(&process.id.pid) || by_number || proc::bears(process.id.pid, mark.as_bytes())
        };
        // Nobody older than the supervisor can belong to it; that spares looking into most processes.
        let young = all.into_iter().filter(|process| process.id.start >= born && other(process));
        let (mut members, mut rest): (Vec<_>, Vec<_>) = young.partition(belongs);
        // Descendants that have shaken off every mark; what has lost its parent is the supervisor's child.
        let mut pids: BTreeSet<i32> = members.iter().map(|process| process.id.pid).collect();
        pids.extend(session);
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
}

/// Waits until a process is gone, no longer than this.
fn is_gone_within(process: Identity, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    while proc::is_alive(process) {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    true
}

/// The number that a session or a group is known by, if it is sure to be this process's.
fn leads(leader: Option<Identity>, all: &[Process]) -> Option<i32> {
    let leader = leader?;
    all.iter().any(|process| process.id == leader).then_some(leader.pid)
}
