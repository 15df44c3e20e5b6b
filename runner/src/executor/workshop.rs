//! The repository that a task's work is committed through: the daemon's own, on the agent's files.
//!
//! The agent's repository lends its objects, and copies of its index, of what it excludes and of where its
//! history ends, and nothing else: not its configuration, not its hooks. What its attributes name (filters, diff
//! and merge drivers) is switched off by attributes of ours, which come first; what is inside of submodules, git
//! is not asked about (see `stage`). So nothing of the agent's choosing runs.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::brought::Lent;
use super::foreign::{self, INDEX, SMALL};
use super::git::Call;
use super::refs;
use super::scene::Scene;
use super::scratch::Scratch;
use crate::sandbox::Walls;

/// Where the result is put, to be fetched from.
pub(super) const RESULT: &str = "refs/heads/result";
/// Where commits are put that the result does not lead to.
pub(super) const KEPT: &str = "refs/heads/kept";

/// Nothing is run for a file.
const ATTRIBUTES: &str = "* !filter !diff !merge\n";

/// A repository of ours on a worktree. It goes when this is let go; what it made is in the bare repository by then.
pub(super) struct Workshop {
    pub(super) git: PathBuf,
    _scratch: Scratch,
    worktree: PathBuf,
    walls: Walls,
}

/// What of the agent's repository is trusted to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its index and its objects.
    All,
    /// Its objects.
    Objects,
    /// Nothing: its files alone count.
    Nothing,
}

impl Workshop {
    /// Makes it, in place of any before. Says whether there is an index.
    pub(super) fn open(
        scratch: &Scratch,
        worktree: &Path,
        bare: &Path,
        scene: &Scene,
        (trust, long): (Trust, bool),
        walls: &Walls,
    ) -> io::Result<(Self, bool)> {
        scratch.clear()?;
        let place = scratch.path().to_path_buf();
        for folder in ["objects/info", "objects/pack", "refs/heads", "info"] {
            fs::create_dir_all(place.join(folder))?;
        }
        fs::write(place.join("HEAD"), format!("ref: {RESULT}\n"))?;
        // A sparse checkout's absent files are absent on purpose.
        let format = if long { "[extensions]\n\tobjectformat = sha256\n" } else { "" };
        let core = format!("[core]\n\trepositoryformatversion = {}\n\tbare = false\n", u8::from(long));
        fs::write(place.join("config"), format!("{core}\tsparsecheckout = true\n{format}"))?;
        fs::write(place.join("info/attributes"), ATTRIBUTES)?;
        let mut lenders = vec![bare.join("objects")];
        let mut shallow = refs::shallow(bare);
        let mut index = false;
        if let Some(git) = &scene.git {
            if let Ok(exclude) = foreign::read(&git.join("info/exclude"), SMALL) {
                fs::write(place.join("info/exclude"), exclude)?;
            }
            if trust != Trust::Nothing {
                lenders.push(git.join("objects"));
                shallow.extend_from_slice(&scene.shallow);
            }
            if trust == Trust::All {
                index = copy_index(git, &place)?;
            }
        }
        let lenders: Vec<Vec<u8>> = lenders.iter().map(|path| [path.as_os_str().as_bytes(), b"\n"].concat()).collect();
        fs::write(place.join("objects/info/alternates"), lenders.concat())?;
        // Of another length, git would refuse the whole list.
        shallow.retain(|oid| (oid.len() == 64) == long);
        write_shallow(&place, shallow)?;
        let (worktree, walls) = (worktree.to_path_buf(), walls.clone());
        Ok((Self { git: place, _scratch: scratch.clone(), worktree, walls }, index))
    }

    /// Leaves alone what was brought along, whatever the agent's own list says.
    pub(super) fn leave_alone(&self, lent: &Lent) -> io::Result<()> {
        use io::Write as _;
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.git.join("info/exclude"))?;
        // Its last line may have no end.
        file.write_all(&[b"\n", lent.patterns().as_slice()].concat())
    }

    /// How far who works on it reaches.
    pub(super) fn walls(&self) -> &Walls {
        &self.walls
    }

    pub(super) fn worktree(&self) -> &Path {
        &self.worktree
    }

    pub(super) fn index(&self) -> PathBuf {
        self.git.join("index")
    }

    /// The list of where history ends, if it ends anywhere.
    pub(super) fn shallow(&self) -> Option<PathBuf> {
        Some(self.git.join("shallow")).filter(|file| file.exists())
    }

    /// A call of git on the agent's files.
    pub(super) fn call(&self, verb: &str) -> Call {
        let call = Call::at(&self.worktree, verb).walled(&self.walls);
        call.env("GIT_DIR", &self.git).env("GIT_WORK_TREE", &self.worktree)
    }

    /// The same on a folder inside, as if nothing in it were known.
    pub(super) fn call_inside(&self, folder: &OsStr, verb: &str) -> Call {
        let inside = self.worktree.join(folder);
        Call::at(&inside, verb)
            .walled(&self.walls)
            .env("GIT_DIR", &self.git)
            .env("GIT_WORK_TREE", &inside)
            .env("GIT_INDEX_FILE", self.git.join("no-index"))
    }

    /// Takes files as they are from now on, whatever encoding the attributes say that they have.
    pub(super) fn forget_encodings(&self) -> io::Result<()> {
        fs::write(self.git.join("info/attributes"), format!("{ATTRIBUTES}* !working-tree-encoding\n"))
    }

    /// Puts a reference at a commit.
    pub(super) fn point(&self, name: &str, oid: &str) -> io::Result<()> {
        fs::write(self.git.join(name), format!("{oid}\n"))
    }
}

/// Writes down where a repository's history ends, if it does. Git wants no empty list.
pub(super) fn write_shallow(git: &Path, mut commits: Vec<String>) -> io::Result<()> {
    commits.sort();
    commits.dedup();
    let lines: Vec<String> = commits.iter().map(|oid| format!("{oid}\n")).collect();
    if lines.is_empty() { Ok(()) } else { fs::write(git.join("shallow"), lines.concat()) }
}

/// Copies an index with the time of its last change: by it git knows which files it must look into.
fn copy_index(from: &Path, to: &Path) -> io::Result<bool> {
    let Ok(mut index) = foreign::open(&from.join("index"), INDEX) else { return Ok(false) };
    let mut copy = fs::File::create(to.join("index"))?;
    io::copy(&mut index, &mut copy)?;
    copy.file().set_modified(index.metadata()?.modified()?)?;
    for entry in fs::read_dir(from)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("sharedindex.")
            && let Ok(mut shared) = foreign::open(&entry.path(), INDEX)
        {
            io::copy(&mut shared, &mut fs::File::create(to.join(entry.file_name()))?)?;
        }
    }
    Ok(true)
}
