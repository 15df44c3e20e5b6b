//! What the server is told of a task, and what it is known to have.

use alloc::string::String;
use alloc::vec::Vec;

use super::cx::Cx;
use super::output::Output;
use super::phase::{Event, Phase};
use super::spec::{End, EndStatus, Status};
use super::{Cut, Surroundings, Task};
use crate::effect::Work;
use crate::outbox::{Report, Sending};

impl Task {
    /// A command cannot apply: the server is told how things stand, and why where that helps.
    pub(crate) fn inapplicable(&mut self, why: Option<&str>, s: &mut Surroundings<'_>) {
        s.counters.inapplicable += 1;
        let status = self.status();
        self.within_phase(s, |cx| {
            if let Some(why) = why {
                cx.progress(why);
            }
            cx.report(Report::Status { old: status, new: status }, 0);
        });
    }

    /// A command cannot apply, and has a message of its own to say so.
    pub(crate) fn answer(&mut self, report: Report, why: &str, s: &mut Surroundings<'_>) {
        s.counters.inapplicable += 1;
        self.within_phase(s, |cx| {
            cx.progress(why);
            cx.report(report, 0);
        });
    }

    /// Answers a question that was not about the task itself.
    pub(crate) fn tell(&mut self, report: Report, why: Option<String>, s: &mut Surroundings<'_>) {
        self.within_phase(s, |cx| {
            if let Some(why) = why {
                cx.progress(why);
            }
            cx.report(report, 0);
        });
    }

    /// The same spawn came again: the present status is told, and the end again if it has ended.
    pub(crate) fn tell_again(&mut self, s: &mut Surroundings<'_>) {
        let status = self.status();
        let end = match &self.phase {
            Phase::Ended(end) => {
                Some(Report::Complete { success: end.status == EndStatus::Done, error: end.error.clone() })
            }
            Phase::Pending(_)
            | Phase::Preparing(_)
            | Phase::Keying(_)
            | Phase::Held
            | Phase::Starting(_)
            | Phase::Attaching(_)
            | Phase::Running(_)
            | Phase::Finishing(_)
            | Phase::Concluding(_) => None,
        };
        // Behind the end's own messages, if those still wait for the output.
        let after = if end.is_some() { self.output.log_end() } else { 0 };
        self.within_phase(s, |cx| {
            cx.report(Report::Status { old: status, new: status }, after);
            if let Some(end) = end {
                cx.report(end, after);
            }
        });
    }

    /// The next message to the server, to go out as frame `n` and, where it gets one, under the number `seq`.
    pub(crate) fn send(&mut self, n: u64, seq: Option<u64>) -> Option<Sending> {
        self.outbox.send(if bug!(EndOvertakesOutput) { u64::MAX } else { self.output.gate() }, n, seq)
    }

    /// The message that bears this number, once more.
    pub(crate) fn send_again(&mut self, seq: u64, n: u64) -> Option<Sending> {
        self.outbox.send_again(seq, n)
    }

    /// The numbers of its messages count no more.
    pub(crate) fn renumber(&mut self) {
        self.outbox.renumber();
    }

    /// Whether the next stretch of output is to be asked for. A server that knows of the end has had all of it.
    pub(crate) fn wants_read(&self) -> bool {
        !self.closed && self.output.wants_read()
    }

    pub(crate) fn read(&mut self, s: &mut Surroundings<'_>) {
        self.with_output(s, Output::read);
    }

    /// A barrier is set behind everything that was sent.
    pub(crate) fn barrier(&mut self) {
        self.output.barrier();
    }

    /// Everything up to frame `n`, and the output that was sent before that barrier, has been delivered.
    pub(crate) fn delivered(&mut self, n: u64, s: &mut Surroundings<'_>) {
        self.output.barrier_passed();
        let end_told = self.outbox.delivered(n);
        self.with_output(s, Output::record);
        self.told(end_told, s);
    }

    /// The server has applied our messages up to this number.
    pub(crate) fn applied(&mut self, seq: u64, s: &mut Surroundings<'_>) {
        let end_told = self.outbox.applied(seq);
        self.told(end_told, s);
    }

    /// The server has its output up to this place.
    pub(crate) fn got(&mut self, place: u64, s: &mut Surroundings<'_>) {
        self.with_output(s, |output, cx| {
            output.got(place, cx);
            output.record(cx);
        });
    }

    /// The server wants its output from this place on. One that knows of the end has said so before it heard of that.
    pub(crate) fn rewind(&mut self, place: u64, s: &mut Surroundings<'_>) {
        if !self.closed {
            self.with_output(s, |output, cx| output.go_on(place, cx));
        }
    }

    /// The server may know its key now, or its end.
    fn told(&mut self, end_told: bool, s: &mut Surroundings<'_>) {
        if matches!(self.phase, Phase::Keying(_)) && !self.outbox.owes_key() {
            self.advance(Event::KeyTold, s);
        }
        if end_told && !self.closed && !self.outbox.owes_end() {
            self.closed = true;
            self.with_output(s, Output::close);
            self.within_phase(s, |cx| cx.work(Work::Close));
        }
    }

    /// How far the server is known to have its output.
    pub(crate) const fn place(&self) -> u64 {
        self.output.delivered()
    }

    /// A session of version 2 of the wire is open, and its server has the output up to `place`, if it said so. Gives
    /// back output to be sent.
    pub(crate) fn placed(&mut self, place: Option<u64>, s: &mut Surroundings<'_>) -> Vec<Cut> {
        let mut cuts = Vec::new();
        self.with_output(s, |output, cx| output.placed(place, cx, &mut cuts));
        cuts
    }

    /// Whether something was sent that is not known to have got there.
    pub(crate) fn in_flight(&self) -> bool {
        self.outbox.in_flight() || self.output.in_flight()
    }

    /// The session is over.
    pub(crate) fn disconnected(&mut self, s: &mut Surroundings<'_>) {
        s.counters.resent += self.outbox.unsend();
        self.with_output(s, Output::disconnected);
    }
}

/// The last messages of a task, in their order; all held until the output has been delivered.
pub(super) fn tell_end(end: &End, old: Status, orchestrator: bool, cx: &mut Cx<'_>) {
    if let Some(completion) = &end.completion {
        cx.report(Report::Completion(completion.clone()), end.log_end);
    }
    // Even where none is known of: it may have been told by a life whose journal has lost that.
    if orchestrator && !bug!(KeyIsNotRevoked) {
        cx.report(Report::RevokeKey, end.log_end);
    }
    cx.report(Report::Status { old, new: end.status.into() }, end.log_end);
    let complete = Report::Complete { success: end.status == EndStatus::Done, error: end.error.clone() };
    cx.report(complete, end.log_end);
}
