//! The daemon's journal: every input is written down with the clocks and with what came of it. It is what the next
//! life of the daemon begins with, and a recording that can be taken again step by step.
//!
//! Segments lie in `journal/` under the home, each a state and the steps behind it. See [`mod@format`] for
//! their bytes.

pub mod format;
pub mod read;
mod recover;
pub mod reduce;
pub mod replay;
mod write;

pub use read::{Damage, Segment, segments};
pub use recover::{JournalError, Recovered, recover};
pub use write::{Bounds, Journal, Standing};

/// Which makima this is: steps of another one's journal are not taken again. A build with a version of its own writes
/// another form of the state, too.
pub const BUILD: &str = match option_env!("MAKIMA_BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
