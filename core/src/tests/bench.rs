//! A daemon in the hand of a test.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::test_runner::Config as Proptest;
use uuid::Uuid;

use crate::config::{Compat, Config};
use crate::daemon::Daemon;
use crate::effect::{Effect, Envelope, LinkEffect, Work};
use crate::id::{EffectId, Epoch, TaskId};
use crate::input::{Boot, ExitStatus, Input, Leftover, Outcome, Prepared, Stage};
use crate::notice::Notice;
use crate::protocol::{DaemonCommand, DaemonMessage, Hello, Said, Wire};
use crate::retain::Keep;
use crate::task::Spec;
use crate::time::{Millis, Now};
use crate::view::TaskState;

/// So many cases of a property, or as many as `PROPTEST_CASES` says.
pub(crate) fn cases(usual: u32) -> Proptest {
    extern crate std;
    let asked = Proptest { failure_persistence: None, ..Proptest::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { asked } else { Proptest { cases: usual, ..asked } }
}

/// Sees that these lines are those of a file in `tests`, which `MAKIMA_WRITE=1` writes anew: read the difference.
pub(super) fn same(file: &str, known: &str, lines: &[String]) {
    extern crate std;
    let text = lines.join("\n") + "\n";
    if std::env::var_os("MAKIMA_WRITE").is_some() {
        let path = format!("{}/src/tests/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, text).expect("it can be written");
        return;
    }
    assert_eq!(known, text, "{file}");
}

/// The task of most tests.
pub(super) const TASK: TaskId = TaskId(Uuid::from_u128(7));
/// Another.
pub(super) const OTHER: TaskId = TaskId(Uuid::from_u128(8));
/// The epoch of the server's numbers.
pub(super) const SERVER: u64 = 77;

/// A daemon, the clock, and what it has asked for.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) daemon: Daemon,
    pub(super) now: Now,
    /// The newest connection that was asked for.
    pub(super) epoch: Epoch,
    /// What the session speaks.
    pub(super) wire: Wire,
    /// What it wants done and nobody has answered.
    pub(super) asked: BTreeMap<EffectId, (TaskId, Work)>,
    /// What each task was asked to do.
    pub(super) specs: BTreeMap<TaskId, Spec>,
    /// All that the last step did.
    pub(super) last: Vec<Effect>,
    /// The last of the server's numbers.
    seq: u64,
}

pub(super) fn config() -> Config {
    Config {
        machine_id: "machine".into(),
        hostname: "host".into(),
        max_tasks: 2,
        working_directory: "/w".into(),
        home_directory: "/h".into(),
        worktrees_directory: "/t".into(),
        api_url: "http://api".into(),
        program: "/bin/makima".into(),
        agent: crate::agent::Agent::default(),
        once: false,
        compat: Compat::default(),
        keep: Keep::default(),
        allowance: crate::allowance::Allowance::default(),
    }
}

impl Bench {
    /// One that has been started and asks for its first connection.
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: Config) -> Self {
        let mut bench = Self {
            daemon: Daemon::new(config),
            now: Now { mono: Millis(1_000_000), asleep: Millis(0), unix: Millis(5_000_000) },
            epoch: Epoch(0),
            wire: Wire::One,
            asked: BTreeMap::new(),
            specs: BTreeMap::new(),
            last: Vec::new(),
            seq: 0,
        };
        assert_eq!(bench.boot(1, Vec::new()), ["connect websocket"]);
        bench
    }

    /// One whose session with the server is open and quiet.
    pub(super) fn open(wire: Wire) -> Self {
        let mut bench = Self::new();
        bench.open_session(wire);
        bench
    }

    /// A new life of the daemon.
    pub(super) fn boot(&mut self, incarnation: u32, leftovers: Vec<Leftover>) -> Vec<String> {
        self.asked.clear();
        self.step(Input::Boot(Boot { incarnation, seed: u64::from(incarnation), config: None, leftovers }))
    }

    /// Lets the newest connection become a session in which nothing of ours was applied that was not known to be, and takes
    /// up what is said at once.
    pub(super) fn open_session(&mut self, wire: Wire) -> Vec<String> {
        let (of, applied) = (self.daemon.core.numbers.epoch(), self.daemon.core.numbers.next() - 1);
        let waiting = self.daemon.core.numbers.waiting().count() as u64;
        self.greet(wire, Hello { epoch: SERVER, of, applied: applied - waiting, tasks: Vec::new() })
    }

    /// The same, with a greeting of the server's own.
    pub(super) fn greet(&mut self, wire: Wire, hello: Hello) -> Vec<String> {
        let epoch = self.epoch;
        self.step(Input::LinkUp { epoch, wire });
        let command = format!(r#"{{"type":"authenticated","daemonId":"{}"}}"#, Uuid::nil());
        let mut out = self.command(None, &command);
        self.wire = wire;
        if wire == Wire::Two {
            out.extend(self.said(Said::Hello(hello)));
        }
        out
    }

    /// One input: all that it does, in words.
    pub(super) fn step(&mut self, input: Input) -> Vec<String> {
        let mut effects = Vec::new();
        self.daemon.step(self.now, input, &mut effects);
        self.daemon.check();
        self.last.clone_from(&effects);
        let mut words = Vec::new();
        for effect in effects {
            if let Effect::Link(LinkEffect::Connect { epoch, .. }) = &effect {
                self.epoch = *epoch;
            }
            words.extend(self.told(&effect));
            if let Effect::Work { id, task, work } = effect {
                if let Work::Accept { spec } = &work {
                    self.specs.insert(task, (**spec).clone());
                }
                self.asked.insert(id, (task, work));
            }
        }
        words
    }

    /// So much time passes.
    pub(super) fn wait(&mut self, time: Millis) -> Vec<String> {
        self.now.mono = self.now.mono + time;
        self.step(Input::Tick)
    }

    /// Time passes up to what is due next: what that is and how long it took comes first.
    pub(super) fn next(&mut self) -> Vec<String> {
        let (due, why) = self.daemon.deadline().expect("something is due");
        let took = due.since(self.now.mono).0;
        self.now.mono = due;
        let mut out = alloc::vec![format!("{took} ms: {why}")];
        out.extend(self.step(Input::Tick));
        out
    }

    /// Milliseconds until a task wants to be called.
    pub(super) fn timer(&self) -> Option<u64> {
        self.daemon.index.timers.first().map(|(due, _)| due.since(self.now.awake()).0)
    }

    /// So much time passes, in which the server is there. What the two say only to see that is left out.
    pub(super) fn pass(&mut self, time: Millis) -> Vec<String> {
        let end = self.now.mono + time;
        let mut out = Vec::new();
        while end.since(self.now.mono) > Millis::seconds(10) {
            self.now.mono = self.now.mono + Millis::seconds(10);
            out.extend(self.said(Said::Ping(1)));
        }
        self.now.mono = end;
        out.extend(self.said(Said::Ping(1)));
        out.retain(|line| line != "heartbeat" && !line.starts_with("say P"));
        out
    }

    /// Time passes up to when a task wants to be called: how long it took comes first.
    pub(super) fn ring(&mut self) -> Vec<String> {
        let time = self.timer().expect("a task wants to be called");
        let mut out = alloc::vec![format!("after {time} ms")];
        out.extend(self.pass(Millis(time)));
        out
    }

    pub(super) fn command(&mut self, seq: Option<u64>, text: &str) -> Vec<String> {
        let command = Box::new(DaemonCommand::read(text).expect("a command"));
        let epoch = self.epoch;
        self.step(Input::Command { epoch, seq, command, credentials: None })
    }

    /// The server tells a task something, under its next number where it has any. Fields are as in JSON, and may be none.
    pub(super) fn tell(&mut self, task: TaskId, kind: &str, fields: &str) -> Vec<String> {
        let fields = if fields.is_empty() { String::new() } else { format!(",{fields}") };
        let seq = (self.wire == Wire::Two).then(|| {
            self.seq += 1;
            self.seq
        });
        let mut out = self.command(seq, &format!(r#"{{"type":"{kind}","taskId":"{task}"{fields}}}"#));
        if let Some(seq) = seq {
            let ack = format!("say Ack({seq})");
            let at = out.iter().position(|line| *line == ack).expect("it is acknowledged");
            out.remove(at);
        }
        out
    }

    pub(super) fn said(&mut self, said: Said) -> Vec<String> {
        let epoch = self.epoch;
        self.step(Input::Said { epoch, said })
    }

    /// The connection breaks.
    pub(super) fn cut(&mut self) -> Vec<String> {
        let epoch = self.epoch;
        self.step(Input::LinkDown { epoch, cause: crate::input::LinkCause::Gone })
    }

    /// The effect of that name that was asked for last.
    pub(super) fn id(&self, name: &str) -> EffectId {
        let of_name = |(_, (_, work)): &(&EffectId, &(TaskId, Work))| work_name(work) == name;
        let found = self.asked.iter().rev().find(of_name);
        *found.unwrap_or_else(|| panic!("no {name} is under way: {:?}", self.asked)).0
    }

    pub(super) fn work(&self, name: &str) -> &Work {
        &self.asked[&self.id(name)].1
    }

    /// It is answered.
    pub(super) fn done(&mut self, name: &str, outcome: Outcome) -> Vec<String> {
        let id = self.id(name);
        self.asked.remove(&id);
        self.step(Input::Done { id, outcome })
    }

    pub(super) fn failed(&mut self, name: &str, why: &str) -> Vec<String> {
        self.done(name, Outcome::Failed(why.into()))
    }

    /// The server asks for a task. Fields as in JSON.
    pub(super) fn spawn(&mut self, task: TaskId, fields: &str) -> Vec<String> {
        let fields = if fields.is_empty() { String::new() } else { format!(",{fields}") };
        let orchestrator = if fields.contains("isOrchestrator") { "" } else { r#","isOrchestrator":false"# };
        let usual = format!(r#""taskName":"a task","plan":"do it","depth":0{orchestrator}{fields}"#);
        self.tell(task, "spawnTask", &usual)
    }

    /// A task that is at work.
    pub(super) fn running(&mut self, task: TaskId, fields: &str) {
        self.spawn(task, fields);
        self.done("Accept", Outcome::Done);
        self.done("Prepare", Outcome::Prepared(prepared()));
        self.done("Start", Outcome::Started { pid: 9, handed: 0 });
        assert_eq!(self.at(task), TaskState::Running);
    }

    /// A new life of the daemon, which finds that stage in the folder of each of these tasks; and its first session.
    pub(super) fn again(&mut self, found: &[(TaskId, Stage)]) -> Vec<String> {
        let left = |(task, stage): &(TaskId, Stage)| {
            let (spec, stage) = (self.specs[task].clone(), stage.clone());
            Leftover { spec, stage, delivered: 0, closed: false, skipped: Vec::new() }
        };
        let leftovers = found.iter().map(left).collect();
        let mut out = self.boot(self.daemon.incarnation() + 1, leftovers);
        out.extend(self.open_session(self.wire));
        out.retain(|line| !["connect websocket", "authenticate with DaemonKey", "heartbeat"].contains(&line.as_str()));
        out.retain(|line| {
            !line.starts_with("tell: ") && !line.starts_with("say ") && !line.ends_with("daemonDirectories")
        });
        out
    }

    /// The server has applied all that it was told.
    pub(super) fn acked(&mut self) -> Vec<String> {
        self.said(Said::Ack(self.daemon.core.numbers.next() - 1))
    }

    /// The agent ends.
    pub(super) fn exit(&mut self, status: ExitStatus) -> Vec<String> {
        let id = self.daemon.tasks[&TASK].agent().expect("an agent");
        self.step(Input::Exited { id, status })
    }

    pub(super) fn at(&self, task: TaskId) -> TaskState {
        self.daemon.task_at(task).expect("it is known")
    }

    /// What it does, in words; nothing of what tells people, where the server is told the same.
    fn told(&self, effect: &Effect) -> Option<String> {
        Some(match effect {
            Effect::Link(LinkEffect::Connect { way, .. }) => format!("connect {}", way.name()),
            Effect::Link(LinkEffect::Send { message, secret, envelope, .. }) => {
                let secret = secret.map(|secret| format!(" with {secret:?}")).unwrap_or_default();
                format!("{}{}{secret}", number(*envelope), words(message))
            }
            Effect::Link(LinkEffect::Output { text, stretch, .. }) => {
                let text: String = text.chars().take(80).collect();
                match stretch {
                    Some(stretch) => format!("output {}-{} {text:?}", stretch.off, stretch.end),
                    None => format!("output {text:?}"),
                }
            }
            Effect::Link(LinkEffect::Say { said, .. }) => format!("say {said:?}"),
            Effect::Link(LinkEffect::Ping { .. }) => "ping".into(),
            Effect::Link(LinkEffect::Quiesce { epoch }) => format!("quiesce {}", epoch.0),
            Effect::Link(LinkEffect::Close { epoch }) => format!("close {}", epoch.0),
            Effect::Work { work, .. } => doing(work),
            Effect::Cancel { id } => {
                format!("cancel {}", self.asked.get(id).map_or("what is not known".into(), |(_, work)| work_name(work)))
            }
            Effect::Tell(Notice::Task { what, .. }) => {
                return (!self.daemon.core.link.is_live()).then(|| format!("note: {what}"));
            }
            // The server is told the same.
            Effect::Tell(Notice::Needs { .. } | Notice::Ended { .. }) => return None,
            Effect::Tell(notice) => format!("tell: {notice}"),
            Effect::Exit(exit) => format!("exit {exit:?}"),
        })
    }
}

/// What a worktree is like in most tests.
pub(super) fn prepared() -> Prepared {
    Prepared { base: Some("c0ffee0123456789".into()), ..Prepared::default() }
}

fn number(envelope: Option<Envelope>) -> String {
    let Some(Envelope { seq, len }) = envelope else { return String::new() };
    let seq = seq.map(|seq| format!("#{seq} ")).unwrap_or_default();
    let len = len.map(|len| format!("(len {len}) ")).unwrap_or_default();
    seq + &len
}

fn words(message: &DaemonMessage) -> String {
    if let DaemonMessage::TaskProgress(it) = message {
        format!("progress: {}", it.summary)
    } else if let DaemonMessage::TaskStatusChange(it) = message {
        format!("{} -> {}", it.old_status, it.new_status)
    } else if let DaemonMessage::TaskComplete(it) = message {
        format!("complete {} {}", it.success, it.error.as_deref().unwrap_or_default()).trim_end().to_string()
    } else if let DaemonMessage::CompletionActionResult(it) = message {
        format!("action {} {}", it.success, it.message)
    } else if let DaemonMessage::MergeResult(it) = message {
        format!("merge {} {}", it.success, it.message)
    } else {
        message.kind().to_string()
    }
}

fn work_name(work: &Work) -> String {
    let name = format!("{work:?}");
    name.split([' ', '(', '{']).next().unwrap_or_default().to_string()
}

fn doing(work: &Work) -> String {
    match work {
        Work::Stdin { .. } | Work::Signal { .. } | Work::Read { .. } | Work::Delivered { .. } | Work::Merge(_) => {
            format!("{work:?}")
        }
        Work::Conclude { end, .. } => format!("Conclude {:?} {:?}", end.status, end.error),
        Work::Accept { .. }
        | Work::Prepare(_)
        | Work::Start(_)
        | Work::Attach
        | Work::Empty
        | Work::Freeze
        | Work::Thaw
        | Work::MakeKey
        | Work::Commit(_)
        | Work::Check(_)
        | Work::Deliver(_)
        | Work::Clone { .. }
        | Work::Look { .. }
        | Work::Measure
        | Work::Close
        | Work::Discard
        | Work::Forget
        | Work::Expire { .. }
        | Work::Weigh { .. }
        | Work::Spare
        | Work::Purge => work_name(work),
    }
}
