//! What people say to a task that is under way. Each is answered once it is on disk; what comes of it, the task's
//! events tell.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use makima_core::agent::Answer;
use makima_core::protocol::{InjectSiblingContext, SendMessage};
use serde::Deserialize;
use uuid::Uuid;

use super::ApiError;
use super::asked::{Id, Named, body, ensure_done, kept, parse, parse_or_default, read_id};
use super::scope::Caller;
use crate::app::App;
use crate::hub::Input;
use crate::socket;

/// Takes a client's wish. It is on disk when this returns.
async fn take(app: &App, task: Uuid, input: Input) -> Result<Response, ApiError> {
    let (answer, ticket) = app.engine.ask(input)?;
    kept(ticket).await?;
    ensure_done(app, answer)?;
    Ok((StatusCode::ACCEPTED, Json(Id { id: task })).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interruption {
    graceful: Option<bool>,
}

/// `POST /api/v1/tasks/{id}/interrupt`
pub(super) async fn interrupt(
    State(app): State<Arc<App>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, ApiError> {
    let wish: Interruption = parse_or_default(&body(request).await?)?;
    let task = read_id(&id)?;
    take(&app, task, Input::Interrupt { task, graceful: wish.graceful.unwrap_or(true) }).await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `POST /api/v1/tasks/{id}/pause`
pub(super) async fn pause(state: State<Arc<App>>, id: Named, request: Request) -> Result<Response, ApiError> {
    hold(state, id, request, true).await
}

/// `POST /api/v1/tasks/{id}/resume`
pub(super) async fn resume(state: State<Arc<App>>, id: Named, request: Request) -> Result<Response, ApiError> {
    hold(state, id, request, false).await
}

async fn hold(
    State(app): State<Arc<App>>,
    Named(id): Named,
    request: Request,
    paused: bool,
) -> Result<Response, ApiError> {
    let Nothing {} = parse_or_default(&body(request).await?)?;
    let task = read_id(&id)?;
    take(&app, task, Input::Hold { task, paused }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    message: String,
}

/// `POST /api/v1/tasks/{id}/messages`
pub(super) async fn message(
    State(app): State<Arc<App>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = request.extensions().get::<Caller>().copied();
    let Message { message } = parse(&body(request).await?)?;
    // A person's answers go to daemons as messages of a form that is theirs alone.
    if caller != Some(Caller::Person) && Answer::read(&message).is_some() {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", "what an agent asks is for a person to answer"));
    }
    if message.trim().is_empty() {
        return Err(ApiError::bad("empty_message", "`message` is empty: write what the agent is to be told"));
    }
    let task = read_id(&id)?;
    tell(&app, task, SendMessage { task_id: task, message }).await
}

/// `POST /api/v1/tasks/{id}/answers`: a person's answer to a question of its agent's.
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, ApiError> {
    let answer: Answer = parse(&body(request).await?)?;
    let task = read_id(&id)?;
    tell(&app, task, SendMessage { task_id: task, message: answer.write() }).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sibling {
    sibling_task_id: Uuid,
    sibling_name: String,
    sibling_status: String,
    progress_summary: Option<String>,
    #[serde(default)]
    changed_files: Vec<String>,
}

/// `POST /api/v1/tasks/{id}/sibling-context`
pub(super) async fn sibling(
    State(app): State<Arc<App>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, ApiError> {
    let sibling: Sibling = parse(&body(request).await?)?;
    let task = read_id(&id)?;
    let command = InjectSiblingContext {
        task_id: task,
        sibling_task_id: sibling.sibling_task_id,
        sibling_name: sibling.sibling_name,
        sibling_status: sibling.sibling_status,
        progress_summary: sibling.progress_summary,
        changed_files: sibling.changed_files,
    };
    tell(&app, task, command).await
}

async fn tell(
    app: &App,
    task: Uuid,
    command: impl Into<makima_core::protocol::DaemonCommand>,
) -> Result<Response, ApiError> {
    let command = Box::new(command.into());
    if command.write().len() > socket::MESSAGE {
        let message = "this fits in no message to a daemon (16 MiB)";
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    take(app, task, Input::Tell { task, command }).await
}
