//! An agent asks, and a person answers: by the server, by a command, at the terminal.

use std::time::Duration;

use makima_tests::api::{Script, Turn};
use serde_json::{Value, json};

use crate::claudes::with_each;
use crate::scene::{May, PATIENCE, Scene, bash};
use crate::support::{Fleet, until};

/// Waits until the task needs a person for this.
#[track_caller]
fn needs(fleet: &Fleet, id: &str, what: &str) {
    until(&format!("{id} needs a person for {what:?}"), PATIENCE, || {
        let needed = fleet.task(id)["needsPerson"].clone();
        needed.as_str().is_some_and(|needed| needed.starts_with(what)).then_some(())
    });
}

#[track_caller]
fn ended(fleet: &Fleet, id: &str) -> Value {
    until("the task's end", PATIENCE, || Some(fleet.task(id)).filter(|task| !task["endedAt"].is_null()))
}

/// Protects a machine from what nobody allowed, and an agent from waiting where somebody did.
#[test]
fn a_question_is_answered_by_a_command() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Ask, Script::new());
        scene.api.push(bash(Turn::text("I try."), "sh -c 'echo yes > allowed'"));
        scene.api.push(bash(Turn::text("And this."), "sh -c 'echo no > denied'"));
        scene.api.push(Turn::text("I do without it."));
        let mut fleet = scene.fleet();
        let id = fleet.plan(&scene.repo, "Try it");
        needs(&fleet, &id, "question 1: Bash: sh -c");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(scene.asked().len(), 1, "it waits");
        let list = scene.task(&["list"]).code(0).out();
        assert!(list.contains("needs a person: question 1: Bash: sh -c"), "{list}");
        // A daemon that is started meanwhile has the question still.
        fleet.daemon.signal(rustix::process::Signal::KILL);
        until("its end", PATIENCE, || (!fleet.daemon.is_running()).then_some(()));
        fleet.daemon = Fleet::connected(scene.daemon());
        drop(scene.task(&["answer", &id, "1", "allow"]).code(0));
        needs(&fleet, &id, "question 2: Bash: sh -c");
        drop(scene.task(&["answer", &id, "2", "deny", "not", "here"]).code(0));
        let task = ended(&fleet, &id);
        assert_eq!((&task["status"], &task["needsPerson"]), (&json!("done"), &Value::Null), "{task}");
        let results = scene.asked()[2].tool_results();
        assert!(results.last().is_some_and(|last| last.is_error && last.text.contains("not here")), "{results:#?}");
        let branch = scene.repo.branch();
        assert_eq!(scene.repo.show(&branch, "allowed"), "yes");
        assert!(scene.repo.try_git(["cat-file", "-e", &format!("{branch}:denied")]).is_err(), "it was not run");
        fleet.end();
    });
}

/// Protects files from what stands for a secret where people read what an agent asks: an older version does nothing then.
#[test]
fn what_is_allowed_is_done_with_the_secret_itself() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Ask, Script::new());
        scene.api.push(bash(Turn::text("I try."), "sh -c 'echo sk-ant-api03-nobodys-key > allowed'"));
        scene.api.push(Turn::text("So be it."));
        let fleet = scene.fleet();
        let id = fleet.plan(&scene.repo, "Try it");
        needs(&fleet, &id, "question 1: Bash: sh -c 'echo ***");
        drop(scene.task(&["answer", &id, "1", "allow"]).code(0));
        assert_eq!(ended(&fleet, &id)["status"], "done");
        if scene.asked()[1].tool_results().last().is_some_and(|last| !last.is_error) {
            assert_eq!(scene.repo.show(&scene.repo.branch(), "allowed"), "sk-ant-api03-nobodys-key");
        } else {
            assert!(claude.to_string_lossy().contains("/2.1.197/"), "newer ones do what they asked for");
            assert!(scene.repo.branches().is_empty(), "nothing was written");
        }
        fleet.end();
    });
}

/// Protects a person's choice: the model hears what was chosen.
#[test]
fn a_person_chooses() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::Ask, Script::new());
        let options = json!([
            { "label": "Red", "description": "warm" },
            { "label": "Blue", "description": "cold" }
        ]);
        let question = json!({ "question": "Which one?", "header": "Color", "options": options, "multiSelect": false });
        scene.api.push(Turn::text("I ask.").tool("AskUserQuestion", json!({ "questions": [question] })));
        scene.api.push(Turn::text("So be it."));
        let fleet = scene.fleet();
        let id = fleet.plan(&scene.repo, "Ask me");
        needs(&fleet, &id, "question 1: choose: Which one? [Red | Blue]");
        drop(scene.task(&["answer", &id, "1", "choose", "2"]).code(0));
        let task = ended(&fleet, &id);
        assert_eq!(task["status"], "done", "{task}");
        let results = scene.asked()[1].tool_results();
        assert!(results.last().is_some_and(|last| last.text.contains("Blue")), "{results:#?}");
        fleet.end();
    });
}

/// Protects people at a terminal from an agent that does what it likes there, where nothing fences it in, and from one that waits in
/// silence.
#[test]
fn at_a_terminal_people_are_asked_where_there_is_no_sandbox() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::All, Script::new());
        scene.api.push(bash(Turn::text("I try."), "sh -c 'echo yes > allowed'"));
        scene.api.push(bash(Turn::text("And this."), "sh -c 'echo no > denied'"));
        scene.api.push(Turn::text("I do without it."));
        let mut run = scene.run("Try it").env("MAKIMA_SANDBOX", "off").on_a_terminal();
        // What is typed before that is no answer.
        let asks =
            |screen: &str, what: &str| screen.split(what).nth(1).is_some_and(|behind| behind.contains("answer: "));
        until("the question", PATIENCE, || asks(&run.screen(), "question 1: Bash: sh -c").then_some(()));
        assert!(run.screen().contains("permissions ask, no sandbox"), "it is said: {}", run.screen());
        run.types("y\n");
        until("the second one", PATIENCE, || asks(&run.screen(), "question 2: Bash: sh -c").then_some(()));
        run.types("rather not\n");
        let (code, screen) = run.end();
        assert_eq!(code, Some(0), "{screen}");
        assert!(screen.contains("I do without it."), "{screen}");
        let results = scene.asked()[2].tool_results();
        assert!(results.last().is_some_and(|last| last.text.contains("rather not")), "{results:#?}");
        assert_eq!(scene.repo.show(&scene.repo.branch(), "allowed"), "yes");
    });
}
