//! Opens the file: only ours to read, of a version that can be trusted, with the tables of this version.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Every version from 3.7.0 to the one before this can damage a file in WAL mode.
const OLDEST: [u32; 3] = [3, 51, 3];

/// Why a data file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system does not let us.
    #[error("the data file {} cannot be opened: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another server has it.
    #[error("the data file {} is in use by another server", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// It is no database, is damaged, or cannot be written.
    #[error("the data file {} cannot be opened: {source}; if it is damaged, move it away to begin a new one: \
        finished work is in its branches and worktrees", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: sqlx::Error,
    },
    /// A newer makima has changed it.
    #[error("the data file {} was written by a newer makima; use that one, or another file", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
    },
    /// Its tables cannot be brought up to this version.
    #[error("the data file {} cannot be brought up to this version: {source}", path.display())]
    Migration {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: MigrateError,
    },
    /// This SQLite can lose data.
    #[error("SQLite {found} can damage its files; 3.51.3 or newer is needed")]
    UnsafeSqlite {
        /// The version that this was linked with.
        found: String,
    },
}

/// How every connection is opened.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit that was answered outlives a power cut: what a daemon was told we have, it may forget.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        // What is taken out is overwritten: credentials are not to outlive their task.
        .pragma("secure_delete", "on")
        .pragma("cache_size", "-2048")
        .pragma("mmap_size", "0")
        .pragma("temp_store", "memory")
        .pragma("journal_size_limit", "16777216")
        .statement_cache_capacity(32)
        .disable_statement_logging()
}

/// Makes the file where there is none, takes it for this process alone and brings its tables up to date.
/// The lock holds as long as the returned file is open.
pub(super) async fn open(path: &Path) -> Result<(File, SqliteConnection), OpenError> {
    let lock = lock(path)?;
    private(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    let database = |source| OpenError::Database { path: path.to_owned(), source };
    let mut connection = options(path).connect().await.map_err(database)?;
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut connection).await.map_err(database)?;
    if !new_enough(&version) {
        return Err(OpenError::UnsafeSqlite { found: version });
    }
    match MIGRATIONS.run(&mut connection).await {
        Ok(()) => Ok((lock, connection)),
        Err(error) => {
            // It is not ours to leave half open: closing waits until the worker has let go of the file.
            let _ = connection.close().await;
            Err(refused(path, error))
        }
    }
}

fn refused(path: &Path, error: MigrateError) -> OpenError {
    let path = path.to_owned();
    if matches!(error, MigrateError::VersionMissing(_)) {
        OpenError::Newer { path }
    } else {
        OpenError::Migration { path, source: error }
    }
}

/// A lock beside the file. Not on it: closing any descriptor of the file itself would drop SQLite's own locks.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(name);
    let file = file.map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::File { path: path.to_owned(), source }),
    }
}

/// The file for its owner only. SQLite gives the files beside it the same mode.
fn private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    file.set_permissions(PermissionsExt::from_mode(0o600))
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found: [u32; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    found >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::new_enough;

    /// Protects the data from the versions of SQLite that can damage it.
    #[test]
    fn versions_with_the_damaging_bug_are_refused() {
        for bad in ["3.51.2", "3.7.0", "3.9.99", "2.99.99", "", "rubbish"] {
            assert!(!new_enough(bad), "{bad}");
        }
        for good in ["3.51.3", "3.52.0", "3.100.0", "4.0.0"] {
            assert!(new_enough(good), "{good}");
        }
    }
}
