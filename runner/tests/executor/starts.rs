//! Starts that are called off, and what ended tasks still cost.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use makima_core::effect::Work;
use makima_core::id::TaskId;
use makima_core::input::{ExitStatus, Outcome, Stream};
use makima_core::task::{End, EndStatus};

use crate::support::{Options, World, is_by_itself, shell, task, text_of};

/// A world with a task whose start takes about a second, as what it finds as its log is gone through: millions of records
/// of one byte.
async fn slow() -> (World, TaskId) {
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    let records = if cfg!(debug_assertions) { 7_000_000 } else { 56_000_000 };
    let log = b"\0\0\0\0\0\x01\0\0\0x".repeat(records);
    std::fs::write(world.home.task(id).join("output.log"), log).unwrap();
    (world, id)
}

/// A world with a task whose agent takes three seconds to begin.
async fn hanging() -> (World, TaskId, tempfile::TempDir) {
    let folder = crate::support::folder();
    let launcher = folder.path().join("launcher");
    let script = format!("#!/bin/sh\n/bin/sleep 3; exec {} \"$@\"\n", env!("CARGO_BIN_EXE_makima"));
    std::fs::write(&launcher, script).unwrap();
    std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut world = World::with(Options { launcher, ..Options::default() });
    let id = task();
    world.prepare(id, None).await;
    (world, id, folder)
}

/// Protects a task whose supervisor is killed before its agent begins: it is told so, and not what a new life would be told of an
/// agent that never was. (A night of faults found it.)
#[tokio::test]
async fn a_supervisor_that_is_killed_before_the_agent_begins_has_started_nothing() {
    let folder = crate::support::folder();
    let launcher = folder.path().join("launcher");
    std::fs::write(&launcher, "#!/bin/sh\nexec 3> \"$2\"\nkill -9 $$\n").unwrap();
    std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut world = World::with(Options { launcher, ..Options::default() });
    let id = task();
    world.prepare(id, None).await;
    let why = world.refused(id, Work::Start(shell("touch ran"))).await;
    assert!(why.contains("before its agent began"), "{why}");
    assert!(matches!(world.run(id, Work::Empty).await, Outcome::Emptied { killed: 0, .. }));
    nothing_ran(&world, id).await;
}

async fn nothing_ran(world: &World, id: TaskId) {
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!world.home.worktree(id).join("ran").exists(), "an agent was started that was called off");
}

/// Protects from an agent beside the commit of its own task, and from one that nobody ends.
#[tokio::test]
async fn a_start_that_was_cancelled_starts_nothing_and_the_end_of_the_tree_waits_for_it() {
    let (mut world, id) = slow().await;
    let start = world.ask(id, Work::Start(shell("touch ran; sleep 1000")));
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.executor.cancel(start);
    let empty = world.ask(id, Work::Empty);
    assert_eq!(world.answer(start).await, Outcome::Failed("it was cancelled".to_owned()));
    assert!(matches!(world.answer(empty).await, Outcome::Emptied { killed: 0, .. }));
    nothing_ran(&world, id).await;
    assert!(world.is_quiet());
}

/// The same where nobody cancelled it: what is emptied stays empty.
#[tokio::test]
async fn the_end_of_a_tree_calls_off_a_start_under_way() {
    let (mut world, id) = slow().await;
    let start = world.ask(id, Work::Start(shell("touch ran; sleep 1000")));
    let empty = world.ask(id, Work::Empty);
    assert_eq!(world.answer(start).await, Outcome::Failed("it was cancelled".to_owned()));
    assert!(matches!(world.answer(empty).await, Outcome::Emptied { killed: 0, .. }));
    nothing_ran(&world, id).await;
}

/// Protects the core's wait: what is cancelled is answered soon, also where the process does not get going.
#[tokio::test]
async fn a_start_that_hangs_is_answered_when_it_is_cancelled() {
    let (mut world, id, _launcher) = hanging().await;
    let start = world.ask(id, Work::Start(shell("touch ran; sleep 1000")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    world.executor.cancel(start);
    assert_eq!(world.answer(start).await, Outcome::Failed("it was cancelled".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(world.empty(id).await.0, 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    nothing_ran(&world, id).await;
}

/// The same for what waits for its turn, and for the end of a tree that waits for a start.
#[tokio::test]
async fn what_waits_is_answered_when_it_is_cancelled() {
    let (mut world, id, _launcher) = hanging().await;
    let begun = Instant::now();
    let start = world.ask(id, Work::Start(shell("sleep 1000")));
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 0 };
    let conclude = world.ask(id, Work::Conclude { end, spec: None });
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.executor.cancel(conclude);
    assert_eq!(world.answer(conclude).await, Outcome::Failed("it was cancelled".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(!world.home.task(id).join("end.json").exists());
    assert!(matches!(world.answer(start).await, Outcome::Started { .. }), "that went on");
    let (mut world, id) = slow().await;
    let start = world.ask(id, Work::Start(shell("sleep 1000")));
    let empty = world.ask(id, Work::Empty);
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.executor.cancel(empty);
    assert_eq!(world.answer(empty).await, Outcome::Failed("it was cancelled".to_owned()));
    assert!(matches!(world.answer(start).await, Outcome::Failed(_)));
    assert_eq!(world.empty(id).await.0, 0, "and once more");
}

/// Protects a daemon whose server is away, and that keeps many ended tasks for it, from running out of
/// descriptors.
#[tokio::test]
async fn an_ended_task_holds_nothing_open() {
    const TASKS: usize = 20;
    if !is_by_itself("starts::an_ended_task_holds_nothing_open", std::process::Command::new("env")) {
        return;
    }
    let mut world = World::new();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut ended = Vec::new();
    let mut before = 0;
    for n in 0..=TASKS {
        let id = task();
        world.prepare(id, None).await;
        let (effect, _) = world.start(id, "echo out").await;
        assert_eq!(world.exit(effect).await, ExitStatus::Code(0));
        // Read as far as a server took it before it went away.
        let first = world.run(id, Work::Read { from: 0 }).await;
        assert!(matches!(first, Outcome::Chunk(_)), "{first:?}");
        world.empty(id).await;
        ended.push(id);
        if n == 0 {
            before = settled(open).await;
        }
    }
    let after = settled(open).await;
    assert!(after <= before, "{} descriptors more after {TASKS} tasks more", after.saturating_sub(before));
    for id in ended {
        let (parts, _) = world.output(id, 0).await;
        assert_eq!(text_of(&parts, Stream::Stdout), "out\n");
    }
    assert!(settled(open).await <= before);
}

/// Protects the daemon from the usual limit, which some hundreds of tasks reach, and agents from one that they do
/// not expect.
#[tokio::test]
async fn the_daemon_has_all_descriptors_and_agents_what_is_usual() {
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -Sn 512; ulimit -Hn 600; exec \"$0\" \"$@\""]);
    if !is_by_itself("starts::the_daemon_has_all_descriptors_and_agents_what_is_usual", limited) {
        return;
    }
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    world.act(id, "ulimit -Sn; ulimit -Hn").await;
    let (parts, _) = world.output(id, 0).await;
    assert_eq!(text_of(&parts, Stream::Stdout), "512\n600\n");
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["600", "600"]);
}

/// How many are open once what is being closed is closed.
async fn settled(open: impl Fn() -> usize) -> usize {
    let mut least = open();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        least = least.min(open());
    }
    least
}
