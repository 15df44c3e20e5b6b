//! Making a task's worktree. Done twice it is as if done once.

use std::path::{Path, PathBuf};

use fs_err as fs;
use makima_core::effect::Prepare;
use makima_core::id::TaskId;
use makima_core::input::Prepared;
use makima_core::policy::BranchName;

use super::Hands;
use super::bare::{Bare, folder_for, says_damaged};
use super::cancel::Cancel;
use super::git::{BRING, Call, GitError};
use super::record::{Folder, Standing};
use super::refs;
use super::source::{Source, Tips};

/// Below this nothing is begun: a full disk would break it half-way.
const FREE_MIN: u64 = 200 << 20;

/// Makes the worktree of `task` and says where it starts.
pub(super) async fn prepare(
    hands: &Hands,
    task: TaskId,
    wanted: &Prepare,
    cancel: &Cancel,
) -> Result<Prepared, String> {
    let folder = Folder::of(&hands.home, task);
    let place = hands.home.worktree(task);
    if let Some(standing) = standing(hands, &folder, &place)? {
        return Ok(standing.prepared);
    }
    enough_room(hands)?;
    folder.write_plan(&wanted.plan).map_err(|failure| format!("the plan cannot be written: {failure}"))?;
    let job = Job { hands, task, wanted, cancel };
    let standing = match &wanted.repository {
        Some(url) => {
            let credentials = hands.credentials(task, wanted.credentials);
            let source = Source::find(url, hands.settings.variable("HOME"), credentials.as_deref())?;
            job.start_from(&source).await?
        }
        None => job.start_empty().await?,
    };
    Ok(standing.prepared)
}

/// The worktree that an earlier call made. One of which we do not know the start was made by a life of the
/// daemon that ended in between: no agent has been in it, but it is put aside and not deleted.
fn standing(hands: &Hands, folder: &Folder, place: &Path) -> Result<Option<Standing>, String> {
    if !place.exists() {
        return Ok(None);
    }
    match folder.standing() {
        Ok(Some(standing)) => Ok(Some(standing)),
        Ok(None) | Err(_) => {
            let aside = hands.home.put_aside(place);
            aside.map(|_| None).map_err(|failure| format!("a half-made worktree is in the way: {failure}"))
        }
    }
}

fn enough_room(hands: &Hands) -> Result<(), String> {
    let root = hands.home.root();
    // A file system that cannot say how much is free is not kept from being used.
    let Ok(disk) = rustix::fs::statvfs(root) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= FREE_MIN {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(format!(
        "only {} MiB are free where {} lies; a worktree needs {} MiB to begin with",
        mib(free),
        root.display(),
        mib(FREE_MIN)
    ))
}

struct Job<'a> {
    hands: &'a Hands,
    task: TaskId,
    wanted: &'a Prepare,
    cancel: &'a Cancel,
}

/// Where the work starts, and what stands around it.
struct Start<'a> {
    bare: &'a Bare,
    address: Option<&'a str>,
    base: Option<String>,
    tips: Tips,
}

impl Job<'_> {
    async fn start_from(&self, source: &Source) -> Result<Standing, String> {
        let bare = self.hands.bare(folder_for(&self.hands.home, Some(source)));
        match self.attempt(&bare, source).await {
            Err(Trouble::Damaged(why)) => {
                tracing::warn!("{} is damaged: {why}", bare.path.display());
                let git = &self.hands.git;
                bare.renew(git, self.cancel, source).await.map_err(|why| why.to_string())?;
                self.attempt(&bare, source).await.map_err(Trouble::into_words)
            }
            other => other.map_err(Trouble::into_words),
        }
    }

    async fn start_empty(&self) -> Result<Standing, String> {
        let bare = self.hands.bare(folder_for(&self.hands.home, None));
        bare.make_empty(&self.hands.git, self.cancel).await.map_err(|why| why.to_string())?;
        let start = Start { bare: &bare, address: None, base: None, tips: Tips::default() };
        self.build(&start, None).await.map_err(Trouble::into_words)
    }

    async fn attempt(&self, bare: &Bare, source: &Source) -> Result<Standing, Trouble> {
        let git = &self.hands.git;
        // What is wrong with the source is no damage of ours.
        let tips = source.tips(git, self.cancel).await.map_err(|why| Trouble::Plain(why.to_string()))?;
        if !tips.is_empty() {
            bare.bring(git, self.cancel, source, &tips).await?;
        }
        let base = self.base(bare, source, &tips).await?;
        let start = Start { bare, address: Some(&source.address), base: Some(base), tips };
        self.build(&start, source.local.clone()).await
    }

    /// The commit to start from: a full id, a branch, a tag; else the default branch.
    async fn base(&self, bare: &Bare, source: &Source, tips: &Tips) -> Result<String, Trouble> {
        let Some(name) = &self.wanted.base else {
            return self.default_base(bare, source, tips).await;
        };
        let absent = || Trouble::Plain(format!("{} has no branch, tag or commit `{name}`", source.address));
        if refs::is_oid(name) {
            return self.commit(bare, source, name).await?.ok_or_else(absent);
        }
        if let Some(oid) = tips.refs.get(&format!("refs/heads/{name}")) {
            return Ok(oid.clone());
        }
        let tag = tips.refs.get(&format!("refs/tags/{name}")).ok_or_else(absent)?;
        let commit = self.peel(bare, tag).await?;
        commit.ok_or_else(|| Trouble::Plain(format!("the tag `{name}` of {} names no commit", source.address)))
    }

    async fn default_base(&self, bare: &Bare, source: &Source, tips: &Tips) -> Result<String, Trouble> {
        if let Some(oid) = tips.default.as_ref().and_then(|name| tips.refs.get(name)) {
            return Ok(oid.clone());
        }
        match &tips.head {
            // HEAD is at no branch: its commit may be one that no branch leads to.
            Some(oid) => {
                let commit = self.commit(bare, source, oid).await?;
                commit.ok_or_else(|| Trouble::Plain(format!("the HEAD of {} cannot be read", source.address)))
            }
            None if tips.refs.is_empty() => {
                Err(Trouble::Plain(format!("{} has no commit yet; there is nothing to start from", source.address)))
            }
            None => Err(Trouble::Plain(format!(
                "{} has no commit on its default branch; say which branch to start from",
                source.address
            ))),
        }
    }

    /// A commit by its full id, brought if it is not there.
    async fn commit(&self, bare: &Bare, source: &Source, oid: &str) -> Result<Option<String>, Trouble> {
        if let Some(commit) = self.peel(bare, oid).await? {
            return Ok(Some(commit));
        }
        match bare.fetch_object(&self.hands.git, self.cancel, source, oid).await {
            Ok(()) => self.peel(bare, oid).await,
            Err(GitError::Refused { .. }) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    async fn peel(&self, bare: &Bare, oid: &str) -> Result<Option<String>, Trouble> {
        let call = Call::on(&bare.path, "rev-parse").args(["--verify", "--quiet"]).fine(&[0, 1, 128]);
        let answer = self.hands.git.run(self.cancel, call.names([format!("{oid}^{{commit}}")])).await?;
        Ok(answer.line().filter(|oid| answer.code == 0 && refs::is_oid(oid)))
    }

    /// Builds the task's own repository aside and puts it in place whole.
    async fn build(&self, start: &Start<'_>, local: Option<PathBuf>) -> Result<Standing, Trouble> {
        let place = self.hands.home.worktree(self.task);
        let staging = place.with_file_name(format!(".making-{}", self.task));
        let plain = |what: &'static str| move |failure: std::io::Error| Trouble::Plain(format!("{what}: {failure}"));
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(plain("a half-made worktree cannot be removed"))?;
        }
        lay(&staging, start, &self.wanted.branch).map_err(plain("the worktree cannot be made"))?;
        if let Some(base) = &start.base {
            // Three things in one process: the index, the files, and no reference moved.
            let call = Call::at(&staging, "read-tree").args(["-u", "--reset"]).limit(BRING);
            self.hands.git.run(self.cancel, call.names([base])).await?;
        }
        let local = local.map(|path| path.to_string_lossy().into_owned());
        let prepared = Prepared { base: start.base.clone(), local };
        let standing = Standing { prepared, bare: start.bare.path.clone() };
        let folder = Folder::of(&self.hands.home, self.task);
        folder.prepared(&standing).map_err(plain("it cannot be written down that the worktree stands"))?;
        fs::rename(&staging, &place).map_err(plain("the worktree cannot be put in place"))?;
        Ok(standing)
    }
}

/// Writes what `git clone --shared --no-checkout` and `git switch -c` would, which take ten milliseconds for it.
fn lay(place: &Path, start: &Start<'_>, branch: &BranchName) -> std::io::Result<()> {
    let git = place.join(".git");
    let branch = format!("refs/heads/{branch}");
    let branch_file = git.join(&branch);
    for folder in ["objects/info", "objects/pack", "refs/tags", "info", "hooks"] {
        fs::create_dir_all(git.join(folder))?;
    }
    if let Some(folder) = branch_file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(git.join("HEAD"), format!("ref: {branch}\n"))?;
    fs::write(git.join("objects/info/alternates"), format!("{}\n", start.bare.path.join("objects").display()))?;
    fs::write(git.join("info/exclude"), "")?;
    fs::write(git.join("config"), configuration(start))?;
    if let Some(base) = &start.base {
        fs::write(branch_file, format!("{base}\n"))?;
    }
    let tips = start.tips.refs.iter().map(|(name, oid)| match name.strip_prefix("refs/heads/") {
        Some(branch) => (format!("refs/remotes/origin/{branch}"), oid.as_str()),
        None => (name.clone(), oid.as_str()),
    });
    let tips: Vec<(String, &str)> = tips.collect();
    fs::write(git.join("packed-refs"), refs::pack(tips.iter().map(|(name, oid)| (name.as_str(), *oid))))?;
    if let Some(default) = start.tips.default.as_ref().and_then(|name| name.strip_prefix("refs/heads/")) {
        let folder = git.join("refs/remotes/origin");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("HEAD"), format!("ref: refs/remotes/origin/{default}\n"))?;
    }
    Ok(())
}

fn configuration(start: &Start<'_>) -> String {
    let long = start.base.as_ref().is_some_and(|base| base.len() == 64);
    let mut text = String::from("[core]\n");
    text.push_str(&format!("\trepositoryformatversion = {}\n", u8::from(long)));
    text.push_str("\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n");
    if long {
        text.push_str("[extensions]\n\tobjectformat = sha256\n");
    }
    if let Some(address) = start.address {
        let address = address.replace('\\', "\\\\").replace('"', "\\\"");
        text.push_str(&format!("[remote \"origin\"]\n\turl = \"{address}\"\n"));
        text.push_str("\tfetch = +refs/heads/*:refs/remotes/origin/*\n");
    }
    text
}

/// Why a worktree was not made.
enum Trouble {
    /// The shared repository is damaged: worth another try with a new one.
    Damaged(String),
    /// Anything else.
    Plain(String),
}

impl Trouble {
    fn into_words(self) -> String {
        match self {
            Self::Damaged(why) | Self::Plain(why) => why,
        }
    }
}

impl From<GitError> for Trouble {
    fn from(why: GitError) -> Self {
        if says_damaged(why.said()) { Self::Damaged(why.to_string()) } else { Self::Plain(why.to_string()) }
    }
}
