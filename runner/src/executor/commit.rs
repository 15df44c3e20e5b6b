//! Committing what an agent left, and bringing it into the bare repository.
//!
//! Everything in the worktree that is not ignored is committed, also
//! - an unfinished merge, rebase or cherry-pick: as it is, and said in the subject. A merge with conflicts left is none yet:
//!   what it was to bring is no parent of it, else its branch would be told to be merged;
//! - what was done away from our branch: the branch is put at the result, and commits of the branch that the
//!   result does not lead to are kept under `refs/makima/kept/`;
//! - repositories that the agent made inside: their files, as plain files. A link to a commit that nobody
//!   else has would be the loss of what it points to. Their own history stays in the worktree.
//!
//! If the agent's repository cannot be used, its files are committed on top of where the work started.

use std::path::PathBuf;

use makima_core::effect::Commit;
use makima_core::id::TaskId;
use makima_core::input::Change;

use super::bare::OURS;
use super::brought::Lent;
use super::cancel::Cancel;
use super::git::{Answer, BRING, Call};
use super::harvest::{self, Harvest};
use super::merge::{shown, unmerged};
use super::record::Folder;
use super::scene::Scene;
use super::scratch::Scratch;
use super::stage::{Staged, stage};
use super::trouble::Trouble;
use super::workshop::{KEPT, RESULT, Trust, Workshop};
use super::{Hands, blocking, foreign, refs, shut, sign, sparse, user};

/// So many files are named in a note.
const NAMED: usize = 5;

/// More than anybody merges at once. Each is looked at, and an agent may have written any number.
const PARENTS_MAX: usize = 64;

/// Commits the work of `task`. None if there is none.
pub(super) async fn commit(
    hands: &Hands,
    task: TaskId,
    wanted: &Commit,
    cancel: &Cancel,
) -> Result<Option<Change>, String> {
    let folder = Folder::of(&hands.home, task);
    // Until it is known to be in a commit, it is known not to be.
    harvest::note(&folder, Harvest::Lies { why: "it was being committed".to_owned() }).await;
    let made = bring_in(hands, task, wanted, cancel).await;
    let harvest = match &made {
        Ok(Some(change)) => Harvest::Commit { tip: change.commit.clone() },
        Ok(None) => Harvest::Nothing,
        Err(why) => Harvest::Lies { why: why.clone() },
    };
    harvest::note(&folder, harvest).await;
    made
}

async fn bring_in(hands: &Hands, task: TaskId, wanted: &Commit, cancel: &Cancel) -> Result<Option<Change>, String> {
    let folder = Folder::of(&hands.home, task);
    let worktree = hands.home.worktree(task);
    let standing = folder.standing().map_err(|why| format!("it cannot be known where its work belongs: {why}"))?;
    let Some(standing) = standing else { return Ok(None) };
    if !foreign::is_folder(&worktree) {
        return Err(format!("its worktree {} is gone", worktree.display()));
    }
    let scene = {
        let (worktree, branch, bare) = (worktree.clone(), wanted.branch.clone(), standing.bare.clone());
        blocking(move || {
            shut::open(&worktree, 0o700);
            Scene::of(&worktree, branch.as_str(), &bare)
        })
        .await?
    };
    let lent = Lent::to(hands, task).await.map_err(Trouble::into_words)?;
    let trusts: &[Trust] = if scene.lends { &[Trust::All, Trust::Objects, Trust::Nothing] } else { &[Trust::Nothing] };
    let lies = format!("; it lies in {}", worktree.display());
    let job = Job { hands, task, wanted, cancel, worktree, bare: standing.bare, scene, lent };
    let mut last = String::new();
    for trust in trusts {
        match job.attempt(*trust).await {
            Ok(change) => return Ok(change),
            Err(Trouble::Damaged(why)) => {
                tracing::warn!("{}: {why}; it is tried with less of it", job.worktree.display());
                last = why;
            }
            Err(Trouble::Plain(why)) => {
                last = why;
                break;
            }
        }
    }
    Err(last + &lies)
}

struct Job<'a> {
    hands: &'a Hands,
    task: TaskId,
    wanted: &'a Commit,
    cancel: &'a Cancel,
    worktree: PathBuf,
    bare: PathBuf,
    scene: Scene,
    /// What is no part of its work.
    lent: Lent,
}

/// What the work has become.
struct Work {
    tip: String,
    /// The former tip of our branch, if the new one does not lead to it.
    kept: Option<String>,
    notes: Vec<String>,
}

impl Job<'_> {
    async fn attempt(&self, trust: Trust) -> Result<Option<Change>, Trouble> {
        let long = self.wanted.base.as_ref().is_some_and(|base| base.len() == 64);
        let (shop, index) = self.open(trust, long).await?;
        let parent = self.parent(&shop, trust).await?;
        if !index {
            let folder = Folder::of(&self.hands.home, self.task);
            sparse::index_of(self.hands, self.cancel, &shop, parent.as_deref(), &folder).await?;
        }
        let unsettled = self.unsettled(&shop).await?;
        let Staged { mut notes, left_out } = stage(self.hands, self.cancel, &shop, self.wanted.base.as_deref()).await?;
        self.lent.leave_out(&self.hands.git, self.cancel, &shop, parent.as_deref()).await?;
        notes.extend(left_out.iter().cloned());
        if trust == Trust::Nothing || (parent.is_none() && self.wanted.base.is_some()) {
            notes.push("the agent had broken its repository; its files are committed on top of the base".to_owned());
        }
        let work = match self.result(&shop, parent, (trust, &unsettled), notes).await? {
            Some(work) => work,
            None => {
                // That is work, too.
                return if left_out.is_empty() { Ok(None) } else { Err(Trouble::Plain(left_out.join("; "))) };
            }
        };
        self.bring(&shop, &work).await?;
        let change = self.change(&shop, &work).await?;
        if trust != Trust::Nothing {
            self.finish(&shop, work.tip).await;
        }
        Ok(Some(change))
    }

    async fn open(&self, trust: Trust, long: bool) -> Result<(Workshop, bool), Trouble> {
        let (scratch, worktree, bare) =
            (Scratch::of(&self.hands.home, self.task), self.worktree.clone(), self.bare.clone());
        let (scene, lent) = (self.scene.clone(), self.lent.clone());
        let (walls, folder) = (self.hands.walls(), Folder::of(&self.hands.home, self.task));
        let opened = blocking(move || {
            let walls = walls(&[&worktree, folder.path(), &bare]);
            let (shop, index) = Workshop::open(&scratch, &worktree, &bare, &scene, (trust, long), &walls)?;
            shop.leave_alone(&lent)?;
            Ok::<_, std::io::Error>((shop, index))
        })
        .await;
        let plain = |why: String| Trouble::Plain(format!("nothing can be committed: {why}"));
        opened.map_err(plain)?.map_err(|failure| plain(failure.to_string()))
    }

    async fn finish(&self, shop: &Workshop, tip: String) {
        let (scene, branch, index) = (self.scene.clone(), self.wanted.branch.clone(), shop.index());
        let finished = blocking(move || scene.finish(branch.as_str(), &index, &tip)).await;
        if let Err(why) = finished.and_then(|finished| finished.map_err(|failure| failure.to_string())) {
            tracing::warn!("the branch in the worktree is not at the result: {why}");
        }
    }

    /// The commit that the files belong to: the agent's, our branch's, else where the work started.
    async fn parent(&self, shop: &Workshop, trust: Trust) -> Result<Option<String>, Trouble> {
        if trust != Trust::Nothing {
            for oid in [&self.scene.head, &self.scene.tip].into_iter().flatten() {
                if self.is_commit(shop, oid).await? {
                    return Ok(Some(oid.clone()));
                }
            }
        }
        Ok(self.wanted.base.clone())
    }

    /// The files that wait to be settled, before all that is there is staged.
    async fn unsettled(&self, shop: &Workshop) -> Result<Vec<String>, Trouble> {
        let listed = self.run(shop.call("ls-files").args(["--unmerged", "-z"])).await?.out;
        Ok(unmerged(&listed).iter().map(|path| shown(path)).collect())
    }

    /// What was being merged, as far as it is there and `parent` has not got it yet.
    async fn merging(&self, shop: &Workshop, parent: Option<&str>, trust: Trust) -> Result<Vec<String>, Trouble> {
        let mut merging = Vec::new();
        for oid in self.scene.merging.iter().filter(|_| trust != Trust::Nothing).take(PARENTS_MAX) {
            let is_news = self.is_commit(shop, oid).await?
                && match parent {
                    Some(parent) => !self.leads_to(shop, parent, oid).await?,
                    None => true,
                };
            if is_news {
                merging.push(oid.clone());
            }
        }
        Ok(merging)
    }

    async fn is_commit(&self, shop: &Workshop, oid: &str) -> Result<bool, Trouble> {
        let call = shop.call("rev-parse").args(["--verify", "--quiet"]).fine(&[0, 1, 128]);
        Ok(self.run(call.names([format!("{oid}^{{commit}}")])).await?.code == 0)
    }

    /// What is staged, as a commit if it is not one yet.
    async fn result(
        &self,
        shop: &Workshop,
        parent: Option<String>,
        (trust, unsettled): (Trust, &[String]),
        mut notes: Vec<String>,
    ) -> Result<Option<Work>, Trouble> {
        let tree = self.line(shop.call("write-tree")).await?;
        let before = match &parent {
            Some(parent) => {
                let call = shop.call("rev-parse").args(["--verify", "--quiet"]);
                Some(self.line(call.names([format!("{parent}^{{tree}}")])).await?)
            }
            None => None,
        };
        let mut merging = self.merging(shop, parent.as_deref(), trust).await?;
        let nothing = match &before {
            Some(before) => *before == tree,
            None => self.run(shop.call("ls-files").arg("--cached")).await?.out.is_empty(),
        };
        let unfinished = self.scene.unfinished.filter(|_| trust != Trust::Nothing);
        notes.extend(unfinished.map(str::to_owned));
        if !unsettled.is_empty() && !merging.is_empty() {
            notes.push(format!("{} is not merged: conflicts are left in {}", merging.join(", "), some(unsettled)));
            merging.clear();
        }
        let mut tip = if nothing && merging.is_empty() {
            parent
        } else {
            let parents: Vec<&str> = parent.iter().chain(&merging).map(String::as_str).collect();
            let (made, note) = self.make(shop, &tree, &parents, unfinished).await?;
            notes.extend(note);
            Some(made)
        };
        let mut kept = self.scene.tip.clone().filter(|_| trust != Trust::Nothing && !self.scene.on_branch);
        if let (Some(branch), Some(now)) = (&kept, &tip) {
            if self.leads_to(shop, now, branch).await? {
                kept = None;
            } else if nothing && self.leads_to(shop, branch, now).await? {
                // The agent only went back to look.
                tip = kept.take();
            }
        }
        if let Some(kept) = &kept {
            notes.push(format!("the branch was at {kept} before, which is kept as {OURS}kept/{}", self.task));
        }
        let tip = tip.filter(|tip| Some(tip) != self.wanted.base.as_ref() || kept.is_some());
        Ok(tip.map(|tip| Work { tip, kept, notes }))
    }

    async fn leads_to(&self, shop: &Workshop, from: &str, to: &str) -> Result<bool, Trouble> {
        let call = shop.call("merge-base").arg("--is-ancestor").fine(&[0, 1]);
        Ok(self.run(call.names([to, from])).await?.code == 0)
    }

    /// A commit of this tree; the one that an earlier try has made, if there is one. And what a person should know of it.
    async fn make(
        &self,
        shop: &Workshop,
        tree: &str,
        parents: &[&str],
        note: Option<&str>,
    ) -> Result<(String, Option<String>), Trouble> {
        if let Some(made) = refs::find(&self.bare, &self.name()).await {
            let said = self.run(shop.call("cat-file").fine(&[0, 128]).args(["commit", &made])).await?;
            let said = String::from_utf8_lossy(&said.out);
            let links = said.lines().map_while(|line| line.strip_prefix("tree ").or(line.strip_prefix("parent ")));
            if links.eq(std::iter::once(tree).chain(parents.iter().copied())) {
                return Ok((made, None));
            }
        }
        let message = self.wanted.text.message(note);
        let user = user::of_task(self.hands, self.task, self.cancel).await;
        let call = || shop.call("commit-tree");
        sign::keep(self.hands, &user, self.cancel, call, (tree, parents), message).await
    }

    fn name(&self) -> String {
        format!("{OURS}{}", self.task)
    }

    /// Brings the work into the bare repository, and looks whether it is there.
    async fn bring(&self, shop: &Workshop, work: &Work) -> Result<(), Trouble> {
        let mut wanted = vec![format!("+{RESULT}:{}", self.name())];
        let point = |name, oid: &str| {
            shop.point(name, oid).map_err(|failure| Trouble::Plain(format!("the result cannot be named: {failure}")))
        };
        point(RESULT, &work.tip)?;
        if let Some(kept) = &work.kept {
            point(KEPT, kept)?;
            wanted.push(format!("+{KEPT}:{OURS}kept/{}", self.task));
        }
        let bare = self.hands.bare(self.bare.clone());
        bare.take_walled(self.hands, self.cancel, &shop.git, &wanted, shop.walls()).await?;
        if refs::find(&bare.path, &self.name()).await.as_deref() == Some(work.tip.as_str()) {
            Ok(())
        } else {
            Err(Trouble::Plain(format!("{} is not in {}", work.tip, bare.path.display())))
        }
    }

    async fn change(&self, shop: &Workshop, work: &Work) -> Result<Change, Trouble> {
        let nothing = self.line(shop.call("hash-object").args(["-t", "tree", "/dev/null"])).await;
        let base = match &self.wanted.base {
            Some(base) => base.clone(),
            None => nothing?,
        };
        let call = shop.call("diff-tree").args(["-r", "-M", "--shortstat", "--no-ext-diff", "--no-textconv"]);
        // Else git reads what the worktree's `.gitmodules` says of them.
        let call = call.arg("--ignore-submodules=none").limit(BRING);
        let said = self.run(call.names([base.as_str(), &work.tip])).await?.line().unwrap_or_default();
        let mut change = Change { commit: work.tip.clone(), files: 0, insertions: 0, deletions: 0, note: None };
        for part in said.split(", ") {
            let (number, what) = part.trim().split_once(' ').unwrap_or_default();
            let number = number.parse().unwrap_or_default();
            match what.chars().next() {
                Some('f') => change.files = number,
                Some('i') => change.insertions = number,
                Some('d') => change.deletions = number,
                Some(_) | None => {}
            }
        }
        let call = shop.call("diff-tree");
        let borne = self.lent.borne(&self.hands.git, self.cancel, call, &base, &work.tip).await?;
        let notes: Vec<String> = work.notes.iter().cloned().chain(borne).collect();
        change.note = (!notes.is_empty()).then(|| notes.join("; "));
        Ok(change)
    }

    async fn run(&self, call: Call) -> Result<Answer, Trouble> {
        Ok(self.hands.git.run(self.cancel, call).await?)
    }

    async fn line(&self, call: Call) -> Result<String, Trouble> {
        let answer = self.run(call).await?;
        answer.line().ok_or_else(|| Trouble::Plain("git answered nothing".to_owned()))
    }
}

/// The first of these, and how many more there are.
fn some(paths: &[String]) -> String {
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| format!("`{path}`")).collect();
    let more = paths.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &rest
}
