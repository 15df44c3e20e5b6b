//! What must hold of every answer to a request of long-poll, whoever gave it. For fuzzers only: in no build for people.

pub use crate::longpoll::fuzz::long_poll;
