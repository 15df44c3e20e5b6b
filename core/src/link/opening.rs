//! An attempt at a connection, up to where a session is open on it.

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::Surroundings;
use super::session::Session;
use crate::effect::{Effect, Envelope, LinkEffect, Way};
use crate::id::{Epoch, SecretId};
use crate::limits;
use crate::protocol::{Authenticate, Wire};
use crate::time::Millis;
use crate::view::LinkState;

/// An attempt at a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) epoch: Epoch,
    pub(super) way: Way,
    /// Until then it has to come further.
    pub(super) due: Millis,
    stage: Stage,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Stage {
    /// A connection was asked for.
    Connecting,
    /// It stands; the server has been told who we are.
    Authenticating(Session),
    /// Version 2 of the wire: the server lets us in, and has not said yet how it stands.
    Greeting(Session),
}

impl Opening {
    /// Asks for a connection.
    pub(super) fn connect(epoch: Epoch, way: Way, s: &mut Surroundings<'_>) -> Self {
        s.counters.connects += 1;
        s.out.push(Effect::Link(LinkEffect::Connect { epoch, way }));
        Self { epoch, way, due: s.now.mono + limits::CONNECT, stage: Stage::Connecting }
    }

    /// The connection stands: says who we are.
    pub(super) fn up(&mut self, wire: Wire, s: &mut Surroundings<'_>) {
        if self.stage != Stage::Connecting {
            return;
        }
        let mut session = Session::new(self.epoch, self.way, wire, s.now.mono);
        let hello = Authenticate {
            api_key: String::new(),
            machine_id: s.config.machine_id.clone(),
            hostname: s.config.hostname.clone(),
            max_concurrent_tasks: i32::try_from(s.config.max_tasks).unwrap_or(i32::MAX),
        };
        s.out.push(Effect::Link(LinkEffect::Send {
            epoch: self.epoch,
            n: session.next_frame(),
            message: Box::new(hello.into()),
            secret: Some(SecretId::DaemonKey),
            envelope: (wire == Wire::Two).then(Envelope::default),
        }));
        self.due = s.now.mono + limits::AUTHENTICATE;
        self.stage = Stage::Authenticating(session);
    }

    /// The server lets us in. Gives back the session where it is open with that; else the server's greeting is waited
    /// for. None where it was let in before, or could not be yet.
    pub(super) fn authenticated(&mut self, now: Millis) -> Option<Entered> {
        let Stage::Authenticating(session) = &self.stage else { return None };
        let session = session.clone().opened(now);
        if session.wire == Wire::One {
            return Some(Entered::Open(session));
        }
        self.due = now + limits::AUTHENTICATE;
        self.stage = Stage::Greeting(session);
        Some(Entered::Greeting)
    }

    /// The server has said how it stands: the session, which is open now.
    pub(super) fn greeted(&self) -> Option<Session> {
        match &self.stage {
            Stage::Greeting(session) => Some(session.clone()),
            Stage::Connecting | Stage::Authenticating(_) => None,
        }
    }

    pub(super) const fn is_authenticated(&self) -> bool {
        matches!(self.stage, Stage::Greeting(_))
    }

    pub(super) const fn session(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            Stage::Connecting => None,
            Stage::Authenticating(session) | Stage::Greeting(session) => Some(session),
        }
    }

    /// What it waits for.
    pub(super) const fn awaits(&self) -> &'static str {
        match &self.stage {
            Stage::Connecting => "the attempt to connect",
            Stage::Authenticating(_) => "`authenticate`",
            Stage::Greeting(_) => "`authenticated` with a greeting of its own",
        }
    }

    /// The same, as the reason of a deadline.
    pub(super) const fn deadline(&self) -> (Millis, &'static str) {
        let why = match &self.stage {
            Stage::Connecting => "an attempt to connect that nobody answers",
            Stage::Authenticating(_) => "`authenticated` that does not come",
            Stage::Greeting(_) => "a greeting that does not come",
        };
        (self.due, why)
    }

    pub(super) const fn at(&self) -> LinkState {
        match &self.stage {
            Stage::Connecting => LinkState::Connecting,
            Stage::Authenticating(_) => LinkState::Authenticating,
            Stage::Greeting(_) => LinkState::Greeting,
        }
    }

    /// For people.
    pub(super) const fn describe(&self) -> &'static str {
        match &self.stage {
            Stage::Connecting => "connecting",
            Stage::Authenticating(_) | Stage::Greeting(_) => "authenticating",
        }
    }

    pub(super) fn check(&self) {
        if let Stage::Authenticating(session) | Stage::Greeting(session) = &self.stage {
            session.check();
        }
    }
}

/// How far the server's word has let us in.
#[derive(Debug)]
pub(super) enum Entered {
    /// The session is open.
    Open(Session),
    /// The server has something to say first.
    Greeting,
}
