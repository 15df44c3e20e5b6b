//! The store that one person needs: a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use makima_core::protocol::SpawnTask;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::open::{self, OpenError};
use super::{Answering, Batch, EventRow, Head, Store, StoreError, TaskRow, read, write};
use crate::hub::Snapshot;

/// Connections that read. Each is a thread and up to 2 MiB of cache.
const READERS: u32 = 2;

/// How long a reader waits for one of them.
const READER_WAIT: Duration = Duration::from_secs(10);

/// Tasks, events and output in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    /// None while nothing is known about the connection's state: after an error, or when a write was dropped
    /// half-way. The next write opens a new one.
    writer: Mutex<Option<SqliteConnection>>,
    readers: SqlitePool,
    /// Whether something that was taken out still stands in the log of changes.
    stale: AtomicBool,
    lock: File,
}

impl Sqlite {
    /// Opens the file, makes it where there is none.
    ///
    /// # Errors
    /// Where it cannot be opened, is in use, or is of a version that this makima cannot use.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let (lock, writer) = open::open(path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(READER_WAIT)
            .test_before_acquire(false)
            .connect_lazy_with(open::options(path).pragma("query_only", "on").row_buffer_size(8));
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(Some(writer)),
            readers,
            stale: AtomicBool::new(true),
            lock,
        })
    }

    /// Does this with the one connection that writes, and keeps that only if it went well.
    async fn with_writer<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Answering<'c, T> + Send,
    {
        let mut slot = self.writer.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => open::options(&self.path).create_if_missing(false).connect().await?,
        };
        let done = work(&mut connection).await?;
        *slot = Some(connection);
        Ok(done)
    }

    /// Where that does not work now it is tried again after the next write, and done at the end in any case.
    async fn empty_log(&self) {
        match self.with_writer(|connection| write::empty_log(connection).boxed()).await {
            Ok(emptied) => self.stale.store(!emptied, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "what was taken out of the data file may still lie beside it"),
        }
    }

    async fn reader(&self) -> Result<PoolConnection<sqlx::Sqlite>, StoreError> {
        Ok(self.readers.acquire().await?)
    }
}

impl Store for Sqlite {
    fn load(&self) -> Answering<'_, Snapshot> {
        async { read::snapshot(&mut *self.reader().await?).await }.boxed()
    }

    fn write(&self, batch: Batch) -> Answering<'_, ()> {
        async {
            if self.with_writer(|connection| write::batch(connection, batch).boxed()).await? {
                self.stale.store(true, Ordering::Relaxed);
            }
            if self.stale.load(Ordering::Relaxed) {
                self.empty_log().await;
            }
            Ok(())
        }
        .boxed()
    }

    fn probe(&self) -> Answering<'_, ()> {
        self.with_writer(|connection| write::probe(connection).boxed()).boxed()
    }

    fn tasks(&self) -> Answering<'_, Vec<TaskRow>> {
        async { read::tasks(&mut *self.reader().await?).await }.boxed()
    }

    fn task(&self, id: Uuid) -> Answering<'_, Option<TaskRow>> {
        async move { read::task(&mut *self.reader().await?, id).await }.boxed()
    }

    fn asked(&self, id: Uuid) -> Answering<'_, Option<(SpawnTask, Vec<Uuid>)>> {
        async move { read::asked(&mut *self.reader().await?, id).await }.boxed()
    }

    fn head(&self, id: Uuid) -> Answering<'_, Head> {
        async move { read::head(&mut *self.reader().await?, id).await }.boxed()
    }

    fn events(&self, id: Uuid, after: u64, limit: u32) -> Answering<'_, Vec<EventRow>> {
        async move { read::events(&mut *self.reader().await?, id, after, limit).await }.boxed()
    }

    fn output(&self, id: Uuid, from: u64, max: usize) -> Answering<'_, Vec<u8>> {
        async move { read::output(&mut *self.reader().await?, id, from, max).await }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.readers.close().await;
            // The last connection to close folds the log back into the file.
            if let Some(writer) = self.writer.lock().await.take()
                && let Err(error) = writer.close().await
            {
                tracing::warn!(%error, "the data file was not closed cleanly");
            }
            // Somebody may still hold this store; the file is free for the next one all the same.
            let _ = self.lock.unlock();
        }
        .boxed()
    }
}
