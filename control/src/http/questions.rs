//! What a task's daemon is asked on behalf of a client: about merging, handing the work over, copying it.
//!
//! The daemon's own answer is the answer, as the wire has it. It is waited for, and not for ever; whether anybody
//! waits changes nothing about what the daemon does.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use makima_core::protocol::{
    CheckMergeComplete, CheckTargetExists, CloneWorktree, DaemonCommand, DaemonMessage, ListBranches, MergeAbort,
    MergeCommit, MergeResolve, MergeSkip, MergeStart, MergeStatus, RetryCompletionAction,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use uuid::Uuid;

use super::ApiError;
use super::asked::{Named, body, ensure_done, find, parse, parse_or_default, patience, read_id};
use crate::app::App;
use crate::hub::Reply;
use crate::socket;

type Answer = Result<Response, ApiError>;
type Wished = Result<Query<Patience>, QueryRejection>;

/// For how long to wait.
#[derive(Default, Deserialize)]
pub(super) struct Patience {
    wait: Option<String>,
    dir: Option<String>,
}

/// What a request says beside its path and its body.
pub(super) struct Manner {
    wait: Duration,
    dir: Option<String>,
}

impl Manner {
    /// `?wait=N`, or a header `Prefer: wait=N`: seconds.
    fn read(query: Wished, headers: &HeaderMap) -> Result<Self, ApiError> {
        let Query(wished) = query.map_err(|rejection| ApiError::bad("bad_query", rejection.body_text()))?;
        Ok(Self { wait: patience(wished.wait.as_deref(), headers)?, dir: wished.dir })
    }
}

/// Asks the daemon, and waits for its answer.
async fn ask(app: &App, task: Uuid, command: impl Into<DaemonCommand>, wait: Duration) -> Answer {
    let command = command.into();
    let looks = looks_only(&command);
    if command.write().len() > socket::MESSAGE {
        let message = "this fits in no message to a daemon (16 MiB)";
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    let (answer, reply) = app.engine.question(task, command)?;
    ensure_done(app, answer)?;
    let reply = tokio::select! {
        reply = timeout(wait, reply) => reply,
        () = app.stop.cancelled() => return Err(ending()),
    };
    match reply {
        Ok(Ok(Reply::Heard(message))) => Ok(shown(*message)),
        Ok(Ok(Reply::Unknown)) => {
            let message = "the daemon's link broke before it answered: it is not known whether this was done; \
                ask for the merge's status, or look at the target";
            Err(ApiError::new(StatusCode::BAD_GATEWAY, "not_known", message))
        }
        Ok(Err(_)) => {
            let message = "the store failed meanwhile: it is not known whether this was done";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", message))
        }
        Err(_) if looks => {
            let message = format!("the daemon has not answered within {} s", wait.as_secs());
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "no_answer_yet", message))
        }
        Err(_) => Ok((
            StatusCode::ACCEPTED,
            Json(serde_json::json!({
                "pending": true,
                "message": "the daemon has not answered yet; it goes on with it: ask later how it stands",
            })),
        )
            .into_response()),
    }
}

fn ending() -> ApiError {
    let message = "the server ends: it is not known whether this was done";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_ends", message)
}

/// Whether nothing is changed by it.
const fn looks_only(command: &DaemonCommand) -> bool {
    matches!(
        command,
        DaemonCommand::ListBranches(_)
            | DaemonCommand::MergeStatus(_)
            | DaemonCommand::CheckMergeComplete(_)
            | DaemonCommand::CheckTargetExists(_)
    )
}

/// A daemon's answer as it is, without its type: the path says that.
fn shown(message: DaemonMessage) -> Response {
    match message {
        DaemonMessage::BranchList(body) => Json(body).into_response(),
        DaemonMessage::MergeStatusResponse(body) => Json(body).into_response(),
        DaemonMessage::MergeResult(body) => Json(body).into_response(),
        DaemonMessage::MergeCompleteCheck(body) => Json(body).into_response(),
        DaemonMessage::CompletionActionResult(body) => Json(body).into_response(),
        DaemonMessage::CloneWorktreeResult(body) => Json(body).into_response(),
        DaemonMessage::CheckTargetExistsResult(body) => Json(body).into_response(),
        // No question is answered by any of these.
        message @ (DaemonMessage::Authenticate(_)
        | DaemonMessage::Heartbeat(_)
        | DaemonMessage::TaskOutput(_)
        | DaemonMessage::TaskStatusChange(_)
        | DaemonMessage::TaskProgress(_)
        | DaemonMessage::TaskComplete(_)
        | DaemonMessage::RegisterToolKey(_)
        | DaemonMessage::RevokeToolKey(_)
        | DaemonMessage::DaemonDirectories(_)) => Json(message.kind()).into_response(),
    }
}

/// A question that says no more than which task it is about.
async fn plain(app: &App, id: &str, manner: &Manner, command: fn(Uuid) -> DaemonCommand) -> Answer {
    let task = read_id(id)?;
    ask(app, task, command(task), manner.wait).await
}

/// `GET /api/v1/tasks/{id}/branches`
pub(super) async fn branches(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Wished,
    headers: HeaderMap,
) -> Answer {
    plain(&app, &id, &Manner::read(query, &headers)?, |task_id| ListBranches { task_id }.into()).await
}

/// `GET /api/v1/tasks/{id}/merge`
pub(super) async fn status(State(app): State<Arc<App>>, Named(id): Named, query: Wished, headers: HeaderMap) -> Answer {
    plain(&app, &id, &Manner::read(query, &headers)?, |task_id| MergeStatus { task_id }.into()).await
}

/// `GET /api/v1/tasks/{id}/merge/check`
pub(super) async fn check(State(app): State<Arc<App>>, Named(id): Named, query: Wished, headers: HeaderMap) -> Answer {
    plain(&app, &id, &Manner::read(query, &headers)?, |task_id| CheckMergeComplete { task_id }.into()).await
}

/// `GET /api/v1/tasks/{id}/target-exists?dir=PATH`
pub(super) async fn target(State(app): State<Arc<App>>, Named(id): Named, query: Wished, headers: HeaderMap) -> Answer {
    let manner = Manner::read(query, &headers)?;
    let Some(target_dir) = manner.dir.filter(|dir| !dir.is_empty()) else {
        return Err(ApiError::bad("bad_query", "`dir` is missing: the path to look at"));
    };
    let task_id = read_id(&id)?;
    ask(&app, task_id, CheckTargetExists { task_id, target_dir }, manner.wait).await
}

/// A request whose body says more.
async fn posted<T: DeserializeOwned>(
    app: &App,
    id: &str,
    query: Wished,
    request: Request,
    command: impl FnOnce(Uuid, T) -> DaemonCommand,
) -> Answer {
    let manner = Manner::read(query, request.headers())?;
    let wish = parse(&body(request).await?)?;
    let task = read_id(id)?;
    ask(app, task, command(task, wish), manner.wait).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    branch: String,
}

/// `POST /api/v1/tasks/{id}/merge`
pub(super) async fn start(State(app): State<Arc<App>>, Named(id): Named, query: Wished, request: Request) -> Answer {
    let command = |task_id, Start { branch }| MergeStart { task_id, source_branch: branch }.into();
    posted(&app, &id, query, request, command).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve {
    file: String,
    strategy: String,
}

/// `POST /api/v1/tasks/{id}/merge/resolve`
pub(super) async fn resolve(State(app): State<Arc<App>>, Named(id): Named, query: Wished, request: Request) -> Answer {
    let command = |task_id, Resolve { file, strategy }| MergeResolve { task_id, file, strategy }.into();
    posted(&app, &id, query, request, command).await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Commit {
    #[serde(default)]
    message: String,
}

/// `POST /api/v1/tasks/{id}/merge/commit`
pub(super) async fn commit(State(app): State<Arc<App>>, Named(id): Named, query: Wished, request: Request) -> Answer {
    let manner = Manner::read(query, request.headers())?;
    let Commit { message } = parse_or_default(&body(request).await?)?;
    let task_id = read_id(&id)?;
    ask(&app, task_id, MergeCommit { task_id, message }, manner.wait).await
}

/// `POST /api/v1/tasks/{id}/merge/abort`
pub(super) async fn abort(State(app): State<Arc<App>>, Named(id): Named, query: Wished, headers: HeaderMap) -> Answer {
    plain(&app, &id, &Manner::read(query, &headers)?, |task_id| MergeAbort { task_id }.into()).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Skip {
    subtask_id: Uuid,
    #[serde(default)]
    reason: String,
}

/// `POST /api/v1/tasks/{id}/merge/skip`
pub(super) async fn skip(State(app): State<Arc<App>>, Named(id): Named, query: Wished, request: Request) -> Answer {
    let command = |task_id, Skip { subtask_id, reason }| MergeSkip { task_id, subtask_id, reason }.into();
    posted(&app, &id, query, request, command).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Completion {
    action: String,
    target_repo_path: Option<String>,
    target_branch: Option<String>,
}

/// `POST /api/v1/tasks/{id}/completion`
pub(super) async fn completion(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Wished,
    request: Request,
) -> Answer {
    let manner = Manner::read(query, request.headers())?;
    let wish: Completion = parse(&body(request).await?)?;
    let task = find(&app, &id).await?;
    let command = RetryCompletionAction {
        task_id: task.id,
        task_name: task.name,
        action: wish.action,
        // The daemon takes an empty one for the repository that the work came from.
        target_repo_path: wish.target_repo_path.unwrap_or_default(),
        target_branch: wish.target_branch,
    };
    ask(&app, task.id, command, manner.wait).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Clone {
    target_dir: String,
}

/// `POST /api/v1/tasks/{id}/clone`
pub(super) async fn clone(State(app): State<Arc<App>>, Named(id): Named, query: Wished, request: Request) -> Answer {
    let command = |task_id, Clone { target_dir }| CloneWorktree { task_id, target_dir }.into();
    posted(&app, &id, query, request, command).await
}
