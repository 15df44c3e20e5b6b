//! A daemon whose every input is written down in a script, and what it does about each.

use makima_core::effect::{Effect, LinkEffect, Work};
use makima_core::id::{EffectId, Epoch, TaskId};
use makima_core::input::{
    Boot, Change, Chunk, ExitStatus, Input, Leftover, LinkCause, Outcome, Part, Prepared, Stop, Stream,
};
use makima_core::protocol::{Authenticated, DaemonCommand, SpawnTask, Wire};
use makima_core::time::{Millis, Now};
use makima_core::{Compat, Config, Daemon, Keep};
use uuid::Uuid;

/// The `n`th task of a script.
pub(crate) const fn task(n: u8) -> Uuid {
    Uuid::from_u128(0x7a5c_0000_0000_4000_8000_0000_0000_0000 + n as u128)
}

/// What one task is asked for with.
pub(crate) fn spawn(n: u8) -> SpawnTask {
    SpawnTask {
        task_name: "Fix it".to_string(),
        repo_url: Some("/repo".to_string()),
        completion_action: Some("branch".to_string()),
        ..SpawnTask::new(task(n), "make".to_string())
    }
}

/// A script under way.
pub(crate) struct Script {
    daemon: Daemon,
    now: Now,
    shown: Millis,
    epoch: Epoch,
    frame: u64,
    ping: u64,
    pending: Vec<(EffectId, &'static str)>,
    pub(crate) agent: Option<EffectId>,
    lines: Vec<String>,
    /// Whether the state is checked after each step; of a thousand tasks that takes its time.
    pub(crate) checked: bool,
}

impl Script {
    /// A daemon that has just been started.
    pub(crate) fn new() -> Self {
        Self::with(1, Vec::new())
    }

    /// The daemon's next life.
    pub(crate) fn with(incarnation: u32, leftovers: Vec<Leftover>) -> Self {
        Self::of(false, incarnation, leftovers)
    }

    /// A daemon that ends with its first session.
    pub(crate) fn once(leftovers: Vec<Leftover>) -> Self {
        Self::of(true, 2, leftovers)
    }

    fn of(once: bool, incarnation: u32, leftovers: Vec<Leftover>) -> Self {
        let config = Config {
            machine_id: "machine".to_string(),
            hostname: "host".to_string(),
            max_tasks: 1,
            working_directory: "/work".to_string(),
            home_directory: "/home".to_string(),
            worktrees_directory: "/trees".to_string(),
            api_url: "http://127.0.0.1:1".to_string(),
            program: "/bin/makima".to_owned(),
            agent: makima_core::agent::Agent::Shell,
            once,
            compat: Compat::default(),
            keep: Keep::default(),
            allowance: makima_core::allowance::Allowance::default(),
        };
        let mut script = Self {
            daemon: Daemon::new(config),
            now: Now::default(),
            shown: Millis(0),
            epoch: Epoch(0),
            frame: 0,
            ping: 0,
            pending: Vec::new(),
            agent: None,
            lines: Vec::new(),
            checked: true,
        };
        script.step("boot", Input::Boot(Boot { incarnation, seed: 7, config: None, leftovers }));
        script
    }

    /// One whose session is open.
    pub(crate) fn live() -> Self {
        let mut script = Self::new();
        script.open();
        script.hush();
        script
    }

    /// One that has an agent at work.
    pub(crate) fn running() -> Self {
        let mut script = Self::live();
        script.tell(spawn(1));
        script.done("accept");
        script.answer("prepare", "ok", prepared());
        script.start();
        script.hush();
        script
    }

    /// What came so far is not part of the transcript.
    pub(crate) fn hush(&mut self) {
        self.lines.clear();
        self.shown = self.now.mono;
    }

    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }

    pub(crate) fn step(&mut self, what: &str, input: Input) {
        self.lines.push(format!("t=+{}ms {what}", self.now.mono.since(self.shown).0));
        let mut effects = Vec::new();
        self.daemon.step(self.now, input, &mut effects);
        if self.checked {
            self.daemon.check();
        }
        effects.into_iter().for_each(|effect| self.show(effect));
    }

    fn show(&mut self, effect: Effect) {
        let line = match effect {
            Effect::Link(LinkEffect::Connect { epoch, .. }) => {
                self.epoch = epoch;
                format!("-> connect #{}", epoch.0)
            }
            Effect::Link(LinkEffect::Send { n, message, .. }) => {
                self.frame = n;
                let text = message.write();
                let rest = text.split_once(',').map_or("", |(_, rest)| rest).trim_end_matches('}');
                format!("-> {} {rest}", message.kind())
            }
            Effect::Link(LinkEffect::Output { n, text, pieces, .. }) => {
                self.frame = n;
                let shown =
                    |text: &str| if text.len() > 40 { format!("{} bytes", text.len()) } else { format!("{text:?}") };
                let piece = |piece: &makima_core::effect::Piece| {
                    shown(&text[piece.start as usize..piece.end as usize]) + if piece.partial { " goes on" } else { "" }
                };
                format!("-> taskOutput {}", pieces.iter().map(piece).collect::<Vec<_>>().join(" | "))
            }
            Effect::Link(LinkEffect::Ping { n, .. }) => {
                (self.frame, self.ping) = (n, n);
                "-> ping".to_string()
            }
            Effect::Link(LinkEffect::Say { n, said, .. }) => format!("-> {n} {said:?}"),
            Effect::Link(LinkEffect::Quiesce { epoch }) => format!("-> quiesce #{}", epoch.0),
            Effect::Link(LinkEffect::Close { epoch }) => format!("-> close #{}", epoch.0),
            Effect::Work { id, work, .. } => {
                let (kind, detail) = describe(&work);
                self.pending.push((id, kind));
                format!("=> {kind} {detail}")
            }
            Effect::Cancel { id } => {
                let kind = self.pending.iter().find(|(pending, _)| *pending == id).map_or("?", |(_, kind)| kind);
                format!("=> cancel {kind}")
            }
            Effect::Tell(notice) => format!("# {notice}"),
            Effect::Exit(exit) => format!("exit {exit:?}"),
        };
        let ids = format!("{}", task(0));
        let line = line.replace(&ids[..ids.len() - 1], "T");
        self.lines.push(format!("    {}", line.trim_end()));
    }

    /// The server says something.
    pub(crate) fn tell(&mut self, command: impl Into<DaemonCommand>) {
        let (epoch, command) = (self.epoch, Box::new(command.into()));
        self.step(&format!("<- {}", command.kind()), Input::Command { epoch, seq: None, command, credentials: None });
    }

    pub(crate) fn up(&mut self) {
        self.step("connected", Input::LinkUp { epoch: self.epoch, wire: Wire::One });
    }

    pub(crate) fn open(&mut self) {
        self.up();
        self.tell(Authenticated { daemon_id: Uuid::from_u128(1) });
        self.pong();
    }

    pub(crate) fn pong(&mut self) {
        self.step("<- pong", Input::Pong { epoch: self.epoch, n: self.ping });
    }

    pub(crate) fn cut(&mut self) {
        self.cut_by("cut", LinkCause::Broken("reset".to_string()));
    }

    pub(crate) fn cut_by(&mut self, what: &str, cause: LinkCause) {
        self.step(what, Input::LinkDown { epoch: self.epoch, cause });
    }

    pub(crate) fn flushed(&mut self) {
        self.step("flushed", Input::Flushed { epoch: self.epoch, n: self.frame });
    }

    pub(crate) fn answer(&mut self, kind: &str, how: &str, outcome: Outcome) {
        let at = self.pending.iter().position(|(_, pending)| *pending == kind);
        let (id, _) = self.pending.remove(at.unwrap_or_else(|| panic!("no {kind} is pending:\n{}", self.text())));
        self.step(&format!("{kind} {how}"), Input::Done { id, outcome });
    }

    pub(crate) fn done(&mut self, kind: &str) {
        self.answer(kind, "ok", Outcome::Done);
    }

    pub(crate) fn fail(&mut self, kind: &str) {
        self.answer(kind, "fails", Outcome::Failed("no space left on device".to_string()));
    }

    pub(crate) fn start(&mut self) {
        self.agent = self.pending.iter().find(|(_, kind)| *kind == "start").map(|(id, _)| *id);
        self.answer("start", "ok", Outcome::Started { pid: 77, handed: 0 });
    }

    /// The daemon is killed, and started again with all that it knew.
    pub(crate) fn restart(&mut self, leftovers: Vec<Leftover>) {
        self.pending.clear();
        let boot = Boot { incarnation: 9, seed: 7, config: None, leftovers };
        self.step("killed, and started again", Input::Boot(boot));
    }

    /// The agent of before is found.
    pub(crate) fn attach(&mut self) {
        self.agent = self.pending.iter().find(|(_, kind)| *kind == "attach").map(|(id, _)| *id);
        self.answer("attach", "ok", Outcome::Started { pid: 77, handed: 0 });
    }

    pub(crate) fn exited(&mut self, status: ExitStatus) {
        let id = self.agent.expect("an agent runs");
        self.step(&format!("the agent ends: {status:?}"), Input::Exited { id, status });
    }

    /// The log has this behind what was read so far.
    pub(crate) fn read(&mut self, from: u64, parts: &[(Stream, &str)]) {
        let mut to = from;
        let part = |(stream, text): &(Stream, &str)| {
            to += text.len() as u64;
            let line_end = text.rfind('\n').map(|at| to - text.len() as u64 + at as u64 + 1);
            Part { stream: *stream, text: (*text).to_string(), to, line_end }
        };
        let parts = parts.iter().map(part).collect();
        self.answer("read", "ok", Outcome::Chunk(Chunk { from, to, log: to, closed: false, begun: None, parts }));
    }

    /// From the end of the agent to the end of the task.
    pub(crate) fn finish(&mut self, log_end: u64) {
        self.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end });
        self.answer("commit", "ok", committed());
    }

    /// The next deadline comes.
    pub(crate) fn tick(&mut self) {
        let (due, why) = self.daemon.deadline().expect("a deadline");
        self.now.mono = due;
        self.step(&format!("tick for {why}"), Input::Tick);
    }

    /// Time goes on until something like this is to be done.
    pub(crate) fn until_pending(&mut self, kind: &str) {
        for _ in 0..100 {
            if self.pending.iter().any(|(_, pending)| *pending == kind) {
                return;
            }
            self.tick();
        }
        panic!("no {kind} comes:\n{}", self.text());
    }

    /// Time goes on until it tries to connect again.
    pub(crate) fn until_connect(&mut self) {
        let before = self.epoch;
        while self.epoch == before {
            self.tick();
        }
    }

    /// The machine sleeps for so long.
    pub(crate) fn sleep(&mut self, seconds: u64) {
        self.now.mono = self.now.mono + Millis::seconds(seconds);
        self.now.asleep = self.now.asleep + Millis::seconds(seconds);
        self.step("the machine slept", Input::Tick);
    }

    pub(crate) fn stop(&mut self, how: Stop) {
        self.step(&format!("stop: {how:?}"), Input::Stop { how });
    }
}

pub(crate) fn prepared() -> Outcome {
    Outcome::Prepared(Prepared {
        base: Some("0123456789abcdef".to_string()),
        local: Some("/repo".to_string()),
        ..Prepared::default()
    })
}

pub(crate) fn delivered(message: &str) -> Outcome {
    Outcome::Delivered { message: message.to_string(), url: None }
}

pub(crate) fn committed() -> Outcome {
    let commit = "fedcba9876543210".to_string();
    Outcome::Committed(Some(Change { commit, files: 1, insertions: 2, deletions: 3, note: None }))
}

fn describe(work: &Work) -> (&'static str, String) {
    match work {
        Work::Accept { spec } => ("accept", TaskId(spec.id.0).to_string()),
        Work::Prepare(prepare) => ("prepare", prepare.branch.to_string()),
        Work::Start(launch) => ("start", format!("{:?}", launch.argv)),
        Work::Read { from } => ("read", format!("from {from}")),
        Work::Attach => ("attach", String::new()),
        Work::Stdin { n, text } => ("stdin", format!("{n} {text:?}")),
        Work::Signal { signal } => ("signal", format!("{signal:?}")),
        Work::Empty => ("empty", String::new()),
        Work::Commit(commit) => ("commit", commit.text.subject.clone()),
        Work::Freeze => ("freeze", String::new()),
        Work::Thaw => ("thaw", String::new()),
        Work::MakeKey => ("make key", String::new()),
        Work::Measure => ("measure", String::new()),
        Work::Check(check) => ("check", format!("{:?}", check.commands)),
        Work::Merge(merge) => ("merge", format!("{merge:?}")),
        Work::Deliver(delivery) => ("deliver", format!("{:?} to {:?}", delivery.deed, delivery.target)),
        Work::Clone { to, .. } => ("clone", to.clone()),
        Work::Look { path } => ("look", path.clone()),
        Work::Conclude { end, .. } => ("conclude", format!("{:?} {:?}", end.status, end.error)),
        Work::Delivered { to } => ("delivered", format!("to {to}")),
        Work::Close => ("close", String::new()),
        Work::Discard => ("discard", String::new()),
        Work::Forget => ("forget", String::new()),
        Work::Weigh { tasks } => ("weigh", format!("{} tasks", tasks.len())),
        Work::Spare => ("spare", String::new()),
        Work::Purge => ("purge", String::new()),
        Work::Expire { before } => ("expire", format!("before {}", before.0)),
    }
}
