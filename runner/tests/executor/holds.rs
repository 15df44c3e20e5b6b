//! Stopping an agent's processes where they stand, and letting them go on.

use std::path::Path;
use std::time::Duration;

use makima_core::effect::{Signal, Work};
use makima_core::id::TaskId;
use makima_core::input::{ExitStatus, Outcome};

use crate::support::{Options, World, is_alive, number_in, portable, task};

/// How long somebody is watched who is not to go on.
const WATCH: Duration = Duration::from_millis(150);

/// Counts for ever, in a file.
const COUNT: &str = "count() { while :; do echo x >> \"$1\"; sleep 0.005; done; }; ";

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

async fn grows(path: &Path) -> bool {
    let before = length(path);
    for _ in 0..200 {
        if length(path) > before {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn stands(path: &Path) -> bool {
    let before = length(path);
    tokio::time::sleep(WATCH).await;
    length(path) == before
}

/// An agent that counts, with a child of its session, and one in a session of its own.
async fn counting(options: Options) -> (World, TaskId) {
    let mut world = World::with(options);
    let id = task();
    world.prepare(id, None).await;
    let script = format!("{COUNT} count child & setsid sh -c '{COUNT} count far' & echo $! > far.pid; count own");
    world.start(id, &script).await;
    number_in(&world.home.worktree(id).join("far.pid")).await;
    (world, id)
}

async fn all_stand_and_go_on(options: Options) {
    let (mut world, id) = counting(options).await;
    let files = ["own", "child", "far"].map(|name| world.home.worktree(id).join(name));
    for file in &files {
        assert!(grows(file).await, "{}", file.display());
    }
    for _ in 0..3 {
        // Twice is as if once.
        assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done);
        assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done);
        for file in &files {
            assert!(stands(file).await, "{} goes on", file.display());
        }
        assert_eq!(world.run(id, Work::Thaw).await, Outcome::Done);
        assert_eq!(world.run(id, Work::Thaw).await, Outcome::Done);
        for file in &files {
            assert!(grows(file).await, "{} does not go on", file.display());
        }
    }
    world.empty(id).await;
}

#[tokio::test]
async fn a_whole_tree_stands_still_in_its_control_group() {
    // Only the agent's own group is in reach there.
    if !portable() {
        all_stand_and_go_on(Options::default()).await;
    }
}

#[tokio::test]
async fn a_whole_tree_stands_still_without_a_control_group() {
    if !portable() {
        all_stand_and_go_on(Options { groups: false, ..Options::default() }).await;
    }
}

/// One that starts another by `vfork` waits inside the kernel until that other one runs its program: if the other is
/// stopped before, it never shows as stopped itself.
#[tokio::test]
async fn who_is_just_starting_another_stands_still_and_goes_on() {
    if portable() {
        return;
    }
    let mut world = World::with(Options { groups: false, ..Options::default() });
    let id = task();
    world.prepare(id, None).await;
    let one = "start() { while :; do env true; echo x >> $1; done; }; ";
    world.start(id, &format!("{one} start a & start b & start c & start own")).await;
    let files = ["a", "b", "c", "own"].map(|name| world.home.worktree(id).join(name));
    for round in 0..25 {
        for file in &files {
            assert!(grows(file).await, "{} does not go on, round {round}", file.display());
        }
        assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done, "round {round}");
        let before = files.each_ref().map(|file| length(file));
        assert_eq!(files.each_ref().map(|file| length(file)), before, "round {round}");
        assert_eq!(world.run(id, Work::Thaw).await, Outcome::Done, "round {round}");
    }
    world.empty(id).await;
}

#[tokio::test]
async fn an_agents_own_group_stands_still_wherever_it_runs() {
    let (mut world, id) = counting(Options::default()).await;
    let own = world.home.worktree(id).join("own");
    assert!(grows(&own).await);
    assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done);
    // The supervisor is told, and obeys a moment later where only it can.
    tokio::time::sleep(WATCH).await;
    assert!(stands(&own).await);
    assert_eq!(world.run(id, Work::Thaw).await, Outcome::Done);
    assert!(grows(&own).await);
    world.empty(id).await;
}

#[tokio::test]
async fn what_stands_still_can_be_ended() {
    for groups in [true, false] {
        let (mut world, id) = counting(Options { groups, ..Options::default() }).await;
        let far = number_in(&world.home.worktree(id).join("far.pid")).await;
        assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done);
        world.empty(id).await;
        assert!(portable() || !is_alive(far), "{far} is left, groups: {groups}");
        if portable() {
            // It may be gone by itself: its output has lost its reader.
            let far = rustix::process::Pid::from_raw(far).expect("a number");
            let _ = rustix::process::kill_process(far, rustix::process::Signal::KILL);
        }
    }
}

#[tokio::test]
async fn a_signal_reaches_what_stands_still_once_it_goes_on() {
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    let script = "trap 'exit 9' INT; echo $$ > own.pid; while :; do sleep 0.01; done";
    let (agent, _) = world.start(id, script).await;
    number_in(&world.home.worktree(id).join("own.pid")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Signal { signal: Signal::Interrupt }).await, Outcome::Done);
    tokio::time::sleep(WATCH).await;
    assert_eq!(world.run(id, Work::Thaw).await, Outcome::Done);
    assert_eq!(world.exit(agent).await, ExitStatus::Code(9));
    world.empty(id).await;
}

#[tokio::test]
async fn where_nobody_is_left_there_is_nothing_to_stop() {
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    world.act(id, "true").await;
    assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Thaw).await, Outcome::Done);
    world.empty(id).await;
}

/// A daemon that comes later finds it as it stands.
#[tokio::test]
async fn what_stands_still_goes_on_under_another_daemon() {
    let (mut world, id) = counting(Options::default()).await;
    let own = world.home.worktree(id).join("own");
    assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done);
    let mut world = world.again();
    assert!(matches!(world.run(id, Work::Attach).await, Outcome::Started { .. }));
    assert!(stands(&own).await);
    assert_eq!(world.run(id, Work::Thaw).await, Outcome::Done);
    assert!(grows(&own).await);
    world.empty(id).await;
}
