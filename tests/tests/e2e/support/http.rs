//! The least of an HTTP client: one request, one connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Makes a request and returns status and body.
pub(super) fn request(origin: &str, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let host = origin.strip_prefix("http://").expect("a plain URL");
    let mut stream = TcpStream::connect(host).expect("the server is there");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a bound");
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "this client knows no chunks");
    (status, body.to_owned())
}
