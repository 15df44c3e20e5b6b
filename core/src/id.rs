//! Names of things: each its own type, so that one is never taken for another.

use core::cmp::Ordering;
use core::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A task, as the server named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub Uuid);

/// By its bytes, taken as one number: everything is looked up by it, and that takes two words where a text would take a
/// call.
impl Ord for TaskId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_u128().cmp(&other.0.as_u128())
    }
}

impl PartialOrd for TaskId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One effect of one life of the daemon. Never reused: the incarnation grows with every start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId {
    /// Which start of the daemon made it.
    pub incarnation: u32,
    /// Its number in that life, from 1.
    pub n: u64,
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.n)
    }
}

/// One attempt at a connection. Frames of an older epoch are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// A secret by name; its value never enters the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SecretId {
    /// The key that the daemon shows to its server.
    DaemonKey,
    /// The credentials that stood in this task's repository URL.
    Credentials(TaskId),
    /// The key by which this task's agent speaks to the server.
    ToolKey(TaskId),
}
