//! Writes a batch in one transaction.

use makima_core::cost::cost_so_far;
use makima_core::needs;
use makima_core::policy;
use makima_core::protocol::{DaemonCommand, SpawnTask};
use makima_core::task::Status;
use makima_core::time::Millis;
use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::codec::{NO_PLACE, blob, event, int};
use super::{Batch, Block, StoreError};
use crate::hub::{COMMITTED, End, Event, Order, Ordered, Record, talks};

/// True if something secret was taken out: it still stands in what was written earlier.
pub(super) async fn batch(connection: &mut SqliteConnection, batch: Batch) -> Result<bool, StoreError> {
    // Immediate: a transaction that begins as a reader can be refused the moment it writes.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut taken_out = false;
    for one in batch.records {
        if let Record::Event { task, event: Event::End(_), .. } = &one {
            taken_out |= forget_credentials(&mut transaction, *task).await?;
        }
        record(&mut transaction, one).await?;
    }
    for block in batch.output {
        output(&mut transaction, block).await?;
    }
    transaction.commit().await?;
    Ok(taken_out)
}

/// Nobody needs a task's credentials once it has ended. True if it had any.
async fn forget_credentials(connection: &mut SqliteConnection, task: Uuid) -> Result<bool, StoreError> {
    let url: Option<Option<String>> = sqlx::query_scalar("SELECT repo_url FROM tasks WHERE id = $1")
        .bind(blob(task))
        .fetch_optional(&mut *connection)
        .await?;
    let Some((bare, _)) = url.flatten().as_deref().and_then(policy::split_credentials) else { return Ok(false) };
    sqlx::query("UPDATE tasks SET repo_url = $2 WHERE id = $1").bind(blob(task)).bind(bare).execute(connection).await?;
    Ok(true)
}

/// Folds the log of changes into the file and empties it: what was overwritten stands in it until then. False if
/// somebody who reads just now keeps it; it is not waited for them, as daemons wait for the writer.
pub(super) async fn empty_log(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    sqlx::query("PRAGMA busy_timeout = 50").execute(&mut *connection).await?;
    let kept: Result<i64, _> = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    sqlx::query("PRAGMA busy_timeout = 5000").execute(connection).await?;
    Ok(kept? == 0)
}

pub(super) async fn probe(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE probe SET n = n + 1").execute(connection).await?;
    Ok(())
}

async fn record(connection: &mut SqliteConnection, record: Record) -> Result<(), StoreError> {
    let query = match record {
        Record::Daemon { id, machine, hostname, max_tasks, seen } => sqlx::query(
            "INSERT INTO daemons (id, machine_id, hostname, max_tasks, seen_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET hostname = $3, max_tasks = $4, seen_at = $5",
        )
        .bind(blob(id))
        .bind(machine)
        .bind(hostname)
        .bind(max_tasks)
        .bind(int(seen.0)),
        Record::Task { seq, name, spawn, after, created } => {
            return task(connection, seq, name, *spawn, after, created).await;
        }
        Record::Assigned { task, daemon } => {
            sqlx::query("UPDATE tasks SET daemon = $2 WHERE id = $1").bind(blob(task)).bind(blob(daemon))
        }
        Record::Interrupt { task, forced } => {
            sqlx::query("UPDATE tasks SET interrupt = $2 WHERE id = $1").bind(blob(task)).bind(forced)
        }
        Record::Hold { task, paused } => {
            sqlx::query("UPDATE tasks SET hold = $2, ordered = ordered & ~$3 WHERE id = $1")
                .bind(blob(task))
                .bind(paused)
                .bind(Ordered::HOLD)
        }
        Record::Words { task, words } => sqlx::query("INSERT INTO words (n, task, command) VALUES ($1, $2, $3)")
            .bind(int(words.n))
            .bind(blob(task))
            .bind(words.command.write()),
        Record::Told { n } => sqlx::query("DELETE FROM words WHERE n = $1").bind(int(n)),
        Record::Branch { task, branch } => {
            sqlx::query("UPDATE tasks SET branch = $2 WHERE id = $1").bind(blob(task)).bind(branch)
        }
        Record::Epoch { daemon, epoch } => return begin_anew(connection, daemon, epoch).await,
        Record::Ordered { daemon, n, order } => return ordered(connection, daemon, n, order).await,
        Record::Acked { daemon, n } => {
            sqlx::query("DELETE FROM orders WHERE daemon = $1 AND n <= $2").bind(blob(daemon)).bind(int(n))
        }
        Record::Applied { daemon, epoch, n } => {
            sqlx::query("UPDATE daemons SET their_epoch = $2, applied = $3 WHERE id = $1")
                .bind(blob(daemon))
                .bind(epoch.cast_signed())
                .bind(int(n))
        }
        Record::Placed { task, at } => {
            sqlx::query("UPDATE tasks SET log_at = $2 WHERE id = $1").bind(blob(task)).bind(at.map_or(NO_PLACE, int))
        }
        Record::Event { task, n, offset, time, event } => {
            return happened(connection, task, [n, offset, time.0], event).await;
        }
    };
    query.execute(connection).await?;
    Ok(())
}

/// Our numbers to a daemon begin at 1 again.
async fn begin_anew(connection: &mut SqliteConnection, daemon: Uuid, epoch: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE daemons SET epoch = $2, last_order = 0 WHERE id = $1")
        .bind(blob(daemon))
        .bind(int(epoch))
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM orders WHERE daemon = $1").bind(blob(daemon)).execute(&mut *connection).await?;
    sqlx::query("UPDATE tasks SET ordered = 0 WHERE daemon = $1 AND ordered != 0")
        .bind(blob(daemon))
        .execute(connection)
        .await?;
    Ok(())
}

async fn ordered(connection: &mut SqliteConnection, daemon: Uuid, n: u64, order: Order) -> Result<(), StoreError> {
    let mut told = Ordered::default();
    told.add(&order.what);
    sqlx::query("INSERT INTO orders (daemon, n, task, what, words) VALUES ($1, $2, $3, $4, $5)")
        .bind(blob(daemon))
        .bind(int(n))
        .bind(blob(order.task))
        .bind(order.what.bit())
        .bind(order.what.words().map(DaemonCommand::write))
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE daemons SET last_order = $2 WHERE id = $1")
        .bind(blob(daemon))
        .bind(int(n))
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE tasks SET ordered = ordered | $2 WHERE id = $1")
        .bind(blob(order.task))
        .bind(told.0)
        .execute(connection)
        .await?;
    Ok(())
}

async fn task(
    connection: &mut SqliteConnection,
    seq: u64,
    name: String,
    spawn: SpawnTask,
    after: Vec<Uuid>,
    created: Millis,
) -> Result<(), StoreError> {
    let needs = (!after.is_empty()).then(|| serde_json::to_string(&after)).transpose();
    let copy_files = spawn.copy_files.map(|files| serde_json::to_string(&files)).transpose();
    sqlx::query(
        "INSERT INTO tasks (seq, id, name, task_name, plan, repo_url, base_branch, target_branch, parent, depth, \
         is_orchestrator, target_repo_path, completion_action, continue_from, copy_files, status, created_at, needs) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(int(seq))
    .bind(blob(spawn.task_id))
    .bind(name)
    .bind(spawn.task_name)
    .bind(spawn.plan)
    .bind(spawn.repo_url)
    .bind(spawn.base_branch)
    .bind(spawn.target_branch)
    .bind(spawn.parent_task_id.map(blob))
    .bind(spawn.depth)
    .bind(spawn.is_orchestrator)
    .bind(spawn.target_repo_path)
    .bind(spawn.completion_action)
    .bind(spawn.continue_from_task_id.map(blob))
    .bind(copy_files.map_err(StoreError::new)?)
    .bind(Status::Pending.as_str())
    .bind(int(created.0))
    .bind(needs.map_err(StoreError::new)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn happened(
    connection: &mut SqliteConnection,
    task: Uuid,
    [n, offset, time]: [u64; 3],
    what: Event,
) -> Result<(), StoreError> {
    let (kind, data) = event(&what);
    sqlx::query("INSERT INTO events (task, n, at_offset, time, kind, data) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(blob(task))
        .bind(int(n))
        .bind(int(offset))
        .bind(int(time))
        .bind(kind)
        .bind(data)
        .execute(&mut *connection)
        .await?;
    let change = match what {
        Event::Status { to, .. } => sqlx::query("UPDATE tasks SET status = $2 WHERE id = $1").bind(blob(task)).bind(to),
        Event::End(End { status, success, error }) => {
            sqlx::query("DELETE FROM words WHERE task = $1").bind(blob(task)).execute(&mut *connection).await?;
            let ended = "UPDATE tasks SET status = $2, success = $3, error = $4, ended_at = $5, person = NULL, \
                 committed = NULL, talks = FALSE WHERE id = $1";
            sqlx::query(ended).bind(blob(task)).bind(status).bind(success).bind(error).bind(int(time))
        }
        Event::Progress { summary } => return step(connection, task, summary).await,
        Event::Completion { .. } => return Ok(()),
    };
    change.execute(connection).await?;
    Ok(())
}

/// A step of a fixed form says something of its task.
async fn step(connection: &mut SqliteConnection, task: Uuid, summary: String) -> Result<(), StoreError> {
    if talks(&summary) {
        let query = sqlx::query("UPDATE tasks SET talks = TRUE WHERE id = $1 AND NOT talks").bind(blob(task));
        query.execute(&mut *connection).await?;
    }
    let query = if let Some(person) = needs::read(&summary) {
        sqlx::query("UPDATE tasks SET person = $2 WHERE id = $1").bind(blob(task)).bind(person.map(str::to_owned))
    } else if let Some(cost) = cost_so_far(&summary) {
        sqlx::query("UPDATE tasks SET cost = $2 WHERE id = $1").bind(blob(task)).bind(int(cost))
    } else if summary.starts_with(COMMITTED) {
        sqlx::query("UPDATE tasks SET committed = $2 WHERE id = $1").bind(blob(task)).bind(summary)
    } else {
        return Ok(());
    };
    query.execute(connection).await?;
    Ok(())
}

async fn output(connection: &mut SqliteConnection, block: Block) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO output (task, start, text) VALUES ($1, $2, $3)")
        .bind(blob(block.task))
        .bind(int(block.start))
        .bind(block.text.into_bytes())
        .execute(connection)
        .await?;
    Ok(())
}
