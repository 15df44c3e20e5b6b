//! A repository of ordinary size, and git on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Failure;

/// Files in a folder.
const FOLDER: usize = 20;

/// A repository with one branch, `main`.
pub(crate) struct Repository {
    pub(crate) path: PathBuf,
}

impl Repository {
    /// Makes one of so many files, of 3.3 KiB in the mean, packed.
    pub(crate) fn make(path: PathBuf, files: usize) -> Result<Self, Failure> {
        for n in 0..files {
            let folder = path.join(format!("folder-{}", n / FOLDER));
            std::fs::create_dir_all(&folder)?;
            let words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];
            let line = |at: usize| {
                let words: Vec<&str> = words.iter().cycle().skip((n * 7 + at * 3) % 8).take(9).copied().collect();
                format!("{n} {at} {}\n", words.join(" "))
            };
            // From 1 KiB to 6 KiB.
            let lines = 16 + n * 37 % 82;
            std::fs::write(folder.join(format!("file-{n}.txt")), (0..lines).map(line).collect::<String>())?;
        }
        let made = Self { path };
        git(&made.path, &["init", "-q", "-b", "main"])?;
        made.commit()?;
        git(&made.path, &["repack", "-a", "-d", "-q"])?;
        Ok(made)
    }

    /// Commits a change of a few files.
    pub(crate) fn change(&self, n: usize) -> Result<(), Failure> {
        for folder in 0..3 {
            std::fs::write(self.path.join(format!("folder-{folder}")).join("change.txt"), format!("{n}\n"))?;
        }
        self.commit()
    }

    fn commit(&self) -> Result<(), Failure> {
        git(&self.path, &["add", "-A"])?;
        let author = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false"];
        git(&self.path, &[&author[..], &["commit", "-q", "-m", "a change"]].concat())
    }
}

pub(crate) fn git(folder: &Path, words: &[&str]) -> Result<(), Failure> {
    let status = Command::new("git").args(words).current_dir(folder).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("git {}: {status}", words.join(" ")).into()) }
}
