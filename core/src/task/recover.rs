//! A new life of the daemon: what is known of a task, from the journal and from its folder, becomes a task that goes
//! on. Effects of the life before are void; what was under way is asked for again, as each may be done twice.

use super::attach::{Attaching, Found};
use super::cx::Cx;
use super::output::Output;
use super::pace::Pace;
use super::phase::Phase;
use super::prepare::{Pending, Preparing};
use super::spec::{Spec, Status};
use super::{Surroundings, Task};
use crate::input::{Leftover, Prepared, Stage};

impl Task {
    /// A task that only its folder tells of.
    pub(crate) fn found(left: Leftover, arrival: u64, s: &mut Surroundings<'_>) -> Self {
        let mut task = Self::with(left.spec.clone(), arrival, Pending::accepted());
        task.recover(Some(left), s);
        task
    }

    /// A task that is known goes on. Its folder, if there is one, may know more of it.
    pub(crate) fn recover(&mut self, left: Option<Leftover>, s: &mut Surroundings<'_>) {
        s.counters.resent += self.outbox.unsend();
        if !bug!(MessageLostInARestart) {
            self.mailbox.unsend();
        }
        let (stage, delivered, closed) = match left {
            Some(Leftover { spec, stage, delivered, closed, skipped }) => {
                // What was accepted stands; a command that is taken again reads otherwise under another configuration, or where
                // less is known of the task that it continues.
                if !bug!(AcceptedOtherwise) {
                    self.is_of(spec);
                }
                if !bug!(SkipForgotten) {
                    self.errands.skip_all(skipped);
                }
                (Some(stage), delivered, closed)
            }
            None => (None, 0, false),
        };
        let (old, was_ended) = (self.phase.status(), self.has_ended());
        self.meter.recover(s.now);
        self.errands.recover_conflict();
        self.output = Output::resumed(self.output.delivered().max(delivered), None);
        self.phase = self.within(s, |phase, spec, cx| phase.recover(stage, spec, cx));
        if let Phase::Ended(end) = &self.phase {
            // A server that knows of the end has had all of the output before it.
            let news = closed && !self.closed;
            self.closed |= closed;
            let delivered =
                if self.closed && !bug!(ClosedTaskSendsAgain) { end.log_end } else { self.output.delivered() };
            self.output = Output::resumed(delivered, Some(end.log_end));
            if news {
                self.outbox.end_is_known(self.spec.id, was_ended);
            }
            if self.closed {
                return;
            }
        }
        self.changed(old, was_ended, s);
    }
}

impl Phase {
    /// What has become of it: `stage` is what its folder says, none where there is no folder.
    fn recover(self, stage: Option<Stage>, spec: &Spec, cx: &mut Cx<'_>) -> Self {
        match (self, stage) {
            (Self::Ended(end), _) | (_, Some(Stage::Ended(end))) => Self::Ended(end),
            (Self::Running(state), _) => state.recover(cx),
            (Self::Attaching(state), _) => state.recover(cx),
            (Self::Starting(state), _) if bug!(StartedTwice) => Preparing::begin(state.shown(), spec, cx),
            (Self::Starting(state), _) => state.recover(cx),
            (Self::Finishing(state), _) => state.recover(spec, cx),
            // It was to end before it began, as far as is known here; but it had begun.
            (Self::Concluding(state), Some(Stage::Started(prepared)))
                if state.shown() != Status::Finishing && !bug!(EndOfWhoHadBegun) =>
            {
                begun_unseen(prepared, state.shown(), Some(true), cx)
            }
            (Self::Concluding(state), _) => state.recover(cx),
            (Self::Pending(state), Some(Stage::Started(prepared))) if !bug!(FolderIsNotBelieved) => {
                let asked = state.is_interrupted().then_some(true);
                begun_unseen(prepared, Status::Preparing, asked, cx)
            }
            (Self::Preparing(state), Some(Stage::Started(prepared))) => {
                let asked = state.is_interrupted().then_some(true);
                begun_unseen(prepared, state.shown(), asked, cx)
            }
            (Self::Keying(state), Some(Stage::Started(prepared))) => {
                let asked = state.is_interrupted().then_some(true);
                begun_unseen(prepared, state.shown(), asked, cx)
            }
            (Self::Held, Some(Stage::Started(prepared))) => begun_unseen(prepared, Status::Paused, None, cx),
            (Self::Held, _) => Self::Held,
            (Self::Keying(state), _) => state.recover(spec, cx),
            (Self::Pending(state), stage) => state.recover(stage.is_some(), spec, cx),
            (Self::Preparing(state), _) => state.recover(spec, cx),
        }
    }
}

/// Its folder says that its agent was about to be started, which is news here.
fn begun_unseen(prepared: Prepared, shown: Status, asked: Option<bool>, cx: &mut Cx<'_>) -> Phase {
    let pace = Pace::unknown();
    Attaching::begin(Found { prepared, shown, begun: false, ending: None, asked, pace, dialog: None }, cx)
}
