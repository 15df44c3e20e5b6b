//! Between the types here and what SQLite has.

use makima_core::policy;
use makima_core::protocol::SpawnTask;
use makima_core::time::Millis;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{StoreError, TaskRow};
use crate::hub::Event;

/// Stands for a place that is not known.
pub(super) const NO_PLACE: i64 = -1;

/// SQLite counts in `i64`; nothing here gets that far.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn nat(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(super) fn blob(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

pub(super) fn uuid(row: &SqliteRow, column: &str) -> Result<Uuid, StoreError> {
    Uuid::from_slice(row.try_get(column)?).map_err(StoreError::new)
}

pub(super) fn maybe_uuid(row: &SqliteRow, column: &str) -> Result<Option<Uuid>, StoreError> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    bytes.map(Uuid::from_slice).transpose().map_err(StoreError::new)
}

/// The columns of a [`TaskRow`].
pub(super) const TASK_ROW: &str = "id, name, status, success, error, branch, created_at, ended_at, needs, repo_url, \
     completion_action, continue_from, parent, person";

pub(super) fn task_row(row: &SqliteRow) -> Result<TaskRow, StoreError> {
    Ok(TaskRow {
        id: uuid(row, "id")?,
        name: row.try_get("name")?,
        status: row.try_get("status")?,
        success: row.try_get("success")?,
        error: row.try_get("error")?,
        branch: row.try_get("branch")?,
        created: Millis(nat(row.try_get("created_at")?)),
        ended: row.try_get::<Option<i64>, _>("ended_at")?.map(|at| Millis(nat(at))),
        after: needs(row)?,
        repository: row.try_get::<Option<String>, _>("repo_url")?.map(without_credentials),
        action: row.try_get("completion_action")?,
        continues: maybe_uuid(row, "continue_from")?,
        parent: maybe_uuid(row, "parent")?,
        person: row.try_get("person")?,
    })
}

/// They stand there until the task has ended.
fn without_credentials(url: String) -> String {
    policy::split_credentials(&url).map_or(url, |(bare, _)| bare)
}

/// What a task was to begin after.
pub(super) fn needs(row: &SqliteRow) -> Result<Vec<Uuid>, StoreError> {
    let needs: Option<&str> = row.try_get("needs")?;
    needs.map_or_else(|| Ok(Vec::new()), |needs| serde_json::from_str(needs).map_err(StoreError::new))
}

pub(super) fn asked(row: &SqliteRow) -> Result<SpawnTask, StoreError> {
    let copy_files: Option<&str> = row.try_get("copy_files")?;
    Ok(SpawnTask {
        task_id: uuid(row, "id")?,
        task_name: row.try_get("task_name")?,
        plan: row.try_get("plan")?,
        repo_url: row.try_get("repo_url")?,
        base_branch: row.try_get("base_branch")?,
        target_branch: row.try_get("target_branch")?,
        parent_task_id: maybe_uuid(row, "parent")?,
        depth: row.try_get("depth")?,
        is_orchestrator: row.try_get("is_orchestrator")?,
        target_repo_path: row.try_get("target_repo_path")?,
        completion_action: row.try_get("completion_action")?,
        continue_from_task_id: maybe_uuid(row, "continue_from")?,
        copy_files: copy_files.map(serde_json::from_str).transpose().map_err(StoreError::new)?,
    })
}

/// An event's data, as it is kept and as followers get it.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Data<'a> {
    Status { from: &'a str, to: &'a str },
    Progress { summary: &'a str },
    Completion { success: bool, message: &'a str, pr_url: Option<&'a str> },
    End {},
}

/// An event's kind and its data. An end's data stands in the task itself.
pub(super) fn event(event: &Event) -> (&'static str, String) {
    let (kind, data) = match event {
        Event::Status { from, to } => ("status", Data::Status { from, to }),
        Event::Progress { summary } => ("progress", Data::Progress { summary }),
        Event::Completion { success, message, pr_url } => {
            ("completion", Data::Completion { success: *success, message, pr_url: pr_url.as_deref() })
        }
        Event::End(_) => ("end", Data::End {}),
    };
    // Strings and booleans only: this cannot fail.
    (kind, serde_json::to_string(&data).unwrap_or_default())
}
