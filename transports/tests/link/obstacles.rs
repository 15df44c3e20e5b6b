//! Long-poll by way of what stands between daemons and servers: proxies that refuse, hold back, cut, and servers
//! that are none.

use std::net::SocketAddr;
use std::time::Duration;

use makima_core::input::LinkCause;
use makima_core::time::Millis;
use makima_transports::{LinkEvent, Options, Proxies, Timeouts, endpoint};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::requests::{Server, at, authenticate, greeted, link, opened, send};
use crate::support::{broken, options};

const JSON: &str = "Content-Type: application/json\r\n";
const HTML: &str = "Content-Type: text/html\r\n";

/// Status, whether the server itself said it, and whether it was a page.
fn refused(cause: &LinkCause) -> (u16, bool, bool) {
    let LinkCause::Refused { status, by_server, html, .. } = cause else { panic!("{cause:?}") };
    (*status, *by_server, *html)
}

/// Protects the core's choice: what has no long-poll, what stands on the way, and what the server itself says.
#[tokio::test]
async fn a_session_that_is_not_opened() {
    for (status, headers, body, expected) in [
        (403, HTML, "<html>No upgrades, no nothing</html>", (403, false, true)),
        (400, "", "bad", (400, false, false)),
        (200, HTML, "<html>Log in to the hotel</html>", (200, false, true)),
        (200, "", "<!doctype html>", (200, false, true)),
        (200, JSON, r#"{"hotel":true}"#, (200, true, false)),
        (204, "", "", (204, false, false)),
        (404, "", "", (404, false, false)),
        (404, HTML, "<p>not found", (404, false, true)),
        (404, JSON, r#"{"error":{"code":"not_found","message":"nothing"}}"#, (404, true, false)),
        (405, "Makima-Wire: 2\r\n", "", (405, true, false)),
        (502, HTML, "<p>", (502, false, true)),
        (503, JSON, r#"{"error":{"code":"busy","message":"later"}}"#, (503, true, false)),
    ] {
        let mut server = Server::start().await;
        let mut link = link(at(server.address), options(Timeouts::default()));
        authenticate(&mut link).await;
        server.session().await.answer(status, headers, body);
        assert_eq!(refused(&link.events.down().await), expected, "{status} {body}");
    }
}

/// Protects the reason: the server's own words come before the end.
#[tokio::test]
async fn a_key_that_is_refused() {
    for status in [200, 401, 403] {
        let mut server = Server::start().await;
        let mut link = link(at(server.address), options(Timeouts::default()));
        authenticate(&mut link).await;
        server.session().await.answer(status, JSON, r#"{"error":{"code":"invalid_key","message":"no"}}"#);
        assert_eq!(link.events.next().await, LinkEvent::Flushed(1));
        let error = r#"{"body":{"type":"error","code":"invalid_key","message":"no"}}"#;
        assert_eq!(link.events.next().await, LinkEvent::Frame(error.to_owned()));
        assert_eq!(refused(&link.events.down().await), (status, true, false));
    }
}

/// Protects servers that ask for time, by whichever request.
#[tokio::test]
async fn a_server_that_is_busy() {
    for which in ["session", "poll", "push"] {
        for (value, expected) in [("7", 7_000), ("Fri, 31 Dec 2100 23:59:59 GMT", 300_000)] {
            let mut server = Server::start().await;
            let mut link = link(at(server.address), options(Timeouts::default()));
            authenticate(&mut link).await;
            let mut asked = server.session().await;
            let mut held = None;
            if which != "session" {
                asked.say(opened());
                greeted(&mut link.events).await;
                asked = server.poll().await;
            }
            if which == "push" {
                held = Some(asked);
                send(&link, 2, &json!({"seq": 1}));
                asked = server.push().await;
            }
            asked.answer(429, &format!("{JSON}Retry-After: {value}\r\n"), "{}");
            let cause = link.events.down().await;
            let LinkCause::Refused { status: 429, retry_after: Some(Millis(wait)), .. } = cause else {
                panic!("{which}: {cause:?}")
            };
            assert_eq!(wait, expected, "{which}");
            drop(held);
        }
    }
}

/// Protects the resumption: a session that is not known is another thing than a page that is not found.
#[tokio::test]
async fn a_session_that_is_gone() {
    for (status, headers, body, gone) in [
        (404, JSON, r#"{"error":{"code":"no_such_session","message":"?"}}"#, true),
        (404, "", "", true),
        (410, "", "", true),
        (404, HTML, "<html>nginx</html>", false),
        (409, JSON, r#"{"error":{"code":"superseded","message":"?"}}"#, false),
    ] {
        let mut server = Server::start().await;
        let (mut link, poll) = server.link(Timeouts::default()).await;
        poll.answer(status, headers, body);
        assert_eq!(link.events.down().await == LinkCause::Gone, gone);

        let (mut link, _poll) = server.link(Timeouts::default()).await;
        send(&link, 2, &json!({"seq": 1}));
        server.push().await.answer(status, headers, body);
        assert_eq!(link.events.down().await == LinkCause::Gone, gone);
    }
}

/// Protects delivery: a push whose answer did not come may have been lost.
#[tokio::test]
async fn a_push_that_is_cut() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nConte", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a"]
    {
        let mut server = Server::start().await;
        let (mut link, _poll) = server.link(Timeouts::default()).await;
        send(&link, 2, &json!({"seq": 1}));
        let push = server.push().await;
        if beginning.is_empty() {
            drop(push);
        } else {
            push.raw(beginning);
        }
        let LinkEvent::Down(cause) = link.events.next().await else { panic!("flushed") };
        assert!(broken(cause).starts_with("the connection ended during a push: "));
    }
}

/// Protects the same from a connection that is cut while the push is on its way.
#[tokio::test]
async fn a_push_that_is_cut_half_way() {
    let mut server = Server::start().await;
    let proxy = through(server.address, async |mut daemon: TcpStream, mut server: TcpStream| {
        let (mut passed, mut up, mut down) = (0, vec![0; 16 << 10], vec![0; 16 << 10]);
        loop {
            tokio::select! {
                // The session's request passes; the middle of a push does not.
                Ok(n @ 1..) = daemon.read(&mut up), if passed < 64 << 10 => {
                    passed += n;
                    server.write_all(&up[..n]).await.unwrap();
                }
                Ok(n @ 1..) = server.read(&mut down), if passed < 64 << 10 => daemon.write_all(&down[..n]).await.unwrap(),
                else => return,
            }
        }
    })
    .await;
    let mut link = link(at(proxy), options(Timeouts::default()));
    authenticate(&mut link).await;
    server.session().await.say(opened());
    greeted(&mut link.events).await;
    let _poll = server.poll().await;
    send(&link, 2, &json!({"seq": 1, "body": {"text": "x".repeat(900 << 10)}}));
    let LinkEvent::Down(cause) = link.events.next().await else { panic!("flushed") };
    assert!(broken(cause).starts_with("the connection ended during a push: "));
}

/// Protects from polls that nobody answers, and from pushes.
#[tokio::test]
async fn no_answer_in_time() {
    let short = Duration::from_millis(200);
    let mut server = Server::start().await;
    let (mut link, _poll) = server.link(Timeouts { poll: short, ..Timeouts::default() }).await;
    assert_eq!(broken(link.events.down().await), "no answer to a poll within 0.2 s");
    let (mut link, _poll) = server.link(Timeouts { push: short, ..Timeouts::default() }).await;
    send(&link, 2, &json!({"seq": 1}));
    let _push = server.push().await;
    assert_eq!(broken(link.events.down().await), "no answer to a push within 0.2 s");
    let mut link = crate::requests::link(at(server.address), options(crate::support::short()));
    authenticate(&mut link).await;
    let _session = server.session().await;
    assert_eq!(broken(link.events.down().await), "no answer to opening the session within 0.3 s");
}

/// Protects memory: an answer has an end, whatever it says of itself.
#[tokio::test]
async fn an_answer_that_is_too_large() {
    for head in ["Content-Length: 17825792\r\n\r\n", "Connection: close\r\n\r\n"] {
        let mut server = Server::start().await;
        let (mut link, poll) = server.link(Timeouts::default()).await;
        let mut answer = format!("HTTP/1.1 200 OK\r\n{JSON}{head}").into_bytes();
        answer.resize(answer.len() + (17 << 20), b' ');
        poll.raw(answer);
        assert_eq!(broken(link.events.down().await), "an answer to a poll of more than 16777216 bytes");
    }
}

/// Protects from answers that are none, without a command being made of them.
#[tokio::test]
async fn answers_that_cannot_be_read() {
    for (body, page) in [("", false), ("[]", false), ("{}", false), (r#"{"commands":7}"#, false), ("<html>", true)] {
        let mut server = Server::start().await;
        let (mut link, poll) = server.link(Timeouts::default()).await;
        poll.answer(200, "", body);
        let (status, _, html) = refused(&link.events.down().await);
        assert_eq!((status, html), (200, page));
    }
}

/// Something on the way, to which each connection is given with one to the server.
async fn through<F>(
    server: SocketAddr,
    between: impl Fn(TcpStream, TcpStream) -> F + Copy + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((daemon, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.unwrap();
            tokio::spawn(between(daemon, server));
        }
    });
    address
}

/// Protects daemons behind a proxy that lets an answer through only when it is whole, and drips it.
#[tokio::test]
async fn a_proxy_that_holds_answers_back() {
    let mut server = Server::start().await;
    let proxy = through(server.address, async |mut daemon: TcpStream, mut server: TcpStream| {
        let (mut request, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            tokio::select! {
                Ok(n @ 1..) = daemon.read(&mut request) => server.write_all(&request[..n]).await.unwrap(),
                Ok(n @ 1..) = server.read(&mut answer) => {
                    // These answers are small enough to be whole here. The body goes on in chunks of one byte.
                    let whole = String::from_utf8(answer[..n].to_vec()).unwrap();
                    let (_, body) = whole.split_once("\r\n\r\n").unwrap();
                    sleep(Duration::from_millis(30)).await;
                    let head = format!("HTTP/1.1 200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n");
                    daemon.write_all(head.as_bytes()).await.unwrap();
                    for byte in body.as_bytes() {
                        daemon.write_all(&[b"1\r\n", &[*byte][..], b"\r\n"].concat()).await.unwrap();
                        daemon.flush().await.unwrap();
                    }
                    daemon.write_all(b"0\r\n\r\n").await.unwrap();
                }
                else => return,
            }
        }
    })
    .await;
    let mut link = link(at(proxy), options(Timeouts::default()));
    authenticate(&mut link).await;
    server.session().await.say(opened());
    greeted(&mut link.events).await;
    for n in 2..6 {
        send(&link, n, &json!({"seq": n}));
        server.push().await.say(json!({}));
        assert_eq!(link.events.next().await, LinkEvent::Flushed(n));
        server.poll().await.commands(json!([{"seq": n}]));
        assert_eq!(link.events.next().await, LinkEvent::Frame(format!(r#"{{"seq":{n}}}"#)));
    }
}

/// Protects from what cuts connections that are idle: one between two requests is made anew without a word, a poll
/// that is held for too long ends the link in a way that says so.
#[tokio::test]
async fn a_proxy_that_cuts_what_is_idle() {
    const IDLE: Duration = Duration::from_millis(300);
    let mut server = Server::start().await;
    let proxy = through(server.address, async |mut daemon: TcpStream, mut server: TcpStream| {
        let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        let next = |n: usize| n > 0;
        while let Ok(moved) = timeout(IDLE, async {
            tokio::select! {
                Ok(n) = daemon.read(&mut up) => { server.write_all(&up[..n]).await.unwrap(); next(n) }
                Ok(n) = server.read(&mut down) => { daemon.write_all(&down[..n]).await.unwrap(); next(n) }
                else => false,
            }
        })
        .await
        {
            if !moved {
                return;
            }
        }
    })
    .await;
    let mut link = link(at(proxy), options(Timeouts { hold: Duration::ZERO, ..Timeouts::default() }));
    authenticate(&mut link).await;
    server.session().await.say(opened());
    greeted(&mut link.events).await;
    for n in 2..5 {
        // Polls that are answered soon keep theirs; that of the pushes is cut each time.
        let until = tokio::time::Instant::now() + IDLE * 2;
        while tokio::time::Instant::now() < until {
            server.poll().await.commands(json!([]));
        }
        send(&link, n, &json!({"seq": n}));
        let mut flushed = None;
        while flushed.is_none() {
            tokio::select! {
                push = server.push_or_poll() => match push {
                    (true, asked) => asked.say(json!({})),
                    (false, asked) => asked.commands(json!([])),
                },
                event = link.events.next() => flushed = Some(event),
            }
        }
        assert_eq!(flushed, Some(LinkEvent::Flushed(n)));
    }
    let _held = server.poll().await;
    assert!(broken(link.events.down().await).starts_with("the connection ended during a poll: "));
}

/// Protects daemons behind a proxy for plain HTTP: it is asked with the whole URL, its password is its own.
#[tokio::test]
async fn by_way_of_a_proxy() {
    let mut server = Server::start().await;
    let proxies = Proxies::Only(format!("http://user:pass@{}", server.address));
    let options = Options { proxies, ..Options::default() };
    let mut link = link(endpoint("http://makima.test/x").unwrap(), options);
    authenticate(&mut link).await;
    let asked = server.session().await;
    assert!(asked.head.starts_with("POST http://makima.test/x/session HTTP/1.1\r\n"), "{}", asked.head);
    assert!(asked.header("Proxy-Authorization").is_some());
    asked.say(opened());
    greeted(&mut link.events).await;
    let poll: Value = server.poll().await.json();
    assert_eq!(poll["session"], "s-1");
}

/// Protects from a first message that opens nothing, and from a key that cannot be shown.
#[tokio::test]
async fn what_cannot_open_a_session() {
    for (text, why) in [
        (r#"{"ping":1}"#, "the first message to be sent was not authenticate"),
        (
            r#"{"body":{"type":"authenticate","apiKey":"a\nb","machineId":"m","hostname":"h","maxConcurrentTasks":4}}"#,
            "the key has characters in it that no header can hold",
        ),
    ] {
        let server = Server::start().await;
        let mut link = link(at(server.address), options(Timeouts::default()));
        link.message(1, text);
        assert!(matches!(link.events.next().await, LinkEvent::Up(_)));
        assert_eq!(broken(link.events.down().await), why);
    }
}
