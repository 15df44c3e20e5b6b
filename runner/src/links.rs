//! The connections that are open: what the core wants of them is done, what happens on them becomes inputs.

use std::collections::{BTreeMap, VecDeque};

use makima_core::effect::LinkEffect;
use makima_core::id::Epoch;
use makima_core::input::Input;
use makima_core::protocol::Wire;
use makima_transports::{Endpoint, LinkEvent, LinkHandle, open};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use crate::edge;
use crate::executor::Secrets;

/// Events of connections that may wait to be looked at; beyond it nothing is read.
const EVENTS: usize = 256;

/// For the last frames of connections that are closed when the daemon ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Both ends of a channel.
type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// Every connection that the core has asked for and not closed.
#[derive(Debug)]
pub(crate) struct Links {
    endpoint: Endpoint,
    secrets: Secrets,
    open: BTreeMap<Epoch, (LinkHandle, Wire)>,
    events: Channel<(Epoch, LinkEvent)>,
    /// What a frame said behind the first that it said.
    further: VecDeque<Input>,
}

impl Links {
    pub(crate) fn new(endpoint: Endpoint, secrets: Secrets) -> Self {
        Self { endpoint, secrets, open: BTreeMap::new(), events: mpsc::channel(EVENTS), further: VecDeque::new() }
    }

    /// Does what the core wants. What is for a connection that is gone is dropped.
    pub(crate) fn carry_out(&mut self, effect: LinkEffect) {
        match effect {
            LinkEffect::Connect { epoch, way } => {
                let handle = open(self.endpoint.clone(), way, epoch, self.events.0.clone());
                self.open.insert(epoch, (handle, Wire::One));
            }
            LinkEffect::Close { epoch } => {
                self.open.remove(&epoch);
            }
            LinkEffect::Send { epoch, .. }
            | LinkEffect::Output { epoch, .. }
            | LinkEffect::Say { epoch, .. }
            | LinkEffect::Ping { epoch, .. }
            | LinkEffect::Quiesce { epoch } => {
                if let Some((handle, _)) = self.open.get(&epoch)
                    && let Some(outgoing) = edge::outgoing(effect, &self.secrets)
                {
                    handle.send(outgoing);
                }
            }
        }
    }

    /// What happens next. Never ends; nothing is lost where it is not waited for to the end.
    pub(crate) async fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.further.pop_front() {
                return input;
            }
            let Some((epoch, event)) = self.events.1.recv().await else {
                // We hold a sender ourselves.
                std::future::pending().await
            };
            match &event {
                // Nothing more comes of it: nobody has to wait for its end.
                LinkEvent::Down(_) => {
                    self.open.remove(&epoch);
                }
                LinkEvent::Up(wire) => {
                    self.open.entry(epoch).and_modify(|(_, spoken)| *spoken = *wire);
                }
                LinkEvent::Frame(_) | LinkEvent::Binary(_) | LinkEvent::Flushed(_) | LinkEvent::Pong(_) => {}
            }
            let wire = self.open.get(&epoch).map_or(Wire::One, |(_, wire)| *wire);
            self.further.extend(edge::inputs(epoch, wire, event, &self.secrets));
        }
    }

    /// Lets the connections hand over what they were given before.
    pub(crate) async fn end(self) {
        let Self { open, mut events, .. } = self;
        let mut last: Vec<Epoch> = open.keys().copied().collect();
        drop(open);
        let gone = async {
            while !last.is_empty()
                && let Some((epoch, event)) = events.1.recv().await
            {
                if let LinkEvent::Down(_) = event {
                    last.retain(|open| *open != epoch);
                }
            }
        };
        // What has not gone out by then is told by the daemon's next life.
        let _ = timeout(LAST_WORDS, gone).await;
    }
}
