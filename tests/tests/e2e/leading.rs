//! Scripts that lead others: by `makima mesh`, with the key of their own task, inside of the sandbox.

use std::fs;

use serde_json::json;

use crate::support::{Fleet, Place, SOON, binary, until};

/// What a script begins with that leads.
fn head() -> String {
    format!("set -eu; mesh() {{ '{}' mesh \"$@\"; }}\n", binary().display())
}

/// Protects scripts that lead: two subtasks of one conflict, it settles that, and one branch is delivered.
#[test]
fn a_script_leads_two_others_and_delivers_one_branch() {
    let place = Place::new();
    let repo = place.repo();
    let script = head()
        + "one=$(mesh spawn --name one 'echo one > poem')
        two=$(mesh spawn --name two --after \"$one\" 'echo two > poem; echo two > other')
        mesh wait > /dev/null
        mesh list
        mesh merge start one > /dev/null
        mesh merge commit -m 'Take one' > /dev/null
        if mesh merge start two > /dev/null 2>&1; then exit 9; fi
        mesh merge status
        mesh merge resolve poem theirs > /dev/null
        mesh merge commit -m 'Take two' > /dev/null
        mesh merge check";
    let run = place.makima(["run", "--agent", "shell", "--orchestrate", &script]).at(repo.path());
    let done = run.env("MAKIMA_SANDBOX", "required").done().code(0);
    let branch = repo.branch();
    assert_eq!((repo.show(&branch, "poem").as_str(), repo.show(&branch, "other").as_str()), ("two", "two"));
    let subjects = repo.git(["log", "--merges", "--format=%s", &branch]);
    assert_eq!(subjects, "Take two\nTake one", "{}", done.out());
    place.assert_nothing_runs();
}

/// Protects everything else at the server from the key of a task: it opens that task's tree, and nothing once the task has ended.
#[test]
fn a_tasks_key_opens_its_own_tree_and_nothing_once_it_has_ended() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let repo = place.repo();
    let other = fleet.plan(&repo, "sleep 600");
    until("it runs", SOON, || (fleet.task(&other)["status"] == "running").then_some(()));
    let key = place.path("key");
    let script = head()
        + &format!(
            "umask 077; echo $MAKIMA_TOOL_KEY > '{}'
            code=0; mesh status {other} > /dev/null 2>&1 || code=$?; echo \"another's: $code\"
            code=0; mesh interrupt {other} > /dev/null 2>&1 || code=$?; echo \"another's: $code\"
            mesh list 2> /dev/null | wc -l
            mesh spawn --name mine 'true' > /dev/null; mesh wait > /dev/null; echo mine: $?",
            key.display()
        );
    let fields = json!({ "plan": script, "repoUrl": repo.path(), "isOrchestrator": true });
    let task = fleet.spawn(fields);
    let ended = fleet.ended(&task);
    assert_eq!(ended["success"], true, "{ended}: {}", fleet.output(&task));
    let out = fleet.output(&task);
    assert_eq!(out.replace(' ', ""), "another's:1\nanother's:1\n0\nmine:0\n", "{out}");
    assert_eq!(fleet.task(&other)["status"], "running", "nobody has ended it");
    let key = fs::read_to_string(&key).expect("the script wrote it");
    let list = place.makima(["mesh", "list"]).env("MAKIMA_TOOL_KEY", key.trim()).env("MAKIMA_TASK_ID", &task);
    let server = fs::read_to_string(place.home().join("server.json")).expect("it says where it is");
    let server: serde_json::Value = serde_json::from_str(&server).expect("JSON");
    list.env("MAKIMA_API_URL", server["url"].as_str().expect("a URL")).done().code(3);
    assert_eq!(fleet.post(&format!("/api/v1/tasks/{other}/interrupt"), &json!({ "graceful": false })).0, 202);
    fleet.ended(&other);
    fleet.end();
}
