//! The edge between the world and the core: frames become inputs, and no secret gets in.

use makima_core::effect::{Envelope, LinkEffect, Stretch};
use makima_core::id::{Epoch, SecretId, TaskId};
use makima_core::input::{Input, LinkCause};
use makima_core::policy::split_credentials;
use makima_core::protocol::{
    DaemonCommand, DaemonMessage, Frame, Meta, TaskOutput, Unreadable, UnreadableKind, Wire, envelope,
};
use makima_transports::{LinkEvent, Outgoing};

use crate::executor::Secrets;

/// What happened on a connection, as the core takes it, in order: a frame of version 2 may say several things.
/// Credentials in URLs are put among the secrets.
#[must_use]
pub fn inputs(epoch: Epoch, wire: Wire, event: LinkEvent, secrets: &Secrets) -> Vec<Input> {
    vec![match event {
        LinkEvent::Up(wire) => Input::LinkUp { epoch, wire },
        LinkEvent::Down(cause) => Input::LinkDown { epoch, cause: masked(cause, secrets) },
        LinkEvent::Flushed(n) => Input::Flushed { epoch, n },
        LinkEvent::Pong(n) => Input::Pong { epoch, n },
        LinkEvent::Binary(length) => Input::Unreadable { epoch, seq: None, what: binary(length) },
        LinkEvent::Frame(text) => match wire {
            Wire::One => message(epoch, None, &text, secrets),
            Wire::Two => return frame(epoch, &text, secrets),
        },
    }]
}

/// A frame of version 2.
fn frame(epoch: Epoch, text: &str, secrets: &Secrets) -> Vec<Input> {
    let mut frame = match Frame::read(text) {
        Ok(frame) => frame,
        Err(what) => return vec![Input::Unreadable { epoch, seq: None, what }],
    };
    let said = frame.said().map(|said| Input::Said { epoch, said });
    let body = frame.body.map(|body| message(epoch, frame.seq, body.get(), secrets));
    said.chain(body).collect()
}

/// A command.
fn message(epoch: Epoch, seq: Option<u64>, text: &str, secrets: &Secrets) -> Input {
    match DaemonCommand::read(text) {
        Ok(mut command) => {
            // What a server says of our key may hold it.
            if let DaemonCommand::ServerError(error) = &mut command {
                error.code = secrets.masked(&error.code);
                error.message = secrets.masked(&error.message);
            }
            let credentials = take_credentials(&mut command, secrets);
            Input::Command { epoch, seq, command: Box::new(command), credentials }
        }
        Err(mut what) => {
            what.message_type = what.message_type.map(|kind| secrets.masked(&kind));
            Input::Unreadable { epoch, seq, what }
        }
    }
}

/// What the far side said about a connection may hold what it was shown.
fn masked(cause: LinkCause, secrets: &Secrets) -> LinkCause {
    match cause {
        LinkCause::Unreachable(why) => LinkCause::Unreachable(secrets.masked(&why)),
        LinkCause::Refused { status, by_server, html, retry_after, detail } => {
            LinkCause::Refused { status, by_server, html, retry_after, detail: secrets.masked(&detail) }
        }
        LinkCause::Gone => LinkCause::Gone,
        LinkCause::Closed(why) => LinkCause::Closed(secrets.masked(&why)),
        LinkCause::Broken(why) => LinkCause::Broken(secrets.masked(&why)),
    }
}

fn binary(length: usize) -> Unreadable {
    Unreadable {
        kind: UnreadableKind::NotAMessage,
        message_type: None,
        reason: format!("a binary frame of {length} bytes"),
        column: 0,
    }
}

/// Takes `user:password` out of a repository's URL.
fn take_credentials(command: &mut DaemonCommand, secrets: &Secrets) -> Option<SecretId> {
    let DaemonCommand::SpawnTask(spawn) = command else { return None };
    let (bare, credentials) = split_credentials(spawn.repo_url.as_deref()?)?;
    let id = SecretId::Credentials(TaskId(spawn.task_id));
    secrets.set(id, credentials);
    spawn.repo_url = Some(bare);
    Some(id)
}

/// A URL as people may see it.
#[must_use]
pub fn shown(url: &str) -> String {
    split_credentials(url).map_or_else(|| url.to_string(), |(bare, _)| bare)
}

/// What the transport is to send; none for what is not about sending. Secrets come in only here.
#[must_use]
pub fn outgoing(effect: LinkEffect, secrets: &Secrets) -> Option<Outgoing> {
    match effect {
        LinkEffect::Send { n, mut message, secret, envelope: around, .. } => {
            if let Some(value) = secret.and_then(|id| secrets.get(id)) {
                fill_in(&mut message, value);
            }
            let text = message.write();
            let Some(Envelope { seq, len }) = around else { return Some(Outgoing::Message { n, text }) };
            let meta = len.map(|len| Meta { len: Some(len), ..Meta::default() });
            Some(Outgoing::Message { n, text: envelope(seq, &text, meta) })
        }
        LinkEffect::Output { n, task, text, pieces, stretch: None, .. } => {
            Some(Outgoing::Output { n, task: task.0, text, pieces })
        }
        LinkEffect::Output { n, task, text, pieces, stretch: Some(Stretch { off, end }), .. } => {
            let is_partial = pieces.first().is_some_and(|piece| piece.partial);
            let text = DaemonMessage::from(TaskOutput { task_id: task.0, output: text, is_partial }).write();
            let meta = Meta { off: Some(off), end: Some(end), len: None };
            Some(Outgoing::Message { n, text: envelope(None, &text, Some(meta)) })
        }
        LinkEffect::Say { n, said, .. } => Some(Outgoing::Message { n, text: Frame::from(said).write() }),
        LinkEffect::Ping { n, .. } => Some(Outgoing::Ping { n }),
        LinkEffect::Quiesce { .. } => Some(Outgoing::Quiesce),
        LinkEffect::Connect { .. } | LinkEffect::Close { .. } => None,
    }
}

/// Puts a secret into the message's empty field.
fn fill_in(message: &mut DaemonMessage, value: String) {
    if let DaemonMessage::Authenticate(authenticate) = message {
        authenticate.api_key = value;
    } else if let DaemonMessage::RegisterToolKey(register) = message {
        register.key = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects a URL's password from the core, and with it from every log and record.
    #[test]
    fn credentials_are_taken_out_of_urls() {
        let split = |url| split_credentials(url);
        let expect = |bare: &str, credentials: &str| Some((bare.to_string(), credentials.to_string()));
        assert_eq!(split("https://me:hunter2@host/a/b"), expect("https://host/a/b", "me:hunter2"));
        assert_eq!(split("HTTPS://token@host:8443/a"), expect("HTTPS://host:8443/a", "token"));
        assert_eq!(split("https://me:p@ss@host/a"), expect("https://host/a", "me:p@ss"));
        assert_eq!(shown("https://me:hunter2@host/a/b"), "https://host/a/b");
        assert_eq!(shown("/a/b@c"), "/a/b@c");
        assert_eq!(split("http://me:hunter2@host/a"), expect("http://host/a", "me:hunter2"));
        assert_eq!(split("https://host/a@b"), None);
        assert_eq!(split("ssh://git@host/a"), None);
        // Refused later; until then nobody sees it.
        assert_eq!(split("ssh://git:hunter2@host/a"), expect("ssh://git:@host/a", "git:hunter2"));
        assert_eq!(shown("ssh://git:hunter2@host/a"), "ssh://git:@host/a");
        assert_eq!(split("git@host:a"), None);
        assert_eq!(split("/a/b@c"), None);
    }
}
