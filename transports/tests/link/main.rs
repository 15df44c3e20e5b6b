//! The WebSocket link against servers that behave, and servers that do not. On loopback only; every wait has
//! an end.

mod ends;
mod flow;
mod handshake;
mod support;
mod tls;
