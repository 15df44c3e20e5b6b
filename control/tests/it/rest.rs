//! The HTTP API.

use makima_control::{Listen, Server, StartError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{TOKEN, World, complete, config, folder, output, progress, soon};

/// Protects the shape that clients read: these fields, in this order.
#[tokio::test]
async fn a_task_has_exactly_these_fields() {
    let world = World::new().await;
    let id = world.create("#!/bin/sh\necho  hello").await;
    let text = world.get(&format!("/api/v1/tasks/{id}")).send().await.unwrap().text().await.unwrap();
    let created = world.task(id).await["createdAt"].as_str().unwrap().to_owned();
    assert_eq!(
        text,
        format!(
            r#"{{"id":"{id}","name":"echo hello","status":"pending","success":null,"error":null,"branch":null,"createdAt":"{created}","endedAt":null}}"#
        )
    );
    let list = world.json("/api/v1/tasks").await;
    assert_eq!(list, json!([world.task(id).await]));
    let info = world.json("/api/v1/info").await;
    assert_eq!(info, json!({"server": "makima", "version": "1.2.3", "tasks": 1, "followers": 0, "daemons": 0}));
}

/// Protects what is asked for on its way to the daemon: every field arrives.
#[tokio::test]
async fn every_field_reaches_the_daemon() {
    let world = World::new().await;
    let (id, parent, before) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let wish = json!({
        "taskId": id, "taskName": "N", "plan": "P\u{0}é", "repoUrl": "/r", "baseBranch": "b", "targetBranch": "t",
        "parentTaskId": parent, "depth": 2, "isOrchestrator": true, "targetRepoPath": "/t",
        "completionAction": "branch", "continueFromTaskId": before, "copyFiles": ["x", "y"],
    });
    assert_eq!(world.post("/api/v1/tasks", wish.clone()).await, (201, json!({ "id": id })));
    let mut daemon = world.daemon("a").await;
    let command: Value = serde_json::from_str(&daemon.command().await.write()).unwrap();
    let mut expected = wish;
    expected["type"] = json!("spawnTask");
    assert_eq!(command, expected);
}

/// Protects a client that asks twice because it missed the first answer.
#[tokio::test]
async fn the_same_task_twice_is_one_task() {
    let world = World::new().await;
    let id = Uuid::now_v7();
    let wish = json!({"taskId": id, "plan": "once", "copyFiles": ["a"]});
    assert_eq!(world.post("/api/v1/tasks", wish.clone()).await, (201, json!({ "id": id })));
    assert_eq!(world.post("/api/v1/tasks", wish).await, (200, json!({ "id": id })));
    let (status, body) = world.post("/api/v1/tasks", json!({"taskId": id, "plan": "twice"})).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("task_exists")));
    assert_eq!(world.json("/api/v1/tasks").await.as_array().unwrap().len(), 1);
}

/// Protects clients from guessing: what was wrong, and where.
#[tokio::test]
async fn a_bad_request_is_told_what_is_wrong() {
    let world = World::new().await;
    let post = async |body: &str| {
        let request = world.http.post(world.url("/api/v1/tasks")).bearer_auth(TOKEN).body(body.to_owned());
        let response = soon("answer", request.send()).await.unwrap();
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        (status, body["error"]["message"].as_str().unwrap().to_owned())
    };
    for (body, part) in [
        (r#"{"plan":"x","pland":1}"#, "`pland`"),
        ("{}", "`plan`"),
        (r#"{"plan":7}"#, "column 9"),
        ("{\n\n  oops", "line 3"),
        ("", "line 1"),
        ("[]", "line 1"),
        (r#"{"plan":"x","taskId":"no"}"#, "UUID"),
    ] {
        let (status, message) = post(body).await;
        assert_eq!(status, 400, "{body}");
        assert!(message.contains(part), "{body}: {message}");
    }
    let large = format!(r#"{{"plan":"{}"}}"#, "x".repeat(16 * 1024 * 1024));
    let request = world.http.post(world.url("/api/v1/tasks")).bearer_auth(TOKEN).body(large);
    assert_eq!(soon("answer", request.send()).await.unwrap().status(), 413);
    let fits = format!(r#"{{"plan":"{}"}}"#, "x".repeat(16 * 1024 * 1024 - 20));
    assert_eq!(post(&fits).await.0, 413, "no message to a daemon can hold it");
}

/// Protects clients from web pages where JSON is due.
#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let world = World::new().await;
    let unknown = Uuid::now_v7();
    for (path, code) in [
        ("/api/v1/nothing".to_owned(), "not_found"),
        ("/".to_owned(), "not_found"),
        (format!("/api/v1/tasks/{unknown}"), "no_such_task"),
        ("/api/v1/tasks/rubbish".to_owned(), "no_such_task"),
        ("/api/v1/tasks/%80".to_owned(), "no_such_task"),
        (format!("/api/v1/tasks/{unknown}/output"), "no_such_task"),
        (format!("/api/v1/tasks/{unknown}/events"), "no_such_task"),
    ] {
        let response = soon(&path, world.get(&path).send()).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], code, "{path}");
    }
    assert_eq!(world.post(&format!("/api/v1/tasks/{unknown}/interrupt"), json!({})).await.0, 404);
    let (status, body) = world.post("/api/v1/info", json!({})).await;
    assert_eq!((status, &body["error"]["code"]), (405, &json!("method_not_allowed")));
}

/// Protects a task that no daemon has from outliving the wish to end it.
#[tokio::test]
async fn a_waiting_task_can_be_interrupted() {
    let world = World::new().await;
    let id = world.create("never").await;
    let path = format!("/api/v1/tasks/{id}/interrupt");
    assert_eq!(world.post(&path, json!({"graceful": false})).await.0, 202);
    let task = world.task(id).await;
    assert_eq!((&task["status"], &task["success"]), (&json!("interrupted"), &json!(false)));
    assert!(task["endedAt"].is_string());
    assert_eq!(world.post(&path, json!({"graceful": true})).await.0, 409);
    assert_eq!(world.post(&path, json!({"gracefully": true})).await.0, 400);
}

/// Protects the output as one text: any byte of it can be the first, and the header says where to go on.
#[tokio::test]
async fn output_is_read_from_any_byte() {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("x").await;
    daemon.spawned().await;
    let mut whole = String::new();
    for n in 0..40 {
        // Some blocks of their own, some large, some joined.
        let line = format!("{n} é{}", "x".repeat(n * n * 40));
        daemon.say(output(id, &line, n % 3 == 0)).await;
        whole += &line;
        whole += if n % 3 == 0 { "" } else { "\n" };
        if n % 7 == 0 {
            assert!(daemon.stored().await);
        }
    }
    assert!(daemon.stored().await);
    assert!(whole.len() > 600_000);
    for from in (0..whole.len()).step_by(38_501).chain([1, 3, whole.len() - 1, whole.len()]) {
        let path = format!("/api/v1/tasks/{id}/output?from={from}");
        let response = soon("output", world.get(&path).send()).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(response.headers()["makima-next"], whole.len().to_string());
        assert!(soon("body", response.bytes()).await.unwrap() == whole.as_bytes()[from..], "from {from}");
    }
    for (from, status) in [((whole.len() + 1).to_string(), 416), ("-1".to_owned(), 400), ("x".to_owned(), 400)] {
        let path = format!("/api/v1/tasks/{id}/output?from={from}");
        assert_eq!(soon("output", world.get(&path).send()).await.unwrap().status(), status);
    }
}

/// Protects `branch`: null until a message bears its whole name.
#[tokio::test]
async fn the_branch_is_shown_once_it_is_known() {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("Fix the door").await;
    daemon.spawned().await;
    daemon.say(progress(id, "commit made")).await;
    assert!(daemon.stored().await);
    assert!(world.task(id).await["branch"].is_null());
    let branch = format!("makima/fix-the-door-{id}");
    daemon.say(progress(id, &format!("committed to {branch}"))).await;
    daemon.say(complete(id, None)).await;
    assert!(daemon.stored().await);
    assert_eq!(world.task(id).await["branch"], json!(branch));
}

/// Protects people from errors without a name: what is in the way, and where.
#[tokio::test]
async fn what_prevents_a_start_is_named() {
    let world = World::new().await;
    let address = world.server().address();
    let other = folder();
    let mut taken = config(other.path().join("x.db"));
    taken.listen = Listen::Address(address);
    let error = Server::start(taken).await.err().unwrap();
    assert!(
        matches!(error, StartError::PortInUse { .. }) && error.to_string().contains(&address.to_string()),
        "{error}"
    );

    let in_use = Server::start(config(world.data())).await.err().unwrap().to_string();
    assert!(in_use.contains("in use") && in_use.contains("control.db"), "{in_use}");

    let nowhere = other.path().join("no/such/folder/x.db");
    let error = Server::start(config(nowhere.clone())).await.err().unwrap().to_string();
    assert!(error.contains(&nowhere.display().to_string()), "{error}");

    let rubbish = other.path().join("rubbish.db");
    std::fs::write(&rubbish, "this is no database, whatever its name says. ".repeat(100)).unwrap();
    let error = Server::start(config(rubbish.clone())).await.err().unwrap().to_string();
    assert!(error.contains(&rubbish.display().to_string()), "{error}");

    let mut open = config(other.path().join("y.db"));
    open.token = makima_control::Token::new(" \n");
    assert!(matches!(Server::start(open).await.err().unwrap(), StartError::NoToken));
}

/// Protects what is stored from other users of the machine, also in a file that was there before.
#[tokio::test]
async fn the_data_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World { folder: folder(), ..World::new().await };
    std::fs::write(world.data(), "").unwrap();
    std::fs::set_permissions(world.data(), PermissionsExt::from_mode(0o644)).unwrap();
    world.start().await;
    world.create("secret").await;
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}
