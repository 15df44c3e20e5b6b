//! Tasks that wait until others have ended well.

use std::collections::BTreeSet;

use makima_core::policy::shorten;
use makima_core::task::Status;
use makima_core::time::Millis;
use uuid::Uuid;

use super::task::{Life, Task};
use super::{Answer, Effect, End, Event, Hub};

/// Tasks that one task may need.
const NEEDS: usize = 1_000;

/// Characters of a task's name in what is said of another.
const NAME: usize = 80;

impl Hub {
    /// Whether a new task may need these. They are there already, so no circle can come about.
    pub(super) fn refuses_needs(&self, id: Uuid, needs: &[Uuid]) -> Option<Answer> {
        if needs.contains(&id) {
            return Some(Answer::NeedsItself);
        }
        if needs.len() > NEEDS {
            return Some(Answer::Full);
        }
        needs.iter().find(|need| !self.tasks.contains_key(need)).map(|need| Answer::NoSuchNeed(*need))
    }

    /// Those of these that have not ended well.
    pub(super) fn open_needs(&self, needs: &[Uuid]) -> BTreeSet<Uuid> {
        let open = |need: &&Uuid| self.tasks.get(need).is_none_or(|task| !task.is_done());
        needs.iter().filter(open).copied().collect()
    }

    /// A task that waits for others is entered with each of them.
    pub(super) fn hold_back(&mut self, seq: u64, id: Uuid, needs: &BTreeSet<Uuid>) {
        self.held_back.insert(seq, id);
        for need in needs {
            self.needed.entry(*need).or_default().insert(id);
        }
    }

    /// Says what a new task waits for; one of which it is certain that it cannot begin ends at once.
    pub(super) fn tell_needs(&mut self, now: Millis, id: Uuid, needs: &BTreeSet<Uuid>, out: &mut Vec<Effect>) {
        let name = |need: &Uuid| self.tasks.get(need).map(|task| shorten(&task.name, NAME));
        let names: Vec<String> = needs.iter().filter_map(name).take(3).collect();
        let more = needs.len().saturating_sub(names.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let summary = format!("waits for {}{more}", names.join(", "));
        if let Some(task) = self.tasks.get_mut(&id) {
            out.push(task.event(id, now, Event::Progress { summary }));
        }
        let ended = |need: &&Uuid| self.tasks.get(need).is_some_and(|task| matches!(task.life, Life::Ended { .. }));
        if let Some(error) = needs.iter().find(ended).and_then(|need| self.in_vain(*need)) {
            self.end(
                now,
                id,
                End { status: Status::Failed.as_str().to_owned(), success: false, error: Some(error) },
                out,
            );
        }
    }

    /// A task has ended: those that wait for it alone may begin. Gives those that never can, and why.
    pub(super) fn need_ended(&mut self, id: Uuid, success: bool) -> Vec<(Uuid, String)> {
        let mut in_vain = Vec::new();
        for dependent in self.needed.remove(&id).unwrap_or_default() {
            let why = self.in_vain(id);
            let Some(Task { seq, life: Life::Waiting { needs, .. }, .. }) = self.tasks.get_mut(&dependent) else {
                continue;
            };
            needs.remove(&id);
            if !success {
                in_vain.extend(why.map(|why| (dependent, why)));
            } else if needs.is_empty() {
                self.held_back.remove(seq);
                self.waiting.insert(*seq, dependent);
            }
        }
        in_vain
    }

    fn in_vain(&self, need: Uuid) -> Option<String> {
        let task = self.tasks.get(&need)?;
        let went = if task.status == Status::Interrupted.as_str() { "was interrupted" } else { "failed" };
        Some(format!("needs `{}`, which {went}", shorten(&task.name, NAME)))
    }
}

impl Task {
    /// Whether it has ended well.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.life, Life::Ended { .. }) && self.status == Status::Done.as_str()
    }
}
