//! Every bound of the core, and what happens at it.

use crate::time::Millis;

/// Characters kept of an unknown `type` for the log; the rest is cut.
pub const TYPE_SHOWN: usize = 64;

/// Characters of a name or URL that an error message shows; the rest is cut.
pub const NAME_SHOWN: usize = 200;

/// Characters of a task's name that are kept; the rest is cut.
pub const NAME: usize = 200;

/// Words of a plan that stand in for a missing name.
pub const NAME_WORDS: usize = 8;

/// Characters of a commit's subject; the rest is cut.
pub const SUBJECT: usize = 72;

/// Characters of a task's name that its branch bears; the rest is cut.
pub const SLUG: usize = 40;

/// Nobody may be silent for longer than this before the link is taken for dead.
pub const LINK_SILENCE: Millis = Millis::seconds(45);
