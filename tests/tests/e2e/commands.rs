//! `makima serve`, `task`, `status` and `version`: what people see of a fleet.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::{Done, Fleet, Place, Repo, SOON, status_as};

/// The keys of a task, in their order; of one for a repository two more.
const TASK: [&str; 8] = ["id", "name", "status", "success", "error", "branch", "createdAt", "endedAt"];
const OF_THE_REPOSITORY: [&str; 2] = ["repoUrl", "completionAction"];

/// The keys of a JSON text, in the order in which they stand there.
fn keys(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.split('"').collect();
    parts.windows(2).filter(|pair| pair[1].starts_with(':')).map(|pair| pair[0]).collect()
}

fn call(place: &Place, words: &[&str]) -> Done {
    place.makima(words).done()
}

#[test]
fn a_task_is_asked_for_listed_shown_and_read() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let path = repo.path().to_str().expect("a plain path");
    let plan = "echo one; echo two; echo x > x";
    let words = ["task", "create", "--repo", path, "--name", "Tidy up", "--on-complete", "branch", plan];
    let id = call(&place, &words).code(0).out().trim_end().to_owned();
    let task = fleet.ended(&id);

    let shown = call(&place, &["task", "show", "--json", &id]).code(0);
    let whole = [&TASK[..], &OF_THE_REPOSITORY].concat();
    assert_eq!(keys(&shown.out()), whole);
    assert_eq!(shown.json(), task);
    assert_eq!(task["id"], id);
    assert_eq!((&task["name"], &task["status"], &task["success"]), (&json!("Tidy up"), &json!("done"), &json!(true)));
    assert_eq!((&task["error"], &task["branch"]), (&json!(null), &json!(repo.branch())));
    for time in ["createdAt", "endedAt"] {
        let text = task[time].as_str().expect("a time");
        assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    }
    let people = call(&place, &["task", "show", &id]).code(0).out();
    assert!([id.as_str(), "Tidy up", "done", &repo.branch()].iter().all(|fact| people.contains(fact)), "{people}");

    let other = call(&place, &["task", "create", "--json", "exit 7"]).code(0).json();
    let other = other["id"].as_str().expect("an id").to_owned();
    assert_eq!(fleet.ended(&other)["status"], "failed");
    let list = call(&place, &["task", "list", "--json"]).code(0);
    assert_eq!(keys(&list.out()), [&whole[..], &TASK].concat());
    let list = list.json();
    let ids: Vec<_> = list.as_array().expect("an array").iter().map(|task| &task["id"]).collect();
    assert!(ids.len() == 2 && ids.contains(&&json!(id)) && ids.contains(&&json!(other)), "{list}");
    let people = call(&place, &["task", "list"]).code(0).out();
    assert!(people.contains(&id) && people.contains(&other), "{people}");

    assert_eq!(call(&place, &["task", "logs", &id]).code(0).out(), "one\ntwo\n");
    assert_eq!(call(&place, &["task", "logs", "-f", &id]).code(0).out(), "one\ntwo\n");
    fleet.end();
}

#[test]
fn waiting_for_a_task_tells_by_the_exit_code_how_it_ended() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let good = ["task", "create", "--wait", "--json", "--repo", "repo", "--on-complete", "branch", "echo x > x"];
    // A path without a slash is one from here.
    let done = place.makima(good).done().code(0);
    assert_eq!(keys(&done.out()), [&TASK[..], &OF_THE_REPOSITORY].concat());
    assert_eq!(done.json()["branch"], repo.branch());
    let done = call(&place, &["task", "create", "--wait", "exit 7"]).code(1);
    drop(done.noted(&["the script ended with exit code 7"]));
    let done = call(&place, &["task", "create", "--wait", "--repo", "/nowhere", "true"]).code(1);
    drop(done.noted(&["/nowhere"]));
    assert_eq!(place.makima(["task", "create", "--wait", "-"]).stdin("true").done().code(0).out().len(), 37);
    fleet.end();
}

#[test]
fn logs_are_followed_and_a_task_is_interrupted_from_elsewhere() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let id = fleet.spawn(json!({ "plan": "echo begun; while :; do sleep 0.05; done" }));
    let follow = place.makima(["task", "logs", "-f", &id]).start();
    follow.says("begun\n");
    drop(call(&place, &["task", "interrupt", &id]).code(0).noted(&["told to end"]));
    assert_eq!(follow.wait(SOON).code(0).out(), "begun\n");
    let task = fleet.ended(&id);
    assert_eq!((&task["status"], &task["success"]), (&json!("interrupted"), &json!(false)));
    assert_eq!(task["error"], "interrupted");
    drop(call(&place, &["task", "interrupt", &id]).code(1).noted(&["has ended"]));

    let id = fleet.spawn(json!({ "plan": "trap '' INT TERM; echo begun; while :; do sleep 0.05; done" }));
    fleet.writes(&id, "begun");
    call(&place, &["task", "interrupt", "--force", &id]).code(0);
    assert_eq!(fleet.ended(&id)["status"], "interrupted");
    let nobody = "0190a0e0-0000-7000-8000-000000000001";
    for words in [["task", "show", nobody], ["task", "logs", nobody], ["task", "interrupt", nobody]] {
        let done = call(&place, &words);
        let code = if words[1] == "interrupt" { 1 } else { 2 };
        drop(done.code(code).noted(&["there is no task with this id"]));
    }
    fleet.end();
}

#[test]
fn the_token_is_made_once_shown_once_and_kept_from_others() {
    let place = Place::new();
    let serve = || {
        let serve = place.makima(["serve", "--listen", "127.0.0.1:0"]).start();
        serve.notes("connect a daemon");
        serve
    };
    let first = serve();
    let token = fs::read_to_string(place.home().join("token")).expect("it is kept");
    assert!(token.len() >= 32, "{token}");
    assert_eq!(first.err().matches(&token).count(), 1, "shown once");
    for file in ["token", "server.json", "control.db"] {
        let mode = fs::metadata(place.home().join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(place.home()).expect("a home").permissions().mode() & 0o777, 0o700);
    let done = place.makima(["serve", "--listen", "127.0.0.1:0"]).done().code(2);
    drop(done.noted(&["a server runs on", &format!("process {}", first.pid())]));
    first.terminate().code(0);
    assert!(!place.home().join("server.json").exists(), "nobody is sent to a server that has ended");
    let second = serve();
    assert!(!second.err().contains(&token), "never shown again");
    assert_eq!(fs::read_to_string(place.home().join("token")).expect("it is kept"), token);
    call(&place, &["task", "list"]).code(0);
    second.terminate().code(0);

    // One from the environment is used, and written nowhere but where a second command looks for it.
    let data = place.path("data");
    let words = ["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().expect("a plain path")];
    let third = place.makima(words).env("MAKIMA_API_KEY", "from-the-environment").start();
    third.notes("makima serves on");
    assert!(!third.err().contains("from-the-environment") && !data.join("token").exists());
    place.makima(["task", "list"]).env("MAKIMA_API_KEY", "from-the-environment").done().code(0);
    place.makima(["task", "list"]).env("MAKIMA_API_KEY", &token).done().code(2).noted(&["refuses the key"]);
    third.terminate().code(0);
}

#[test]
fn status_tells_who_runs_and_what() {
    let place = Place::new();
    let done = call(&place, &["status"]).code(3);
    assert!(done.out().contains("does not run"), "{}", done.out());
    let idle = call(&place, &["status", "--json"]).code(3).json();
    assert_eq!((&idle["home"], &idle["tasks"]), (&json!(place.home()), &json!([])));
    assert_eq!((&idle["daemon"], &idle["server"]), (&json!(null), &json!(null)));
    assert!(!place.home().exists(), "looking makes nothing");

    let fleet = Fleet::start(&place);
    let id = fleet.spawn(json!({ "plan": "echo begun; while :; do sleep 0.05; done" }));
    fleet.writes(&id, "begun");
    let status = call(&place, &["status", "--json"]).code(0);
    assert!(status.out().starts_with("{\"home\":"), "{}", status.out());
    let status = status.json();
    assert_eq!(status["server"], json!(fleet.url));
    assert_eq!(status["daemon"]["pid"], json!(fleet.daemon.pid()));
    assert_eq!((&status["daemon"]["link"], &status["daemon"]["trouble"]), (&json!("connected"), &json!(null)));
    assert_eq!((&status["tasks"][0]["id"], &status["tasks"][0]["status"]), (&json!(id), &json!("running")));
    let people = call(&place, &["status"]).code(0).out();
    let pid = format!("process {}", fleet.daemon.pid());
    assert!([pid.as_str(), "connected", &fleet.url, &id].iter().all(|fact| people.contains(fact)), "{people}");
    call(&place, &["task", "interrupt", &id]).code(0);
    fleet.ended(&id);
    fleet.end();
    let after = call(&place, &["status", "--json"]).code(3).json();
    assert_eq!((&after["daemon"], &after["server"]), (&json!(null), &json!(null)));
}

#[test]
fn version_and_help_need_nothing() {
    let place = Place::new();
    let version = call(&place, &["version"]).code(0).out();
    let number = version.trim_end().strip_prefix("makima ").expect("its name").to_owned();
    assert_eq!(call(&place, &["--version"]).code(0).out(), version);
    assert_eq!(call(&place, &["version", "--json"]).code(0).json(), json!({ "version": number }));
    for words in [vec!["--help"], vec!["run", "--help"], vec!["serve", "--help"], vec!["daemon", "--help"]] {
        let help = call(&place, &words).code(0).out();
        assert!(help.contains("Examples:"), "{words:?}: {help}");
    }
    call(&place, &["task", "create", "--help"]).code(0);
    call(&place, &["nonsense"]).code(2);
    call(&place, &[]).code(2);
    assert!(!place.home().exists());
}

#[test]
fn a_task_command_without_a_server_says_what_to_do() {
    let place = Place::new();
    drop(call(&place, &["task", "list"]).code(2).noted(&["no control server was named", "MAKIMA_SERVER_URL"]));
    let away = ["task", "list", "--server", "http://127.0.0.1:1"];
    drop(call(&place, &away).code(2).noted(&["there is no key for http://127.0.0.1:1", "MAKIMA_API_KEY"]));
    let done = place.makima(away).env("MAKIMA_API_KEY", "k").done().code(4);
    drop(done.noted(&["the server at http://127.0.0.1:1 is not reached", "makima serve"]));
    let open = place.makima(["task", "list", "--server", "http://192.0.2.1"]).env("MAKIMA_API_KEY", "k").done().code(2);
    drop(open.noted(&["unencrypted", "--insecure"]));
}

#[test]
fn a_server_answers_to_the_names_that_it_was_given_and_to_no_other() {
    let place = Place::new();
    let refused = call(&place, &["serve", "--listen", "0.0.0.0:0"]).code(2);
    drop(refused.noted(&["nobody elsewhere", "--host NAME"]));
    let serve = place.makima(["serve", "--listen", "0.0.0.0:0", "--host", "build.example"]).start();
    serve.notes("from elsewhere: http://build.example:");
    let text = fs::read_to_string(place.home().join("server.json")).expect("it says where it is");
    let file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let (url, token) = (file["url"].as_str().expect("a text"), file["token"].as_str().expect("a text"));
    let status = |host| status_as(url, host, token, "/api/v1/tasks");
    assert_eq!([status("build.example:7600"), status("localhost"), status("evil.example")], [200, 200, 421]);
    drop(call(&place, &["task", "list"]).code(0));
    serve.terminate().code(0);
}

#[test]
fn waiting_for_a_task_tells_where_its_work_was_not_delivered() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let elsewhere = Repo::with_a_commit(&place.path("elsewhere"));
    let path = elsewhere.path().to_str().expect("a plain path");
    let words = ["task", "create", "--repo", path, "--on-complete", "branch", "--wait", "echo x > x"];
    drop(call(&place, &words).code(1).noted(&["was not delivered", "allowed_roots"]));
    fleet.end();
}
