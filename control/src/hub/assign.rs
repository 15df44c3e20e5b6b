//! Which daemon gets which task.

use std::cmp::Ordering;

use makima_core::protocol::{InterruptTask, SpawnTask, Wire};
use makima_core::time::Millis;
use makima_core::{limits, policy};
use uuid::Uuid;

use super::steer::{Waiting, hold};
use super::task::{Asked, Life, Task, Told, pending};
use super::{Answer, Daemon, Effect, Hub, Ordered, PER_DAEMON, Record, Session, SessionId, send};

/// The longest that a gentle interruption lasts before the agent is killed: where it is being started still, it is
/// asked after that, and is given some time for each request.
const INTERRUPTED: Millis = Millis(limits::START.0 + limits::INTERRUPT_TO_TERMINATE.0 + limits::TERMINATE_TO_KILL.0);

impl Hub {
    pub(super) fn create(
        &mut self,
        now: Millis,
        spawn: Box<SpawnTask>,
        after: Vec<Uuid>,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let id = spawn.task_id;
        if self.tasks.contains_key(&id) {
            return Answer::Known;
        }
        if let Some(refusal) = self.refuses_needs(id, &after) {
            return refusal;
        }
        let needs = self.open_needs(&after);
        let seq = self.next_seq;
        self.next_seq = self.next_seq.saturating_add(1);
        let name = policy::task_name(&spawn.task_name, &spawn.plan);
        out.push(Effect::Record(Record::Task { seq, name: name.clone(), spawn: spawn.clone(), after, created: now }));
        if let Some(parent) = spawn.parent_task_id {
            self.children.add(parent, seq, id);
        }
        self.tasks.insert(
            id,
            Task {
                seq,
                name,
                status: pending(),
                parent: spawn.parent_task_id,
                cost: 0,
                committed: None,
                talks: false,
                branch_known: false,
                events: 0,
                bytes: 0,
                log_at: Some(0),
                line_begun: false,
                rewinding: None,
                ordered: Ordered::default(),
                hold: None,
                words: Waiting::default(),
                restored: false,
                life: Life::Waiting { spawn, needs: needs.clone() },
            },
        );
        if needs.is_empty() {
            self.waiting.insert(seq, id);
            self.place_waiting(out);
        } else {
            self.hold_back(seq, id, &needs);
            self.tell_needs(now, id, &needs, out);
        }
        Answer::Done
    }

    /// Gives waiting tasks to daemons, oldest first, as long as there is room.
    pub(super) fn place_waiting(&mut self, out: &mut Vec<Effect>) {
        let mut after = None;
        while let Some((seq, id)) = self.next_waiting(after) {
            after = Some(seq);
            match self.choose(id) {
                Choice::Daemon(daemon) => self.assign(seq, id, daemon, out),
                Choice::ItsOwnIsFull => {}
                // Nobody has room, so nobody has any for those behind it either.
                Choice::Nobody => break,
            }
        }
    }

    fn next_waiting(&self, after: Option<u64>) -> Option<(u64, Uuid)> {
        let from = after.map_or(0, |seq| seq.saturating_add(1));
        self.waiting.range(from..).next().map(|(seq, id)| (*seq, *id))
    }

    /// Work that builds on other work goes where that lies; the rest to the least loaded daemon that is there.
    fn choose(&self, id: Uuid) -> Choice {
        let Some(Task { life: Life::Waiting { spawn, .. }, .. }) = self.tasks.get(&id) else { return Choice::Nobody };
        let relatives = [spawn.continue_from_task_id, spawn.parent_task_id];
        let home = relatives.into_iter().flatten().find_map(|relative| self.tasks.get(&relative)?.life.daemon());
        if let Some((id, daemon)) = home.and_then(|home| self.daemons.get_key_value(&home)) {
            return if daemon.has_room() { Choice::Daemon(*id) } else { Choice::ItsOwnIsFull };
        }
        self.daemons
            .iter()
            .filter(|(_, daemon)| daemon.session.is_some() && daemon.has_room())
            .min_by(|a, b| a.1.load(b.1))
            .map_or(Choice::Nobody, |(id, _)| Choice::Daemon(*id))
    }

    fn assign(&mut self, seq: u64, id: Uuid, to: Uuid, out: &mut Vec<Effect>) {
        let (Some(task), Some(daemon)) = (self.tasks.get_mut(&id), self.daemons.get_mut(&to)) else { return };
        let Some(spawn) = task.life.take_waiting() else { return };
        self.waiting.remove(&seq);
        daemon.tasks.insert(seq, id);
        out.push(Effect::Record(Record::Assigned { task: id, daemon: to }));
        if let Some(Session { id: session, wire: Wire::One, .. }) = daemon.session {
            out.push(send(session, SpawnTask::clone(&spawn)));
            out.extend(task.hold.map(|paused| send(session, hold(id, paused))));
        }
        task.life = Life::Assigned { daemon: to, spawn, asked: None };
        self.order_missing(to, id, out);
        self.tell_waiting(id, out);
    }

    /// This wire acknowledges no command, so a daemon that comes back is told everything that it may not
    /// have heard. It answers a task that it knows with how it stands, and never starts it twice; and neither a forced
    /// interruption nor the last wish that it stand still or go on is any the worse for being repeated. A gentle
    /// interruption is: see [`Hub::repeat_interruptions`].
    pub(super) fn send_again(&mut self, to: Uuid, session: SessionId, out: &mut Vec<Effect>) {
        let Some(daemon) = self.daemons.get(&to) else { return };
        for id in daemon.tasks.values() {
            let Some(task) = self.tasks.get_mut(id) else { continue };
            let Life::Assigned { spawn, asked, .. } = &mut task.life else { continue };
            out.push(send(session, SpawnTask::clone(spawn)));
            if asked.is_none() {
                out.extend(task.hold.map(|paused| send(session, hold(*id, paused))));
            }
            match asked {
                Some(Asked::AtOnce) => out.push(send(session, InterruptTask { task_id: *id, graceful: false })),
                Some(Asked::Gracefully(told @ Told::Never)) => {
                    *told = Told::Over(session);
                    out.push(send(session, InterruptTask { task_id: *id, graceful: true }));
                }
                Some(Asked::Gracefully(Told::Over(_) | Told::Perhaps)) | None => {}
            }
        }
        for id in daemon.tasks.values().copied().collect::<Vec<_>>() {
            self.tell_waiting(id, out);
        }
    }

    /// Tells a daemon once more of gentle interruptions that it may have been told of over a connection that broke,
    /// when any that it did hear of is over: it would have ended the task, and said so over this connection. Called
    /// with every heartbeat.
    pub(super) fn repeat_interruptions(&mut self, now: Millis, to: Uuid, out: &mut Vec<Effect>) {
        let Some((daemon, session)) = self.daemons.get(&to).and_then(|daemon| Some((daemon, daemon.session?))) else {
            return;
        };
        if now.0.saturating_sub(session.since.0) < INTERRUPTED.0 {
            return;
        }
        for id in daemon.tasks.values() {
            if let Some(Task { life: Life::Assigned { asked: Some(Asked::Gracefully(told)), .. }, .. }) =
                self.tasks.get_mut(id)
                && *told != Told::Over(session.id)
            {
                *told = Told::Over(session.id);
                out.push(send(session.id, InterruptTask { task_id: *id, graceful: true }));
            }
        }
    }
}

enum Choice {
    Daemon(Uuid),
    ItsOwnIsFull,
    Nobody,
}

impl Daemon {
    fn has_room(&self) -> bool {
        self.tasks.len() < PER_DAEMON
    }

    /// Compares how full two daemons are, each measured by what it runs at once.
    fn load(&self, other: &Self) -> Ordering {
        let weight = |daemon: &Self| u64::from(daemon.max_tasks.max(1).unsigned_abs());
        let tasks = |daemon: &Self| u64::try_from(daemon.tasks.len()).unwrap_or(u64::MAX);
        let (mine, theirs) = (tasks(self).saturating_mul(weight(other)), tasks(other).saturating_mul(weight(self)));
        mine.cmp(&theirs)
    }
}
