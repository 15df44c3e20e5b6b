//! What is counted: every drop, retry, refusal and duplicate, so that nothing goes wrong in silence.

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($( $(#[doc = $help:literal])+ $name:ident, )*) => {
        /// Counts since the daemon started.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub struct Counters {
            $( $(#[doc = $help])+ pub $name: u64, )*
        }

        impl Counters {
            /// Each counter with its name.
            #[must_use]
            pub fn all(&self) -> alloc::vec::Vec<(&'static str, u64)> {
                alloc::vec![$((stringify!($name), self.$name)),*]
            }

            /// What each counter counts, in the order of [`Counters::all`].
            #[must_use]
            pub const fn help() -> &'static [&'static str] {
                &[$(concat!($($help),+)),*]
            }
        }
    };
}

counters! {
    /// Connections asked for.
    connects,
    /// Sessions that were authenticated.
    sessions,
    /// The same, by long-poll.
    polling_sessions,
    /// WebSockets tried while polling.
    probes,
    /// Times that the next connection had to go another way than the one before.
    ways_changed,
    /// Times that the server refused the key.
    key_refused,
    /// Connections given up because nobody answered.
    silences,
    /// Frames that could not be read.
    unreadable,
    /// Inputs that named a connection that is gone.
    stale_frames,
    /// Answers to effects that nobody waits for.
    stale_effects,
    /// Commands that could not apply to the task they named.
    inapplicable,
    /// Commands for tasks that are not known here.
    unknown_tasks,
    /// Numbered commands that had been applied before.
    duplicate_commands,
    /// Sessions ended as numbers of the server's were missing.
    out_of_order,
    /// Times that our numbers had to begin anew.
    renumbered,
    /// Times that the server wanted output once more, from an earlier place.
    rewinds,
    /// Tasks asked for once more.
    duplicate_spawns,
    /// Tasks refused.
    refused_tasks,
    /// Messages sent again because delivery was in doubt.
    resent,
    /// Messages dropped because too many waited.
    dropped_reports,
    /// Inputs that nobody should have sent.
    misbehaved,
    /// Errors that the server reported.
    server_errors,
    /// Waits that were given up.
    timeouts,
    /// Commands taken from a journal of which nothing else could be trusted.
    salvaged,
}
