//! Version 2 over a WebSocket: sessions that are cut at each point, servers that are started again.

use futures_util::StreamExt as _;
use makima_core::protocol::{DaemonCommand, DaemonMessage};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::common::{Daemon, TOKEN, World, authenticate, complete, output, progress, soon, status, until};

/// A daemon of version 2, frame by frame.
pub(crate) struct Two {
    pub(crate) daemon: Daemon,
    /// How the server said that it stands.
    pub(crate) hello: Value,
}

pub(crate) fn body(message: &DaemonMessage) -> Value {
    json!({ "body": serde_json::from_str::<Value>(&message.write()).unwrap() })
}

pub(crate) fn numbered(seq: u64, message: &DaemonMessage) -> Value {
    let mut frame = body(message);
    frame["seq"] = seq.into();
    frame
}

/// Output that says where it belongs.
pub(crate) fn placed(task: Uuid, text: &str, off: u64, end: u64) -> Value {
    let mut frame = body(&output(task, text, true));
    frame["meta"] = json!({"off": off, "end": end});
    frame
}

pub(crate) fn hello(epoch: u64, of: &Value, applied: u64, tasks: &[Uuid]) -> Value {
    let tasks: Vec<Value> = tasks.iter().map(|task| json!({"task": task, "off": 0})).collect();
    json!({"hello": {"epoch": epoch, "of": of, "applied": applied, "tasks": tasks}})
}

impl Two {
    /// A session in which the server has said how it stands, and the daemon has not.
    pub(crate) async fn let_in(world: &World, machine: &str) -> Self {
        let daemon = Daemon::knock(world, &[("makima-wire", "2")]).await.unwrap();
        let mut two = Self { daemon, hello: Value::Null };
        two.say(&body(&authenticate(machine, TOKEN))).await;
        let authenticated = two.hear().await;
        assert_eq!(authenticated["body"]["type"], "authenticated", "{authenticated}");
        assert!(authenticated.get("seq").is_none());
        two.daemon.id = authenticated["body"]["daemonId"].as_str().unwrap().parse().unwrap();
        two.hello = two.hear().await["hello"].clone();
        assert!(two.hello.is_object());
        two
    }

    /// The same, and the daemon too: it has applied that much of the server's.
    pub(crate) async fn open(world: &World, epoch: u64, applied: u64, tasks: &[Uuid]) -> Self {
        let mut two = Self::let_in(world, "a").await;
        let of = if applied == 0 { json!(0) } else { two.hello["epoch"].clone() };
        two.say(&hello(epoch, &of, applied, tasks)).await;
        two
    }

    pub(crate) async fn say(&mut self, frame: &Value) {
        self.daemon.raw(Message::text(frame.to_string())).await;
    }

    pub(crate) async fn hear(&mut self) -> Value {
        self.maybe().await.expect("the session is over")
    }

    /// The next frame; none at the end.
    pub(crate) async fn maybe(&mut self) -> Option<Value> {
        loop {
            match soon("a frame", self.daemon.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Everything that comes before the answer to a ping.
    pub(crate) async fn all(&mut self) -> Vec<Value> {
        self.say(&json!({"ping": 77})).await;
        let mut all = Vec::new();
        loop {
            let frame = self.hear().await;
            if frame == json!({"pong": 77}) {
                return all;
            }
            all.push(frame);
        }
    }

    pub(crate) async fn close(mut self) {
        let _ = self.daemon.socket.close(None).await;
    }
}

fn spawned(frame: &Value) -> (u64, Uuid) {
    assert_eq!(frame["body"]["type"], "spawnTask", "{frame}");
    (frame["seq"].as_u64().unwrap(), frame["body"]["taskId"].as_str().unwrap().parse().unwrap())
}

fn steps(events: &str) -> usize {
    events.matches("event: progress").count()
}

async fn events(world: &World, task: Uuid) -> String {
    // An ended task's stream ends.
    soon("events", world.get(&format!("/api/v1/tasks/{task}/events")).send()).await.unwrap().text().await.unwrap()
}

/// Protects daemons of before: only who asks is answered in envelopes, errors too.
#[tokio::test]
async fn version_2_is_for_those_who_ask() {
    let world = World::new().await;
    let address = world.server().address();
    for (asked, granted) in [(None, None), (Some("2"), Some("2")), (Some("1"), None), (Some("22"), None)] {
        let mut request = world
            .http
            .get(format!("http://{address}/api/v1/mesh/daemons/connect"))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==");
        if let Some(asked) = asked {
            request = request.header("Makima-Wire", asked);
        }
        let response = soon("the handshake", request.send()).await.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers().get("makima-wire").map(|value| value.to_str().unwrap()), granted);
    }
    let mut daemon = Daemon::knock(&world, &[("makima-wire", "2")]).await.unwrap();
    daemon.raw(Message::text(body(&authenticate("a", "wrong")).to_string())).await;
    let mut two = Two { daemon, hello: Value::Null };
    assert_eq!(two.hear().await["body"]["code"], "invalid_key");
    assert!(two.maybe().await.is_none());
    let mut daemon = Daemon::knock(&world, &[("makima-wire", "2")]).await.unwrap();
    // A message without its envelope is none.
    daemon.say(authenticate("a", TOKEN)).await;
    let mut two = Two { daemon, hello: Value::Null };
    assert_eq!(two.hear().await["body"]["code"], "authentication_required");
}

/// Protects commands from every place at which a session can be cut: under their numbers until they are acknowledged,
/// and never after.
#[tokio::test]
async fn commands_outlive_cuts_and_the_server() {
    let mut world = World::new().await;
    let first = world.create("one").await;
    // Cut before the daemon has said anything: nothing was told.
    let two = Two::let_in(&world, "a").await;
    assert_eq!((&two.hello["applied"], &two.hello["of"]), (&json!(0), &json!(0)));
    two.close().await;
    // Told, not acknowledged.
    let mut two = Two::open(&world, 9, 0, &[]).await;
    let epoch = two.hello["epoch"].clone();
    assert_eq!(spawned(&two.hear().await), (1, first));
    let second = world.create("two").await;
    assert_eq!(spawned(&two.hear().await), (2, second));
    two.close().await;
    for restart in [false, true] {
        if restart {
            world.stop().await;
            world.start().await;
        }
        // Applied the first of them; the answer was lost on the way.
        let mut two = Two::open(&world, 9, 1, &[first]).await;
        assert_eq!(two.hello["epoch"], epoch);
        assert_eq!(spawned(&two.hear().await), (2, second));
        assert_eq!(two.all().await, [json!(null); 0]);
        two.close().await;
    }
    let mut two = Two::open(&world, 9, 1, &[first]).await;
    assert_eq!(spawned(&two.hear().await).0, 2);
    two.say(&json!({"ack": 2})).await;
    assert_eq!(two.all().await, [json!(null); 0]);
    two.close().await;
    world.stop().await;
    world.start().await;
    let mut two = Two::open(&world, 9, 2, &[first, second]).await;
    assert_eq!(two.all().await, [json!(null); 0], "nothing is told twice");
    let path = format!("/api/v1/tasks/{first}/interrupt");
    assert_eq!(world.post(&path, json!({})).await.0, 202);
    let frame = two.hear().await;
    assert_eq!((&frame["seq"], &frame["body"]["graceful"]), (&json!(3), &json!(true)));
    two.close().await;
    // A gentle one taken for a second would be a forced one.
    let mut two = Two::open(&world, 9, 3, &[first, second]).await;
    assert_eq!(two.all().await, [json!(null); 0]);
}

/// Protects what a daemon says from being applied twice, and it from waiting for ever: a number that is known is
/// acknowledged again, also by a server that was started since.
#[tokio::test]
async fn messages_are_applied_once() {
    let mut world = World::new().await;
    let id = world.create("x").await;
    let mut two = Two::open(&world, 9, 0, &[]).await;
    assert_eq!(spawned(&two.hear().await).0, 1);
    two.say(&json!({"ack": 1})).await;
    two.say(&numbered(1, &status(id, "pending", "running"))).await;
    two.say(&numbered(2, &progress(id, "a step"))).await;
    two.say(&numbered(2, &progress(id, "a step"))).await;
    // What cannot be read has a number all the same.
    two.say(&json!({"seq": 3, "body": {"type": "nonsense"}})).await;
    let acks = two.all().await;
    assert_eq!(acks.last(), Some(&json!({"ack": 3})), "{acks:?}");
    two.close().await;
    for restart in 0..3 {
        if restart == 1 {
            world.stop().await;
            world.start().await;
        } else if restart == 2 {
            world.kill().await;
        }
        let mut two = Two::open(&world, 9, 1, &[id]).await;
        assert_eq!((&two.hello["of"], &two.hello["applied"]), (&json!(9), &json!(3)));
        two.say(&numbered(2, &progress(id, "a step"))).await;
        assert_eq!(two.all().await, [json!({"ack": 3})]);
        two.close().await;
    }
    let mut two = Two::open(&world, 9, 1, &[id]).await;
    two.say(&numbered(4, &complete(id, None))).await;
    assert_eq!(two.all().await, [json!({"ack": 4})]);
    assert_eq!(steps(&events(&world, id).await), 1);
    assert_eq!(world.server().counters().ignored.late, 0);
}

/// Protects the order: a gap is no order.
#[tokio::test]
async fn a_gap_ends_the_session() {
    let world = World::new().await;
    let mut two = Two::open(&world, 9, 0, &[]).await;
    two.say(&numbered(2, &progress(Uuid::nil(), "too early"))).await;
    assert_eq!(two.hear().await["body"]["code"], "out_of_order");
    assert!(two.maybe().await.is_none());
    let mut two = Two::let_in(&world, "a").await;
    two.say(&numbered(1, &progress(Uuid::nil(), "before hello"))).await;
    assert_eq!(two.hear().await["body"]["code"], "out_of_order");
    // Another epoch begins at 1.
    let mut two = Two::open(&world, 10, 0, &[]).await;
    two.say(&numbered(1, &progress(Uuid::nil(), "first"))).await;
    assert_eq!(two.all().await, [json!({"ack": 1})]);
}

/// Protects output from holes and doubles, over cuts and restarts, from wherever it is sent again.
#[tokio::test]
async fn output_goes_where_it_belongs() {
    let mut world = World::new().await;
    let id = world.create("x").await;
    let got = |off: u64| json!({"got": {"task": id, "off": off}});
    let mut two = Two::open(&world, 9, 0, &[]).await;
    assert_eq!(spawned(&two.hear().await).0, 1);
    // Places count bytes of the log, not of the text.
    two.say(&placed(id, "one\n", 0, 20)).await;
    two.say(&placed(id, "two\n", 20, 40)).await;
    let heard = two.all().await;
    assert_eq!(heard.last(), Some(&got(40)), "{heard:?}");
    two.close().await;
    for restart in 0..4 {
        if restart == 2 {
            world.stop().await;
            world.start().await;
        } else if restart == 3 {
            world.kill().await;
        }
        let mut two = Two::open(&world, 9, 1, &[id]).await;
        assert_eq!(two.hello["tasks"], json!([{"task": id, "off": 40}]));
        // From earlier: dropped. Over the place, or behind it: asked for anew, once.
        two.say(&placed(id, "one\n", 0, 20)).await;
        two.say(&placed(id, "two\nthr", 20, 55)).await;
        two.say(&placed(id, "four\n", 60, 80)).await;
        two.say(&placed(id, "five\n", 80, 99)).await;
        let heard = two.all().await;
        assert_eq!(heard, [got(40), json!({"rewind": {"task": id, "off": 40}})]);
        two.close().await;
    }
    let mut two = Two::open(&world, 9, 1, &[id]).await;
    two.say(&placed(id, "three\n", 40, 60)).await;
    two.say(&placed(id, "", 60, 70)).await;
    two.say(&placed(id, "four\n", 70, 80)).await;
    two.say(&numbered(1, &complete(id, None))).await;
    // What comes after the end, or of a task that nobody knows, does not hold the daemon up.
    two.say(&placed(id, "late\n", 80, 90)).await;
    let unknown = Uuid::from_u128(7);
    two.say(&placed(unknown, "?\n", 5, 9)).await;
    let heard = two.all().await;
    assert!(heard.contains(&got(90)) && heard.contains(&json!({"ack": 1})), "{heard:?}");
    assert!(heard.contains(&json!({"got": {"task": unknown, "off": 9}})), "{heard:?}");
    assert_eq!(world.output(id).await, "one\ntwo\nthree\nfour\n");
}

/// Protects tasks from a daemon that has lost its state: the server's numbers begin anew, and everything is told again.
#[tokio::test]
async fn a_daemon_that_has_lost_everything() {
    let world = World::new().await;
    let id = world.create("x").await;
    let mut two = Two::open(&world, 9, 0, &[]).await;
    let epoch = two.hello["epoch"].as_u64().unwrap();
    two.hear().await;
    two.say(&json!({"ack": 1})).await;
    two.say(&numbered(1, &progress(id, "a step"))).await;
    two.all().await;
    two.close().await;
    let mut two = Two::open(&world, 10, 0, &[]).await;
    assert_eq!(two.hear().await["body"]["code"], "renumbered");
    assert!(two.maybe().await.is_none());
    let mut two = Two::open(&world, 10, 0, &[]).await;
    assert!(two.hello["epoch"].as_u64().unwrap() > epoch);
    assert_eq!(spawned(&two.hear().await), (1, id));
    two.say(&json!({"ack": 1})).await;
    two.say(&numbered(1, &progress(id, "another"))).await;
    assert_eq!(two.all().await, [json!({"ack": 1})]);
    two.close().await;
    // Only the task is lost, not the numbers.
    let mut two = Two::open(&world, 10, 1, &[]).await;
    assert_eq!(spawned(&two.hear().await), (2, id));
}

/// Protects daemons that are put back to a version of before, and forward again.
#[tokio::test]
async fn from_one_version_to_the_other() {
    let world = World::new().await;
    let id = world.create("x").await;
    let mut one = world.daemon("a").await;
    assert_eq!(one.spawned().await, id);
    assert_eq!(world.json("/api/v1/daemons").await[0]["wire"], 1);
    let mut two = Two::open(&world, 9, 0, &[id]).await;
    assert_eq!(one.refused().await, "superseded");
    // It was told without a number. Told again it is not started twice.
    assert_eq!(spawned(&two.hear().await), (1, id));
    let list = world.json("/api/v1/daemons").await;
    assert_eq!((&list[0]["wire"], &list[0]["transport"]), (&json!(2), &json!("websocket")));
    let epoch = two.hello["epoch"].clone();
    two.say(&json!({"ack": 1})).await;
    two.all().await;
    let mut one = world.daemon("a").await;
    assert_eq!(one.spawned().await, id);
    assert_eq!(two.hear().await["body"]["code"], "superseded");
    drop(one);
    until("it is gone", async || world.json("/api/v1/daemons").await[0]["wire"].is_null()).await;
    let mut two = Two::let_in(&world, "a").await;
    assert_ne!(two.hello["epoch"], epoch);
    two.say(&hello(9, &epoch, 1, &[id])).await;
    assert_eq!(spawned(&two.hear().await), (1, id));
}

/// Protects data files of before.
#[tokio::test]
async fn a_data_file_of_before_is_brought_up() {
    let mut world = World::new().await;
    world.stop().await;
    let data = world.folder.path().join("old.db");
    let migrations = world.folder.path().join("migrations");
    std::fs::create_dir(&migrations).unwrap();
    let start = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/0001_start.sql");
    std::fs::copy(start, migrations.join("0001_start.sql")).unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&data).create_if_missing(true);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::migrate::Migrator::new(migrations).await.unwrap().run(&mut connection).await.unwrap();
    let (daemon, task) = (Uuid::from_u128(1), Uuid::from_u128(2));
    sqlx::query("INSERT INTO daemons VALUES ($1, 'a', 'h', 4, 5)")
        .bind(daemon.as_bytes().to_vec())
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO tasks (seq, id, name, task_name, plan, depth, is_orchestrator, status, daemon, created_at) \
         VALUES (0, $1, 'n', 'n', 'p', 0, 0, 'running', $2, 5)",
    )
    .bind(task.as_bytes().to_vec())
    .bind(daemon.as_bytes().to_vec())
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    std::fs::rename(data, world.data()).unwrap();
    world.start().await;
    let mut two = Two::open(&world, 9, 0, &[task]).await;
    assert_eq!(two.daemon.id, daemon);
    assert_eq!(spawned(&two.hear().await), (1, task));
}

/// Protects whoever writes a server by the document: its frames are frames, to the letter.
#[test]
fn the_document_shows_what_is_spoken() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wire-2.md")).unwrap();
    let frames = text.lines().filter_map(|line| {
        let line = line.strip_prefix("daemon ").or(line.strip_prefix("server ")).unwrap_or(line).trim();
        ["{\"seq\"", "{\"body\"", "{\"hello\""].iter().any(|start| line.starts_with(start)).then_some(line)
    });
    let mut shown = 0;
    for line in frames {
        let line = line.replace("\"…\"", "\"0193e5a0-0000-7000-8000-000000000001\"");
        let frame = makima_core::protocol::Frame::read(&line).unwrap();
        assert_eq!(frame.write(), line);
        if let Some(body) = frame.body {
            let (daemons, servers) = (DaemonMessage::read(body.get()), DaemonCommand::read(body.get()));
            assert!(daemons.is_ok() || servers.is_ok(), "{line}");
        }
        shown += 1;
    }
    assert_eq!(shown, 5);
}
