//! A session with a server that is no daemon's: as `makima doctor` and `makima protocol record` have it.

use std::time::Duration;

use makima_core::Compat;
use makima_core::effect::Way;
use makima_core::id::Epoch;
use makima_core::input::LinkCause;
use makima_core::protocol::{Authenticate, DaemonCommand, DaemonMessage, Frame, Wire, envelope};
use makima_transports::{Endpoint, LinkEvent, Outgoing, open};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// For a server to say what it makes of us.
const PATIENCE: Duration = Duration::from_secs(10);

/// Events that may wait.
pub(super) const EVENTS: usize = 64;

/// What a server made of `authenticate`.
#[derive(Debug)]
pub(super) enum Answer {
    /// It let us in.
    Welcome,
    /// It said why not.
    Error { code: String, message: String },
    /// There was no connection, or it ended.
    Link(LinkCause),
    /// It said nothing in time.
    Silence,
}

impl Answer {
    /// Whether this way leads to the server, whatever that says.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Welcome | Self::Error { .. } => true,
            // It is the server itself that minds the key.
            Self::Link(LinkCause::Refused { status: 401 | 403, by_server, .. }) => *by_server,
            Self::Link(_) | Self::Silence => false,
        }
    }

    /// Whether a session's rules were behind it, and not those of the way.
    pub(super) const fn is_of_the_session(&self) -> bool {
        matches!(self, Self::Welcome | Self::Error { .. })
    }

    /// The words by which the key was refused, if it was.
    pub(super) fn refusal(&self, compat: &Compat) -> Option<String> {
        match self {
            Self::Error { code, message } if compat.refuses_key(code) => Some(message.clone()),
            Self::Link(LinkCause::Refused { status: status @ (401 | 403), by_server: true, detail, .. }) => {
                Some(format!("HTTP {status}: {detail}"))
            }
            Self::Welcome | Self::Error { .. } | Self::Link(_) | Self::Silence => None,
        }
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Welcome => "it let us in".to_owned(),
            Self::Error { code, message } => format!("`{code}`: {message}"),
            Self::Link(cause) => in_words(cause),
            Self::Silence => format!("no answer within {} s", PATIENCE.as_secs()),
        }
    }
}

/// Why a connection ended, for people.
pub(super) fn in_words(cause: &LinkCause) -> String {
    match cause {
        LinkCause::Unreachable(why) | LinkCause::Broken(why) => why.clone(),
        LinkCause::Refused { status, html: true, .. } => format!("HTTP {status} with a page for people"),
        LinkCause::Refused { status, detail, .. } if detail.is_empty() => format!("HTTP {status}"),
        LinkCause::Refused { status, detail, .. } => format!("HTTP {status}: {detail}"),
        LinkCause::Gone => "the server does not know the session any more".to_owned(),
        LinkCause::Closed(why) if why.is_empty() => "the server closed the connection".to_owned(),
        LinkCause::Closed(why) => format!("the server closed the connection: {why}"),
    }
}

/// A message, as this version of the wire has it.
pub(super) fn framed(wire: Wire, seq: Option<u64>, message: &DaemonMessage) -> String {
    match wire {
        Wire::One => message.write(),
        Wire::Two => envelope(seq, &message.write(), None),
    }
}

/// The message in a frame.
pub(super) fn unframed(wire: Wire, text: &str) -> Option<&str> {
    match wire {
        Wire::One => Some(text),
        Wire::Two => Frame::read(text).ok()?.body.map(|body| body.get()),
    }
}

/// Shows a server the key and hears what it makes of that. As a machine without a name: servers that keep a list of
/// their machines have nothing to put there, and none gives us work.
pub(super) async fn ask(endpoint: &Endpoint, way: Way, key: &str) -> Answer {
    let (to, mut events) = mpsc::channel(EVENTS);
    let handle = open(endpoint.clone(), way, Epoch(1), to);
    let authenticate = DaemonMessage::from(Authenticate {
        api_key: key.to_owned(),
        machine_id: String::new(),
        hostname: "makima doctor".to_owned(),
        max_concurrent_tasks: 0,
    });
    let answer = async {
        let mut wire = Wire::One;
        while let Some((_, event)) = events.recv().await {
            match event {
                LinkEvent::Up(spoken) => {
                    wire = spoken;
                    handle.send(Outgoing::Message { n: 1, text: framed(wire, None, &authenticate) });
                }
                LinkEvent::Down(cause) => return Answer::Link(cause),
                LinkEvent::Frame(text) => match unframed(wire, &text).map(DaemonCommand::read) {
                    Some(Ok(DaemonCommand::Authenticated(_))) => return Answer::Welcome,
                    Some(Ok(DaemonCommand::ServerError(error))) => {
                        return Answer::Error { code: error.code, message: error.message };
                    }
                    Some(Ok(_) | Err(_)) | None => {}
                },
                LinkEvent::Binary(_) | LinkEvent::Flushed(_) | LinkEvent::Pong(_) => {}
            }
        }
        Answer::Silence
    };
    timeout(PATIENCE, answer).await.unwrap_or(Answer::Silence)
}
