//! What a daemon and a supervisor say to each other: a line of JSON each.
//!
//! Both begin with `hello`, the daemon first, which bears the name of this start of the task: whoever cannot say it is no
//! part of this, and is told nothing. It stands in records that an agent in a sandbox cannot read, and nowhere else.
//! Supervisors of before said it to whoever came, without being asked: no daemon may wait for that.
//! A line that is not understood is passed over, so that either side may be the older one; what stands here keeps its
//! meaning for good, and a greater version may only add to it.

use makima_core::input::ExitStatus;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version that is spoken here.
pub(crate) const VERSION: u32 = 4;

/// Since which version an agent can be stopped where it stands.
pub(crate) const HOLDS: u32 = 4;

/// The longest line: a message to an agent, with everything in it escaped.
pub(crate) const LINE: usize = 8 << 20;

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Told {
    /// Always first.
    Hello {
        /// What the daemon speaks.
        version: u32,
        /// The name of this start.
        nonce: String,
    },
    /// Hand this to the agent, unless it was handed to it before.
    Stdin {
        /// The how manieth message it is.
        n: u64,
        /// The bytes, as text.
        text: String,
    },
    /// Signal the agent's process group.
    Signal(Sign),
    /// The server has the output up to this place of the log. Since version 2.
    Delivered(u64),
}

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Sign {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGSTOP. Since version 4.
    Stop,
    /// SIGCONT. Since version 4.
    Continue,
    /// SIGKILL; and who then still holds the agent's pipes is not waited for. Since version 3.
    Kill,
}

/// From the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Said {
    /// Always first.
    Hello {
        /// What the supervisor speaks.
        version: u32,
        /// The name of this start.
        nonce: String,
        /// The agent's process.
        pid: i32,
        /// How far the output log is written.
        log: u64,
        /// The number of the newest message that the agent was handed, or is about to be. Older ones do not say it.
        #[serde(default)]
        handed: u64,
    },
    /// The log is written up to here.
    Log(u64),
    /// The agent has been handed the message of this number.
    Took(u64),
    /// It cannot be handed to it.
    Refused {
        /// The message.
        n: u64,
        /// Why.
        why: String,
    },
    /// The agent has ended. Told last, but for what descendants of its may still write.
    Exit(ExitStatus),
}

/// One line.
pub(crate) fn line(message: &impl Serialize) -> Vec<u8> {
    // Numbers and text: it can always be written.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Takes the whole lines out of what was heard, and reads them. What is not understood may be a newer one's.
pub(crate) fn lines<T: DeserializeOwned>(heard: &mut Vec<u8>) -> Vec<T> {
    let Some(last) = heard.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let open = heard.split_off(last.saturating_add(1));
    let whole = std::mem::replace(heard, open);
    whole.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
