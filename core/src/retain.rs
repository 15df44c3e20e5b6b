//! What has ended is kept for a while: its worktree and its output for the longest, then in the trash, and what is known
//! of it longest of all. Nothing goes before the server knows of the end, and nothing goes at once.
//!
//! This is the one place where the wall clock decides something. It may be wrong, above all soon after a machine was
//! started: so nothing is looked at before a daemon has run for as long as from one look to the next, and nothing goes that
//! was not due at the look before as well.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Work};
use crate::id::{EffectId, TaskId};
use crate::input::Outcome;
use crate::limits;
use crate::notice::Notice;
use crate::room::{Candidate, Room};
use crate::step::{NOBODY, Step};
use crate::task::{Task, reason};
use crate::time::Millis;

/// For how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Keep {
    /// A worktree and its output, from when the server knows of the end.
    pub worktrees: Millis,
    /// What is in the trash.
    pub trash: Millis,
    /// What is known of a task, from when the server knows of the end.
    pub tasks: Millis,
    /// Bytes that worktrees, outputs and the trash may take together before what was handed over goes earlier.
    #[serde(default)]
    pub disk: Option<u64>,
    /// How often it is looked at what may go.
    #[serde(default = "usual_look")]
    pub look: Millis,
}

const fn usual_look() -> Millis {
    limits::SWEEP
}

impl Default for Keep {
    fn default() -> Self {
        let days = |days: u64| Millis::seconds(days * 24 * 60 * 60);
        Self { worktrees: days(14), trash: days(30), tasks: days(90), disk: None, look: usual_look() }
    }
}

/// What of a task's is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Part {
    /// Its worktree and its output.
    Worktree,
    /// All that is known of it.
    All,
}

impl Keep {
    /// What of a task's is due to go whose end the server has known for this long. A task is not forgotten before its
    /// worktree is due.
    #[must_use]
    pub fn due(&self, told: Millis) -> Option<Part> {
        if told < self.worktrees {
            None
        } else if told < self.tasks {
            Some(Part::Worktree)
        } else {
            Some(Part::All)
        }
    }
}

/// What is there of a task that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Remains {
    /// Since when the server is known to know of the end, by the wall clock.
    since: Option<Millis>,
    /// What was due when it was looked at last.
    due: Option<Part>,
    /// Whether its worktree and its output were put aside.
    bare: bool,
    /// They are in the trash to make room, and may leave it early.
    #[serde(default)]
    spared: bool,
}

impl Remains {
    /// It is looked at: what is to go now, if anything is.
    pub(crate) fn look(&mut self, unix: Millis, keep: &Keep) -> Option<Part> {
        let since = *self.since.get_or_insert(unix);
        let due = keep.due(unix.since(since));
        let before = core::mem::replace(&mut self.due, due);
        before.min(due).filter(|part| *part == Part::All && !bug!(NeverForgotten) || !self.bare)
    }

    /// That is gone.
    pub(crate) const fn gone(&mut self) {
        self.bare = true;
    }

    /// That is in the trash, and may leave it early.
    pub(crate) const fn spared(&mut self) {
        (self.bare, self.spared) = (true, true);
    }

    /// That is out of the trash.
    pub(crate) const fn purged(&mut self) {
        self.spared = false;
    }

    /// Whether it could make room without leaving the trash, and since when; none where it cannot make any.
    pub(crate) fn room(&self) -> Option<(bool, Millis)> {
        (!self.bare || self.spared).then_some((!self.bare, self.since?))
    }
}

/// What is to go, and when is looked again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Retention {
    /// On the clock of [`Now::awake`](crate::time::Now::awake).
    next: Millis,
    /// What is to go after what is going.
    waiting: VecDeque<Going>,
    /// Who makes room after them.
    #[serde(default)]
    pub(crate) room: Room,
    under_way: Option<UnderWay>,
}

/// Of one task, or of the trash where it names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Going {
    Task(TaskId, Part),
    Trash {
        before: Millis,
    },
    /// Nothing yet: it is weighed.
    Weigh,
    Room(Candidate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct UnderWay {
    id: EffectId,
    going: Going,
    due: Millis,
}

impl Retention {
    /// When something is due.
    pub(crate) fn deadline(&self) -> Millis {
        self.under_way.map_or(self.next, |under_way| under_way.due.min(self.next))
    }
}

impl Step<'_> {
    /// The daemon has a new life.
    pub(crate) fn retain_anew(&mut self) {
        let next = self.now.awake() + self.daemon.config.keep.look;
        self.daemon.core.retention = Retention { next, ..Retention::default() };
    }

    /// Looks at what has ended, now and then.
    pub(crate) fn retain(&mut self) {
        let now = self.now.awake();
        if let Some(UnderWay { id, due, .. }) = self.daemon.core.retention.under_way
            && due <= now
        {
            self.daemon.core.counters.timeouts += 1;
            self.daemon.core.ids.owners.remove(&id);
            self.out.push(Effect::Cancel { id });
            self.gone(id, &Outcome::Failed("it took too long".into()));
        }
        if self.daemon.core.retention.next <= now {
            self.daemon.core.retention.next = now + self.daemon.config.keep.look;
            // What a journal tells of that cannot be begun anew must stay.
            if !self.daemon.core.inbox.is_in_trouble() {
                self.sweep();
            }
        }
    }

    fn sweep(&mut self) {
        let (unix, keep) = (self.now.unix, self.daemon.config.keep);
        let mut going = VecDeque::new();
        for id in self.free() {
            let Some(task) = self.daemon.tasks.get_mut(&id) else { continue };
            let before = *task.remains();
            let part = task.remains().look(unix, &keep);
            // Of most nothing has changed since the last look.
            if *task.remains() != before {
                self.touched.insert(id);
            }
            going.extend(part.map(|part| Going::Task(id, part)));
        }
        going.push_back(Going::Trash { before: Millis(unix.0.saturating_sub(keep.trash.0)) });
        going.extend(keep.disk.map(|_| Going::Weigh));
        // What still waits from the last look is among them.
        self.daemon.core.retention.waiting = going;
        self.let_go();
    }

    /// Those that nobody needs any more.
    pub(crate) fn free(&self) -> Vec<TaskId> {
        let unended = |id: &TaskId| self.daemon.tasks.get(id).is_some_and(|task| !task.has_ended());
        // A subtask may be merged as long as its orchestrator is at work.
        let free = self.daemon.tasks.values().filter(|task| {
            task.is_at_rest() && !task.parent().is_some_and(|parent| unended(&parent) && !bug!(SubtaskGoesFirst))
        });
        free.map(Task::id).collect()
    }

    /// One at a time: nobody waits for it.
    fn let_go(&mut self) {
        let core = &mut self.daemon.core;
        if core.retention.under_way.is_some() {
            return;
        }
        let next = core.retention.waiting.pop_front();
        let Some(going) = next.or_else(|| core.retention.room.next().map(Going::Room)) else {
            return self.tell_of_room();
        };
        let (task, work) = match going {
            Going::Task(id, Part::Worktree) => (id, Work::Discard),
            Going::Task(id, Part::All) => (id, Work::Forget),
            Going::Trash { before } => (NOBODY, Work::Expire { before }),
            Going::Weigh => (NOBODY, self.weigh()),
            Going::Room(candidate) => (candidate.task, candidate.work()),
        };
        let core = &mut self.daemon.core;
        let id = core.ids.next(task);
        self.out.push(Effect::Work { id, task, work });
        let due = self.now.awake() + limits::DISCARD;
        core.retention.under_way = Some(UnderWay { id, going, due });
    }

    /// An effect was answered: takes the outcome where it is one of these.
    pub(crate) fn gone(&mut self, id: EffectId, outcome: &Outcome) -> bool {
        let Some(UnderWay { going, .. }) = self.daemon.core.retention.under_way.take_if(|going| going.id == id) else {
            return false;
        };
        match (going, outcome) {
            (Going::Task(id, Part::Worktree), Outcome::Done) => {
                self.on_task(id, |task, _| task.remains().gone());
            }
            // Else it was asked about meanwhile: the next look finds it.
            (Going::Task(id, Part::All), Outcome::Done) => {
                if self.daemon.tasks.get(&id).is_some_and(Task::is_at_rest) {
                    self.daemon.forget(id);
                }
            }
            (Going::Trash { .. }, Outcome::Done) => {}
            (Going::Weigh, Outcome::Weighed(weighed)) => self.weighed(weighed),
            (Going::Room(candidate), Outcome::Done) => {
                self.daemon.core.retention.room.made(candidate);
                let gone = if candidate.in_trash { Remains::purged } else { Remains::spared };
                self.on_task(candidate.task, |task, _| gone(task.remains()));
            }
            // It is not in commits that stay, say: others may be.
            (Going::Room(_), _) => {}
            // It is tried again at the next look.
            (Going::Task(..) | Going::Trash { .. } | Going::Weigh, other) => {
                let task = if let Going::Task(id, _) = going { Some(id) } else { None };
                self.out.push(Effect::Tell(Notice::NotGone { task, why: reason(other.clone()) }));
            }
        }
        self.let_go();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    #[test]
    fn what_has_ended_goes_in_two_steps() {
        let keep = Keep::default();
        let due = |days: u64| keep.due(Millis(days * DAY));
        assert_eq!([due(0), due(13)], [None; 2]);
        assert_eq!([due(14), due(89)], [Some(Part::Worktree); 2]);
        assert_eq!(due(90), Some(Part::All));
    }

    #[test]
    fn nothing_goes_that_is_due_for_the_first_time() {
        let (keep, mut remains) = (Keep::default(), Remains::default());
        let mut look = |days: u64| remains.look(Millis(days * DAY), &keep);
        assert_eq!(look(100), None, "its age begins when it is seen");
        assert_eq!(look(113), None);
        assert_eq!(look(115), None, "it is due now, and was not before");
        assert_eq!(look(115), Some(Part::Worktree));
        assert_eq!(look(300), Some(Part::Worktree), "that it is to be forgotten was not so before");
        assert_eq!(look(300), Some(Part::All));
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_moment_takes_nothing() {
        let (keep, mut remains) = (Keep::default(), Remains::default());
        let mut look = |days: u64| remains.look(Millis(days * DAY), &keep);
        look(20_000);
        assert_eq!([look(24_000), look(20_000), look(24_000), look(20_001)], [None; 4]);
        assert_eq!(look(0), None, "nor does one that goes back");
    }

    #[test]
    fn what_was_put_aside_is_not_put_aside_again() {
        let (keep, mut remains) = (Keep::default(), Remains::default());
        let day = |days: u64| Millis(days * DAY);
        assert_eq!([remains.look(day(1), &keep), remains.look(day(20), &keep)], [None; 2]);
        assert_eq!(remains.look(day(20), &keep), Some(Part::Worktree));
        remains.gone();
        assert_eq!([remains.look(day(21), &keep), remains.look(day(95), &keep)], [None; 2]);
        assert_eq!(remains.look(day(95), &keep), Some(Part::All));
    }
}
