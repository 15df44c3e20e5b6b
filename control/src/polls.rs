//! Long-poll sessions that are known: each is a name that requests bear, and a mailbox.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
        let polling = Arc::new(Polling { id, mailbox, turn: tokio::sync::Mutex::default(), usage });
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
            let left = {
                let usage = self.lock();
                if usage.open > 0 { EXPIRY } else { EXPIRY.saturating_sub(usage.last.elapsed()) }
            };
            if left.is_zero() {
                return;
            }
            sleep(left).await;
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
    }
}
