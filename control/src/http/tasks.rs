//! Tasks: make one, look at them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use makima_core::policy;
use makima_core::protocol::{DaemonCommand, SpawnTask};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ApiError;
use super::asked::{Id, Named, body, ensure_done, find, kept, parse, parse_or_default, read_id};
use super::scope::Caller;
use crate::app::App;
use crate::clock::rfc3339;
use crate::hub::{Answer, Input, subtask};
use crate::socket;
use crate::store::TaskRow;

/// What a client may say of a new task: the fields of `spawnTask`, and after which others it begins.
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
    #[serde(default)]
    after: Vec<Uuid>,
}

impl NewTask {
    /// The task, and what it begins after: each once.
    fn spawn(mut self) -> (SpawnTask, Vec<Uuid>) {
        self.after.sort_unstable();
        self.after.dedup();
        let spawn = SpawnTask {
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
        };
        (spawn, self.after)
    }
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
    /// What it begins after; left out where it waits for nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<Uuid>,
    /// The repository that it is for, without credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    repo_url: Option<String>,
    /// What is done with its work.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_action: Option<String>,
    /// The task that it continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    continue_from_task_id: Option<Uuid>,
    /// The task whose subtask it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_task_id: Option<Uuid>,
    /// What it needs a person for; those that need one come first in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    needs_person: Option<String>,
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
            after: task.after,
            repo_url: task.repository,
            completion_action: task.action,
            continue_from_task_id: task.continues,
            parent_task_id: task.parent,
            needs_person: task.person,
        }
    }
}

/// What a task may say, by its key, of a new one below it. Everything else follows from itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewSubtask {
    task_id: Option<Uuid>,
    task_name: Option<String>,
    plan: String,
    base_branch: Option<String>,
    copy_files: Option<Vec<String>>,
    is_orchestrator: Option<bool>,
    #[serde(default)]
    after: Vec<Uuid>,
}

impl From<NewSubtask> for NewTask {
    fn from(new: NewSubtask) -> Self {
        Self {
            task_id: new.task_id,
            task_name: new.task_name,
            plan: new.plan,
            repo_url: None,
            base_branch: new.base_branch,
            target_branch: None,
            parent_task_id: None,
            depth: None,
            is_orchestrator: new.is_orchestrator,
            target_repo_path: None,
            completion_action: None,
            continue_from_task_id: None,
            copy_files: new.copy_files,
            after: new.after,
        }
    }
}

/// `POST /api/v1/tasks`
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = body(request).await?;
    match caller {
        Caller::Person => {
            let (spawn, after) = parse::<NewTask>(&body)?.spawn();
            let input = Input::Create { spawn: Box::new(spawn.clone()), after: after.clone() };
            take_on(&app, spawn, after, input).await
        }
        Caller::Task(parent) => {
            let (asked, after) = NewTask::from(parse::<NewSubtask>(&body)?).spawn();
            let (of, _) = app.engine.store().asked(parent).await?.ok_or_else(ApiError::no_such_task)?;
            let spawn = subtask(asked, &of);
            let bounds = app.bounds;
            let input = Input::Delegate { parent, spawn: Box::new(spawn.clone()), after: after.clone(), bounds };
            take_on(&app, spawn, after, input).await
        }
    }
}

/// What a client may say of how a task is gone on with.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GoingOn {
    task_id: Option<Uuid>,
    message: Option<String>,
}

/// `POST /api/v1/tasks/{id}/continue`: a task that is as that one was, and continues it. Where nothing is said, its agent goes on
/// where it was.
pub(super) async fn go_on(
    State(app): State<Arc<App>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, ApiError> {
    let GoingOn { task_id, message } = parse_or_default(&body(request).await?)?;
    let (old, _) = app.engine.store().asked(read_id(&id)?).await?.ok_or_else(ApiError::no_such_task)?;
    let spawn = SpawnTask {
        task_id: task_id.unwrap_or_else(Uuid::now_v7),
        task_name: policy::task_name(&old.task_name, &old.plan),
        plan: message.unwrap_or_default(),
        continue_from_task_id: Some(old.task_id),
        // They are in the worktree that it begins with.
        copy_files: None,
        ..old
    };
    let input = Input::Create { spawn: Box::new(spawn.clone()), after: Vec::new() };
    take_on(&app, spawn, Vec::new(), input).await
}

/// Takes a task on, or says what stands against it. The same one again is as good as once.
async fn take_on(app: &App, spawn: SpawnTask, after: Vec<Uuid>, input: Input) -> Result<Response, ApiError> {
    if DaemonCommand::from(spawn.clone()).write().len() > socket::MESSAGE {
        let message = "a task of this size fits in no message to a daemon (16 MiB)";
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    let id = spawn.task_id;
    let (answer, ticket) = app.engine.ask(input)?;
    kept(ticket).await?;
    if answer != Answer::Known {
        ensure_done(app, answer)?;
        return Ok((StatusCode::CREATED, Json(Id { id })).into_response());
    }
    let asked = app.engine.store().asked(id).await?;
    if asked.map(|(asked, needs)| (without_credentials(asked), needs)) == Some((without_credentials(spawn), after)) {
        Ok((StatusCode::OK, Json(Id { id })).into_response())
    } else {
        let message = "a task with this id is there already, and is another one";
        Err(ApiError::new(StatusCode::CONFLICT, "task_exists", message))
    }
}

/// What is left of a task once it has ended, for comparing.
fn without_credentials(mut spawn: SpawnTask) -> SpawnTask {
    if let Some((bare, _)) = spawn.repo_url.as_deref().and_then(policy::split_credentials) {
        spawn.repo_url = Some(bare);
    }
    spawn
}

/// `GET /api/v1/tasks`: all of them, those first that need a person; or those below the task whose key is shown, as they came.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<TaskJson>>, ApiError> {
    let tasks = app.engine.store().tasks().await?;
    let tasks = match caller {
        Caller::Person => tasks,
        Caller::Task(task) => {
            let mut all: BTreeMap<Uuid, TaskRow> = tasks.into_iter().map(|task| (task.id, task)).collect();
            app.engine.below(task).iter().filter_map(|id| all.remove(id)).collect()
        }
    };
    Ok(Json(tasks.into_iter().map(TaskJson::from).collect()))
}

/// `GET /api/v1/tasks/{id}`
pub(super) async fn one(State(app): State<Arc<App>>, Named(id): Named) -> Result<Json<TaskJson>, ApiError> {
    Ok(Json(find(&app, &id).await?.into()))
}
