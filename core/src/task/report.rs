//! How one task stands, for people.

use alloc::string::ToString as _;

use super::Task;
use crate::report::TaskReport;

impl Task {
    /// How it stands.
    pub(crate) fn report(&self) -> TaskReport {
        TaskReport {
            id: self.spec.id,
            name: self.spec.name.clone(),
            status: self.status().as_str().to_string(),
            delivered: self.output.delivered(),
            messages: self.mailbox.len(),
            outbox: self.outbox.len(),
        }
    }
}
