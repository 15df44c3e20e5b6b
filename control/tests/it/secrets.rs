//! What is not to lie on the disk for longer than it is needed.

use serde_json::json;
use uuid::Uuid;

use crate::common::{World, complete};

fn url(n: usize) -> String {
    format!("https://ada:pass-w0rd-{n:04}@git.example/ada/project-{n}.git")
}

/// The files of the store that this stands in.
fn files_with(world: &World, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(world.folder.path()).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap();
        if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

async fn create(world: &World, id: Uuid, n: usize, plan: &str) -> u16 {
    world.post("/api/v1/tasks", json!({ "taskId": id, "plan": plan, "repoUrl": url(n) })).await.0
}

/// Protects a repository's password: it is needed until its task has ended, and kept no longer.
#[tokio::test]
async fn credentials_are_forgotten_with_the_end_of_their_task() {
    let mut world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let ids: Vec<Uuid> = (0..40).map(|_| Uuid::now_v7()).collect();
    let plan = |n: usize| format!("do it, {}", "at length ".repeat(n * 7 % 60));
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(create(&world, *id, n, &plan(n)).await, 201);
        assert_eq!(daemon.spawned().await, *id);
    }
    drop(daemon);
    let mut daemon = world.daemon("a").await;
    for id in &ids {
        let command = daemon.command().await;
        let makima_core::protocol::DaemonCommand::SpawnTask(again) = command else { panic!("{}", command.kind()) };
        let n = ids.iter().position(|id| *id == again.task_id).unwrap();
        assert_eq!(again.repo_url, Some(url(n)), "{id}: it is needed still");
    }
    assert!(!files_with(&world, "pass-w0rd-0007").is_empty(), "this test does not see what it looks for");
    // All but one, and not in their order.
    for n in (0..ids.len()).map(|n| n * 17 % ids.len()).filter(|n| *n != 7) {
        daemon.say(complete(ids[n], None)).await;
        assert!(daemon.stored().await);
        assert_eq!(files_with(&world, &format!("pass-w0rd-{n:04}")), Vec::<String>::new(), "{n}");
    }
    // The same task once more is still known for the same.
    assert_eq!(create(&world, ids[1], 1, &plan(1)).await, 200);
    assert_eq!(create(&world, ids[1], 2, &plan(1)).await, 409);
    // Somebody who reads does not keep it there, and the one that is needed outlives a restart.
    world.stop().await;
    world.start().await;
    let mut daemon = world.daemon("a").await;
    assert_eq!(daemon.spawned().await, ids[7]);
    daemon.say(complete(ids[7], Some("no"))).await;
    assert!(daemon.stored().await);
    assert_eq!(files_with(&world, "pass-w0rd-"), Vec::<String>::new());
}
