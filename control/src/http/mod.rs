//! What clients can ask over HTTP.

mod asked;
mod daemons;
mod error;
mod follow;
mod follower;
mod guard;
mod output;
mod polling;
mod questions;
mod scope;
mod steer;
mod tasks;
mod wait;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, post};
use axum::{Router, response::IntoResponse};
use http::StatusCode;

pub(crate) use error::ApiError;

use crate::app::App;
use crate::socket;

/// Bytes of the largest request body.
const BODY: usize = 16 * 1024 * 1024;

/// Everything that the server answers.
pub(crate) fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/api/v1/info", get(daemons::info))
        .route("/api/v1/daemons", get(daemons::list))
        .route("/api/v1/tasks", get(tasks::list).post(tasks::create))
        .route("/api/v1/tasks/{id}", get(tasks::one))
        .route("/api/v1/tasks/{id}/continue", post(tasks::go_on))
        .route("/api/v1/tasks/{id}/interrupt", post(steer::interrupt))
        .route("/api/v1/tasks/{id}/pause", post(steer::pause))
        .route("/api/v1/tasks/{id}/resume", post(steer::resume))
        .route("/api/v1/tasks/{id}/answers", post(steer::answer))
        .route("/api/v1/tasks/{id}/messages", post(steer::message))
        .route("/api/v1/tasks/{id}/sibling-context", post(steer::sibling))
        .merge(questions())
        .route("/api/v1/tasks/{id}/output", get(output::output))
        .route("/api/v1/tasks/{id}/events", get(follow::events))
        .route("/api/v1/tasks/{id}/wait", get(wait::wait))
        .method_not_allowed_fallback(not_allowed)
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn_with_state(Arc::clone(&app), scope::within))
        // A daemon shows its key in its first message instead.
        .layer(from_fn_with_state(Arc::clone(&app), guard::token));
    // A daemon's key is asked for by the request that opens the session itself, which counts wrong ones.
    let polling = Router::new()
        .route("/api/v1/mesh/daemons/connect/poll", post(polling::poll))
        .route("/api/v1/mesh/daemons/connect/push", post(polling::push))
        .layer(from_fn_with_state(Arc::clone(&app), scope::within))
        .layer(from_fn_with_state(Arc::clone(&app), guard::token))
        .route("/api/v1/mesh/daemons/connect/session", post(polling::session))
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(polling::BODY));
    Router::new()
        .route("/api/v1/mesh/daemons/connect", any(socket_or_error))
        .merge(polling)
        .merge(api)
        .layer(from_fn_with_state(Arc::clone(&app), guard::caller))
        .layer(from_fn(guard::plain))
        .with_state(app)
}

/// What a task's daemon is asked.
fn questions() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/tasks/{id}/branches", get(questions::branches))
        .route("/api/v1/tasks/{id}/merge", get(questions::status).post(questions::start))
        .route("/api/v1/tasks/{id}/merge/resolve", post(questions::resolve))
        .route("/api/v1/tasks/{id}/merge/commit", post(questions::commit))
        .route("/api/v1/tasks/{id}/merge/abort", post(questions::abort))
        .route("/api/v1/tasks/{id}/merge/skip", post(questions::skip))
        .route("/api/v1/tasks/{id}/merge/check", get(questions::check))
        .route("/api/v1/tasks/{id}/completion", post(questions::completion))
        .route("/api/v1/tasks/{id}/clone", post(questions::clone))
        .route("/api/v1/tasks/{id}/target-exists", get(questions::target))
}

async fn not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this cannot be done with that method")
}

async fn socket_or_error(
    state: axum::extract::State<Arc<App>>,
    headers: http::HeaderMap,
    upgrade: Result<axum::extract::ws::WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> axum::response::Response {
    match upgrade {
        Ok(upgrade) => socket::connect(state, &headers, upgrade).await,
        Err(rejection) => {
            ApiError::new(rejection.status(), "websocket_expected", rejection.body_text()).into_response()
        }
    }
}
