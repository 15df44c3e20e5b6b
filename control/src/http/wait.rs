//! Waiting for tasks to end, for as long as somebody has patience.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use futures_util::future::{join_all, select_all};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::ApiError;
use super::asked::{Named, find, patience, read_id};
use super::tasks::TaskJson;
use crate::app::App;
use crate::hub::Kin;
use crate::store::{Head, StoreError};

/// Tasks that one request may name.
const NAMED: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    mode: Mode,
    #[serde(rename = "for")]
    tasks: Option<String>,
    wait: Option<String>,
}

/// When it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// When all of them have ended.
    #[default]
    All,
    /// When one has ended of those that had not when it began.
    Any,
}

#[derive(Serialize)]
pub(super) struct Waited {
    over: bool,
    tasks: Vec<TaskJson>,
}

/// `GET /api/v1/tasks/{id}/wait?mode=any|all&for=ID,ID&wait=SECONDS`
pub(super) async fn wait(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Wish>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<Waited>, ApiError> {
    let Query(wish) = query.map_err(|rejection| ApiError::bad("bad_query", rejection.body_text()))?;
    let patience = patience(wish.wait.as_deref(), &headers)?;
    let parent = find(&app, &id).await?.id;
    let tasks = match wish.tasks.as_deref() {
        Some(named) => below(&app, parent, named)?,
        None => app.engine.children(parent),
    };
    // What has ended by now is seen whatever the patience, and is no news where any end is waited for.
    let mut open = Vec::new();
    for task in &tasks {
        let end = End::of(&app, *task);
        if !end.is_known().await? {
            open.push(end);
        }
    }
    let over = open.is_empty()
        || tokio::select! {
            over = timeout(patience, over(open, wish.mode)) => over.unwrap_or(Ok(false))?,
            () = app.stop.cancelled() => {
                let message = "the server ends: ask again when it is back";
                return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_ends", message));
            }
        };
    let mut rows = Vec::new();
    for task in tasks {
        rows.extend(app.engine.store().task(task).await?);
    }
    Ok(Json(Waited { over, tasks: rows.into_iter().map(TaskJson::from).collect() }))
}

/// The tasks that are named, each once. Only such as are below the one that is asked about: others are not to be found there.
fn below(app: &App, parent: Uuid, named: &str) -> Result<Vec<Uuid>, ApiError> {
    let mut seen = BTreeSet::new();
    let mut tasks = Vec::new();
    for name in named.split(',') {
        let task = read_id(name.trim())?;
        if app.engine.kin(task, parent) != Kin::Below {
            return Err(ApiError::no_such_task());
        }
        if seen.insert(task) {
            tasks.push(task);
        }
    }
    if tasks.len() > NAMED {
        return Err(ApiError::bad("bad_query", format!("`for` names more than {NAMED} tasks")));
    }
    Ok(tasks)
}

/// Comes when it is over.
async fn over(open: Vec<End>, mode: Mode) -> Result<bool, StoreError> {
    let open = open.into_iter().map(|end| Box::pin(end.come()));
    match mode {
        Mode::All => join_all(open).await.into_iter().collect::<Result<(), _>>()?,
        Mode::Any => select_all(open).await.0?,
    }
    Ok(true)
}

/// The end of a task, which may be to come.
struct End {
    app: Arc<App>,
    task: Uuid,
    news: watch::Receiver<Head>,
}

impl End {
    fn of(app: &Arc<App>, task: Uuid) -> Self {
        // First the watch, then the look: what is written between the two is seen by both.
        let news = app.engine.heads().follow(task);
        Self { app: Arc::clone(app), task, news }
    }

    /// Whether it is on disk. The store is asked only where that may be: a task tells a lot before its end.
    async fn is_known(&self) -> Result<bool, StoreError> {
        if !self.app.engine.has_ended(self.task) {
            return Ok(false);
        }
        Ok(self.app.engine.store().task(self.task).await?.is_none_or(|task| task.success.is_some()))
    }

    async fn come(mut self) -> Result<(), StoreError> {
        loop {
            self.news.borrow_and_update();
            if self.is_known().await? {
                return Ok(());
            }
            self.news.changed().await.map_err(StoreError::new)?;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // The last receiver has to be gone before the watch can be.
        self.news = watch::Sender::new(Head::default()).subscribe();
        self.app.engine.heads().tidy(self.task);
    }
}
