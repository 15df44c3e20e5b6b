//! What a task may use up, as its user has it.

use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// What a task may use up at most; where nothing stands there is no end to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Allowance {
    /// For how long its agent may be at work.
    pub time: Option<Millis>,
    /// Bytes of memory of all its processes.
    pub memory: Option<u64>,
    /// How many processes it may have.
    pub processes: Option<u32>,
    /// What its agent may cost, in millionths of a dollar, by the agent's own account.
    pub cost: Option<u64>,
    /// What is done then.
    pub then: Then,
}

impl Allowance {
    /// Whether there is no end to anything.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        let Self { time, memory, processes, cost, then: _ } = self;
        time.is_none() && memory.is_none() && processes.is_none() && cost.is_none()
    }
}

/// What is done with a task that has used up what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It is ended, and its work is kept.
    #[default]
    End,
    /// It stands still until a person lets it go on, for as much again.
    Pause,
}
