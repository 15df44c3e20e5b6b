//! A task's output as one text, or as a stream with all else that happens to it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use uuid::Uuid;

use super::asked::Named;
use super::{ApiError, asked, follow};
use crate::app::App;
use crate::store::{BLOCK, StoreError};

/// Where the next call can go on.
const NEXT: HeaderName = HeaderName::from_static("makima-next");

#[derive(Deserialize)]
pub(super) struct Range {
    from: Option<String>,
    last: Option<String>,
}

/// `GET /api/v1/tasks/{id}/output?from=BYTES`: all that there is at this moment, a page at a time. Who accepts
/// `text/event-stream` gets the task's events instead, as by `…/events`.
pub(super) async fn output(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Range>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(range) = query.map_err(|rejection| ApiError::bad("bad_query", rejection.body_text()))?;
    if follow::is_wanted(&headers) {
        return Ok(follow::stream(app, &id, range.last.as_deref(), &headers).await?.into_response());
    }
    let from: u64 = match range.from.as_deref() {
        None => 0,
        Some(text) => text.parse().map_err(|_| ApiError::bad("bad_query", "`from` is a number of bytes"))?,
    };
    let task = asked::find(&app, &id).await?.id;
    let end = app.engine.store().head(task).await?.bytes;
    if from > end {
        let message = format!("the output ends at byte {end}");
        return Err(ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "beyond_the_end", message));
    }
    let pages = stream::unfold(Some(from), move |at| {
        let app = Arc::clone(&app);
        async move {
            let at = at.filter(|at| *at < end)?;
            match page(&app, task, at, end).await {
                Ok(bytes) => {
                    let next = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    Some((Ok(bytes), Some(next)))
                }
                // The length was promised: a client sees that it was cut short.
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_LENGTH, end.saturating_sub(from).to_string()),
        (NEXT, end.to_string()),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

async fn page(app: &App, task: Uuid, at: u64, end: u64) -> Result<Bytes, StoreError> {
    let max = usize::try_from(end.saturating_sub(at)).unwrap_or(BLOCK).min(BLOCK);
    let bytes = app.engine.store().output(task, at, max).await?;
    if bytes.is_empty() { Err(StoreError::new("a part of the output is missing")) } else { Ok(bytes.into()) }
}
