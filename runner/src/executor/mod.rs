//! Carries out what the core asks for: processes, git, files. It decides nothing.
//!
//! Every [`Work`] is answered exactly once by [`Input::Done`], whatever happens to it.
//!
//! Architecture invariant: processes are started and files are written here, in `home` and in `launcher`,
//! and nowhere else in this crate.

mod again;
mod agent;
mod along;
mod answer;
mod bare;
mod before;
#[cfg(test)]
mod bounded;
mod branch;
mod brought;
mod cancel;
mod check;
mod commit;
mod conversation;
mod copy;
mod deliver;
mod fence;
mod foreign;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod git;
mod gone;
mod group;
mod harvest;
mod heard;
mod include;
mod into;
mod key;
#[cfg(target_os = "linux")]
mod kin;
mod lay;
mod leftovers;
mod lines;
mod locks;
mod log;
mod look;
mod mask;
mod merge;
mod other;
mod output;
mod packs;
mod pipes;
mod pr;
mod prepare;
mod proc;
mod reach;
mod reader;
mod record;
mod refs;
mod report;
mod room;
mod scene;
mod scratch;
mod settings;
mod shut;
mod sign;
mod source;
mod sparse;
mod stage;
mod still;
mod supervisor;
mod task;
mod trash;
mod tree;
mod trouble;
mod user;
mod wants;
mod workshop;
mod wrap;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sandbox::Walls;
use makima_core::effect::Work;
use makima_core::id::{EffectId, SecretId, TaskId};
use makima_core::input::{Input, Outcome};
use tokio::sync::mpsc;

pub use again::Again;
pub(crate) use bare::fnv;
pub(crate) use gone::{Gone, MARK, MARKS, Mark};
#[cfg(feature = "server")]
pub(crate) use group::OF_THE_DAEMON;
pub(crate) use group::own as own_group;
#[cfg(feature = "server")]
pub(crate) use group::trial as try_a_group;
pub use leftovers::{Leftovers, leftovers, leftovers_in};
pub(crate) use log::{HEAD, RECORD_MAX, head};
pub use look::is_dirty;
pub use mask::Secrets;
pub(crate) use proc::identity;
pub(crate) use proc::memory as proc_memory;
#[cfg(feature = "server")]
pub(crate) use proc::tells as proc_tells;
pub use record::RecordError;
pub(crate) use record::{Ending, Folder, Held, Identity, forgiving};
pub use room::{Size, size};
pub use settings::{Forge, OwnWants, Settings};
#[cfg(feature = "server")]
pub(crate) use settings::{OUTPUT_MAX, SET_UP_MAX};
pub use trash::{Entry, Trash};
pub use tree::Way;
pub(crate) use tree::agent_of;
pub use user::{Acquaintance, acquaint};

use answer::{Answer, CANCELLED, Desk};
use bare::Bare;
use git::Git;
use task::Task;
use user::User;

use crate::descriptors;
use crate::home::Home;

/// Why this machine cannot run tasks. For people.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// There is no git.
    #[error("git is needed: {0}")]
    NoGit(String),
    /// Git is too old, or is something else.
    #[error("git {oldest} or newer is needed, and this is `{said}`")]
    OldGit {
        /// What it said of itself.
        said: String,
        /// What is needed.
        oldest: String,
    },
    /// Nothing tells processes apart.
    #[error(
        "/proc does not tell of processes here: mount it, or set MAKIMA_PORTABLE=1 to do without (see docs/portable.md)"
    )]
    NoProc,
    /// The system gives us nothing to wait with.
    #[error("no event loop can be made: {0}")]
    Runtime(std::io::Error),
}

/// What all work is done with.
struct Hands {
    home: Home,
    settings: Settings,
    git: Git,
    user: User,
    /// How many descriptors an agent may have open.
    descriptors: Option<u64>,
    turns: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
    targets: into::Targets,
    silent: wants::Silent,
    tasks: Mutex<BTreeMap<TaskId, Arc<Task>>>,
}

impl Hands {
    /// Makes walls around work on what an agent has in its hands, which writes to these folders. What it gives blocks.
    fn walls(&self) -> impl Fn(&[&Path]) -> Walls + Send + use<> {
        let (home, sandbox) = (self.home.root().to_path_buf(), self.settings.sandbox.clone());
        move |write| Walls::around(&home, sandbox.as_ref(), write)
    }

    /// The shared repository in this folder.
    fn bare(&self, path: PathBuf) -> Bare {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(turns.entry(path.clone()).or_default());
        Bare { path, turn }
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<TaskId, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task that something was asked for in this life of the daemon.
    fn task(&self, id: TaskId) -> Option<Arc<Task>> {
        self.tasks().get(&id).map(Arc::clone)
    }

    /// The value of a secret: as it was told, or as an earlier life of the daemon wrote it down.
    fn secret(&self, id: SecretId) -> Option<String> {
        if let Some(value) = self.settings.secrets.get(id) {
            return Some(value);
        }
        let value = match id {
            SecretId::DaemonKey => None,
            SecretId::Credentials(task) => Folder::of(&self.home, task).credentials(),
            SecretId::ToolKey(task) => Folder::of(&self.home, task).key(),
        }?;
        self.settings.secrets.set(id, value.clone());
        Some(value)
    }
}

/// The executor. To be used inside a tokio runtime.
pub struct Executor {
    hands: Arc<Hands>,
    desk: Arc<Desk>,
    /// Of the tasks, those that nothing more is expected of.
    leaving: BTreeSet<TaskId>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("tasks", &self.hands.tasks().len()).finish_non_exhaustive()
    }
}

impl Executor {
    /// An executor that works in `home` and answers into `events`. This process may have as many descriptors as
    /// the system lets it from now on.
    ///
    /// # Errors
    /// This machine has no git that is new enough.
    pub fn new(home: Home, settings: Settings, events: mpsc::UnboundedSender<Input>) -> Result<Self, Unfit> {
        // On a thread of its own, so that it may be called inside a runtime too.
        let met = std::thread::scope(|scope| scope.spawn(|| user::meet(&settings)).join());
        let (git, user) = met.unwrap_or_else(|_| Err(Unfit::NoGit("asking for its version failed".to_owned())))?;
        if settings.way == Way::Full && !proc::tells() {
            return Err(Unfit::NoProc);
        }
        settings.know_secrets();
        let desk = Arc::new(Desk::new(events, settings.secrets.clone()));
        let descriptors = descriptors::raise();
        let hands = Arc::new(Hands {
            home,
            settings,
            git,
            user,
            descriptors,
            turns: Mutex::default(),
            targets: into::Targets::default(),
            silent: wants::Silent::default(),
            tasks: Mutex::default(),
        });
        Ok(Self { hands, desk, leaving: BTreeSet::new() })
    }

    /// Does one thing. The answer comes by itself.
    pub fn perform(&mut self, id: EffectId, task: TaskId, work: Work) {
        self.let_go();
        let answer = self.desk.open(id, writes(&work));
        let hands = Arc::clone(&self.hands);
        let entry = Arc::clone(hands.tasks().entry(task).or_insert_with(|| Arc::new(Task::new(task))));
        match work {
            Work::Read { from } => entry.read(&hands, answer, from),
            Work::Stdin { n, text } => entry.write(answer, n, text),
            Work::Attach => drop(tokio::spawn(async move { entry.attach(&hands, answer).await })),
            Work::Signal { signal } => entry.signal(&hands, answer, signal),
            // Neither waits for what was asked before.
            Work::Delivered { .. } => drop(tokio::spawn(async move { entry.perform(&hands, answer, work).await })),
            Work::Empty => {
                entry.call_off_start();
                tokio::spawn(async move { entry.perform(&hands, answer, work).await });
            }
            Work::Start(_) => {
                entry.asks_to_start(&answer.cancel);
                in_turn(hands, entry, answer, work, Turns::Worktree);
            }
            Work::Close | Work::Forget => {
                self.leaving.insert(task);
                in_turn(hands, entry, answer, work, Turns::Both);
            }
            Work::Accept { .. }
            | Work::Prepare(_)
            | Work::MakeKey
            | Work::Commit(_)
            | Work::Merge(_)
            | Work::Conclude { .. } => in_turn(hands, entry, answer, work, Turns::Worktree),
            // What lies in the worktree may have to be committed before.
            Work::Deliver(ref wanted) if wanted.commit.is_none() => in_turn(hands, entry, answer, work, Turns::Both),
            Work::Check(_) | Work::Deliver(_) | Work::Clone { .. } => {
                in_turn(hands, entry, answer, work, Turns::Handing);
            }
            Work::Discard | Work::Spare | Work::Purge => in_turn(hands, entry, answer, work, Turns::Both),
            // These are about processes only, or about nothing of the task's.
            Work::Freeze | Work::Thaw | Work::Measure | Work::Look { .. } => {
                drop(tokio::spawn(async move { entry.perform(&hands, answer, work).await }));
            }
            Work::Expire { .. } | Work::Weigh { .. } => {
                self.leaving.insert(task);
                tokio::spawn(async move { entry.perform(&hands, answer, work).await });
            }
        }
    }

    /// Holds nothing of tasks that have left any more. While something is done for one, its turns are needed: what is
    /// asked then waits for it.
    fn let_go(&mut self) {
        let mut tasks = self.hands.tasks();
        self.leaving.retain(|id| {
            let is_busy = tasks.get(id).is_some_and(|task| Arc::strong_count(task) > 1);
            if !is_busy {
                tasks.remove(id);
            }
            is_busy
        });
    }

    /// The daemon ends. Git that is under way is asked to end, and taken at its word for up to `limit`: killed, it would
    /// leave its lock files in the user's repositories, and a checkout half-way. Agents and their checks go on.
    pub async fn end(self, limit: Duration) {
        let until = tokio::time::Instant::now() + limit;
        while self.desk.cancel_writes() && tokio::time::Instant::now() < until {
            tokio::time::sleep(SOON).await;
        }
    }

    /// Leaves an effect be. It is answered all the same.
    pub fn cancel(&mut self, id: EffectId) {
        self.desk.cancel(id);
    }
}

/// Between two looks whether all of git has ended.
const SOON: Duration = Duration::from_millis(5);

/// Whether git writes to a repository for it.
const fn writes(work: &Work) -> bool {
    matches!(
        work,
        Work::Prepare(_) | Work::Commit(_) | Work::Merge(_) | Work::Deliver(_) | Work::Clone { .. } | Work::Purge
    )
}

/// For which of the two things that may be done for a task at once something waits: what is asked about a merge is not
/// to wait for half an hour of checks, nor a commit for somebody's copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turns {
    /// Its worktree and its repository are worked on.
    Worktree,
    /// Its work is checked, handed over or copied: its files are read.
    Handing,
    Both,
}

/// Does it when what was asked for the same task before, and is not to be done at the same time, is done.
fn in_turn(hands: Arc<Hands>, task: Arc<Task>, answer: Answer, work: Work, turns: Turns) {
    tokio::spawn(async move {
        let cancel = Arc::clone(&answer.cancel);
        let taken = async {
            // In this order, as handing over may take long, and the other turn is not held meanwhile by who waits for both.
            let handing = if turns == Turns::Worktree { None } else { Some(task.handing.lock().await) };
            let worktree = if turns == Turns::Handing { None } else { Some(task.turn.lock().await) };
            (worktree, handing)
        };
        let taken = tokio::select! {
            biased;
            taken = taken => taken,
            () = cancel.set() => return answer.give(Outcome::Failed(CANCELLED.to_owned())),
        };
        task.perform(&hands, answer, work).await;
        drop(taken);
    });
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|failure| format!("it broke off: {failure}"))
}

/// Turns a result into an outcome.
fn outcome<T>(result: Result<T, String>, good: impl FnOnce(T) -> Outcome) -> Outcome {
    result.map_or_else(Outcome::Failed, good)
}
