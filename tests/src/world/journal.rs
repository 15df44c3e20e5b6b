//! The daemon's journal: every step is written down, some of it not for good when the daemon is killed. The next life
//! begins with what is left.

use std::collections::VecDeque;

use makima_core::Daemon;
use makima_core::effect::Effect;
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
    /// Effects that must not be carried out before so many records are for good.
    held: VecDeque<(usize, Effect)>,
    /// It cannot be written: nothing becomes for good, and nothing waits for that.
    trouble: bool,
}

impl Journal {
    pub(super) fn begin(daemon: &Daemon) -> Self {
        let snapshot = serde_json::to_string(&daemon.snapshot()).expect("a snapshot can be written");
        Self { snapshot, records: Vec::new(), synced: 0, held: VecDeque::new(), trouble: false }
    }

    /// A step was taken. Gives back what may be carried out at once.
    pub(super) fn write(&mut self, mut record: Record, effects: Vec<Effect>, digest: u64) -> Vec<Effect> {
        record.effects = effects.iter().map(ToString::to_string).collect();
        record.digest = Some(digest);
        self.records.push(record);
        let at = self.records.len();
        let mut free = Vec::new();
        for effect in effects {
            let behind = effect.keeps_its_place() && !self.held.is_empty();
            if (effect.waits_for_the_journal() || behind) && !self.trouble {
                self.held.push_back((at, effect));
            } else {
                free.push(effect);
            }
        }
        free
    }

    /// Everything so far is for good. Gives back what may be carried out now.
    pub(super) fn sync(&mut self) -> Vec<Effect> {
        self.synced = self.records.len();
        self.held.drain(..).map(|(_, effect)| effect).collect()
    }

    /// It cannot be written any more. Gives back what waited for that and must not wait: all but acknowledgements.
    pub(super) fn let_go(&mut self) -> Vec<Effect> {
        self.trouble = true;
        self.held.drain(..).map(|(_, effect)| effect).filter(|effect| !effect.is_acknowledgement()).collect()
    }

    pub(super) const fn is_in_trouble(&self) -> bool {
        self.trouble
    }

    pub(super) fn is_synced(&self) -> bool {
        self.held.is_empty()
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
