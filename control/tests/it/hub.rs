//! The hub by hand: one rule a test.

use makima_control::hub::{AHEAD, Answer, Effect, Event, Hub, Input, PER_DAEMON, Record, SessionId};
use makima_core::effect::Way;
use makima_core::id::TaskId;
use makima_core::policy::BranchName;
use makima_core::protocol::{
    CompletionActionResult, DaemonCommand, DaemonMessage, Heartbeat, SendMessage, SpawnTask, Wire,
};
use makima_core::time::Millis;
use uuid::Uuid;

use crate::common::{complete, output, progress, status};

pub(crate) fn task(n: u128) -> Uuid {
    Uuid::from_u128(0x1000 + n)
}

pub(crate) fn spawn(n: u128) -> SpawnTask {
    SpawnTask { task_name: format!("Task {n}"), ..SpawnTask::new(task(n), "do it".to_owned()) }
}

pub(crate) struct Bench {
    pub(crate) now: u64,
    pub(crate) hub: Hub,
    pub(crate) out: Vec<Effect>,
    pub(crate) answer: Answer,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { now: 7_000, hub: Hub::default(), out: Vec::new(), answer: Answer::Done }
    }

    pub(crate) fn put(&mut self, input: Input) -> &mut Self {
        self.out.clear();
        self.answer = self.hub.step(Millis(self.now), input, &mut self.out);
        self.hub.check().unwrap();
        self
    }

    pub(crate) fn connect(&mut self, session: u64, machine: &str, max_tasks: i32) -> &mut Self {
        self.put(Input::Connected {
            session: SessionId(session),
            fresh: Uuid::from_u128(session.into()),
            machine: machine.to_owned(),
            hostname: String::new(),
            max_tasks,
            wire: Wire::One,
            way: Way::WebSocket,
        })
    }

    pub(crate) fn create(&mut self, spawn: SpawnTask) -> &mut Self {
        self.put(Input::Create { spawn: Box::new(spawn), after: Vec::new() })
    }

    pub(crate) fn say(&mut self, session: u64, message: DaemonMessage) -> &mut Self {
        self.put(Input::Message { session: SessionId(session), message })
    }

    /// Session and kind of every command of the last step.
    pub(crate) fn sent(&self) -> Vec<(u64, &'static str)> {
        let sent = |effect: &Effect| match effect {
            Effect::Send { session, command } => Some((session.0, command.kind())),
            Effect::Numbered { .. }
            | Effect::Tell { .. }
            | Effect::Close { .. }
            | Effect::Answered { .. }
            | Effect::Record(_)
            | Effect::Output { .. } => None,
        };
        self.out.iter().filter_map(sent).collect()
    }

    /// The interruptions of the last step: whether each is a gentle one.
    fn interruptions(&self) -> Vec<bool> {
        let sent = |effect: &Effect| {
            let Effect::Send { command, .. } = effect else { return None };
            let DaemonCommand::InterruptTask(body) = &**command else { return None };
            Some(body.graceful)
        };
        self.out.iter().filter_map(sent).collect()
    }

    /// A heartbeat, so many seconds after what was before.
    fn beat(&mut self, session: u64, seconds: u64) -> &mut Self {
        self.now += seconds * 1_000;
        self.say(session, Heartbeat { active_tasks: Vec::new() }.into())
    }

    fn events(&self) -> Vec<Event> {
        let event = |effect: &Effect| match effect {
            Effect::Record(Record::Event { event, .. }) => Some(event.clone()),
            Effect::Send { .. }
            | Effect::Numbered { .. }
            | Effect::Tell { .. }
            | Effect::Close { .. }
            | Effect::Answered { .. }
            | Effect::Record(_)
            | Effect::Output { .. } => None,
        };
        self.out.iter().filter_map(event).collect()
    }

    fn branch(&self) -> bool {
        self.out.iter().any(|effect| matches!(effect, Effect::Record(Record::Branch { .. })))
    }
}

/// Protects tasks that come before any daemon does.
#[test]
fn a_task_waits_for_a_daemon() {
    let mut bench = Bench::new();
    assert!(bench.create(spawn(1)).sent().is_empty());
    assert_eq!(bench.connect(1, "a", 4).sent(), [(1, "authenticated"), (1, "spawnTask")]);
    assert_eq!(bench.hub.unfinished(), 1);
}

/// Protects the spread of work: by how full daemons are, each for its size.
#[test]
fn the_least_loaded_daemon_gets_the_task() {
    let mut bench = Bench::new();
    bench.connect(1, "small", 1).put(Input::Gone { session: SessionId(9) });
    bench.connect(2, "large", 3);
    let order: Vec<u64> = (0..8).map(|n| bench.create(spawn(n)).sent()[0].0).collect();
    assert_eq!(order, [1, 2, 2, 2, 1, 2, 2, 2]);
}

/// Protects work that needs what other work left behind on one machine.
#[test]
fn work_goes_where_the_work_lies_that_it_builds_on() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1));
    bench.connect(2, "b", 4).put(Input::Gone { session: SessionId(1) });
    let child = SpawnTask { parent_task_id: Some(task(1)), ..spawn(2) };
    assert!(bench.create(child).sent().is_empty(), "its machine is away");
    assert_eq!(bench.connect(3, "a", 4).sent(), [(3, "authenticated"), (3, "spawnTask"), (3, "spawnTask")]);
    bench.say(3, complete(task(1), None));
    let next = SpawnTask { continue_from_task_id: Some(task(1)), ..spawn(3) };
    assert_eq!(bench.create(next).sent(), [(3, "spawnTask")], "also after that has ended");
}

/// Protects tasks beyond what a daemon queues from being refused, which would end them.
#[test]
fn a_daemon_is_given_no_more_than_it_queues() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4);
    for n in 0..PER_DAEMON {
        assert_eq!(bench.create(spawn(n as u128)).sent().len(), 1);
    }
    assert!(bench.create(spawn(5_000)).sent().is_empty());
    assert_eq!(bench.say(1, complete(task(3), None)).sent(), [(1, "spawnTask")]);
}

/// Protects commands that were lost with a connection: this wire acknowledges none.
#[test]
fn a_daemon_that_comes_back_is_told_everything_again() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1)).create(spawn(2)).create(spawn(3));
    bench.put(Input::Interrupt { task: task(2), graceful: false }).say(1, complete(task(1), None));
    bench.put(Input::Gone { session: SessionId(1) });
    let again = [(2, "authenticated"), (2, "spawnTask"), (2, "interruptTask"), (2, "spawnTask")];
    assert_eq!(bench.connect(2, "a", 4).sent(), again);
}

/// Protects against two connections that both speak for one machine.
#[test]
fn a_second_connection_of_a_machine_supersedes_the_first() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1)).connect(2, "a", 4);
    assert!(bench.out.contains(&Effect::Close { session: SessionId(1) }));
    assert_eq!(bench.hub.connected_daemons(), 1);
    assert_eq!(bench.say(1, complete(task(1), None)).answer, Answer::Over);
    bench.put(Input::Gone { session: SessionId(1) });
    assert_eq!((bench.hub.connected_daemons(), bench.hub.unfinished()), (1, 1));
}

/// Protects the end: the first that is told stays, and nothing follows it.
#[test]
fn a_task_ends_once() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1)).say(1, complete(task(1), Some("no")));
    assert_eq!(bench.events().len(), 1);
    for late in
        [complete(task(1), None), output(task(1), "x", false), status(task(1), "a", "b"), progress(task(1), "x")]
    {
        assert!(bench.say(1, late).out.is_empty());
    }
    assert_eq!(bench.hub.ignored().late, 4);
    assert_eq!(bench.put(Input::Interrupt { task: task(1), graceful: true }).answer, Answer::Ended);
}

/// Protects what the end is called, from a daemon that told its status and from one that did not.
#[test]
fn the_end_has_the_status_that_was_told() {
    let cases = [
        ("done", None, "done"),
        ("running", None, "done"),
        ("failed", Some("x"), "failed"),
        ("interrupted", Some("x"), "interrupted"),
        ("running", Some("interrupted"), "interrupted"),
        ("running", Some("x"), "failed"),
        ("done", Some("x"), "failed"),
    ];
    for (told, error, expected) in cases {
        let mut bench = Bench::new();
        bench.connect(1, "a", 4).create(spawn(1)).say(1, status(task(1), "x", told)).say(1, complete(task(1), error));
        let [Event::End(end)] = &bench.events()[..] else { panic!("{told}") };
        assert_eq!(end.status, expected, "{told} {error:?}");
    }
}

/// Protects a task that nobody has from being one that nobody can end.
#[test]
fn a_waiting_task_is_interrupted_here() {
    let mut bench = Bench::new();
    bench.create(spawn(1)).put(Input::Interrupt { task: task(1), graceful: false });
    let [Event::Status { .. }, Event::End(end)] = &bench.events()[..] else { panic!() };
    assert_eq!((end.status.as_str(), end.success), ("interrupted", false));
    assert_eq!(bench.connect(1, "a", 4).sent(), [(1, "authenticated")], "it is not started after all");
}

/// Protects the meaning of a second interruption across a reconnect: a daemon forces it.
#[test]
fn a_second_gentle_interruption_is_remembered_as_a_forced_one() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1));
    for _ in 0..2 {
        bench.put(Input::Interrupt { task: task(1), graceful: true });
    }
    bench.connect(2, "a", 4);
    let Some(Effect::Send { command, .. }) = bench.out.last() else { panic!() };
    let DaemonCommand::InterruptTask(again) = &**command else { panic!() };
    assert!(!again.graceful);
}

/// Protects an agent that is ending gently from being killed because a link broke: a daemon takes a second gentle
/// interruption for a forced one.
#[test]
fn a_gentle_interruption_is_repeated_only_when_the_first_cannot_be_under_way() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1));
    assert_eq!(bench.put(Input::Interrupt { task: task(1), graceful: true }).interruptions(), [true]);
    assert!(bench.connect(2, "a", 4).interruptions().is_empty());
    assert!(bench.beat(2, 0).interruptions().is_empty());
    assert!(bench.beat(2, 30).interruptions().is_empty(), "the agent may have seconds left");
    assert_eq!(bench.beat(2, 30).interruptions(), [true], "by now it would have ended: it never was told");
    for _ in 0..3 {
        assert!(bench.beat(2, 30).interruptions().is_empty(), "once a connection");
    }
    assert!(bench.connect(3, "a", 4).interruptions().is_empty());
    assert!(bench.beat(3, 0).interruptions().is_empty());
    bench.say(3, complete(task(1), Some("interrupted")));
    assert!(bench.beat(3, 60).interruptions().is_empty(), "it has ended");
}

/// Protects a wish from waiting where nobody can have been told of it yet.
#[test]
fn an_interruption_while_the_daemon_is_away_reaches_it_at_once() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1)).put(Input::Gone { session: SessionId(1) });
    assert!(bench.put(Input::Interrupt { task: task(1), graceful: true }).interruptions().is_empty());
    assert_eq!(bench.connect(2, "a", 4).interruptions(), [true]);
    assert!(bench.beat(2, 60).interruptions().is_empty());
}

/// Protects the meaning of a person's second word from getting lost with the first.
#[test]
fn a_second_interruption_is_sent_as_a_forced_one_and_again_at_once() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1)).put(Input::Interrupt { task: task(1), graceful: true });
    bench.connect(2, "a", 4);
    assert_eq!(bench.put(Input::Interrupt { task: task(1), graceful: true }).interruptions(), [false]);
    assert_eq!(bench.connect(3, "a", 4).interruptions(), [false]);
}

/// Protects a session from being flooded by what has waited: one that takes no more is let go, and with it what was told.
#[test]
fn what_has_waited_is_told_bit_by_bit() {
    let mut bench = Bench::new();
    bench.create(spawn(1));
    let mut taken = 0;
    loop {
        let message = SendMessage { task_id: task(1), message: taken.to_string() };
        bench.put(Input::Tell { task: task(1), command: Box::new(message.into()) });
        if bench.answer == Answer::Full {
            break;
        }
        taken += 1;
    }
    assert_eq!(taken, 1_000);
    let messages = |bench: &Bench| bench.sent().iter().filter(|(_, kind)| *kind == "sendMessage").count();
    let mut told = messages(bench.connect(1, "a", 4));
    assert_eq!(told, AHEAD);
    while told < taken {
        let more = messages(bench.beat(1, 30));
        assert!(more > 0 && more <= AHEAD, "{more}");
        told += more;
    }
    assert_eq!((told, messages(bench.beat(1, 30))), (taken, 0));
}

/// Protects tasks from daemons that do not have them, and counts what they say.
#[test]
fn a_daemon_is_heard_only_about_its_own_tasks() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1)).connect(2, "b", 4);
    bench.say(2, complete(task(1), None)).say(1, complete(task(99), None)).say(77, complete(task(1), None));
    let ignored = bench.hub.ignored();
    assert_eq!((ignored.foreign, ignored.unknown, ignored.stray), (1, 1, 1));
    assert_eq!(bench.hub.unfinished(), 1);
}

/// Protects `branch` from being claimed before there is one.
#[test]
fn a_branch_is_known_once_its_whole_name_was_told() {
    let branch = BranchName::of("Task 1", TaskId(task(1)));
    let result = |success, message: String| {
        DaemonMessage::from(CompletionActionResult { task_id: task(1), success, message, pr_url: None })
    };
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1));
    assert!(!bench.say(1, progress(task(1), "commit made")).branch());
    assert!(!bench.say(1, result(false, format!("{branch} could not be put there"))).branch());
    assert!(bench.say(1, result(true, format!("put {branch} into /repo"))).branch());
    assert!(!bench.say(1, progress(task(1), &format!("made {branch}"))).branch(), "once is enough");
}

/// Protects the one text that a task's output is.
#[test]
fn output_is_one_text_that_grows() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(spawn(1));
    let mut text = String::new();
    for (piece, partial) in [("one", false), ("tw", true), ("", true), ("o", false), ("", false), ("é", true)] {
        bench.say(1, output(task(1), piece, partial));
        for effect in &bench.out {
            let Effect::Output { offset, text: part, .. } = effect else {
                // Once: it has no place, so nobody knows how far the log is had.
                assert!(matches!(effect, Effect::Record(Record::Placed { at: None, .. })) && text.is_empty());
                continue;
            };
            assert_eq!(*offset, text.len() as u64);
            text.push_str(part);
        }
    }
    assert_eq!(text, "one\ntwo\n\né");
}
