//! What requests about tasks have in common: what they bring, and what they are answered.

use std::time::Duration;

use axum::extract::{FromRequest as _, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use makima_core::agent::claude::dollars;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use uuid::Uuid;

use super::ApiError;
use crate::app::App;
use crate::clock::rfc3339;
use crate::engine::Ticket;
use crate::hub::{Answer, QUESTIONS};
use crate::store::TaskRow;

/// For a request's body to come.
const UPLOAD: Duration = Duration::from_secs(60);

/// For the store.
const STORE: Duration = Duration::from_secs(20);

/// For what is waited for, where nothing else is said; and at most.
const WAIT: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

/// The name of a task in a request's path, whatever stands there. Where that is no text it is no task's.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_| ApiError::no_such_task())
    }
}

/// Which task.
#[derive(Serialize)]
pub(super) struct Id {
    pub(super) id: Uuid,
}

/// The task that a path names.
pub(super) async fn find(app: &App, id: &str) -> Result<TaskRow, ApiError> {
    app.engine.store().task(read_id(id)?).await?.ok_or_else(ApiError::no_such_task)
}

pub(super) fn read_id(id: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(id).map_err(|_| ApiError::no_such_task())
}

/// A client is answered only when what it asked for is on disk.
pub(super) async fn kept(ticket: Ticket) -> Result<(), ApiError> {
    match timeout(STORE, ticket.kept()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ApiError::unstored()),
        Err(_) => {
            let message = "storing this takes too long; it may still be done";
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "store_slow", message))
        }
    }
}

/// What the hub said, where that is not that it was done.
pub(super) fn ensure_done(app: &App, answer: Answer) -> Result<(), ApiError> {
    let conflict = |code, message: String| Err(ApiError::new(StatusCode::CONFLICT, code, message));
    match answer {
        Answer::Done | Answer::Known | Answer::Ignored | Answer::Over | Answer::OutOfOrder | Answer::Renumbered => {
            Ok(())
        }
        Answer::NoSuchTask => Err(ApiError::no_such_task()),
        Answer::Ended => conflict("task_ended", "this task has ended".to_owned()),
        Answer::NotEnded => conflict("task_not_ended", "this task has not ended yet".to_owned()),
        Answer::Unassigned => conflict("no_daemon", "no daemon has this task: nobody can say or do this".to_owned()),
        Answer::Away(daemon) => Err(away(app, daemon)),
        Answer::Full => {
            let message = format!("too much of this is waiting already (of questions about a task, {QUESTIONS})");
            Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message).after("5"))
        }
        Answer::NoSuchNeed(need) => {
            let message = format!("`after` names {need}, and there is no task with this id");
            Err(ApiError::bad("no_such_need", message))
        }
        Answer::NeedsItself => {
            Err(ApiError::bad("needs_itself", "`after` names the task itself: it would never begin"))
        }
        Answer::TooDeep => {
            let most = app.bounds.max_depth;
            Err(bounded("too_deep", format!("a subtask of this one would be deeper than {most}"), "max_depth"))
        }
        Answer::TooManySubtasks => {
            let most = app.bounds.max_subtasks;
            let message = format!("this tree has {most} subtasks already, those that have ended too");
            Err(bounded("too_many_subtasks", message, "max_subtasks"))
        }
        Answer::OverBudget => {
            let most = dollars(app.bounds.max_cost.unwrap_or_default());
            Err(bounded("over_budget", format!("this tree of tasks has cost {most} or more"), "max_cost"))
        }
    }
}

/// A task asked for more than the server lets it.
fn bounded(code: &'static str, message: String, set: &str) -> ApiError {
    let message = format!("{message}; `{set}` in the server's configuration is the bound");
    ApiError::new(StatusCode::FORBIDDEN, code, message)
}

/// Who would have to answer, and since when it is not there.
fn away(app: &App, daemon: Uuid) -> ApiError {
    let found = app.engine.daemons().into_iter().find(|view| view.id == daemon);
    let message = found.map_or_else(
        || "the daemon that has this task is not connected".to_owned(),
        |view| {
            let since = rfc3339(view.seen);
            format!("the daemon that has this task ({}, {daemon}) is not connected since {since}", view.hostname)
        },
    );
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "daemon_away", message)
}

pub(super) async fn body(request: Request) -> Result<Bytes, ApiError> {
    match timeout(UPLOAD, Bytes::from_request(request, &())).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = "the body is larger than 16 MiB";
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message))
        }
        Ok(Err(rejection)) => Err(ApiError::bad("bad_request", rejection.body_text())),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time")),
    }
}

/// serde's own words name the field and the place.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad("bad_json", error.to_string()))
}

/// The same where nothing need be said.
pub(super) fn parse_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

/// For how long a client waits: `?wait=N`, or a header `Prefer: wait=N`, in seconds.
pub(super) fn patience(wait: Option<&str>, headers: &HeaderMap) -> Result<Duration, ApiError> {
    let seconds = match wait {
        Some(text) => Some(text.parse().map_err(|_| ApiError::bad("bad_query", "`wait` is a number of seconds"))?),
        // A preference that is not understood is none.
        None => preferred(headers),
    };
    Ok(seconds.map_or(WAIT, Duration::from_secs).min(LONGEST))
}

fn preferred(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut wishes = values.flat_map(|value| value.split(',')).map(str::trim);
    wishes.find_map(|wish| wish.strip_prefix("wait=")?.trim_matches('"').parse().ok())
}
