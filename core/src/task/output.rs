//! A task's output on its way from the log on disk to the server. The log is read only as fast as the link
//! takes it: memory holds a window, never the backlog.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::cx::Cx;
use super::lines::{Cut, Lines};
use super::stretches::Stretches;
use crate::effect::Work;
use crate::id::EffectId;
use crate::input::{Chunk, Outcome, Part};
use crate::limits;
use crate::protocol::Wire;
use crate::time::Millis;

/// How far a task's output log has been read, sent and delivered, in bytes of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Output {
    /// Whether there can be a log at all: not before an agent was started.
    open: bool,
    /// What has been read, in this session.
    cursor: u64,
    /// What has been read, in any.
    #[serde(default)]
    seen: u64,
    /// Where the log ends; unknown while somebody can write to it.
    end: Option<u64>,
    /// The log cannot be read behind `end`: wherever it ends, nothing more is had of it.
    lost: bool,
    /// What the server is known to have.
    delivered: u64,
    /// What the server will have once the barrier under way is passed.
    pinged: u64,
    /// The read that is under way.
    reading: Option<EffectId>,
    /// Whether the read under way belongs to a session that is over.
    stale: bool,
    /// Reads in a row that failed.
    failed_reads: u8,
    /// The log is not read before this, as it could not be.
    read_after: Option<Millis>,
    /// Whether a read has come to an end of the log that nobody has confirmed yet.
    dry: bool,
    /// Whether the unfinished lines have been closed in this session.
    finished: bool,
    /// What becomes of the text in this session.
    flow: Flow,
    /// What is written down as delivered.
    recorded: u64,
    /// The record that is being written.
    recording: Option<EffectId>,
    /// Not before this is the next record written.
    record_after: Millis,
}

/// How a session has output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Flow {
    /// A line a message; what was sent is delivered when a barrier is passed. The lines are those that the log's end so
    /// far does not finish.
    Lines(Lines),
    /// By its place in the log.
    Stretches(Stretches),
}

impl Default for Flow {
    fn default() -> Self {
        Self::Lines(Lines::default())
    }
}

impl Output {
    /// The output of a task that is taken on in a session that speaks `wire`.
    pub(crate) fn new(wire: Wire) -> Self {
        let flow = match wire {
            Wire::One => Flow::default(),
            Wire::Two => Flow::Stretches(Stretches::default()),
        };
        Self { flow, ..Self::default() }
    }

    /// The output of a task that an earlier life of the daemon left.
    pub(crate) fn resumed(delivered: u64, end: Option<u64>) -> Self {
        Self {
            open: end.is_some(),
            cursor: delivered,
            delivered,
            pinged: delivered,
            recorded: delivered,
            end: end.map(|end| end.max(delivered)),
            ..Self::default()
        }
    }

    /// What the server is known to have.
    pub(crate) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// An agent was started: there is a log.
    pub(crate) fn opened(&mut self) {
        self.open = true;
    }

    /// Nobody can write to the log any more. An outage may have left less of it than the server has.
    pub(crate) fn ended(&mut self, end: u64) {
        let end = if bug!(ServerHasMore) { end } else { end.max(self.delivered) };
        self.end = Some(self.end.filter(|_| self.lost).map_or(end, |lost| lost.min(end)));
        self.dry = false;
    }

    /// Where the log ends; what has been read, where that is not known: the server may have that.
    pub(crate) fn log_end(&self) -> u64 {
        self.end.unwrap_or(self.cursor.max(self.seen))
    }

    /// What is held until the output has been delivered up to some place may go up to here.
    pub(crate) fn gate(&self) -> u64 {
        let have = if bug!(EndTrustsTheWay) { self.cursor } else { self.delivered };
        if self.end.is_some_and(|end| have >= end) { u64::MAX } else { self.delivered }
    }

    /// Whether the next stretch of the log may be asked for.
    pub(crate) fn wants_read(&self) -> bool {
        let idle = self.reading.is_none() && self.read_after.is_none();
        self.open && !self.dry && idle && self.end.is_none_or(|end| self.cursor < end) && !self.is_full()
    }

    /// Whether so much is on its way that more has to wait for the server.
    fn is_full(&self) -> bool {
        let under_way = self.cursor.saturating_sub(self.delivered);
        matches!(self.flow, Flow::Stretches(_)) && under_way >= limits::UNACKNOWLEDGED
    }

    pub(crate) fn read(&mut self, cx: &mut Cx<'_>) {
        self.reading = Some(cx.work(Work::Read { from: self.cursor }));
        self.stale = false;
    }

    /// Takes the answer to an effect, if it is one of the output's.
    pub(crate) fn answer(&mut self, id: EffectId, outcome: &mut Outcome, cx: &mut Cx<'_>) -> Option<Vec<Cut>> {
        if self.recording == Some(id) {
            self.recording = None;
            return Some(Vec::new());
        }
        if self.reading != Some(id) {
            return None;
        }
        self.reading = None;
        let mut cuts = Vec::new();
        if self.stale || !cx.live {
            return Some(cuts);
        }
        if let Outcome::Chunk(chunk) = outcome {
            self.failed_reads = 0;
            self.take(core::mem::take(chunk), cx, &mut cuts);
        } else if let Outcome::Failed(why) | Outcome::NoRoom(why) = outcome {
            self.unreadable(why, cx, &mut cuts);
        }
        Some(cuts)
    }

    fn take(&mut self, chunk: Chunk, cx: &mut Cx<'_>, cuts: &mut Vec<Cut>) {
        if chunk.from != self.cursor || chunk.to < chunk.from {
            cx.executor_misbehaves("a stretch of output came that was not asked for");
            return;
        }
        self.dry = chunk.to == chunk.from;
        if self.dry && self.end.is_some_and(|end| self.cursor < end) && !bug!(ShortLogHoldsTheEnd) {
            return self.give_up("it is shorter than it was", cx, cuts);
        }
        // Behind the end somebody goes on writing who could not be ended: that is not read any further.
        if self.end.is_none_or(|end| self.cursor < end) {
            match &mut self.flow {
                Flow::Lines(lines) => {
                    for part in chunk.parts {
                        lines.push(cx.now, chunk.from, part, cuts);
                    }
                }
                Flow::Stretches(stretches) => {
                    if stretches.sent() == chunk.from && !bug!(GluedLines) {
                        stretches.begun(chunk.begun);
                    }
                    let last = self.end.filter(|_| !bug!(BeyondTheEnd)).unwrap_or(u64::MAX);
                    for part in chunk.parts {
                        let (to, line_end) = (part.to.min(last), part.line_end.map(|end| end.min(last)));
                        stretches.push(cx.now, Part { to, line_end, ..part }, cuts);
                    }
                }
            }
            self.cursor = self.end.map_or(chunk.to, |end| end.min(chunk.to));
            self.seen = self.seen.max(self.cursor);
        }
        self.finish(cuts);
    }

    /// What cannot be read is tried again for a while; then it is given up: the end must not wait for it for ever.
    fn unreadable(&mut self, why: &str, cx: &mut Cx<'_>, cuts: &mut Vec<Cut>) {
        if bug!(FailedReadIsEmpty) {
            self.dry = true;
            return;
        }
        self.failed_reads = self.failed_reads.saturating_add(1);
        if self.failed_reads < limits::READ_TRIES {
            if self.failed_reads == 1 {
                cx.progress(alloc::format!("the output cannot be read yet: {why}"));
            }
            self.read_after = Some(cx.now + limits::READ_AGAIN);
            return;
        }
        self.give_up(why, cx, cuts);
    }

    /// Nothing more is had of the log: it may not be readable, or an outage has cut it short.
    fn give_up(&mut self, why: &str, cx: &mut Cx<'_>, cuts: &mut Vec<Cut>) {
        cx.progress(alloc::format!("the rest of the output cannot be read: {why}"));
        self.end = Some(self.cursor);
        self.lost = true;
        self.finish(cuts);
    }

    /// Closes the unfinished lines once the whole log has been read.
    pub(crate) fn finish(&mut self, cuts: &mut Vec<Cut>) {
        let Some(end) = self.end.filter(|end| !self.finished && self.cursor >= *end) else { return };
        match &mut self.flow {
            Flow::Lines(lines) => lines.finish(cuts),
            Flow::Stretches(stretches) => stretches.finish(end, cuts),
        }
        self.finished = true;
    }

    /// Sends unfinished lines that have waited for long enough; ends the wait for another read.
    pub(crate) fn due(&mut self, now: Millis, cuts: &mut Vec<Cut>) {
        match &mut self.flow {
            Flow::Lines(lines) => lines.silence(now, cuts),
            Flow::Stretches(stretches) => stretches.silence(now, cuts),
        }
        self.read_after = self.read_after.filter(|after| *after > now);
    }

    /// A barrier is set behind everything that was sent.
    pub(crate) fn barrier(&mut self) {
        if let Flow::Lines(lines) = &self.flow {
            self.pinged = if bug!(HalfALineIsDelivered) { self.cursor } else { lines.resume(self.cursor) };
        }
    }

    /// Everything before that barrier has been delivered.
    pub(crate) fn barrier_passed(&mut self) {
        self.delivered = self.delivered.max(if bug!(ReadIsDelivered) { self.cursor } else { self.pinged });
    }

    /// Whether something was sent that a barrier has to be set behind.
    pub(crate) fn in_flight(&self) -> bool {
        match &self.flow {
            Flow::Lines(lines) => lines.resume(self.cursor) > self.delivered,
            Flow::Stretches(_) => false,
        }
    }

    /// Writes down how far the output has been delivered, now and then.
    pub(crate) fn record(&mut self, cx: &mut Cx<'_>) {
        if self.recording.is_none() && self.delivered > self.recorded && cx.now >= self.record_after {
            self.recorded = self.delivered;
            self.record_after = cx.now + limits::RECORD_DELIVERED;
            self.recording = Some(cx.work(Work::Delivered { to: self.delivered }));
        }
    }

    /// A session of version 2 of the wire is open. The server may have said up to which place it has the output.
    pub(crate) fn placed(&mut self, place: Option<u64>, cx: &mut Cx<'_>, cuts: &mut Vec<Cut>) {
        self.flow = Flow::Stretches(Stretches::default());
        self.go_on(place.unwrap_or(self.delivered), cx);
        self.finish(cuts);
    }

    /// The session is over: what was not delivered will be read again.
    pub(crate) fn disconnected(&mut self, cx: &mut Cx<'_>) {
        self.flow = Flow::default();
        self.read_from(self.delivered, cx);
        self.pinged = self.delivered;
    }

    /// The server knows of the task's end, and so has had all of the output before it, also where that is not known here.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>) {
        let end = self.log_end();
        if self.delivered >= end && self.cursor >= end {
            return;
        }
        (self.end, self.delivered, self.pinged, self.recorded) = (Some(end), end, end, end);
        self.flow = Flow::default();
        self.read_after = None;
        self.read_from(end, cx);
    }

    fn read_from(&mut self, place: u64, cx: &mut Cx<'_>) {
        self.cursor = place;
        self.finished = false;
        self.dry = false;
        if let Some(id) = self.reading {
            self.stale = true;
            cx.cancel(id);
        }
    }

    /// Goes on from where the server stands, be it before what it once had or behind what it was sent.
    pub(crate) fn go_on(&mut self, place: u64, cx: &mut Cx<'_>) {
        if !matches!(self.flow, Flow::Stretches(_)) {
            return;
        }
        let place = self.end.map_or(place, |end| place.min(end));
        self.delivered = place;
        self.recorded = self.recorded.min(place);
        self.flow = Flow::Stretches(Stretches::at(place));
        self.read_from(place, cx);
    }

    /// The server has it up to `place`, for good.
    pub(crate) fn got(&mut self, place: u64, cx: &mut Cx<'_>) {
        match &self.flow {
            Flow::Stretches(stretches) if place > self.delivered => {
                if place > stretches.sent() {
                    return self.go_on(place, cx);
                }
                self.delivered = place;
            }
            Flow::Stretches(_) | Flow::Lines(_) => {}
        }
    }

    /// When there is something to do that no other input tells of.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let lines = match &self.flow {
            Flow::Lines(lines) => lines.deadline(),
            Flow::Stretches(stretches) => stretches.deadline(),
        };
        let record = (self.recording.is_none() && self.delivered > self.recorded).then_some(self.record_after);
        if bug!(OutputHasNoDeadline) {
            return None;
        }
        [lines, record, self.read_after].iter().flatten().min().copied()
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        assert!(self.delivered <= self.cursor, "more is delivered than was read");
        assert!(self.recorded <= self.delivered, "more is written down than was delivered");
        assert!(self.end.is_none_or(|end| self.cursor <= end || !self.open), "read beyond the log's end");
        match &self.flow {
            Flow::Lines(lines) => lines.check(),
            Flow::Stretches(stretches) => {
                assert!(stretches.sent() <= self.cursor, "more was sent than was read");
                stretches.check();
            }
        }
    }
}
