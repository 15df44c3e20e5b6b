//! Daemons at the door and in session.

use makima_core::protocol::{DaemonCommand, Heartbeat};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Daemon, TOKEN, World, authenticate, complete, output, progress, soon, status, until};

/// Protects the server from daemons that have not its key.
#[tokio::test]
async fn a_wrong_key_is_refused_and_said() {
    let world = World::new().await;
    for key in ["", "wrong", "correct horse battery stapl"] {
        let mut daemon = Daemon::connect(&world).await;
        daemon.say(authenticate("a", key)).await;
        assert_eq!(daemon.refused().await, "invalid_key");
    }
    assert_eq!(world.server().counters().wrong_keys, 3);
    assert_eq!(world.json("/api/v1/daemons").await, json!([]));
}

/// Protects the door from whoever says something else first.
#[tokio::test]
async fn the_first_message_is_authenticate() {
    let world = World::new().await;
    let heartbeat =
        Message::text(makima_core::protocol::DaemonMessage::from(Heartbeat { active_tasks: vec![] }).write());
    for first in [heartbeat, Message::text("rubbish"), Message::binary(vec![1, 2, 3])] {
        let mut daemon = Daemon::connect(&world).await;
        daemon.raw(first).await;
        assert_eq!(daemon.refused().await, "authentication_required");
    }
    let mut daemon = Daemon::connect(&world).await;
    daemon.say(authenticate("", TOKEN)).await;
    assert_eq!(daemon.refused().await, "invalid_machine_id");
}

/// Protects the door from whoever says nothing.
#[tokio::test]
async fn one_who_says_nothing_is_sent_away() {
    let world = World::new().await;
    let mut daemon = Daemon::connect(&world).await;
    assert_eq!(daemon.refused().await, "authentication_timeout");
}

/// Protects a session from what in it cannot be read.
#[tokio::test]
async fn rubbish_is_counted_and_the_session_goes_on() {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let rubbish = ["", "{}", "[1]", "null", r#"{"type":"nonsense"}"#, r#"{"type":"taskOutput","taskId":7}"#, "\u{0}"];
    for text in rubbish {
        daemon.raw(Message::text(text)).await;
    }
    daemon.raw(Message::binary(vec![0xff; 100])).await;
    daemon.say(progress(uuid::Uuid::nil(), "of a task that nobody knows")).await;
    assert!(daemon.stored().await);
    let counters = world.server().counters();
    assert_eq!((counters.unreadable, counters.ignored.unknown), (8, 1));
    let id = world.create("go on").await;
    assert_eq!(daemon.spawned().await, id);
}

/// Protects a daemon's name here: one for each machine, for good.
#[tokio::test]
async fn a_machine_keeps_its_id_and_supersedes_itself() {
    let world = World::new().await;
    let mut first = world.daemon("a").await;
    let second = world.daemon("a").await;
    let other = world.daemon("b").await;
    assert_eq!(first.refused().await, "superseded");
    assert_eq!(first.id, second.id);
    assert_ne!(first.id, other.id);
    let daemons = world.json("/api/v1/daemons").await;
    let connected: Vec<_> = daemons.as_array().unwrap().iter().map(|daemon| &daemon["connected"]).collect();
    assert_eq!(connected, [true, true]);
}

/// Protects the whole way of a task: from the client to the daemon and back.
#[tokio::test]
async fn a_task_goes_to_a_daemon_and_its_end_comes_back() {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("build it").await;
    assert_eq!(daemon.spawned().await, id);
    daemon.say(status(id, "pending", "running")).await;
    assert!(daemon.stored().await);
    assert_eq!(world.task(id).await["status"], "running");
    daemon.say(output(id, "hello", false)).await;
    daemon.say(status(id, "running", "done")).await;
    daemon.say(complete(id, None)).await;
    daemon.say(complete(id, Some("a second end"))).await;
    assert!(daemon.stored().await);
    let task = world.task(id).await;
    assert_eq!((&task["status"], &task["success"], &task["error"]), (&json!("done"), &json!(true), &json!(null)));
    assert_eq!(world.output(id).await, "hello\n");
    assert_eq!(world.server().activity().borrow().unfinished, 0);
}

/// Protects interruptions: they reach the daemon, forced ones again if it was away.
#[tokio::test]
async fn a_forced_interruption_is_repeated_until_it_is_done() {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("long").await;
    daemon.spawned().await;
    let path = format!("/api/v1/tasks/{id}/interrupt");
    assert_eq!(world.post(&path, json!({})).await.0, 202);
    let DaemonCommand::InterruptTask(body) = daemon.command().await else { panic!() };
    assert!(body.graceful);
    assert_eq!(world.post(&path, json!({})).await.0, 202);
    for _ in 0..2 {
        let DaemonCommand::InterruptTask(body) = daemon.command().await else { panic!() };
        assert!(!body.graceful);
        drop(daemon);
        daemon = world.daemon("a").await;
        assert_eq!(daemon.spawned().await, id);
    }
    daemon.say(complete(id, Some("interrupted"))).await;
    assert!(daemon.stored().await);
    assert_eq!(world.task(id).await["status"], "interrupted");
    assert_eq!(world.post(&path, json!({})).await.0, 409);
    drop(daemon);
    let mut daemon = world.daemon("a").await;
    let next = world.create("next").await;
    assert_eq!(daemon.spawned().await, next, "what has ended is not sent again");
}

/// Protects the list of daemons, also of those that are away.
#[tokio::test]
async fn daemons_are_listed_with_what_they_do() {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    world.create("x").await;
    daemon.spawned().await;
    let list = world.json("/api/v1/daemons").await;
    let one = list[0].as_object().unwrap();
    assert_eq!((&one["machineId"], &one["hostname"]), (&json!("a"), &json!("a.example")));
    assert_eq!((&one["maxConcurrentTasks"], &one["activeTasks"]), (&json!(4), &json!(1)));
    assert_eq!(one["id"], json!(daemon.id));
    assert!(one["lastSeenAt"].as_str().unwrap().ends_with('Z'));
    drop(daemon);
    until("the daemon is gone", async || world.json("/api/v1/daemons").await[0]["connected"] == false).await;
    assert_eq!(world.json("/api/v1/info").await["daemons"], 0);
}

/// Protects an end of the server from sessions, streams and idle connections that are open.
#[tokio::test]
async fn shutdown_is_clean_and_short() {
    let mut world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let silent = Daemon::connect(&world).await;
    let idle = tokio::net::TcpStream::connect(world.server().address()).await.unwrap();
    let id = world.create("x").await;
    daemon.spawned().await;
    let follower = soon("events", world.get(&format!("/api/v1/tasks/{id}/events")).send()).await.unwrap();
    daemon.say(output(id, "the last words", false)).await;
    assert!(daemon.stored().await);
    let started = std::time::Instant::now();
    world.stop().await;
    assert!(started.elapsed().as_secs_f32() < 3.0, "{:?}", started.elapsed());
    assert!(daemon.maybe_command().await.is_none());
    assert!(soon("the stream's end", follower.text()).await.unwrap().contains("the last words"));
    drop((silent, idle));
}
