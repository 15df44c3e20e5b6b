//! A store that fails: a full disk, a slow one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use makima_control::hub::Snapshot;
use makima_control::store::{Answering, Batch, EventRow, Head, Sqlite, Store, StoreError, TaskRow};
use makima_core::protocol::SpawnTask;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::common::{Daemon, TOKEN, World, authenticate, complete, folder, output, until};
use crate::wire2::{Two, numbered, placed};

/// SQLite, with a disk that can be full and one that can be slow.
struct Moody {
    inner: Sqlite,
    full: AtomicBool,
    /// One permit for every write.
    gate: Semaphore,
    _folder: TempDir,
}

impl Moody {
    async fn new() -> Arc<Self> {
        let folder = folder();
        let inner = Sqlite::open(&folder.path().join("x.db")).await.unwrap();
        let gate = Semaphore::new(Semaphore::MAX_PERMITS / 2);
        Arc::new(Self { inner, full: AtomicBool::new(false), gate, _folder: folder })
    }

    async fn room(&self) -> Result<(), StoreError> {
        self.gate.acquire().await.unwrap().forget();
        if self.full.load(Ordering::SeqCst) { Err(StoreError::new("the disk is full")) } else { Ok(()) }
    }
}

impl Store for Moody {
    fn load(&self) -> Answering<'_, Snapshot> {
        self.inner.load()
    }
    fn write(&self, batch: Batch) -> Answering<'_, ()> {
        async {
            self.room().await?;
            self.inner.write(batch).await
        }
        .boxed()
    }
    fn probe(&self) -> Answering<'_, ()> {
        async {
            self.room().await?;
            self.inner.probe().await
        }
        .boxed()
    }
    fn tasks(&self) -> Answering<'_, Vec<TaskRow>> {
        self.inner.tasks()
    }
    fn task(&self, id: Uuid) -> Answering<'_, Option<TaskRow>> {
        self.inner.task(id)
    }
    fn asked(&self, id: Uuid) -> Answering<'_, Option<(SpawnTask, Vec<Uuid>)>> {
        self.inner.asked(id)
    }
    fn head(&self, id: Uuid) -> Answering<'_, Head> {
        self.inner.head(id)
    }
    fn events(&self, id: Uuid, after: u64, limit: u32) -> Answering<'_, Vec<EventRow>> {
        self.inner.events(id, after, limit)
    }
    fn output(&self, id: Uuid, from: u64, max: usize) -> Answering<'_, Vec<u8>> {
        self.inner.output(id, from, max)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

/// Protects what a daemon says from a full disk: it is never acknowledged, so the daemon keeps it and says it
/// again, and once there is room all of it is there, once.
#[tokio::test]
async fn nothing_is_acknowledged_on_a_full_disk_and_nothing_is_lost() {
    let store = Moody::new().await;
    let world = World::with_store(store.clone()).await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("x").await;
    daemon.spawned().await;
    daemon.say(output(id, "before", false)).await;
    assert!(daemon.stored().await);

    store.full.store(true, Ordering::SeqCst);
    daemon.say(output(id, "on the full disk", false)).await;
    daemon.say(complete(id, None)).await;
    assert!(!daemon.stored().await, "acknowledged what is not stored");
    let (status, body) = world.post("/api/v1/tasks", json!({"plan": "more"})).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("store_unavailable")));
    let mut again = Daemon::connect(&world).await;
    again.say(authenticate("a", TOKEN)).await;
    assert_eq!(again.refused().await, "store_unavailable");
    assert_eq!(world.task(id).await["success"], json!(null), "reading goes on");
    assert!(world.server().counters().store_errors > 0);

    store.full.store(false, Ordering::SeqCst);
    until("the store is back", async || {
        let mut daemon = Daemon::connect(&world).await;
        daemon.say(authenticate("b", TOKEN)).await;
        matches!(daemon.command().await, makima_core::protocol::DaemonCommand::Authenticated(_))
    })
    .await;
    let mut daemon = world.daemon("a").await;
    assert_eq!(daemon.spawned().await, id);
    daemon.say(output(id, "on the full disk", false)).await;
    daemon.say(complete(id, None)).await;
    assert!(daemon.stored().await);
    assert_eq!(world.output(id).await, "before\non the full disk\n");
    assert_eq!(world.task(id).await["success"], json!(true));
    assert_eq!(world.server().activity().borrow().unfinished, 0);
}

/// Protects the one acknowledgement that this wire has: a ping is answered when what came before it is on disk,
/// and not before. It also tells if the WebSocket library should ever answer pings sooner.
#[tokio::test]
async fn a_ping_is_answered_only_once_all_before_it_is_stored() {
    let store = Moody::new().await;
    let world = World::with_store(store.clone()).await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("x").await;
    daemon.spawned().await;
    assert!(daemon.stored().await);
    let permits = store.gate.forget_permits(usize::MAX);
    daemon.say(output(id, "slow", false)).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), daemon.stored()).await;
    assert!(early.is_err(), "answered before it was stored");
    assert_eq!(world.output(id).await, "");
    store.gate.add_permits(permits);
    assert!(daemon.stored().await);
    assert_eq!(world.output(id).await, "slow\n");
}

/// Protects the acknowledgements of version 2 in the same way, those of long-poll too.
#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_stored() {
    let store = Moody::new().await;
    let world = World::with_store(store.clone()).await;
    let id = world.create("x").await;
    let mut two = Two::open(&world, 9, 0, &[]).await;
    two.say(&json!({"ack": 1})).await;
    assert_eq!(two.all().await.len(), 1, "one command");
    let permits = store.gate.forget_permits(usize::MAX);
    two.say(&numbered(1, &complete(id, None))).await;
    two.say(&placed(uuid::Uuid::nil(), "x", 0, 1)).await;
    two.say(&json!({"ping": 1})).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), two.hear()).await;
    assert!(early.is_err(), "{early:?}");
    store.gate.add_permits(permits);
    assert_eq!(two.hear().await, json!({"ack": 1}));
    assert!(two.all().await.contains(&json!({"pong": 1})));

    store.full.store(true, Ordering::SeqCst);
    two.say(&numbered(2, &complete(id, None))).await;
    assert_eq!(two.hear().await["body"]["code"], "store_unavailable");
    assert!(two.maybe().await.is_none());
}

/// Protects clients and daemons from commands that nobody remembers: none leaves before its task is stored.
#[tokio::test]
async fn a_task_is_sent_only_once_it_is_stored() {
    let store = Moody::new().await;
    let world = World::with_store(store.clone()).await;
    let mut daemon = world.daemon("a").await;
    assert!(daemon.stored().await);
    store.full.store(true, Ordering::SeqCst);
    assert_eq!(world.post("/api/v1/tasks", json!({"plan": "x"})).await.0, 503);
    assert_eq!(daemon.refused().await, "store_unavailable", "not a spawnTask");
    assert_eq!(world.json("/api/v1/tasks").await, json!([]));
}
