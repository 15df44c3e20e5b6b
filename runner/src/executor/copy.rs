//! Copying a task's files and history to a folder of the user's: a repository of its own, which borrows from nobody. It
//! is made beside its place and put there whole, or not at all.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fs_err as fs;
use makima_core::id::TaskId;
use makima_core::input::Outcome;
use makima_core::policy::BranchName;
use rustix::fs::{AtFlags, Mode, mkdirat, renameat, statat};
use rustix::io::Errno;

use super::cancel::Cancel;
use super::foreign::{self, SMALL};
use super::git::{BRING, Call};
use super::other::{Other, State};
use super::reach::{Denied, Held, Reach, names};
use super::record::{Folder, Standing, forgiving};
use super::trouble::Trouble;
use super::{Hands, blocking, outcome};

/// Says in a repository's own folder whose copy it is.
const MARK: &str = "makima-clone";

/// Copies the files and the history of `task` to the folder of this name. Done twice it is as if done once.
pub(super) async fn copy(hands: &Arc<Hands>, task: TaskId, to: &str, branch: &BranchName, cancel: &Cancel) -> Outcome {
    outcome(make(hands, task, to, branch, cancel).await, |to| Outcome::Cloned { to })
}

/// Returns where it is.
async fn make(
    hands: &Arc<Hands>,
    task: TaskId,
    to: &str,
    branch: &BranchName,
    cancel: &Cancel,
) -> Result<String, String> {
    let folder = Folder::of(&hands.home, task);
    let standing = folder.standing().map_err(|why| why.to_string())?.ok_or("its worktree was never made")?;
    let site = {
        let (hands, to) = (Arc::clone(hands), to.to_owned());
        blocking(move || Site::open(&hands, task, &to)).await??
    };
    let site = Arc::new(site);
    if site.is_done {
        return Ok(site.shown());
    }
    let job = Job { hands, task, branch, cancel, standing, site: Arc::clone(&site) };
    let made = job.make().await;
    let ended = blocking(move || site.clear().map(|()| site.shown())).await?;
    made.map_err(Trouble::into_words)?;
    ended.map_err(|failure| format!("what was made for it cannot be taken away: {failure}"))
}

/// Where the copy goes to.
struct Site {
    /// The folder that it is put into.
    above: Held,
    name: OsString,
    /// What it is called while it is made.
    staging: OsString,
    /// A copy of this task is there.
    is_done: bool,
}

impl Site {
    /// Finds the place, and makes the folders that lead to it. Blocks.
    fn open(hands: &Hands, task: TaskId, to: &str) -> Result<Self, String> {
        if !foreign::is_folder(&hands.home.worktree(task)) {
            return Err(format!(
                "its worktree is not here any more; where it is in the trash, `makima worktree restore {task}` brings it back"
            ));
        }
        let reach = Reach::of(hands);
        let failed = |failure: io::Error| format!("`{to}` cannot be made: {failure}");
        let (start, mut rest) = reach.open_start(to).map_err(Denied::into_words)?;
        let staging = OsString::from(format!(".makima-clone-{task}"));
        let Some(name) = rest.pop() else {
            let is_done = has(&start, task, to)?;
            let (Some(above), Some(name)) = (start.path().parent(), start.path().file_name()) else {
                return Err("nothing is cloned to the root of all folders".to_owned());
            };
            // It is made beside its place, which must be allowed too.
            let above = reach.open_at(above).map_err(Denied::into_words)?;
            return Ok(Self { above, name: name.to_owned(), staging, is_done });
        };
        let mut above = start;
        for folder in rest {
            above = above.enter(&folder, true).map_err(failed)?;
        }
        Ok(Self { above, name, staging, is_done: false })
    }

    fn shown(&self) -> String {
        self.above.path().join(&self.name).display().to_string()
    }

    /// An empty folder to make it in.
    fn begin(&self) -> io::Result<Held> {
        self.clear()?;
        mkdirat(self.above.handle(), &self.staging, Mode::from_raw_mode(0o755))?;
        self.above.enter(&self.staging, false)
    }

    /// Takes away what is half made, also of a life of the daemon before.
    fn clear(&self) -> io::Result<()> {
        match statat(self.above.handle(), &self.staging, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(failure) => Err(failure.into()),
            Ok(_) => forgiving(fs::remove_dir_all(self.above.door()?.join(&self.staging))),
        }
    }

    /// Puts it in place, if nothing is there but an empty folder.
    fn finish(&self, made: &Held, task: TaskId) -> io::Result<()> {
        let git = made.enter(OsStr::new(".git"), false)?;
        fs::write(git.door()?.join(MARK), format!("{task}\n"))?;
        // What is in place is whole, also where the machine goes down right after.
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(git.handle())?;
        match renameat(self.above.handle(), &self.staging, self.above.handle(), &self.name) {
            Ok(()) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {
                Err(io::Error::other(format!("`{}` is not empty any more", self.shown())))
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

/// Whether a folder that is there has a copy of this task. If it has anything else, it is refused.
fn has(folder: &Held, task: TaskId, to: &str) -> Result<bool, String> {
    let there = names(folder.handle()).map_err(|failure| format!("`{to}` cannot be looked into: {failure}"))?;
    if there.is_empty() {
        return Ok(false);
    }
    let mark = folder.path().join(".git").join(MARK);
    match foreign::text(&mark, SMALL) {
        Ok(of) if of.trim() == task.to_string() => Ok(true),
        Ok(_) | Err(_) => Err(format!("`{to}` is not empty; it is left as it is. Name a folder that is new or empty")),
    }
}

struct Job<'a> {
    hands: &'a Arc<Hands>,
    task: TaskId,
    branch: &'a BranchName,
    cancel: &'a Cancel,
    standing: Standing,
    site: Arc<Site>,
}

impl Job<'_> {
    async fn make(&self) -> Result<(), Trouble> {
        let bare = self.hands.bare(self.standing.bare.clone());
        let other = Other { hands: self.hands, cancel: self.cancel, task: self.task, new: self.task };
        let state =
            other.state(&bare).await?.ok_or_else(|| Trouble::Plain("its worktree cannot be read".to_owned()))?;
        let site = Arc::clone(&self.site);
        let made = blocking(move || site.begin()).await??;
        self.bring(&made, &state).await?;
        self.lay_out(&made, &state).await?;
        let (site, task, address) = (Arc::clone(&self.site), self.task, self.address());
        blocking(move || {
            let git = made.enter(OsStr::new(".git"), false)?;
            name_origin(&git, address.as_deref())?;
            site.finish(&made, task)
        })
        .await??;
        Ok(())
    }

    /// Where the work came from, without anybody's password.
    fn address(&self) -> Option<String> {
        let spec = Folder::of(&self.hands.home, self.task).spec();
        self.standing.prepared.local.clone().or_else(|| Some(spec?.repository?.as_str().to_owned()))
    }

    /// Runs git in what is being made.
    async fn git(&self, made: &Held, call: Call) -> Result<(), Trouble> {
        let call = call.fenced([made], &[&self.standing.bare]);
        Ok(self.hands.git.run(self.cancel, call.limit(BRING)).await.map(drop)?)
    }

    /// Makes a repository that has all that there is.
    async fn bring(&self, made: &Held, state: &State) -> Result<(), Trouble> {
        let known = state.head.as_ref().or(state.files.as_ref());
        let format = if known.is_some_and(|oid| oid.len() == 64) { "sha256" } else { "sha1" };
        let init = Call::held(made, "init").args(["--quiet", "--template="]).arg(format!("--object-format={format}"));
        self.git(made, init.arg(format!("--initial-branch={}", self.branch)).names(["."])).await?;
        let bare: &PathBuf = &self.standing.bare;
        let call =
            Call::held(made, "fetch").args(["--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow"]);
        let call = call.setting("fetch.fsckObjects", "false").names([
            bare.as_os_str(),
            OsStr::new("+refs/heads/*:refs/remotes/origin/*"),
            OsStr::new("+refs/tags/*:refs/tags/*"),
        ]);
        let call = if known.is_some() { call.arg(format!("+refs/makima/from/{}:{FILES}", self.task)) } else { call };
        self.git(made, call).await?;
        if let Some(head) = &state.head {
            let call = Call::held(made, "update-ref").args(["-m", "makima: clone"]);
            self.git(made, call.names([format!("refs/heads/{}", self.branch).as_str(), head])).await?;
        }
        Ok(())
    }

    /// Lays out the files as they are, and the index as the last commit has it.
    async fn lay_out(&self, made: &Held, state: &State) -> Result<(), Trouble> {
        let Some(files) = state.files.as_ref().or(state.head.as_ref()) else { return Ok(()) };
        self.git(made, Call::held(made, "read-tree").args(["-u", "--reset"]).names([files])).await?;
        if state.files.is_some() {
            let back = Call::held(made, "read-tree");
            self.git(made, state.head.iter().fold(back, |back, head| back.names([head])).args(empty(state))).await?;
            let refresh = Call::held(made, "update-index").args(["-q", "--refresh"]).fine(&[0, 1]);
            self.git(made, refresh).await?;
        }
        self.git(made, Call::held(made, "update-ref").args(["-d"]).names([FILES])).await
    }
}

/// The name that the files come by. It is gone in the end.
const FILES: &str = "refs/makima/files";

/// What an index of no commit is asked for by.
fn empty(state: &State) -> Option<&'static str> {
    state.head.is_none().then_some("--empty")
}

/// Says where the work came from.
fn name_origin(git: &Held, address: Option<&str>) -> io::Result<()> {
    use std::io::Write as _;
    let Some(address) = address else { return Ok(()) };
    let address = address.replace('\\', "\\\\").replace('"', "\\\"");
    let mut file = fs::OpenOptions::new().append(true).open(git.door()?.join("config"))?;
    let text = format!("[remote \"origin\"]\n\turl = \"{address}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n");
    file.write_all(text.as_bytes())
}
