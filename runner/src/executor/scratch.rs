//! Where a repository of ours for a moment lies: in a task's folder, under a name that no other has. A git that a killed
//! life of the daemon left at work writes into that of before, and two that are open for one task at once do not meet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use makima_core::id::TaskId;
use uuid::Uuid;

use super::record::Folder;
use crate::home::Home;

/// What the names of all begin with.
const NAME: &str = "git.";

/// A folder that goes when nobody holds it any more.
#[derive(Clone, Debug)]
pub(super) struct Scratch(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// What is left of earlier lives of the daemon lies beside it, and is named otherwise than this.
    mark: Option<String>,
}

impl Scratch {
    /// One for this task. Nothing is there yet.
    pub(super) fn of(home: &Home, task: TaskId) -> Self {
        let mark = format!("{NAME}{}.", home.incarnation());
        let path = Folder::of(home, task).file(&format!("{mark}{}", Uuid::now_v7()));
        Self(Arc::new(Held { path, mark: Some(mark) }))
    }

    /// One at a path at which nothing else is.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(Arc::new(Held { path, mark: None }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Takes away what was there, and what earlier lives have left. Blocks.
    pub(super) fn clear(&self) -> std::io::Result<()> {
        if self.path().exists() {
            fs::remove_dir_all(self.path())?;
        }
        let (Some(mark), Some(folder)) = (&self.0.mark, self.path().parent()) else { return Ok(()) };
        for entry in fs::read_dir(folder)?.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(NAME) && !name.starts_with(mark)) {
                // What writes there by now is a git that nobody waits for.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let remove = move || match fs::remove_dir_all(path) {
            Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("a folder is left behind: {failure}");
            }
            Ok(()) | Err(_) => {}
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects work from being committed through a folder that somebody else is at work in.
    #[test]
    fn each_is_alone_in_its_own_and_those_of_earlier_lives_go() {
        let place = tempfile::tempdir().expect("a folder");
        let task = TaskId(Uuid::now_v7());
        let root = place.path().join("home");
        let made = |scratch: &Scratch| {
            fs::create_dir_all(scratch.path()).expect("a folder");
            scratch.path().to_path_buf()
        };
        let left = {
            let home = Home::open(&root).expect("a home");
            let killed = Scratch::of(&home, task);
            let left = made(&killed);
            std::mem::forget(killed);
            left
        };
        let home = Home::open(&root).expect("a home");
        let (one, other) = (Scratch::of(&home, task), Scratch::of(&home, task));
        let (first, second) = (made(&one), made(&other));
        assert_ne!(first, second);
        one.clear().expect("it can be cleared");
        assert!(!left.exists() && !first.exists() && second.exists());
        made(&one);
        let held = one.clone();
        drop(one);
        assert!(first.exists());
        drop(held);
        assert!(!first.exists());
    }
}
