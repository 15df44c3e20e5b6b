//! Opens the session.

use std::time::Duration;

use http::StatusCode;
use makima_core::input::LinkCause;
use makima_core::protocol::{Authenticated, DaemonCommand, DaemonMessage, Frame, ServerError, envelope};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use super::Teller;
use super::request::{Answer, Callers};
use crate::answer;
use crate::link::Outgoing;
use crate::pump::closed_here;

/// A session that is open.
pub(super) struct Opened {
    pub(super) callers: Callers,
    /// Its name, as JSON.
    pub(super) session: String,
}

/// What `/session` is answered with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    session: String,
    daemon_id: Uuid,
    #[serde(borrow)]
    hello: &'a RawValue,
}

/// What the server says where it does not let us in.
#[derive(Deserialize)]
struct Refusal {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    code: String,
    #[serde(default)]
    message: String,
}

/// Waits for the first message, which is `authenticate`, and shows it to the server.
pub(super) async fn open(
    mut callers: Callers,
    queue: &mut UnboundedReceiver<Outgoing>,
    limit: Duration,
    teller: &Teller,
) -> Result<Opened, LinkCause> {
    let (n, text) = first(queue).await?;
    let frame = Frame::read(&text).ok().and_then(|frame| frame.body);
    let body = frame.map_or(text.as_str(), RawValue::get);
    let Ok(DaemonMessage::Authenticate(daemon)) = DaemonMessage::read(body) else {
        return Err(LinkCause::Broken("the first message to be sent was not authenticate".to_owned()));
    };
    if !callers.show(&daemon.api_key) {
        return Err(LinkCause::Broken("the key has characters in it that no header can hold".to_owned()));
    }
    let answer = callers.session.post(body.to_owned(), limit).await?;
    let session = greet(&answer, n, teller).await?;
    Ok(Opened { callers, session })
}

async fn first(queue: &mut UnboundedReceiver<Outgoing>) -> Result<(u64, String), LinkCause> {
    loop {
        match queue.recv().await {
            Some(Outgoing::Message { n, text }) => return Ok((n, text)),
            // Nobody is let in with these.
            Some(Outgoing::Output { .. } | Outgoing::Ping { .. } | Outgoing::Quiesce | Outgoing::Close) => {}
            None => return Err(closed_here()),
        }
    }
}

/// Hands up what the server answered. Gives back the session's name.
pub(super) async fn greet(answer: &Answer, n: u64, teller: &Teller) -> Result<String, LinkCause> {
    if let Some(error) = own_refusal(answer) {
        teller.flushed(Some(n)).await;
        teller.frame(&envelope(None, &DaemonCommand::from(error).write(), None)).await;
        return Err(answer.refusal());
    }
    if answer.status != StatusCode::OK || answer::is_html(&answer.headers, &answer.body) {
        return Err(answer.refusal());
    }
    let body: Body<'_> = answer.json()?;
    teller.flushed(Some(n)).await;
    let authenticated = DaemonCommand::from(Authenticated { daemon_id: body.daemon_id });
    teller.frame(&envelope(None, &authenticated.write(), None)).await;
    teller.frame(&format!(r#"{{"hello":{}}}"#, body.hello.get())).await;
    // Laid into every request as it is.
    serde_json::to_string(&body.session).map_err(|_| answer.refusal())
}

/// The server's own words, where it is the daemon that it does not like: of other answers the status says more.
fn own_refusal(answer: &Answer) -> Option<ServerError> {
    let about_us = [200, 400, 401, 403, 409, 422].contains(&answer.status.as_u16());
    let Refusal { error } = serde_json::from_slice(&answer.body).ok().filter(|_| about_us)?;
    Some(ServerError { code: error.code, message: error.message })
}
