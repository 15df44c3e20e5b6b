//! What can happen to the link, by name.

use makima_core::input::{Input, LinkCause};
use makima_core::protocol::{DaemonCommand, Said};
use makima_core::view::{LinkState, Role};
use makima_core::{Compat, Daemon};

use super::{Machine, impossible};

/// All that can happen to it. `beside` is the WebSocket that is tried while polling, `before` the connection that
/// another has followed.
pub(super) const INPUTS: &[&str] = &[
    "new life",
    "connected",
    "not reached",
    "refused: the key",
    "refused: not this way",
    "refused: later",
    "closed",
    "broken",
    "session gone",
    "authenticated",
    "hello",
    "error: the key",
    "error: another",
    "a command",
    "another frame",
    "rubbish",
    "flushed",
    "beside: connected",
    "beside: lost",
    "beside: authenticated",
    "beside: error",
    "beside: another frame",
    "before: a frame",
    "before: lost",
    "from a connection that is gone",
    "a deadline",
    "the machine slept",
    "the daemon ends",
];

pub(super) fn machine() -> Machine {
    let states = LinkState::ALL.iter().map(|state| state.name()).collect();
    Machine { name: "link", states, inputs: INPUTS, never: impossible::LINK }
}

/// What an input is to the link; none where it is not for it.
pub(super) fn named(input: &Input, daemon: &Daemon) -> Option<&'static str> {
    let epoch = match input {
        Input::LinkUp { epoch, .. }
        | Input::LinkDown { epoch, .. }
        | Input::Command { epoch, .. }
        | Input::Unreadable { epoch, .. }
        | Input::Said { epoch, .. }
        | Input::Flushed { epoch, .. }
        | Input::Pong { epoch, .. } => *epoch,
        Input::Boot(_) => return Some("new life"),
        Input::Tick | Input::Done { .. } | Input::Exited { .. } | Input::Journal { .. } | Input::Stop { .. } => {
            return None;
        }
    };
    Some(match daemon.role(epoch) {
        Some(Role::Main) => main(input),
        Some(Role::Probe) => beside(input),
        Some(Role::Leaving) if matches!(input, Input::LinkDown { .. }) => "before: lost",
        Some(Role::Leaving) => "before: a frame",
        None => "from a connection that is gone",
    })
}

fn main(input: &Input) -> &'static str {
    if let Input::LinkDown { cause, .. } = input {
        down(cause)
    } else if let Input::Command { command, .. } = input {
        said(command)
    } else if matches!(input, Input::LinkUp { .. }) {
        "connected"
    } else if matches!(input, Input::Unreadable { .. }) {
        "rubbish"
    } else if matches!(input, Input::Said { said: Said::Hello(_), .. }) {
        "hello"
    } else if matches!(input, Input::Flushed { .. }) {
        "flushed"
    } else {
        "another frame"
    }
}

fn said(command: &DaemonCommand) -> &'static str {
    if let DaemonCommand::ServerError(error) = command {
        if Compat::default().refuses_key(&error.code) { "error: the key" } else { "error: another" }
    } else if matches!(command, DaemonCommand::Authenticated(_)) {
        "authenticated"
    } else {
        "a command"
    }
}

fn beside(input: &Input) -> &'static str {
    match main(input) {
        "connected" => "beside: connected",
        "authenticated" => "beside: authenticated",
        "error: the key" | "error: another" => "beside: error",
        _ if matches!(input, Input::LinkDown { .. }) => "beside: lost",
        _ => "beside: another frame",
    }
}

const fn down(cause: &LinkCause) -> &'static str {
    match cause {
        LinkCause::Unreachable(_) => "not reached",
        LinkCause::Refused { status: 401 | 403, by_server: true, .. } => "refused: the key",
        LinkCause::Refused { retry_after: Some(_), .. } => "refused: later",
        LinkCause::Refused { .. } => "refused: not this way",
        LinkCause::Gone => "session gone",
        LinkCause::Closed(_) => "closed",
        LinkCause::Broken(_) => "broken",
    }
}
