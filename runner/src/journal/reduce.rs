//! Makes a recording that stops short, so that a person can read what led there, and a test can be made of it.

use std::collections::BTreeMap;
use std::time::Instant;

use makima_core::Daemon;
use makima_core::id::TaskId;
use makima_core::input::{Chunk, Input, Part};
use makima_core::record::Record;
use makima_core::reduce::{alike, reduce};
use makima_core::snapshot::Snapshot;
use uuid::Uuid;

use super::BUILD;
use super::format::{Header, VERSION};
use super::replay::{Recording, Stopped, step};

/// A recording that was made short.
#[derive(Debug)]
pub struct Reduced {
    /// The state that it begins with.
    pub header: Header,
    /// What is left.
    pub records: Vec<Record>,
    /// How a replay of it stops: as that of the whole one did.
    pub stops: Stopped,
    /// So many steps had been taken before that stopped.
    pub steps: usize,
    /// Whether nothing more can be left out. Else time was over before that was known.
    pub done: bool,
}

impl Recording {
    /// What is needed of it to stop in the same way. None where it goes to its end.
    ///
    /// Where something does not hold, whatever can be left out is: first the state that it begins with, then whole lives
    /// of the daemon, whole tasks, and single inputs. What they lead to now is written down for each. What was written
    /// down by another makima and goes another way here is what came of those inputs and no others, so there nothing is
    /// left out: what lies before the last state that was the same is put into the state that it begins with.
    ///
    /// Goes on until a moment; `told` gets how many records are left now and then.
    ///
    /// # Errors
    /// It cannot be taken again.
    pub fn reduce(
        self,
        log: impl FnMut(TaskId, &Chunk) -> Option<Vec<Part>>,
        until: Instant,
        told: impl FnMut(usize),
    ) -> Result<Option<Reduced>, Stopped> {
        let (snapshot, build) = (self.header.snapshot.clone(), self.header.build.clone());
        let mut records = Vec::new();
        match self.replay(log, |record| records.push(record)) {
            Ok(_) => Ok(None),
            Err(Stopped::Breaks { why, .. }) => {
                let search = Search { start: snapshot, records, why, until, done: true, told };
                Ok(Some(search.run()))
            }
            Err(stops @ Stopped::Differs(_)) => since_it_was_the_same(snapshot, build, records, stops).map(Some),
            Err(other) => Err(other),
        }
    }
}

/// The records behind the last state that is known to be the same.
fn since_it_was_the_same(
    snapshot: Snapshot,
    build: String,
    mut records: Vec<Record>,
    stops: Stopped,
) -> Result<Reduced, Stopped> {
    let steps = records.len();
    let before = records.split_last().map_or(&[][..], |(_, before)| before);
    let same = before.iter().rposition(|record| record.digest.is_some()).map_or(0, |at| at.saturating_add(1));
    let behind = records.split_off(same);
    let mut daemon = Daemon::restore(snapshot).map_err(|refused| Stopped::NoState(refused.to_string()))?;
    let mut effects = Vec::new();
    for record in records {
        let n = record.n;
        let (now, input) = record.whole(&daemon, |_, _| None).ok_or(Stopped::NoOutput { n })?;
        daemon.step(now, input, &mut effects);
        effects.clear();
    }
    let first = behind.first().map_or(1, |record| record.n);
    let header = Header { journal: VERSION, build, first, goes_on: false, snapshot: daemon.snapshot() };
    Ok(Reduced { header, records: behind, stops, steps, done: true })
}

/// What of a recording is needed for something not to hold.
struct Search<T> {
    /// The state that it begins with.
    start: Snapshot,
    /// All that led there, the last one is that behind which it does not hold.
    records: Vec<Record>,
    /// What does not.
    why: String,
    until: Instant,
    /// Whether there was time enough so far.
    done: bool,
    told: T,
}

impl<T: FnMut(usize)> Search<T> {
    fn run(mut self) -> Reduced {
        let steps = self.records.len();
        let all: Vec<usize> = (0..steps).collect();
        let blank = self.start.blank();
        let before = std::mem::replace(&mut self.start, blank);
        if !self.breaks(&all) {
            self.start = before;
        }
        let (lives, tasks) = (lives(&self.records), tasks(&self.records));
        let left = self.without(&all, |at| lives.get(at));
        let left = self.without(&left, |at| tasks.get(at));
        let left = self.without(&left, |at| at);
        let (records, why) = self.written(&left);
        let n = records.last().map_or(1, |record| record.n);
        let header =
            Header { journal: VERSION, build: BUILD.to_owned(), first: 1, goes_on: false, snapshot: self.start };
        Reduced { header, records, stops: Stopped::Breaks { n, why }, steps, done: self.done }
    }

    /// What is left of these records when groups of them that are not needed are left out.
    fn without<K: Ord>(&mut self, left: &[usize], group: impl Fn(usize) -> K) -> Vec<usize> {
        let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
        for at in left {
            groups.entry(group(*at)).or_default().push(*at);
        }
        let together = |groups: &[Vec<usize>]| {
            let mut all = groups.concat();
            all.sort_unstable();
            all
        };
        let needed = reduce(groups.into_values().collect(), |groups| {
            let some = together(groups);
            let breaks = self.breaks(&some);
            if breaks {
                (self.told)(some.len());
            }
            breaks
        });
        together(&needed)
    }

    /// Whether the same does not hold with these records alone. When time is over it is not asked any more.
    fn breaks(&mut self, some: &[usize]) -> bool {
        self.done &= Instant::now() < self.until;
        self.done && self.take(some, drop).is_some_and(|why| alike(&why, &self.why))
    }

    /// Takes these records alone. Gives what does not hold, if something does not; `seen` gets each as it goes now.
    fn take(&self, some: &[usize], mut seen: impl FnMut(Record)) -> Option<String> {
        let mut daemon = Daemon::restore(self.start.clone()).ok()?;
        let mut effects = Vec::new();
        for (at, record) in some.iter().filter_map(|at| self.records.get(*at)).enumerate() {
            let n = (at as u64).saturating_add(1);
            let (now, input) = record.whole(&daemon, |_, _| None)?;
            let mut record = Record::of(n, now, &input);
            record.keep_text(&input);
            effects.clear();
            let stepped = step(&mut daemon, now, input, &mut effects, some.len() as u64 == n);
            record.effects = effects.iter().map(ToString::to_string).collect();
            seen(record);
            if let Err(why) = stepped {
                return Some(why);
            }
        }
        None
    }

    /// These records as they go now, up to where it does not hold, and what does not.
    fn written(&self, some: &[usize]) -> (Vec<Record>, String) {
        let mut records = Vec::new();
        let why = self.take(some, |record| records.push(record));
        (records, why.unwrap_or_else(|| self.why.clone()))
    }
}

/// Of each record, in which life of the daemon it was.
fn lives(records: &[Record]) -> Vec<usize> {
    let mut life = 0_usize;
    let of = records.iter().map(|record| {
        life = life.saturating_add(usize::from(matches!(record.input, Input::Boot(_))));
        life
    });
    of.collect()
}

/// Of each record, the first task that it names. The beginning of a life may name many, and is no task's.
fn tasks(records: &[Record]) -> Vec<Option<Uuid>> {
    let named = |record: &Record| {
        let begins = matches!(record.input, Input::Boot(_));
        if begins { None } else { named(&serde_json::to_string(&record.input).unwrap_or_default()) }
    };
    records.iter().map(named).collect()
}

/// The first task that stands in a text of JSON.
fn named(json: &str) -> Option<Uuid> {
    json.split('"').filter(|word| word.len() == 36).find_map(|word| word.parse().ok())
}
