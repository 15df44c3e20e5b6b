//! The model cannot be reached, or does not let the agent in.

use std::path::Path;
use std::time::{Duration, Instant};

use makima_tests::api::{Cut, Request, Script, Turn};

use crate::claudes::{with_each, with_each_for_long};
use crate::scene::{May, PATIENCE, Scene, shows, slowly, task_of, tells, write};
use crate::support::Done;

/// No agent that is at work, and no task that waits for one, takes as long to end.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Protects people from waiting three minutes for what will not change: who is not let in is told at once.
#[test]
fn a_key_that_is_refused_is_told_at_once() {
    with_each(|claude| {
        let script = Script::new().fallback(Turn::error(401, "invalid x-api-key"));
        let scene = Scene::new(claude, May::Edit, script);
        let run = scene.run("Get in").start();
        assert!(scene.api.wait_for(1, PATIENCE), "it asks");
        let since = Instant::now();
        let done = run.wait(PATIENCE).code(1);
        assert!(since.elapsed() < AT_ONCE, "it took {:?}", since.elapsed());
        drop(done.noted(&["the model's API does not let the agent in (it answered 401)"]));
    });
}

/// Protects what an agent has done before its key is refused.
#[test]
fn a_key_that_is_refused_later_loses_no_work() {
    with_each(|claude| {
        let script = Script::new()
            .turn(write(Turn::default(), "made", "before\n"))
            .fallback(Turn::error(401, "invalid x-api-key"));
        let scene = Scene::new(claude, May::Edit, script);
        let done = scene.done("Write, and be thrown out").code(1);
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "before");
        drop(done.noted(&["the model's API does not let the agent in (it answered 401)", "1 file, +1 -0"]));
    });
}

/// A run whose model has too much to do for a while.
#[track_caller]
fn busy(claude: &Path) -> Done {
    let busy = || Turn::error(429, "slow down").header("retry-after", "1");
    let script = Script::new().turn(busy()).turn(busy()).turn(Turn::text("At last."));
    let scene = Scene::new(claude, May::Edit, script);
    let done = scene.done("Be patient").code(0);
    assert_eq!(scene.asked().len(), 3, "{:#?}", scene.short());
    scene.said_once(&["Be patient"]);
    done
}

/// Protects a task from ending by what passes, and people from not knowing why nothing happens.
#[test]
fn a_model_that_is_too_busy_is_waited_for() {
    with_each(|claude| {
        let done = busy(claude);
        assert_eq!(done.err().matches("the model's API answered 429; tried again in ").count(), 2, "each time");
        shows(&done, &["At last."]);
        drop(done.noted(&["(attempt 1 of ", "(attempt 2 of "]));
    });
}

/// Protects people from being told that nothing is waited for.
#[test]
fn how_long_a_busy_model_is_waited_for_is_told() {
    with_each(|claude| {
        let err = busy(claude).err();
        assert!(!err.contains("tried again in 0 seconds"), "{err}");
    });
}

/// Protects a reply that breaks off from being taken for a whole one, and for the end.
#[test]
fn a_reply_that_is_cut_off_is_asked_for_again() {
    with_each(|claude| {
        let script = Script::new()
            .turn(slowly(20).cut(8, Cut::Reset))
            .turn(write(Turn::text("I write it."), "made", "whole\n").cut(3, Cut::Close))
            .turn(write(Turn::text("Now I write it."), "made", "whole\n"))
            .fallback(Turn::text("It is whole."));
        let scene = Scene::new(claude, May::Edit, script);
        let done = scene.done("Talk").code(0);
        scene.said_once(&["Talk"]);
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "whole");
        shows(&done, &["Now I write it.", "It is whole."]);
    });
}

/// Protects people from waiting for what will not change: who has not paid gets no answer, and that is told.
#[test]
fn what_will_not_pass_is_the_end_of_the_task() {
    with_each(|claude| {
        let why = "Your credit balance is too low to access the Anthropic API.";
        let scene = Scene::new(claude, May::Edit, Script::new().fallback(Turn::error(400, why)));
        let done = scene.done("Talk").code(1);
        assert!(scene.asked().len() <= 2, "{:#?}", scene.short());
        drop(done.noted(&["error: Credit balance is too low (the API answered 400)"]));
    });
}

/// Protects people from a task that fails, and nobody knows why.
#[test]
fn a_program_that_does_not_run_says_why() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, Script::new());
        scene.command(&[&claude.display().to_string(), "--no-such-flag"], May::Edit);
        let why = "the agent ended with exit code 1: error: unknown option '--no-such-flag'";
        drop(scene.done("Talk").code(1).noted(&[why]));
        assert_eq!(scene.asked().len(), 0);
    });
}

/// Protects people from a task that cannot be ended while it waits for the model to come back.
#[test]
fn a_task_that_waits_for_the_model_is_interrupted_at_once() {
    with_each(|claude| {
        let script =
            Script::new().turn(write(Turn::default(), "made", "before\n")).fallback(Turn::error(500, "out of order"));
        let scene = Scene::new(claude, May::Edit, script);
        let run = scene.run("Wait for it").env("CLAUDE_CODE_MAX_RETRIES", "1").start();
        tells(&run, "the agent goes on in 1 minute: ", 1);
        let since = Instant::now();
        run.ctrl_c();
        let done = run.wait(PATIENCE).code(130);
        assert!(since.elapsed() < AT_ONCE, "it took {:?}", since.elapsed());
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "before");
        assert!(done.out().contains("✗ "), "{}", done.out());
        drop(done.noted(&["the model's API answered 500; tried again"]));
    });
}

/// Protects a task from failing where nobody answers for a while, and people from not knowing why nothing happens.
#[test]
fn a_model_that_is_not_reached_is_waited_for() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, Script::new());
        let run =
            scene.run("Wait for it").env("CLAUDE_CODE_MAX_RETRIES", "1").env("ANTHROPIC_BASE_URL", NOWHERE).start();
        tells(&run, "the agent goes on in 1 minute: ", 1);
        run.ctrl_c();
        drop(run.wait(PATIENCE).code(130).noted(&["the model's API was not reached; tried again in "]));
    });
}

/// What is there when the model has not been reached for a while is done all the same.
fn comes_back(claude: &Path, script: Script, told: &str) {
    let scene = Scene::new(claude, May::Edit, script);
    let run = scene.run("Wait for it").env("CLAUDE_CODE_MAX_RETRIES", "1").start();
    tells(&run, "the agent goes on in 1 minute: ", 1);
    // It waits too.
    drop(scene.task(&["send", &task_of(&run), "and come back"]).code(0));
    let done = run.wait(Duration::from_secs(180)).code(0);
    scene.said_once(&["Wait for it", "and come back", "Go on where you were"]);
    shows(&done, &["I am back."]);
    drop(done.noted(&[told]));
}

/// Protects a night's work from an hour in which the model is out of order.
#[test]
fn a_model_that_was_out_of_order_is_gone_on_with() {
    with_each_for_long(|claude| {
        let script = Script::new().turn(Turn::error(500, "out of order").repeat(2)).fallback(Turn::text("I am back."));
        comes_back(claude, script, "the model's API answered 500");
    });
}

/// Protects it from one in which the model has too much to do.
#[test]
fn a_model_that_was_overloaded_is_gone_on_with() {
    with_each_for_long(|claude| {
        let busy = |request: &Request| request.times_said("and come back") == 0;
        let script = Script::new()
            .turn(Turn::error(529, "overloaded").repeat(0).when_request(busy))
            .fallback(Turn::text("I am back."));
        comes_back(claude, script, "(the API answered 529)");
    });
}
