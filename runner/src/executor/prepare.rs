//! Making a task's worktree. Done twice it is as if done once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use makima_core::effect::{Prepare, Start as Where};
use makima_core::id::TaskId;
use makima_core::input::Prepared;
use makima_core::wants::{Settled, Wants};
use uuid::Uuid;

use super::along::{Along, Brought};
use super::bare::{Bare, folder_for};
use super::brought::Lent;
use super::cancel::Cancel;
use super::git::{BRING, Call};
use super::lay::Start;
use super::other::{Other, State};
use super::record::{Folder, Standing, forgiving};
use super::source::{Source, Tips};
use super::trouble::Trouble;
use super::{Hands, blocking, conversation, foreign, include, lay, refs, sparse, wants};
use crate::home::Home;

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
    let there = {
        let (home, plan) = (hands.home.clone(), wanted.plan.clone());
        blocking(move || {
            let there = standing(&home, &folder, &place)?;
            if there.is_none() {
                enough_room(home.root())?;
                folder.write_plan(&plan).map_err(words("the plan cannot be written"))?;
            }
            Ok::<_, String>(there)
        })
        .await??
    };
    if let Some(standing) = there {
        return Ok(standing.prepared);
    }
    let job = Job { hands, task, wanted, cancel };
    let standing = match &wanted.repository {
        Some(url) => {
            let credentials = wanted.credentials.and_then(|id| hands.secret(id));
            let (url, user) = (url.clone(), hands.settings.variable("HOME").map(str::to_owned));
            // It may lie where nobody answers.
            let source = blocking(move || Source::find(&url, user.as_deref(), credentials.as_deref())).await??;
            job.start_from(&source).await?
        }
        None => job.start_without().await?,
    };
    Ok(standing.prepared)
}

/// The worktree that an earlier call made. One of which we do not know the start was made by a life of the
/// daemon that ended in between, and one of before the machine went down may be there in part: no agent has been
/// in it, but it is put aside and not deleted.
fn standing(home: &Home, folder: &Folder, place: &Path) -> Result<Option<Standing>, String> {
    if !place.exists() {
        return Ok(None);
    }
    // Where an agent has been, it may have done away with anything.
    let is_whole = || lay::is_of_this_boot(place) || !matches!(folder.intent(), Ok(None));
    match folder.standing() {
        Ok(Some(standing)) if is_whole() => Ok(Some(standing)),
        Ok(_) | Err(_) => {
            let aside = home.put_aside(place);
            aside.map(|_| None).map_err(|failure| format!("a half-made worktree is in the way: {failure}"))
        }
    }
}

fn enough_room(root: &Path) -> Result<(), String> {
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

impl Job<'_> {
    async fn start_from(&self, source: &Source) -> Result<Standing, String> {
        let bare = self.hands.bare(folder_for(&self.hands.home, Some(source)));
        match self.attempt(&bare, source).await {
            Err(Trouble::Damaged(why)) => {
                tracing::warn!("{} is damaged: {why}", bare.path.display());
                let git = &self.hands.git;
                let renewed =
                    bare.renew(git, self.cancel, source, async |new: &Bare| self.look_into(new, source).await);
                renewed.await.map_err(Trouble::into_words)?;
                self.attempt(&bare, source).await.map_err(Trouble::into_words)
            }
            other => other.map_err(Trouble::into_words),
        }
    }

    /// Whether a new clone of the source has all that the work starts from: where the source itself is damaged, so is what
    /// is linked to it.
    async fn look_into(&self, new: &Bare, source: &Source) -> Result<(), Trouble> {
        let (Where::Default | Where::At(_)) = self.wanted.start else { return Ok(()) };
        let plain =
            |why: Trouble| Trouble::Plain(format!("{} is damaged itself: {}", source.address, why.into_words()));
        let tips = source.tips(&self.hands.git, self.cancel).await?;
        let base = self.base(new, source, &tips).await.map_err(plain)?;
        // All of it is read.
        let files = self.staging();
        let emptied = files.clone();
        on_disk(move || {
            forgiving(fs::remove_dir_all(&emptied))
                .and_then(|()| fs::create_dir(&emptied))
                .map_err(words("a folder to look into it cannot be made"))
        })
        .await?;
        let call = laying(Call::on(&new.path, "read-tree")).env("GIT_WORK_TREE", &files);
        let read = self.hands.git.run(self.cancel, call.names([base])).await;
        let _ = blocking(move || fs::remove_dir_all(files)).await;
        read.map(drop).map_err(|why| plain(why.into()))
    }

    /// Where the worktree is made.
    fn staging(&self) -> PathBuf {
        self.hands.home.worktree(self.task).with_file_name(format!(".making-{}", self.task))
    }

    /// Without a repository: in an empty one, or in that of the task that is gone on with.
    async fn start_without(&self) -> Result<Standing, String> {
        if let Where::Continue(task) = self.wanted.start {
            let standing = self.other(task).standing().await.map_err(Trouble::into_words)?;
            let bare = self.hands.bare(standing.ok_or_else(|| not_here(task))?.bare);
            let base = self.continued(&bare, task).await.map_err(Trouble::into_words)?;
            let start = self.start(&bare, None, base, Tips::default());
            return self.build(start, None).await.map_err(Trouble::into_words);
        }
        let bare = self.hands.bare(folder_for(&self.hands.home, None));
        bare.make_empty(&self.hands.git, self.cancel).await.map_err(|why| why.to_string())?;
        let base = match self.wanted.start {
            Where::Parent(parent) => self.other(parent).head(&bare).await.map_err(Trouble::into_words)?,
            Where::Default | Where::At(_) | Where::Continue(_) => None,
        };
        let start = self.start(&bare, None, Base::of(base), Tips::default());
        self.build(start, None).await.map_err(Trouble::into_words)
    }

    const fn other(&self, task: TaskId) -> Other<'_> {
        Other { hands: self.hands, cancel: self.cancel, task, new: self.task }
    }

    /// The state of another task, which this one goes on with.
    async fn continued(&self, bare: &Bare, task: TaskId) -> Result<Base, Trouble> {
        let state = self.other(task).state(bare).await?.ok_or_else(|| Trouble::Plain(not_here(task)))?;
        let State { head, files, notes } = state;
        Ok(Base { commit: head, files, notes })
    }

    async fn attempt(&self, bare: &Bare, source: &Source) -> Result<Standing, Trouble> {
        let git = &self.hands.git;
        // What is wrong with the source is no damage of ours.
        let tips = source.tips(git, self.cancel).await.map_err(|why| Trouble::Plain(why.to_string()))?;
        if !tips.is_empty() {
            bare.bring(git, self.cancel, source, &tips).await?;
        }
        let base = match self.wanted.start {
            // What an agent has done to its repository says nothing of ours.
            Where::Continue(task) => self.continued(bare, task).await.map_err(Trouble::of_others)?,
            Where::Parent(parent) => match self.other(parent).head(bare).await.map_err(Trouble::of_others)? {
                Some(head) => Base::of(Some(head)),
                None => Base::of(Some(self.default_base(bare, source, &tips).await?)),
            },
            Where::Default | Where::At(_) => Base::of(Some(self.base(bare, source, &tips).await?)),
        };
        let (git, cancel) = (&bare.path, self.cancel);
        let settled = wants::settled(self.hands, cancel, git, source, base.commit.as_deref()).await?;
        let start = self.start(bare, Some(source.address.clone()), base, tips);
        self.build(start, Some((source, settled))).await
    }

    fn start(&self, bare: &Bare, address: Option<String>, base: Base, tips: Tips) -> (Start, Base) {
        let commit = base.commit.clone();
        (Start { bare: bare.path.clone(), address, base: commit, tips, branch: self.wanted.branch.clone() }, base)
    }

    /// The commit to start from: a full id, a branch, a tag; else the default branch.
    async fn base(&self, bare: &Bare, source: &Source, tips: &Tips) -> Result<String, Trouble> {
        let name = match &self.wanted.start {
            Where::At(name) => name,
            Where::Default | Where::Parent(_) | Where::Continue(_) => {
                return self.default_base(bare, source, tips).await;
            }
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
            Err(why) if says_absent(why.said()) => Ok(None),
            // The source could not be asked, which says nothing of what it has.
            Err(why) => Err(Trouble::Plain(format!("{oid} cannot be brought from {}: {why}", source.address))),
        }
    }

    async fn peel(&self, bare: &Bare, oid: &str) -> Result<Option<String>, Trouble> {
        let call = Call::on(&bare.path, "rev-parse").args(["--verify", "--quiet"]).fine(&[0, 1, 128]);
        let answer = self.hands.git.run(self.cancel, call.names([format!("{oid}^{{commit}}")])).await?;
        Ok(answer.line().filter(|oid| answer.code == 0 && refs::is_oid(oid)))
    }

    /// Builds the task's own repository aside and puts it in place whole.
    async fn build(
        &self,
        (start, from): (Start, Base),
        source: Option<(&Source, Settled)>,
    ) -> Result<Standing, Trouble> {
        let (source, Settled { wants, note }) =
            source.map_or_else(Default::default, |(source, settled)| (Some(source), settled));
        let place = self.hands.home.worktree(self.task);
        let staging = self.staging();
        let (base, bare) = (start.base.clone(), start.bare.clone());
        on_disk({
            let staging = staging.clone();
            move || {
                forgiving(fs::remove_dir_all(&staging)).map_err(words("a half-made worktree cannot be removed"))?;
                start.lay(&staging).map_err(words("the worktree cannot be made"))
            }
        })
        .await?;
        wants::narrow(&staging, &Folder::of(&self.hands.home, self.task), &wants).await?;
        if let Some(base) = &base {
            // Three things in one process: the index, the files, and no reference moved.
            let call = checkout(&staging);
            self.hands.git.run(self.cancel, call.names([base])).await?;
        }
        if let Some(files) = &from.files {
            self.lay_over(&staging, base.as_deref(), files).await?;
        }
        if let Some(source) = source {
            wants::submodules(self.hands, self.cancel, &staging, source, &wants).await?;
        }
        let local = source.and_then(|source| source.local.clone());
        let mut notes = from.notes;
        notes.extend(note);
        let brought = self.bring_along(&staging, local.as_deref()).await?;
        notes.extend(brought.notes);
        let lent = Lent::of(brought.paths);
        let local = local.map(|path| path.to_string_lossy().into_owned());
        let Wants { setup, checks, env, .. } = wants;
        let env: Vec<(String, String)> = env.into_iter().collect();
        let recalled = self.recall(&env).await?;
        let prepared = Prepared { base, local, notes, setup, checks, env, recalled };
        let standing = Standing { prepared, bare };
        let folder = Folder::of(&self.hands.home, self.task);
        on_disk(move || {
            exclude(&staging, &lent).and_then(|()| folder.brought(&lent)).map_err(words(NOT_WRITTEN))?;
            folder.prepared(&standing).map_err(words("it cannot be written down that the worktree stands"))?;
            fs::rename(&staging, &place).map_err(words("the worktree cannot be put in place"))?;
            Ok(standing)
        })
        .await
    }
}

impl Job<'_> {
    /// What stands in the conversation that is gone on with.
    async fn recall(&self, env: &[(String, String)]) -> Result<Option<Vec<Uuid>>, Trouble> {
        let Some(conversation) = self.wanted.conversation.clone() else { return Ok(None) };
        let settings = &self.hands.settings;
        let all = settings.environment.iter().chain(&settings.agent_env).chain(env);
        let all: Vec<(OsString, OsString)> = all.map(|(name, value)| (name.into(), value.into())).collect();
        on_disk(move || Ok(conversation::recall(&conversation, &all))).await
    }

    /// Puts files into the worktree that are in no commit of its branch.
    async fn lay_over(&self, staging: &Path, base: Option<&str>, files: &str) -> Result<(), Trouble> {
        let over = checkout(staging);
        self.hands.git.run(self.cancel, over.names([files])).await?;
        // The index is the commit's again, so that git shows what is in none.
        let back = Call::at(staging, "read-tree").limit(BRING);
        let back = base.map_or_else(|| Call::at(staging, "read-tree").arg("--empty"), |base| back.names([base]));
        self.hands.git.run(self.cancel, back).await?;
        let rules = Folder::of(&self.hands.home, self.task).file(sparse::RULES);
        if rules.exists() {
            let call = |verb: &str| Call::at(staging, verb);
            sparse::leave_out(&self.hands.git, self.cancel, call, staging, rules).await?;
        }
        let refresh = Call::at(staging, "update-index").args(["-q", "--refresh"]).fine(&[0, 1]).limit(BRING);
        self.hands.git.run(self.cancel, refresh).await?;
        Ok(())
    }

    /// Brings files along from the user's own checkout and from another task's worktree.
    async fn bring_along(&self, staging: &Path, local: Option<&Path>) -> Result<Brought, Trouble> {
        let mut brought = Brought::default();
        if let Some(from) = local {
            let wanted = include::wanted(&self.hands.git, self.cancel, from, staging).await;
            let (paths, told) = wanted.map_err(Trouble::of_others)?;
            brought.notes.extend(told);
            brought = self.bring(from.to_path_buf(), staging, paths, brought).await?;
        }
        let Some(copy) = self.wanted.copy.clone() else { return Ok(brought) };
        let from = self.hands.home.worktree(copy.from);
        if !foreign::is_folder(&from) {
            brought.notes.push(format!("no file could be brought along: task {} has no worktree here", copy.from));
            return Ok(brought);
        }
        let paths = copy.paths.iter().map(|path| PathBuf::from(path.as_str())).collect();
        self.bring(from, staging, paths, brought).await
    }

    async fn bring(
        &self,
        from: PathBuf,
        staging: &Path,
        paths: Vec<PathBuf>,
        mut brought: Brought,
    ) -> Result<Brought, Trouble> {
        if paths.is_empty() {
            return Ok(brought);
        }
        let to = staging.to_path_buf();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let brought = on_disk(move || {
            let along = Along { from: &from, to: &to, stop: &stopped };
            for path in &paths {
                along.bring(path, &mut brought);
            }
            Ok(brought)
        });
        tokio::pin!(brought);
        tokio::select! {
            brought = &mut brought => brought,
            () = self.cancel.set() => {
                // What is being copied is waited for: nothing is done beside it.
                stop.store(true, Ordering::Release);
                brought.await
            }
        }
    }
}

/// Where a worktree starts.
#[derive(Debug, Default)]
struct Base {
    commit: Option<String>,
    /// A commit of files that are in no commit of the branch.
    files: Option<String>,
    notes: Vec<String>,
}

impl Base {
    fn of(commit: Option<String>) -> Self {
        Self { commit, ..Self::default() }
    }
}

/// A call that makes the files of a commit. What is kept elsewhere for its size stays a pointer, also where the user has
/// the program that would bring it: that takes as long as it likes, and may ask for a password.
fn checkout(staging: &Path) -> Call {
    laying(Call::at(staging, "read-tree"))
}

fn laying(call: Call) -> Call {
    let call = call.args(["-u", "--reset"]).limit(BRING);
    let call = call.setting("filter.lfs.smudge", "").setting("filter.lfs.process", "");
    call.setting("filter.lfs.required", "false")
}

/// Whether git says that the far side was asked for a commit and does not have it, or does not give it away.
fn says_absent(said: &str) -> bool {
    ["not our ref", "unadvertised object", "couldn't find remote ref"].iter().any(|sign| said.contains(sign))
}

const NOT_WRITTEN: &str = "what was brought along cannot be written down";

/// Has the agent's git leave alone what was brought along, where that is not known to it anyway. Blocks.
fn exclude(staging: &Path, lent: &Lent) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().append(true).create(true).open(staging.join(".git/info/exclude"))?;
    file.write_all(&lent.patterns())
}

fn not_here(task: TaskId) -> String {
    format!("task {task}, which is to be gone on with, has no worktree on this machine")
}

/// Does what may have to wait for the disk where that keeps nobody else.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Trouble> {
    blocking(work).await.and_then(|result| result).map_err(Trouble::Plain)
}

fn words(what: &'static str) -> impl FnOnce(std::io::Error) -> String {
    move |failure| format!("{what}: {failure}")
}
