//! `makima worktree clean`: what may go goes into the trash.

use std::path::Path;

use makima_core::id::TaskId;
use makima_core::policy::counted;
use serde::Serialize;

use crate::cli::print;
use crate::config::{self, ConfigFile};
use crate::executor::Trash;
use crate::inspect::worktrees::{Fate, Worktree, worktrees};
use crate::report::Failure;

/// Characters of an id that name it, at least.
const LEAST: usize = 4;

/// What becomes of one worktree.
#[derive(Debug, Serialize)]
struct Told {
    task: Option<String>,
    path: String,
    goes: bool,
    why: String,
    /// It was named, or could not be moved, and stays.
    #[serde(skip)]
    refused: bool,
}

pub(super) async fn clean(ids: &[String], dry: bool, as_json: bool) -> Result<(), Failure> {
    let home = config::home_path()?;
    let keep = ConfigFile::read(&home)?.keep.keep();
    let all = worktrees(&home).map_err(|error| Failure::failed(error.to_string()).hint("see that it is yours"))?;
    let known: Vec<TaskId> = all.iter().filter_map(|tree| tree.id).collect();
    let named = ids.iter().map(|id| pick(id, &known)).collect::<Result<Vec<TaskId>, Failure>>()?;
    let told = tokio::task::spawn_blocking(move || {
        let of_these = all.into_iter().filter(|tree| named.is_empty() || tree.id.is_some_and(|id| named.contains(&id)));
        let fate = |tree: &Worktree| match (named.is_empty(), tree.may_go()) {
            (true, _) => tree.fate(&keep),
            (false, Ok(_)) => Fate::Goes("named".to_owned()),
            (false, Err(why)) => Fate::Stays(why),
        };
        of_these.map(|tree| told(&home, &tree, fate(&tree), dry, !named.is_empty())).collect::<Vec<_>>()
    });
    let told = told.await.map_err(|error| Failure::failed(error.to_string()))?;
    if as_json {
        print::json(&told);
    } else {
        told.iter().for_each(|told| print::line(&line(told, dry)));
        let gone = told.iter().filter(|told| told.goes).count() as u64;
        let how = if dry { "would go into the trash" } else { "went into the trash" };
        print::note(&format!("{} {how}", counted(gone, "worktree")));
    }
    match told.iter().filter(|told| told.refused).count() as u64 {
        0 => Ok(()),
        refused => Err(Failure::failed(format!("{} stayed that should have gone", counted(refused, "worktree")))),
    }
}

fn told(home: &Path, tree: &Worktree, fate: Fate, dry: bool, named: bool) -> Told {
    let task = tree.id.map(|id| id.to_string());
    let path = tree.path.display().to_string();
    match (fate, tree.id) {
        (Fate::Goes(why), Some(id)) => {
            let gone = if dry { Ok(()) } else { Trash::of(home).discard_again(id) };
            match gone {
                Ok(()) => Told { task, path, goes: true, why, refused: false },
                Err(why) => Told { task, path, goes: false, why, refused: true },
            }
        }
        (Fate::Goes(why) | Fate::Stays(why), _) => Told { task, path, goes: false, why, refused: named },
    }
}

fn line(told: &Told, dry: bool) -> String {
    let what = match (told.goes, dry) {
        (true, true) => "would go",
        (true, false) => "gone",
        (false, _) => "stays",
    };
    let file = Path::new(&told.path).file_name().unwrap_or_default().to_string_lossy();
    format!("{:36}  {what:8}  {}", print::tame(told.task.as_deref().unwrap_or(&file)), print::tame(&told.why))
}

/// The one task whose id begins like this.
pub(super) fn pick(begin: &str, known: &[TaskId]) -> Result<TaskId, Failure> {
    let begin = begin.trim().to_ascii_lowercase();
    let mut alike: Vec<TaskId> = known.iter().copied().filter(|id| id.to_string().starts_with(&begin)).collect();
    alike.dedup();
    match alike.as_slice() {
        [id] if begin.len() >= LEAST => Ok(*id),
        [] => Err(Failure::failed(format!("no task here has an id that begins with {begin:?}"))
            .hint("see `makima worktree list`, and `makima worktree list --trash`")),
        _ => Err(Failure::failed(format!("{begin:?} is the beginning of more than one id, or too short for one"))
            .hint("give more of it")),
    }
}
