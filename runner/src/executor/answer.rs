//! Answering every effect exactly once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use makima_core::id::EffectId;
use makima_core::input::{ExitStatus, Input, Outcome};
use tokio::sync::mpsc;

use super::cancel::Cancel;
use super::mask::Secrets;
use crate::descriptors;

/// Why something failed that was called off.
pub(super) const CANCELLED: &str = "it was cancelled";

/// Where answers go out, and which are still owed.
pub(super) struct Desk {
    events: mpsc::UnboundedSender<Input>,
    secrets: Secrets,
    owed: Mutex<BTreeMap<EffectId, Owed>>,
}

/// An answer that is owed.
struct Owed {
    cancel: Arc<Cancel>,
    /// Git writes for it, to repositories that others use as well: it is not to be killed without a word.
    writes: bool,
}

impl Desk {
    pub(super) fn new(events: mpsc::UnboundedSender<Input>, secrets: Secrets) -> Self {
        Self { events, secrets, owed: Mutex::default() }
    }

    /// A new debt. `writes`: git writes for it.
    pub(super) fn open(self: &Arc<Self>, id: EffectId, writes: bool) -> Answer {
        let cancel = Arc::new(Cancel::default());
        let owed = Owed { cancel: Arc::clone(&cancel), writes };
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).insert(id, owed);
        Answer { id, cancel, desk: Some(Arc::clone(self)) }
    }

    /// One that was answered already is none any more.
    pub(super) fn cancel(&self, id: EffectId) {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owed) = owed.get(&id) {
            owed.cancel.cancel();
        }
    }

    /// Calls off all that git writes for. Returns whether there is any left.
    pub(super) fn cancel_writes(&self) -> bool {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let writes = owed.values().filter(|owed| owed.writes);
        writes.map(|owed| owed.cancel.cancel()).count() > 0
    }

    fn settle(&self, id: EffectId, outcome: Outcome) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let outcome = match outcome {
            // What others said may hold what they were given.
            Outcome::Failed(why) | Outcome::NoRoom(why) => {
                let why = descriptors::explained(self.secrets.masked(&why));
                if lacks_room(&why) { Outcome::NoRoom(why) } else { Outcome::Failed(why) }
            }
            Outcome::Committed(Some(mut change)) => {
                change.note = change.note.map(|note| self.secrets.masked(&note));
                Outcome::Committed(Some(change))
            }
            Outcome::Prepared(mut prepared) => {
                prepared.notes = prepared.notes.iter().map(|note| self.secrets.masked(note)).collect();
                Outcome::Prepared(prepared)
            }
            Outcome::Delivered { message, url } => Outcome::Delivered {
                message: self.secrets.masked(&message),
                url: url.map(|url| self.secrets.masked(&url)),
            },
            Outcome::Checked { failed: Some(why) } => Outcome::Checked { failed: Some(self.secrets.masked(&why)) },
            Outcome::Branches { mut list, merging } => {
                for branch in &mut list {
                    branch.subject = self.secrets.masked(&branch.subject);
                }
                Outcome::Branches { list, merging }
            }
            Outcome::Done
            | Outcome::Committed(None)
            | Outcome::Key(_)
            | Outcome::Checked { failed: None }
            | Outcome::Merging(_)
            | Outcome::Cloned { .. }
            | Outcome::Looked { .. }
            | Outcome::Measured { .. }
            | Outcome::Weighed(_)
            | Outcome::Started { .. }
            | Outcome::NotStarted
            | Outcome::Chunk(_)
            | Outcome::Emptied { .. } => outcome,
        };
        self.send(Input::Done { id, outcome });
    }

    fn send(&self, input: Input) {
        // Nobody listens any more when the daemon ends.
        let _ = self.events.send(input);
    }
}

/// The answer that one effect is owed. If it is dropped, as by a panic, the effect has failed.
pub(super) struct Answer {
    pub(super) id: EffectId,
    pub(super) cancel: Arc<Cancel>,
    desk: Option<Arc<Desk>>,
}

impl Answer {
    pub(super) fn give(mut self, outcome: Outcome) {
        if let Some(desk) = self.desk.take() {
            desk.settle(self.id, outcome);
        }
    }

    /// Tells that the agent runs, and up to which number messages were handed to it. Returns what tells that it has ended.
    pub(super) fn started(mut self, pid: u32, handed: u64) -> impl FnOnce(ExitStatus) + Send + 'static {
        let (desk, id) = (self.desk.take(), self.id);
        if let Some(desk) = &desk {
            desk.settle(id, Outcome::Started { pid, handed });
        }
        move |status| {
            if let Some(desk) = desk {
                desk.send(Input::Exited { id, status });
            }
        }
    }

    /// Done, or failed with what it was about; cancelled, failed at once. What is written then cannot be called
    /// off: whoever waits for this waits for its end all the same, so that nothing is done beside it.
    pub(super) async fn done_or_cancelled(self, work: impl Future<Output = std::io::Result<()>>, what: &str) {
        let cancel = Arc::clone(&self.cancel);
        tokio::pin!(work);
        tokio::select! {
            biased;
            result = &mut work => self.done(result, what),
            () = cancel.set() => {
                self.give(Outcome::Failed(CANCELLED.to_owned()));
                let _ = work.await;
            }
        }
    }

    /// Done, or failed with what it was about.
    pub(super) fn done(self, result: std::io::Result<()>, what: &str) {
        self.give(match result {
            Ok(()) => Outcome::Done,
            Err(failure) => Outcome::Failed(format!("{what}: {failure}")),
        });
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(desk) = self.desk.take() {
            desk.settle(self.id, Outcome::Failed("it broke off".to_owned()));
        }
    }
}

/// Whether something failed for want of room, on the disk or for another open file: the system's own words, which git
/// hands on. Messages of others are asked for in English everywhere.
pub(super) fn lacks_room(why: &str) -> bool {
    ["No space left on device", "Disk quota exceeded", descriptors::TOO_MANY].iter().any(|words| why.contains(words))
}
