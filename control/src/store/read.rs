//! Reads back what was written.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use makima_core::protocol::{DaemonCommand, SpawnTask, Unreadable};
use makima_core::time::Millis;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};
use uuid::Uuid;

use super::codec::{self, NO_PLACE, blob, int, maybe_uuid, nat, uuid};
use super::{EventRow, Head, StoreError, TaskRow};
use crate::hub::{DaemonState, Numbers, Order, Ordered, Snapshot, TaskState, What, Words};

pub(super) async fn snapshot(connection: &mut SqliteConnection) -> Result<Snapshot, StoreError> {
    let mut transaction = connection.begin().await?;
    let mut snapshot = Snapshot::default();
    let mut rows = sqlx::query("SELECT * FROM daemons").fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        snapshot.daemons.push(daemon_state(&row)?);
    }
    drop(rows);
    orders(&mut transaction, &mut snapshot.daemons).await?;
    // An ended task's plan is not wanted any more, and there may be many of them.
    let mut rows =
        sqlx::query("SELECT seq, id, name, status, daemon, branch, parent, cost FROM tasks WHERE success IS NOT NULL")
            .fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        snapshot.tasks.push(task_state(&row, None, None)?);
    }
    drop(rows);
    let mut rows = sqlx::query("SELECT * FROM tasks WHERE success IS NULL").fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        let interrupt = row.try_get("interrupt")?;
        let mut task = task_state(&row, Some(Box::new(codec::asked(&row)?)), interrupt)?;
        let at: i64 = row.try_get("log_at")?;
        task.log_at = (at != NO_PLACE).then(|| nat(at));
        task.ordered = Ordered(row.try_get("ordered")?);
        task.hold = row.try_get("hold")?;
        task.committed = row.try_get("committed")?;
        task.talks = row.try_get("talks")?;
        task.after = codec::needs(&row)?;
        snapshot.tasks.push(task);
    }
    drop(rows);
    for task in snapshot.tasks.iter_mut().filter(|task| task.spawn.is_some()) {
        let head = head(&mut transaction, task.id).await?;
        (task.events, task.bytes) = (head.events, head.bytes);
        task.line_begun = line_begun(&mut transaction, task.id).await?;
        task.words = words(&mut transaction, task.id).await?;
    }
    transaction.commit().await?;
    Ok(snapshot)
}

fn daemon_state(row: &SqliteRow) -> Result<DaemonState, StoreError> {
    Ok(DaemonState {
        id: uuid(row, "id")?,
        machine: row.try_get("machine_id")?,
        hostname: row.try_get("hostname")?,
        max_tasks: row.try_get("max_tasks")?,
        seen: Millis(nat(row.try_get("seen_at")?)),
        numbers: Numbers {
            epoch: nat(row.try_get("epoch")?),
            last: nat(row.try_get("last_order")?),
            orders: BTreeMap::new(),
            theirs: row.try_get::<i64, _>("their_epoch")?.cast_unsigned(),
            applied: nat(row.try_get("applied")?),
        },
    })
}

/// Commands that are not known to be applied.
async fn orders(connection: &mut SqliteConnection, daemons: &mut [DaemonState]) -> Result<(), StoreError> {
    let mut rows = sqlx::query("SELECT daemon, n, task, what, words FROM orders").fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let id = uuid(&row, "daemon")?;
        let words: Option<&str> = row.try_get("words")?;
        let words = words.map(DaemonCommand::read).transpose().map_err(unreadable)?;
        let what = What::kept(row.try_get("what")?, words);
        let what = what.ok_or_else(|| StoreError::new("an order of no known kind"))?;
        if let Some(daemon) = daemons.iter_mut().find(|daemon| daemon.id == id) {
            daemon.numbers.orders.insert(nat(row.try_get("n")?), Order { task: uuid(&row, "task")?, what });
        }
    }
    Ok(())
}

fn task_state(
    row: &SqliteRow,
    spawn: Option<Box<SpawnTask>>,
    interrupt: Option<bool>,
) -> Result<TaskState, StoreError> {
    let branch: Option<&str> = row.try_get("branch")?;
    Ok(TaskState {
        id: uuid(row, "id")?,
        seq: nat(row.try_get("seq")?),
        name: row.try_get("name")?,
        status: row.try_get("status")?,
        parent: maybe_uuid(row, "parent")?,
        cost: nat(row.try_get("cost")?),
        committed: None,
        talks: false,
        daemon: maybe_uuid(row, "daemon")?,
        interrupt,
        branch_known: branch.is_some(),
        events: 0,
        bytes: 0,
        log_at: Some(0),
        line_begun: false,
        ordered: Ordered::default(),
        hold: None,
        words: Vec::new(),
        after: Vec::new(),
        spawn,
    })
}

/// What a task's agent is to be told yet.
async fn words(connection: &mut SqliteConnection, id: Uuid) -> Result<Vec<Words>, StoreError> {
    let query = sqlx::query("SELECT n, command FROM words WHERE task = $1 ORDER BY n").bind(blob(id));
    let mut rows = query.fetch(connection);
    let mut words = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let command = Box::new(DaemonCommand::read(row.try_get("command")?).map_err(unreadable)?);
        words.push(Words { n: nat(row.try_get("n")?), command });
    }
    Ok(words)
}

fn unreadable(why: Unreadable) -> StoreError {
    StoreError::new(format!("a command that was kept cannot be read: {why}"))
}

pub(super) async fn tasks(connection: &mut SqliteConnection) -> Result<Vec<TaskRow>, StoreError> {
    let query = format!("SELECT {} FROM tasks ORDER BY person IS NULL, seq", codec::TASK_ROW);
    let mut rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch(connection);
    let mut tasks = Vec::new();
    while let Some(row) = rows.try_next().await? {
        tasks.push(codec::task_row(&row)?);
    }
    Ok(tasks)
}

pub(super) async fn task(connection: &mut SqliteConnection, id: Uuid) -> Result<Option<TaskRow>, StoreError> {
    let query = format!("SELECT {} FROM tasks WHERE id = $1", codec::TASK_ROW);
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(blob(id)).fetch_optional(connection).await?;
    row.as_ref().map(codec::task_row).transpose()
}

pub(super) async fn asked(
    connection: &mut SqliteConnection,
    id: Uuid,
) -> Result<Option<(SpawnTask, Vec<Uuid>)>, StoreError> {
    let row = sqlx::query("SELECT * FROM tasks WHERE id = $1").bind(blob(id)).fetch_optional(connection).await?;
    row.as_ref().map(|row| Ok((codec::asked(row)?, codec::needs(row)?))).transpose()
}

pub(super) async fn head(connection: &mut SqliteConnection, id: Uuid) -> Result<Head, StoreError> {
    // One statement, so that both numbers are of one moment.
    let row = sqlx::query(
        "SELECT coalesce((SELECT max(n) FROM events WHERE task = $1), 0) AS events, \
         coalesce((SELECT start + length(text) FROM output WHERE task = $1 ORDER BY start DESC LIMIT 1), 0) AS bytes",
    )
    .bind(blob(id))
    .fetch_one(connection)
    .await?;
    Ok(Head { events: nat(row.try_get("events")?), bytes: nat(row.try_get("bytes")?) })
}

/// Whether a task's output ends within a line.
async fn line_begun(connection: &mut SqliteConnection, id: Uuid) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT substr(text, -1) <> x'0a' AS begun FROM output WHERE task = $1 ORDER BY start DESC LIMIT 1",
    )
    .bind(blob(id))
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| row.try_get("begun")).transpose()?.unwrap_or(false))
}

pub(super) async fn events(
    connection: &mut SqliteConnection,
    id: Uuid,
    after: u64,
    limit: u32,
) -> Result<Vec<EventRow>, StoreError> {
    let mut rows =
        sqlx::query("SELECT n, at_offset, kind, data FROM events WHERE task = $1 AND n > $2 ORDER BY n LIMIT $3")
            .bind(blob(id))
            .bind(int(after))
            .bind(limit)
            .fetch(connection);
    let mut events = Vec::new();
    while let Some(row) = rows.try_next().await? {
        events.push(EventRow {
            n: nat(row.try_get("n")?),
            offset: nat(row.try_get("at_offset")?),
            kind: row.try_get("kind")?,
            data: row.try_get("data")?,
        });
    }
    Ok(events)
}

pub(super) async fn output(
    connection: &mut SqliteConnection,
    id: Uuid,
    from: u64,
    max: usize,
) -> Result<Vec<u8>, StoreError> {
    let mut rows = sqlx::query(
        "SELECT start, text FROM output WHERE task = $1 AND start >= \
         coalesce((SELECT max(start) FROM output WHERE task = $1 AND start <= $2), 0) ORDER BY start",
    )
    .bind(blob(id))
    .bind(int(from))
    .fetch(connection);
    let mut page = Vec::new();
    while page.len() < max {
        let Some(row) = rows.try_next().await? else { break };
        let start = nat(row.try_get("start")?);
        let text: &[u8] = row.try_get("text")?;
        // Only the first row can begin before `from`.
        let skip = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
        let rest = text.get(skip..).unwrap_or_default();
        let room = max.saturating_sub(page.len());
        page.extend_from_slice(rest.get(..room).unwrap_or(rest));
    }
    Ok(page)
}
