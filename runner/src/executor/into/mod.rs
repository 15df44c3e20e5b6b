//! Merging a task's work into a branch of a repository of the user's.
//!
//! The result is known before any branch or file of the user's is touched: it is made by a repository of ours on the
//! target's objects. Then the branch is moved by compare-and-swap, and a clean checkout of it along. The target's own
//! hooks for a merge have their say, as git itself would ask them; nothing else that we do anywhere runs a hook. Where
//! it is refused, some objects are left that nothing leads to, as git itself leaves them.

mod back;
mod change;
mod follow;
mod hooks;
mod standing;
mod turn;
mod way;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;
use makima_core::effect::Delivery;
use makima_core::id::TaskId;
use makima_core::policy::{merge_message, shorten};

use self::hooks::Wishes;
use self::standing::Standing;
pub(super) use self::turn::Targets;
use self::turn::{PATIENCE, Stop};
use super::branch::{Target, target};
use super::cancel::Cancel;
use super::git::{BRING, Call, GitError};
use super::locks::AtWork;
use super::record::{Folder, Following};
use super::scene::Scene;
use super::scratch::Scratch;
use super::trouble::Trouble;
use super::workshop::{RESULT, Trust, Workshop};
use super::{Hands, blocking, refs, sign};
use crate::sandbox::Walls;

/// How often it is tried where the branch moves meanwhile.
const TRIES: usize = 4;
/// The longest that a hook may take which is asked while the branch is moved.
const MOVE: Duration = Duration::from_secs(60);
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
    let job = Job { hands, cancel, wanted, commit, scratch: Scratch::of(&hands.home, task), folder, target };
    job.done().await.map_err(|why| format!("{}; the work is kept in {}", why.into_words(), job.target.bare.display()))
}

struct Job<'a> {
    hands: &'a Arc<Hands>,
    cancel: &'a Cancel,
    wanted: &'a Delivery,
    commit: &'a str,
    /// Where our repository of the moment is.
    scratch: Scratch,
    folder: Folder,
    target: Target,
}

/// What the branch becomes.
struct Becomes {
    tip: String,
    is_forward: bool,
}

impl Job<'_> {
    async fn done(&self) -> Result<String, Trouble> {
        self.catch_up().await?;
        self.try_patiently().await
    }

    async fn merge(&self) -> Result<String, Stop> {
        let into = self.into().await?;
        let full = format!("refs/heads/{into}");
        let shop = self.open().await?;
        let (first, wishes) = tokio::try_join!(self.stand(&full, &shop), self.wishes())?;
        let mut next = Some(first);
        for _ in 0..TRIES {
            let standing = match next.take() {
                Some(standing) => standing,
                None => self.stand(&full, &shop).await?,
            };
            let Some(standing) = standing else {
                return Err(Trouble::Plain(format!("{} has no branch `{into}`", self.shown())).into());
            };
            if standing.has_all {
                return Ok(format!("`{into}` in {} has all of it already", self.shown()));
            }
            self.refuse_in_the_middle(&full, &into).await?;
            // Looking at all files of a checkout takes longest.
            let (clean, tree) =
                tokio::join!(self.refuse_dirty(&standing, &into), self.tree(&shop, &standing, &into, &wishes));
            clean?;
            let result = self.result(&shop, &standing, &into, &wishes, tree?).await?;
            if self.take(&standing, &full, &into, &result.tip, wishes.hooks.as_deref()).await? {
                let how = if result.is_forward { "fast-forwarded, now at" } else { "merged as" };
                let (branch, place) = (&self.wanted.branch, self.shown());
                return Ok(format!("`{branch}` is in `{into}` of {place}: {how} {}", result.tip));
            }
        }
        Err(Trouble::Plain(format!("`{into}` in {} moved each time that it was tried", self.shown())).into())
    }

    /// Has the branch, and its checkout, be at `tip`; if it is still where it was.
    async fn take(
        &self,
        standing: &Standing,
        full: &str,
        into: &str,
        tip: &str,
        hooks: Option<&Path>,
    ) -> Result<bool, Trouble> {
        let at = &standing.at;
        let ready = match &standing.checkout {
            Some(checkout) => {
                let (folder, branch) = (checkout.folder.path().to_path_buf(), full.to_owned());
                let following = Following { folder, branch, from: at.clone(), to: tip.to_owned() };
                Some(self.ready(checkout, following).await?)
            }
            None => None,
        };
        // From here on nothing is called off: a branch that is moved is followed.
        let moved = match self.look_once_more(full, into).await {
            Ok(()) => self.advance(full, at, tip, hooks).await,
            Err(why) => Err(Unmoved::As(why)),
        };
        match (moved, ready) {
            (Ok(true), Some(ready)) => self.follow(ready).await.map(|()| true),
            (Ok(true), None) => Ok(true),
            (Ok(false), _) => Ok(self.folder.followed().map(|()| false)?),
            (Err(Unmoved::As(why)), _) => {
                self.folder.followed()?;
                Err(why)
            }
            // Whoever comes next finds out.
            (Err(Unmoved::Unknown(why)), _) => Err(why),
        }
    }

    /// Making the commit may have taken a while.
    async fn look_once_more(&self, full: &str, into: &str) -> Result<(), Trouble> {
        self.refuse_in_the_middle(full, into).await?;
        if self.cancel.is_set() { Err(GitError::Cancelled.into()) } else { Ok(()) }
    }

    fn here(&self, verb: &str) -> Call {
        Call::held(&self.target.place, verb)
    }

    /// The target, for people.
    fn shown(&self) -> std::path::Display<'_> {
        self.target.place.path().display()
    }

    /// One that writes to the target, and runs nothing of the user's.
    fn fence(&self, call: Call) -> Call {
        let folders = std::iter::once(&self.target.common).chain(&self.target.parts);
        call.fenced(folders, &[self.scratch.path(), &self.target.bare])
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

    async fn open(&self) -> Result<Workshop, Trouble> {
        let (scratch, bare) = (self.scratch.clone(), self.target.bare.clone());
        let common = self.target.common.path().to_path_buf();
        let long = self.commit.len() == 64;
        let open = move || {
            let scene = Scene { shallow: refs::shallow(&common), git: Some(common), ..Scene::default() };
            // It has no files: all that is done with it is done on objects.
            Workshop::open(&scratch, scratch.path(), &bare, &scene, (Trust::Objects, long), &Walls::default())
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
            let call = self.fence(call);
            let call = call.args(["--quiet", "--no-tags", "--no-write-fetch-head"]);
            return self.run(call.names([shop.git.as_os_str(), OsStr::new(RESULT)])).await.map(drop);
        }
        let call = self
            .fence(Call::held(&self.target.common, "pack-objects"))
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

    /// What the branch is to become. A merge commit, of this tree, only where the branch has gone on by itself.
    async fn result(
        &self,
        shop: &Workshop,
        standing: &Standing,
        into: &str,
        wishes: &Wishes,
        tree: Option<String>,
    ) -> Result<Becomes, Trouble> {
        let at = standing.at.as_str();
        let Some(tree) = tree else {
            self.bring(shop, at).await?;
            return Ok(Becomes { tip: self.commit.to_owned(), is_forward: true });
        };
        let Some(hooks) = &wishes.hooks else {
            let made = self.merged(shop, at, &tree, wishes, self.text(into));
            let (made, brought) = tokio::join!(made, self.bring(shop, at));
            return brought.and(made);
        };
        self.bring(shop, at).await?;
        self.run(self.writing(shop, wishes, "read-tree").names([&tree])).await?;
        let file = shop.git.join("MERGE_MSG");
        fs::write(&file, self.text(into))?;
        let cwd = standing.checkout.as_ref().map_or(&self.target.place, |checkout| &checkout.folder);
        self.hook(shop, hooks, cwd, "pre-merge-commit", None).await?;
        self.hook(shop, hooks, cwd, "commit-msg", Some(&file)).await?;
        self.merged(shop, at, &tree, wishes, fs::read_to_string(&file)?).await
    }

    /// What a merge commit says.
    fn text(&self, into: &str) -> String {
        let trailers = self.wanted.text.trailers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        let merges = merge_message(self.wanted.branch.as_str(), Some(into));
        format!("{merges}\n\n{}", trailers.collect::<String>())
    }

    /// A commit of both.
    async fn merged(
        &self,
        shop: &Workshop,
        at: &str,
        tree: &str,
        wishes: &Wishes,
        text: String,
    ) -> Result<Becomes, Trouble> {
        let call = self.writing(shop, wishes, "commit-tree");
        let tip = sign::make(self.hands, &wishes.user, self.cancel, call, tree, &[at, self.commit], text).await?;
        Ok(Becomes { tip, is_forward: false })
    }

    /// What both together make. None where the work goes on from the branch.
    async fn tree(
        &self,
        shop: &Workshop,
        standing: &Standing,
        into: &str,
        wishes: &Wishes,
    ) -> Result<Option<String>, Trouble> {
        if standing.is_behind {
            return Ok(None);
        }
        let at = standing.at.as_str();
        let call = self.fence(self.writing(shop, wishes, "merge-tree"));
        let call = call.args(["--write-tree", "-z", "--name-only", "--no-messages"]).names([at, self.commit]);
        let answer = self.hands.git.run(self.cancel, call.fine(&[0, 1]).limit(BRING)).await?;
        let mut fields = answer.out.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        let tree = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
        if answer.code == 0 {
            return Ok(Some(tree));
        }
        let files: Vec<&[u8]> = fields.collect();
        Err(Trouble::Plain(format!(
            "merging into `{into}` of {} would conflict, and nothing was done: {}",
            self.shown(),
            named(&files)
        )))
    }

    /// Moves the branch, if it is still where it was. Where it is afterwards counts, and not what became of git.
    async fn advance(&self, full: &str, from: &str, to: &str, hooks: Option<&Path>) -> Result<bool, Unmoved> {
        let never = Cancel::default();
        let mut call = self.here("update-ref").args(["-m", "makima: merge"]).limit(MOVE);
        call = call.setting("core.filesRefLockTimeout", PATIENCE.as_millis().to_string());
        match hooks {
            Some(hooks) => call = call.theirs().setting("core.hooksPath", hooks.display().to_string()),
            None => call = self.fence(call),
        }
        let at_work = AtWork::on(&self.folder, &self.target.common, full).await.map_err(Unmoved::As)?;
        let became = self.hands.git.run(&never, call.names([full, to, from])).await;
        at_work.over(&became).map_err(|why| Unmoved::Unknown(why.into()))?;
        let Err(why) = became else { return Ok(true) };
        let look = self.here("for-each-ref").arg("--format=%(objectname) %(refname)").names([full]);
        let there = match self.hands.git.run(&never, look).await {
            Ok(said) => said.line().unwrap_or_default(),
            Err(also) => return Err(Unmoved::Unknown(Trouble::Plain(format!("{why}; {also}")))),
        };
        if there == format!("{to} {full}") {
            return Ok(true);
        }
        if there != format!("{from} {full}") {
            return Ok(false);
        }
        Err(Unmoved::As(if why.said().contains("aborted by hook") {
            // What the hook said stands before what git makes of it.
            let said = shorten(why.said().trim(), 600);
            Trouble::Plain(format!("the hook `reference-transaction` refused it: {said}"))
        } else {
            why.into()
        }))
    }
}

/// Why a branch is not known to have been moved.
enum Unmoved {
    /// It is where it was.
    As(Trouble),
    /// Nobody can tell.
    Unknown(Trouble),
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

/// Reads what git says: see `crate::fuzz`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(said: &[u8]) {
    change::fuzz(said);
    hooks::fuzz(said);
    standing::fuzz(said);
}
