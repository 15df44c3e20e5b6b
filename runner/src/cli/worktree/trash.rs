//! The trash as people see it: what is in it, out of it for good, and back again.

use std::time::{SystemTime, UNIX_EPOCH};

use makima_core::id::TaskId;
use makima_core::policy::counted;
use serde::Serialize;

use super::clean::pick;
use crate::cli::print;
use crate::cli::status::size as room;
use crate::config::{self, ConfigFile};
use crate::executor::{Entry, Trash};
use crate::executor::{Size, size};
use crate::report::Failure;

const DAY: u64 = 24 * 60 * 60;

/// Something in the trash, as it is listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    task: Option<String>,
    path: String,
    bytes: u64,
    /// Whether those are all.
    bytes_whole: bool,
    /// For how many seconds it has been there.
    since: u64,
    /// In how many seconds it is gone for good.
    goes_in: u64,
}

fn failed(error: impl ToString) -> Failure {
    Failure::failed(error.to_string())
}

fn entries() -> Result<(Trash, Vec<Entry>), Failure> {
    let trash = Trash::of(&config::home_path()?);
    let entries = trash.entries().map_err(failed)?;
    Ok((trash, entries))
}

pub(super) async fn list(as_json: bool) -> Result<(), Failure> {
    let keep = ConfigFile::read(&config::home_path()?)?.keep.keep().trash.0 / 1_000;
    let (_, entries) = entries()?;
    let measured = tokio::task::spawn_blocking(move || entries.iter().map(|entry| listed(entry, keep)).collect());
    let all: Vec<Listed> = measured.await.map_err(failed)?;
    if as_json {
        print::json(&all);
    } else if all.is_empty() {
        print::note("the trash is empty");
    } else {
        print::line(&format!("{:36}  {:>10}  {:10}  {:10}  PATH", "TASK", "SIZE", "SINCE", "GONE IN"));
        all.iter().for_each(|entry| print::line(&line(entry)));
    }
    Ok(())
}

fn listed(entry: &Entry, keep: u64) -> Listed {
    let Size { bytes, whole } = size(&entry.path);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = now.saturating_sub(entry.since / 1_000);
    Listed {
        task: entry.task.map(|task| task.to_string()),
        path: entry.path.display().to_string(),
        bytes,
        bytes_whole: whole,
        since,
        goes_in: keep.saturating_sub(since),
    }
}

fn line(entry: &Listed) -> String {
    let more = if entry.bytes_whole { "" } else { "+" };
    let (size, since) = (format!("{}{more}", room(entry.bytes)), counted(entry.since / DAY, "day"));
    let (task, goes) = (entry.task.as_deref().unwrap_or("-"), counted(entry.goes_in.div_ceil(DAY), "day"));
    format!("{task:36}  {size:>10}  {since:10}  {goes:10}  {}", print::tame(&entry.path))
}

pub(super) async fn empty(dry: bool, as_json: bool) -> Result<(), Failure> {
    if dry {
        return list(as_json).await;
    }
    let (trash, entries) = entries()?;
    let removed = tokio::task::spawn_blocking(move || {
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for entry in entries {
            match trash.remove(&entry) {
                Ok(()) => gone.push(entry.path.display().to_string()),
                Err(why) => kept.push(why.to_string()),
            }
        }
        (gone, kept)
    });
    let (gone, kept) = removed.await.map_err(failed)?;
    if as_json {
        print::json(&gone);
    } else {
        print::note(&format!("{} out of the trash, for good", counted(gone.len() as u64, "thing")));
    }
    match kept.first() {
        None => Ok(()),
        Some(first) => Err(failed(format!("{first}; {} of it stayed", counted(kept.len() as u64, "thing")))),
    }
}

pub(super) async fn restore(id: &str) -> Result<(), Failure> {
    let (trash, entries) = entries()?;
    let mut known: Vec<TaskId> = entries.iter().filter_map(|entry| entry.task).collect();
    known.sort();
    known.dedup();
    let task = pick(id, &known)?;
    let restored = tokio::task::spawn_blocking(move || trash.restore(task)).await.map_err(failed)?;
    let path = restored.map_err(|why| failed(format!("the worktree of {task} cannot be restored: {why}")))?;
    print::line(&path.display().to_string());
    print::note(&format!("it stays until you put it away by its name: `makima worktree clean {task}`"));
    Ok(())
}
