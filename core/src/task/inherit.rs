//! What a task hands on to one that continues it, beside its worktree: the conversation of its agent.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::Task;
use crate::agent::{Agent, Conversation, GO_ON, GoingOn};
use crate::id::TaskId;

impl Task {
    /// The name of the conversation of its agent, if that has any.
    pub(crate) fn conversation(&self) -> Option<TaskId> {
        self.spec.agent.talks().then(|| self.spec.session())
    }

    /// The conversation that a task is to go on with which continues this one by `agent`. `in_use`: an agent is at it
    /// now, be it this one's.
    ///
    /// # Errors
    /// By that agent it cannot be gone on with.
    pub(crate) fn hand_on(&self, agent: &Agent, in_use: bool) -> Result<Option<Conversation>, String> {
        let (was, is) = (self.spec.agent.name(), agent.name());
        if was != is {
            return Err(format!(
                "the task that is to be continued was done by {was}, and this daemon's agent is {is}: start it with \
                 `--agent {was}`"
            ));
        }
        if !agent.talks() {
            return Ok(None);
        }
        if !agent.knows_names() {
            // It has no way to branch off; and where it named no session there is nothing to go on with but what it was told.
            let (id, session) = (self.spec.session(), self.session.clone());
            let (left, plan) = (self.mailbox.left().to_vec(), Some(self.spec.all_plans()));
            return Ok((!in_use).then_some(Conversation { id, session, how: GoingOn::Resumes, plan, left }));
        }
        let (id, how) = match &self.spec.conversation {
            _ if self.mailbox.is_heeded() || in_use && self.mailbox.is_at_work() => {
                (self.spec.session(), GoingOn::Resumes)
            }
            Some(conversation) => (conversation.id, conversation.how),
            None => (self.spec.id, GoingOn::Begins),
        };
        if !in_use {
            let left = self.mailbox.left().to_vec();
            return Ok(Some(Conversation { id, session: None, how, plan: None, left }));
        }
        // What it was told is its own agent's, which still works on it.
        let (session, plan, forks, left) = (None, None, GoingOn::Forks, Vec::new());
        Ok((how != GoingOn::Begins).then_some(Conversation { id, session, how: forks, plan, left }))
    }

    /// What an agent is told that continues it, where nobody says with what: a script is run again, who has talked goes on.
    pub(crate) fn same_again(&self) -> String {
        if self.spec.agent.talks() { GO_ON.to_string() } else { self.spec.plan.clone() }
    }
}
