//! The repository that a plan is for: looked at before anything is started, changed never.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use makima_core::policy::{RepositoryUrl, revision};

use super::print;
use crate::report::Failure;
use crate::roots;

/// A repository to work on.
#[derive(Clone, Debug)]
pub(super) struct Repo {
    /// As the daemon takes it.
    pub(super) url: String,
    /// Where it is, if on this machine.
    pub(super) local: Option<PathBuf>,
    /// Where to start.
    pub(super) base: Option<String>,
    /// Whether it is there, and has no worktree.
    pub(super) bare: bool,
    /// Changes that are in no commit, and so are left out.
    pub(super) uncommitted: usize,
}

impl Repo {
    /// The repository that was named, else the one that we stand in.
    ///
    /// # Errors
    /// There is none, or it cannot be used as it is.
    pub(super) fn find(named: Option<&str>, base: Option<&str>) -> Result<Self, Failure> {
        let base = base.map(revision).transpose().map_err(|refused| Failure::unusable(refused.to_string()))?;
        let path = match named {
            Some(text) => match RepositoryUrl::read(text).map_err(|refused| Failure::unusable(refused.to_string()))? {
                RepositoryUrl::Remote(url) => {
                    return Ok(Self { url, local: None, base, bare: false, uncommitted: 0 });
                }
                RepositoryUrl::Local(path) => expand(&path),
            },
            None => PathBuf::from("."),
        };
        Self::on_this_machine(&path, named.is_some(), base)
    }

    fn on_this_machine(path: &Path, named: bool, base: Option<String>) -> Result<Self, Failure> {
        let shown = path.display();
        if named && !path.exists() {
            return Err(Failure::unusable(format!("there is nothing at {shown}")).hint("check --repo"));
        }
        let (root, bare) = root(path, named)?;
        let url = root.to_str().filter(|url| !url.chars().any(char::is_control)).map(ToString::to_string);
        let url = url.ok_or_else(|| {
            let name = print::tame(&root.to_string_lossy());
            Failure::unusable(format!("{name}: its name has a control character or is no UTF-8, and cannot be sent"))
                .hint("give the folder another name, or clone it to one that has")
        })?;
        let commit = |base: &str| {
            let commit = format!("{base}^{{commit}}");
            git(&root, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit])
        };
        let base = match base {
            Some(base) if commit(&base)?.is_none() => {
                return Err(
                    Failure::unusable(format!("{url} has no branch, tag or commit `{base}`")).hint("check --base")
                );
            }
            Some(base) => base,
            None => commit("HEAD")?.ok_or_else(|| {
                Failure::unusable(format!("{url} has no commit to start from"))
                    .hint("make a first commit there: git commit --allow-empty -m 'Begin'; or name one with --base")
            })?,
        };
        let changes = git(&root, &["status", "--porcelain", "--ignore-submodules"]).ok().flatten();
        let uncommitted = changes.map_or(0, |changes| changes.lines().count());
        Ok(Self { url, local: Some(root), base: Some(base), bare, uncommitted })
    }

    /// Whether git could put a branch of ours there.
    ///
    /// # Errors
    /// A branch is in the way.
    pub(super) fn takes_branches(&self) -> Result<(), Failure> {
        let Some(root) = &self.local else { return Ok(()) };
        if git(root, &["rev-parse", "--verify", "--quiet", "refs/heads/makima"])?.is_some() {
            return Err(Failure::unusable(format!(
                "{} has a branch named `makima`, and git can hold no `makima/…` beside it",
                root.display()
            ))
            .hint("rename that branch (git branch -m makima another-name), or use --on-complete none"));
        }
        Ok(())
    }

    /// The branch that is checked out there; none where none is, or it is not on this machine.
    pub(super) fn branch(&self) -> Option<String> {
        let head = git(self.local.as_ref()?, &["symbolic-ref", "--quiet", "--short", "HEAD"]);
        head.ok().flatten().filter(|name| !name.is_empty())
    }

    /// What a branch changed since `base`, in git's words; none where git does not say.
    pub(super) fn shortstat(&self, branch: &str) -> Option<String> {
        let (root, base) = (self.local.as_ref()?, self.base.as_ref()?);
        let range = format!("{base}...refs/heads/{branch}");
        let stat = ["diff", "--shortstat", "--no-ext-diff", "--no-textconv", "--end-of-options", &range];
        git(root, &stat).ok().flatten().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
    }
}

/// The top of the repository that was named, else of the one that we stand in.
///
/// # Errors
/// There is none.
pub(super) fn top(named: Option<&str>) -> Result<PathBuf, Failure> {
    let path = named.map_or_else(|| PathBuf::from("."), expand);
    if !path.exists() {
        return Err(Failure::unusable(format!("there is nothing at {}", path.display())).hint("check the path"));
    }
    root(&path, named.is_some()).map(|(root, _)| root)
}

/// A file of the commit that is checked out; none where that has no such file.
///
/// # Errors
/// Git cannot be run.
pub(super) fn blob(root: &Path, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let listed = git(root, &["ls-tree", "--end-of-options", "HEAD", name])?.unwrap_or_default();
    let mut words = listed.split_ascii_whitespace();
    let (Some("100644" | "100755"), Some(_), Some(oid)) = (words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    git_bytes(root, &["cat-file", "blob", oid])
}

/// The top of the repository at a path: its worktree, or itself where it is bare. And whether it is bare.
fn root(path: &Path, named: bool) -> Result<(PathBuf, bool), Failure> {
    if !named && std::env::current_dir().is_err() {
        return Err(Failure::unusable("the folder that you stand in is gone")
            .hint("go into a repository, or name one with --repo"));
    }
    let inside = git_bytes(path, &["rev-parse", "--is-bare-repository", "--absolute-git-dir"])?;
    let Some(inside) = inside else {
        let (what, hint) = if named {
            (format!("{} is not a git repository", path.display()), "check --repo, or run `git init` there")
        } else {
            let here = std::env::current_dir().unwrap_or_default();
            (format!("{} is not in a git repository", here.display()), "go into one, or name one with --repo")
        };
        return Err(Failure::unusable(what).hint(hint));
    };
    if let Some(folder) = inside.strip_prefix(b"true\n") {
        return Ok((path_of(folder), true));
    }
    let Some(top) = git_bytes(path, &["rev-parse", "--show-toplevel"])? else {
        return Err(Failure::unusable(format!("{} is inside a repository's own folder", path.display()))
            .hint("go into its worktree, or name that with --repo"));
    };
    Ok((path_of(&top), false))
}

/// What git prints of a path, which is no text.
fn path_of(printed: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(printed))
}

/// Asks git. None where it says no.
fn git(at: &Path, words: &[&str]) -> Result<Option<String>, Failure> {
    Ok(git_bytes(at, words)?.map(|said| String::from_utf8_lossy(&said).into_owned()))
}

/// The same, byte for byte but for the last newline.
fn git_bytes(at: &Path, words: &[&str]) -> Result<Option<Vec<u8>>, Failure> {
    let mut command = Command::new("git");
    // Looking must not run what a repository names, nor write to it.
    command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C"]);
    command.arg(at).args(words).env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
        command.env_remove(variable);
    }
    let output = command.output().map_err(|error| {
        Failure::unusable(format!("git cannot be run: {error}")).hint("makima needs git 2.41 or newer on the PATH")
    })?;
    if output.status.success() {
        return Ok(Some(output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout).to_vec()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("dubious ownership") {
        return Err(Failure::unusable(format!("git does not open {}: it belongs to another user", at.display()))
            .hint("if you trust it: git config --global --add safe.directory PATH"));
    }
    Ok(None)
}

fn expand(path: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    roots::expand(Path::new(path), home.as_deref()).unwrap_or_else(|| PathBuf::from(path))
}
