//! What outlives the server.

use serde_json::json;

use crate::common::{World, complete, output, soon, status};

/// Protects tasks, their output and who has them from an end of the server, orderly or not.
#[tokio::test]
async fn a_restart_keeps_everything_and_sends_tasks_again() {
    let mut world = World::new().await;
    for orderly in [true, false] {
        let mut daemon = world.daemon("a").await;
        let (ended, running) = (world.create("one").await, world.create("two").await);
        assert_eq!((daemon.spawned().await, daemon.spawned().await), (ended, running));
        daemon.say(output(ended, "its output", false)).await;
        daemon.say(complete(ended, Some("no"))).await;
        daemon.say(output(running, "first", false)).await;
        daemon.say(status(running, "preparing", "running")).await;
        assert!(daemon.stored().await);
        let before = (world.json("/api/v1/tasks").await, daemon.id);
        if orderly {
            world.stop().await;
        } else {
            drop(world.server.take());
            // What was dropped lets go of its file when its tasks have ended.
            drop(std::mem::replace(&mut daemon, World::new().await.daemon("elsewhere").await));
            soon("the lock", async {
                while makima_control::store::Sqlite::open(&world.data()).await.is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        world.start().await;
        assert_eq!(world.json("/api/v1/tasks").await, before.0);
        assert_eq!(world.server().activity().borrow().unfinished, 1);
        assert_eq!(world.output(ended).await, "its output\n");
        let mut daemon = world.daemon("a").await;
        assert_eq!(daemon.id, before.1);
        assert_eq!(daemon.spawned().await, running);
        daemon.say(output(running, "second", false)).await;
        daemon.say(complete(running, None)).await;
        assert!(daemon.stored().await);
        assert_eq!(world.output(running).await, "first\nsecond\n");
        assert_eq!(world.task(running).await["success"], json!(true));
    }
}

/// Protects a wish to end a task from being forgotten with the server.
#[tokio::test]
async fn an_interruption_outlives_a_restart() {
    let mut world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("x").await;
    daemon.spawned().await;
    drop(daemon);
    assert_eq!(world.post(&format!("/api/v1/tasks/{id}/interrupt"), json!({"graceful": false})).await.0, 202);
    world.stop().await;
    world.start().await;
    let mut daemon = world.daemon("a").await;
    assert_eq!(daemon.spawned().await, id);
    let makima_core::protocol::DaemonCommand::InterruptTask(body) = daemon.command().await else { panic!() };
    assert!(!body.graceful);
}

/// Protects a file of a newer version from this one.
#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let mut world = World::new().await;
    world.stop().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.data());
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of a later day', 1, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let error = makima_control::Server::start(crate::common::config(world.data())).await.err().unwrap().to_string();
    assert!(error.contains("newer makima"), "{error}");
}
