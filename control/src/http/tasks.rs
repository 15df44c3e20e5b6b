//! Tasks: make one, look at them, end one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use makima_core::policy;
use makima_core::protocol::{DaemonCommand, SpawnTask};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use super::ApiError;
use crate::app::App;
use crate::clock::rfc3339;
use crate::engine::Ticket;
use crate::hub::{Answer, Input};
use crate::socket;
use crate::store::TaskRow;

/// For a request's body to come.
const UPLOAD: Duration = Duration::from_secs(60);

/// For the store.
const STORE: Duration = Duration::from_secs(20);

/// What a client may say of a new task: the fields of `spawnTask`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewTask {
    task_id: Option<Uuid>,
    task_name: Option<String>,
    plan: String,
    repo_url: Option<String>,
    base_branch: Option<String>,
    target_branch: Option<String>,
    parent_task_id: Option<Uuid>,
    depth: Option<i32>,
    is_orchestrator: Option<bool>,
    target_repo_path: Option<String>,
    completion_action: Option<String>,
    continue_from_task_id: Option<Uuid>,
    copy_files: Option<Vec<String>>,
}

impl NewTask {
    fn spawn(self) -> SpawnTask {
        SpawnTask {
            task_id: self.task_id.unwrap_or_else(Uuid::now_v7),
            task_name: self.task_name.unwrap_or_default(),
            plan: self.plan,
            repo_url: self.repo_url,
            base_branch: self.base_branch,
            target_branch: self.target_branch,
            parent_task_id: self.parent_task_id,
            depth: self.depth.unwrap_or(0),
            is_orchestrator: self.is_orchestrator.unwrap_or(false),
            target_repo_path: self.target_repo_path,
            completion_action: self.completion_action,
            continue_from_task_id: self.continue_from_task_id,
            copy_files: self.copy_files,
        }
    }
}

#[derive(Serialize)]
struct Id {
    id: Uuid,
}

/// A task as clients see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskJson {
    id: Uuid,
    name: String,
    status: String,
    success: Option<bool>,
    error: Option<String>,
    branch: Option<String>,
    created_at: String,
    ended_at: Option<String>,
}

impl From<TaskRow> for TaskJson {
    fn from(task: TaskRow) -> Self {
        Self {
            id: task.id,
            name: task.name,
            status: task.status,
            success: task.success,
            error: task.error,
            branch: task.branch,
            created_at: rfc3339(task.created),
            ended_at: task.ended.map(rfc3339),
        }
    }
}

/// `POST /api/v1/tasks`
pub(super) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let new: NewTask = parse(&body(request).await?)?;
    let spawn = new.spawn();
    if DaemonCommand::from(spawn.clone()).write().len() > socket::MESSAGE {
        let message = "a task of this size fits in no message to a daemon (16 MiB)";
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    let id = spawn.task_id;
    let (answer, ticket) = app.engine.ask(Input::Create { spawn: Box::new(spawn.clone()) })?;
    kept(ticket).await?;
    match answer {
        Answer::Known => {
            let asked = app.engine.store().asked(id).await?;
            if asked.map(without_credentials) == Some(without_credentials(spawn)) {
                Ok((StatusCode::OK, Json(Id { id })).into_response())
            } else {
                let message = "a task with this id is there already, and is another one";
                Err(ApiError::new(StatusCode::CONFLICT, "task_exists", message))
            }
        }
        Answer::Done
        | Answer::NoSuchTask
        | Answer::Ended
        | Answer::Ignored
        | Answer::Over
        | Answer::OutOfOrder
        | Answer::Renumbered => Ok((StatusCode::CREATED, Json(Id { id })).into_response()),
    }
}

/// What is left of a task once it has ended, for comparing.
fn without_credentials(mut spawn: SpawnTask) -> SpawnTask {
    if let Some((bare, _)) = spawn.repo_url.as_deref().and_then(policy::split_credentials) {
        spawn.repo_url = Some(bare);
    }
    spawn
}

/// `GET /api/v1/tasks`
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<TaskJson>>, ApiError> {
    let tasks = app.engine.store().tasks().await?;
    Ok(Json(tasks.into_iter().map(TaskJson::from).collect()))
}

/// `GET /api/v1/tasks/{id}`
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<TaskJson>, ApiError> {
    Ok(Json(find(&app, &id).await?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interruption {
    graceful: Option<bool>,
}

/// `POST /api/v1/tasks/{id}/interrupt`
pub(super) async fn interrupt(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = body(request).await?;
    let wish: Interruption = if body.is_empty() { Interruption { graceful: None } } else { parse(&body)? };
    let task = read_id(&id)?;
    let (answer, ticket) = app.engine.ask(Input::Interrupt { task, graceful: wish.graceful.unwrap_or(true) })?;
    kept(ticket).await?;
    match answer {
        Answer::NoSuchTask => Err(ApiError::no_such_task()),
        Answer::Ended => Err(ApiError::new(StatusCode::CONFLICT, "task_ended", "this task has ended")),
        Answer::Done | Answer::Known | Answer::Ignored | Answer::Over | Answer::OutOfOrder | Answer::Renumbered => {
            Ok((StatusCode::ACCEPTED, Json(Id { id: task })).into_response())
        }
    }
}

/// The task that a path names.
pub(super) async fn find(app: &App, id: &str) -> Result<TaskRow, ApiError> {
    app.engine.store().task(read_id(id)?).await?.ok_or_else(ApiError::no_such_task)
}

fn read_id(id: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(id).map_err(|_| ApiError::no_such_task())
}

/// A client is answered only when what it asked for is on disk.
async fn kept(ticket: Ticket) -> Result<(), ApiError> {
    match timeout(STORE, ticket.kept()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ApiError::unstored()),
        Err(_) => {
            let message = "storing this takes too long; it may still be done";
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "store_slow", message))
        }
    }
}

async fn body(request: Request) -> Result<Bytes, ApiError> {
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
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad("bad_json", error.to_string()))
}
