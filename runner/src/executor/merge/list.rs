//! Telling the branches of subtasks. However many there are, a few processes do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use makima_core::effect::Child;
use makima_core::id::TaskId;
use makima_core::input::{Branch, Outcome};
use uuid::Uuid;

use super::super::Hands;
use super::super::bare::OURS;
use super::super::cancel::Cancel;
use super::super::git::{BRING, Call};
use super::super::record::Folder;
use super::super::refs;
use super::super::trouble::Trouble;
use super::look::Sight;
use super::{Job, done};

/// Names the parent of whoever made a commit.
const PARENT: &str = "Makima-Parent";

/// Work of a task, as it stands in the shared repository.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) task: TaskId,
    pub(super) name: String,
    pub(super) oid: String,
    short: String,
    subject: String,
    parents: String,
}

/// Whether the work of `child` says that it is a subtask of `parent`.
pub(super) async fn bears(
    hands: &Hands,
    cancel: &Cancel,
    bare: &Path,
    child: TaskId,
    parent: TaskId,
) -> Result<bool, Trouble> {
    let bare = Folder::of(&hands.home, child).standing().ok().flatten().map_or_else(|| bare.to_path_buf(), |s| s.bare);
    let found = all(hands, cancel, &bare, &format!("{OURS}{child}")).await?;
    Ok(found.iter().any(|found| found.is_of(parent)))
}

/// The work that stands under a name or in a folder of names.
async fn all(hands: &Hands, cancel: &Cancel, bare: &Path, under: &str) -> Result<Vec<Found>, Trouble> {
    let trailer = format!("%(trailers:key={PARENT},valueonly,separator=%2C)");
    let format = format!("--format=%(refname)%00%(objectname)%00%(objectname:short)%00{trailer}%00%(contents:subject)");
    let said = hands.git.run(cancel, Call::on(bare, "for-each-ref").arg(format).names([under])).await?;
    let said = String::from_utf8_lossy(&said.out).into_owned();
    Ok(said.lines().filter_map(Found::read).collect())
}

impl Found {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, '\0');
        let name = fields.next()?;
        let task = TaskId(Uuid::try_parse(name.strip_prefix(OURS)?).ok()?);
        let mut next = || fields.next().map(str::to_owned);
        let (oid, short, parents, subject) = (next()?, next()?, next()?, next()?);
        Some(Self { task, name: name.trim_start_matches("refs/").to_owned(), oid, short, subject, parents })
    }

    fn is_of(&self, parent: TaskId) -> bool {
        let parent = parent.to_string();
        self.parents.split(',').any(|named| named.trim().eq_ignore_ascii_case(&parent))
    }
}

impl Job<'_> {
    /// What people call the branch of a task that only its work tells of.
    pub(super) fn name_of(&self, task: TaskId) -> String {
        let spec = Folder::of(&self.hands.home, task).spec();
        spec.map_or_else(|| format!("makima/{task}"), |spec| spec.branch.to_string())
    }

    /// Subtasks that only their work tells of.
    pub(super) async fn others(&self) -> Result<Vec<Found>, Trouble> {
        let mut found = all(self.hands, self.cancel, &self.bare, OURS).await?;
        found.retain(|found| found.is_of(self.task) && found.task != self.task);
        for found in &mut found {
            found.name = self.name_of(found.task);
        }
        Ok(found)
    }

    pub(super) async fn list(&self, children: &[Child]) -> Result<Outcome, Trouble> {
        self.mend().await?;
        let all = || all(self.hands, self.cancel, &self.bare, OURS);
        let (sight, elsewhere, here) = tokio::try_join!(self.look(), self.elsewhere(children), all())?;
        let here = if elsewhere.is_empty() {
            here
        } else {
            self.bring_along(elsewhere).await;
            all().await?
        };
        let here: BTreeMap<TaskId, Found> = here.into_iter().map(|found| (found.task, found)).collect();
        let given: BTreeSet<TaskId> = children.iter().map(|child| child.task).collect();
        let trailed = here.values().filter(|found| !given.contains(&found.task) && found.task != self.task);
        let trailed: Vec<&Found> = trailed.filter(|found| found.is_of(self.task)).collect();
        let ended = children.iter().filter(|child| child.ended).filter_map(|child| here.get(&child.task));
        let asked: BTreeSet<&str> = ended.chain(trailed.iter().copied()).map(|found| found.oid.as_str()).collect();
        let unmerged = self.unmerged(&sight, &asked).await?;
        // What goes on from the worktree's commit was not squashed into it.
        let aside = asked.iter().copied().filter(|oid| unmerged.get(*oid) == Some(&false)).collect();
        let squashed = self.squashed(&sight, &aside).await?;
        let is_merged = |oid: &str| !unmerged.contains_key(oid) || squashed.contains(oid);
        let mut list = Vec::new();
        let mut seen = BTreeSet::new();
        for child in children.iter().filter(|child| seen.insert(child.task)) {
            let name = child.branch.as_ref().map_or_else(|| self.name_of(child.task), ToString::to_string);
            list.push(match here.get(&child.task) {
                Some(found) => found.told(name, child.ended && is_merged(&found.oid)),
                None => Branch {
                    name,
                    task: Some(child.task),
                    merged: child.ended,
                    commit: self.base_of(child.task),
                    subject: String::new(),
                },
            });
        }
        list.extend(trailed.iter().map(|found| found.told(self.name_of(found.task), is_merged(&found.oid))));
        Ok(Outcome::Branches { list, merging: sight.merging.is_some() })
    }

    /// The short id of the commit that a task started from, if that is known.
    fn base_of(&self, task: TaskId) -> String {
        let standing = Folder::of(&self.hands.home, task).standing().ok().flatten();
        let base = standing.and_then(|standing| standing.prepared.base).unwrap_or_default();
        base.chars().take(7).collect()
    }

    /// The work of subtasks on other repositories that is not here, by repository.
    async fn elsewhere(&self, children: &[Child]) -> Result<BTreeMap<PathBuf, Vec<String>>, Trouble> {
        let (home, own) = (self.hands.home.clone(), self.bare.clone());
        let tasks: Vec<TaskId> = children.iter().filter(|child| child.ended).map(|child| child.task).collect();
        done(move || {
            let mut wanted: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
            for task in tasks {
                let Some(standing) = Folder::of(&home, task).standing().ok().flatten() else { continue };
                let name = format!("{OURS}{task}");
                let other = standing.bare;
                if other != own && refs::one(&other, &name).is_some_and(|tip| refs::one(&own, &name) != Some(tip)) {
                    wanted.entry(other).or_default().push(format!("+{name}:{name}"));
                }
            }
            Ok(wanted)
        })
        .await
    }

    async fn bring_along(&self, elsewhere: BTreeMap<PathBuf, Vec<String>>) {
        for (other, names) in elsewhere {
            // Of another kind, or damaged: it is told as not merged.
            if let Err(why) = self.hands.bare(self.bare.clone()).take(self.hands, self.cancel, &other, &names).await {
                tracing::warn!("work in {} cannot be brought along: {}", other.display(), why.into_words());
            }
        }
    }

    /// The commits that lead to these and that the worktree's commit does not have, and whether they go on from that.
    async fn unmerged(&self, sight: &Sight, asked: &BTreeSet<&str>) -> Result<BTreeMap<String, bool>, Trouble> {
        let lenders = refs::quoted(&self.git.join("objects"));
        let call = Call::on(&self.bare, "rev-list").env("GIT_ALTERNATE_OBJECT_DIRECTORIES", lenders);
        let asked: String = asked.iter().map(|oid| format!("{oid}\n")).collect();
        let call = call.args(["--parents", "--stdin"]).input(format!("^{}\n{asked}", sight.at));
        let said = self.run(call.limit(BRING)).await?.out;
        Ok(related(&String::from_utf8_lossy(&said), &sight.at))
    }

    /// Those of which the worktree's commit has everything: their merge would change nothing.
    async fn squashed(&self, sight: &Sight, left: &BTreeSet<&str>) -> Result<BTreeSet<String>, Trouble> {
        if left.is_empty() {
            return Ok(BTreeSet::new());
        }
        let shop = self.open(sight).await?;
        let tree = self.line(shop.call("rev-parse").arg("--verify").names([format!("{}^{{tree}}", sight.at)])).await?;
        let lines: String = left.iter().map(|oid| format!("{} {oid}\n", sight.at)).collect();
        let call = shop.call("merge-tree").args(["--stdin", "-z", "--no-messages", "--allow-unrelated-histories"]);
        let said = match self.run(call.input(lines).limit(BRING)).await {
            Ok(said) => said.out,
            // One that cannot be read is not known to be merged, nor is any other then.
            Err(why) => {
                tracing::warn!("it is not known which branches were squashed: {}", why.into_words());
                return Ok(BTreeSet::new());
            }
        };
        Ok(left
            .iter()
            .zip(results(&said))
            .filter(|(_, result)| *result == Some(tree.clone()))
            .map(|(oid, _)| (*oid).to_owned())
            .collect())
    }
}

/// The trees of clean merges. Each answer is `<status>\0<tree>\0`, files in conflict, and `\0`.
fn results(said: &[u8]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    let mut fields = said.split(|byte| *byte == 0);
    while let (Some(status), Some(tree)) = (fields.next(), fields.next()) {
        if status.is_empty() {
            break;
        }
        found.push((status == b"1").then(|| String::from_utf8_lossy(tree).into_owned()));
        // Up to the end of the answer.
        let _ = fields.by_ref().take_while(|field| !field.is_empty()).count();
    }
    found
}

impl Found {
    fn told(&self, name: String, merged: bool) -> Branch {
        Branch { name, task: Some(self.task), merged, commit: self.short.clone(), subject: self.subject.clone() }
    }
}

/// Of commits, each listed with its parents, whether `at` leads to them.
fn related(listed: &str, at: &str) -> BTreeMap<String, bool> {
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut found: BTreeMap<&str, bool> = BTreeMap::new();
    for line in listed.lines() {
        let mut oids = line.split(' ');
        let Some(commit) = oids.next() else { continue };
        found.insert(commit, false);
        for parent in oids {
            children.entry(parent).or_default().push(commit);
        }
    }
    let mut next = vec![at];
    while let Some(commit) = next.pop() {
        for child in children.remove(commit).unwrap_or_default() {
            found.insert(child, true);
            next.push(child);
        }
    }
    found.into_iter().map(|(commit, goes_on)| (commit.to_owned(), goes_on)).collect()
}
