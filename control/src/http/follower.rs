//! One who follows a task.
//!
//! It is fed from the store, a page whenever the client has taken the one before, and woken when there is
//! more. Nothing is kept for it, so a slow one costs no memory and a fast one waits for nobody.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::sse::Event;
use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

use super::ApiError;
use super::follow::Place;
use super::tasks::TaskJson;
use crate::app::App;
use crate::store::{BLOCK, EventRow, Head, StoreError};

/// Events read at once.
const EVENTS: u32 = 32;

pub(super) struct Follower {
    app: Arc<App>,
    task: Uuid,
    place: Place,
    /// What is on disk, as far as this one has heard.
    head: Head,
    news: watch::Receiver<Head>,
    /// Read and not sent yet.
    events: VecDeque<EventRow>,
    over: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    text: &'a str,
}

impl Follower {
    pub(super) async fn start(app: Arc<App>, task: Uuid, place: Place) -> Result<Self, ApiError> {
        // First the watch, then the look: what is written between the two is seen by both.
        let news = app.engine.heads().follow(task);
        app.engine.follow(|followers| followers.saturating_add(1));
        let mut follower = Self { app, task, place, head: Head::default(), news, events: VecDeque::new(), over: false };
        follower.head = follower.app.engine.store().head(task).await?;
        if place.events > follower.head.events || place.bytes > follower.head.bytes {
            return Err(ApiError::bad("bad_event_id", "this task has not come that far"));
        }
        // Whoever has seen the last event of a task that has ended has seen all of it.
        let ended = follower.app.engine.store().task(task).await?.is_some_and(|task| task.success.is_some());
        follower.over = ended && place.events == follower.app.engine.store().head(task).await?.events;
        Ok(follower)
    }

    /// The next event; none once the task's end was sent, or the server ends.
    pub(super) async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        let stop = self.app.stop.clone();
        let next = tokio::select! {
            next = self.wait() => next,
            () = stop.cancelled() => return None,
        };
        match next {
            Ok(event) => Some(event),
            Err(error) => {
                // The client comes back with the id of what it has.
                tracing::warn!(%error, task = %self.task, "a follower could not be served");
                None
            }
        }
    }

    async fn wait(&mut self) -> Result<Event, StoreError> {
        loop {
            let news = *self.news.borrow_and_update();
            self.head = self.head.max(news);
            if let Some(event) = self.ready().await? {
                return Ok(event);
            }
            self.news.changed().await.map_err(StoreError::new)?;
        }
    }

    /// What comes next of what is on disk: output up to where the next event stands, then that event.
    async fn ready(&mut self) -> Result<Option<Event>, StoreError> {
        if self.events.is_empty() && self.head.events > self.place.events {
            self.events = self.app.engine.store().events(self.task, self.place.events, EVENTS).await?.into();
        }
        let limit = self.events.front().map_or(self.head.bytes, |event| event.offset);
        if self.place.bytes < limit
            && let Some(event) = self.output(limit).await?
        {
            return Ok(Some(event));
        }
        match self.events.pop_front() {
            Some(row) => self.event(row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn output(&mut self, limit: u64) -> Result<Option<Event>, StoreError> {
        let from = self.place.bytes;
        let max = usize::try_from(limit.saturating_sub(from)).unwrap_or(BLOCK).min(BLOCK);
        let page = self.app.engine.store().output(self.task, from, max).await?;
        let (skipped, text) = whole_characters(&page);
        let taken = u64::try_from(skipped.saturating_add(text.len())).unwrap_or(u64::MAX);
        self.place.bytes = from.saturating_add(taken);
        if text.is_empty() { Ok(None) } else { self.make("output", &Output { text }).map(Some) }
    }

    async fn event(&mut self, row: EventRow) -> Result<Event, StoreError> {
        self.place.events = row.n;
        if row.kind != "end" {
            return Ok(self.named(&row.kind).data(row.data));
        }
        self.over = true;
        let task = self.app.engine.store().task(self.task).await?;
        let task = task.ok_or_else(|| StoreError::new("a task is missing"))?;
        self.make("end", &TaskJson::from(task))
    }

    fn make(&self, kind: &str, data: &impl Serialize) -> Result<Event, StoreError> {
        Ok(self.named(kind).data(serde_json::to_string(data).map_err(StoreError::new)?))
    }

    fn named(&self, kind: &str) -> Event {
        Event::default().event(kind).id(format!("{}:{}", self.place.events, self.place.bytes))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.app.engine.follow(|followers| followers.saturating_sub(1));
        // The last receiver has to be gone before the watch can be.
        self.news = watch::Sender::new(Head::default()).subscribe();
        self.app.engine.heads().tidy(self.task);
    }
}

/// The longest text in a page that cuts no character in two, and how many bytes of a cut one stand before it.
/// Stored output is text; it is a page that begins or ends anywhere.
fn whole_characters(page: &[u8]) -> (usize, &str) {
    let skipped = page.iter().take(3).take_while(|byte| (0x80..0xC0).contains(*byte)).count();
    let rest = page.get(skipped..).unwrap_or_default();
    let text = match std::str::from_utf8(rest) {
        Ok(text) => text,
        Err(error) => rest.get(..error.valid_up_to()).and_then(|rest| std::str::from_utf8(rest).ok()).unwrap_or(""),
    };
    (skipped, text)
}

#[cfg(test)]
mod tests {
    use super::whole_characters;

    /// Protects characters from being cut in two where a page or a resumed stream begins or ends.
    #[test]
    fn pages_are_cut_between_characters() {
        let text = "aé€😀z";
        for from in 0..=text.len() {
            for to in from..=text.len() {
                let (skipped, whole) = whole_characters(&text.as_bytes()[from..to]);
                let place = from + skipped;
                assert_eq!(&text.as_bytes()[place..place + whole.len()], whole.as_bytes(), "{from}..{to}");
                assert!(skipped <= 3 && to - from - skipped - whole.len() <= 3, "{from}..{to}");
            }
        }
    }
}
