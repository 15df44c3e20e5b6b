//! Frames both ways.

use makima_core::effect::Piece;
use makima_core::protocol::{DaemonMessage, TaskOutput, Wire};
use makima_transports::{LinkEvent, Outgoing, Timeouts};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::support::{BINARY, CLOSE, Link, PING, PONG, at, broken, options, serve_upgraded, within};

const TASK: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

/// Protects the wire: every piece is one message, the bytes are those of the ordinary way, the order is the
/// one in which things were given, and the last number is the one that is reported.
#[tokio::test]
async fn output_and_messages_go_out_in_order() {
    let (address, server) = serve_upgraded(async |mut peer| {
        let mut frames = Vec::new();
        for _ in 0..5 {
            frames.push(peer.receive_text().await);
        }
        (frames, peer)
    })
    .await;
    let mut link = Link::up(address).await;
    let text = "first \"line\"\nsecond, \u{65e5}\u{672c}\nthi".to_owned();
    let cut = |start: usize, end: usize, partial| Piece { start: start as u32, end: end as u32, partial };
    let pieces = vec![cut(0, 12, false), cut(13, 27, false), cut(28, 31, true)];
    link.message(1, "before");
    link.handle.send(Outgoing::Output { n: 4, task: TASK, text: text.clone(), pieces: pieces.clone() });
    link.handle.send(Outgoing::Output { n: 4, task: TASK, text: String::new(), pieces: Vec::new() });
    link.message(5, "behind");
    link.events.flushed(5).await;
    let output = |piece: &Piece| {
        let output = text[piece.start as usize..piece.end as usize].to_owned();
        DaemonMessage::from(TaskOutput { task_id: TASK, output, is_partial: piece.partial }).write()
    };
    let mut expected = vec!["before".to_owned()];
    expected.extend(pieces.iter().map(output));
    expected.push("behind".to_owned());
    let (frames, _peer) = within(server).await.unwrap();
    assert_eq!(frames, expected);
}

/// Protects the session from a frame that the wire does not have: it is told and nothing more.
#[tokio::test]
async fn a_binary_frame_does_not_end_the_link() {
    let (address, _server) = serve_upgraded(async |mut peer| {
        peer.send(BINARY, &[0xff; 300]).await;
        peer.send(1, b"and on").await;
        peer.gone().await;
    })
    .await;
    let mut link = Link::up(address).await;
    assert_eq!(link.events.next().await, LinkEvent::Binary(300));
    assert_eq!(link.events.next().await, LinkEvent::Frame("and on".to_owned()));
}

/// Protects delivery, which is concluded from answered pings: only our own count, and each once.
#[tokio::test]
async fn only_answers_to_our_own_pings_are_told() {
    let (address, _server) = serve_upgraded(async |mut peer| {
        assert_eq!(peer.receive().await, (PING, 41_u64.to_be_bytes().to_vec()));
        assert_eq!(peer.receive().await, (PING, 42_u64.to_be_bytes().to_vec()));
        for payload in [&b""[..], b"12345678", b"123456789", &43_u64.to_be_bytes()] {
            peer.send(PONG, payload).await;
        }
        // One answer for both, then answers to what is answered already.
        for n in [42_u64, 42, 41] {
            peer.send(PONG, &n.to_be_bytes()).await;
        }
        peer.send(1, b"end").await;
        peer.gone().await;
    })
    .await;
    let mut link = Link::up(address).await;
    link.handle.send(Outgoing::Ping { n: 41 });
    link.handle.send(Outgoing::Ping { n: 42 });
    assert_eq!(link.events.received().await, LinkEvent::Pong(42));
    assert_eq!(link.events.received().await, LinkEvent::Frame("end".to_owned()));
}

/// Protects the server's own watchdog: it is answered at once though we have nothing to send.
#[tokio::test]
async fn a_ping_of_the_server_is_answered() {
    let (address, server) = serve_upgraded(async |mut peer| {
        peer.send(PING, b"there?").await;
        peer.receive().await
    })
    .await;
    let _link = Link::up(address).await;
    assert_eq!(within(server).await.unwrap(), (PONG, b"there?".to_vec()));
}

/// Protects one direction from the other: a server that does not read is still heard, nothing is called
/// flushed that is not, and after a while the link is given up.
#[tokio::test]
async fn a_server_that_never_reads() {
    let (started, start) = oneshot::channel();
    let (address, _server) = serve_upgraded(async |mut peer| {
        start.await.unwrap();
        for _ in 0..10 {
            peer.send(1, b"heard").await;
        }
        peer
    })
    .await;
    let timeouts = Timeouts { stall: std::time::Duration::from_secs(1), ..Timeouts::default() };
    let mut link = Link::open_with(at(address), options(timeouts), 16);
    assert_eq!(link.events.next().await, LinkEvent::Up(Wire::One));
    let line = "x".repeat(1 << 20);
    for n in 1..=64 {
        link.message(n, &line);
    }
    started.send(()).unwrap();
    for _ in 0..10 {
        assert_eq!(link.events.received().await, LinkEvent::Frame("heard".to_owned()));
    }
    let mut last = link.events.next().await;
    while let LinkEvent::Flushed(n) = last {
        assert!(n < 64);
        last = link.events.next().await;
    }
    let LinkEvent::Down(cause) = last else { panic!("{last:?}") };
    assert_eq!(broken(cause), "the server took nothing of what was sent for 1 s");
}

/// Protects the same the other way round: a user who takes no events stops what is received and nothing else.
#[tokio::test]
async fn a_user_who_takes_no_events() {
    const FRAMES: usize = 1_000;
    let (address, server) = serve_upgraded(async |mut peer| {
        for _ in 0..FRAMES {
            peer.send(1, b"much").await;
        }
        for n in 1..=100 {
            assert_eq!(peer.receive_text().await, n.to_string());
        }
        peer
    })
    .await;
    let mut link = Link::open_with(at(address), options(Timeouts::default()), 1);
    for n in 1..=100 {
        link.message(n, &n.to_string());
    }
    // Nobody has taken an event, not even that it is up.
    let _peer = within(server).await.unwrap();
    assert_eq!(link.events.next().await, LinkEvent::Up(Wire::One));
    let mut flushed = 0;
    let mut frames = 0;
    while frames < FRAMES {
        let event = link.events.next().await;
        if let LinkEvent::Flushed(n) = event {
            flushed = n;
        } else {
            assert_eq!(event, LinkEvent::Frame("much".to_owned()));
            frames += 1;
        }
    }
    if flushed < 100 {
        link.events.flushed(100).await;
    }
    assert!(link.events.is_quiet());
}

/// Protects the promise that futures may move between threads, and sending under way while much comes in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_at_full_speed_on_two_threads() {
    const EACH: u64 = 20_000;
    let (address, server) = serve_upgraded(async |peer| {
        let (reader, writer) = peer.stream.into_split();
        let mut writer = crate::support::Peer { stream: tokio::io::join(tokio::io::empty(), writer) };
        let mut reader = crate::support::Peer { stream: tokio::io::join(reader, tokio::io::sink()) };
        let send = async {
            for n in 0..EACH {
                writer.send(1, n.to_string().as_bytes()).await;
            }
        };
        let receive = async {
            for n in 0..EACH {
                assert_eq!(reader.receive_text().await, n.to_string());
            }
            assert_eq!(reader.receive().await.0, CLOSE);
        };
        tokio::join!(send, receive);
        writer.send(CLOSE, &[]).await;
    })
    .await;
    let mut link = Link::up(address).await;
    for n in 0..EACH {
        link.message(n, &n.to_string());
    }
    for n in 0..EACH {
        assert_eq!(link.events.received().await, LinkEvent::Frame(n.to_string()));
    }
    link.handle.send(Outgoing::Close);
    link.events.down().await;
    within(server).await.unwrap();
}
