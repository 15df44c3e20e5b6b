//! What must hold of every answer to a request of long-poll: see `crate::fuzz`.

use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use makima_core::id::Epoch;
use makima_core::input::LinkCause;
use makima_core::protocol::{DaemonCommand, Frame};
use tokio::sync::mpsc;

use super::request::Answer;
use super::{Teller, open, poll, push};
use crate::answer::{self, MAKIMA_WIRE};
use crate::link::LinkEvent;

const TYPES: [&str; 4] = ["", "application/json", "text/html; charset=utf-8", "application/problem+json"];

/// Reads an answer in every way that it is read here. Its first byte says which status it has, its second what kind of
/// answer it says that it is; a line that ends there is its `Retry-After`.
///
/// # Panics
/// Where what comes of it is more than was in it, or is no frame.
pub fn long_poll(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&b'0', &[]));
    let (second, rest) = rest.split_first().unwrap_or((&b'0', &[]));
    let statuses = [200, 400, 401, 404, 410, 429, 500, 503];
    let status = statuses.get(usize::from(first % 8)).copied().unwrap_or(200);
    let mut headers = HeaderMap::new();
    if let Some(kind) = TYPES.get(usize::from(second % 4)).filter(|kind| !kind.is_empty()) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if second & 4 != 0 {
        headers.insert(MAKIMA_WIRE, HeaderValue::from_static("2"));
    }
    let mut body = rest;
    if second & 8 != 0 {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (wait, behind) = rest.split_at(end);
        headers.extend(HeaderValue::from_bytes(wait).ok().map(|wait| (RETRY_AFTER, wait)));
        body = behind.get(1..).unwrap_or_default();
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let answer = Answer { status, headers, body: body.to_vec() };
    is_bounded(&answer.refusal());
    let _ = answer::wire(&answer.headers);
    let most = body.len();
    match poll::commands(&answer) {
        Ok((commands, _)) => assert!(commands.iter().map(|command| command.len()).sum::<usize>() <= most),
        Err(cause) => is_bounded(&cause),
    }
    match push::answered(&answer) {
        Ok((_, frames)) => assert!(frames.iter().map(|frame| frame.len()).sum::<usize>() <= most),
        Err(cause) => is_bounded(&cause),
    }
    greeted(&answer);
}

/// What is shown of it is short, and nobody is waited for longer than five minutes.
fn is_bounded(cause: &LinkCause) {
    if let LinkCause::Refused { retry_after, detail, .. } = cause {
        assert!(retry_after.is_none_or(|wait| wait.0 <= 300_000), "{cause:?}");
        assert!(detail.chars().count() <= 200 && !detail.chars().any(char::is_control), "{cause:?}");
    }
}

/// A session that is opened by it: what it hands up are frames that can be read.
fn greeted(answer: &Answer) {
    let (events, mut told) = mpsc::channel(8);
    let teller = Teller::new(Epoch::default(), events);
    let opened = open::greet(answer, 1, &teller).now_or_never();
    let Some(opened) = opened else { unreachable!("there is room for what it tells") };
    let mut frames = Vec::new();
    while let Ok((_, event)) = told.try_recv() {
        if let LinkEvent::Frame(text) = event {
            frames.push(text);
        }
    }
    match opened {
        Ok(session) => {
            assert!(serde_json::from_str::<String>(&session).is_ok(), "{session}");
            assert_eq!(frames.len(), 2);
        }
        Err(cause) => {
            is_bounded(&cause);
            assert!(frames.len() <= 1);
        }
    }
    let is_command = |text: &String| {
        let body = Frame::read(text).ok().and_then(|frame| frame.body);
        body.is_some_and(|body| DaemonCommand::read(body.get()).is_ok())
    };
    assert!(frames.first().is_none_or(is_command), "{frames:?}");
}
