//! What another task has: its last commit, and its files that are in no commit. It is looked at and not touched, whether
//! it runs or has ended.

use fs_err as fs;
use std::path::Path;

use makima_core::id::TaskId;
use makima_core::policy::BranchName;
use makima_core::task::EndStatus;

use super::bare::{Bare, OURS};
use super::brought::Lent;
use super::cancel::Cancel;
use super::git::Call;
use super::record::{Folder, Standing};
use super::scene::Scene;
use super::scratch::Scratch;
use super::stage::stage;
use super::still::Still;
use super::trouble::Trouble;
use super::workshop::{RESULT, Trust, Workshop};
use super::{Hands, blocking, foreign, refs, sparse};

/// How often the files of a task that works on them are looked at, until two looks in a row see the same.
const LOOKS: usize = 6;

/// How often beside, with the task's processes standing still.
const STILL: usize = 3;

/// Where another task stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Its last commit.
    pub(super) head: Option<String>,
    /// A commit of its files as they are, where those are others than the last commit's.
    pub(super) files: Option<String>,
    /// What a person should know of it.
    pub(super) notes: Vec<String>,
}

/// Another task, looked at for a new one.
pub(super) struct Other<'a> {
    pub(super) hands: &'a Hands,
    pub(super) cancel: &'a Cancel,
    /// The one that is looked at.
    pub(super) task: TaskId,
    /// The one that it is looked at for.
    pub(super) new: TaskId,
}

impl Other<'_> {
    /// How its worktree stands; none if it never had one.
    pub(super) async fn standing(&self) -> Result<Option<Standing>, Trouble> {
        let folder = Folder::of(&self.hands.home, self.task);
        let read = blocking(move || folder.standing().map_err(|why| why.to_string()));
        read.await.flatten().map_err(Trouble::Plain)
    }

    /// Brings its last commit into `bare`. None where it has none here.
    pub(super) async fn head(&self, bare: &Bare) -> Result<Option<String>, Trouble> {
        let Some(standing) = self.standing().await? else { return Ok(None) };
        let Some((shop, scene)) = self.open(&standing).await? else { return self.kept(&standing, bare).await };
        let head = scene.head.clone().or(standing.prepared.base);
        if let Some(head) = &head {
            self.bring(&shop, bare, head).await?;
        }
        Ok(head)
    }

    /// Brings its last commit and its files into `bare`, all of one moment.
    pub(super) async fn state(&self, bare: &Bare) -> Result<Option<State>, Trouble> {
        let Some(standing) = self.standing().await? else { return Ok(None) };
        let lent = Lent::to(self.hands, self.task).await?;
        let mut before: Option<(Option<String>, String)> = None;
        let mut still = None;
        for look in 1..=LOOKS + STILL {
            if look == LOOKS + 1
                && let Some(task) = self.hands.task(self.task)
            {
                still = Still::for_a_look(task, self.hands).await;
            }
            let Some((shop, scene)) = self.open(&standing).await? else {
                let head = match self.kept(&standing, bare).await? {
                    Some(head) => Some(head),
                    None => self.base(&standing, bare).await?,
                };
                return Ok(head.map(|head| State { head: Some(head), ..State::default() }));
            };
            let head = scene.head.clone().or_else(|| standing.prepared.base.clone());
            shop.leave_alone(&lent)?;
            let staged = stage(self.hands, self.cancel, &shop, standing.prepared.base.as_deref()).await?;
            lent.leave_out(&self.hands.git, self.cancel, &shop, head.as_deref()).await?;
            let tree = self.line(shop.call("write-tree")).await?;
            let now = (head.clone(), tree.clone());
            if before.as_ref() != Some(&now) && look < LOOKS + STILL {
                before = Some(now);
                continue;
            }
            // What was seen is in our repository by now.
            drop(still);
            let mut notes = staged.left_out;
            if before.as_ref() != Some(&now) {
                notes.push("the files of that task were changing while they were copied".to_owned());
            }
            let files = self.files(&shop, head.as_deref(), &tree).await?;
            if let Some(oid) = files.as_ref().or(head.as_ref()) {
                self.bring(&shop, bare, oid).await?;
            }
            return Ok(Some(State { head, files, notes }));
        }
        Ok(None)
    }

    /// A repository of ours on its files; none where they are gone.
    async fn open(&self, standing: &Standing) -> Result<Option<(Workshop, Scene)>, Trouble> {
        let (worktree, bare) = (self.hands.home.worktree(self.task), standing.bare.clone());
        let scratch = Scratch::of(&self.hands.home, self.new);
        let long = standing.prepared.base.as_ref().is_some_and(|base| base.len() == 64);
        let task = self.task;
        let (walls, folder) = (self.hands.walls(), Folder::of(&self.hands.home, self.new));
        let opened = blocking(move || {
            if !foreign::is_folder(&worktree) {
                return Ok(None);
            }
            let walls = walls(&[&worktree, folder.path(), &bare]);
            // Which branch is ours only matters for what is done to it.
            let scene = Scene::of(&worktree, BranchName::of("", task).as_str(), &bare);
            let trust = if scene.lends { Trust::All } else { Trust::Nothing };
            Workshop::open(&scratch, &worktree, &bare, &scene, (trust, long), &walls)
                .map(|(shop, index)| Some((shop, scene, index)))
        });
        let plain = |why: String| Trouble::Plain(format!("the files of task {task} cannot be looked at: {why}"));
        let opened = opened.await.map_err(plain)?.map_err(|failure| plain(failure.to_string()))?;
        let Some((shop, mut scene, index)) = opened else { return Ok(None) };
        if !scene.lends {
            scene.head = None;
        }
        if !index {
            let base = scene.head.clone().or_else(|| standing.prepared.base.clone());
            let folder = Folder::of(&self.hands.home, self.task);
            sparse::index_of(self.hands, self.cancel, &shop, base.as_deref(), &folder).await?;
        }
        Ok(Some((shop, scene)))
    }

    /// Its work, where its worktree is gone.
    async fn kept(&self, standing: &Standing, bare: &Bare) -> Result<Option<String>, Trouble> {
        let name = format!("{OURS}{}", self.task);
        let Some(oid) = refs::find(&standing.bare, &name).await else { return Ok(None) };
        if standing.bare != bare.path {
            self.fetch(bare, &standing.bare, format!("+{name}:{name}")).await?;
        }
        Ok(Some(oid))
    }

    /// Where it began, where its worktree is gone and it has changed nothing: else what it had changed is not here.
    async fn base(&self, standing: &Standing, bare: &Bare) -> Result<Option<String>, Trouble> {
        let (worktree, folder) = (self.hands.home.worktree(self.task), Folder::of(&self.hands.home, self.task));
        let changed_nothing = blocking(move || {
            // What is done without a commit is done without a change.
            let is_done = folder.end().is_some_and(|end| end.status == EndStatus::Done);
            is_done && fs::symlink_metadata(&worktree).is_err()
        });
        let Some(base) = standing.prepared.base.clone() else { return Ok(None) };
        if !changed_nothing.await? {
            return Ok(None);
        }
        if standing.bare != bare.path {
            self.fetch(bare, &standing.bare, format!("+{base}:{OURS}from/{}", self.new)).await?;
        }
        Ok(Some(base))
    }

    /// A commit of these files; none where they are the last commit's.
    async fn files(&self, shop: &Workshop, head: Option<&str>, tree: &str) -> Result<Option<String>, Trouble> {
        let mut call = shop.call("commit-tree").envs(self.hands.user.identity.iter().cloned());
        if let Some(head) = head {
            let call = shop.call("rev-parse").args(["--verify", "--quiet"]);
            if self.line(call.names([format!("{head}^{{tree}}")])).await? == tree {
                return Ok(None);
            }
        }
        if let Some(head) = head {
            call = call.args(["-p", head]);
        }
        let call = call.args(["-F", "-", tree]).input(format!("files of task {}\n", self.task));
        Ok(Some(self.line(call).await?))
    }

    async fn bring(&self, shop: &Workshop, bare: &Bare, oid: &str) -> Result<(), Trouble> {
        let point = shop.point(RESULT, oid);
        point.map_err(|failure| Trouble::Plain(format!("what was found cannot be named: {failure}")))?;
        let what = format!("+{RESULT}:{OURS}from/{}", self.new);
        bare.take_walled(self.hands, self.cancel, &shop.git, &[what], shop.walls()).await
    }

    async fn fetch(&self, bare: &Bare, from: &Path, what: String) -> Result<(), Trouble> {
        bare.take(self.hands, self.cancel, from, &[what]).await
    }

    async fn line(&self, call: Call) -> Result<String, Trouble> {
        let answer = self.hands.git.run(self.cancel, call).await?;
        answer.line().ok_or_else(|| Trouble::Plain("git answered nothing".to_owned()))
    }
}
