//! The daemon is killed, and the agent is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use makima_tests::api::{Kind, Request, Script, Turn};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::claudes::with_each;
use crate::scene::{May, PATIENCE, Scene, agent_of, bash, lines, slowly, spoken, write};
use crate::support::{Fleet, SOON, not_portable, number, until};

/// Of an agent's work under daemons that are killed.
const STEPS: usize = 8;

/// Kills the daemon, and it alone.
#[track_caller]
fn kill(fleet: &mut Fleet) {
    fleet.daemon.signal(Signal::KILL);
    until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
}

/// Waits for a task's end.
#[track_caller]
fn ended(fleet: &Fleet, id: &str) -> Value {
    until("the task's end", PATIENCE, || Some(fleet.task(id)).filter(|task| !task["endedAt"].is_null()))
}

/// What an agent has written, each line once: what was on its way when a daemon was killed may have come again.
fn written(fleet: &Fleet, id: &str) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut lines = lines(&fleet.output(id));
    lines.retain(|line| line["uuid"].as_str().is_none_or(|name| seen.insert(name.to_owned())));
    lines
}

/// Protects work under a daemon that is killed: the agent goes on, the next daemon hears all that it has said meanwhile, and
/// tells it nothing twice.
#[test]
fn under_a_killed_daemon_the_agent_goes_on_and_the_next_one_hears_the_rest() {
    with_each(|claude| {
        let steps = ["one", "two", "three", "four", "five", "six"];
        let mut script =
            Script::new().turn(slowly(30).tool("Write", json!({ "file_path": "{cwd}/zero", "content": "0" })));
        for step in steps {
            script = script.turn(write(
                Turn::text(&format!("Step {step}.")).first_delay(Duration::from_millis(300)),
                step,
                step,
            ));
        }
        let scene = Scene::new(claude, May::Edit, script.turn(slowly(30)).turn(Turn::text("All is done.")));
        let mut fleet = scene.fleet();
        let id = fleet.plan(&scene.repo, "Go on, whatever happens");
        // In the middle of an answer.
        scene.streams(0, 5);
        kill(&mut fleet);
        assert!(scene.api.wait_for(4, PATIENCE), "it goes on without a daemon");
        fleet.daemon = Fleet::connected(scene.daemon());
        // Once more, after something was said to it.
        scene.streams(steps.len() + 1, 5);
        drop(scene.task(&["send", &id, "and tell me about it"]).code(0));
        kill(&mut fleet);
        fleet.daemon = Fleet::connected(scene.daemon());
        let task = ended(&fleet, &id);
        assert_eq!((&task["status"], &task["success"]), (&json!("done"), &json!(true)), "{task}");
        scene.said_once(&["Go on, whatever happens", "and tell me about it"]);
        let branch = scene.repo.branch();
        for step in steps {
            assert_eq!(scene.repo.show(&branch, step), step);
        }
        let said = spoken(&written(&fleet, &id));
        let said: Vec<&str> = said.iter().map(|text| text.trim()).filter(|text| !text.starts_with("part ")).collect();
        let mut all: Vec<String> = steps.iter().map(|step| format!("Step {step}.")).collect();
        all.push("All is done.".to_owned());
        assert_eq!(said, all, "nothing that it has said is lost");
        let told = fleet.get(&format!("/api/v1/tasks/{id}/events")).1;
        for text in &all {
            assert!(told.contains(text.as_str()), "{text:?} is told: {told}");
        }
        fleet.end();
        scene.place.assert_nothing_runs();
    });
}

/// Protects an agent from waiting for ever for an answer, where it asks while no daemon is there: the next one answers.
#[test]
fn what_an_agent_asks_while_no_daemon_is_there_is_answered_by_the_next_one() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Edit, Script::new());
        scene.api.push(bash(slowly(15), "sh -c 'echo no > denied'"));
        scene.api.push(Turn::text("I do without it."));
        let mut fleet = scene.fleet();
        let id = fleet.plan(&scene.repo, "Try it");
        scene.streams(0, 3);
        kill(&mut fleet);
        let said = |all: &[Request]| all.first().is_some_and(|one| one.end.is_some());
        assert!(scene.api.wait_until(said, PATIENCE));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(scene.asked().len(), 1, "it waits for the answer");
        fleet.daemon = Fleet::connected(scene.daemon());
        let task = ended(&fleet, &id);
        assert_eq!(task["status"], "done", "{task}");
        assert!(scene.asked()[1].tool_results()[0].text.contains("Nobody can be asked"), "{:#?}", scene.short());
        fleet.end();
    });
}

/// Protects a conversation from daemons that are killed at any moment of it: each thing is said to the agent once, and done by
/// it once.
#[test]
fn daemons_that_are_killed_at_any_moment_say_everything_once() {
    let seed = number("MAKIMA_E2E_SEED", u64::from(std::process::id()));
    eprintln!("MAKIMA_E2E_SEED={seed}");
    with_each(|claude| storm(claude, seed));
}

fn storm(claude: &Path, seed: u64) {
    let mut state = seed;
    let mut any = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut pause = |below: u64| std::thread::sleep(Duration::from_millis(any(below)));
    let scene = Scene::new(claude, May::All, Script::new().fallback(Turn::text("Yes.")));
    let (steps, go) = (scene.file("steps"), scene.file("go"));
    for step in 0..STEPS {
        let says = Turn::text(&format!("Step {step}.")).chunk(3).delay(Duration::from_millis(40));
        scene.api.push(bash(says, &format!("echo {step} >> '{steps}'; sleep 0.2")));
    }
    scene.api.push(bash(Turn::text("I wait."), &format!("until test -e '{go}'; do sleep 0.05; done")));
    let mut fleet = scene.fleet();
    let id = fleet.plan(&scene.repo, "Go on, whatever happens");
    let mut words = vec!["Go on, whatever happens".to_owned()];
    for _ in 0..number("MAKIMA_KILLS", 5) {
        pause(700);
        for _ in 0..2 {
            words.push(format!("<word {}>", words.len()));
            let (status, body) =
                fleet.post(&format!("/api/v1/tasks/{id}/messages"), &json!({ "message": words.last() }));
            assert_eq!(status, 202, "{body}");
            pause(60);
        }
        kill(&mut fleet);
        pause(300);
        fleet.daemon = scene.daemon().start();
    }
    fleet.daemon.notes("connected to the server");
    let done = |all: &[Request]| all.iter().filter(|one| one.kind == Kind::Main).count() > STEPS;
    assert!(scene.api.wait_until(done, PATIENCE), "{:#?}", scene.short());
    // The newest messages are on their way.
    std::thread::sleep(Duration::from_millis(700));
    scene.make("go");
    let task = ended(&fleet, &id);
    assert_eq!((&task["status"], &task["success"]), (&json!("done"), &json!(true)), "{task}");
    scene.said_once(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let all: String = (0..STEPS).map(|step| format!("{step}\n")).collect();
    assert_eq!(fs::read_to_string(&steps).expect("it has done something"), all);
    let said = spoken(&written(&fleet, &id));
    let known: Vec<String> = (0..STEPS).map(|step| format!("Step {step}.")).collect();
    assert_eq!(said[..STEPS], known, "nothing that it has said is lost");
    fleet.end();
    scene.place.assert_nothing_runs();
}

/// Protects what an agent has done before it is killed, and the machine from the command that it leaves.
#[test]
fn an_agent_that_is_killed_has_failed_and_its_work_is_kept() {
    if not_portable("its commands leave its group, and get away") {
        return;
    }
    with_each(|claude| {
        let scene = Scene::new(claude, May::All, Script::new());
        scene.api.push(write(Turn::default(), "made", "before\n"));
        scene.api.push(bash(
            Turn::text("I run it."),
            &format!("touch '{}'; while :; do sleep 0.05; done", scene.file("begun")),
        ));
        let run = scene.run("Run it").start();
        scene.is_there("begun");
        let agent = Pid::from_raw(agent_of(&run)).expect("a process");
        kill_process(agent, Signal::KILL).expect("it is there");
        let done = run.wait(PATIENCE).code(1);
        assert_eq!(scene.place.running(), [], "nothing of it is left");
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "before");
        assert_eq!(scene.asked().len(), 2, "{:#?}", scene.short());
        drop(done.noted(&["the agent was ended by signal 9", "ended processes that the agent left behind"]));
    });
}
