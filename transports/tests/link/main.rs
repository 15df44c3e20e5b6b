//! Both kinds of link against servers that behave, and servers that do not. On loopback only; every wait has
//! an end.

mod ends;
mod flow;
mod handshake;
mod http2;
mod longpoll;
mod obstacles;
mod requests;
mod support;
mod tls;
