//! Follows many tasks at once: a stream each, taken up again where it was cut.

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use super::REST;
use crate::events::{Event, Events};
use crate::rest::Rest;

/// Events that may wait to be shown.
const WAITING: usize = 64;

/// Times in a row that a stream which brings nothing is taken up again.
const TRIES: u32 = 5;

/// What came of following.
#[derive(Debug)]
pub(super) enum Heard {
    /// Something happened to the task at this place.
    Event {
        /// The place.
        at: usize,
        /// Where another stream goes on.
        last: Option<String>,
        /// What.
        event: Box<Event>,
    },
    /// The server is away.
    Lost(String),
}

/// One stream for each task. They end with this.
#[derive(Debug)]
pub(super) struct Followers(JoinSet<()>);

impl Followers {
    /// Follows these: by their places, ids and the events that were seen last.
    pub(super) fn start(
        rest: &Rest,
        tasks: impl Iterator<Item = (usize, Uuid, Option<String>)>,
    ) -> (Self, mpsc::Receiver<Heard>) {
        let (to, heard) = mpsc::channel(WAITING);
        let mut streams = JoinSet::new();
        for (at, id, last) in tasks {
            let (rest, to) = (rest.clone(), to.clone());
            streams.spawn(async move {
                if let Err(why) = follow(&rest, at, id, last, &to).await {
                    // Nobody listens any more where this cannot be said.
                    let _ = to.send(Heard::Lost(why)).await;
                }
            });
        }
        (Self(streams), heard)
    }

    /// Leaves it.
    pub(super) fn end(mut self) {
        self.0.abort_all();
    }
}

/// Follows one task to its end.
async fn follow(
    rest: &Rest,
    at: usize,
    id: Uuid,
    mut last: Option<String>,
    to: &mpsc::Sender<Heard>,
) -> Result<(), String> {
    let mut tries = 0;
    loop {
        let why = match rest.events(id, last.as_deref()).await {
            Err(error) => error.to_string(),
            Ok(response) => {
                let mut events = Events::new(response, last.take());
                let why = loop {
                    match events.next().await {
                        Ok(Some(event)) => {
                            tries = 0;
                            let over = matches!(event, Event::End(_));
                            let heard = Heard::Event { at, last: events.last.clone(), event: Box::new(event) };
                            if to.send(heard).await.is_err() || over {
                                return Ok(());
                            }
                        }
                        Ok(None) => break "the server ended a stream".to_owned(),
                        Err(error) => break rest.away(&error).to_string(),
                    }
                };
                last = events.last;
                why
            }
        };
        tries += 1;
        if tries > TRIES {
            return Err(why);
        }
        sleep(REST).await;
    }
}
