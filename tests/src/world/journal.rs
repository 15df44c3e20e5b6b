//! The daemon's journal: every step is written down, some of it not for good when the daemon is killed. The next life
//! begins with what is left.

use makima_core::Daemon;
use makima_core::effect::Effect;
use makima_core::held::Held;
use makima_core::input::{Chunk, Input, Part};
use makima_core::record::Record;
use makima_core::snapshot::Snapshot;
use makima_core::time::Now;

use makima_core::id::TaskId;

use super::World;

/// What is written down of one life of the daemon, and what waits for that.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    /// The state that the records begin with, as it is written.
    snapshot: String,
    records: Vec<Record>,
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
    pub(super) fn begin(daemon: &Daemon) -> Self {
        let snapshot = serde_json::to_string(&daemon.snapshot()).expect("a snapshot can be written");
        Self { snapshot, records: Vec::new(), synced: 0, asked: 0, held: Held::default(), trouble: false }
    }

    /// A step was taken. Gives back what may be carried out at once.
    pub(super) fn write(&mut self, mut record: Record, effects: Vec<Effect>, digest: u64) -> Vec<Effect> {
        record.effects = effects.iter().map(ToString::to_string).collect();
        record.digest = Some(digest);
        self.records.push(record);
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
        let snapshot: Snapshot = serde_json::from_str(&self.snapshot).expect("a snapshot can be read");
        let mut daemon = Daemon::restore(snapshot).expect("a whole snapshot");
        let loose = self.records.len() - self.synced;
        let kept = self.synced + loose * usize::from(kept) / usize::from(u8::MAX);
        let mut trusted = !doubt;
        let mut effects = Vec::new();
        for record in self.records.into_iter().take(kept) {
            let line = serde_json::to_string(&record).expect("a record can be written");
            let record: Record = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
            let whole = if trusted { record.clone().whole(&daemon, &log) } else { None };
            if let Some((now, input)) = whole {
                daemon.step(now, input, &mut effects);
                daemon.check();
                record.compare(&effects, &mut daemon).unwrap_or_else(|difference| panic!("{difference} in {line}"));
                effects.clear();
                continue;
            }
            trusted = false;
            daemon.salvage(record.now, record.input);
            daemon.check();
        }
        (daemon, trusted)
    }
}

impl World {
    /// What the journal holds of a step that is about to be taken.
    pub(super) fn record(&self, now: Now, input: &Input) -> Record {
        Record::of(self.journal.next(), now, input)
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
