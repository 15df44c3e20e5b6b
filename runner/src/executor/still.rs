//! A task's processes standing still: as the core has them do, and for a moment while their files are looked at.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};

use super::cancel::Cancel;
use super::record::Folder;
use super::task::Task;
use super::{CANCELLED, Hands};

/// The longest that a look at its files may have a tree stand still.
const LOOK: Duration = Duration::from_secs(30);

/// For whom a tree stands still. Held while it is stopped or let go on.
#[derive(Debug, Default)]
pub(super) struct Still(Mutex<Standing>);

#[derive(Debug, Default)]
struct Standing {
    /// For the core. Not known before that has said so in this life of the daemon.
    for_the_core: Option<bool>,
    /// For so many looks at its files.
    looks: usize,
}

/// A tree that stands still while its files are looked at. It goes on when this is let go of, whatever has become of the
/// look, and after a while in any case. Where the daemon is killed meanwhile, the core lets it go on in its next life, as
/// it has each tree do as it is to.
pub(super) struct Standstill(#[expect(dead_code, reason = "what counts is when it is dropped")] oneshot::Sender<()>);

impl Still {
    /// A tree begins by going on.
    pub(super) fn begins(&self) {
        if let Ok(mut standing) = self.0.try_lock() {
            standing.for_the_core.get_or_insert(false);
        }
    }

    /// Stops the tree, or lets it go on, as the core wants it. That counts more than any look. One after the other, in the
    /// order in which it was asked for; what was called off by then is not done any more.
    pub(super) async fn for_the_core(
        &self,
        task: &Task,
        folder: Folder,
        stands: bool,
        cancel: &Cancel,
    ) -> Result<(), String> {
        let mut standing = self.0.lock().await;
        if cancel.is_set() {
            return Err(CANCELLED.to_owned());
        }
        standing.for_the_core = Some(stands);
        task.hold(folder, stands).await
    }

    /// Has the tree stand still for a look at its files. None where it stands for the core, or nobody knows yet whether it
    /// does: then it is left as it is.
    pub(super) async fn for_a_look(task: Arc<Task>, hands: &Hands) -> Option<Standstill> {
        let folder = Folder::of(&hands.home, task.id);
        let mut standing = task.still.0.lock().await;
        if standing.for_the_core != Some(false) {
            return None;
        }
        standing.looks += 1;
        if let Err(why) = task.hold(folder.clone(), true).await {
            tracing::warn!("task {} does not stand still to be looked at: {why}", task.id);
        }
        drop(standing);
        let (let_go, told) = oneshot::channel();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(LOOK, told).await;
            task.still.looked(&task, folder).await;
        });
        Some(Standstill(let_go))
    }

    /// A look is over.
    async fn looked(&self, task: &Task, folder: Folder) {
        let mut standing = self.0.lock().await;
        standing.looks = standing.looks.saturating_sub(1);
        if standing.looks > 0 || standing.for_the_core != Some(false) {
            return;
        }
        if let Err(why) = task.hold(folder, false).await {
            tracing::warn!("task {} was looked at and cannot be let go on: {why}", task.id);
        }
    }
}
