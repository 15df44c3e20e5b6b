//! Long-poll sessions that are known: each is a name that requests bear, and a mailbox.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::app::App;
use crate::engine::Mailbox;
use crate::hub::SessionId;

/// Sessions at once, those included that are over and still remembered.
const SESSIONS: usize = 1024;

/// A session without a request for this long is over.
const EXPIRY: Duration = Duration::from_secs(90);

/// Every session that is known.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    sessions: Mutex<BTreeMap<Uuid, Arc<Polling>>>,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Polling {
    pub(crate) id: SessionId,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Held by the push whose turn it is.
    pub(crate) turn: tokio::sync::Mutex<()>,
    usage: Mutex<Use>,
    /// A request has ended.
    ended: Notify,
}

#[derive(Debug)]
struct Use {
    /// Requests that are open.
    open: usize,
    /// When the last of them ended.
    last: Instant,
}

/// A request of a session's, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Open(Arc<Polling>);

impl Polls {
    /// A new session. None if there are too many.
    pub(crate) fn add(&self, app: &Arc<App>, id: SessionId, mailbox: Arc<Mailbox>) -> Option<Uuid> {
        let name = Uuid::now_v7();
        let usage = Mutex::new(Use { open: 0, last: Instant::now() });
        let polling = Arc::new(Polling { id, mailbox, turn: Default::default(), usage, ended: Notify::new() });
        {
            let mut sessions = self.lock();
            if sessions.len() >= SESSIONS {
                return None;
            }
            sessions.insert(name, Arc::clone(&polling));
        }
        let owner = Arc::clone(app);
        app.tracker.spawn(async move {
            tokio::select! {
                () = polling.expired() => owner.polls.end(&owner, name),
                () = owner.stop.cancelled() => {}
            }
        });
        Some(name)
    }

    pub(crate) fn find(&self, name: Uuid) -> Option<Arc<Polling>> {
        self.lock().get(&name).cloned()
    }

    /// Forgets a session.
    pub(crate) fn end(&self, app: &App, name: Uuid) {
        let Some(polling) = self.lock().remove(&name) else { return };
        app.engine.leave(polling.id);
        polling.mailbox.close("expired", "this session was not used");
        tracing::info!(session = polling.id.0, "a long-poll session is over");
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Arc<Polling>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Polling {
    /// A request has come.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        let mut usage = self.lock();
        usage.open = usage.open.saturating_add(1);
        Open(Arc::clone(self))
    }

    /// Until it has not been used for too long.
    async fn expired(&self) {
        loop {
            // Before the look, so that no end of a request is missed.
            let ended = self.ended.notified();
            let left = {
                let usage = self.lock();
                (usage.open == 0).then(|| EXPIRY.saturating_sub(usage.last.elapsed()))
            };
            match left {
                None => ended.await,
                Some(Duration::ZERO) => return,
                Some(left) => sleep(left).await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Use> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut usage = self.0.lock();
        usage.open = usage.open.saturating_sub(1);
        usage.last = Instant::now();
        drop(usage);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Protects daemons that are there from being taken for gone, and the list of sessions from those that are.
    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_it_was_not_used_for_long() {
        let usage = Mutex::new(Use { open: 0, last: Instant::now() });
        let (mailbox, ended) = (Arc::default(), Notify::new());
        let polling = Arc::new(Polling { id: SessionId(1), mailbox, turn: Default::default(), usage, ended });
        let (first, second) = (polling.open(), polling.open());
        assert!(timeout(EXPIRY * 3, polling.expired()).await.is_err(), "a poll is held");
        drop(first);
        assert!(timeout(EXPIRY * 3, polling.expired()).await.is_err(), "another is");
        let start = Instant::now();
        let watched = Arc::clone(&polling);
        let expired = tokio::spawn(async move { watched.expired().await });
        sleep(Duration::from_secs(40)).await;
        drop(second);
        sleep(Duration::from_secs(60)).await;
        drop(polling.open());
        expired.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 190);
    }
}
