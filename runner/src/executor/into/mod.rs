//! Merging a task's work into a branch of a repository of the user's.
//!
//! The result is known before any branch or file of the user's is touched: it is made by a repository of ours on the
//! target's objects. Then the branch is moved by compare-and-swap, and a clean checkout of it along. The target's own
//! hooks for a merge have their say, as git itself would ask them; nothing else that we do anywhere runs a hook. Where
//! it is refused, some objects are left that nothing leads to, as git itself leaves them.

mod follow;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use makima_core::effect::Delivery;
use makima_core::id::TaskId;
use makima_core::policy::{merge_message, shorten};

use self::follow::Room;
use super::branch::{Target, target};
use super::cancel::Cancel;
use super::git::{BRING, Call, GitError};
use super::reach::{Held, Reach};
use super::record::{Folder, Following};
use super::scene::{Scene, unfinished};
use super::trouble::Trouble;
use super::workshop::{RESULT, Trust, Workshop};
use super::{Hands, blocking, refs, sign, user};

/// How often it is tried where the branch moves meanwhile.
const TRIES: usize = 4;
/// What of the target's a merge asks.
const HOOKS: &[&str] = &["pre-merge-commit", "commit-msg", "reference-transaction"];
/// How many files are named.
const NAMED: usize = 10;

/// Merges `commit` into a branch of `place`. Done twice it is as if done once.
pub(super) async fn merge(
    hands: &Arc<Hands>,
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
    hands: &'a Arc<Hands>,
    cancel: &'a Cancel,
    wanted: &'a Delivery,
    commit: &'a str,
    /// Where our repository of the moment is.
    scratch: PathBuf,
    folder: Folder,
    target: Target,
}

/// How a branch of the target stands.
struct Standing {
    at: String,
    /// It has all of the work.
    has_all: bool,
    /// The work goes on from it.
    is_behind: bool,
    /// The folder that it is checked out in.
    checkout: Option<Held>,
}

/// What the target's configuration says about it.
struct Wishes {
    /// Where the hooks are. None where there are none that a merge asks.
    hooks: Option<PathBuf>,
    /// Who else may write to it.
    shared: Option<String>,
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
        self.follow(Room::default()).await?;
        let shop = self.open().await?;
        let (first, wishes) = tokio::try_join!(self.stand(&full, &shop), self.wishes())?;
        let mut next = Some(first);
        for _ in 0..TRIES {
            let standing = match next.take() {
                Some(standing) => standing,
                None => self.stand(&full, &shop).await?,
            };
            let Some(standing) = standing else {
                return Err(Trouble::Plain(format!("{} has no branch `{into}`", self.shown())));
            };
            if standing.has_all {
                return Ok(format!("`{into}` in {} has all of it already", self.shown()));
            }
            let (at, checkout) = (&standing.at, &standing.checkout);
            if let Some(folder) = checkout {
                self.refuse_dirty(folder, &into).await?;
            }
            let result = self.result(&shop, &standing, &into, &wishes).await?;
            let mut room = Room::default();
            if let Some(folder) = checkout {
                // Nothing is written yet: what git would refuse to write over, it refuses now.
                let call = Call::held(folder, "read-tree").args(["-m", "-u", "-n"]).limit(BRING);
                let call = self.fence(call, Some(folder));
                self.run(call.names([at, &result.tip])).await?;
                room = self.reserve(folder, at, &result.tip).await?;
                let (branch, from, to) = (full.clone(), at.clone(), result.tip.clone());
                let folder = folder.path().to_path_buf();
                self.folder.follows(&Following { folder, branch, from, to })?;
            }
            if !self.advance(&full, at, &result.tip, wishes.hooks.as_deref()).await? {
                // No checkout is to follow it to there.
                self.folder.followed()?;
                continue;
            }
            self.follow(room).await?;
            let how = if result.is_forward { "fast-forwarded, now at" } else { "merged as" };
            let (branch, place) = (&self.wanted.branch, self.shown());
            return Ok(format!("`{branch}` is in `{into}` of {place}: {how} {}", result.tip));
        }
        Err(Trouble::Plain(format!("`{into}` in {} moved each time that it was tried", self.shown())))
    }

    fn here(&self, verb: &str) -> Call {
        Call::held(&self.target.place, verb)
    }

    /// The target, for people.
    fn shown(&self) -> std::path::Display<'_> {
        self.target.place.path().display()
    }

    /// One that writes to the target, or to this checkout of it, and runs nothing of the user's.
    fn fence(&self, call: Call, checkout: Option<&Held>) -> Call {
        let folders = std::iter::once(&self.target.common).chain(&self.target.parts).chain(checkout);
        call.fenced(folders, &[&self.scratch, &self.target.bare])
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
            Trouble::Plain(format!("{} has no branch checked out; name the one to merge into", self.shown()))
        })
    }

    /// Where a branch of `place` is. It is taken by its very name, whatever that looks like.
    async fn at(&self, place: &Held, full: &str) -> Result<Option<String>, Trouble> {
        let call = Call::held(place, "for-each-ref").arg("--format=%(objectname) %(refname)").names([full]);
        let said = self.run(call).await?;
        let said = String::from_utf8_lossy(&said);
        let found = said.trim_end().split_once(' ').filter(|(_, name)| *name == full);
        Ok(found.map(|(oid, _)| oid.to_owned()).filter(|oid| refs::is_oid(oid)))
    }

    /// How a branch of the target stands to the work.
    async fn stand(&self, full: &str, shop: &Workshop) -> Result<Option<Standing>, Trouble> {
        let format = format!("%(refname)%00%(objectname)%00%(worktreepath)%00%(ahead-behind:{})", self.commit);
        let mut call = self.here("for-each-ref").env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.lender());
        if let Some(shallow) = shop.shallow() {
            call = call.env("GIT_SHALLOW_FILE", shallow);
        }
        let said = self.run(call.arg(format!("--format={format}")).names([full])).await?;
        let mut fields = said.splitn(4, |byte| *byte == 0);
        if fields.next() != Some(full.as_bytes()) {
            return Ok(None);
        }
        let mut next = || fields.next().unwrap_or_default();
        let (at, folder, counts) = (next(), next(), next());
        let at = String::from_utf8_lossy(at).into_owned();
        let counts = String::from_utf8_lossy(counts);
        let Some((ahead, behind)) = counts.trim().split_once(' ').filter(|_| refs::is_oid(&at)) else {
            return Err(Trouble::Plain(format!("{full} in {} is no commit", self.shown())));
        };
        let checkout = self.checkout(Path::new(OsStr::from_bytes(folder))).await?;
        Ok(Some(Standing { at, has_all: behind == "0", is_behind: ahead == "0", checkout }))
    }

    /// The folder, if files are checked out there.
    async fn checkout(&self, folder: &Path) -> Result<Option<Held>, Trouble> {
        if !folder.is_absolute() || !folder.is_dir() {
            return Ok(None);
        }
        let held = self.hold(folder).await?;
        // A bare repository has a branch, and no files of it.
        let inside = self.run(Call::held(&held, "rev-parse").arg("--is-inside-work-tree")).await?;
        Ok(inside.starts_with(b"true").then_some(held))
    }

    /// Opens a folder that the target names.
    async fn hold(&self, folder: &Path) -> Result<Held, Trouble> {
        let (hands, folder) = (Arc::clone(self.hands), folder.to_path_buf());
        let held = blocking(move || Reach::of(&hands).open_at(&folder)).await?;
        held.map_err(|why| Trouble::Plain(why.into_words()))
    }

    async fn path(&self, what: &str, folder: &Held) -> Result<PathBuf, Trouble> {
        let said = self.run(Call::held(folder, "rev-parse").args(["--path-format=absolute", what])).await?;
        Ok(PathBuf::from(OsStr::from_bytes(said.strip_suffix(b"\n").unwrap_or(&said))))
    }

    async fn open(&self) -> Result<Workshop, Trouble> {
        let (scratch, bare) = (self.scratch.clone(), self.target.bare.clone());
        let common = self.target.common.path().to_path_buf();
        let long = self.commit.len() == 64;
        let open = move || {
            let scene = Scene { shallow: refs::shallow(&common), git: Some(common), ..Scene::default() };
            // It has no files: all that is done with it is done on objects.
            let none = scratch.clone();
            Workshop::open(scratch, &none, &bare, &scene, Trust::Objects, long)
        };
        Ok(blocking(open).await??.0)
    }

    /// The objects that the target may not have, as git takes a list of folders.
    fn lender(&self) -> String {
        refs::quoted(&self.target.bare.join("objects"))
    }

    /// Brings what the target does not have of the work. Where all of history is there, that is one pack; else git
    /// finds out what has to be told of where it ends.
    async fn bring(&self, shop: &Workshop, at: &str) -> Result<(), Trouble> {
        if shop.shallow().is_some() {
            shop.point(RESULT, self.commit)?;
            let call = Call::held(&self.target.common, "fetch").env("GIT_DIR", ".").limit(BRING);
            let call = self.fence(call, None);
            let call = call.args(["--quiet", "--no-tags", "--no-write-fetch-head"]);
            return self.run(call.names([shop.git.as_os_str(), OsStr::new(RESULT)])).await.map(drop);
        }
        let call = self
            .fence(Call::held(&self.target.common, "pack-objects"), None)
            .args(["--revs", "--quiet", "--delta-base-offset"])
            .limit(BRING);
        let call = call.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.lender());
        let call = call.env("GIT_DIR", ".").arg("objects/pack/pack").input(format!("{}\n^{at}\n", self.commit));
        self.run(call).await.map(drop)
    }

    /// A call of git in our repository that writes objects of the target's.
    fn writing(&self, shop: &Workshop, wishes: &Wishes, verb: &str) -> Call {
        let call = shop.call(verb).inside(&self.target.common).env("GIT_OBJECT_DIRECTORY", "objects");
        let call = call.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.lender());
        match &wishes.shared {
            Some(shared) => call.setting("core.sharedRepository", shared),
            None => call,
        }
    }

    async fn refuse_dirty(&self, folder: &Held, into: &str) -> Result<(), Trouble> {
        let git = self.path("--git-dir", folder).await?;
        if let Some(what) = unfinished(&git) {
            return Err(Trouble::Plain(format!("{} has an {what}; it is left as it is", folder.path().display())));
        }
        let call = Call::held(folder, "status").args(["--porcelain", "-z", "--untracked-files=no", "--no-renames"]);
        let said = self.run(call.arg("--ignore-submodules=dirty").limit(BRING)).await?;
        let files: Vec<&[u8]> = said.split(|byte| *byte == 0).filter_map(|line| line.get(3..)).collect();
        if files.is_empty() {
            return Ok(());
        }
        let files = named(&files);
        Err(Trouble::Plain(format!(
            "`{into}` is checked out in {} with changes that are in no commit, which are left as they are: {files}",
            folder.path().display()
        )))
    }

    /// What the branch is to become. A merge commit only where the branch has gone on by itself.
    async fn result(
        &self,
        shop: &Workshop,
        standing: &Standing,
        into: &str,
        wishes: &Wishes,
    ) -> Result<Becomes, Trouble> {
        if standing.is_behind {
            self.bring(shop, &standing.at).await?;
            return Ok(Becomes { tip: self.commit.to_owned(), is_forward: true });
        }
        let (tree, brought) = tokio::join!(self.tree(shop, &standing.at, into, wishes), self.bring(shop, &standing.at));
        let tree = tree?;
        brought?;
        let trailers = self.wanted.text.trailers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        let trailers = trailers.collect::<String>();
        let mut text = format!("{}\n\n{trailers}", merge_message(self.wanted.branch.as_str(), Some(into)));
        if let Some(hooks) = &wishes.hooks {
            self.run(self.writing(shop, wishes, "read-tree").names([&tree])).await?;
            let file = shop.git.join("MERGE_MSG");
            fs::write(&file, &text)?;
            let cwd = standing.checkout.as_ref().unwrap_or(&self.target.place);
            self.hook(shop, hooks, cwd, "pre-merge-commit", None).await?;
            self.hook(shop, hooks, cwd, "commit-msg", Some(&file)).await?;
            text = fs::read_to_string(&file)?;
        }
        let call = self.writing(shop, wishes, "commit-tree");
        let parents = [standing.at.as_str(), self.commit];
        let user = user::of(self.hands, self.cancel, self.here("config")).await;
        let tip = sign::make_by(self.hands, &user, self.cancel, call, &tree, &parents, text).await?;
        Ok(Becomes { tip, is_forward: false })
    }

    /// What both together make.
    async fn tree(&self, shop: &Workshop, at: &str, into: &str, wishes: &Wishes) -> Result<String, Trouble> {
        let call = self.fence(self.writing(shop, wishes, "merge-tree"), None);
        let call = call.args(["--write-tree", "-z", "--name-only", "--no-messages"]).names([at, self.commit]);
        let answer = self.hands.git.run(self.cancel, call.fine(&[0, 1]).limit(BRING)).await?;
        let mut fields = answer.out.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        let tree = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
        if answer.code == 0 {
            return Ok(tree);
        }
        let files: Vec<&[u8]> = fields.collect();
        Err(Trouble::Plain(format!(
            "merging into `{into}` of {} would conflict, and nothing was done: {}",
            self.shown(),
            named(&files)
        )))
    }

    /// Asks one of the target's hooks, on the index that would be committed.
    async fn hook(
        &self,
        shop: &Workshop,
        hooks: &Path,
        cwd: &Held,
        name: &str,
        file: Option<&Path>,
    ) -> Result<(), Trouble> {
        let call = Call::held(cwd, "hook").args(["run", "--ignore-missing", name, "--"]).args(file);
        let call = call.env("GIT_INDEX_FILE", shop.index()).env("GIT_EDITOR", ":");
        self.run(call.setting("core.hooksPath", hooks.display().to_string())).await.map(drop).map_err(|why| {
            Trouble::Plain(format!("the hook `{name}` of {} refused it: {}", self.shown(), why.into_words()))
        })
    }

    /// What the target's configuration says.
    async fn wishes(&self) -> Result<Wishes, Trouble> {
        let call = self.here("config").args(["--show-scope", "-z", "--get-regexp"]);
        let said = self.run(call.arg(r"^(core\.(hookspath|sharedrepository)|hook\..*)$").fine(&[0, 1])).await?;
        let mut fields = said.split(|byte| *byte == 0);
        let (mut shared, mut configured, mut hooks) = (None, false, self.target.common.path().join("hooks"));
        while let (Some(scope), Some(entry)) = (fields.next(), fields.next()) {
            let (name, value) = entry.split_at(entry.iter().position(|byte| *byte == b'\n').unwrap_or(entry.len()));
            match name {
                b"core.hookspath" if scope == b"command" => {}
                b"core.hookspath" => hooks = self.hooks_path().await?,
                // By its name alone it is on.
                b"core.sharedrepository" => {
                    let value = String::from_utf8_lossy(value.get(1..).unwrap_or(b"true"));
                    shared = Some(value.into_owned());
                }
                // Newer versions of git take hooks from the configuration, too.
                _ => configured = true,
            }
        }
        let asked = configured || HOOKS.iter().any(|name| hooks.join(name).exists());
        Ok(Wishes { hooks: asked.then_some(hooks), shared })
    }

    /// Where the configuration says that hooks are.
    async fn hooks_path(&self) -> Result<PathBuf, Trouble> {
        let call = self.here("config").args(["--show-scope", "-z", "--type=path", "--get-all", "core.hooksPath"]);
        let said = self.run(call.fine(&[0, 1])).await?;
        let mut fields = said.split(|byte| *byte == 0);
        let mut hooks = PathBuf::new();
        while let (Some(scope), Some(path)) = (fields.next(), fields.next()) {
            if scope != b"command" {
                hooks = self.target.place.path().join(OsStr::from_bytes(path));
            }
        }
        Ok(hooks)
    }

    /// Moves the branch, if it is still where it was.
    async fn advance(&self, full: &str, from: &str, to: &str, hooks: Option<&Path>) -> Result<bool, Trouble> {
        let mut call = self.here("update-ref").args(["-m", "makima: merge"]);
        match hooks {
            Some(hooks) => call = call.setting("core.hooksPath", hooks.display().to_string()),
            None => call = self.fence(call, None),
        }
        match self.hands.git.run(self.cancel, call.names([full, to, from])).await {
            Ok(_) => Ok(true),
            Err(why @ GitError::Refused { .. }) => {
                if why.said().contains("aborted by hook") {
                    // What the hook said stands before what git makes of it.
                    let said = shorten(why.said().trim(), 600);
                    return Err(Trouble::Plain(format!("the hook `reference-transaction` refused it: {said}")));
                }
                if self.at(&self.target.place, full).await?.as_deref() == Some(from) {
                    Err(why.into())
                } else {
                    Ok(false)
                }
            }
            Err(why) => Err(why.into()),
        }
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
