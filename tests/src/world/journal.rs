//! The daemon's journal: every step is written down, some of it not for good when the daemon is killed. The next life
//! begins with what is left.

use std::fmt::Write as _;

use makima_core::Daemon;
use makima_core::effect::Effect;
use makima_core::held::Held;
use makima_core::input::{Chunk, Input, Part};
use makima_core::record::Record;
use makima_core::snapshot::Snapshot;
use makima_core::time::Now;
use serde::Serialize;
use serde::de::DeserializeOwned;

use makima_core::id::TaskId;

use super::{Far, World};
use crate::refine::{BUILD, Segment};

/// What is written down of one life of the daemon, and what waits for that.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    /// The state that the records begin with; none before it was begun.
    snapshot: Option<Snapshot>,
    /// Whether that is what the journal before leads to.
    goes_on: bool,
    /// What was done of each is put into words when somebody reads it.
    records: Vec<(Record, Vec<Effect>)>,
    /// So many of them outlast anything.
    synced: usize,
    /// So many were asked to: nothing becomes so of itself.
    asked: usize,
    /// What waits for that.
    held: Held,
    /// It cannot be written: nothing becomes for good, and nothing waits for that.
    trouble: bool,
}

impl Journal {
    pub(super) fn begin(daemon: &Daemon, goes_on: bool) -> Self {
        Self { snapshot: Some(daemon.snapshot()), goes_on, ..Self::default() }
    }

    /// The state that it was begun with.
    pub(super) fn state(&self) -> Snapshot {
        self.snapshot.clone().expect("a journal that was begun")
    }

    /// A step was taken. Gives back what may be carried out at once.
    pub(super) fn write(&mut self, record: Record, effects: Vec<Effect>) -> Vec<Effect> {
        self.records.push((record, effects.clone()));
        if effects.iter().any(Effect::waits_for_the_journal) {
            self.asked = self.records.len();
        }
        let at = self.records.len() as u64;
        let mut free: Vec<Effect> = effects.into_iter().filter_map(|effect| self.held.take(at, effect)).collect();
        free.extend(self.freed());
        free
    }

    /// Everything that was asked to be is for good. Gives back what may be carried out now.
    pub(super) fn sync(&mut self) -> Vec<Effect> {
        self.synced = self.asked;
        self.freed().collect()
    }

    /// It cannot be written any more. Gives back what waited for that and must not wait.
    pub(super) fn let_go(&mut self) -> Vec<Effect> {
        self.trouble = true;
        self.freed().collect()
    }

    fn freed(&mut self) -> impl Iterator<Item = Effect> {
        let (synced, trouble) = (self.synced as u64, self.trouble);
        std::iter::from_fn(move || self.held.let_go(synced, trouble))
    }

    pub(super) const fn is_in_trouble(&self) -> bool {
        self.trouble
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.asked
    }

    /// How many records there are.
    pub(super) const fn next(&self) -> u64 {
        self.records.len() as u64 + 1
    }

    /// Puts the state in the place of its records, where all of them are for good and nothing waits.
    pub(super) fn shorten(&mut self, daemon: &Daemon) {
        if !self.trouble && self.loose() == 0 && !self.records.is_empty() && self.held.is_empty() {
            *self = Self::begin(daemon, true);
        }
    }

    /// How many records are left where of what is not for good only so many 255ths are.
    pub(super) fn kept(&self, kept: u8) -> usize {
        self.synced + self.loose() * usize::from(kept) / usize::from(u8::MAX)
    }

    /// So many records would be lost in a crash, at most.
    pub(super) const fn loose(&self) -> usize {
        self.records.len() - self.synced
    }

    /// Writes down what waits. Which record each waits for says nothing: one flush lets go of all.
    pub(super) fn lay_open(&self, text: &mut String) {
        write!(text, "{:?}", (self.is_synced(), self.trouble)).expect("a string takes everything");
        for effect in self.waiting() {
            write!(text, "{effect:?}").expect("a string takes everything");
        }
    }

    /// What waits.
    fn waiting(&self) -> impl Iterator<Item = Effect> + use<> {
        let mut held = self.held.clone();
        std::iter::from_fn(move || held.let_go(u64::MAX, false))
    }

    /// The daemon that the journal tells of, if of what is not for good only so many 255ths are left. Says whether
    /// all of it could be trusted. `doubt`: another version wrote it, whose steps may go another way.
    ///
    /// # Panics
    /// Where the steps, taken again, go another way than they did.
    pub(super) fn recover(
        self,
        kept: u8,
        doubt: bool,
        log: impl Fn(TaskId, &Chunk) -> Option<Vec<Part>>,
    ) -> (Daemon, bool) {
        let kept = self.kept(kept);
        // What is written and read again is the same: that is looked at in some of the lives.
        let is_written = self.records.len().is_multiple_of(WRITTEN);
        let snapshot = self.snapshot.expect("a journal that was begun");
        let snapshot = if is_written { written(&snapshot) } else { snapshot };
        let mut daemon = Daemon::restore(snapshot).expect("a whole snapshot");
        let mut trusted = !doubt;
        let mut effects = Vec::new();
        for (mut record, done) in self.records.into_iter().take(kept) {
            if is_written {
                record.effects = done.iter().map(ToString::to_string).collect();
                record = written(&record);
            }
            let whole = if trusted { record.whole(&daemon, &log) } else { None };
            if let Some((now, input)) = whole {
                daemon.step(now, input, &mut effects);
                daemon.check_state();
                // What is the same is put into the same words: these are needed only where they were written.
                assert!(effects == done, "{effects:?} was {done:?} in {record:?}");
                let compared = if is_written { effects.as_slice() } else { &[] };
                record.compare(compared, &mut daemon).unwrap_or_else(|difference| panic!("{difference} in {record:?}"));
                effects.clear();
                continue;
            }
            trusted = false;
            daemon.salvage(record.now, record.input);
            daemon.check_state();
        }
        daemon.check();
        (daemon, trusted)
    }
}

/// Of so many lives of the daemon, one's journal is written out and read again.
const WRITTEN: usize = 4;

/// As it comes back from a file.
fn written<T: Serialize + DeserializeOwned>(it: &T) -> T {
    let text = serde_json::to_string(it).expect("it can be written");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

impl<F: Far> World<F> {
    /// The journal of all lives of the daemon, from when it was to be kept.
    #[must_use]
    pub fn whole_journal(mut self) -> Vec<Segment> {
        self.keep_segment(usize::MAX);
        self.segments.unwrap_or_default()
    }

    /// The journal is begun anew. `goes_on`: the state is what the records before lead to.
    pub(super) fn begin_segment(&mut self, goes_on: bool) {
        self.keep_segment(usize::MAX);
        self.journal = Journal::begin(&self.daemon, goes_on);
    }

    /// Keeps so many records of the journal, if somebody is to read them.
    pub(super) fn keep_segment(&mut self, count: usize) {
        let Some(segments) = &mut self.segments else { return };
        let next = |segment: &Segment| segment.first + segment.records.len() as u64;
        let first = segments.last().map_or(1, next);
        let Journal { goes_on, records, .. } = &self.journal;
        let written = |(n, (record, done)): (u64, &(Record, Vec<Effect>))| Record {
            n,
            effects: done.iter().map(ToString::to_string).collect(),
            ..record.clone()
        };
        let records = (first..).zip(records).take(count).map(written).collect();
        let build = BUILD.to_owned();
        segments.push(Segment { build, first, goes_on: *goes_on, snapshot: self.journal.state(), records });
    }

    /// What the journal holds of a step that is about to be taken.
    pub(super) fn record(&self, now: Now, input: &Input) -> Record {
        Record::of(self.journal.next(), now, input)
    }

    /// What of a task still waits for the journal when its end is written down was given up on.
    pub(super) fn give_up_what_waits(&mut self, task: TaskId) {
        for effect in self.journal.waiting() {
            if let Effect::Work { task: of, work, .. } = effect
                && of == task
            {
                self.machine.give_up(task, &work);
            }
        }
    }

    /// Everything written so far is for good, and what waited for that is done.
    pub(super) fn sync(&mut self) -> bool {
        if self.journal.is_synced() {
            return false;
        }
        for effect in self.journal.sync() {
            self.take(effect);
        }
        true
    }
}
