//! Whose turn it is in a repository of the user's. Tasks of this daemon come one after the other; who else is at work
//! there, the user's own git above all, is waited for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use super::super::git::GitError;
use super::super::reach::Held;
use super::super::trouble::Trouble;
use super::Job;

/// How long a git that holds a lock may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a checkout is looked at that has changes: git moves a branch and its files one after the other.
pub(super) const MOMENT: Duration = Duration::from_secs(1);
/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(20);

type Turn = Arc<tokio::sync::Mutex<()>>;

/// A turn for each repository, by the folder that it is, whatever leads there.
#[derive(Debug, Default)]
pub(in super::super) struct Targets(Mutex<BTreeMap<(u64, u64), Turn>>);

impl Targets {
    fn of(&self, common: &Held) -> io::Result<Turn> {
        let folder = File::from(common.handle().try_clone()?).metadata()?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(all.entry((folder.dev(), folder.ino())).or_default()))
    }
}

/// Why a try came to nothing.
pub(super) enum Stop {
    /// Somebody is at work there; for so long it is worth another look.
    Busy(String, Duration),
    Over(Trouble),
}

impl From<Trouble> for Stop {
    fn from(why: Trouble) -> Self {
        Self::Over(why)
    }
}

impl From<io::Error> for Stop {
    fn from(why: io::Error) -> Self {
        Self::Over(why.into())
    }
}

impl Job<'_> {
    pub(super) async fn turn(&self, common: &Held) -> Result<OwnedMutexGuard<()>, Trouble> {
        let turn = self.hands.targets.of(common)?;
        tokio::select! {
            turn = turn.lock_owned() => Ok(turn),
            () = self.cancel.set() => Err(GitError::Cancelled.into()),
        }
    }

    /// Tries in its turn, and again where somebody was at work. The turn is another's in between: who is at work there
    /// may be one of ours who waits for it.
    pub(super) async fn try_patiently(&self) -> Result<String, Trouble> {
        let mut since = None;
        loop {
            let turn = self.turn(&self.target.common).await?;
            let (why, patience) = match self.merge().await {
                Ok(done) => return Ok(done),
                Err(Stop::Over(why)) => return Err(why),
                Err(Stop::Busy(why, patience)) => (why, patience),
            };
            drop(turn);
            if since.get_or_insert_with(Instant::now).elapsed() >= patience {
                return Err(Trouble::Plain(why));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.cancel.set() => return Err(GitError::Cancelled.into()),
            }
        }
    }
}

/// Whether git stopped at a lock that somebody holds.
pub(super) fn is_locked(why: &GitError) -> bool {
    why.said().contains(".lock': File exists")
}
