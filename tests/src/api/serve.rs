//! What is answered to whom.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value, json};

use super::http::{Connection, Head};
use super::message::{error, message};
use super::script::{Fault, error_type};
use super::shared::Shared;
use super::stream::{Stop, Stream};
use super::{End, Request, Turn};

/// Serves a connection until it ends.
pub(super) fn connection(stream: Arc<TcpStream>, shared: &Shared) {
    let Ok(mut connection) = Connection::new(stream) else { return };
    while let Ok((head, body)) = connection.request() {
        let (index, stop) = match question(&connection, shared, &head, &body) {
            Ok(Some(question)) => question,
            Ok(None) if head.keeps_alive() => continue,
            Ok(None) | Err(_) => return,
        };
        match stop {
            Stop::Ended(end) => {
                shared.ended(index, end);
                if end == End::Gone || !head.keeps_alive() {
                    return;
                }
            }
            Stop::Cut(how) => {
                connection.cut(how);
                return shared.ended(index, End::Cut);
            }
        }
    }
}

/// Answers to a request. Where it asked for a message: its index, and how the answer stopped.
fn question(connection: &Connection, shared: &Shared, head: &Head, raw: &[u8]) -> io::Result<Option<(usize, Stop)>> {
    let has_body = head.method == "POST";
    let body = serde_json::from_slice::<Value>(raw).ok().filter(|_| has_body);
    match (head.path.strip_prefix("/v1/messages"), body) {
        (Some("/count_tokens"), Some(_)) => {
            shared.note(format!("{} {}", head.method, head.path));
            let tokens = shared.count_tokens().unwrap_or(raw.len() as u64 / 4);
            connection.answer(200, Some(&json!({ "input_tokens": tokens })), &[])?;
            Ok(None)
        }
        (Some(""), Some(body)) => {
            let request = Request::new(head, &body);
            let (index, turn) = shared.take(request.clone(), key(head));
            let stop = match turn {
                Some(turn) => answer(connection, shared, index, &request, &turn),
                None => refuse(connection, shared, 401, error_type(401), "invalid x-api-key", &[]),
            };
            Ok(Some((index, stop)))
        }
        (messages, _) => {
            shared.note(format!("{} {}", head.method, head.path));
            other(connection, shared, head, messages == Some("") && has_body)?;
            Ok(None)
        }
    }
}

/// The key that a client shows.
fn key(head: &Head) -> Option<&str> {
    head.field("x-api-key").or_else(|| head.field("authorization")?.strip_prefix("Bearer "))
}

/// Answers by this turn.
fn answer(connection: &Connection, shared: &Shared, index: usize, request: &Request, turn: &Turn) -> Stop {
    if let Err(end) = shared.pause(connection, turn.first_delay) {
        return Stop::Ended(end);
    }
    if let Some(error) = &turn.error {
        return refuse(connection, shared, error.status, &error.kind, &error.message, &error.headers);
    }
    match &turn.fault {
        Some((after, Fault::Cut(how))) if *after == 0 || !request.is_streamed => return Stop::Cut(*how),
        Some((_, Fault::Hang)) if !request.is_streamed => {
            shared.hang(connection);
            return Stop::Ended(End::Gone);
        }
        Some(_) | None => {}
    }
    let message = message(shared, request, turn);
    if request.is_streamed {
        let mut stream = Stream { connection, shared, turn, index, sent: 0 };
        return stream.send(&message).err().unwrap_or(Stop::Ended(End::Whole));
    }
    let id = [("request-id".to_owned(), shared.id("req"))];
    let is_sent = connection.answer(200, Some(&message), &id).is_ok();
    Stop::Ended(if is_sent { End::Whole } else { End::Gone })
}

/// An HTTP error instead of a message.
fn refuse(
    connection: &Connection,
    shared: &Shared,
    status: u16,
    kind: &str,
    message: &str,
    headers: &[(String, String)],
) -> Stop {
    let id = shared.id("req");
    let body = error(kind, message, &id);
    let headers = [headers, &[("request-id".to_owned(), id)]].concat();
    let is_sent = connection.answer(status, Some(&body), &headers).is_ok();
    Stop::Ended(if is_sent { End::Error } else { End::Gone })
}

/// What is not about messages, or is no JSON.
fn other(connection: &Connection, shared: &Shared, head: &Head, is_malformed: bool) -> io::Result<()> {
    let id = shared.id("req");
    if is_malformed {
        return connection.answer(400, Some(&error(error_type(400), "the body is not valid JSON", &id)), &[]);
    }
    match (head.method.as_str(), head.path.as_str()) {
        ("HEAD", _) => connection.answer(200, None, &[]),
        (_, "/" | "/api/hello") => connection.answer(200, Some(&json!({})), &[]),
        (_, path) if path.starts_with("/v1/models") => {
            let none = json!({ "data": [], "has_more": false, "first_id": null, "last_id": null });
            connection.answer(200, Some(&none), &[])
        }
        (_, path) => connection.answer(404, Some(&error(error_type(404), path, &id)), &[]),
    }
}
