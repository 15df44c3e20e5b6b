//! Wakes those who follow a task once there is more of it on disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use crate::store::Head;

/// One watch per followed task; tasks that nobody follows have none.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<BTreeMap<Uuid, watch::Sender<Head>>>);

impl Heads {
    /// What is written after this call is seen by the receiver; what was written before stands in the store.
    pub(crate) fn follow(&self, task: Uuid) -> watch::Receiver<Head> {
        self.lock().entry(task).or_insert_with(|| watch::Sender::new(Head::default())).subscribe()
    }

    /// Forgets a task that nobody follows any more.
    pub(crate) fn tidy(&self, task: Uuid) {
        let mut heads = self.lock();
        if heads.get(&task).is_some_and(|head| head.receiver_count() == 0) {
            heads.remove(&task);
        }
    }

    pub(super) fn raise(&self, news: &BTreeMap<Uuid, Head>) {
        let heads = self.lock();
        if heads.is_empty() {
            return;
        }
        for (task, head) in news {
            if let Some(sender) = heads.get(task) {
                sender.send_modify(|old| *old = old.max(*head));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, watch::Sender<Head>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
