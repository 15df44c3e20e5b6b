//! Before the agent runs: taken on, waiting for a slot, getting a worktree, being started.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::attach::{Attaching, Found};
use super::conclude::{Concluding, Left};
use super::cx::{Cx, Wait};
use super::finish::Finishing;
use super::key::Keying;
use super::pace::Pace;
use super::phase::{Event, Phase, Verdict};
use super::run::Running;
use super::spec::{Spec, Status};
use crate::agent;
use crate::effect::{Copy, Prepare, Start, Work};
use crate::input::{Outcome, Prepared};
use crate::limits;
use crate::outbox::Report;
use crate::policy::counted;
use crate::time::Millis;

/// Taken on, or about to be; waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The record on disk that is still being written.
    accepting: Option<Wait>,
    /// Somebody did not want it any more before it was written down.
    interrupted: bool,
    /// It was told that it will not get a slot.
    #[serde(default)]
    stuck: bool,
}

impl Pending {
    /// A new task: first of all it is written down.
    pub(crate) fn accept(spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        Phase::Pending(Self::accepting(spec, cx))
    }

    fn accepting(spec: &Spec, cx: &mut Cx<'_>) -> Self {
        let work = Work::Accept { spec: Box::new(spec.clone()) };
        Self { accepting: Some(cx.wait(work, limits::RECORD)), interrupted: false, stuck: false }
    }

    /// A task that is written down already.
    pub(crate) const fn accepted() -> Phase {
        Phase::Pending(Self { accepting: None, interrupted: false, stuck: false })
    }

    /// Whether it only waits for a slot.
    pub(crate) const fn is_ready(&self) -> bool {
        self.accepting.is_none()
    }

    /// It is said to be stuck. True where that is news.
    pub(crate) const fn is_news_that_it_is_stuck(&mut self) -> bool {
        !core::mem::replace(&mut self.stuck, true)
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.accepting.as_ref().map(|wait| wait.due)
    }

    pub(super) fn on(mut self, event: Event, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match event {
            Event::Done(id, outcome) if self.accepting.as_ref().is_some_and(|wait| wait.id == id) => {
                self.written(outcome, spec, cx)
            }
            Event::Slot if self.is_ready() => Preparing::begin(Status::Preparing, spec, cx),
            Event::Interrupt { .. } if self.is_ready() => {
                Concluding::begin(Verdict::Interrupted, Left::nothing(spec), Status::Pending, cx)
            }
            Event::Interrupt { .. } => {
                self.interrupted = !bug!(InterruptLostAtTheDoor);
                Phase::Pending(self)
            }
            Event::Due => match self.accepting.as_mut().map(|wait| (wait.id, wait.overdue(cx))) {
                Some((id, true)) => self.on(Event::Done(id, given_up()), spec, cx),
                _ => Phase::Pending(self),
            },
            // A task that has not begun is kept for the daemon's next life.
            Event::Slot
            | Event::Over(_)
            | Event::Done(..)
            | Event::Exited(..)
            | Event::Stop { .. }
            | Event::Hold
            | Event::KeyTold
            | Event::Told => Phase::Pending(self),
        }
    }

    pub(super) const fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// The daemon has a new life. `written`: the record of it is on the disk.
    pub(super) fn recover(self, written: bool, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match (&self.accepting, written) {
            (None, true) => Phase::Pending(self),
            (Some(_), true) => self.written(Outcome::Done, spec, cx),
            (_, false) => Phase::Pending(Self { interrupted: self.interrupted, ..Self::accepting(spec, cx) }),
        }
    }

    fn written(self, outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        if let Outcome::Failed(why) | Outcome::NoRoom(why) = outcome {
            return Concluding::unwritten(&why, spec, cx);
        }
        cx.report(Report::Accepted, 0);
        if self.interrupted {
            return Concluding::begin(Verdict::Interrupted, Left::nothing(spec), Status::Pending, cx);
        }
        Self::accepted()
    }
}

/// Its worktree is being made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Preparing {
    wait: Wait,
    stop: Option<Halt>,
    /// What the server was told last.
    shown: Status,
}

/// Why a task that has not started yet does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Halt {
    /// Somebody wants it to end.
    Interrupted,
    /// The daemon stops: it waits for the next one.
    Parked,
}

impl Preparing {
    pub(super) fn begin(shown: Status, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        let work = Work::Prepare(Box::new(Prepare {
            repository: spec.repository.clone(),
            credentials: spec.credentials,
            start: start(spec, cx),
            branch: spec.branch.clone(),
            plan: spec.plan.clone(),
            copy: copy(spec),
            conversation: spec.conversation.clone(),
        }));
        Phase::Preparing(Self { wait: cx.wait(work, limits::PREPARE), stop: None, shown })
    }

    pub(super) const fn deadline(&self) -> Millis {
        self.wait.due
    }

    pub(super) const fn shown(&self) -> Status {
        self.shown
    }

    pub(super) fn on(mut self, event: Event, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match event {
            Event::Done(id, outcome) if id == self.wait.id => self.prepared(outcome, spec, cx),
            Event::Interrupt { .. } => self.halt(Halt::Interrupted, cx),
            Event::Stop { .. } if self.stop.is_none() => self.halt(Halt::Parked, cx),
            Event::Due => {
                if self.wait.overdue(cx) {
                    let id = self.wait.id;
                    return self.on(Event::Done(id, given_up()), spec, cx);
                }
                Phase::Preparing(self)
            }
            Event::Slot
            | Event::Over(_)
            | Event::Done(..)
            | Event::Exited(..)
            | Event::Stop { .. }
            | Event::Hold
            | Event::KeyTold
            | Event::Told => Phase::Preparing(self),
        }
    }

    pub(super) const fn is_interrupted(&self) -> bool {
        matches!(self.stop, Some(Halt::Interrupted))
    }

    /// The daemon has a new life: the worktree is made from whatever is there of it.
    pub(super) fn recover(self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        Self::again(self.stop.filter(|_| !bug!(InterruptLostInARestart)), self.shown, spec, cx)
    }

    /// The daemon has a new life, and the worktree of the task may be there or not.
    pub(super) fn again(stop: Option<Halt>, shown: Status, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match stop {
            Some(Halt::Interrupted) => Concluding::begin(Verdict::Interrupted, Left::nothing(spec), shown, cx),
            Some(Halt::Parked) | None => Self::begin(shown, spec, cx),
        }
    }

    fn halt(mut self, why: Halt, cx: &mut Cx<'_>) -> Phase {
        self.stop = Some(why);
        self.wait.cancel(cx);
        Phase::Preparing(self)
    }

    fn prepared(self, outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match (self.stop, outcome) {
            (Some(Halt::Interrupted), _) => {
                Concluding::begin(Verdict::Interrupted, Left::nothing(spec), self.shown, cx)
            }
            (Some(Halt::Parked), _) => Pending::accepted(),
            (None, Outcome::Prepared(prepared)) => {
                cx.progress(match &prepared.base {
                    Some(commit) => format!("worktree ready at {}", short(commit)),
                    None => "worktree ready, empty".into(),
                });
                for note in &prepared.notes {
                    cx.progress(note.clone());
                }
                begin(prepared, self.shown, spec, cx)
            }
            (None, outcome) => Concluding::begin(Verdict::Failed(reason(outcome)), Left::nothing(spec), self.shown, cx),
        }
    }
}

/// The worktree stands: an orchestrator gets its key, and whoever is paused by then waits.
fn begin(prepared: Prepared, shown: Status, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
    if spec.orchestrator { Keying::begin(prepared, shown, cx) } else { Starting::begin(prepared, shown, spec, cx) }
}

/// Where the work starts, in this order: another task's state, what was asked for, the parent's last commit, the
/// default branch.
fn start(spec: &Spec, cx: &Cx<'_>) -> Start {
    match (spec.continues, &spec.base, spec.parent) {
        (Some(task), _, _) => Start::Continue(task),
        (None, Some(base), _) => Start::At(base.clone()),
        (None, None, Some(parent)) if cx.parent_here => Start::Parent(parent),
        (None, None, _) => Start::Default,
    }
}

fn copy(spec: &Spec) -> Option<Copy> {
    let from = spec.parent?;
    (!spec.copy.is_empty()).then(|| Copy { from, paths: spec.copy.clone() })
}

/// Its agent is being started.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Starting {
    wait: Wait,
    prepared: Prepared,
    /// Somebody wants it to end.
    interrupted: bool,
    /// What the server was told last.
    shown: Status,
}

impl Starting {
    /// Starts it, unless it is to stand still: then that comes first.
    pub(super) fn begin(prepared: Prepared, shown: Status, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        if *cx.hold {
            return Phase::Held;
        }
        let launch = agent::launch(spec, &prepared, (cx.api_url, cx.program));
        let wait = cx.wait(Work::Start(launch), limits::START);
        Phase::Starting(Self { wait, prepared, interrupted: false, shown })
    }

    pub(super) const fn deadline(&self) -> Millis {
        self.wait.due
    }

    pub(super) const fn shown(&self) -> Status {
        self.shown
    }

    pub(super) fn on(mut self, event: Event, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match event {
            Event::Done(id, outcome) if id == self.wait.id => self.started(outcome, spec, cx),
            // Before it runs nothing starts; what has begun all the same is ended.
            Event::Interrupt { .. } | Event::Stop { .. } => {
                self.interrupted = true;
                self.wait.cancel(cx);
                Phase::Starting(self)
            }
            Event::Due => {
                if self.wait.overdue(cx) {
                    let id = self.wait.id;
                    return self.on(Event::Done(id, given_up()), spec, cx);
                }
                Phase::Starting(self)
            }
            Event::Slot
            | Event::Done(..)
            | Event::Exited(..)
            | Event::Over(_)
            | Event::Hold
            | Event::KeyTold
            | Event::Told => Phase::Starting(self),
        }
    }

    /// The daemon has a new life: perhaps the agent was started, perhaps not.
    pub(super) fn recover(self, cx: &mut Cx<'_>) -> Phase {
        let Self { prepared, interrupted, shown, .. } = self;
        let asked = interrupted.then_some(false);
        let pace = Pace::unknown();
        Attaching::begin(Found { prepared, shown, begun: false, ending: None, asked, pace, dialog: None }, cx)
    }

    fn started(self, outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        let Outcome::Started { pid, .. } = outcome else {
            // Perhaps it runs all the same: the tree is emptied as after any other end.
            let verdict = if self.interrupted { Verdict::Interrupted } else { Verdict::Failed(reason(outcome)) };
            return Finishing::begin(None, self.prepared, verdict, cx);
        };
        let commands = self.prepared.setup.len() as u64;
        cx.progress(match commands {
            0 => format!("agent started (process {pid})"),
            _ => format!("setting up: {}, then the agent (process {pid})", counted(commands, "command")),
        });
        let running = Running::new(self.wait.id, self.prepared, Pace::default(), None, spec, cx);
        if self.interrupted {
            return running.on(Event::Interrupt { graceful: false }, cx);
        }
        Phase::Running(running)
    }
}

/// The answer in place of one that never came.
pub(super) fn given_up() -> Outcome {
    Outcome::Failed("it took too long and was given up".into())
}

/// Why something was not done, from an answer that is not the one that was asked for.
pub(crate) fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(why) | Outcome::NoRoom(why) => why,
        Outcome::Done
        | Outcome::Prepared(_)
        | Outcome::Started { .. }
        | Outcome::NotStarted
        | Outcome::Chunk(_)
        | Outcome::Emptied { .. }
        | Outcome::Committed(_)
        | Outcome::Key(_)
        | Outcome::Checked { .. }
        | Outcome::Branches { .. }
        | Outcome::Cloned { .. }
        | Outcome::Merging(_)
        | Outcome::Looked { .. }
        | Outcome::Measured { .. }
        | Outcome::Weighed(_)
        | Outcome::Delivered { .. } => "the executor gave an answer to another question".into(),
    }
}

/// A commit's id as people read it.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
