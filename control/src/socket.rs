//! A daemon's WebSocket session.
//!
//! On this wire a daemon takes a message for delivered once a ping that it sent afterwards was answered. The
//! library answers a ping when the socket is next read or written, so after a ping this session does neither
//! until everything that came before it is on disk.
//!
//! Architecture invariant: one task owns the socket. With a second one that writes, a pong could overtake
//! the disk.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use makima_core::protocol::{
    Authenticate, DaemonCommand, DaemonMessage, Frame, ServerError, WIRE_HEADER, WIRE_VERSION, Wire,
};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::app::App;
use crate::engine::{Outgoing, Unheard, worded};
use crate::frames;
use crate::http::ApiError;
use crate::hub::SessionId;

/// Bytes of the largest message, either way.
pub(crate) const MESSAGE: usize = 16 * 1024 * 1024;

/// For the first message to come.
const AUTHENTICATE: Duration = Duration::from_secs(10);

/// For one message to go out.
const WRITE: Duration = Duration::from_secs(30);

/// For the store to take what has come. A daemon that hears nothing for 45 s takes its link for dead.
const STORE: Duration = Duration::from_secs(10);

/// Between two pings of ours.
const PING: Duration = Duration::from_secs(30);

/// A daemon answers pings, so one that is silent for this long is not there.
const SILENCE: Duration = Duration::from_secs(120);

/// Between two pings of version 2, which the daemon itself has to answer.
const PING_2: Duration = Duration::from_secs(20);

/// In version 2 what something on the way answers does not count, so a daemon need not be waited for as long.
const SILENCE_2: Duration = Duration::from_secs(45);

/// A daemon's numbers have a gap.
pub(crate) const OUT_OF_ORDER: (&str, &str) = ("out_of_order", "a number came that is not the next: say it all again");

/// Ours begin anew.
pub(crate) const RENUMBERED: (&str, &str) = ("renumbered", "our numbers begin anew with the next session");

/// Bytes of a machine's id.
pub(crate) const MACHINE_ID: usize = 256;

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The daemon left, or its link did.
    Left(&'static str),
    /// We end it, and say why.
    Refused { code: &'static str, message: &'static str },
    /// A ping waits for its answer and must not get one: the link is cut without another word.
    Unstored,
    /// The server ends.
    Leaving,
}

const STORE_UNAVAILABLE: End =
    End::Refused { code: "store_unavailable", message: "nothing can be stored at the moment" };
const STORE_SLOW: End = End::Refused { code: "store_slow", message: "storing takes too long" };

/// `GET /api/v1/mesh/daemons/connect`
pub(crate) async fn connect(State(app): State<Arc<App>>, headers: &HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let wanted = headers.get(WIRE_HEADER).is_some_and(|value| value.as_bytes().trim_ascii() == WIRE_VERSION.as_bytes());
    let wire = if wanted { Wire::Two } else { Wire::One };
    let Ok(door) = Arc::clone(&app.door).try_acquire_owned() else {
        let message = "too many connections that have not shown their key";
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).into_response();
    };
    // Held from now on: an upgrade that is under way is waited for too.
    let tracked = app.tracker.token();
    let mut response = upgrade
        .max_message_size(MESSAGE)
        .max_frame_size(MESSAGE)
        .read_buffer_size(64 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(MESSAGE.saturating_mul(2))
        .on_upgrade(async move |mut socket| {
            let kill = app.kill.clone();
            tokio::select! {
                () = session(&app, &mut socket, wire, door) => {}
                () = kill.cancelled() => {}
            }
            drop(tracked);
        });
    if wire == Wire::Two {
        response.headers_mut().insert(WIRE_HEADER, HeaderValue::from_static(WIRE_VERSION));
    }
    response
}

async fn session(app: &App, socket: &mut WebSocket, wire: Wire, door: tokio::sync::OwnedSemaphorePermit) {
    let first = tokio::select! {
        first = timeout(AUTHENTICATE, authenticate(app, socket, wire)) => first,
        () = app.stop.cancelled() => Ok(Err(End::Leaving)),
    };
    drop(door);
    let end = match first {
        Ok(Ok(daemon)) => {
            let machine = shown(&daemon.machine_id);
            match app.engine.connect(daemon, wire) {
                Ok((id, commands)) => {
                    tracing::info!(session = id.0, %machine, "daemon connected");
                    let end = live(app, socket, (id, wire), commands).await;
                    app.engine.leave(id);
                    tracing::info!(session = id.0, %machine, ?end, "daemon gone");
                    end
                }
                Err(_) => STORE_UNAVAILABLE,
            }
        }
        Ok(Err(end)) => end,
        Err(_) => End::Refused { code: "authentication_timeout", message: "no authenticate message came" },
    };
    farewell(socket, wire, end).await;
}

/// The first message, which has to be `authenticate` with the right key.
async fn authenticate(app: &App, socket: &mut WebSocket, wire: Wire) -> Result<Authenticate, End> {
    let expected = End::Refused { code: "authentication_required", message: "the first message is authenticate" };
    loop {
        let text = match socket.recv().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Binary(_))) => return Err(expected),
            Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return Err(End::Left("before authentication")),
        };
        let Ok(DaemonMessage::Authenticate(daemon)) = DaemonMessage::read(message(&text, wire)) else {
            return Err(expected);
        };
        if !app.token.matches(daemon.api_key.as_bytes()) {
            app.engine.wrong_keys.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("a daemon showed a wrong key");
            return Err(End::Refused { code: "invalid_key", message: "this key is not the server's" });
        }
        if daemon.machine_id.is_empty() || daemon.machine_id.len() > MACHINE_ID {
            return Err(End::Refused { code: "invalid_machine_id", message: "the machine id is empty or too long" });
        }
        return Ok(daemon);
    }
}

/// The message in a frame.
fn message(text: &str, wire: Wire) -> &str {
    match wire {
        Wire::One => text,
        Wire::Two => Frame::read(text).ok().and_then(|frame| frame.body).map_or("", RawValue::get),
    }
}

async fn live(
    app: &App,
    socket: &mut WebSocket,
    (id, wire): (SessionId, Wire),
    mut commands: mpsc::Receiver<Outgoing>,
) -> End {
    let mut full = app.engine.full();
    let (every, silence) = match wire {
        Wire::One => (PING, SILENCE),
        Wire::Two => (PING_2, SILENCE_2),
    };
    let mut pings = interval_at(Instant::now() + every, every);
    let mut pinged = 0_u64;
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut stop = pin!(app.stop.cancelled());
    loop {
        if *full.borrow_and_update()
            && let Err(end) = room(&mut full).await
        {
            return end;
        }
        let step = tokio::select! {
            biased;
            () = &mut stop => Err(End::Leaving),
            outgoing = commands.recv() => pass(socket, outgoing).await,
            frame = socket.recv() => {
                // A proxy may answer pings; in version 2 only the daemon itself counts.
                if wire == Wire::One || matches!(frame, Some(Ok(Message::Text(_)))) {
                    heard = Instant::now();
                }
                take(app, (id, wire), frame).await
            }
            _ = pings.tick() => {
                pinged = pinged.saturating_add(1);
                if heard.elapsed() > silence { Err(End::Left("silent")) } else { put(socket, ping(wire, pinged)).await }
            }
        };
        if let Err(end) = step {
            return end;
        }
    }
}

/// The socket is not read while too much waits for the store, but that must not last: pings wait too.
async fn room(full: &mut watch::Receiver<bool>) -> Result<(), End> {
    match timeout(STORE, full.wait_for(|full| !full)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(End::Leaving),
        Err(_) => Err(STORE_SLOW),
    }
}

fn ping(wire: Wire, n: u64) -> Message {
    match wire {
        Wire::One => Message::Ping(Bytes::new()),
        Wire::Two => Message::text(Frame { ping: Some(n), ..Frame::default() }.write()),
    }
}

async fn take(
    app: &App,
    (id, wire): (SessionId, Wire),
    frame: Option<Result<Message, axum::Error>>,
) -> Result<(), End> {
    match frame {
        Some(Ok(Message::Text(text))) if wire == Wire::Two => frames::hear(app, id, &text).map_err(|why| match why {
            Unheard::Unavailable => STORE_UNAVAILABLE,
            Unheard::OutOfOrder => End::Refused { code: OUT_OF_ORDER.0, message: OUT_OF_ORDER.1 },
            Unheard::Renumbered => End::Refused { code: RENUMBERED.0, message: RENUMBERED.1 },
        }),
        Some(Ok(Message::Text(text))) => match DaemonMessage::read(&text) {
            Ok(message) => app.engine.hear(id, message).map_err(|_| STORE_UNAVAILABLE),
            Err(reason) => {
                frames::unreadable(app, id, &reason.to_string());
                Ok(())
            }
        },
        Some(Ok(Message::Binary(_))) => {
            frames::unreadable(app, id, "a binary frame");
            Ok(())
        }
        Some(Ok(Message::Ping(_))) => {
            let ticket = app.engine.pinged(id).map_err(|_| End::Unstored)?;
            if timeout(STORE, ticket.kept()).await == Ok(true) { Ok(()) } else { Err(End::Unstored) }
        }
        Some(Ok(Message::Pong(_))) => Ok(()),
        Some(Ok(Message::Close(_))) | None => Err(End::Left("closed")),
        Some(Err(error)) => {
            tracing::debug!(session = id.0, %error, "the link of a daemon broke");
            Err(End::Left("broken"))
        }
    }
}

async fn pass(socket: &mut WebSocket, outgoing: Option<Outgoing>) -> Result<(), End> {
    match outgoing {
        Some(outgoing) => match outgoing.text() {
            Ok(text) => put(socket, Message::text(text)).await,
            Err((code, message)) => Err(End::Refused { code, message }),
        },
        None => Err(End::Refused { code: "too_slow", message: "commands were not taken" }),
    }
}

async fn put(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match timeout(WRITE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Left("broken")),
        Err(_) => Err(End::Left("does not read")),
    }
}

/// Says why, as far as anybody listens. Where a ping waits nothing may be said: the answer to it would go out
/// along with that. The daemon hears the reason when it connects again.
async fn farewell(socket: &mut WebSocket, wire: Wire, end: End) {
    const POLITE: Duration = Duration::from_secs(2);
    let (code, reason) = match end {
        End::Left(_) | End::Unstored => return,
        End::Leaving => (1001, "the server ends"),
        End::Refused { code, message } => {
            let error: DaemonCommand = ServerError { code: code.to_owned(), message: message.to_owned() }.into();
            if !matches!(timeout(POLITE, socket.send(Message::text(worded(&error, None, wire)))).await, Ok(Ok(()))) {
                return;
            }
            (1008, message)
        }
    };
    let frame = CloseFrame { code, reason: reason.into() };
    let _ = timeout(POLITE, socket.send(Message::Close(Some(frame)))).await;
}

/// A machine's id for the log: short, and one line.
pub(crate) fn shown(machine: &str) -> String {
    makima_core::policy::shorten(machine, 64)
}
