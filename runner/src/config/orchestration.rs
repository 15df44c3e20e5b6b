//! What the embedded server lets orchestrators do.

use serde::Deserialize;

use super::limits::dollars;

/// `[orchestration]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrchestrationFile {
    /// How deep subtasks of subtasks may go, from the first orchestrator.
    pub max_depth: Option<u16>,
    /// How many tasks there may be below the first orchestrator, those that have ended too.
    pub max_subtasks: Option<u32>,
    /// What all of them may have cost, in dollars, before no more are begun.
    #[serde(deserialize_with = "dollars")]
    pub max_cost: Option<f64>,
}
