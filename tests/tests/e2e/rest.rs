//! `docs/rest.md`: what it shows works, and it leaves nothing out.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Fleet, Place};

fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    fs::read_to_string(root.join(path)).expect(path)
}

/// The examples of the document, one behind the other.
fn examples() -> String {
    let text = text("docs/rest.md");
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("\n```"));
    blocks.map(|(block, _)| format!("{block}\n")).collect()
}

/// Protects whoever copies a line of the document: each works, against the real server and the real daemon.
#[test]
fn every_example_of_the_document_works() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let script = format!("set -eu\n{}", examples().replace("\ncurl ", "\necho; curl "));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("MAKIMA_HOME", place.home()).env("REPO", repo.path());
    let output = shell.env("no_proxy", "*").output().expect("a shell");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let answers: Vec<Value> = out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let has = |key: &str, value: &Value| answers.iter().any(|answer| answer.get(key) == Some(value));
    // The first merge, the conflict of the second, and that nothing is left once it is skipped.
    assert!(answers.iter().any(|answer| answer["commitSha"].is_string()), "{out}");
    assert!(has("conflicts", &serde_json::json!(["readme"])), "{out}");
    assert!(has("canComplete", &true.into()), "{out}");
    assert!(has("exists", &true.into()), "{out}");
    assert!(out.contains("event: end") && out.contains("waits for one"), "{out}");
    assert_eq!(repo.show("main", "readme"), "one", "it was handed over");
    let ended = answers.iter().filter_map(|answer| answer["id"].as_str()).next_back().expect("the task").to_owned();
    assert_eq!(fleet.ended(&ended)["status"], "interrupted");
    assert!(fleet.output(&ended).starts_with("heard leave the tests as they are\n"), "{}", fleet.output(&ended));
    fleet.end();
}

/// The ids of whole events, and the output in them.
fn seen(events: &str) -> (Vec<String>, String) {
    let (mut ids, mut text) = (Vec::new(), String::new());
    let whole = events.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    for block in whole.split("\n\n").filter(|block| !block.starts_with(':') && !block.is_empty()) {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        ids.push(field("id: ").to_owned());
        if field("event: ") == "output" {
            let data: Value = serde_json::from_str(field("data: ")).expect("JSON");
            text.push_str(data["text"].as_str().expect("a text"));
        }
    }
    (ids, text)
}

/// Protects whoever follows a task and loses the connection, or the server: by the id of the last event they go on behind it,
/// with nothing missing and nothing twice.
#[test]
fn events_go_on_behind_the_last_that_was_seen() {
    let place = Place::new();
    let mut fleet = Fleet::start(&place);
    let count = "for n in $(seq $1 $2); do echo \"line $n\"; done";
    let plan = format!("set -- 1 40; {count}; read go; set -- 41 80; {count}; read go; set -- 81 120; {count}");
    let id = fleet.spawn(json!({ "plan": plan }));
    let (mut ids, mut text) = seen(&fleet.events(&id, None, |came| came.contains("line 20")));
    assert!(!ids.is_empty());
    let mut goes_on = |fleet: &Fleet, until: &str| {
        if text.contains(until) {
            return text.clone();
        }
        let last = ids.last().cloned();
        let (more, came) = seen(&fleet.events(&id, last.as_deref(), |came| came.contains(until)));
        assert!(more.iter().all(|id| !ids.contains(id)), "twice: {more:?}");
        ids.extend(more);
        text.push_str(&came);
        text.clone()
    };
    goes_on(&fleet, "line 40");
    // Nobody follows while there is more.
    let say = |fleet: &Fleet| {
        assert_eq!(fleet.post(&format!("/api/v1/tasks/{id}/messages"), &json!({ "message": "go" })).0, 202)
    };
    say(&fleet);
    fleet.writes(&id, "line 80\n");
    goes_on(&fleet, "line 60");
    fleet.another_server(&place);
    goes_on(&fleet, "line 80");
    say(&fleet);
    let all = goes_on(&fleet, "event: end\n");
    let whole: String = (1..=120).map(|n| format!("line {n}\n")).collect();
    assert_eq!(fleet.ended(&id)["status"], "done");
    assert_eq!((all, fleet.output(&id)), (whole.clone(), whole));
    fleet.end();
}

/// Protects the document from falling behind: every path of the server stands in it.
#[test]
fn every_path_of_the_server_is_described() {
    let (document, source) = (text("docs/rest.md"), text("control/src/http/mod.rs"));
    let paths = source.split(".route(\"/api/v1/").skip(1).filter_map(|rest| rest.split_once('"'));
    let mut count = 0;
    for (path, _) in paths.filter(|(path, _)| !path.starts_with("mesh/")) {
        count += 1;
        let named =
            path.strip_prefix("tasks/{id}/").map_or_else(|| format!("/api/v1/{path}"), |rest| format!("…/{rest}"));
        let whole = format!("/api/v1/{path}");
        assert!(
            document.contains(&format!("{named}`"))
                || document.contains(&format!("{named}?"))
                || document.contains(&whole),
            "{path}"
        );
    }
    assert!(count > 15, "only {count} paths were found");
}
