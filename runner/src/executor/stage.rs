//! Taking everything that an agent left into an index.
//!
//! A submodule's commit is read from its files: asked for it, git would run inside of it, by the configuration
//! that the agent gave it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::answer::lacks_room;
use super::cancel::Cancel;
use super::git::{BRING, Call, GitError};
use super::trouble::Trouble;
use super::workshop::Workshop;
use super::{Hands, blocking, pipes, refs, shut};

/// What a person should know of how it was staged.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) notes: Vec<String>,
    /// Work that is not in the index, and why.
    pub(super) left_out: Vec<String>,
}

/// Stages everything that is not ignored.
pub(super) async fn stage(
    hands: &Hands,
    cancel: &Cancel,
    shop: &Workshop,
    base: Option<&str>,
) -> Result<Staged, Trouble> {
    let stager = Stager { hands, cancel, shop };
    let mut staged = stager.open_up().await?;
    staged.notes.extend(stager.put_pipes_aside().await?);
    match stager.stage(base, &mut staged).await {
        // Files need not be what the attributes say of them; that is no reason to lose them.
        Err(Trouble::Plain(why)) if ["BOM is ", "encod"].iter().any(|sign| why.contains(sign)) => {
            shop.forget_encodings().map_err(|failure| Trouble::Plain(failure.to_string()))?;
            stager.stage(base, &mut staged).await?;
            staged.notes.push(format!(
                "files are committed byte by byte and not in the encoding that they are said to have: {why}"
            ));
        }
        done => done?,
    }
    Ok(staged)
}

struct Stager<'a> {
    hands: &'a Hands,
    cancel: &'a Cancel,
    shop: &'a Workshop,
}

/// A file that the index knows.
struct Known<'a> {
    /// Whether the agent told git never to look at it.
    is_ignored: bool,
    /// The commit that it is a link to.
    link: Option<&'a [u8]>,
    path: &'a [u8],
}

impl<'a> Known<'a> {
    /// Reads `H 100644 <oid> 0\t<path>`.
    fn read(entry: &'a [u8]) -> Option<Self> {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let (head, path) = (entry.get(..tab)?, entry.get(tab + 1..)?);
        let mut words = head.split(|byte| *byte == b' ').skip(1);
        let (mode, oid) = (words.next()?, words.next()?);
        let link = (mode == b"160000").then_some(oid);
        Some(Self { is_ignored: head.first()?.is_ascii_lowercase(), link, path })
    }
}

/// The links to commits that the index knows and that are folders now.
#[derive(Default)]
struct Links {
    /// Submodules, and where they are. One that is not checked out, or cannot be read, is where it was.
    set: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Repositories that the agent made: a commit of theirs is nowhere else.
    repositories: Vec<Vec<u8>>,
    /// Folders that have files, and no repository any more.
    folders: Vec<Vec<u8>>,
}

impl Stager<'_> {
    async fn stage(&self, base: Option<&str>, staged: &mut Staged) -> Result<(), Trouble> {
        let listed = self.run(self.shop.call("ls-files").args(["--stage", "-v", "-z"])).await?;
        let known: Vec<Known<'_>> = names(&listed).filter_map(Known::read).collect();
        self.look_again(&known).await?;
        let links = self.links(&known, base).await?;
        self.set(&links.set).await?;
        let mut nested = links.repositories;
        nested.extend(self.repositories().await?);
        let apart = nested.iter().chain(&links.folders).chain(links.set.keys());
        self.add_all(apart, staged).await?;
        for folder in &links.folders {
            self.add_files_of(folder).await?;
        }
        for folder in &nested {
            let shown = String::from_utf8_lossy(folder).into_owned();
            self.add_files_of(folder).await?;
            staged.notes.push(format!(
                "the repository in `{shown}` is committed as plain files; its history is in the worktree"
            ));
        }
        Ok(())
    }

    async fn run(&self, call: Call) -> Result<Vec<u8>, Trouble> {
        Ok(self.hands.git.run(self.cancel, call).await?.out)
    }

    /// Opens what an agent has shut away. The superuser reads it as it is.
    async fn open_up(&self) -> Result<Staged, Trouble> {
        if rustix::process::geteuid().is_root() {
            return Ok(Staged::default());
        }
        let worktree = self.shop.worktree().to_path_buf();
        let shut = blocking(move || shut::open_up(&worktree)).await.map_err(Trouble::Plain)?;
        let name = |path: &PathBuf| {
            let inside = path.strip_prefix(self.shop.worktree()).unwrap_or(path).as_os_str().as_bytes();
            // A rule that ends with a slash is for folders only.
            [inside, if path.is_dir() { b"/\0" } else { b"\0" }].concat()
        };
        let left = self.not_ignored(shut.iter().flat_map(name).collect()).await?;
        let say = |name| format!("`{}` cannot be read by this user and is left out", String::from_utf8_lossy(name));
        Ok(Staged { notes: Vec::new(), left_out: names(&left).map(say).collect() })
    }

    /// Puts aside what git would wait for. Returns what a person should know of it.
    async fn put_pipes_aside(&self) -> Result<Vec<String>, Trouble> {
        let (home, worktree) = (self.hands.home.clone(), self.shop.worktree().to_path_buf());
        let put = move || -> io::Result<Vec<String>> {
            let mut notes = Vec::new();
            for path in pipes::find(&worktree) {
                pipes::put_aside(&home, &path)?;
                let shown = path.strip_prefix(&worktree).unwrap_or(&path).display();
                notes.push(format!("`{shown}` led to a pipe or a device, which git would wait for; it was put aside"));
            }
            Ok(notes)
        };
        let plain = |why: String| Trouble::Plain(format!("what git would wait for cannot be put aside: {why}"));
        blocking(put).await.map_err(plain)?.map_err(|failure| plain(failure.to_string()))
    }

    /// Looks at what the links to commits are now. Those that are no folders any more are git's to see to.
    async fn links(&self, known: &[Known<'_>], base: Option<&str>) -> Result<Links, Trouble> {
        let mut links = Links::default();
        for (path, oid) in known.iter().filter_map(|known| Some((known.path, known.link?))) {
            let folder = self.shop.worktree().join(OsStr::from_bytes(path));
            if links.set.contains_key(path) || !fs::symlink_metadata(&folder).is_ok_and(|data| data.is_dir()) {
                continue;
            }
            let git = folder.join(".git");
            match fs::symlink_metadata(&git) {
                Ok(data) if data.is_dir() && !self.was(base, path).await? => links.repositories.push(path.to_vec()),
                Ok(_) => {
                    let look = move || pipes::repository_of(&git).and_then(|git| refs::at_head(&git));
                    let now = blocking(look).await.map_err(Trouble::Plain)?;
                    let now = now.filter(|now| now.len() == oid.len());
                    links.set.insert(path.to_vec(), now.map_or_else(|| oid.to_vec(), String::into_bytes));
                }
                Err(_) if is_empty(&folder) => {
                    links.set.insert(path.to_vec(), oid.to_vec());
                }
                Err(_) => links.folders.push(path.to_vec()),
            }
        }
        // A path that is not merged stands in the index more than once.
        links.repositories.dedup();
        links.folders.dedup();
        Ok(links)
    }

    /// Puts links into the index.
    async fn set(&self, links: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), Trouble> {
        let line = |(path, oid): (&Vec<u8>, &Vec<u8>)| [b"160000 ", oid.as_slice(), b"\t", path, b"\0"].concat();
        let lines: Vec<u8> = links.iter().flat_map(line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        self.run(self.shop.call("update-index").args(["-z", "--index-info"]).input(lines)).await.map(|_| ())
    }

    /// Files that the agent told git to take for unchanged are looked at all the same.
    async fn look_again(&self, known: &[Known<'_>]) -> Result<(), Trouble> {
        let paths = known.iter().filter(|known| known.is_ignored).flat_map(|known| [known.path, b"\0"].concat());
        let paths: Vec<u8> = paths.collect();
        if paths.is_empty() {
            return Ok(());
        }
        let call = self.shop.call("update-index").args(["--no-assume-unchanged", "-z", "--stdin"]);
        self.run(call.input(paths)).await.map(|_| ())
    }

    /// Whether the work started with something of this name.
    async fn was(&self, base: Option<&str>, path: &[u8]) -> Result<bool, Trouble> {
        let Some(base) = base else { return Ok(false) };
        let mut name = std::ffi::OsString::from(format!("{base}:"));
        name.push(OsStr::from_bytes(path));
        let call = self.shop.call("rev-parse").args(["--verify", "--quiet"]).fine(&[0, 1, 128]);
        Ok(self.hands.git.run(self.cancel, call.names([name])).await?.code == 0)
    }

    /// The repositories inside that the index does not know. Git ends their names with a slash.
    async fn repositories(&self) -> Result<Vec<Vec<u8>>, Trouble> {
        let call = self.shop.call("ls-files");
        let others = self.run(call.args(["--others", "--exclude-standard", "-z"]).limit(BRING)).await?;
        Ok(names(&others).filter_map(|name| name.strip_suffix(b"/")).map(<[u8]>::to_vec).collect())
    }

    /// Stages all but these folders.
    async fn add_all(&self, but: impl Iterator<Item = &Vec<u8>>, staged: &mut Staged) -> Result<(), Trouble> {
        let mut paths = b".".to_vec();
        for folder in but {
            paths.extend_from_slice(b"\0:(exclude,literal)");
            paths.extend_from_slice(folder);
        }
        let call = self.shop.call("add").args(["--all", "--sparse", "--ignore-errors"]).limit(BRING);
        let call = call.args(["--pathspec-from-file=-", "--pathspec-file-nul"]).input(paths);
        match self.hands.git.run(self.cancel, call).await {
            Ok(_) => Ok(()),
            // Everything else was staged.
            Err(why @ GitError::Refused { code: Some(1), .. }) if !lacks_room(why.said()) => {
                staged.left_out.push(format!("not everything could be read: {why}"));
                Ok(())
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Stages the files of a repository inside, and of those inside it.
    async fn add_files_of(&self, folder: &[u8]) -> Result<(), Trouble> {
        let mut folders = vec![folder.to_vec()];
        let mut paths = Vec::new();
        while let Some(folder) = folders.pop() {
            let inside = OsStr::from_bytes(&folder).to_owned();
            let call = self.shop.call_inside(&inside, "ls-files").limit(BRING);
            let found = self.run(call.args(["--others", "--exclude-standard", "-z"])).await?;
            for name in names(&found) {
                let path = [folder.as_slice(), b"/", name].concat();
                match path.strip_suffix(b"/") {
                    Some(inner) => folders.push(inner.to_vec()),
                    None => paths.extend([path.as_slice(), b"\0"].concat()),
                }
            }
        }
        let call = self.shop.call("update-index").args(["--force-remove", "-z", "--stdin"]);
        self.run(call.input([folder, b"\0"].concat())).await?;
        let paths = self.not_ignored(paths).await?;
        if !paths.is_empty() {
            let call = self.shop.call("update-index").args(["--add", "--replace", "-z", "--stdin"]).limit(BRING);
            self.run(call.input(paths)).await?;
        }
        Ok(())
    }
}

impl Stager<'_> {
    /// Without those that the worktree's own rules ignore, as they are its files now.
    async fn not_ignored(&self, paths: Vec<u8>) -> Result<Vec<u8>, Trouble> {
        if paths.is_empty() {
            return Ok(paths);
        }
        let call = self.shop.call("check-ignore").args(["--no-index", "-z", "--stdin"]).fine(&[0, 1]);
        let ignored = self.run(call.input(paths.clone()).limit(BRING)).await?;
        let ignored: BTreeSet<&[u8]> = names(&ignored).collect();
        Ok(names(&paths).filter(|path| !ignored.contains(path)).flat_map(|path| [path, b"\0"].concat()).collect())
    }
}

/// Names, as git writes them between zero bytes.
fn names(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Reads what git says of an index, as it is read here: see `crate::fuzz`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(listed: &[u8]) {
    let most = listed.len();
    let known: Vec<Known<'_>> = names(listed).filter_map(Known::read).collect();
    assert!(known.iter().map(|known| known.path.len() + known.link.map_or(0, <[u8]>::len)).sum::<usize>() <= most);
}
