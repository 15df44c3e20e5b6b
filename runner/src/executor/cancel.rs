//! The wish that an effect under way be left.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Set once, seen by everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Cancel {
    set: AtomicBool,
    told: Notify,
}

impl Cancel {
    pub(super) fn cancel(&self) {
        self.set.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Ready once it is set.
    pub(super) async fn set(&self) {
        let told = self.told.notified();
        tokio::pin!(told);
        // Listening begins before looking, so that nothing falls in between.
        told.as_mut().enable();
        if !self.is_set() {
            told.await;
        }
    }
}
