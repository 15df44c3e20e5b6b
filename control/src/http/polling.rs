//! Long-poll: a daemon's session over ordinary requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use makima_core::protocol::{Authenticate, DaemonMessage, Frame, Hello, WIRE_HEADER, WIRE_VERSION};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::timeout;
use uuid::Uuid;

use super::{ApiError, guard};
use crate::app::App;
use crate::engine::{Taken, Unheard};
use crate::polls::Polling;
use crate::{frames, socket};

/// Bytes of the largest request: a push's frames, and what lies around them.
pub(super) const BODY: usize = 1024 * 1024 + 64 * 1024;

/// A poll is not held longer, whatever is asked for.
const HOLD: Duration = Duration::from_secs(25);

/// For the store to take what has come.
const STORE: Duration = Duration::from_secs(10);

/// When to come back where it did not.
const LATER: &str = "5";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Opened {
    session: Uuid,
    daemon_id: Option<Uuid>,
    hello: Hello,
}

/// `POST …/session`
pub(super) async fn session(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let Ok(DaemonMessage::Authenticate(daemon)) = DaemonMessage::read(text(&body?)?) else {
        return Err(ApiError::bad("authentication_required", "the body is an authenticate message"));
    };
    if !guard::shows_token(&headers, &app.token) {
        app.engine.wrong_keys.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("a daemon showed a wrong key");
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_key", "this key is not the server's"));
    }
    if daemon.machine_id.is_empty() || daemon.machine_id.len() > socket::MACHINE_ID {
        return Err(ApiError::bad("invalid_machine_id", "the machine id is empty or too long"));
    }
    open(&app, daemon).await
}

async fn open(app: &Arc<App>, daemon: Authenticate) -> Result<Response, ApiError> {
    let machine = socket::shown(&daemon.machine_id);
    let (id, mailbox, daemon_id, ticket) = app.engine.connect_polling(daemon)?;
    let Some(session) = app.polls.add(app, id, Arc::clone(&mailbox)) else {
        app.engine.leave(id);
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many sessions"));
    };
    tracing::info!(session = id.0, %machine, "daemon connected by long-poll");
    let stored = timeout(STORE, ticket.kept()).await == Ok(true);
    match mailbox.hello().filter(|_| stored) {
        Some(hello) => Ok(json(&Opened { session, daemon_id, hello })),
        None => {
            app.polls.end(app, session);
            Err(ApiError::unstored())
        }
    }
}

#[derive(Deserialize)]
struct Ask {
    session: Uuid,
    #[serde(default)]
    ack: u64,
    #[serde(default)]
    wait: u64,
}

#[derive(Serialize)]
struct Commands {
    commands: Vec<Box<RawValue>>,
    more: bool,
}

/// `POST …/poll`
pub(super) async fn poll(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let ask: Ask = parse(text(&body?)?)?;
    let session = find(&app, ask.session)?;
    // Held by this request, so that the session does not expire meanwhile.
    let open = session.open();
    let ack = Frame { ack: Some(ask.ack), ..Frame::default() }.write();
    frames::hear(&app, session.id, &ack).map_err(|why| unheard(&app, &session, why))?;
    let hold = Duration::from_secs(ask.wait).min(HOLD);
    let taken = tokio::select! {
        taken = timeout(hold, session.mailbox.poll()) => taken.unwrap_or_default(),
        () = app.stop.cancelled() => Taken::default(),
    };
    drop(open);
    Ok(json(&Commands { commands: raw(taken.frames), more: taken.more }))
}

#[derive(Deserialize)]
struct Push<'a> {
    session: Uuid,
    #[serde(borrow)]
    frames: Vec<&'a RawValue>,
}

#[derive(Serialize)]
struct Pushed {
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<u64>,
    frames: Vec<Box<RawValue>>,
}

/// `POST …/push`
pub(super) async fn push(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body?;
    let push: Push<'_> = parse(text(&body)?)?;
    let session = find(&app, push.session)?;
    let _open = session.open();
    // One push at a time: their frames have an order.
    let Ok(_turn) = timeout(STORE, session.turn.lock()).await else { return Err(later()) };
    let mut full = app.engine.full();
    if !matches!(timeout(STORE, full.wait_for(|full| !full)).await, Ok(Ok(_))) {
        return Err(later());
    }
    for frame in push.frames {
        frames::hear(&app, session.id, frame.get()).map_err(|why| unheard(&app, &session, why))?;
    }
    let ticket = app.engine.heard(session.id).map_err(|_| unheard(&app, &session, Unheard::Unavailable))?;
    if timeout(STORE, ticket.kept()).await != Ok(true) {
        return Err(later());
    }
    let taken = session.mailbox.take_answers();
    Ok(json(&Pushed { ack: taken.ack, frames: raw(taken.frames) }))
}

/// The session, if it is known and has not ended.
fn find(app: &App, session: Uuid) -> Result<Arc<Polling>, ApiError> {
    let gone = || ApiError::new(StatusCode::NOT_FOUND, "no_such_session", "this session is not known: open a new one");
    let session = app.polls.find(session).ok_or_else(gone)?;
    match session.mailbox.end() {
        None => Ok(session),
        Some((code, message)) => Err(ApiError::new(StatusCode::CONFLICT, code, message)),
    }
}

/// A frame was not taken: that is the end of the session.
fn unheard(app: &App, session: &Polling, why: Unheard) -> ApiError {
    let (code, message) = match why {
        Unheard::Unavailable => ("session_over", "this session is over"),
        Unheard::OutOfOrder => socket::OUT_OF_ORDER,
        Unheard::Renumbered => socket::RENUMBERED,
    };
    app.engine.leave(session.id);
    session.mailbox.close(code, message);
    let (code, message) = session.mailbox.end().unwrap_or((code, message));
    ApiError::new(StatusCode::CONFLICT, code, message)
}

fn later() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store_slow", "storing takes too long").after(LATER)
}

fn text(body: &Bytes) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| ApiError::bad("bad_body", "the body is not UTF-8"))
}

fn parse<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, ApiError> {
    // serde's words may repeat what stood there.
    serde_json::from_str(body).map_err(|_| ApiError::bad("bad_body", "the body is not what is asked for here"))
}

/// Frames of ours are JSON already.
fn raw(frames: Vec<String>) -> Vec<Box<RawValue>> {
    frames.into_iter().filter_map(|frame| RawValue::from_string(frame).ok()).collect()
}

fn json(body: &impl Serialize) -> Response {
    // Strings, numbers and lists of them: this cannot fail.
    let body = to_raw_value(body).map(|body| body.get().to_owned()).unwrap_or_default();
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    response.headers_mut().insert(WIRE_HEADER, HeaderValue::from_static(WIRE_VERSION));
    response
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let message = "a request to this path holds at most 1 MiB of frames";
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message);
        }
        Self::bad("bad_body", "the body did not come whole")
    }
}
