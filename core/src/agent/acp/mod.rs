//! Any agent that speaks the Agent Client Protocol, version 1: JSON-RPC 2.0 by lines, both ways.
//!
//! Only what the lines mean stands here. Reading never fails: what is not known is [`Line::Other`], and what is no JSON is
//! [`Line::Unreadable`]. We offer the agent nothing to call: no files, no terminals. What it asks for beside permissions is
//! refused by name.

mod permit;
mod read;
mod talk;
#[cfg(test)]
mod tests;
mod write;

use alloc::vec::Vec;

pub use self::read::{Answer, Choice, Line, Modes, Question, Tool, line};
pub(crate) use self::talk::Talk;
pub use self::talk::{INITIALIZE, MODE, SESSION};
pub use self::write::{INVALID, NOT_OFFERED, Request, answer, cancel, refuse, request};
use super::Acp;
use crate::effect::Arg;

/// Its command line: as it is configured.
pub(crate) fn argv(how: &Acp) -> Vec<Arg> {
    how.program.iter().cloned().map(Arg::Text).collect()
}
