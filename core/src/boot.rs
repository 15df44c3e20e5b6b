//! The daemon starts: what is known of its tasks, and what lies in their folders, goes on.

use alloc::collections::BTreeMap;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use crate::effect::Child;
use crate::id::TaskId;
use crate::input::{Boot, Leftover};
use crate::notice::Party;
use crate::rng::Rng;
use crate::step::Step;
use crate::task::Task;

impl Step<'_> {
    pub(crate) fn boot(&mut self, boot: Boot) {
        if boot.incarnation <= self.daemon.core.ids.incarnation {
            self.misbehaved(Party::Executor, "the daemon was started twice".to_string());
            return;
        }
        self.new_life(&boot);
        let known = |left: &Leftover| self.daemon.tasks.contains_key(&left.spec.id);
        let (known, found): (Vec<_>, Vec<_>) = boot.leftovers.into_iter().partition(known);
        let mut known: BTreeMap<TaskId, Leftover> = known.into_iter().map(|left| (left.spec.id, left)).collect();
        for id in self.daemon.tasks.keys().copied().collect::<Vec<_>>() {
            let left = known.remove(&id);
            self.on_task(id, |task, s| task.recover(left, s));
        }
        for left in found {
            let id = left.spec.id;
            // As when it is taken on: that it is not known must not be told once it is.
            if !bug!(UnknownThoughFound) {
                self.daemon.core.loose.forget(id);
            }
            let arrival = self.next_arrival();
            let task = self.with_tasks(|_, s| Task::found(left, arrival, s));
            self.daemon.tasks.insert(id, task);
            self.touched.insert(id);
        }
        for id in self.daemon.tasks.keys().copied().collect::<Vec<_>>() {
            if self.daemon.tasks.get(&id).is_some_and(Task::has_errands) && !bug!(ErrandForgotten) {
                let children = self.children(id);
                self.on_task(id, |task, s| task.recover_errands(&children, s));
            }
        }
        self.look_again();
        self.retain_anew();
        self.link(|link, s| link.boot(s));
    }

    /// The subtasks of a task that are known here.
    pub(crate) fn children(&self, of: TaskId) -> Vec<Child> {
        let known = self.daemon.index.children(of);
        known.filter_map(|id| self.daemon.tasks.get(&id)).map(Task::as_child).collect()
    }

    /// What belongs to one life of the daemon begins anew: its effects, its connection, its chance.
    fn new_life(&mut self, boot: &Boot) {
        if let Some(config) = &boot.config {
            self.daemon.config = (**config).clone();
        }
        let core = &mut self.daemon.core;
        if !bug!(EffectIdsUsedAgain) {
            core.ids.incarnation = boot.incarnation;
        }
        core.ids.last = 0;
        core.ids.owners.clear();
        core.rng = Rng::new(boot.seed);
        core.inbox.journal(false);
        if !bug!(StopOutlivesTheDaemon) {
            core.stopping = None;
        }
        core.session_over = false;
        core.exited = false;
        core.counters.resent += core.loose.unsend();
        self.daemon.index.starved.clear();
    }
}
