//! `checkTargetExists`: a question about a path, which no task has to be known for.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{collections::VecDeque, format};

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Work};
use crate::id::{EffectId, TaskId};
use crate::input::Outcome;
use crate::limits;
use crate::outbox::Report;
use crate::step::Step;
use crate::task;
use crate::time::Millis;

/// Questions that wait for their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Looks(VecDeque<Look>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Look {
    id: EffectId,
    task: TaskId,
    path: String,
    /// On the clock of [`Now::awake`](crate::time::Now::awake): it is answered by then, one way or another.
    due: Millis,
}

impl Looks {
    /// When the oldest has waited too long.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.0.iter().map(|look| look.due).min()
    }

    fn take(&mut self, id: EffectId) -> Option<Look> {
        let at = self.0.iter().position(|look| look.id == id)?;
        self.0.remove(at)
    }
}

impl Step<'_> {
    /// Has a path looked at.
    pub(crate) fn look(&mut self, task: TaskId, path: String) {
        if self.daemon.core.looks.0.len() >= limits::LOOKS {
            let why = format!("{} paths are being looked at already", limits::LOOKS);
            return self.looked_at(task, path, false, Some(why));
        }
        let core = &mut self.daemon.core;
        let id = core.ids.next(task);
        self.out.push(Effect::Work { id, task, work: Work::Look { path: path.clone() } });
        let due = self.now.awake() + limits::LOOK;
        core.looks.0.push_back(Look { id, task, path, due });
    }

    /// An effect was answered: takes the outcome where it is one of these.
    pub(crate) fn looked(&mut self, id: EffectId, outcome: &Outcome) -> bool {
        let Some(Look { task, path, .. }) = self.daemon.core.looks.take(id) else { return false };
        if let Outcome::Looked { path, exists, refused } = outcome {
            self.looked_at(task, path.clone(), *exists, refused.clone());
        } else {
            self.looked_at(task, path, false, Some(task::reason(outcome.clone())));
        }
        true
    }

    /// Those that have waited too long are answered as if nothing were there.
    pub(crate) fn looks_due(&mut self) {
        let now = self.now.awake();
        let late: Vec<EffectId> =
            self.daemon.core.looks.0.iter().filter(|look| look.due <= now).map(|look| look.id).collect();
        for id in late {
            self.daemon.core.counters.timeouts += 1;
            self.daemon.core.ids.owners.remove(&id);
            self.out.push(Effect::Cancel { id });
            self.looked(id, &Outcome::Failed("looking at it took too long".into()));
        }
    }

    /// The daemon has a new life: what was asked is asked again.
    pub(crate) fn look_again(&mut self) {
        for Look { task, path, .. } in core::mem::take(&mut self.daemon.core.looks).0 {
            self.look(task, path);
        }
    }

    fn looked_at(&mut self, task: TaskId, path: String, exists: bool, why: Option<String>) {
        let report = Report::Target { path, exists };
        if self.daemon.tasks.contains_key(&task) {
            self.on_task(task, |task, s| task.tell(report, why, s));
        } else {
            if let Some(why) = why {
                self.loose(task, Report::Progress(why));
            }
            self.loose(task, report);
        }
    }
}
