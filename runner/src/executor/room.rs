//! How much room things take, and what makes room.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fs_err as fs;
use makima_core::id::TaskId;
use makima_core::input::Weighed;

use super::cancel::Cancel;
use super::look::is_kept;
use super::record::Folder;
use super::trash::Trash;
use super::{Hands, blocking};

/// Bytes that the kernel counts a file's room in.
const BLOCK: u64 = 512;

/// Files that are looked at to tell how large one folder is.
const FILES: usize = 200_000;

/// For that, whatever the disk is like.
const WALK: Duration = Duration::from_secs(3);

/// How much room a folder takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes on the disk; what several names have in common counts once.
    pub bytes: u64,
    /// Whether that is all: there may be too much to look at.
    pub whole: bool,
}

/// How much room a folder takes: no link is followed, and only so much is looked at. Blocks.
#[must_use]
pub fn size(folder: &Path) -> Size {
    let until = Instant::now() + WALK;
    let mut size = Size { bytes: 0, whole: true };
    let (mut folders, mut shared, mut seen) = (vec![folder.to_path_buf()], BTreeSet::new(), 0_usize);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            size.whole = false;
            continue;
        };
        for entry in entries.flatten() {
            seen = seen.saturating_add(1);
            if seen > FILES || Instant::now() > until {
                return Size { whole: false, ..size };
            }
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                folders.push(entry.path());
            }
            if data.is_dir() || data.nlink() == 1 || shared.insert((data.dev(), data.ino())) {
                size.bytes = size.bytes.saturating_add(data.blocks().saturating_mul(BLOCK));
            }
        }
    }
    size
}

/// Weighs worktrees, records with outputs, and the trash; and what of it belongs to these tasks.
pub(super) async fn weigh(hands: &Hands, tasks: Vec<TaskId>, cancel: Arc<Cancel>) -> Result<Weighed, String> {
    let home = hands.home.root().to_path_buf();
    let weighed = blocking(move || {
        let mut sizes = BTreeMap::new();
        for root in ["worktrees", "tasks", "trash"] {
            for folder in folders(&home.join(root))? {
                if cancel.is_set() {
                    return Err(io::Error::other("it was called off"));
                }
                let bytes = size(&folder).bytes;
                sizes.insert(folder, bytes);
            }
        }
        let trash = Trash::of(&home);
        let of = |path: PathBuf| sizes.get(&path).copied().unwrap_or_default();
        let mut weighed = Weighed { all: sizes.values().sum(), tasks: Vec::new() };
        let mut spared: BTreeMap<TaskId, u64> = BTreeMap::new();
        for entry in trash.entries()?.into_iter().filter(Trash::is_spared) {
            if let Some(task) = entry.task {
                *spared.entry(task).or_default() += of(entry.path);
            }
        }
        for task in tasks {
            let own = ["worktrees", "tasks"].map(|root| of(home.join(root).join(task.to_string())));
            let bytes = own.iter().sum::<u64>() + spared.get(&task).copied().unwrap_or_default();
            weighed.tasks.push((task, bytes));
        }
        Ok(weighed)
    });
    weighed.await?.map_err(|failure| format!("what is kept cannot be weighed: {failure}"))
}

fn folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(root) {
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    listed.map(|entry| Ok(entry?.path())).collect()
}

/// Removes for good what a task has in the trash to make room, as far as it still is somewhere else.
pub(super) async fn purge(hands: &Hands, task: TaskId, folder: &Folder) -> Result<(), String> {
    let trash = Trash::of(hands.home.root());
    let list = trash.clone();
    let entries = blocking(move || list.entries()).await?.map_err(|failure| failure.to_string())?;
    for entry in entries.into_iter().filter(|entry| entry.task == Some(task) && Trash::is_spared(entry)) {
        if let Some(worktree) = entry.worktree() {
            is_kept(hands, folder, &worktree).await?;
        }
        let trash = trash.clone();
        blocking(move || trash.remove(&entry)).await?.map_err(|failure| failure.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects people from a size that counts what hard links share twice, or what links point to.
    #[test]
    fn what_names_share_counts_once_and_links_are_not_followed() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("worktree");
        std::fs::create_dir_all(folder.join("inside")).expect("a folder");
        std::fs::write(folder.join("one"), vec![7; 1 << 20]).expect("a file");
        std::fs::hard_link(folder.join("one"), folder.join("inside/same")).expect("a second name");
        std::fs::write(place.path().join("elsewhere"), vec![7; 8 << 20]).expect("a file");
        std::os::unix::fs::symlink(place.path(), folder.join("up")).expect("a link");
        let size = size(&folder);
        assert!(size.whole);
        assert!((1 << 20..2 << 20).contains(&size.bytes), "{size:?}");
    }
}
