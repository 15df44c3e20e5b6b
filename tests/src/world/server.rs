//! Two servers that know nothing but the wire's tables: one takes it as literally as can be, one loosely. Both
//! keep a ledger of what they were told, and fail the run where that cannot be true.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use makima_core::id::TaskId;
use makima_core::protocol::{Authenticated, DaemonCommand, DaemonMessage, ServerError, SpawnTask, TaskStatusChange};
use uuid::Uuid;

use super::sightings::Sightings;

/// How a server reads the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A closed list of statuses, one line an output, reconciles by heartbeat, answers no pings.
    Literal,
    /// Takes what comes, answers pings, asks again for tasks that it heard nothing of.
    Loose,
}

/// Something on its way to the daemon.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A command.
    Command(Box<DaemonCommand>),
    /// A line that is none.
    Rubbish,
    /// The answer to the ping that was this frame.
    Pong(u64),
}

/// The server.
#[derive(Clone, Debug)]
pub struct Server {
    manner: Manner,
    /// Frames on their way to the daemon.
    pub(super) replies: VecDeque<Reply>,
    /// Connections so far: outputs of different ones are told apart by it.
    session: u32,
    /// Kills of the daemon so far.
    life: u32,
    authenticated: bool,
    ledger: BTreeMap<TaskId, Entry>,
    /// Tasks that it asked for, as it asked.
    asked: BTreeMap<TaskId, SpawnTask>,
    /// The next daemon that says who it is is turned away with this code.
    rejects: Option<&'static str>,
    /// What it was told, and how often.
    pub(super) seen: Sightings,
}

/// What the server was told about one task.
#[derive(Clone, Debug, Default)]
struct Entry {
    accepted: bool,
    status: Option<String>,
    /// Changes of its status that were told, each with the life of the daemon that told it.
    steps: BTreeSet<(u32, String, String)>,
    /// The life of the daemon that told the newest.
    life: u32,
    complete: Option<(bool, Option<String>)>,
    /// The newest token of each stream, over all sessions.
    tokens: [u32; 2],
    /// The same, in the present session: which one, and the newest token.
    now: [(u32, u32); 2],
    action: bool,
    /// The session in which its end was told.
    ended_in: Option<u32>,
    /// A line that was begun: in which session, and of which stream.
    open: Option<(u32, usize)>,
}

impl Entry {
    /// The daemon took it on. Where it had been refused before, this is another attempt.
    fn accept(&mut self) {
        if !self.accepted {
            self.accepted = true;
            self.complete = None;
            self.ended_in = None;
        }
    }
}

const STATUSES: [&str; 8] = ["pending", "preparing", "running", "paused", "finishing", "done", "failed", "interrupted"];

impl Server {
    /// A server that nobody has connected to yet.
    #[must_use]
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            replies: VecDeque::new(),
            session: 0,
            life: 0,
            authenticated: false,
            ledger: BTreeMap::new(),
            asked: BTreeMap::new(),
            rejects: None,
            seen: Sightings::default(),
        }
    }

    /// Turns the next daemon that says who it is away. False where that is already so.
    pub fn reject(&mut self, code: &'static str) -> bool {
        let news = !self.authenticated && self.rejects.is_none();
        if news {
            self.rejects = Some(code);
        }
        news
    }

    /// A daemon connected.
    pub fn connected(&mut self) {
        self.session += 1;
        self.authenticated = false;
        self.replies.clear();
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.authenticated = false;
        self.replies.clear();
    }

    /// Whether commands can be sent.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.authenticated
    }

    /// Sends a command, if somebody is there.
    pub fn say(&mut self, command: impl Into<DaemonCommand>) {
        let command = command.into();
        if let DaemonCommand::SpawnTask(spawn) = &command {
            self.asked.entry(TaskId(spawn.task_id)).or_insert_with(|| spawn.clone());
        }
        if self.authenticated {
            self.replies.push_back(Reply::Command(Box::new(command)));
        }
    }

    /// A ping reached it.
    pub fn pinged(&mut self, n: u64) {
        if self.manner == Manner::Loose {
            self.replies.push_back(Reply::Pong(n));
        }
    }

    /// A message reached it. `tokens` tells how much output a task has written by now.
    pub fn hear(&mut self, message: &DaemonMessage, tokens: impl Fn(TaskId) -> Option<[u32; 2]>) {
        // What is sent is what arrives: the wire's own form is read back.
        let line = message.write();
        let message = DaemonMessage::read(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
        match message {
            DaemonMessage::Authenticate(_) => self.authenticate(),
            DaemonMessage::Heartbeat(beat) => self.heartbeat(&beat.active_tasks),
            DaemonMessage::TaskStatusChange(change) => {
                assert!(STATUSES.contains(&change.new_status.as_str()), "the status `{}` is none", change.new_status);
                assert!(STATUSES.contains(&change.old_status.as_str()), "the status `{}` is none", change.old_status);
                self.status(&change);
            }
            DaemonMessage::TaskProgress(progress) => {
                if progress.summary == "accepted" {
                    self.entry(progress.task_id).accept();
                }
            }
            DaemonMessage::TaskOutput(output) => {
                self.seen.see("output", if output.is_partial { "part of a line" } else { "a line" });
                self.output(output.task_id, &output.output, output.is_partial);
            }
            DaemonMessage::CompletionActionResult(result) => {
                self.seen.see("action", if result.success { "done" } else { "failed" });
                self.entry(result.task_id).action = true;
            }
            DaemonMessage::TaskComplete(end) => {
                let written = tokens(TaskId(end.task_id));
                self.complete(end.task_id, (end.success, end.error), written);
            }
            DaemonMessage::RegisterToolKey(_)
            | DaemonMessage::RevokeToolKey(_)
            | DaemonMessage::BranchList(_)
            | DaemonMessage::MergeStatusResponse(_)
            | DaemonMessage::MergeResult(_)
            | DaemonMessage::MergeCompleteCheck(_)
            | DaemonMessage::DaemonDirectories(_)
            | DaemonMessage::CloneWorktreeResult(_)
            | DaemonMessage::CheckTargetExistsResult(_) => {
                assert!(self.authenticated, "{line} came before `authenticate`");
            }
        }
    }

    /// The daemon has a new life: what it was about to tell may never be told.
    pub fn daemon_killed(&mut self) {
        self.life += 1;
    }

    /// In one life of the daemon each status follows from the one before, unless it was told before.
    fn status(&mut self, change: &TaskStatusChange) {
        let life = self.life;
        let entry = self.entry(change.task_id);
        if change.new_status == "preparing" {
            entry.accept();
        }
        let step = (life, change.old_status.clone(), change.new_status.clone());
        let before = entry.status.as_deref().unwrap_or("pending");
        let follows = before == change.old_status || entry.life != life || change.old_status == change.new_status;
        assert!(follows || entry.steps.contains(&step), "{before} of {} is followed by {step:?}", change.task_id);
        entry.status = Some(change.new_status.clone());
        entry.life = life;
        entry.steps.insert(step);
    }

    fn entry(&mut self, task: Uuid) -> &mut Entry {
        assert!(self.authenticated, "a task is told about before `authenticated`");
        self.ledger.entry(TaskId(task)).or_default()
    }

    fn authenticate(&mut self) {
        assert!(!self.authenticated, "`authenticate` came twice");
        if let Some(code) = self.rejects.take() {
            self.seen.see("rejected", code);
            let error = ServerError { code: code.to_string(), message: "not now".to_string() };
            return self.replies.push_back(Reply::Command(Box::new(error.into())));
        }
        self.authenticated = true;
        self.say(Authenticated { daemon_id: Uuid::from_u128(1) });
        if self.manner == Manner::Loose {
            let forgotten: Vec<SpawnTask> = self
                .asked
                .iter()
                .filter(|(id, _)| !self.ledger.get(id).is_some_and(|entry| entry.accepted || entry.complete.is_some()))
                .map(|(_, spawn)| spawn.clone())
                .collect();
            for spawn in forgotten {
                self.say(spawn);
            }
        }
    }

    /// Reconciles: what the daemon took on and does not name any more is lost, unless its end was told.
    fn heartbeat(&self, active: &[Uuid]) {
        assert!(self.authenticated, "a heartbeat came before `authenticated`");
        for (id, entry) in &self.ledger {
            let lost = entry.accepted && entry.complete.is_none() && !active.contains(&id.0);
            assert!(!lost, "a heartbeat leaves out {id}, whose end was not told");
        }
    }

    fn output(&mut self, task: Uuid, output: &str, is_partial: bool) {
        let session = self.session;
        let mut again = false;
        let entry = self.entry(task);
        assert!(!output.contains('\n'), "an output has more than one line: {output:?}");
        assert!(entry.ended_in != Some(session), "output came behind the end of {task}");
        let open = entry.open.take().filter(|(begun, _)| *begun == session);
        let mut of = open.map(|(_, stream)| stream);
        for token in output.split_terminator(';') {
            let (stream, number) = match token.split_at_checked(1) {
                Some(("o", number)) => (0, number),
                Some(("e", number)) => (1, number),
                _ => panic!("{token:?} is no output of ours"),
            };
            assert!(
                of.is_none_or(|of| of == stream),
                "a line of {task} has both streams in it, or stands within another"
            );
            of = Some(stream);
            let number: u32 = number.parse().unwrap_or_else(|_| panic!("{token:?} is no output of ours"));
            let next = match entry.now[stream] {
                // In one session a stream is whole and in order.
                (seen, last) if seen == session => number == last + 1,
                // A new one begins where something may have been lost, and never behind that.
                _ => number <= entry.tokens[stream] + 1,
            };
            assert!(next, "output {token:?} of {task} came out of order: {:?}", entry.now[stream]);
            again |= number <= entry.tokens[stream];
            entry.now[stream] = (session, number);
            entry.tokens[stream] = entry.tokens[stream].max(number);
        }
        entry.open = of.filter(|_| is_partial).map(|stream| (session, stream));
        if again {
            self.seen.see("output", "again");
        }
    }

    fn complete(&mut self, task: Uuid, end: (bool, Option<String>), written: Option<[u32; 2]>) {
        let session = self.session;
        let unknown = end.1.as_deref() == Some("not known to this daemon");
        let again = self.ledger.get(&TaskId(task)).is_some_and(|entry| entry.complete.is_some());
        self.seen.see(
            "end",
            if again {
                "again"
            } else if unknown {
                "unknown"
            } else {
                "first"
            },
        );
        let entry = self.entry(task);
        if unknown {
            assert!(!entry.accepted, "{task} was taken on and is not known any more");
            return;
        }
        if let Some(before) = &entry.complete {
            assert!(!entry.accepted || *before == end, "{task} ended twice: as {before:?} and as {end:?}");
        }
        if entry.accepted {
            let seen = entry.tokens;
            assert!(written.is_none_or(|all| all == seen), "{task} ended before its output: {seen:?} of {written:?}");
            let status = entry.status.as_deref();
            let ended = matches!(status, Some("done" | "failed" | "interrupted"));
            assert!(ended, "{task} ended with the status {status:?}");
            assert!((status == Some("done")) == end.0, "{task} ended as {status:?} with success {}", end.0);
        }
        entry.complete = Some(end);
        entry.ended_in = Some(session);
    }

    /// Tasks that the daemon took on.
    pub fn accepted(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.ledger.iter().filter(|(_, entry)| entry.accepted).map(|(id, _)| *id)
    }

    /// How a task ended, as the server was told.
    #[must_use]
    pub fn end(&self, task: TaskId) -> Option<&(bool, Option<String>)> {
        self.ledger.get(&task)?.complete.as_ref()
    }

    /// Whether the server was told how the task's completion action went.
    #[must_use]
    pub fn knows_action(&self, task: TaskId) -> bool {
        self.ledger.get(&task).is_some_and(|entry| entry.action)
    }
}
