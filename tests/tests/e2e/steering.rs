//! `makima task pause|resume|send|retry|branches|merge`: what people say to tasks and ask of them, end to end.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Done, Fleet, Manner, Place, SOON, until};

fn call(place: &Place, words: &[&str]) -> Done {
    place.makima(words).done()
}

/// Waits until a task has this status.
#[track_caller]
fn becomes(fleet: &Fleet, id: &str, status: &str) {
    until(&format!("{id} is {status}"), SOON, || (fleet.task(id)["status"] == status).then_some(()));
}

/// Protects agents that are to stand still, and what they are told meanwhile: all of it reaches them once they go on.
#[test]
fn a_task_is_paused_told_something_and_let_go_on() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let count = place.path("count");
    let plan = format!(
        "echo begun; (while :; do echo x >> {}; sleep 0.02; done) & read a; read b; kill $!; echo \"$a+$b\"",
        count.display()
    );
    let id = fleet.spawn(json!({ "plan": plan }));
    fleet.writes(&id, "begun");
    until("it works", SOON, || count.exists().then_some(()));
    drop(call(&place, &["task", "pause", &id]).code(0).noted(&["stand still"]));
    becomes(&fleet, &id, "paused");
    let before = fs::read(&count).expect("a count").len();
    // Only the beginning of the id, and from stdin.
    let told = place.makima(["task", "send", "--json", &id[..20], "-"]).stdin("one").done().code(0);
    assert_eq!(told.json(), json!({ "id": id }));
    drop(call(&place, &["task", "send", &id, "two", "words"]).code(0).noted(&["the agent is told"]));
    assert_eq!(fs::read(&count).expect("a count").len(), before, "it stands still");
    drop(call(&place, &["task", "resume", &id]).code(0).noted(&["go on"]));
    assert_eq!(fleet.ended(&id)["status"], "done");
    assert!(fleet.output(&id).ends_with("one+two words\n"), "{}", fleet.output(&id));
    drop(call(&place, &["task", "pause", &id]).code(1).noted(&["has ended"]));
    drop(place.makima(["task", "send", &id, "-"]).stdin(" \n").done().code(2).noted(&["the message is empty"]));
    fleet.end();
}

/// Protects what is said while the daemon is away: it is told when it is back.
#[test]
fn what_is_said_to_a_task_waits_for_its_daemon() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let id = fleet.spawn(json!({ "plan": "echo begun; read a; echo \"heard $a\"" }));
    fleet.writes(&id, "begun");
    let Fleet { serve, daemon, url, token } = fleet;
    daemon.kill();
    drop(call(&place, &["task", "send", &id, "while you were away"]).code(0));
    let done = call(&place, &["task", "branches", &id]).code(1);
    drop(done.noted(&["is not connected since"]));
    let fleet = Fleet { serve, daemon: Fleet::daemon(&place), url, token };
    assert_eq!(fleet.ended(&id)["status"], "done");
    assert!(fleet.output(&id).ends_with("heard while you were away\n"), "{}", fleet.output(&id));
    fleet.end();
}

/// Protects people from giving an order to the wrong task.
#[test]
fn the_beginning_of_an_id_will_do_where_it_is_no_other_tasks() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let ids = ["0190a0e0-0000-7000-8000-000000000001", "0190a0e0-0000-7000-8000-0000000000f2"];
    for id in ids {
        fleet.spawn(json!({ "plan": "true", "taskId": id, "taskName": format!("Task {id}") }));
        fleet.ended(id);
    }
    let shown = call(&place, &["task", "show", "--json", "0190A0E0-0000-7000-8000-0000000000F"]).code(0).json();
    assert_eq!(shown["id"], ids[1]);
    drop(call(&place, &["task", "show", "0190a0e0"]).code(2).noted(&["2 tasks", ids[0], ids[1], "write more of it"]));
    drop(call(&place, &["task", "pause", "0190b"]).code(2).noted(&["no task's id begins with `0190b`", "task list"]));
    drop(call(&place, &["task", "pause", "not-an-id"]).code(2).noted(&["digits"]));
    fleet.end();
}

/// An orchestrator that waits, and subtasks of it that have each changed a file. Gives their ids, its own first.
fn family(fleet: &Fleet, place: &Place, plans: &[&str]) -> Vec<String> {
    let repo = place.repo();
    let spawn = |plan: &str, parent: Option<&String>| {
        let depth = i32::from(parent.is_some());
        fleet.spawn(json!({ "plan": plan, "repoUrl": repo.path(), "parentTaskId": parent, "depth": depth,
            "isOrchestrator": parent.is_none() }))
    };
    let mut ids = vec![spawn("echo begun; read line; echo over", None)];
    fleet.writes(&ids[0], "begun");
    for plan in plans {
        let id = spawn(plan, ids.first());
        assert_eq!(fleet.ended(&id)["status"], "done");
        ids.push(id);
    }
    ids
}

/// Protects the whole way of merging by hand: each command against the real daemon, for people and as JSON.
#[test]
fn branches_of_subtasks_are_merged_from_the_command_line() {
    let place = Place::new();
    merge_by_hand(&place, Fleet::start(&place));
}

/// The same by a link that speaks version 1 of the wire, and by long-poll.
#[test]
fn branches_of_subtasks_are_merged_whatever_the_link() {
    for manner in [Manner::Strips, Manner::Page(403)] {
        let place = Place::new();
        let (fleet, _middle) = Fleet::behind(&place, manner);
        merge_by_hand(&place, fleet);
    }
}

fn merge_by_hand(place: &Place, fleet: Fleet) {
    let ids = family(&fleet, place, &["echo a > readme", "echo b > readme", "echo c > c"]);
    let parent = ids[0].as_str();
    let list = call(place, &["task", "branches", "--json", parent]).code(0).json();
    let branch = |id: &String| {
        let found = list["branches"].as_array().expect("a list").iter().find(|one| one["taskId"] == json!(id));
        found.expect("its branch")["name"].as_str().expect("a name").to_owned()
    };
    let [a, b, c] = [&ids[1], &ids[2], &ids[3]].map(branch);
    let people = call(place, &["task", "branches", parent]).code(0).out();
    assert!(people.starts_with("MERGED") && [&a, &b, &c].iter().all(|name| people.contains(*name)), "{people}");

    let merge = |words: &[&str]| call(place, &[&["task", "merge"], words].concat());
    assert!(merge(&["start", parent, &a]).code(0).out().contains("mergeCommit"), "it says what comes next");
    assert!(merge(&["status", parent]).code(0).out().contains("can be committed"));
    drop(merge(&["commit", parent, "-m", "Take the first"]).code(0));
    let conflict = merge(&["start", parent, &b]).code(1);
    assert_eq!(conflict.out(), "conflict  readme\n");
    assert_eq!(merge(&["status", parent, "--json"]).code(0).json()["conflictedFiles"], json!(["readme"]));
    drop(merge(&["resolve", parent, "readme", "theirs"]).code(0));
    drop(merge(&["abort", parent]).code(0));
    assert_eq!(merge(&["status", parent]).code(0).out(), "no merge is under way\n");
    let left = merge(&["check", parent]).code(1);
    assert!(left.out().contains(&format!("unmerged  {b}")), "{}", left.out());
    drop(merge(&["skip", parent, &ids[2], "--reason", "superseded"]).code(0));
    drop(merge(&["start", parent, &c]).code(0));
    let committed: Value = merge(&["commit", parent, "--json"]).code(0).json();
    assert_eq!((&committed["success"], committed["commitSha"].is_string()), (&json!(true), true), "{committed}");
    assert!(merge(&["check", parent]).code(0).out().contains("2 merged, 1 skipped"));
    drop(merge(&["start", parent, "no-such-branch"]).code(1));
    drop(call(place, &["task", "retry", parent, "branch"]).code(1).noted(&["has not ended"]));

    drop(call(place, &["task", "send", parent, "go on"]).code(0));
    assert_eq!(fleet.ended(parent)["status"], "done");
    let done = call(place, &["task", "retry", parent, "merge", "--branch", "main"]).code(0);
    assert!(done.out().contains("main"), "{}", done.out());
    let again = call(place, &["task", "retry", "--json", parent, "merge"]).code(0).json();
    assert_eq!(again["success"], true, "twice is harmless: {again}");
    fleet.end();
}

/// Protects the order of tasks: one begins after others, and not at all where one of them failed.
#[test]
fn a_task_begins_after_others() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let go = place.path("go");
    let plan = format!("until test -e {}; do sleep 0.02; done", go.display());
    let first = fleet.spawn(json!({ "plan": plan }));
    let create = |after: &str, plan: &str| {
        call(&place, &["task", "create", "--after", after, plan]).code(0).out().trim_end().to_owned()
    };
    let second = create(&first, &format!("test -e {} && echo after; exit 3", go.display()));
    let third = create(&second[..30], "echo never");
    until("it is said what is waited for", SOON, || {
        let events = place.makima(["task", "show", "--json", &second]).done().code(0).json();
        (events["after"] == json!([first]) && events["status"] == "pending").then_some(())
    });
    fs::write(&go, "").expect("a file");
    assert_eq!(fleet.ended(&second)["error"], "the script ended with exit code 3");
    assert_eq!(fleet.output(&second), "after\n");
    let third = fleet.ended(&third);
    let error = third["error"].as_str().expect("a reason");
    assert!(third["status"] == "failed" && error.starts_with("needs `") && error.ends_with("which failed"), "{error}");
    fleet.end();
}

/// How often the link is cut.
const CUTS: usize = 3;

/// Messages and questions while the link is cut again and again. How many messages there were, and which the
/// agent heard.
fn heard_through_cuts(manner: Manner) -> (u32, Vec<u32>) {
    let place = Place::new();
    let repo = place.repo();
    let (fleet, middle) = Fleet::behind(&place, manner);
    // By a file: in version 1 output may come twice.
    let heard = place.path("heard");
    let plan = format!(
        "echo begun; while read line; do echo \"$line\" >> {}; test \"$line\" = end && exit 0; done",
        heard.display()
    );
    let id = fleet.spawn(json!({ "plan": plan, "isOrchestrator": true, "repoUrl": repo.path() }));
    fleet.writes(&id, "begun");
    let over = AtomicBool::new(false);
    let connected = || {
        let (_, daemons) = fleet.get("/api/v1/daemons");
        serde_json::from_str::<Value>(&daemons).expect("JSON")[0]["connected"] == true
    };
    let (messages, said, unknown) = thread::scope(|threads| {
        threads.spawn(|| {
            for _ in 0..CUTS {
                thread::sleep(Duration::from_millis(70));
                middle.cut();
                thread::sleep(Duration::from_millis(100));
                // A new session comes within seconds, and later each time.
                let due = Instant::now() + SOON;
                while !connected() && Instant::now() < due {
                    thread::sleep(Duration::from_millis(20));
                }
            }
            thread::sleep(Duration::from_millis(70));
            over.store(true, Ordering::Relaxed);
        });
        let (mut messages, mut said, mut unknown) = (0_u32, 0_u32, 0_u32);
        while !over.load(Ordering::Relaxed) {
            let path = format!("/api/v1/tasks/{id}/messages");
            let (status, body) = fleet.post(&path, &json!({ "message": messages.to_string() }));
            assert_eq!(status, 202, "{body}");
            let branch = format!("no-such-branch-{messages}");
            let (status, body) = fleet.post(&format!("/api/v1/tasks/{id}/merge"), &json!({ "branch": branch }));
            match status {
                // Its own answer, and no other's.
                200 => {
                    assert!(body.contains(&format!("`{branch}`")), "the answer to {branch}: {body}");
                    said += 1;
                }
                502 | 503 => {
                    unknown += 1;
                    thread::sleep(Duration::from_millis(50));
                }
                _ => panic!("{status}: {body}"),
            }
            messages += 1;
        }
        (messages, said, unknown)
    });
    assert_eq!(said + unknown, messages, "each question has its own answer, or none");
    assert!(said > 0, "none was answered, {unknown} were not");
    until("the last message is heard", SOON, || {
        // By version 1 it may be lost with a link that has just died.
        let (status, _) = fleet.post(&format!("/api/v1/tasks/{id}/messages"), &json!({ "message": "end" }));
        assert!(status == 202 || status == 409, "{status}");
        (!fleet.task(&id)["endedAt"].is_null()).then_some(())
    });
    fleet.end();
    let heard = fs::read_to_string(heard).expect("the agent heard something");
    (messages, heard.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Protects an agent from hearing anything twice or in another order, and people from an answer that is not theirs, where the
/// link is cut again and again. In version 2 nothing is lost either.
#[test]
fn messages_and_questions_survive_a_link_that_is_cut_again_and_again() {
    let (messages, all) = heard_through_cuts(Manner::Open);
    assert_eq!(all, (0..messages).collect::<Vec<_>>(), "each once, in order");
    let (messages, some) = heard_through_cuts(Manner::Strips);
    assert!(some.is_sorted_by(|one, next| one < next), "none twice, in order: {some:?}");
    // What is lost is what was on the link when it was cut.
    assert!(some.len() + 8 * CUTS >= messages as usize, "{} of {messages}", some.len());
}

/// Protects work that was done long ago: it is copied and handed over from the command line, and where it cannot be that is said.
#[test]
fn work_is_copied_and_handed_over_again() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let id = fleet.spawn(json!({ "plan": "echo x > x", "repoUrl": repo.path() }));
    assert_eq!(fleet.ended(&id)["status"], "done");
    assert!(repo.branches().is_empty());
    let done = call(&place, &["task", "retry", &id[..24], "branch"]).code(0);
    assert!(done.out().contains(&repo.branch()), "{}", done.out());
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
    let copy = repo.path().parent().expect("a folder").join("copy");
    let to = copy.to_str().expect("a plain path");
    drop(call(&place, &["task", "clone", &id, to]).code(0));
    assert_eq!(fs::read_to_string(copy.join("x")).expect("it is there"), "x\n");
    let full = repo.path().to_str().expect("a plain path");
    drop(call(&place, &["task", "clone", &id, full]).code(1).noted(&[full]));
    let told = call(&place, &["task", "clone", "--json", &id, "/proc/nowhere"]).code(1).json();
    assert_eq!(told["success"], false, "{told}");
    fleet.end();
}
