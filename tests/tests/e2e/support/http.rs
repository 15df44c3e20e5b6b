//! The least of an HTTP client: one request, one connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::SOON;

/// Makes a request and returns status and body. A stream is read to its end.
pub(super) fn request(origin: &str, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let host = origin.strip_prefix("http://").expect("a plain URL");
    ask(host, host, token, method, path, body)
}

/// What a server answers to a `GET` for a path if it is called by this name.
pub(crate) fn status_as(origin: &str, host: &str, token: &str, path: &str) -> u16 {
    ask(origin.strip_prefix("http://").expect("a plain URL"), host, token, "GET", path, "").0
}

/// Follows a stream of events, from behind the one of this id, until what came is enough or it ends. Gives what came.
pub(super) fn follow(
    origin: &str,
    token: &str,
    path: &str,
    last: Option<&str>,
    enough: impl Fn(&str) -> bool,
) -> String {
    let host = origin.strip_prefix("http://").expect("a plain URL");
    let mut stream = TcpStream::connect(host).expect("the server is there");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a bound");
    let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
    let text = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
    stream.write_all(text.as_bytes()).expect("it listens");
    let mut came = Vec::new();
    let mut buffer = [0; 4096];
    let end = Instant::now() + SOON;
    while let n @ 1.. = stream.read(&mut buffer).expect("it goes on") {
        came.extend_from_slice(&buffer[..n]);
        if enough(&String::from_utf8_lossy(&came)) {
            break;
        }
        // It says now and then that it is still there.
        assert!(Instant::now() < end, "not within {SOON:?}: {}", String::from_utf8_lossy(&came));
    }
    let came = String::from_utf8(came).expect("it is text");
    let (head, events) = came.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains(" 200 ") && head.contains("text/event-stream"), "{head}");
    events.to_owned()
}

fn ask(address: &str, host: &str, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the server is there");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a bound");
    let length = body.len();
    // The older version knows no chunks: the body ends where the connection does.
    let text = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).expect("it listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let answer = String::from_utf8(answer).expect("it answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}
