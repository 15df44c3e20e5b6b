//! An agent outlives the daemon: the next one finds it, or what has become of it.

use makima_core::effect::{Signal, Work};
use makima_core::input::{ExitStatus, Outcome, Stream};

use crate::support::{Options, World, is_alive, leaves, number_in, portable, shell, task, text_of};

const WAITS: &str = "trap 'echo int; exit 3' INT; echo begun; while read line; do echo \"got $line\"; done";

/// A world with an agent at work, as the next life of the daemon finds it.
async fn left(script: &str) -> (World, makima_core::id::TaskId, u32) {
    let mut world = World::with(Options::default());
    let id = task();
    world.prepare(id, None).await;
    let (_, pid) = world.start(id, script).await;
    (world.again(), id, pid)
}

async fn attach(world: &mut World, id: makima_core::id::TaskId) -> (makima_core::id::EffectId, Outcome) {
    let effect = world.ask(id, Work::Attach);
    let outcome = world.answer(effect).await;
    (effect, outcome)
}

#[tokio::test]
async fn stdin_interrupt_and_output_work_under_the_next_daemon() {
    let (mut world, id, pid) = left(WAITS).await;
    assert_eq!(attach(&mut world, id).await.1, Outcome::Started { pid, handed: 0 });
    for (n, text) in [(1, "one\n"), (2, "two\n")] {
        assert_eq!(world.run(id, Work::Stdin { n, text: text.to_owned() }).await, Outcome::Done);
    }
    // What was taken under a number is confirmed, and not taken again: also by a third daemon.
    let mut world = world.again();
    let (effect, outcome) = attach(&mut world, id).await;
    assert_eq!(outcome, Outcome::Started { pid, handed: 2 });
    for (n, text) in [(2, "two\n"), (3, "three\n")] {
        assert_eq!(world.run(id, Work::Stdin { n, text: text.to_owned() }).await, Outcome::Done);
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(world.run(id, Work::Signal { signal: Signal::Interrupt }).await, Outcome::Done);
    assert_eq!(world.exit(effect).await, ExitStatus::Code(3));
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    assert_eq!(text_of(&parts, Stream::Stdout), "begun\ngot one\ngot two\ngot three\nint\n");
}

#[tokio::test]
async fn an_end_that_nobody_saw_is_told_as_it_was() {
    let (mut world, id, pid) = left("sleep 0.2; seq 1000; exit 7").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!is_alive(i32::try_from(pid).unwrap()));
    let (effect, outcome) = attach(&mut world, id).await;
    assert_eq!(outcome, Outcome::Started { pid, handed: 0 });
    assert_eq!(world.exit(effect).await, ExitStatus::Code(7));
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    assert_eq!(text_of(&parts, Stream::Stdout).lines().count(), 1_000);
}

#[tokio::test]
async fn nothing_is_started_twice() {
    let (mut world, id, _) = left("sleep 1000").await;
    let why = world.refused(id, Work::Start(shell("echo again"))).await;
    assert_eq!(why, "an agent was started for it before");
    world.empty(id).await;
    let why = world.refused(id, Work::Start(shell("echo again"))).await;
    assert_eq!(why, "an agent was started for it before");
}

#[tokio::test]
async fn where_none_was_started_that_is_said() {
    let mut world = World::with(Options::default());
    let id = task();
    assert_eq!(attach(&mut world, id).await.1, Outcome::NotStarted);
    world.prepare(id, None).await;
    let mut world = world.again();
    assert_eq!(attach(&mut world, id).await.1, Outcome::NotStarted);
    // One that could not be run was not started, and another may be.
    let argv = vec![makima_core::effect::Arg::Text("no-such-agent".to_owned())];
    let launch = makima_core::effect::Launch::script(argv);
    world.refused(id, Work::Start(launch)).await;
    assert_eq!(attach(&mut world, id).await.1, Outcome::NotStarted);
    assert_eq!(world.act(id, "exit 4").await, ExitStatus::Code(4));
}

/// A record of the supervisor's, as a number.
fn number(world: &World, id: makima_core::id::TaskId, pointer: &str) -> i32 {
    let record = std::fs::read(world.home.task(id).join("agent")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    i32::try_from(record.pointer(pointer).unwrap().as_i64().unwrap()).unwrap()
}

#[tokio::test]
async fn a_supervisor_that_was_killed_is_told_of_and_its_agent_is_found_and_ended() {
    let why = match portable() {
        false => "the supervisor was killed",
        true => "the supervisor was killed, or the machine was restarted",
    };
    let leaves = leaves();
    let (mut world, id, pid) = left(&format!("trap '' PIPE; {leaves} sleep 1000 & sleep 1000")).await;
    let supervisor = number(&world, id, "/supervisor/pid");
    let process = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    assert_eq!(attach(&mut world, id).await.1, Outcome::Failed(why.to_owned()));
    let agent = i32::try_from(pid).unwrap();
    assert!(is_alive(agent));
    world.empty(id).await;
    assert!(!is_alive(agent));
}

#[tokio::test]
async fn after_a_start_of_the_machine_nobody_is_looked_for_and_nobody_signalled() {
    let (mut world, id, pid) = left("sleep 1000").await;
    let file = world.home.task(id).join("started.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["boot"] = "another run of the machine".into();
    std::fs::write(&file, record.to_string()).unwrap();
    assert_eq!(attach(&mut world, id).await.1, Outcome::Failed("the machine was restarted".to_owned()));
    // Whoever bears its number now is somebody else.
    assert_eq!(world.run(id, Work::Signal { signal: Signal::Terminate }).await, Outcome::Done);
    assert_eq!(world.empty(id).await.0, 0);
    assert!(is_alive(i32::try_from(pid).unwrap()));
    std::fs::write(&file, text).unwrap();
    world.again().empty(id).await;
    assert!(!is_alive(i32::try_from(pid).unwrap()));
}

/// Protects people from being told that a message was taken, by a daemon that asks for it a second time.
#[tokio::test]
async fn a_message_that_was_refused_is_refused_again() {
    let (mut world, id, _) = left("exec <&-; echo 1 > closed; sleep 1000").await;
    number_in(&world.home.worktree(id).join("closed")).await;
    attach(&mut world, id).await;
    for _ in 0..2 {
        let why = world.refused(id, Work::Stdin { n: 1, text: "x".to_owned() }).await;
        assert!(why.contains("closed"), "{why}");
        world = world.again();
        attach(&mut world, id).await;
    }
    world.empty(id).await;
}

/// Protects an agent from whoever knocks at its supervisor's door.
#[tokio::test]
async fn rubbish_on_the_socket_changes_nothing() {
    use std::io::Write as _;
    let (mut world, id, pid) = left(WAITS).await;
    let folder = world.home.task(id);
    for rubbish in [
        &b"\n\n{}\n[]\n"[..],
        b"{\"hello\":{\"version\":1,\"nonce\":\"x\"}}\n",
        b"{\"signal\":\"terminate\"}\n",
        b"\xff\x00",
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(folder.join("socket")).unwrap();
        stream.write_all(rubbish).unwrap();
    }
    // It is read no further than a line may be long.
    let mut stream = std::os::unix::net::UnixStream::connect(folder.join("socket")).unwrap();
    let _ = stream.write_all(&vec![b'x'; 9 << 20]);
    let (effect, outcome) = attach(&mut world, id).await;
    assert_eq!(outcome, Outcome::Started { pid, handed: 0 });
    assert_eq!(world.run(id, Work::Stdin { n: 1, text: "one\n".to_owned() }).await, Outcome::Done);
    world.empty(id).await;
    assert_eq!(world.exit(effect).await, ExitStatus::Signal(9));
}
