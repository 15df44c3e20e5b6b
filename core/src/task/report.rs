//! How one task stands, for people.

use alloc::string::ToString as _;

use super::Task;
use super::phase::Phase;
use super::spec::EndStatus;
use crate::report::TaskReport;
use crate::view::TaskState;

impl Task {
    /// Where it stands.
    pub(crate) fn at(&self) -> TaskState {
        match &self.phase {
            Phase::Pending(state) if state.is_ready() => TaskState::Waiting,
            Phase::Pending(_) => TaskState::Accepting,
            Phase::Preparing(_) => TaskState::Preparing,
            Phase::Keying(state) if state.is_made() => TaskState::TellingKey,
            Phase::Keying(_) => TaskState::MakingKey,
            Phase::Held => TaskState::Held,
            Phase::Starting(_) => TaskState::Starting,
            Phase::Attaching(_) => TaskState::Attaching,
            Phase::Running(state) => state.at(),
            Phase::Finishing(state) => state.at(),
            Phase::Concluding(state) => state.at(),
            Phase::Ended(end) => match end.status {
                EndStatus::Done => TaskState::Done,
                EndStatus::Failed => TaskState::Failed,
                EndStatus::Interrupted => TaskState::Interrupted,
            },
        }
    }

    /// How it stands.
    pub(crate) fn report(&self) -> TaskReport {
        TaskReport {
            id: self.spec.id,
            name: self.spec.name.clone(),
            status: self.status().as_str().to_string(),
            delivered: self.output.delivered(),
            messages: self.mailbox.messages(),
            needs: self.needs(),
            outbox: self.outbox.len(),
        }
    }
}
