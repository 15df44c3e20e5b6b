//! Merging a task's work into a branch of a repository of the user's.
//!
//! The result is known before anything of the user's is touched: it is made in a repository of ours that borrows the
//! target's objects. Then the branch is moved by compare-and-swap, and a clean checkout of it along. The target's own
//! hooks for a merge have their say, as git itself would ask them; nothing else that we do anywhere runs a hook.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use makima_core::effect::Delivery;
use makima_core::id::TaskId;
use makima_core::policy::shorten;

use super::branch::{Target, allow, target};
use super::cancel::Cancel;
use super::git::{BRING, Call, GitError};
use super::record::{Folder, Following};
use super::scene::{Scene, unfinished};
use super::trouble::Trouble;
use super::workshop::{RESULT, Trust, Workshop};
use super::{Hands, blocking, refs, sign};

/// How often it is tried where the branch moves meanwhile.
const TRIES: usize = 4;
/// How many files are named.
const NAMED: usize = 10;

/// Merges `commit` into a branch of `place`. Done twice it is as if done once.
pub(super) async fn merge(
    hands: &Hands,
    task: TaskId,
    place: &str,
    wanted: &Delivery,
    commit: &str,
    cancel: &Cancel,
) -> Result<String, String> {
    let target = target(hands, task, place, commit).await?;
    let folder = Folder::of(&hands.home, task);
    let job = Job { hands, cancel, wanted, commit, scratch: folder.file("git"), folder, target };
    let done = job.merge().await;
    let left = job.scratch.clone();
    let _ = blocking(move || fs::remove_dir_all(left)).await;
    done.map_err(|why| format!("{}; the work is kept in {}", why.into_words(), job.target.bare.display()))
}

struct Job<'a> {
    hands: &'a Hands,
    cancel: &'a Cancel,
    wanted: &'a Delivery,
    commit: &'a str,
    /// Where our repository of the moment is.
    scratch: PathBuf,
    folder: Folder,
    target: Target,
}

/// What the branch becomes.
struct Becomes {
    tip: String,
    is_forward: bool,
}

impl Job<'_> {
    async fn merge(&self) -> Result<String, Trouble> {
        let into = self.into().await?;
        let full = format!("refs/heads/{into}");
        self.follow().await?;
        let common = self.path(&["--git-common-dir"], &self.target.place).await?;
        for _ in 0..TRIES {
            let Some(at) = self.at(&full).await? else {
                return Err(Trouble::Plain(format!("{} has no branch `{into}`", self.target.place.display())));
            };
            let shop = self.open(&common, &at).await?;
            if self.leads_to(&shop, &at, self.commit).await? {
                return Ok(format!("`{into}` in {} has all of it already", self.target.place.display()));
            }
            let checkout = self.checkout(&full).await?;
            if let Some(folder) = &checkout {
                self.refuse_dirty(folder, &into).await?;
            }
            let hooks = self.hooks(&common).await?;
            let result = self.result(&shop, &at, &into, checkout.as_deref(), &hooks).await?;
            shop.point(RESULT, &result.tip)?;
            let call = self.here("fetch").args(["--quiet", "--no-tags", "--no-write-fetch-head"]).limit(BRING);
            self.run(call.names([shop.git.as_os_str(), OsStr::new(RESULT)])).await?;
            if let Some(folder) = &checkout {
                // Nothing is written yet: what git would refuse to write over, it refuses now.
                let call = Call::at(folder, "read-tree").args(["-m", "-u", "-n"]).limit(BRING);
                self.run(call.names([&at, &result.tip])).await?;
            }
            if let Some(folder) = checkout {
                let (branch, from, to) = (full.clone(), at.clone(), result.tip.clone());
                self.folder.follows(&Following { folder, branch, from, to })?;
            }
            if !self.advance(&full, &at, &result.tip, &hooks).await? {
                continue;
            }
            self.follow().await?;
            let how = if result.is_forward { "fast-forwarded to it" } else { "merged as" };
            let (branch, place) = (&self.wanted.branch, self.target.place.display());
            return Ok(format!("`{branch}` is in `{into}` of {place}: {how} {}", result.tip));
        }
        Err(Trouble::Plain(format!("`{into}` in {} moved each time that it was tried", self.target.place.display())))
    }

    fn here(&self, verb: &str) -> Call {
        Call::at(&self.target.place, verb)
    }

    async fn run(&self, call: Call) -> Result<Vec<u8>, Trouble> {
        Ok(self.hands.git.run(self.cancel, call).await?.out)
    }

    /// The branch that is meant: the one that was named, else the one that is checked out.
    async fn into(&self) -> Result<String, Trouble> {
        if let Some(into) = &self.wanted.into {
            return Ok(into.strip_prefix("refs/heads/").unwrap_or(into).to_owned());
        }
        let call = self.here("symbolic-ref").args(["--quiet", "HEAD"]).fine(&[0, 1]);
        let said = self.hands.git.run(self.cancel, call).await?.line().unwrap_or_default();
        said.strip_prefix("refs/heads/").map(str::to_owned).ok_or_else(|| {
            Trouble::Plain(format!(
                "{} has no branch checked out; name the one to merge into",
                self.target.place.display()
            ))
        })
    }

    /// Where a branch stands. It is taken by its very name, whatever that looks like.
    async fn at(&self, full: &str) -> Result<Option<String>, Trouble> {
        self.at_in(&self.target.place, full).await
    }

    async fn at_in(&self, place: &Path, full: &str) -> Result<Option<String>, Trouble> {
        let call = Call::at(place, "show-ref").args(["--verify", "--hash", "--quiet"]).fine(&[0, 1, 128]);
        if self.hands.git.run(self.cancel, call.names([full])).await?.code != 0 {
            return Ok(None);
        }
        let call = Call::at(place, "show-ref").args(["--verify", "--hash"]);
        Ok(self.hands.git.run(self.cancel, call.names([full])).await?.line().filter(|oid| refs::is_oid(oid)))
    }

    async fn path(&self, what: &[&str], folder: &Path) -> Result<PathBuf, Trouble> {
        let call = Call::at(folder, "rev-parse").arg("--path-format=absolute").args(what);
        let said = self.run(call).await?;
        Ok(PathBuf::from(OsStr::from_bytes(said.strip_suffix(b"\n").unwrap_or(&said))))
    }

    async fn open(&self, common: &Path, at: &str) -> Result<Workshop, Trouble> {
        let (scratch, place, bare) = (self.scratch.clone(), self.target.place.clone(), self.target.bare.clone());
        let scene = Scene { git: Some(common.to_path_buf()), shallow: refs::shallow(common), ..Scene::default() };
        let long = at.len() == 64;
        let open = move || Workshop::open(scratch, &place, &bare, &scene, Trust::Objects, long);
        Ok(blocking(open).await??.0)
    }

    async fn leads_to(&self, shop: &Workshop, from: &str, to: &str) -> Result<bool, Trouble> {
        let call = shop.call("merge-base").arg("--is-ancestor").fine(&[0, 1]);
        Ok(self.hands.git.run(self.cancel, call.names([to, from])).await?.code == 0)
    }

    /// The folder that the branch is checked out in.
    async fn checkout(&self, full: &str) -> Result<Option<PathBuf>, Trouble> {
        let said = self.run(self.here("worktree").args(["list", "--porcelain", "-z"])).await?;
        let mut folder = PathBuf::new();
        for line in said.split(|byte| *byte == 0) {
            if let Some(path) = line.strip_prefix(b"worktree ") {
                folder = PathBuf::from(OsStr::from_bytes(path));
            } else if line.strip_prefix(b"branch ") == Some(full.as_bytes()) && folder.is_dir() {
                // A bare repository has a branch, and no files of it.
                let inside = self.run(Call::at(&folder, "rev-parse").arg("--is-inside-work-tree")).await?;
                if inside.starts_with(b"true") {
                    allow(self.hands, &folder, &self.target.bare)?;
                    return Ok(Some(folder));
                }
            }
        }
        Ok(None)
    }

    async fn refuse_dirty(&self, folder: &Path, into: &str) -> Result<(), Trouble> {
        let git = self.path(&["--git-dir"], folder).await?;
        if let Some(what) = unfinished(&git) {
            return Err(Trouble::Plain(format!("{} has an {what}; it is left as it is", folder.display())));
        }
        let call = Call::at(folder, "status").args(["--porcelain", "-z", "--untracked-files=no", "--no-renames"]);
        let said = self.run(call.arg("--ignore-submodules=dirty").limit(BRING)).await?;
        let files: Vec<&[u8]> = said.split(|byte| *byte == 0).filter_map(|line| line.get(3..)).collect();
        if files.is_empty() {
            return Ok(());
        }
        let files = named(&files);
        Err(Trouble::Plain(format!(
            "`{into}` is checked out in {} with changes that are in no commit, which are left as they are: {files}",
            folder.display()
        )))
    }

    /// What the branch is to become. A merge commit only where the branch has gone on by itself.
    async fn result(
        &self,
        shop: &Workshop,
        at: &str,
        into: &str,
        checkout: Option<&Path>,
        hooks: &Path,
    ) -> Result<Becomes, Trouble> {
        if self.leads_to(shop, self.commit, at).await? {
            return Ok(Becomes { tip: self.commit.to_owned(), is_forward: true });
        }
        let call = shop.call("merge-tree").args(["--write-tree", "-z", "--name-only", "--no-messages"]);
        let answer = self.hands.git.run(self.cancel, call.names([at, self.commit]).fine(&[0, 1]).limit(BRING)).await?;
        let mut fields = answer.out.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        let tree = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
        if answer.code != 0 {
            let files: Vec<&[u8]> = fields.collect();
            return Err(Trouble::Plain(format!(
                "merging into `{into}` of {} would conflict, and nothing was done: {}",
                self.target.place.display(),
                named(&files)
            )));
        }
        self.run(shop.call("read-tree").names([&tree])).await?;
        let text = format!("Merge branch '{}' into {into}", self.wanted.branch);
        let trailers = self.wanted.text.trailers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        let text = format!("{text}\n\n{}", trailers.collect::<String>());
        let file = shop.git.join("MERGE_MSG");
        fs::write(&file, &text)?;
        let cwd = checkout.unwrap_or(&self.target.place);
        self.hook(shop, hooks, cwd, "pre-merge-commit", None).await?;
        self.hook(shop, hooks, cwd, "commit-msg", Some(&file)).await?;
        let text = fs::read_to_string(&file)?;
        let call = shop.call("commit-tree");
        let tip = sign::make(self.hands, self.cancel, call, &tree, &[at, self.commit], text).await?;
        Ok(Becomes { tip, is_forward: false })
    }

    /// Asks one of the target's hooks, on the index that would be committed.
    async fn hook(
        &self,
        shop: &Workshop,
        hooks: &Path,
        cwd: &Path,
        name: &str,
        file: Option<&Path>,
    ) -> Result<(), Trouble> {
        let lenders = [shop.git.join("objects"), self.target.bare.join("objects")];
        let lenders = lenders
            .map(|path| format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")));
        let call = Call::at(cwd, "hook").args(["run", "--ignore-missing", name, "--"]).args(file);
        let call = call.env("GIT_INDEX_FILE", shop.index()).env("GIT_EDITOR", ":");
        let call = call.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", lenders.join(":"));
        self.run(call.setting("core.hooksPath", hooks.display().to_string())).await.map(|_| ()).map_err(|why| {
            Trouble::Plain(format!(
                "the hook `{name}` of {} refused it: {}",
                self.target.place.display(),
                why.into_words()
            ))
        })
    }

    /// Where the target's hooks are: where its configuration says, else where git looks.
    async fn hooks(&self, common: &Path) -> Result<PathBuf, Trouble> {
        let call = self.here("config").args(["--show-scope", "-z", "--type=path", "--get-all", "core.hooksPath"]);
        let said = self.run(call.fine(&[0, 1])).await?;
        let mut fields = said.split(|byte| *byte == 0);
        let mut hooks = common.join("hooks");
        while let (Some(scope), Some(path)) = (fields.next(), fields.next()) {
            if scope != b"command" {
                hooks = self.target.place.join(OsStr::from_bytes(path));
            }
        }
        Ok(hooks)
    }

    /// Moves the branch, if it is still where it was.
    async fn advance(&self, full: &str, from: &str, to: &str, hooks: &Path) -> Result<bool, Trouble> {
        let call = self.here("update-ref").args(["-m", "makima: merge"]);
        let call = call.setting("core.hooksPath", hooks.display().to_string());
        match self.hands.git.run(self.cancel, call.names([full, to, from])).await {
            Ok(_) => Ok(true),
            Err(why @ GitError::Refused { .. }) => {
                if why.said().contains("aborted by hook") {
                    // What the hook said stands before what git makes of it.
                    let said = shorten(why.said().trim(), 600);
                    return Err(Trouble::Plain(format!("the hook `reference-transaction` refused it: {said}")));
                }
                if self.at(full).await?.as_deref() == Some(from) { Err(why.into()) } else { Ok(false) }
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Has a clean checkout follow its branch, or the branch go back. Also one that an earlier life of the daemon has
    /// left behind.
    async fn follow(&self) -> Result<(), Trouble> {
        let following = self.folder.following().map_err(|why| why.to_string())?;
        let Some(Following { folder, branch, from, to }) = following else { return Ok(()) };
        let is_there = folder.is_dir() && self.at_in(&folder, &branch).await?.as_deref() == Some(to.as_str());
        if !is_there {
            return Ok(self.folder.followed()?);
        }
        let call = Call::at(&folder, "read-tree").args(["-m", "-u"]).env("GIT_LFS_SKIP_SMUDGE", "0").limit(BRING);
        // From here on nothing calls it off: half of it is worse than late.
        let never = Cancel::default();
        let moved = self.hands.git.run(&never, call.names([&from, &to])).await;
        let Err(why) = moved else { return Ok(self.folder.followed()?) };
        let back = Call::at(&folder, "update-ref").args(["-m", "makima: merge taken back"]);
        let back = self.hands.git.run(&never, back.names([&branch, &from, &to])).await;
        let back = back.map_or_else(|why| format!("; nor could the branch be put back: {why}"), |_| String::new());
        self.folder.followed()?;
        Err(Trouble::Plain(format!("the files in {} could not follow: {why}{back}", folder.display())))
    }
}

/// Some of them by name, the rest by number.
fn named(files: &[&[u8]]) -> String {
    let shown = |file: &&[u8]| format!("`{}`", shorten(&String::from_utf8_lossy(file), 100));
    let mut text = files.iter().take(NAMED).map(shown).collect::<Vec<_>>().join(", ");
    if let Some(more) = files.len().checked_sub(NAMED).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
