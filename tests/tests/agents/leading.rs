//! An agent that leads others: it splits its plan, waits, merges what they did, and delivers one branch.

use std::fs;
use std::path::Path;

use makima_tests::api::{Api, Request, Script, Turn};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::claudes::with_each;
use crate::scene::{May, PATIENCE, Scene, bash};
use crate::support::{Fleet, until};

/// Stands in the plan of the agent that leads, and in no other's.
const LEAD: &str = "LEAD the work";

/// A call of one of the tools that who leads is given.
fn mesh(turn: Turn, name: &str, input: Value) -> Turn {
    turn.tool(&format!("mcp__makima__{name}"), input)
}

/// For the request of who leads in which so many tools have said something. What an agent adds to that by itself comes before or
/// behind, as it likes.
fn after(results: usize, turn: Turn) -> Turn {
    turn.when_ever(LEAD).when_request(move |request| request.tool_results().len() == results)
}

fn script(go: &str) -> Script {
    let parts = [("one", "echo one > poem"), ("two", "echo two > poem"), ("three", "echo three > ending")];
    let mut begin = Turn::text("I split it.").when(LEAD);
    let mut script = Script::new().fallback(Turn::text("Done."));
    for (name, command) in parts {
        begin = mesh(begin, "spawn_subtask", json!({ "name": name, "plan": format!("Write PART-{name}") }));
        let command = format!("until test -e '{go}'; do sleep 0.05; done; {command}");
        script = script.turn(bash(Turn::default(), &command).when(&format!("PART-{name}")));
    }
    let merge = |branch: &str| mesh(Turn::default(), "merge_start", json!({ "branch": branch }));
    let commit = |message: &str| mesh(Turn::default(), "merge_commit", json!({ "message": message }));
    script
        .turn(begin)
        .turn(after(3, Turn::text("They are at work.")))
        .turn(merge("one").when("subtasks still at work: 0"))
        .turn(after(4, commit("Take one")))
        .turn(after(5, merge("two")))
        .turn(after(6, mesh(Turn::text("Both wrote the poem."), "merge_status", json!({}))))
        .turn(after(7, bash(Turn::default(), "printf 'one\\ntwo\\n' > poem && git add poem")))
        .turn(after(8, commit("Take two as well")))
        .turn(after(9, merge("three")))
        .turn(after(10, commit("Take three")))
        .turn(after(11, mesh(Turn::default(), "merge_check", json!({}))))
        .turn(Turn::text("All of it is merged.").when("canComplete"))
}

/// A scene in which that is what is answered, and the file that the subtasks wait for.
fn scene(claude: &Path) -> (Scene, String) {
    let scene = Scene::new(claude, May::All, Script::new());
    let go = scene.file("go");
    (Scene { api: Api::start(script(&go)).expect("a port"), ..scene }, go)
}

/// All that the subtasks did is on one branch, and it alone is delivered.
#[track_caller]
fn is_whole(scene: &Scene) {
    let branches = scene.repo.branches();
    assert_eq!(branches.len(), 1, "{branches:?}");
    assert_eq!(scene.repo.show(&branches[0], "poem"), "one\ntwo");
    assert_eq!(scene.repo.show(&branches[0], "ending"), "three");
    let merges = scene.repo.git(["log", "--merges", "--format=%s", &branches[0]]);
    assert_eq!(merges.lines().count(), 3, "{merges}");
}

/// Protects the work of subtasks: what an orchestrator's agent merges by itself is on the one branch that is delivered, and what they
/// conflicted in is as it says.
#[test]
fn an_agent_splits_a_plan_merges_what_conflicts_and_delivers_one_branch() {
    with_each(|claude| {
        let (scene, go) = scene(claude);
        let plan = format!("{LEAD}: a poem in three parts");
        let run = scene.place.makima(["run", "--agent", "claude", "--orchestrate", &plan]).at(scene.repo.path());
        let run = scene.with_agent(run).start();
        until("it waits", PATIENCE, || run.out().contains("They are at work.").then_some(()));
        fs::write(Path::new(&go), "").expect("room");
        let done = run.wait(PATIENCE * 2).code(0);
        is_whole(&scene);
        assert!(done.out().contains("All of it is merged."), "{}", done.out());
        let check = scene.asked().iter().flat_map(Request::tool_results).last().expect("results").text;
        assert!(check.contains("\"canComplete\":true") || check.contains("\"canComplete\": true"), "{check}");
    });
}

/// Protects a night's work from a daemon that dies in the middle of it: those who are led and who leads go on, and each end is told once.
#[test]
fn a_daemon_that_is_killed_meanwhile_changes_nothing() {
    with_each(|claude| {
        let (scene, go) = scene(claude);
        let mut fleet = scene.fleet();
        let fields = json!({ "plan": format!("{LEAD}: a poem in three parts"), "repoUrl": scene.repo.path(),
            "isOrchestrator": true, "completionAction": "branch" });
        let task = fleet.spawn(fields);
        until("it waits", PATIENCE, || fleet.output(&task).contains("They are at work.").then_some(()));
        fleet.daemon.signal(Signal::KILL);
        until("it is gone", PATIENCE, || (!fleet.daemon.is_running()).then_some(()));
        fs::write(Path::new(&go), "").expect("room");
        fleet.daemon = Fleet::connected(scene.daemon());
        until("its end", PATIENCE * 2, || fleet.task(&task)["endedAt"].as_str().map(drop));
        assert_eq!(fleet.task(&task)["success"], true, "{}", fleet.task(&task));
        is_whole(&scene);
        let told =
            scene.asked().last().map(|request| request.times_said("[news of a subtask of yours")).expect("requests");
        assert_eq!(told, 3, "each end is told once");
        fleet.end();
    });
}
