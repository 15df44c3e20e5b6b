//! Rules that no tampered run of the world comes to easily, each broken once.

use makima_core::Daemon;
use makima_core::effect::{Effect, Exit, Launch, LinkEffect, Way, Work};
use makima_core::id::{EffectId, Epoch, SecretId};
use makima_core::input::{Boot, Chunk, Input, LinkCause, Outcome, Part, Stream, Weighed};
use makima_core::protocol::{Said, Wire};
use makima_core::time::Now;

use super::mirror::Mirror;
use crate::world::{config, task_id};

/// A mirror in a life that has just begun, and its daemon, which is not asked for much.
struct Scene {
    daemon: Daemon,
    mirror: Mirror,
}

const TASK: u8 = 0;

const fn id(n: u64) -> EffectId {
    EffectId { incarnation: 1, n }
}

fn start() -> Work {
    Work::Start(Launch::script(Vec::new()))
}

fn part(stream: Stream, text: &str, to: u64, line_end: Option<u64>) -> Part {
    Part { stream, text: text.to_owned(), to, line_end }
}

/// The whole log, which is closed.
fn chunk(to: u64) -> Chunk {
    let parts = vec![part(Stream::Stdout, "a", to, None)];
    Chunk { from: 0, to, log: to, closed: true, begun: None, parts }
}

impl Scene {
    fn new() -> Self {
        let daemon = Daemon::new(config());
        let mut scene = Self { mirror: Mirror::around(&daemon), daemon };
        let boot = Boot { incarnation: 1, ..Boot::default() };
        scene.takes(&Input::Boot(boot)).expect("it begins");
        scene
    }

    fn takes(&mut self, input: &Input) -> Result<(), String> {
        self.mirror.takes(&self.daemon, Now::default(), input)
    }

    /// These are asked for, with numbers from 1.
    fn asks(works: impl IntoIterator<Item = Work>) -> Self {
        let mut scene = Self::new();
        for (n, work) in (1..).zip(works) {
            scene.gave(Effect::Work { id: id(n), task: task_id(TASK), work });
        }
        scene
    }

    fn gave(&mut self, effect: Effect) {
        self.mirror.gave(&[effect]).expect("it may be asked for");
    }

    fn done(&mut self, n: u64, outcome: Outcome) -> Result<(), String> {
        self.takes(&Input::Done { id: id(n), outcome })
    }

    /// A connection of this version of the wire.
    fn connected(wire: Wire) -> Self {
        let mut scene = Self::new();
        scene.gave(Effect::Link(LinkEffect::Connect { epoch: Epoch(1), way: Way::WebSocket }));
        scene.takes(&Input::LinkUp { epoch: Epoch(1), wire }).expect("it comes to stand");
        scene
    }
}

fn refused(result: Result<(), String>, why: &str) {
    let said = result.expect_err(why);
    assert!(said.contains(why), "{said}");
}

#[test]
fn trees_are_stopped_and_let_go_on_in_turn() {
    let mut scene = Scene::asks([Work::Freeze, Work::Thaw]);
    refused(scene.done(2, Outcome::Done), "is answered before the `freeze` 1.1");
    let mut scene = Scene::asks([Work::Freeze, Work::Thaw]);
    assert_eq!((scene.done(1, Outcome::Done), scene.done(2, Outcome::Done)), (Ok(()), Ok(())));
}

#[test]
fn nothing_is_started_that_was_called_off_or_was_started_before() {
    let started = || Outcome::Started { pid: 1, handed: 0 };
    let emptied = || Outcome::Emptied { killed: 0, log_end: 0 };
    let mut scene = Scene::asks([start(), Work::Empty]);
    assert_eq!(scene.done(2, emptied()), Ok(()));
    refused(scene.done(1, started()), "was called off");
    assert_eq!(Scene::asks([start(), Work::Empty]).done(1, started()), Ok(()), "nobody had been asked to empty it yet");
    let mut scene = Scene::asks([start(), start()]);
    assert_eq!(scene.done(1, started()), Ok(()));
    refused(scene.done(2, started()), "started twice");
    assert_eq!(Scene::asks([start(), Work::Empty]).done(1, Outcome::Failed("it was cancelled".to_owned())), Ok(()));
}

#[test]
fn only_an_agent_in_hand_takes_messages() {
    let message = || Work::Stdin { n: 1, text: String::new() };
    refused(Scene::asks([message()]).done(1, Outcome::Done), "not in hand");
    let mut scene = Scene::asks([start(), message()]);
    assert_eq!((scene.done(1, Outcome::Started { pid: 1, handed: 0 }), scene.done(2, Outcome::Done)), (Ok(()), Ok(())));
}

#[test]
fn what_is_told_of_is_what_was_asked_about() {
    let other = SecretId::ToolKey(task_id(1));
    refused(Scene::asks([Work::MakeKey]).done(1, Outcome::Key(other)), "the key of");
    let weighed = Weighed { all: 1, tasks: vec![(task_id(1), 1)] };
    refused(
        Scene::asks([Work::Weigh { tasks: vec![task_id(TASK)] }]).done(1, Outcome::Weighed(weighed)),
        "nobody asked",
    );
}

#[test]
fn a_log_ends_where_its_end_was_told() {
    let emptied = |log_end| Outcome::Emptied { killed: 0, log_end };
    let mut scene = Scene::asks([Work::Empty, Work::Empty, Work::Read { from: 0 }]);
    assert_eq!(scene.done(1, emptied(9)), Ok(()));
    refused(scene.done(3, Outcome::Chunk(chunk(10))), "a log that ended at 9 reaches to 10");
    refused(scene.done(2, emptied(8)), "ends at 8");
    // What was asked for after that sees the end, and nothing but the end.
    let task = task_id(TASK);
    scene.gave(Effect::Work { id: id(4), task, work: Work::Read { from: 0 } });
    refused(scene.done(4, Outcome::Chunk(Chunk { closed: false, ..chunk(9) })), "is not its end");
}

#[test]
fn stretches_of_output_hang_together() {
    let read = |from| Work::Read { from };
    let outside = Chunk { parts: vec![part(Stream::Stdout, "a", 11, None)], ..chunk(10) };
    refused(Scene::asks([read(0)]).done(1, Outcome::Chunk(outside)), "a part ends at 11");
    let line = Chunk { parts: vec![part(Stream::Stdout, "a\n", 9, Some(10))], ..chunk(10) };
    refused(Scene::asks([read(0)]).done(1, Outcome::Chunk(line)), "a line ends at");
    let begun = |begun, text| {
        let mut scene = Scene::asks([read(0), read(10)]);
        assert_eq!(scene.done(1, Outcome::Chunk(Chunk { log: 20, ..chunk(10) })), Ok(()));
        let parts = vec![part(Stream::Stderr, text, 20, None)];
        scene.done(2, Outcome::Chunk(Chunk { from: 10, to: 20, log: 20, closed: true, begun, parts }))
    };
    refused(begun(None, "b"), "goes on at 10");
    assert_eq!(begun(Some(Stream::Stdout), "b"), Ok(()));
    assert_eq!(begun(None, "\nmissing\n"), Ok(()), "what stands for what is gone ends the line");
    let nothing = Chunk { from: 0, to: 0, log: 0, closed: false, begun: None, parts: Vec::new() };
    refused(Scene::asks([read(0)]).done(1, Outcome::Chunk(nothing.clone())), "not closed");
    let mut scene = Scene::asks([read(0)]);
    scene.gave(Effect::Cancel { id: id(1) });
    assert_eq!(scene.done(1, Outcome::Chunk(nothing)), Ok(()));
}

#[test]
fn connections_keep_to_their_version_and_end_once() {
    let epoch = Epoch(1);
    let said = Input::Said { epoch, said: Said::Ack(1) };
    refused(Scene::connected(Wire::One).takes(&said), "of version 1");
    let mut scene = Scene::connected(Wire::Two);
    assert_eq!(scene.takes(&said), Ok(()));
    refused(scene.takes(&Input::Pong { epoch, n: 3 }), "answers the ping 3");
    scene.gave(Effect::Link(LinkEffect::Ping { epoch, n: 1 }));
    assert_eq!(scene.takes(&Input::Pong { epoch, n: 1 }), Ok(()));
    refused(scene.takes(&Input::Pong { epoch, n: 1 }), "answers the ping 1");
    let down = Input::LinkDown { epoch, cause: LinkCause::Gone };
    assert_eq!(scene.takes(&down), Ok(()));
    refused(scene.takes(&said), "after its end");
    refused(scene.takes(&down), "ends twice");
    let mut scene = Scene::new();
    scene.gave(Effect::Link(LinkEffect::Connect { epoch, way: Way::WebSocket }));
    refused(scene.takes(&said), "before it stands");
}

#[test]
fn a_daemon_that_has_ended_is_given_nothing() {
    let mut scene = Scene::new();
    scene.gave(Effect::Exit(Exit::Stopped));
    refused(scene.takes(&Input::Tick), "has ended");
}
