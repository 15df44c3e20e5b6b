//! What both sides know: what was done to it all, and when, so that a task that fails is asked for its excuse; and what
//! is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use makima_tests::real::Failure;

use super::plan::Kind;
use super::report::Counts;

/// For everything to come to its end once nothing is done to it any more. Commits alone are tried again for ten minutes.
const REST: Duration = Duration::from_secs(900);

/// More than this that is wrong says nothing new.
const WRONG: usize = 20;

pub(crate) struct Ledger {
    began: Instant,
    log: Mutex<File>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wrong: Vec<String>,
    counts: Counts,
    /// Tasks whose supervisors were killed.
    supervisors: BTreeSet<String>,
    /// When gits were killed.
    gits: Vec<Instant>,
    /// Which disks were full, and when: from and to.
    full: Vec<(Kind, Instant, Option<Instant>)>,
    /// It cannot be gone on with.
    is_over: bool,
    /// Since when nothing is done any more.
    calm: Option<Instant>,
    /// A task that the daemon can be asked about.
    known: Option<String>,
}

/// What was done to a task, as far as that could fail it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excuse {
    pub(crate) supervisor: bool,
    pub(crate) git: bool,
    pub(crate) disk: bool,
}

impl Ledger {
    /// An empty one, which writes down what is done in a file there.
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let log = Mutex::new(File::create(root.join("torture.log"))?);
        Ok(Self { began: Instant::now(), log, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since it was begun.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Writes down what is done, for whoever looks into it afterwards.
    pub(crate) fn note(&self, what: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // By the clock of the other logs in the folder.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let (minute, second) = (now.as_secs() / 60 % 60, now.as_secs() % 60);
        let _ = writeln!(log, "{minute:02}:{second:02}.{:03} {what}", now.subsec_millis());
    }

    /// Something is wrong.
    pub(crate) fn wrong(&self, what: String) {
        self.note(&format!("WRONG {what}"));
        self.state().wrong.push(what);
    }

    pub(crate) fn all_wrong(&self) -> Vec<String> {
        self.state().wrong.clone()
    }

    /// Whether to go on would say nothing new.
    pub(crate) fn is_enough(&self) -> bool {
        self.state().wrong.len() >= WRONG
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.state().counts);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// Of what follows, before it is done: nobody is to see the one and not know of the other.
    pub(crate) fn done(&self, kind: Kind) {
        *self.state().counts.faults.entry(kind).or_default() += 1;
    }

    pub(crate) fn kills_supervisor(&self, task: &str) {
        self.state().supervisors.insert(task.to_owned());
    }

    pub(crate) fn kills_git(&self) {
        self.state().gits.push(Instant::now());
    }

    pub(crate) fn fills_disk(&self, kind: Kind) {
        self.state().full.push((kind, Instant::now(), None));
    }

    pub(crate) fn has_room(&self, kind: Kind) {
        for (_, _, to) in self.state().full.iter_mut().filter(|(disk, ..)| *disk == kind) {
            *to = to.or_else(|| Some(Instant::now()));
        }
    }

    /// Whether a disk is full: nobody begins anything then.
    pub(crate) fn is_full(&self) -> bool {
        self.state().full.iter().any(|(.., to)| to.is_none())
    }

    /// What was done to this task in its life, which was begun then.
    pub(crate) fn excuse(&self, task: &str, begun: Instant) -> Excuse {
        let state = self.state();
        Excuse {
            supervisor: state.supervisors.contains(task),
            git: state.gits.iter().any(|at| *at >= begun),
            disk: state.full.iter().any(|(disk, _, to)| *disk == Kind::DaemonFull && to.is_none_or(|to| to >= begun)),
        }
    }

    /// Nothing is done any more.
    pub(crate) fn calms(&self) {
        self.state().calm = Some(Instant::now());
        self.note("nothing is done any more");
    }

    /// It cannot be gone on with: nobody is waited for any more.
    pub(crate) fn ends(&self) {
        self.state().is_over = true;
    }

    /// Goes on for as long as there is time.
    ///
    /// # Errors
    /// There was enough of it since nothing is done any more, or enough is wrong.
    pub(crate) fn may_go_on(&self, with: &str) -> Result<(), Failure> {
        if self.is_enough() || self.state().is_over {
            return Err(format!("given up, as enough is wrong: {with}").into());
        }
        match self.state().calm {
            Some(calm) if calm.elapsed() > REST => {
                Err(format!("{REST:?} after the last fault it was still waited for {with}").into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn knows(&self, task: &str) {
        self.state().known = Some(task.to_owned());
    }

    pub(crate) fn known(&self) -> Option<String> {
        self.state().known.clone()
    }

    pub(crate) fn recovered(&self, kinds: &[Kind], took: Duration) {
        let recoveries: &mut BTreeMap<Kind, Vec<Duration>> = &mut self.state().counts.recoveries;
        for kind in kinds {
            recoveries.entry(*kind).or_default().push(took);
        }
    }
}
