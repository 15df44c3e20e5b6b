//! The event stream of a task.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream;
use http::{HeaderMap, header};
use serde::Deserialize;

use super::asked::Named;
use super::follower::Follower;
use super::{ApiError, asked};
use crate::app::App;

/// A place between two events of a stream: so many events and so many bytes of output came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl FromStr for Place {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let parts = text.trim().split_once(':').map(|(events, bytes)| (events.parse(), bytes.parse()));
        match parts {
            Some((Ok(events), Ok(bytes))) => Ok(Self { events, bytes }),
            Some(_) | None => Err(ApiError::bad("bad_event_id", "an event's id is two numbers with a colon between")),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct From {
    last: Option<String>,
}

/// `GET /api/v1/tasks/{id}/events`
///
/// Goes on after `Last-Event-ID` or `?last=`; the header, which a client sends when it comes back by itself,
/// is the newer of the two.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::bad("bad_query", rejection.body_text()))?;
    stream(app, &id, query.last.as_deref(), &headers).await
}

/// Whether a client asks for a stream where there is a text, too.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream")))
}

/// The events of a task, from one to its end.
pub(super) async fn stream(
    app: Arc<App>,
    id: &str,
    last: Option<&str>,
    headers: &HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    let resumed = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let last = resumed.or(last).filter(|last| !last.is_empty());
    let place: Place = last.map_or(Ok(Place::default()), str::parse)?;
    let task = asked::find(&app, id).await?;
    let follower = Follower::start(app, task.id, place).await?;
    let stream = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}
