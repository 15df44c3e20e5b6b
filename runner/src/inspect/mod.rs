//! How a daemon stands, for people and for what watches over it: asked of its driver, told on a socket in its home.
//! A question is answered between two steps; nothing is decided by one.

pub mod disk;
pub mod meters;
pub mod metrics;
pub mod notify;
pub mod socket;
pub mod status;
pub mod worktrees;

use makima_core::report::Report;
use makima_core::time::Millis;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout};

use self::meters::Meters;
use crate::journal::Standing;

/// For the driver to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Questions that may wait.
const WAITING: usize = 16;

/// Something asked of the driver.
#[derive(Debug)]
pub enum Question {
    /// Whether it takes its turns: it answers how late the core's next deadline is.
    Turn(oneshot::Sender<Millis>),
    /// How everything stands.
    Standing(oneshot::Sender<Box<Told>>),
}

/// How a daemon stands, as its driver tells it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Of the core.
    pub report: Report,
    /// Of the journal.
    pub journal: Standing,
    /// Effects that wait for the journal.
    pub held: usize,
    /// What the driver has counted.
    pub meters: Meters,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::Sender<Question>);

/// Both ends: who asks, and what a driver hears.
#[must_use]
pub fn questions() -> (Asker, mpsc::Receiver<Question>) {
    let (to, from) = mpsc::channel(WAITING);
    (Asker(to), from)
}

impl Asker {
    /// How late the core's next deadline is; none where the driver does not take its turns.
    pub async fn turn(&self) -> Option<Millis> {
        self.ask(Question::Turn).await
    }

    /// How everything stands; none where the driver does not say.
    pub async fn standing(&self) -> Option<Box<Told>> {
        self.ask(Question::Standing).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (to, answer) = oneshot::channel();
        self.0.try_send(question(to)).ok()?;
        timeout(ANSWER, answer).await.ok()?.ok()
    }
}
