//! A person ends a task: the agent breaks off, its work is kept, and nothing of it is left.

use std::time::{Duration, Instant};

use makima_tests::api::{End, Script, Turn};
use serde_json::json;

use crate::claudes::with_each;
use crate::scene::{May, PATIENCE, Scene, agent_of, bash, ends_a_turn, slowly, task_of, tells, write};
use crate::support::Proc;

/// Nobody wants to wait longer.
const QUICKLY: Duration = Duration::from_secs(10);

/// Who hears nothing is killed by then.
const AT_LAST: Duration = Duration::from_secs(25);

/// How a run ends whose task was interrupted: from its own terminal, or from another.
const BY_ITSELF: i32 = 130;
const BY_OTHERS: i32 = 1;

/// The run is interrupted by that, and ends as it should.
#[track_caller]
fn is_interrupted(scene: &Scene, run: Proc, code: i32, how: impl FnOnce(&Proc)) {
    let since = Instant::now();
    how(&run);
    let done = run.wait(PATIENCE).code(code);
    let took = since.elapsed();
    assert_eq!(scene.place.running(), [], "nothing of it is left");
    assert!(took < QUICKLY, "it took {took:?}");
    assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "before");
    drop(done.noted(&["] interrupted"]));
}

/// An agent that has written a file, and what it says after that.
fn writes_then(then: Turn) -> Script {
    Script::new().turn(write(Turn::default(), "made", "before\n")).turn(then)
}

#[test]
fn an_agent_that_speaks_is_interrupted_quickly_and_its_work_is_kept() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, writes_then(slowly(600)));
        let run = scene.run("Talk").start();
        scene.streams(1, 3);
        is_interrupted(&scene, run, BY_ITSELF, Proc::ctrl_c);
        assert_eq!(scene.asked().len(), 2, "nothing is asked after that: {:#?}", scene.short());
    });
}

/// Protects against commands that hear no signals, too.
#[test]
fn an_agent_whose_command_runs_is_interrupted_quickly_and_its_work_is_kept() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::All, Script::new());
        let deaf = format!("trap '' TERM INT HUP; touch '{}'; while :; do sleep 0.05; done", scene.file("begun"));
        scene.api.push(write(Turn::default(), "made", "before\n"));
        scene.api.push(bash(Turn::text("I run it."), &deaf));
        let run = scene.run("Run it").start();
        scene.is_there("begun");
        let id = task_of(&run);
        is_interrupted(&scene, run, BY_OTHERS, |_| drop(scene.task(&["interrupt", &id]).code(0)));
        assert_eq!(scene.asked().len(), 2, "nothing is asked after that: {:#?}", scene.short());
    });
}

/// Protects against messages that wait: nothing comes of them after that.
#[test]
fn what_waits_for_an_agent_that_is_interrupted_is_not_done() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, writes_then(slowly(600)).turn(slowly(600)));
        let run = scene.run("Talk").start();
        scene.streams(1, 3);
        let id = task_of(&run);
        drop(scene.task(&["send", &id, "and then something else"]).code(0));
        std::thread::sleep(Duration::from_millis(500));
        is_interrupted(&scene, run, BY_ITSELF, Proc::ctrl_c);
        // A version that cannot take it back begins it, and is broken off.
        let ends: Vec<_> = scene.asked().iter().map(|request| request.end).collect();
        assert!(ends.len() <= 3 && ends[1..].iter().all(|end| *end == Some(End::Gone)), "{:#?}", scene.short());
    });
}

/// Protects people from waiting as long as the model's API wants to be left alone.
#[test]
fn an_agent_that_waits_to_try_again_is_interrupted_quickly_and_its_work_is_kept() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, writes_then(Turn::error(429, "slow").header("retry-after", "60")));
        let run = scene.run("Wait").start();
        tells(&run, "the model's API answered 429; tried again in ", 1);
        is_interrupted(&scene, run, BY_ITSELF, Proc::ctrl_c);
    });
}

/// Protects people from an agent that does not listen yet: while it begins to it takes no longer than where it does not at all.
#[test]
fn an_agent_that_was_just_started_is_interrupted() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, Script::new().fallback(slowly(600)));
        let run = scene.run("Talk").start();
        agent_of(&run);
        let since = Instant::now();
        run.ctrl_c();
        drop(run.wait(PATIENCE).code(130));
        assert!(since.elapsed() < AT_LAST, "it took {:?}", since.elapsed());
    });
}

/// Protects people from an agent that only waits, and the machine from what it waits for.
#[test]
fn an_agent_that_lets_something_run_behind_the_conversation_is_interrupted_quickly() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::All, Script::new());
        let input =
            json!({ "command": "while :; do sleep 0.05; done", "description": "Wait", "run_in_background": true });
        scene.api.push(write(Turn::default(), "made", "before\n").tool("Bash", input));
        scene.api.push(Turn::text("I wait for it."));
        let run = scene.run("Wait").start();
        ends_a_turn(&run);
        is_interrupted(&scene, run, BY_ITSELF, Proc::ctrl_c);
        assert_eq!(scene.asked().len(), 2, "nothing is asked after that: {:#?}", scene.short());
    });
}

#[test]
fn an_agent_is_ended_by_force_at_once_and_its_work_is_kept() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, writes_then(slowly(600)));
        let run = scene.run("Talk").start();
        scene.streams(1, 3);
        let id = task_of(&run);
        is_interrupted(&scene, run, BY_OTHERS, |_| drop(scene.task(&["interrupt", "--force", &id]).code(0)));
    });
}
