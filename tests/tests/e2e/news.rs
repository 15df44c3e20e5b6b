//! The user's command and webhook are told what happens to tasks.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::{Fleet, Place, SOON, until};

/// Takes what is posted, and answers each with this status. Gives the address, and the bodies.
fn webhook(status: &'static str) -> (String, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let (bodies, posted) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
            let whole = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let (head, body) = text.split_once("\r\n\r\n")?;
                Some((head.lines().next()?.to_owned(), serde_json::from_str(body).ok()?))
            };
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..count]);
                if let Some(request) = whole(&bytes) {
                    let _ = bodies.send(request);
                    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    break;
                }
            }
        }
    });
    (format!("http://{address}/hook?key=secret"), posted)
}

/// Protects people from having to look: what has ended, and how, is told to whatever they named, also by a process that ends
/// with its task.
#[test]
fn ends_are_told_to_the_command_and_the_webhook() {
    let place = Place::new();
    let repo = place.repo();
    let (url, posted) = webhook("200 OK");
    let script = place.path("tell");
    let out = place.path("told");
    let text = format!(
        "#!/bin/sh\n(cat; echo; echo \"$MAKIMA_EVENT|$MAKIMA_TASK_NAME|$MAKIMA_MESSAGE\") >> '{}'\n",
        out.display()
    );
    fs::write(&script, text).expect("a script");
    place.configure(&format!("[notify]\ncommand = ['sh', '{}']\nwebhook = '{url}'\n", script.display()));
    drop(place.run(&repo, &["--name", "Good", "echo x > x"]).done().code(0));
    drop(place.run(&repo, &["--name", "Bad", "exit 3"]).done().code(1));
    let told = fs::read_to_string(&out).expect("it was told");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines[1], lines[3]), ("done|Good|", "failed|Bad|the script ended with exit code 3"), "{told}");
    for (line, event, name) in [(lines[0], "done", "Good"), (lines[2], "failed", "Bad")] {
        let item: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&item["event"], &item["name"]), (&json!(event), &json!(name)), "{told}");
        let (request, body) = posted.recv_timeout(SOON).expect("it was posted");
        assert_eq!((request.as_str(), &body), ("POST /hook?key=secret HTTP/1.1", &item));
    }
}

/// Protects people from a task that waits for them and says so to nobody: they are told, and it stands before all others wherever
/// tasks are listed, until they have answered.
#[test]
fn who_needs_a_person_is_told_of_and_stands_first() {
    let place = Place::new();
    let repo = place.repo();
    let (url, posted) = webhook("200 OK");
    let out = place.path("told");
    let tell = format!("cat >> '{0}'; echo \"|$MAKIMA_EVENT|$MAKIMA_MESSAGE\" >> '{0}'", out.display());
    let agent = place.claude("ask('Bash', '{\"command\":\"ls\"}');");
    let notify = format!("[notify]\ncommand = ['sh', '-c', '''{tell}''']\nwebhook = '{url}'\non = ['needs-person']\n");
    place.configure(&format!("permissions = 'ask'\n{agent}{notify}"));
    let fleet = Fleet::with(&place, place.makima(["daemon"]));
    let asks = |id: &str| {
        until("its question", SOON, || (fleet.task(id)["needsPerson"] == "question 1: Bash: ls").then_some(()));
        let (_, body) = posted.recv_timeout(SOON).expect("it was posted");
        assert_eq!((&body["event"], &body["task"]), (&json!("needs-person"), &json!(id)), "{body}");
        assert_eq!(body["message"], "question 1: Bash: ls");
    };
    let allow = |id: &str| drop(place.makima(["task", "answer", id, "1", "allow"]).done().code(0));
    let listed = || {
        let tasks: Value = serde_json::from_str(&fleet.get("/api/v1/tasks").1).expect("JSON");
        let by_rest: Vec<String> = tasks.as_array().expect("a list").iter().map(id_of).collect();
        let tasks = place.makima(["task", "list", "--json"]).done().code(0).json();
        let by_command: Vec<String> = tasks.as_array().expect("a list").iter().map(id_of).collect();
        assert_eq!(by_rest, by_command);
        by_rest
    };
    let first = fleet.plan(&repo, "Look");
    asks(&first);
    allow(&first);
    assert_eq!(fleet.ended(&first)["needsPerson"], Value::Null);
    let second = fleet.plan(&repo, "Look again");
    asks(&second);
    assert_eq!(listed(), [second.clone(), first.clone()]);
    let text = place.makima(["task", "list"]).done().code(0).out();
    let place_of = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what:?} is to stand in\n{text}"));
    assert!(place_of("needs a person: question 1: Bash: ls") < place_of(" done"), "{text}");
    allow(&second);
    fleet.ended(&second);
    assert_eq!(listed(), [first, second], "nobody needs anybody");
    let told = fs::read_to_string(&out).expect("it was told");
    assert_eq!(told.matches("|needs-person|question 1: Bash: ls\n").count(), 2, "and of nothing else: {told}");
    assert_eq!(told.lines().count(), 2, "{told}");
    fleet.end();
}

fn id_of(task: &Value) -> String {
    task["id"].as_str().expect("an id").to_owned()
}

/// Protects a daemon from whoever is to be told and does not listen, and people from being told what they do not want to hear.
#[test]
fn who_does_not_listen_is_said_and_not_waited_for() {
    let place = Place::new();
    let repo = place.repo();
    let (url, posted) = webhook("500 Internal Server Error");
    place.configure(&format!("[notify]\ncommand = ['/no/such/program']\nwebhook = '{url}'\non = ['failed']\n"));
    drop(place.run(&repo, &["echo x > x"]).done().code(0));
    let done = place.run(&repo, &["exit 3"]).env("RUST_LOG", "warn").done().code(1);
    let (_, body) = posted.recv_timeout(SOON).expect("it was posted");
    assert_eq!(body["event"], "failed");
    assert!(posted.try_recv().is_err(), "nothing else is told");
    assert!(!done.err().contains("key=secret"));
    drop(done.noted(&["notify.command: task", "notify.webhook: task", "it answered 500"]));
    place.configure("[notify]\nwebhook = 'ftp://nowhere'\n");
    drop(place.run(&repo, &["exit 0"]).done().code(2).noted(&["notify.webhook in config.toml"]));
}
