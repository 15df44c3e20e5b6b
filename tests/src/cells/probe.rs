//! What else could have come just then: tried on copies of the daemon, each of which takes one step and is forgotten.

use std::collections::BTreeSet;

use makima_core::Daemon;
use makima_core::effect::{Way, Work};
use makima_core::id::{EffectId, Epoch, SecretId, TaskId};
use makima_core::input::{Boot, Change, ExitStatus, Input, Leftover, LinkCause, Outcome, Prepared, Stage, Stop};
use makima_core::protocol::{
    Authenticated, DaemonCommand, Hello, InterruptTask, Said, SendMessage, ServerError, Unreadable, UnreadableKind,
    Wire,
};
use makima_core::task::{Action, End, EndStatus};
use makima_core::time::{Millis, Now};
use makima_core::view::{LinkState, Role, TaskState};

use super::watch::{Known, Watch, worktree};
use super::{UNKNOWN, merge};
use crate::world::{Machine, SLOTS, TASKS, TaskKind, config, other, spawn, task_id};

/// A state is tried again whenever it was come to so many times as often as the time before, and so often at first.
const AGAIN: u64 = 8;
const AT_FIRST: u64 = 2;

/// So late a tick comes, so many times one after the other, while nobody answers anything.
const LATE: Millis = Millis::seconds(1_800);
const TICKS: usize = 4;

/// So many deadlines come each in its time.
const DEADLINES: usize = 20;

/// Further than any log of the world reaches.
const LOG_END: u64 = 1 << 20;

/// Those of the commands that [`other`] knows that differ in what they may come to: each kind, a branch that is none, a
/// strategy that is none, every action.
const OTHERS: [u8; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 29, 44, 59, 129, 243];

/// The same about merges: with each branch that there may be.
const MERGES: [u8; 20] = [2, 3, 4, 5, 8, 9, 10, 11, 18, 26, 33, 41, 48, 63, 78, 93, 108, 116, 129, 243];

type Seen<'a> = (Now, &'a Daemon, &'a Machine);

impl Watch {
    /// Tries what could come now to the tasks that the step was about, and to the link.
    pub(super) fn try_all(&mut self, touched: &BTreeSet<TaskId>, link: LinkState, seen: Seen<'_>) {
        let (_, daemon, machine) = seen;
        for task in touched {
            if self.is_time(seen, *task) {
                let mut known = self.known.clone();
                // One that came by a new life has had no answer yet.
                known.asked.answered.entry(*task).or_insert(EffectId { incarnation: daemon.incarnation(), n: 0 });
                self.try_lives(&known, *task, seen);
                self.try_task(&known, *task, seen, 1);
            }
            if let Some((_, end)) = self.known.asked.conclusion(*task)
                && self.visit(stage(&machine.leftovers(), *task), end)
            {
                self.try_unwritten(&self.known.clone(), *task, seen);
            }
            if is_open(daemon) && self.visit(ripeness(daemon, machine, *task), merge_at(seen, *task)) {
                self.try_merge(&self.known.clone(), *task, seen, 2);
            }
        }
        let way = self.known.connection(daemon, Role::Main).map(|(_, way)| way);
        let what = if way == Some(Way::LongPoll) { "the link, by long-poll" } else { "the link" };
        if daemon.link_at() != link && self.visit(what, daemon.link_at().name()) {
            self.try_link(&self.known.clone(), seen);
        }
    }

    /// Whether it is time to try what can come to a task.
    fn is_time(&mut self, (_, daemon, machine): Seen<'_>, task: TaskId) -> bool {
        let at = daemon.task_at(task).map_or(UNKNOWN, |at| at.name());
        let what = match (is_open(daemon), machine.spec(task).is_some_and(|spec| spec.action == Action::None)) {
            (false, _) => "the link is down",
            (true, true) => "nothing is handed over",
            (true, false) => stage(&machine.leftovers(), task),
        };
        self.visit(what, at)
    }

    fn visit(&mut self, what: &'static str, at: &'static str) -> bool {
        let visits = self.visits.entry((what, at)).or_default();
        *visits += 1;
        *visits <= AT_FIRST || *visits == AGAIN.pow(visits.ilog(AGAIN))
    }

    /// One step of a copy. Gives the copy back, and what is known of it.
    fn try_one(&mut self, known: &Known, (now, daemon, machine): Seen<'_>, input: Input) -> (Daemon, Known) {
        let (mut copy, mut known) = (daemon.clone(), known.clone());
        let mut effects = Vec::new();
        let lags = known.lags || known.asked.is_record(&input);
        let moment = known.moment(daemon, now, &input);
        copy.step(now, input, &mut effects);
        copy.check_state();
        self.cells.note(&moment, &copy, &effects);
        self.cells.note_merge(&moment, &known, (&copy, machine), &effects);
        known.keep(&moment, now, &effects);
        known.look(&moment, &copy, machine);
        known.lags = lags;
        (copy, known)
    }

    /// Everything that can come to a task, and again behind what is kept for later, or where nobody has been.
    fn try_task(&mut self, known: &Known, task: TaskId, seen: Seen<'_>, deep: u8) {
        let mut inputs: Vec<Input> = commands(task).into_iter().filter_map(|it| says(known, seen.1, it)).collect();
        if let Some(unknown) = (0..TASKS).map(task_id).find(|task| seen.1.task_at(*task).is_none())
            && self.visit("a task", UNKNOWN)
        {
            inputs.extend(commands(unknown).into_iter().filter_map(|it| says(known, seen.1, it)));
        }
        self.try_inputs(known, task, seen, inputs, deep);
        for input in wants(known, seen.1, task) {
            let (copy, known) = self.try_one(known, seen, input);
            let seen = (seen.0, &copy, seen.2);
            let inputs = wants(&known, &copy, task);
            self.try_inputs(&known, task, seen, inputs, deep);
        }
        for input in answers(known, task) {
            let (copy, known) = self.try_one(known, seen, input);
            if copy.task_at(task) == seen.1.task_at(task) {
                for input in wants(&known, &copy, task) {
                    self.try_one(&known, (seen.0, &copy, seen.2), input);
                }
            }
        }
    }

    /// The daemon is killed just now: the next life goes on, with what is known and without, also behind what is kept for
    /// later.
    fn try_lives(&mut self, known: &Known, task: TaskId, seen: Seen<'_>) {
        let (now, daemon, machine) = seen;
        let found = lives(known, seen, task);
        for leftovers in &found {
            self.try_life(known, seen, leftovers);
            let what = if leftovers.len() > SLOTS as usize { "a new life of many" } else { "a new life" };
            if self.visit(what, stage(leftovers, task)) {
                self.try_life(known, (now, &Daemon::new(config()), machine), leftovers);
            }
        }
        let begun = found.iter().filter(|leftovers| stage(leftovers, task) == "accepted").take(1);
        for leftovers in begun {
            for input in wants(known, daemon, task) {
                let (copy, known) = self.try_one(known, seen, input);
                self.try_life(&known, (now, &copy, machine), leftovers);
            }
        }
    }

    fn try_inputs(&mut self, known: &Known, task: TaskId, seen: Seen<'_>, mut inputs: Vec<Input>, deep: u8) {
        let (now, daemon, machine) = seen;
        inputs.extend(answers(known, task));
        for input in inputs {
            let (copy, known) = self.try_one(known, seen, input);
            let seen = (now, &copy, machine);
            if copy.task_at(task) == daemon.task_at(task) {
                continue;
            }
            for input in answers(&known, task) {
                self.try_one(&known, seen, input);
            }
            if deep > 0 && self.is_time(seen, task) {
                self.try_lives(&known, task, seen);
                self.try_task(&known, task, seen, deep - 1);
            }
        }
        self.try_time(known, seen);
    }

    /// The daemon is killed, and its next life finds this.
    fn try_life(&mut self, known: &Known, seen: Seen<'_>, leftovers: &[Leftover]) {
        if known.lags {
            return;
        }
        // And once more, before anything is found again.
        let boot = |daemon: &Daemon| {
            let incarnation = daemon.incarnation() + 1;
            Input::Boot(Boot { incarnation, seed: 1, config: None, leftovers: leftovers.to_vec() })
        };
        let (copy, known) = self.try_one(known, seen, boot(seen.1));
        self.try_one(&known, (seen.0, &copy, seen.2), boot(&copy));
    }

    /// The end of a task cannot be written down, however often that is tried. Then the daemon is killed.
    fn try_unwritten(&mut self, known: &Known, task: TaskId, (mut now, daemon, machine): Seen<'_>) {
        let (mut daemon, mut known) = (daemon.clone(), known.clone());
        while let Some((id, _)) = known.asked.conclusion(task) {
            let failed = Input::Done { id, outcome: Outcome::Failed("x".to_string()) };
            (daemon, known) = self.try_one(&known, (now, &daemon, machine), failed);
            now.mono = now.mono + LATE;
            (daemon, known) = self.try_one(&known, (now, &daemon, machine), Input::Tick);
        }
        self.try_life(&known, (now, &daemon, machine), &machine.leftovers());
    }

    /// Time goes by, and nobody answers anything. Then the daemon is killed.
    fn try_time(&mut self, known: &Known, (mut now, daemon, machine): Seen<'_>) {
        let (mut daemon, mut known) = (daemon.clone(), known.clone());
        for _ in 0..TICKS {
            now.mono = now.mono + LATE;
            (daemon, known) = self.try_one(&known, (now, &daemon, machine), Input::Tick);
        }
        self.try_life(&known, (now, &daemon, machine), &machine.leftovers());
    }

    /// Every command about a merge, and those after it where that changed something.
    fn try_merge(&mut self, known: &Known, task: TaskId, seen: Seen<'_>, deep: u8) {
        let (now, daemon, machine) = seen;
        for command in MERGES.map(|which| other(task, which)) {
            let Some(input) = says(known, daemon, command) else { return };
            let (copy, known) = self.try_one(known, seen, input);
            let Some((id, step)) = known.asked.last_merge() else { continue };
            let failed = Outcome::Failed("x".to_string());
            self.try_one(&known, (now, &copy, machine), Input::Done { id, outcome: failed });
            let mut machine = machine.clone();
            let outcome = machine.merge(task, step);
            let (copy, known) = self.try_one(&known, (now, &copy, &machine), Input::Done { id, outcome });
            let stands = worktree(&machine, task);
            let what = if deep == 2 { "a merge that was moved" } else { "a merge that was moved twice" };
            if deep > 0 && stands != worktree(seen.2, task) && self.visit(what, stands) {
                self.try_end(&known, task, (now, &copy, &machine));
                self.try_merge(&known, task, (now, &copy, &machine), deep - 1);
            }
        }
    }

    /// A task ends at once, and its work is committed.
    fn try_end(&mut self, known: &Known, task: TaskId, (now, daemon, machine): Seen<'_>) {
        let end = InterruptTask { task_id: task.0, graceful: false };
        let Some(input) = says(known, daemon, end.into()) else { return };
        let mut machine = machine.clone();
        let (mut daemon, mut known) = self.try_one(known, (now, daemon, &machine), input);
        while let Some((id, work)) = known.asked.last_of_end(task) {
            machine.take(id, task, work);
            let Some(input) = machine.perform(id, false, |_| TaskKind::PLAIN) else { return };
            (daemon, known) = self.try_one(&known, (now, &daemon, &machine), input);
        }
    }

    /// Deadlines come, each in its time, and nobody answers anything.
    fn try_deadlines(&mut self, known: &Known, (mut now, daemon, machine): Seen<'_>) {
        let (mut daemon, mut known) = (daemon.clone(), known.clone());
        for _ in 0..DEADLINES {
            let Some((due, _)) = daemon.deadline() else { return };
            now.mono = due;
            (daemon, known) = self.try_one(&known, (now, &daemon, machine), Input::Tick);
        }
    }

    fn try_link(&mut self, known: &Known, seen: Seen<'_>) {
        let (now, daemon, machine) = seen;
        let mut inputs = Vec::new();
        if let Some((epoch, way)) = known.connection(daemon, Role::Main) {
            inputs.extend(over(epoch, daemon.link_at() == LinkState::Connecting));
            inputs.extend(breaks(epoch, way, daemon.link_at()));
        }
        if let Some((epoch, _)) = known.connection(daemon, Role::Probe) {
            inputs.extend(over(epoch, true).into_iter().chain(breaks(epoch, Way::WebSocket, LinkState::Connecting)));
        }
        if let Some((epoch, _)) = known.connection(daemon, Role::Leaving) {
            inputs.extend(over(epoch, false).into_iter().chain(breaks(epoch, Way::LongPoll, LinkState::Polling)));
        }
        inputs.push(Input::Pong { epoch: Epoch(0), n: 1 });
        inputs.push(Input::Stop { how: Stop::Detach });
        self.try_life(known, seen, &machine.leftovers());
        for input in inputs {
            let stands = matches!(input, Input::LinkUp { .. });
            let (copy, known) = self.try_one(known, seen, input);
            if let (Some((epoch, _)), true) = (known.connection(&copy, Role::Probe), stands) {
                for input in over(epoch, false) {
                    self.try_one(&known, (now, &copy, machine), input);
                }
                self.try_deadlines(&known, (now, &copy, machine));
            }
        }
        self.try_deadlines(known, seen);
        let night = Millis::seconds(3_600);
        let later = Now { mono: now.mono + night, asleep: now.asleep + night, unix: now.unix + night };
        self.try_one(known, (later, daemon, machine), Input::Tick);
    }
}

fn is_open(daemon: &Daemon) -> bool {
    matches!(daemon.link_at(), LinkState::Open | LinkState::Polling | LinkState::Trying)
}

pub(super) const fn is_end(at: TaskState) -> bool {
    matches!(at, TaskState::Done | TaskState::Failed | TaskState::Interrupted)
}

fn merge_at((_, daemon, machine): Seen<'_>, task: TaskId) -> &'static str {
    merge::at(daemon, task, worktree(machine, task))
}

/// Where the commands about merges may come to different things.
fn ripeness(daemon: &Daemon, machine: &Machine, task: TaskId) -> &'static str {
    match (has_ripe(daemon, machine, task), daemon.task_at(task).is_some_and(is_end)) {
        (false, _) => "a merge",
        (true, false) if machine.is_dirty(task) => "a merge that could be, and changes",
        (true, false) => "a merge that could be",
        (true, true) => "a merge that could be, late",
    }
}

/// Whether a task has subtasks that have ended with work to be merged.
fn has_ripe(daemon: &Daemon, machine: &Machine, task: TaskId) -> bool {
    let mut ended = daemon.tasks_at().filter(|(_, at)| is_end(*at)).map(|(child, _)| child);
    ended.any(|child| machine.has_work(child) && machine.spec(child).is_some_and(|spec| spec.parent == Some(task)))
}

/// The server says something, where it is let.
fn says(known: &Known, daemon: &Daemon, command: DaemonCommand) -> Option<Input> {
    let (epoch, _) = known.connection(daemon, Role::Main).filter(|_| is_open(daemon))?;
    Some(Input::Command { epoch, seq: None, command: Box::new(command), credentials: None })
}

/// What is kept for later where it cannot be done at once, and something that is done beside.
fn wants(known: &Known, daemon: &Daemon, task: TaskId) -> Vec<Input> {
    let task_id = task.0;
    let commands = [true, false].map(|graceful| InterruptTask { task_id, graceful }.into());
    let commands = commands.into_iter().chain([0, 1, 2].map(|which| other(task, which)));
    let mut inputs: Vec<Input> = commands.filter_map(|command| says(known, daemon, command)).collect();
    inputs.extend([Stop::Graceful, Stop::Forced].map(|how| Input::Stop { how }));
    inputs
}

/// Every command for a task.
fn commands(task: TaskId) -> Vec<DaemonCommand> {
    let task_id = task.0;
    let mut all: Vec<DaemonCommand> = OTHERS.iter().map(|which| other(task, *which)).collect();
    all.extend([true, false].map(|graceful| InterruptTask { task_id, graceful }.into()));
    all.push(SendMessage { task_id, message: "1".to_string() }.into());
    all.push(spawn(task, TaskKind::PLAIN).into());
    all
}

/// How what is under way for a task may be answered, and how its agent may end.
fn answers(known: &Known, task: TaskId) -> Vec<Input> {
    let asked = &known.asked;
    let mut inputs: Vec<Input> = Vec::new();
    for (id, (_, work)) in asked.works.iter().filter(|(_, (of, _))| *of == task) {
        let mut outcomes = good(work);
        outcomes.extend([Outcome::Failed("x".to_string()), Outcome::NoRoom("x".to_string())]);
        inputs.extend(outcomes.into_iter().map(|outcome| Input::Done { id: *id, outcome }));
    }
    inputs.extend(asked.answered.get(&task).map(|id| Input::Done { id: *id, outcome: Outcome::Done }));
    for (id, _) in asked.agents.iter().filter(|(_, of)| **of == task) {
        inputs.extend([ExitStatus::Code(0), ExitStatus::Signal(9)].map(|status| Input::Exited { id: *id, status }));
    }
    inputs
}

/// What an executor may say of what is done.
fn good(work: &Work) -> Vec<Outcome> {
    match work {
        Work::Accept { .. }
        | Work::Freeze
        | Work::Thaw
        | Work::Stdin { .. }
        | Work::Signal { .. }
        | Work::Conclude { .. }
        | Work::Delivered { .. } => vec![Outcome::Done],
        Work::Prepare(_) => {
            let checks = vec!["true".to_string()];
            vec![Outcome::Prepared(Prepared { checks, ..Prepared::default() })]
        }
        Work::Start(_) => vec![Outcome::Started { pid: 1, handed: 0 }],
        Work::Attach => vec![Outcome::Started { pid: 1, handed: 0 }, Outcome::NotStarted],
        Work::Empty => vec![Outcome::Emptied { killed: 0, log_end: LOG_END }],
        Work::MakeKey => vec![Outcome::Key(SecretId::DaemonKey)],
        Work::Measure => vec![Outcome::Measured { memory: 1, processes: 1 }],
        Work::Commit(_) => {
            let change = Change { commit: "x".to_string(), files: 1, insertions: 1, deletions: 0, note: None };
            vec![Outcome::Committed(None), Outcome::Committed(Some(change))]
        }
        Work::Check(_) => vec![Outcome::Checked { failed: None }],
        Work::Deliver(_) => vec![Outcome::Delivered { message: "x".to_string(), url: None }],
        // What comes of these is the world's to say.
        Work::Read { .. }
        | Work::Merge(_)
        | Work::Clone { .. }
        | Work::Look { .. }
        | Work::Close
        | Work::Discard
        | Work::Forget
        | Work::Expire { .. }
        | Work::Weigh { .. }
        | Work::Spare
        | Work::Purge => Vec::new(),
    }
}

/// How far a task has come by what is found of it.
fn stage(leftovers: &[Leftover], task: TaskId) -> &'static str {
    match leftovers.iter().find(|left| left.spec.id == task).map(|left| &left.stage) {
        None => "none",
        Some(Stage::Accepted) => "accepted",
        Some(Stage::Started(_)) => "started",
        Some(Stage::Ended(_)) => "ended",
    }
}

/// What the next life of the daemon may find of a task, if this one is killed now: what is there, and what may be there by
/// the time that the last is known of it.
fn lives(known: &Known, (_, daemon, machine): Seen<'_>, task: TaskId) -> Vec<Vec<Leftover>> {
    let mut found = vec![machine.leftovers()];
    let at = found[0].iter().position(|left| left.spec.id == task);
    let unwritten = known.asked.unwritten(task).map(|spec| Leftover {
        spec,
        stage: Stage::Accepted,
        delivered: 0,
        closed: false,
        skipped: Vec::new(),
    });
    let Some(left) = at.map(|at| found[0][at].clone()).or(unwritten) else { return found };
    let has_ended = daemon.task_at(task).is_some_and(is_end) || matches!(left.stage, Stage::Ended(_));
    let mut stages = Vec::new();
    if !has_ended {
        let end = |status| Stage::Ended(End { status, error: None, completion: None, log_end: 0 });
        stages.extend([EndStatus::Done, EndStatus::Failed, EndStatus::Interrupted].map(end));
    }
    if !has_ended && matches!(left.stage, Stage::Accepted) {
        stages.extend([Stage::Accepted, Stage::Started(Prepared::default())]);
    }
    for stage in stages {
        let mut all = machine.leftovers();
        all.retain(|left| left.spec.id != task);
        all.push(Leftover { stage, ..left.clone() });
        found.push(all);
    }
    found
}

/// What can come over a connection: that it stands, or then frames of each kind.
fn over(epoch: Epoch, connecting: bool) -> Vec<Input> {
    if connecting {
        return [Wire::One, Wire::Two].map(|wire| Input::LinkUp { epoch, wire }).to_vec();
    }
    let says =
        |command: DaemonCommand| Input::Command { epoch, seq: None, command: Box::new(command), credentials: None };
    let error = |code: &str| ServerError { code: code.to_string(), message: String::new() };
    let what =
        Unreadable { kind: UnreadableKind::NotAMessage, message_type: None, reason: "rubbish".to_string(), column: 1 };
    let hello = Hello { epoch: 1, of: 0, applied: 0, tasks: Vec::new() };
    vec![
        says(Authenticated { daemon_id: task_id(0).0 }.into()),
        says(error("unauthorized").into()),
        says(error("busy").into()),
        says(other(task_id(0), 0)),
        Input::Unreadable { epoch, seq: None, what },
        Input::Said { epoch, said: Said::Hello(hello) },
        Input::Said { epoch, said: Said::Ping(1) },
        Input::Pong { epoch, n: 1 },
        Input::Flushed { epoch, n: 1 },
    ]
}

/// How a connection can end. Requests are refused: that of a WebSocket before it stands, those of long-poll at any time.
fn breaks(epoch: Epoch, way: Way, at: LinkState) -> Vec<Input> {
    let text = || "x".to_string();
    let refused = |status, by_server, retry_after| LinkCause::Refused {
        status,
        by_server,
        html: false,
        retry_after,
        detail: text(),
    };
    let mut causes = vec![LinkCause::Broken(text())];
    let polls = way == Way::LongPoll;
    if at == LinkState::Connecting || polls {
        let later = Some(Millis::seconds(20));
        causes.extend([refused(401, true, None), refused(404, false, None), refused(503, true, later)]);
        causes.push(LinkCause::Unreachable(text()));
    }
    if at != LinkState::Connecting {
        causes.push(LinkCause::Closed(text()));
    }
    if at != LinkState::Connecting && polls {
        causes.push(LinkCause::Gone);
    }
    causes.into_iter().map(|cause| Input::LinkDown { epoch, cause }).collect()
}
