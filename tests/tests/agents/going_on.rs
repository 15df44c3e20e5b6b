//! Tasks that are gone on with: after their end, after their agent was killed, and while they run.

use std::time::Duration;

use makima_tests::api::{Script, Turn};
use rustix::process::{Pid, Signal, kill_process};

use crate::claudes::with_each;
use crate::scene::{May, PATIENCE, Scene, agent_of, bash, slowly, task_of, write};
use crate::support::{Done, Proc, number};

/// `makima task continue` of a task.
fn go_on(scene: &Scene, id: &str, message: &[&str]) -> Proc {
    scene.with_agent(scene.place.makima([&["task", "continue", id], message].concat())).at(scene.repo.path()).start()
}

fn kill(run: &Proc) {
    let agent = Pid::from_raw(agent_of(run)).expect("a process");
    kill_process(agent, Signal::KILL).expect("it is there");
}

/// Protects what was said and done before: who goes on has the conversation, the files and the commits.
#[test]
fn a_task_that_has_ended_is_gone_on_with() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, Script::new());
        scene.api.push(write(Turn::text("I write one."), "one", "1\n"));
        scene.api.push(Turn::text("One is there."));
        let run = scene.run("Write one").start();
        let id = task_of(&run);
        drop(run.wait(PATIENCE).code(0));
        scene.api.push(write(Turn::text("I write two."), "two", "2\n"));
        scene.api.push(Turn::text("Two is there."));
        let next = go_on(&scene, &id, &["now", "two"]);
        let other = task_of(&next);
        let done: Done = next.wait(PATIENCE).code(0);
        drop(done.noted(&[&format!("Write one, going on where {id} is")]));
        assert_ne!(id, other);
        scene.said_once(&["Write one", "now two"]);
        let branch = format!("makima/write-one-{other}");
        assert_eq!((scene.repo.show(&branch, "one"), scene.repo.show(&branch, "two")), ("1".into(), "2".into()));
        scene.place.assert_nothing_runs();
    });
}

/// Protects what an agent was told and had not heard when it was killed, and what it had heard from being said twice.
#[test]
fn who_goes_on_after_an_agent_was_killed_is_told_the_rest() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::All, Script::new());
        scene.api.push(write(Turn::text("I write it."), "made", "before\n"));
        scene.api.push(slowly(600));
        let run = scene.run("Write it").start();
        let id = task_of(&run);
        scene.streams(1, 3);
        drop(scene.task(&["send", &id, "and tell me about it"]).code(0));
        // Whether it is with the agent by then makes no difference to anybody.
        std::thread::sleep(Duration::from_millis(500));
        kill(&run);
        drop(run.wait(PATIENCE).code(1));
        scene.api.push(Turn::text("It is written."));
        drop(go_on(&scene, &id, &[]).wait(PATIENCE).code(0));
        scene.said_once(&["Write it", "and tell me about it", "Go on where you were."]);
        scene.place.assert_nothing_runs();
    });
}

/// Protects what was said from an agent that was killed before it had written anything of it down: its conversation is not there,
/// or its file is, and nothing in it.
#[test]
fn who_goes_on_where_nothing_was_written_down_begins_anew() {
    with_each(|claude| {
        for left in [None, Some("{\"type\":\"queue-operation\",\"operation\":\"enqueue\"}\n")] {
            let scene = Scene::new(claude, May::Edit, Script::new());
            scene.api.push(slowly(600));
            let run = scene.run("Say it").start();
            let id = task_of(&run);
            scene.streams(0, 1);
            kill(&run);
            drop(run.wait(PATIENCE).code(1));
            let projects = std::fs::read_dir(scene.place.path("claude").join("projects")).expect("a folder");
            let files = projects.map(|folder| folder.expect("a folder").path().join(format!("{id}.jsonl")));
            for file in files.filter(|file| file.exists()) {
                match left {
                    Some(text) => std::fs::write(file, text).expect("a file"),
                    None => std::fs::remove_file(file).expect("a file"),
                }
            }
            scene.api.push(Turn::text("It is said."));
            drop(go_on(&scene, &id, &["and again"]).wait(PATIENCE).code(0));
            scene.said_once(&["Say it", "and again"]);
            scene.place.assert_nothing_runs();
        }
    });
}

/// Protects an agent that works from another that goes on with its conversation meanwhile.
#[test]
fn one_that_is_under_way_is_branched_off_from() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::All, Script::new().fallback(Turn::text("Yes.")));
        let go = scene.file("go");
        scene.api.push(bash(
            Turn::text("I wait."),
            &format!("touch '{}'; until test -e '{go}'; do sleep 0.05; done", scene.file("begun")),
        ));
        let run = scene.run("Wait for it").start();
        let id = task_of(&run);
        scene.is_there("begun");
        drop(go_on(&scene, &id, &["something", "else"]).wait(PATIENCE).code(0));
        scene.said_once(&["Wait for it", "something else"]);
        scene.make("go");
        drop(run.wait(PATIENCE).code(0));
        let newest = scene.api.newest().expect("it was asked");
        assert_eq!(newest.times_said("something else"), 0, "{:#?}", scene.short());
    });
}

/// Protects each thing that is said from being lost, or said twice, by agents that are killed at any moment.
#[test]
fn agents_that_are_killed_at_any_moment_are_told_everything_once() {
    let seed = number("MAKIMA_E2E_SEED", u64::from(std::process::id()));
    eprintln!("MAKIMA_E2E_SEED={seed}");
    with_each(|claude| {
        let mut state = seed;
        let mut any = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let scene = Scene::new(claude, May::All, Script::new().fallback(slowly(6)));
        let mut run = scene.run("Go on, whatever happens").start();
        let mut words = vec!["Go on, whatever happens".to_owned()];
        for _ in 0..number("MAKIMA_AGENT_KILLS", 4) {
            let id = task_of(&run);
            let agent = Pid::from_raw(agent_of(&run)).expect("a process");
            // While things are said, or a little later. It may have ended by then.
            let moment = Duration::from_millis(any(1_400));
            let killer = std::thread::spawn(move || {
                std::thread::sleep(moment);
                let _ = kill_process(agent, Signal::KILL);
            });
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(any(300)));
                let word = format!("<word {}>", words.len());
                let sent = scene.task(&["send", &id, &word]);
                // Its task may have ended by then.
                if sent.err().contains("the agent is told") {
                    words.push(word);
                }
            }
            killer.join().expect("it is killed");
            drop(run.wait(PATIENCE));
            run = go_on(&scene, &id, &[]);
        }
        drop(run.wait(PATIENCE).code(0));
        scene.said_once(&words.iter().map(String::as_str).collect::<Vec<_>>());
        scene.place.assert_nothing_runs();
    });
}

/// Protects people from an agent that waits for ever for a conversation that is not there any more.
#[test]
fn a_conversation_that_is_gone_is_told_of() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, Script::new().fallback(Turn::text("Yes.")));
        let run = scene.run("Say yes").start();
        let id = task_of(&run);
        drop(run.wait(PATIENCE).code(0));
        std::fs::remove_dir_all(scene.place.path("claude").join("projects")).expect("its conversations");
        let done = go_on(&scene, &id, &["again"]).wait(PATIENCE).code(1);
        drop(done.noted(&["No conversation found"]));
    });
}
