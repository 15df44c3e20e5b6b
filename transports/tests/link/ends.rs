//! How a link ends.

use std::time::{Duration, Instant};

use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use makima_transports::{LinkEvent, Outgoing, Timeouts};
use tokio::io::AsyncWriteExt;

use crate::support::{CLOSE, Link, at, broken, options, serve_upgraded, within};

const MIB: usize = 1 << 20;

/// Protects the reason that a server gives, and the good order: it gets its close back.
#[tokio::test]
async fn a_close_by_the_server_is_answered_and_told() {
    for (payload, told) in [
        (&b""[..], "without a reason"),
        (b"\x03\xe8", "1000 done"),
        (b"\x03\xe9back soon", "1001 going away back soon"),
        (b"\x03\xf0bad\nkey", "1008 against its policy bad key"),
        (b"\x03\xf3", "1011 server error"),
        (b"\x0f\xa0ours", "4000 ours"),
    ] {
        let (address, server) = serve_upgraded(async move |mut peer| {
            peer.send(CLOSE, payload).await;
            let answer = peer.receive().await;
            peer.gone().await;
            answer
        })
        .await;
        let mut link = Link::up(address).await;
        assert_eq!(link.events.down().await, LinkCause::Closed(told.to_owned()));
        assert_eq!(within(server).await.unwrap(), (CLOSE, payload.to_vec()));
    }
}

/// Protects the reason that a server gave before it tore the connection down in the middle of what we sent.
#[tokio::test]
async fn last_words_before_a_reset_are_heard() {
    for _ in 0..20 {
        let (address, server) = serve_upgraded(async |mut peer| {
            // Something is under way; closing with the rest of it unread is a reset.
            peer.receive_text().await;
            for _ in 0..5 {
                peer.send(1, b"no").await;
            }
            peer.send(CLOSE, b"\x03\xf0enough").await;
        })
        .await;
        let mut link = Link::up(address).await;
        let line = "x".repeat(MIB);
        (0..16).for_each(|n| link.message(n, &line));
        within(server).await.unwrap();
        for _ in 0..5 {
            assert_eq!(link.events.received().await, LinkEvent::Frame("no".to_owned()));
        }
        assert_eq!(link.events.down().await, LinkCause::Closed("1008 against its policy enough".to_owned()));
    }
}

/// Protects the difference between a server that says farewell and one that is torn away.
#[tokio::test]
async fn an_end_without_a_close() {
    let (address, _server) = serve_upgraded(async |_peer| {}).await;
    let mut link = Link::up(address).await;
    assert_eq!(broken(link.events.down().await), "the connection ended without a close");
}

/// Protects memory: the limit is the limit, in one frame and in many, and the reason names the size.
#[tokio::test]
async fn a_message_that_is_too_large() {
    let (address, _server) = serve_upgraded(async |mut peer| {
        peer.send_head(0x81, 17 * MIB, b"the rest never has to come").await;
        peer.gone().await;
    })
    .await;
    let text = broken(Link::up(address).await.events.down().await);
    assert_eq!(text, "a message of 17825792 bytes, of which at most 16777216 are taken");

    let (address, _server) = serve_upgraded(async |mut peer| {
        let part = vec![b'x'; MIB];
        peer.send_head(0x01, MIB, &part).await;
        for _ in 1..17 {
            peer.send_head(0x00, MIB, &part).await;
        }
        peer.gone().await;
    })
    .await;
    let text = broken(Link::up(address).await.events.down().await);
    assert_eq!(text, "a message of 17825792 bytes, of which at most 16777216 are taken");
}

/// Protects the largest message there may be.
#[tokio::test]
async fn a_message_as_large_as_may_be() {
    let (address, _server) = serve_upgraded(async |mut peer| {
        peer.send_head(0x81, 16 * MIB, &vec![b'x'; 16 * MIB]).await;
        peer.gone().await;
    })
    .await;
    let mut link = Link::up(address).await;
    let LinkEvent::Frame(text) = link.events.next().await else { panic!("no frame") };
    assert_eq!(text.len(), 16 * MIB);
}

/// Protects from servers that speak something else once they are let.
#[tokio::test]
async fn rubbish_ends_the_link() {
    for rubbish in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[0x83, 0x00],                   // an opcode that does not exist
        &[0xc1, 0x01, b'x'],             // compressed, which nobody asked for
        &[0x81, 0x81, 0, 0, 0, 0, b'x'], // masked, which only clients do
        &[0x81, 0x02, 0xc3, 0x28],       // not UTF-8
        &[0x80, 0x01, b'x'],             // goes on with nothing
        &[0x89, 0x7e, 0x00, 0x7e],       // a ping that is too long
    ] {
        let (address, _server) = serve_upgraded(async move |mut peer| {
            peer.stream.write_all(&[rubbish, &[0; 200]].concat()).await.unwrap();
            peer.gone().await;
        })
        .await;
        let text = broken(Link::up(address).await.events.down().await);
        assert!(text.starts_with("what came is no WebSocket: "), "{text}");
    }
}

/// Protects the good order on our side: what was given is sent, then the close, then the socket is closed;
/// the same for a handle that is dropped and one that is told.
#[tokio::test]
async fn an_end_on_our_side() {
    for drops in [true, false] {
        let (address, server) = serve_upgraded(async |mut peer| {
            let last = peer.receive_text().await;
            let close = peer.receive().await.0;
            // What was under way is still heard.
            peer.send(1, b"one more").await;
            peer.send(CLOSE, &[]).await;
            peer.gone().await;
            (last, close)
        })
        .await;
        let mut link = Link::up(address).await;
        link.message(1, "last");
        let kept = if drops {
            drop(link.handle);
            None
        } else {
            link.handle.send(Outgoing::Close);
            link.message(2, "too late");
            Some(link.handle)
        };
        assert_eq!(link.events.received().await, LinkEvent::Frame("one more".to_owned()));
        assert_eq!(link.events.down().await, LinkCause::Closed("closed by this side".to_owned()));
        assert_eq!(within(server).await.unwrap(), ("last".to_owned(), CLOSE));
        drop(kept);
    }
}

/// Protects the end itself: it comes though the server neither reads nor answers.
#[tokio::test]
async fn an_end_that_the_server_does_not_join_in() {
    for messages in [0, 64] {
        let (address, _server) = serve_upgraded(async |peer| {
            tokio::time::sleep(crate::support::LIMIT).await;
            drop(peer);
        })
        .await;
        let timeouts = Timeouts { close: Duration::from_millis(300), ..Timeouts::default() };
        let mut link = Link::open_with(at(address), options(timeouts), 16);
        assert_eq!(link.events.next().await, LinkEvent::Up(Wire::One));
        let line = "x".repeat(MIB);
        (0..messages).for_each(|n| link.message(n, &line));
        let start = Instant::now();
        drop(link.handle);
        assert_eq!(link.events.down().await, LinkCause::Closed("closed by this side".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

/// Protects from a task and a socket that outlive everybody who wants them.
#[tokio::test]
async fn nobody_listens_any_more() {
    let (address, server) = serve_upgraded(async |mut peer| {
        peer.send(1, b"anybody?").await;
        peer.send(1, b"hello?").await;
        peer.gone().await;
    })
    .await;
    let link = Link::up(address).await;
    drop(link.events);
    within(server).await.unwrap();
}
