//! What the agent is told while it works, and what it lets run behind the conversation: turns are not messages.

use std::time::Duration;

use makima_tests::api::{Request, Script, Turn};
use serde_json::json;

use crate::claudes::with_each;
use crate::scene::{May, PATIENCE, Scene, bash, ends_a_turn, shows, slowly, task_of, tells, turns};

/// For the program to take in what was written to it, or to show that it does not do something.
const MOMENT: Duration = Duration::from_millis(700);

/// Protects a person's word to an agent at work: it is taken up behind the command that runs, in the same turn, and once.
#[test]
fn a_message_while_a_command_runs_is_taken_up_once_in_the_same_turn() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::All, Script::new());
        let wait = format!(
            "touch '{}'; until test -e '{}'; do sleep 0.05; done; echo over",
            scene.file("begun"),
            scene.file("go")
        );
        scene.api.push(bash(Turn::text("I run it."), &wait));
        scene.api.push(Turn::text("I leave them alone."));
        let run = scene.run("Change the code").start();
        scene.is_there("begun");
        drop(scene.task(&["send", &task_of(&run), "Leave the tests alone"]).code(0).noted(&["the agent is told"]));
        std::thread::sleep(MOMENT);
        assert_eq!(scene.asked().len(), 1, "it waits for the command");
        scene.make("go");
        let done = run.wait(PATIENCE).code(0);
        assert_eq!(scene.asked().len(), 2, "one turn: {:#?}", scene.short());
        scene.said_once(&["Change the code", "Leave the tests alone"]);
        assert_eq!(turns(&done.out()), 1);
        shows(&done, &["I leave them alone."]);
        drop(done.noted(&["] message 1: seen\n"]));
    });
}

/// Protects it where the agent speaks: what it says first is not its last word.
#[test]
fn a_message_while_the_agent_speaks_is_a_turn_of_its_own() {
    with_each(|claude| {
        let script = Script::new().turn(slowly(30)).turn(Turn::text("I leave them alone."));
        let scene = Scene::new(claude, May::Edit, script);
        let run = scene.run("Change the code").start();
        scene.streams(0, 3);
        drop(scene.task(&["send", &task_of(&run), "Leave the tests alone"]).code(0));
        let done = run.wait(PATIENCE).code(0);
        assert_eq!(scene.asked().len(), 2, "{:#?}", scene.short());
        scene.said_once(&["Change the code", "Leave the tests alone"]);
        assert_eq!(scene.asked()[0].times_said("Leave the tests alone"), 0, "the first turn was without it");
        assert_eq!(turns(&done.out()), 2);
        shows(&done, &["I leave them alone."]);
        drop(done.noted(&["] message 1: seen\n"]));
    });
}

/// Protects messages that come in a heap, and before the agent can hear: each is taken up once, and in order.
#[test]
fn messages_from_before_the_agent_is_ready_come_once_each_behind_the_plan() {
    with_each(|claude| {
        let script = Script::new().fallback(slowly(5));
        let scene = Scene::new(claude, May::Edit, script);
        let run = scene.run("Change the code").start();
        let id = task_of(&run);
        let messages = ["the first word", "the second word", "/compact is the third"];
        for message in messages {
            drop(scene.task(&["send", &id, message]).code(0));
        }
        drop(run.wait(PATIENCE).code(0));
        scene.said_once(&messages);
        let said = scene.api.user_texts().join("\n");
        let places = ["Change the code", messages[0], messages[1], messages[2]].map(|text| said.find(text));
        assert!(places.is_sorted(), "{said}");
    });
}

/// Protects work that goes on behind the conversation: the end of a turn is not the end of the task, and what it comes to is
/// looked at.
#[test]
fn a_task_lasts_until_what_runs_behind_the_conversation_was_looked_at() {
    with_each(|claude| {
        let scene = Scene::new(claude, May::All, Script::new());
        let wait = format!("until test -e '{}'; do sleep 0.05; done; echo built > built", scene.file("go"));
        let input = json!({ "command": wait, "description": "Build", "run_in_background": true });
        scene.api.push(Turn::text("I have it built.").tool("Bash", input));
        scene.api.push(Turn::text("I wait for it."));
        scene.api.push(Turn::text("It is built."));
        let mut run = scene.run("Have it built").start();
        ends_a_turn(&run);
        std::thread::sleep(MOMENT);
        assert!(run.is_running() && scene.asked().len() == 2, "it is not over: {:#?}", scene.short());
        scene.make("go");
        let done = run.wait(PATIENCE).code(0);
        assert_eq!(scene.asked().len(), 3, "{:#?}", scene.short());
        scene.said_once(&["Have it built"]);
        assert_eq!(scene.repo.show(&scene.repo.branch(), "built"), "built");
        assert_eq!(turns(&done.out()), 2);
        shows(&done, &["It is built."]);
    });
}

/// Protects work that an agent has another one do: what that says is told as such, and it is waited for, whether the agent
/// does so itself or comes back to it.
#[test]
fn an_agents_own_agents_are_waited_for() {
    with_each(|claude| {
        let task = json!({ "description": "Look", "prompt": "Read it for me", "subagent_type": "general-purpose" });
        let looked = |request: &Request| request.times_said("Read it for me") > 0;
        let script = Script::new()
            .turn(Turn::text("I have it read.").tool("Task", task))
            .turn(Turn::text("I read it.").tool("Read", json!({ "file_path": "{cwd}/readme" })).when_request(looked))
            .turn(Turn::text("It says first.").first_delay(MOMENT).when_request(looked))
            .fallback(Turn::text("So be it."));
        let scene = Scene::new(claude, May::Edit, script);
        let done = scene.done("Have it read").code(0);
        scene.said_once(&["Have it read"]);
        let newest = scene.api.newest().expect("it was asked");
        assert!(newest.messages.to_string().contains("It says first."), "it is told of it: {:#?}", scene.short());
        shows(&done, &["I have it read.", "● Task Look", "So be it."]);
        assert!(done.out().contains("\n  ● Read "), "{}", done.out());
    });
}

/// Protects an agent that is to stand still from the time that passes, and what it is told meanwhile.
#[test]
fn an_agent_stands_still_and_goes_on() {
    with_each(|claude| {
        let script = Script::new().turn(slowly(20)).turn(Turn::text("I leave them alone."));
        let scene = Scene::new(claude, May::Edit, script);
        let run = scene.run("Change the code").start();
        scene.streams(0, 3);
        let id = task_of(&run);
        drop(scene.task(&["pause", &id]).code(0));
        tells(&run, "] paused\n", 1);
        drop(scene.task(&["send", &id, "Leave the tests alone"]).code(0));
        // The model says all that it has to say.
        let said = |all: &[Request]| all.first().is_some_and(|one| one.end.is_some());
        assert!(scene.api.wait_until(said, PATIENCE));
        std::thread::sleep(MOMENT);
        assert_eq!(scene.asked().len(), 1, "it stands still");
        assert_eq!(turns(&run.out()), 0, "{}", run.out());
        drop(scene.task(&["resume", &id]).code(0));
        let done = run.wait(PATIENCE).code(0);
        shows(&done, &["I leave them alone."]);
        drop(done.noted(&["] message 1: seen\n"]));
        scene.said_once(&["Change the code", "Leave the tests alone"]);
    });
}

/// Protects what is said to an agent that is about to end: either it is taken up, or that it came too late is told.
#[test]
fn no_message_is_lost_where_the_agent_is_about_to_end() {
    with_each(|claude| {
        let script = Script::new().turn(slowly(2)).fallback(Turn::text("Yes."));
        let scene = Scene::new(claude, May::Edit, script);
        let fleet = scene.fleet();
        let id = fleet.plan(&scene.repo, "Talk");
        scene.streams(0, 1);
        let path = format!("/api/v1/tasks/{id}/messages");
        let mut sent = Vec::new();
        let task = loop {
            let word = format!("<word {}>", sent.len());
            let (status, body) = fleet.post(&path, &json!({ "message": word }));
            assert!(status == 202 || status == 409, "{status}: {body}");
            if status == 202 {
                sent.push(word);
            }
            let task = fleet.task(&id);
            if !task["endedAt"].is_null() {
                break task;
            }
            assert!(sent.len() < 1_000, "it ends");
            // Soon it has said all that it has to say to what it was told.
            let pause = if sent.len() % 4 == 0 { 400 } else { 5 };
            std::thread::sleep(Duration::from_millis(pause));
        };
        assert_eq!(task["status"], "done", "{task}");
        let newest = scene.api.newest().expect("it was asked");
        let taken: Vec<usize> = sent.iter().map(|word| newest.times_said(word)).collect();
        let late = taken.iter().filter(|times| **times == 0).count();
        assert!(taken.iter().all(|times| *times <= 1) && taken.is_sorted_by(|one, next| one >= next), "{taken:?}");
        let told = fleet.get(&format!("/api/v1/tasks/{id}/events")).1;
        let refused = told.matches("the agent has ended and takes no messages").count();
        let behind = told.split("messages that came too late for the agent: ").nth(1).unwrap_or_default();
        let behind: String = behind.chars().take_while(char::is_ascii_digit).collect();
        let known = refused + behind.parse::<usize>().unwrap_or(0);
        // The end is the last that is told: nobody hears what became of the one that crossed its news.
        assert!(known == late || known + 1 == late, "{taken:?}: {told}");
        fleet.end();
    });
}
