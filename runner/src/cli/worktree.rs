//! `makima worktree`: the folders in which agents worked, and why they are still there.

mod clean;
mod trash;

use std::path::Path;
use std::time::Duration;

use makima_core::Keep;
use makima_core::policy::shorten;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::args::WorktreeCommand;
use super::print;
use super::status::size;
use crate::config::{self, ConfigFile};
use crate::executor::{Settings, Size, is_dirty, size as size_of};
use crate::inspect::worktrees::{Fate, Why, Worktree, worktrees};
use crate::report::Failure;

/// For all of them to be looked into. What has not been until then is listed without its size and state.
const PATIENCE: Duration = Duration::from_secs(60);

/// Characters of a name in the table.
const NAME: usize = 30;

pub(super) async fn worktree(command: &WorktreeCommand) -> Result<(), Failure> {
    match command {
        WorktreeCommand::List { json, trash: false } => list(*json).await,
        WorktreeCommand::List { json, trash: true } => trash::list(*json).await,
        WorktreeCommand::Clean { trash: true, dry_run, json, .. } => trash::empty(*dry_run, *json).await,
        WorktreeCommand::Clean { ids, dry_run, json, .. } => clean::clean(ids, *dry_run, *json).await,
        WorktreeCommand::Restore { id } => trash::restore(id).await,
    }
}

/// A worktree, as it is listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    task: Option<String>,
    path: String,
    name: Option<String>,
    status: Option<String>,
    branch: Option<String>,
    /// None where it was not looked at.
    bytes: Option<u64>,
    /// Whether those are all.
    bytes_whole: bool,
    /// None where it cannot be told.
    dirty: Option<bool>,
    /// Whether it may go into the trash by itself.
    goes: bool,
    /// Why it is still there, and for how long.
    kept: String,
    /// For how many seconds its task has ended.
    ended: Option<u64>,
}

async fn list(as_json: bool) -> Result<(), Failure> {
    let home = config::home_path()?;
    let keep = ConfigFile::read(&home)?.keep.keep();
    let found = worktrees(&home).map_err(|error| Failure::failed(error.to_string()).hint("see that it is yours"))?;
    let settings = Settings::here().map_err(|error| Failure::unusable(error.to_string()))?;
    let until = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    for tree in found {
        all.push(look(&home, &settings, &keep, tree, until).await);
    }
    if as_json {
        print::json(&all);
        return Ok(());
    }
    if all.is_empty() {
        print::note("no worktrees");
        return Ok(());
    }
    print::line(&format!("{:36}  {:11}  {:>10}  {:5}  {:39}  NAME", "TASK", "STATUS", "SIZE", "STATE", "KEPT"));
    all.iter().for_each(|tree| print::line(&line(tree)));
    Ok(())
}

async fn look(home: &Path, settings: &Settings, keep: &Keep, tree: Worktree, until: Instant) -> Listed {
    let path = tree.path.clone();
    let measured = tokio::task::spawn_blocking(move || size_of(&path));
    let Size { bytes, whole } = match timeout_at(until, measured).await {
        Ok(Ok(size)) => size,
        Ok(Err(_)) | Err(_) => Size::default(),
    };
    let dirty = match tree.id.zip(tree.task.as_ref()) {
        Some((id, task)) => {
            let records = home.join("tasks").join(id.to_string());
            let looked = is_dirty(settings, &records, &tree.path, task.spec.branch.as_str());
            timeout_at(until, looked).await.ok().and_then(|dirty| dirty.inspect_err(|why| tracing::info!("{why}")).ok())
        }
        None => None,
    };
    let spec = tree.task.as_ref().map(|task| &task.spec);
    let (goes, kept) = match tree.fate(keep) {
        Fate::Stays(why) => (false, why),
        Fate::Goes(why) => (true, format!("{why}, may go")),
    };
    Listed {
        task: tree.id.map(|id| id.to_string()),
        path: tree.path.display().to_string(),
        name: spec.map(|spec| spec.name.clone()),
        status: tree.status(),
        branch: spec.map(|spec| spec.branch.as_str().to_owned()),
        bytes: (whole || bytes > 0).then_some(bytes),
        bytes_whole: whole,
        dirty,
        goes,
        kept,
        ended: match tree.why {
            Why::Ended(ago) => Some(ago),
            Why::Runs | Why::Unended | Why::Unreadable | Why::NoTask => None,
        },
    }
}

fn line(tree: &Listed) -> String {
    // One that bears another name than a task's is named by that.
    let file = Path::new(&tree.path).file_name().unwrap_or_default().to_string_lossy();
    let id = print::tame(tree.task.as_deref().unwrap_or(&file));
    let more = if tree.bytes_whole { "" } else { "+" };
    let room = tree.bytes.map_or_else(|| "?".to_owned(), |bytes| format!("{}{more}", size(bytes)));
    let state = match tree.dirty {
        Some(true) => "dirty",
        Some(false) => "clean",
        None => "?",
    };
    let (status, name) = (tree.status.as_deref().unwrap_or("-"), tree.name.as_deref().unwrap_or("-"));
    let name = print::tame(&shorten(name, NAME));
    format!("{id:36}  {status:11}  {room:>10}  {state:5}  {:39}  {name}", tree.kept)
}
