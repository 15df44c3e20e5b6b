//! Long-poll from outside: request by request, and with the daemon's own transport.

use std::time::{Duration, Instant};

use makima_core::effect::Way;
use makima_core::id::Epoch;
use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use makima_transports::{LinkEvent, LinkHandle, Outgoing, endpoint, open};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::common::{TOKEN, World, authenticate, complete, progress, soon, until};
use crate::wire2::{Two, body, hello, numbered, placed};

const BASE: &str = "/api/v1/mesh/daemons/connect";

async fn ask(world: &World, what: &str, body: String) -> Response {
    let url = world.url(&format!("{BASE}/{what}"));
    soon(what, world.http.post(url).bearer_auth(TOKEN).header("Makima-Wire", "2").body(body).send()).await.unwrap()
}

async fn asked(world: &World, what: &str, body: &Value) -> (u16, Value) {
    let response = ask(world, what, body.to_string()).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    (status, response.json().await.unwrap())
}

async fn ok(world: &World, what: &str, body: &Value) -> Value {
    let (status, body) = asked(world, what, body).await;
    assert_eq!(status, 200, "{what}: {body}");
    body
}

/// A session of machine a, in which both have said how they stand.
async fn session(world: &World, applied: u64, tasks: &[Uuid]) -> Value {
    let opened = ok(world, "session", &body(&authenticate("a", TOKEN))["body"]).await;
    let of = if applied == 0 { json!(0) } else { opened["hello"]["epoch"].clone() };
    let session = opened["session"].clone();
    let said = hello(9, &of, applied, tasks);
    assert_eq!(ok(world, "push", &json!({"session": session, "frames": [said]})).await, json!({"frames": []}));
    session
}

/// Protects the wire: what is asked and answered, from the first request to an end.
#[tokio::test]
async fn a_session_request_by_request() {
    let world = World::new().await;
    let id = world.create("x").await;
    let response = ask(&world, "session", body(&authenticate("a", TOKEN))["body"].to_string()).await;
    assert_eq!(response.headers()["makima-wire"], "2");
    let opened: Value = response.json().await.unwrap();
    let list = world.json("/api/v1/daemons").await;
    assert_eq!(opened["daemonId"], list[0]["id"]);
    assert_eq!((&list[0]["wire"], &list[0]["transport"]), (&json!(2), &json!("longPoll")));
    let session = opened["session"].clone();
    // Nothing is told to a daemon that has not said how it stands.
    let poll = json!({"session": session, "ack": 0, "wait": 0});
    assert_eq!(ok(&world, "poll", &poll).await, json!({"commands": [], "more": false}));
    let frames = json!({"session": session, "frames": [hello(9, &json!(0), 0, &[]), {"ping": 3}]});
    assert_eq!(ok(&world, "push", &frames).await, json!({"frames": [{"pong": 3}]}));
    let told = ok(&world, "poll", &poll).await;
    assert_eq!((&told["commands"][0]["seq"], &told["commands"][0]["body"]["taskId"]), (&json!(1), &json!(id)));
    let frames = json!({"session": session, "frames": [
        {"ack": 1},
        numbered(1, &progress(id, "a step")),
        placed(id, "text\n", 0, 9),
        placed(id, "hole\n", 12, 15),
        {"ping": 4},
    ]});
    let answer = ok(&world, "push", &frames).await;
    let place = |off| json!({"task": id, "off": off});
    assert_eq!(answer, json!({"ack": 1, "frames": [{"got": place(9)}, {"rewind": place(9)}, {"pong": 4}]}));
    assert_eq!(world.output(id).await, "text\n");
    let frames =
        json!({"session": session, "frames": [numbered(1, &progress(id, "a step")), numbered(2, &complete(id, None))]});
    assert_eq!(ok(&world, "push", &frames).await, json!({"ack": 2, "frames": []}));
    assert_eq!(world.task(id).await["success"], true);
}

/// Protects quick commands: a poll is held until there is one, and no longer than it is asked to.
#[tokio::test]
async fn a_poll_is_held_until_there_is_a_command() {
    let world = World::new().await;
    let session = session(&world, 0, &[]).await;
    let poll = |wait| json!({"session": session, "ack": 0, "wait": wait});
    let started = Instant::now();
    assert_eq!(ok(&world, "poll", &poll(1)).await["commands"], json!([]));
    assert!(started.elapsed() >= Duration::from_secs(1));
    let poll = poll(25);
    let (held, id) = tokio::join!(ok(&world, "poll", &poll), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.create("x").await
    });
    assert_eq!(held["commands"][0]["body"]["taskId"], json!(id));
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Protects the door.
#[tokio::test]
async fn who_is_not_answered() {
    let world = World::new().await;
    let authenticate = body(&authenticate("a", TOKEN))["body"].to_string();
    for what in ["session", "poll", "push"] {
        let url = world.url(&format!("{BASE}/{what}"));
        let post = || world.http.post(&url).body(authenticate.clone());
        for (request, status) in [
            (post(), 401),
            (post().bearer_auth("wrong"), 401),
            (post().bearer_auth(TOKEN).header("Host", "evil.example"), 421),
            (post().bearer_auth(TOKEN).header("Origin", "http://evil.example"), 403),
            (world.http.get(&url).bearer_auth(TOKEN), 405),
        ] {
            let response = soon(what, request.send()).await.unwrap();
            assert_eq!(response.status(), status, "{what}");
            assert!(response.json::<Value>().await.unwrap()["error"]["code"].is_string());
        }
    }
    assert_eq!(world.server().counters().wrong_keys, 2);
    for (what, body, status, code) in [
        ("session", "{}", 400, "authentication_required"),
        ("session", r#"{"type":"heartbeat","activeTasks":[]}"#, 400, "authentication_required"),
        ("poll", "rubbish", 400, "bad_body"),
        ("push", r#"{"session":"0193e5a0-0000-7000-8000-000000000001"}"#, 400, "bad_body"),
        ("poll", r#"{"session":"0193e5a0-0000-7000-8000-000000000001"}"#, 404, "no_such_session"),
        ("push", r#"{"session":"0193e5a0-0000-7000-8000-000000000001","frames":[]}"#, 404, "no_such_session"),
    ] {
        let response = ask(&world, what, body.to_owned()).await;
        assert_eq!(response.status(), status, "{what} {body}");
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], code);
    }
    let long = format!(r#"{{"session":"{}","frames":["{}"]}}"#, Uuid::nil(), "x".repeat(2 << 20));
    let response = ask(&world, "push", long).await;
    assert_eq!(
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["error"]["code"].as_str()),
        (413, Some("too_large"))
    );
    assert_eq!(world.json("/api/v1/daemons").await, json!([]));
}

/// Protects a command on its way while a daemon goes from long-poll to a WebSocket: the newest session has the say,
/// the poll that is open is answered at once, and what the old one did not acknowledge comes over the new one.
#[tokio::test]
async fn from_a_poll_to_a_websocket() {
    let world = World::new().await;
    let old = session(&world, 0, &[]).await;
    let first = world.create("one").await;
    let poll = json!({"session": old, "ack": 0, "wait": 25});
    let told = ok(&world, "poll", &poll).await;
    assert_eq!(told["commands"][0]["body"]["taskId"], json!(first));
    // It is held, and the command before it not acknowledged.
    let (held, mut two) = tokio::join!(ok(&world, "poll", &poll), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Two::let_in(&world, "a").await
    });
    assert_eq!(held, json!({"commands": [], "more": false}));
    // It is applied by now, over the other way.
    let epoch = two.hello["epoch"].clone();
    two.say(&hello(9, &epoch, 1, &[first])).await;
    assert!(two.all().await.is_empty(), "a command came twice");
    for (what, more) in
        [("poll", json!({"ack": 1})), ("push", json!({"frames": [numbered(1, &complete(first, None))]}))]
    {
        let mut request = more;
        request["session"] = old.clone();
        let (status, body) = asked(&world, what, &request).await;
        assert_eq!((status, &body["error"]["code"]), (409, &json!("superseded")));
    }
    assert!(world.task(first).await["success"].is_null(), "the old one is not heard any more");
    let second = world.create("two").await;
    let frame = two.hear().await;
    assert_eq!((&frame["seq"], &frame["body"]["taskId"]), (&json!(2), &json!(second)));
}

/// Protects from two polls that take each other's commands.
#[tokio::test]
async fn the_newer_of_two_polls_has_the_say() {
    let world = World::new().await;
    let session = session(&world, 0, &[]).await;
    let poll = json!({"session": session, "ack": 0, "wait": 25});
    let (older, (newer, id)) = tokio::join!(ok(&world, "poll", &poll), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::join!(ok(&world, "poll", &poll), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            world.create("x").await
        })
    });
    assert_eq!(older, json!({"commands": [], "more": false}));
    assert_eq!(newer["commands"][0]["body"]["taskId"], json!(id));
}

/// Protects the numbers: what cannot go on ends the session, and the next one can.
#[tokio::test]
async fn numbers_that_cannot_go_on() {
    let world = World::new().await;
    let id = world.create("x").await;
    let old = session(&world, 0, &[]).await;
    let push = |session: &Value, frames: Value| json!({"session": session, "frames": frames});
    ok(&world, "poll", &json!({"session": old, "ack": 0, "wait": 1})).await;
    ok(&world, "poll", &json!({"session": old, "ack": 1, "wait": 0})).await;
    for what in ["push", "push", "poll"] {
        let mut request = push(&old, json!([numbered(3, &progress(id, "too early"))]));
        request["ack"] = json!(1);
        let (status, body) = asked(&world, what, &request).await;
        assert_eq!((status, &body["error"]["code"]), (409, &json!("out_of_order")), "{what}");
    }
    // It has lost what it had applied.
    let opened = ok(&world, "session", &body(&authenticate("a", TOKEN))["body"]).await;
    let said = push(&opened["session"], json!([hello(10, &json!(0), 0, &[])]));
    let (status, body) = asked(&world, "push", &said).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("renumbered")));
    let new = session(&world, 0, &[]).await;
    let told = ok(&world, "poll", &json!({"session": new, "ack": 0, "wait": 25})).await;
    assert_eq!((&told["commands"][0]["seq"], &told["commands"][0]["body"]["taskId"]), (&json!(1), &json!(id)));
}

/// Protects an end of the server from a poll that is held, and a session from the server's end.
#[tokio::test]
async fn a_session_does_not_outlive_the_server_but_its_numbers_do() {
    let mut world = World::new().await;
    let id = world.create("x").await;
    let old = session(&world, 0, &[]).await;
    let poll = json!({"session": old, "ack": 0, "wait": 25});
    assert_eq!(ok(&world, "poll", &poll).await["commands"][0]["seq"], 1);
    let frames = json!({"session": old, "frames": [numbered(1, &progress(id, "a step")), placed(id, "one\n", 0, 4)]});
    ok(&world, "push", &frames).await;
    let url = world.url(&format!("{BASE}/poll"));
    let held = world.http.post(url).bearer_auth(TOKEN).body(poll.to_string()).send();
    let held = tokio::spawn(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    world.stop().await;
    assert!(started.elapsed() < Duration::from_secs(3));
    drop(held);
    world.start().await;
    assert_eq!(asked(&world, "poll", &poll).await.0, 404);
    let new = session(&world, 0, &[]).await;
    let told = ok(&world, "poll", &json!({"session": new, "ack": 0, "wait": 25})).await;
    assert_eq!((&told["commands"][0]["seq"], told["commands"].as_array().unwrap().len()), (&json!(1), 1));
    let frames = json!({"session": new, "frames": [
        numbered(1, &progress(id, "a step")), placed(id, "one\n", 0, 4), placed(id, "two\n", 4, 8),
    ]});
    assert_eq!(ok(&world, "push", &frames).await, json!({"ack": 1, "frames": [{"got": {"task": id, "off": 8}}]}));
    assert_eq!(world.output(id).await, "one\ntwo\n");
}

/// The daemon's own end of a link.
struct Real {
    handle: LinkHandle,
    events: mpsc::Receiver<(Epoch, LinkEvent)>,
    n: u64,
}

impl Real {
    async fn open(world: &World, way: Way) -> (Self, Value) {
        let (sender, events) = mpsc::channel(64);
        let endpoint = endpoint(&format!("http://{}", world.server().address())).unwrap();
        let mut real = Self { handle: open(endpoint, way, Epoch(1), sender), events, n: 0 };
        assert_eq!(real.event().await, LinkEvent::Up(Wire::Two));
        real.say(&body(&authenticate("a", TOKEN)));
        assert_eq!(real.frame().await["body"]["type"], "authenticated");
        let hello = real.frame().await["hello"].clone();
        (real, hello)
    }

    async fn event(&mut self) -> LinkEvent {
        soon("an event", self.events.recv()).await.unwrap().1
    }

    async fn frame(&mut self) -> Value {
        loop {
            match self.event().await {
                LinkEvent::Flushed(_) | LinkEvent::Pong(_) => {}
                LinkEvent::Frame(text) => return serde_json::from_str(&text).unwrap(),
                wrong @ (LinkEvent::Up(_) | LinkEvent::Down(_) | LinkEvent::Binary(_)) => panic!("{wrong:?}"),
            }
        }
    }

    fn say(&mut self, frame: &Value) {
        self.n += 1;
        self.handle.send(Outgoing::Message { n: self.n, text: frame.to_string() });
    }
}

/// Protects the two ends from each other: the daemon's transport and this server, both ways, and from one to the other
/// with the old one let finish.
#[tokio::test]
async fn the_daemons_own_transport() {
    let world = World::new().await;
    let (mut poll, ours) = Real::open(&world, Way::LongPoll).await;
    poll.say(&hello(9, &json!(0), 0, &[]));
    for seq in 1..20_u64 {
        let id = world.create("x").await;
        let command = poll.frame().await;
        assert_eq!((&command["seq"], &command["body"]["taskId"]), (&json!(seq), &json!(id)));
        poll.say(&json!({"ack": seq}));
        poll.say(&numbered(seq, &complete(id, None)));
        assert_eq!(poll.frame().await, json!({"ack": seq}));
        assert_eq!(world.task(id).await["success"], true);
    }
    let (mut socket, hello_again) = Real::open(&world, Way::WebSocket).await;
    poll.handle.send(Outgoing::Quiesce);
    assert_eq!(hello_again["epoch"], ours["epoch"]);
    assert_eq!((&hello_again["of"], &hello_again["applied"]), (&json!(9), &json!(19)));
    socket.say(&hello(9, &ours["epoch"], 19, &[]));
    let quiet = loop {
        if let LinkEvent::Down(cause) = poll.event().await {
            break cause;
        }
    };
    assert_eq!(quiet, LinkCause::Closed("quiesced".to_owned()));
    let id = world.create("over the other").await;
    assert_eq!(socket.frame().await["body"]["taskId"], json!(id));
    drop(socket);
    until("it is gone", async || world.json("/api/v1/daemons").await[0]["connected"] == false).await;
}
