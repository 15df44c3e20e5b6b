//! Claude Code, driven by lines of JSON both ways (`claude -p --input-format stream-json --output-format stream-json --verbose`).
//!
//! Only what the lines mean stands here. Reading never fails: what is not known is [`Line::Other`], and what is no JSON is
//! [`Line::Unreadable`]. What was seen of two versions of it holds; what only one says is optional.

mod asked;
mod behind;
mod launch;
mod read;
mod talk;
#[cfg(test)]
mod tests;
mod transcript;
mod write;

pub(crate) use self::launch::{argv, variables};
pub use self::read::{Block, Ended, Line, MessageState, Question, Reply, Retry, ToolEnd, Turn, line};
pub(crate) use self::talk::Talk;
pub use self::talk::{INITIALIZE, dollars};
pub use self::transcript::{is_said, recall};
pub use self::write::{Request, Verdict, answer, answers, message, refuse, request};
