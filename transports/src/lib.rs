//! How a makima daemon's frames travel to its server and back: WebSocket, and long-poll where that cannot pass.
//!
//! [`open`] starts one connection as one task and gives a [`LinkHandle`] to send on; everything that
//! happens on it comes back as a [`LinkEvent`]. There is no policy here: nothing is tried again, nothing is
//! judged. What a failure means is decided by the core, which gets it as a
//! [`LinkCause`](makima_core::input::LinkCause).
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod answer;
mod cause;
mod client;
mod endpoint;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod handshake;
mod link;
mod longpoll;
mod outbox;
mod outward;
mod pump;
mod transport;
mod websocket;

pub use client::{ClientError, Options, Proxies, Roots, Timeouts, client_builder, install_crypto};
pub use endpoint::{Endpoint, EndpointError, endpoint};
pub use link::{LinkEvent, LinkHandle, Outgoing, open, open_on, open_with};
pub use transport::{Connection, Frame, Received, Transport};
pub use websocket::{WebSocket, WebSocketConnection};

/// The largest message that is taken in or sent, and the largest answer to a request of long-poll.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Bytes of frames that one push of long-poll carries; a frame that is larger goes by itself.
pub const MAX_PUSH: usize = 1 << 20;
