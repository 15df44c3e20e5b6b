//! What Claude Code lets run behind the conversation, as far as it tells: while there is any, and until it has looked at what
//! came of it, the end of a turn is not the end.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::read::ToolEnd;
use crate::limits;

/// What runs behind the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Behind {
    /// Commands and agents of its own, by its names for them.
    jobs: BTreeMap<String, Job>,
    /// One has ended, and a turn follows that nobody asks for: in that it looks at what came of it.
    returns: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Job {
    /// The use of a tool that began it.
    tool: String,
    /// It is known to run behind the conversation; else the tool waits for it.
    behind: bool,
}

impl Behind {
    /// Whether anything runs there.
    pub(super) fn runs(&self) -> bool {
        self.jobs.values().any(|job| job.behind)
    }

    /// Whether a turn is to come that nobody asks for.
    pub(super) const fn returns(&self) -> bool {
        self.returns
    }

    /// A turn begins.
    pub(super) const fn returned(&mut self) {
        self.returns = false;
    }

    /// It is not waited for any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A job has begun. Older versions do not say whether it runs behind the conversation.
    pub(super) fn begun(&mut self, name: String, tool: String, behind: Option<bool>) {
        if self.jobs.len() < limits::AGENT_JOBS {
            let job = self.jobs.entry(name).or_default();
            job.tool = tool;
            job.behind |= behind.unwrap_or_default();
        }
    }

    /// A job has ended.
    pub(super) fn ended(&mut self, name: &str) {
        self.returns |= self.jobs.remove(name).is_some_and(|job| job.behind);
    }

    /// These are all that run behind the conversation.
    pub(super) fn are(&mut self, names: Vec<String>) {
        let gone: Vec<String> = self
            .jobs
            .iter()
            .filter(|(name, job)| job.behind && !names.contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.ended(&name);
        }
        for name in names {
            let tool = self.jobs.get(&name).map(|job| job.tool.clone()).unwrap_or_default();
            self.begun(name, tool, Some(true));
        }
    }

    /// What goes on after its tool has come to an end runs behind the conversation.
    pub(super) fn tools_ended(&mut self, ends: &[ToolEnd]) {
        for job in self.jobs.values_mut() {
            job.behind |= ends.iter().any(|end| end.id == job.tool);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    fn end(id: &str) -> ToolEnd {
        ToolEnd { id: id.to_string(), failed: false }
    }

    fn begun(behind: &mut Behind, name: &str, tool: &str, known: Option<bool>) {
        behind.begun(name.to_string(), tool.to_string(), known);
    }

    /// Protects a task from ending before its agent has looked at what it was waiting for.
    #[test]
    fn what_ends_behind_the_conversation_is_come_back_to() {
        let mut behind = Behind::default();
        behind.are(Vec::from(["b".to_string()]));
        begun(&mut behind, "b", "t", Some(true));
        behind.tools_ended(&[end("t")]);
        assert!(behind.runs() && !behind.returns());
        behind.ended("b");
        behind.are(Vec::new());
        assert!(!behind.runs() && behind.returns());
        behind.returned();
        assert_eq!(behind, Behind::default());
    }

    /// Protects a task from waiting for a turn that never comes: a command that its tool waits for is no such thing.
    #[test]
    fn what_a_tool_waits_for_is_not() {
        for known in [Some(false), None] {
            let mut behind = Behind::default();
            begun(&mut behind, "b", "t", known);
            behind.ended("b");
            behind.tools_ended(&[end("t")]);
            assert_eq!(behind, Behind::default());
        }
    }

    #[test]
    fn an_older_version_tells_by_going_on() {
        let mut behind = Behind::default();
        begun(&mut behind, "b", "t", None);
        assert!(!behind.runs());
        behind.tools_ended(&[end("other")]);
        assert!(!behind.runs());
        behind.tools_ended(&[end("t")]);
        assert!(behind.runs());
        behind.ended("c");
        assert!(behind.runs() && !behind.returns());
        behind.forget();
        assert!(!behind.runs());
    }

    /// Protects the daemon's memory.
    #[test]
    fn jobs_have_a_bound() {
        let mut behind = Behind::default();
        behind.are((0..limits::AGENT_JOBS + 9).map(|n| n.to_string()).collect());
        assert_eq!(behind.jobs.len(), limits::AGENT_JOBS);
    }
}
