//! Long-poll against a server that does as it is written.

use std::time::Duration;

use makima_core::effect::Piece;
use makima_core::input::LinkCause;
use makima_transports::{LinkEvent, Outgoing, Timeouts};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::requests::{KEY, Server, at, authenticate, greeted, hello_body, link, opened, send};
use crate::support::options;

fn frame(event: LinkEvent) -> Value {
    let LinkEvent::Frame(text) = event else { panic!("{event:?}") };
    serde_json::from_str(&text).unwrap()
}

/// Protects the wire: what is asked, with which headers, and what becomes of the answers.
#[tokio::test]
async fn a_session_from_its_beginning() {
    let mut server = Server::start().await;
    let mut link = link(at(server.address), options(Timeouts::default()));
    authenticate(&mut link).await;
    let session = server.session().await;
    assert!(session.head.starts_with("POST /x/session HTTP/1.1\r\n"), "{}", session.head);
    assert_eq!(session.header("Authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(session.header("Makima-Wire"), Some("2"));
    assert_eq!(session.header("Content-Type"), Some("application/json"));
    assert_eq!(session.body, hello_body());
    let pushes = session.connection;
    session.say(opened());
    greeted(&mut link.events).await;

    let poll = server.poll().await;
    assert!(poll.head.starts_with("POST /x/poll HTTP/1.1\r\n"), "{}", poll.head);
    assert_eq!(poll.header("Authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(poll.json(), json!({"session": "s-1", "ack": 0, "wait": 25}));
    assert_ne!(poll.connection, pushes, "a poll that is held stands before nothing");

    let said = json!({"hello": {"epoch": 9, "of": 5, "applied": 0, "tasks": []}});
    send(&link, 2, &said);
    let push = server.push().await;
    assert_eq!(push.json(), json!({"session": "s-1", "frames": [said]}));
    assert_eq!((push.header("Makima-Wire"), push.connection), (Some("2"), pushes));
    assert!(link.events.is_quiet(), "nothing is flushed before the answer");
    let got = json!({"got": {"task": Uuid::nil(), "off": 3}});
    push.say(json!({"ack": 7, "frames": [got, {"pong": 4}]}));
    assert_eq!(link.events.next().await, LinkEvent::Flushed(2));
    assert_eq!(frame(link.events.next().await), json!({"ack": 7}));
    assert_eq!(frame(link.events.next().await), got);
    assert_eq!(frame(link.events.next().await), json!({"pong": 4}));

    let command = json!({"seq": 1, "body": {"type": "pauseTask", "taskId": Uuid::nil()}});
    poll.commands(json!([command]));
    assert_eq!(frame(link.events.next().await), command);
    link.handle.send(Outgoing::Close);
    assert_eq!(link.events.down().await, LinkCause::Closed("closed by this side".to_owned()));
}

/// Protects an acknowledgement from a request of its own where the next poll can take it, and from waiting for one
/// that is held.
#[tokio::test]
async fn an_acknowledgement_alone() {
    let mut server = Server::start().await;
    let (mut link, poll) = server.link(Timeouts::default()).await;
    poll.commands(json!([{"seq": 1}]));
    frame(link.events.next().await);
    send(&link, 2, &json!({"ack": 1}));
    let poll = server.poll().await;
    assert_eq!(poll.json()["ack"], 1, "it went along");
    sleep(Duration::from_millis(100)).await;
    assert!(server.no_push());
    assert!(link.events.is_quiet());
    poll.commands(json!([{"seq": 2}]));
    assert_eq!(link.events.next().await, LinkEvent::Flushed(2));
    assert_eq!(frame(link.events.next().await), json!({"seq": 2}));

    // Nobody acknowledges that one for a while: the server is asked all the same.
    let poll = server.poll().await;
    assert_eq!(poll.json()["ack"], 1);
    send(&link, 3, &json!({"ack": 2}));
    let push = server.push().await;
    assert_eq!(push.json()["frames"], json!([{"ack": 2}]));
    push.say(json!({}));
    assert_eq!(link.events.next().await, LinkEvent::Flushed(3));
    drop(poll);
}

/// Protects the order: one push at a time, all that waited in the next, none too large.
#[tokio::test]
async fn pushes_are_batched_in_order() {
    let mut server = Server::start().await;
    let (mut link, _poll) = server.link(Timeouts::default()).await;
    send(&link, 2, &json!({"ping": 0}));
    let first = server.push().await;
    let text = "x".repeat(300 << 10);
    for n in 3..13 {
        send(&link, n, &json!({"seq": n, "body": {"text": text}}));
    }
    sleep(Duration::from_millis(50)).await;
    assert!(server.no_push(), "two at once");
    first.say(json!({"frames": []}));
    assert_eq!(link.events.next().await, LinkEvent::Flushed(2));
    let mut next = 3;
    while next < 13 {
        let push = server.push().await;
        assert!(push.body.len() <= 1 << 20, "{}", push.body.len());
        let json = push.json();
        let frames = json["frames"].as_array().unwrap();
        assert!(frames.len() >= 2 || next == 12, "{}", frames.len());
        for frame in frames {
            assert_eq!(frame["seq"], next);
            next += 1;
        }
        push.say(json!({}));
        assert_eq!(link.events.next().await, LinkEvent::Flushed(next - 1));
    }
    // One that is larger than a push goes by itself.
    send(&link, 13, &json!({"seq": 13, "body": {"text": "y".repeat(2 << 20)}}));
    send(&link, 14, &json!({"seq": 14}));
    for n in [13, 14] {
        let push = server.push().await;
        assert_eq!(push.json()["frames"].as_array().unwrap().len(), 1);
        push.say(json!({}));
        assert_eq!(link.events.next().await, LinkEvent::Flushed(n));
    }
}

/// Protects what the core gives in the forms of the other version.
#[tokio::test]
async fn output_and_pings_become_frames() {
    let mut server = Server::start().await;
    let (mut link, _poll) = server.link(Timeouts::default()).await;
    let pieces = vec![Piece { start: 0, end: 1, partial: false }, Piece { start: 2, end: 3, partial: true }];
    link.handle.send(Outgoing::Output { n: 2, task: Uuid::nil(), text: "a\nb".to_owned(), pieces });
    link.handle.send(Outgoing::Ping { n: 3 });
    let mut frames = Vec::new();
    while frames.len() < 3 {
        let push = server.push().await;
        frames.extend(push.json()["frames"].as_array().unwrap().clone());
        push.say(json!({}));
    }
    let output = |text, partial| json!({"body": {"type": "taskOutput", "taskId": Uuid::nil(), "output": text, "isPartial": partial}});
    assert_eq!(frames, [output("a", false), output("b", true), json!({"ping": 3})]);
    link.events.flushed(3).await;
}

/// Protects commands on their way while the daemon changes over to another link: the open poll is let finish, what it
/// brings is told, what is still to be sent is sent, and nothing is asked for any more.
#[tokio::test]
async fn a_quiet_end_lets_the_poll_finish() {
    let mut server = Server::start().await;
    let (mut link, poll) = server.link(Timeouts::default()).await;
    link.handle.send(Outgoing::Quiesce);
    sleep(Duration::from_millis(50)).await;
    assert!(link.events.is_quiet());
    send(&link, 2, &json!({"seq": 1}));
    server.push().await.say(json!({"ack": 1}));
    assert_eq!(link.events.next().await, LinkEvent::Flushed(2));
    assert_eq!(frame(link.events.next().await), json!({"ack": 1}));
    poll.commands(json!([{"seq": 1}, {"seq": 2}]));
    assert_eq!(frame(link.events.next().await), json!({"seq": 1}));
    assert_eq!(frame(link.events.next().await), json!({"seq": 2}));
    assert_eq!(link.events.down().await, LinkCause::Closed("quiesced".to_owned()));
    assert!(server.no_poll());
}

/// Protects the same where nothing is open.
#[tokio::test]
async fn a_quiet_end_between_two_polls_and_before_a_session() {
    let mut server = Server::start().await;
    let (mut link, poll) = server.link(Timeouts::default()).await;
    poll.commands(json!([{"seq": 1}]));
    frame(link.events.next().await);
    link.handle.send(Outgoing::Quiesce);
    assert_eq!(link.events.down().await, LinkCause::Closed("quiesced".to_owned()));

    let mut early = crate::requests::link(at(server.address), options(Timeouts::default()));
    early.handle.send(Outgoing::Quiesce);
    assert_eq!(early.events.received().await, LinkEvent::Down(LinkCause::Closed("quiesced".to_owned())));
}

/// Protects the last words: what was given before is sent, though the server holds a poll.
#[tokio::test]
async fn an_end_sends_what_was_given() {
    for drops in [false, true] {
        let mut server = Server::start().await;
        let (mut link, _poll) = server.link(Timeouts::default()).await;
        send(&link, 2, &json!({"seq": 1}));
        if drops {
            drop(link.handle);
        } else {
            link.handle.send(Outgoing::Close);
        }
        let push = server.push().await;
        assert_eq!(push.json()["frames"], json!([{"seq": 1}]));
        push.say(json!({}));
        assert_eq!(link.events.next().await, LinkEvent::Flushed(2));
        assert_eq!(link.events.down().await, LinkCause::Closed("closed by this side".to_owned()));
    }
}

/// Protects the end from a server that does not join in it.
#[tokio::test]
async fn an_end_that_nobody_answers() {
    let mut server = Server::start().await;
    let timeouts = Timeouts { close: Duration::from_millis(200), ..Timeouts::default() };
    let (mut link, _poll) = server.link(timeouts).await;
    send(&link, 2, &json!({"seq": 1}));
    let _push = server.push().await;
    drop(link.handle);
    assert_eq!(link.events.down().await, LinkCause::Closed("closed by this side".to_owned()));
}

/// Protects the server: it is asked at once where there is more, and not without end where there is nothing.
#[tokio::test]
async fn the_pace_of_polls() {
    let mut server = Server::start().await;
    let (link, mut poll) = server.link(Timeouts::default()).await;
    let start = std::time::Instant::now();
    for _ in 0..20 {
        poll.say(json!({"commands": [], "more": true}));
        poll = server.poll().await;
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let start = std::time::Instant::now();
    for _ in 0..20 {
        poll.commands(json!([]));
        poll = server.poll().await;
    }
    let took = start.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(8), "{took:?}");
    drop(link);
}

/// Protects the end from the moment at which a handle is half dropped, as another thread can see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_that_is_dropped_on_another_thread() {
    let mut server = Server::start().await;
    for _ in 0..100 {
        let (mut link, _poll) = server.link(Timeouts::default()).await;
        drop(link.handle);
        assert_eq!(link.events.down().await, LinkCause::Closed("closed by this side".to_owned()));
    }
}
