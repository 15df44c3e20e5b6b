//! The one place that writes: a round at a time, all that has gathered meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::queue::{Answered, Queue, Release, Round};
use super::{Engine, Inner, Outgoing, State};
use crate::hub::Hub;
use crate::store::{Batch, StoreError};

/// Between two attempts to get a failed store back: at first, and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

impl Engine {
    /// Writes until told to stop and nothing is left.
    pub(crate) async fn write(&self, stop: CancellationToken) {
        loop {
            let round = {
                let mut inner = self.lock();
                let round = inner.queue.take();
                self.mark_full(false);
                round
            };
            match round {
                Some(round) => {
                    if let Err(error) = self.keep(round).await {
                        self.fail(&error);
                        self.recover(&stop).await;
                    }
                }
                None if stop.is_cancelled() => return,
                None => tokio::select! {
                    () = self.wake.notified() => {}
                    () = stop.cancelled() => {}
                },
            }
        }
    }

    async fn keep(&self, round: Round) -> Result<(), StoreError> {
        let Round { batch, releases, answered, heads, fate } = round;
        if !is_empty(&batch) {
            self.store.write(batch).await?;
        }
        {
            let mut inner = self.lock();
            let unfinished = inner.hub.unfinished();
            self.activity.send_if_modified(|old| std::mem::replace(&mut old.unfinished, unfinished) != unfinished);
            for release in releases {
                inner.release(release);
            }
            for Answered { question, reply } in answered {
                if let Some(asking) = inner.asking.remove(&question) {
                    // Whoever has not waited long enough does not want it any more.
                    let _ = asking.send(reply);
                }
            }
        }
        self.heads.raise(&heads);
        fate.send_replace(Some(true));
        Ok(())
    }

    /// What is not on disk never happened, and whoever said it is to say it again.
    fn fail(&self, error: &StoreError) {
        self.store_errors.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            "nothing can be stored, and every daemon is sent away until it can: {error}; is the disk full?"
        );
        let mut inner = self.lock();
        if inner.state == State::Up {
            inner.state = State::StoreFails;
        }
        inner.queue = Queue::new();
        inner.asking.clear();
        for session in std::mem::take(&mut inner.sessions).into_values() {
            // A session whose commands have piled up ends all the same: its sender is dropped here.
            let message = "nothing can be stored at the moment";
            let _ = session.pass(Outgoing::Close { code: "store_unavailable", message });
        }
    }

    async fn recover(&self, stop: &CancellationToken) {
        let [mut pause, most] = PAUSE;
        while !stop.is_cancelled() {
            match self.restored().await {
                Ok(hub) => {
                    let mut inner = self.lock();
                    inner.hub = hub;
                    if inner.state == State::StoreFails {
                        inner.state = State::Up;
                        tracing::info!("the store works again");
                    }
                    return;
                }
                Err(error) => {
                    self.store_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "the store still fails");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause = pause.saturating_mul(2).min(most);
        }
    }

    async fn restored(&self) -> Result<Hub, StoreError> {
        self.store.probe().await?;
        Ok(Hub::restore(self.store.load().await?))
    }
}

impl Inner {
    fn release(&mut self, release: Release) {
        let session = release.session();
        let Some(line) = self.sessions.get(&session) else { return };
        let last = matches!(release, Release::Close { .. });
        // A session that does not take its commands is dropped; its daemon is told again when it is back.
        if !line.pass(Outgoing::new(release, line.wire)) || last {
            self.sessions.remove(&session);
        }
    }
}

fn is_empty(batch: &Batch) -> bool {
    batch.records.is_empty() && batch.output.is_empty()
}
