//! Getting a connection, or a reason why there is none.

use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use makima_core::time::Millis;
use makima_transports::{LinkEvent, Options, Outgoing, endpoint};
use soketto::handshake::Server;
use soketto::handshake::server::Response;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::support::{Link, Peer, at, broken, header, options, request, serve, short, unreachable, within};

/// Protects the common ground: a server that shares no code with ours, selects no subprotocol and knows no
/// header of ours.
#[tokio::test]
async fn another_library_s_server_understands_us() {
    let (address, server) = serve(async |stream| {
        let mut server = Server::new(stream.compat());
        let key = server.receive_request().await.unwrap().key();
        server.send_response(&Response::Accept { key, protocol: None }).await.unwrap();
        let (mut sender, mut receiver) = server.into_builder().finish();
        let mut text = Vec::new();
        receiver.receive_data(&mut text).await.unwrap();
        sender.send_text("to you").await.unwrap();
        sender.flush().await.unwrap();
        let closed = receiver.receive_data(&mut Vec::new()).await;
        (String::from_utf8(text).unwrap(), closed.is_err())
    })
    .await;
    let mut link = Link::up(address).await;
    link.message(1, "to me");
    assert_eq!(link.events.received().await, LinkEvent::Frame("to you".to_owned()));
    link.handle.send(Outgoing::Close);
    assert!(matches!(link.events.down().await, LinkCause::Closed(_)));
    assert_eq!(within(server).await.unwrap(), ("to me".to_owned(), true));
}

/// Protects servers that refuse what they do not know: the handshake is the plainest one there is.
#[tokio::test]
async fn the_request_asks_for_a_websocket_and_a_wire() {
    let (address, server) = serve(async |mut stream| request(&mut stream).await).await;
    let _link = Link::open(address);
    let request = within(server).await.unwrap();
    assert!(request.starts_with("GET /x HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "Host"), Some(address.to_string().as_str()));
    assert_eq!(header(&request, "Connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(header(&request, "Upgrade"), Some("websocket"));
    assert_eq!(header(&request, "Sec-WebSocket-Version"), Some("13"));
    assert_eq!(header(&request, "Makima-Wire"), Some("2"));
    for absent in ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Authorization", "Origin"] {
        assert_eq!(header(&request, absent), None, "{absent}");
    }
}

/// Protects servers of before from envelopes: only the very answer grants them.
#[tokio::test]
async fn the_wire_is_what_the_server_answers() {
    for (headers, wire) in [
        ("", Wire::One),
        ("Makima-Wire: 2\r\n", Wire::Two),
        ("makima-wire:  2 \r\n", Wire::Two),
        ("Makima-Wire: 1\r\n", Wire::One),
        ("Makima-Wire: 22\r\n", Wire::One),
        ("Makima-Wire: \r\n", Wire::One),
    ] {
        let (address, _server) = serve(async move |stream| Peer::accept_with(stream, headers).await.gone().await).await;
        assert_eq!(Link::open(address).events.next().await, LinkEvent::Up(wire), "{headers}");
    }
}

/// Protects servers and daemons that are to stay with the version of before.
#[tokio::test]
async fn version_2_is_not_spoken_unasked() {
    let (address, server) = serve(async |stream| {
        let mut stream = tokio::io::BufStream::new(stream);
        let asked = request(&mut stream).await;
        (asked, stream)
    })
    .await;
    let mut link = Link::open_with(at(address), Options { wire: Wire::One, ..Options::default() }, 16);
    let (asked, mut stream) = within(server).await.unwrap();
    assert_eq!(header(&asked, "Makima-Wire"), None);
    let accept = derive_accept_key(header(&asked, "Sec-WebSocket-Key").unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\nMakima-Wire: 2\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(link.events.next().await, LinkEvent::Up(Wire::One));
}

/// Protects the core's choice between a server that refuses and something on the way that does.
#[tokio::test]
async fn answers_that_are_no_upgrade_are_told_apart() {
    let long = "x".repeat(100_000);
    for (status, headers, body, by_server, html, detail) in [
        (401, "Content-Type: application/json", r#"{"code":"bad"}"#, true, false, r#"{"code":"bad"}"#),
        (403, "Content-Type: text/html", "<h1>No\r\n  entry</h1>", false, true, "<h1>No entry</h1>"),
        (404, "X: y", "", false, false, ""),
        (404, "Content-Type: application/json", "", false, false, ""),
        (404, "Content-Type: text/html", "", false, false, ""),
        (200, "X: y", "\n <!DOCTYPE html><p>", false, true, "<!DOCTYPE html><p>"),
        (403, "X: y", "<HTML>", false, true, "<HTML>"),
        (429, "X: y", r#" {"retry": 1}"#, true, false, r#"{"retry": 1}"#),
        (429, "X: y", "[]", false, false, "[]"),
        (400, "Content-Type: Application/Problem+JSON; charset=utf-8", "{\"cut", true, false, "{\"cut"),
        (503, "Makima-Wire: 1", "<p>", true, false, "<p>"),
        (200, "X: y", "\u{1b}[2J\u{7}hello", false, false, "[2J hello"),
        (302, "Location: /elsewhere", "moved", false, false, "moved"),
        (502, "Content-Type: text/html", &long, false, true, &long[..200]),
    ] {
        let answer =
            format!("HTTP/1.1 {status} Something\r\n{headers}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (address, _server) = serve(async move |mut stream| {
            request(&mut stream).await;
            // The other end need not read a long body to its end.
            let _ = stream.write_all(answer.as_bytes()).await;
            // One request only: no redirect was followed, nothing was tried again.
            Peer { stream }.gone().await;
        })
        .await;
        let expected = LinkCause::Refused { status, by_server, html, retry_after: None, detail: detail.to_owned() };
        assert_eq!(Link::open(address).events.down().await, expected);
    }
}

/// Protects servers that are busy from being asked before they can bear it.
#[tokio::test]
async fn a_server_says_when_to_come_back() {
    for (value, expected) in [
        ("7", 7_000..=7_000),
        ("4000", 300_000..=300_000),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 300_000..=300_000),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0..=0),
    ] {
        let (address, _server) = serve(async move |mut stream| {
            request(&mut stream).await;
            let answer = format!("HTTP/1.1 503 Busy\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let cause = Link::open(address).events.down().await;
        let LinkCause::Refused { status: 503, retry_after: Some(Millis(wait)), .. } = cause else {
            panic!("{cause:?}")
        };
        assert!(expected.contains(&wait), "{value}: {wait}");
    }
}

/// Protects the daemon from servers that hang.
#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let (address, _server) = serve(async |stream| Peer { stream }.gone().await).await;
    let mut link = Link::open_with(at(address), options(short()), 16);
    assert_eq!(broken(link.events.down().await), "no answer to the handshake within 0.3 s");
}

/// Protects the reason that a person gets to see.
#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(unreachable(Link::open(address).events.down().await), "connection refused");
}

/// Protects the reason that a person gets to see.
#[tokio::test]
async fn names_that_do_not_exist() {
    let endpoint = endpoint("ws://no-such-host.invalid?token=hunter2").unwrap();
    let mut link = Link::open_with(endpoint, options(makima_transports::Timeouts::default()), 16);
    let text = unreachable(link.events.down().await);
    assert!(!text.contains("hunter2") && !text.is_empty(), "{text}");
}

/// Protects from answers that break off, and from what is no HTTP.
#[tokio::test]
async fn a_handshake_that_breaks_off() {
    for answer in ["", "HTTP/1.1 101 Switching", "SSH-2.0-OpenSSH_9.2\r\n", "\0\0\0\0\r\n\r\n"] {
        let (address, _server) = serve(async move |mut stream| {
            request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let text = broken(Link::open(address).events.down().await);
        assert!(text.starts_with("the connection ended during the handshake: "), "{text}");
    }
}

/// Protects from caches and gates that say 101 without having understood.
#[tokio::test]
async fn an_upgrade_that_is_none() {
    for (headers, wrong) in [
        ("Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm8=", "does not fit"),
        ("Connection: upgrade\r\nUpgrade: websocket", "does not fit"),
        ("Connection: upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: bm8=", "no Upgrade"),
        ("Connection: close\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm8=", "no Upgrade"),
    ] {
        let (address, _server) = serve(async move |mut stream| {
            request(&mut stream).await;
            stream.write_all(format!("HTTP/1.1 101 Yes\r\n{headers}\r\n\r\n").as_bytes()).await.unwrap();
            Peer { stream }.gone().await;
        })
        .await;
        let text = broken(Link::open(address).events.down().await);
        assert!(text.contains(wrong), "{text}");
    }
}

/// Protects the key: what is called local is local, whatever a resolver would say.
#[tokio::test]
async fn names_of_this_machine_are_not_looked_up() {
    for name in ["localhost", "makima.localhost"] {
        let (address, server) = serve(async |mut stream| request(&mut stream).await).await;
        let endpoint = endpoint(&format!("ws://{name}:{}", address.port())).unwrap();
        let _link = Link::open_with(endpoint, options(makima_transports::Timeouts::default()), 16);
        let request = within(server).await.unwrap();
        assert_eq!(header(&request, "Host"), Some(format!("{name}:{}", address.port()).as_str()));
    }
}

/// Protects an end that is asked for early: connecting does not have to come to its own end first.
#[tokio::test]
async fn closing_while_connecting() {
    let (address, server) = serve(async |stream| Peer { stream }.gone().await).await;
    let mut link = Link::open(address);
    link.message(1, "never sent");
    drop(link.handle);
    assert!(matches!(link.events.down().await, LinkCause::Closed(_)));
    // It may never have come to a connection.
    server.abort();
}
