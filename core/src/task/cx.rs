//! What a task's transitions can reach beside the task itself: nothing else.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::brood::Brood;
use super::mailbox::{Mailbox, Origin};
use crate::counters::Counters;
use crate::effect::{Effect, Work};
use crate::id::{EffectId, TaskId};
use crate::limits;
use crate::notice::{Notice, Party};
use crate::outbox::{Outbox, Report};
use crate::time::Millis;

/// Makes effects' names, and knows whose each effect is that has not been answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) incarnation: u32,
    pub(crate) last: u64,
    #[serde(with = "pairs")]
    pub(crate) owners: BTreeMap<EffectId, TaskId>,
}

/// As a list: in JSON only text can be the key of a map.
mod pairs {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::id::{EffectId, TaskId};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<EffectId, TaskId>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<BTreeMap<EffectId, TaskId>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}

impl Ids {
    pub(crate) fn next(&mut self, owner: TaskId) -> EffectId {
        self.last = self.last.saturating_add(1);
        let id = EffectId { incarnation: self.incarnation, n: self.last };
        self.owners.insert(id, owner);
        id
    }
}

/// The surroundings of one transition of one task.
pub(crate) struct Cx<'a> {
    /// On the clock of [`Now::awake`](crate::time::Now::awake).
    pub(crate) now: Millis,
    /// The wall clock's, since 1970.
    pub(crate) unix: Millis,
    pub(crate) task: TaskId,
    /// Whether the session with the server is open.
    pub(crate) live: bool,
    /// Whether a person may be there who can be asked: a server of version 1 has no way to say what was answered.
    pub(crate) people: bool,
    /// Whether the daemon is about to end: then nothing is waited for that may never come.
    pub(crate) stopping: bool,
    /// The server's number of the command that is applied, and the series that it is of, where it has one.
    pub(crate) number: Option<(u64, u64)>,
    /// How far the task's output log has been read.
    pub(crate) log_read: u64,
    /// Where the server answers, for agents.
    pub(crate) api_url: &'a str,
    /// The daemon's own program, for agents.
    pub(crate) program: &'a str,
    /// Its subtasks, if it leads some.
    pub(crate) brood: Option<Brood>,
    /// One folder per task.
    pub(crate) worktrees: &'a str,
    /// Whether its parent is known here, and works on the same repository.
    pub(crate) parent_here: bool,
    /// Whether it is to stand still.
    pub(crate) hold: &'a mut bool,
    /// What is said to its agent.
    pub(crate) mailbox: &'a mut Mailbox,
    pub(crate) ids: &'a mut Ids,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) counters: &'a mut Counters,
    pub(crate) out: &'a mut Vec<Effect>,
}

impl Cx<'_> {
    /// Has something done. Its answer comes as an event of this task.
    pub(crate) fn work(&mut self, work: Work) -> EffectId {
        let id = self.ids.next(self.task);
        self.out.push(Effect::Work { id, task: self.task, work });
        id
    }

    /// Has something done that must be answered within `limit`.
    pub(crate) fn wait(&mut self, work: Work, limit: Millis) -> Wait {
        Wait { id: self.work(work), due: self.now + limit, cancelled: false }
    }

    pub(crate) fn cancel(&mut self, id: EffectId) {
        self.out.push(Effect::Cancel { id });
    }

    /// Tells the server, now or when it can be reached.
    pub(crate) fn report(&mut self, report: Report, after: u64) {
        if !self.outbox.push(self.task, report, after, self.live) {
            self.counters.dropped_reports += 1;
        }
    }

    /// Tells people a step: those at the server and those who read the log.
    pub(crate) fn progress(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.out.push(Effect::Tell(Notice::Task { task: self.task, what: what.clone() }));
        self.report(Report::Progress(what), 0);
    }

    /// Says something to the agent as a user would. False where it does not fit.
    pub(crate) fn message(&mut self, text: String) -> bool {
        self.mailbox.push(text, self.task, self.origin())
    }

    /// Keeps it for whoever goes on with the agent's conversation. Its number; none where it does not fit.
    pub(crate) fn late_message(&mut self, text: String) -> Option<u64> {
        self.mailbox.push_late(text, self.task, self.origin())
    }

    fn origin(&self) -> Origin {
        self.number.map_or(Origin::At(self.now), Origin::Numbered)
    }

    /// Counts that the agent said what it should not, and tells it.
    pub(crate) fn agent_misbehaves(&mut self, what: &str) {
        self.misbehaves(Party::Agent, what);
    }

    pub(crate) fn executor_misbehaves(&mut self, what: &str) {
        self.misbehaves(Party::Executor, what);
    }

    fn misbehaves(&mut self, who: Party, what: &str) {
        self.counters.misbehaved += 1;
        self.out.push(Effect::Tell(Notice::Misbehaved { who, what: what.to_string() }));
    }
}

/// An effect that a phase waits for, and not for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Wait {
    pub(crate) id: EffectId,
    /// When it has taken too long.
    pub(crate) due: Millis,
    /// Whether it has been cancelled: then it is given up at `due`.
    cancelled: bool,
}

impl Wait {
    /// Calls the effect off. It is still answered, and soon.
    pub(crate) fn cancel(&mut self, cx: &mut Cx<'_>) {
        if !self.cancelled {
            self.cancelled = true;
            self.due = cx.now + limits::CANCEL;
            cx.cancel(self.id);
        }
    }

    /// Lets it take no longer than `limit` from now.
    pub(crate) fn hurry(&mut self, limit: Millis, cx: &Cx<'_>) {
        self.due = self.due.min(cx.now + limit);
    }

    /// Its time is up: calls it off, and where that was done before, gives it up. True where it is given up.
    pub(crate) fn overdue(&mut self, cx: &mut Cx<'_>) -> bool {
        if cx.now < self.due {
            return false;
        }
        cx.counters.timeouts += 1;
        if self.cancelled {
            cx.ids.owners.remove(&self.id);
            cx.executor_misbehaves("an effect that was cancelled was not answered");
            return true;
        }
        self.cancel(cx);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects whoever looks at the counters from reports that are dropped in silence.
    #[test]
    fn a_report_that_is_dropped_is_counted() {
        let (mut hold, mut ids, mut outbox, mut mailbox) =
            (false, Ids::default(), Outbox::default(), Mailbox::default());
        let (mut counters, mut out) = (Counters::default(), Vec::new());
        let mut cx = Cx {
            now: Millis(0),
            unix: Millis(0),
            task: TaskId(uuid::Uuid::nil()),
            live: true,
            people: true,
            stopping: false,
            number: None,
            log_read: 0,
            api_url: "",
            program: "",
            brood: None,
            worktrees: "",
            parent_here: false,
            hold: &mut hold,
            mailbox: &mut mailbox,
            ids: &mut ids,
            outbox: &mut outbox,
            counters: &mut counters,
            out: &mut out,
        };
        for _ in 0..limits::REPORTS + 2 {
            cx.report(Report::MergeStatus(None), 0);
        }
        assert_eq!((counters.dropped_reports, outbox.len()), (2, limits::REPORTS));
    }
}
