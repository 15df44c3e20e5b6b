//! The signals by which a person or the service manager asks this program to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report::Failure;

/// Waits for them.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A person, with Ctrl-C.
    Interrupt,
    /// Whoever runs this program; or its terminal is gone.
    Terminate,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        let open = |kind| signal(kind).map_err(|error| Failure::unusable(format!("no signals can be had: {error}")));
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hangup: open(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.hangup.recv() => Asked::Terminate,
        }
    }
}
