//! Telling the branches of subtasks. However many there are, a few processes do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use makima_core::effect::Child;
use makima_core::id::TaskId;
use makima_core::input::{Branch, Outcome};
use uuid::Uuid;

use super::super::Hands;
use super::super::bare::OURS;
use super::super::cancel::Cancel;
use super::super::git::Call;
use super::super::record::Folder;
use super::super::refs;
use super::super::trouble::Trouble;
use super::known::Known;
use super::look::Sight;
use super::squash::History;
use super::{Job, done};
use crate::home::Home;

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

/// How subtasks' work stands to the worktree's commit.
struct Stand {
    sight: Sight,
    /// Where it stands, of those that were asked for.
    tips: BTreeMap<TaskId, String>,
    /// All work in the shared repository.
    here: BTreeMap<TaskId, Found>,
    history: History,
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
    Ok(found.iter().any(|found| found.is_of(&hands.home, parent)))
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
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, '\0');
        let name = fields.next()?;
        let task = TaskId(Uuid::try_parse(name.strip_prefix(OURS)?).ok()?);
        let mut next = || fields.next().map(str::to_owned);
        let (oid, short, parents, subject) = (next()?, next()?, next()?, next()?);
        Some(Self { task, name: name.trim_start_matches("refs/").to_owned(), oid, short, subject, parents })
    }

    /// Whether it is the work of a subtask of that task: as the daemon was told, and only of a task that it knows nothing of as the
    /// commit says, which an agent may have made.
    fn is_of(&self, home: &Home, parent: TaskId) -> bool {
        if let Some(spec) = Folder::of(home, self.task).spec() {
            return spec.parent == Some(parent);
        }
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
        found.retain(|found| found.is_of(&self.hands.home, self.task) && found.task != self.task);
        for found in &mut found {
            found.name = self.name_of(found.task);
        }
        Ok(found)
    }

    pub(super) async fn list(&self, children: &[Child]) -> Result<Outcome, Trouble> {
        self.mend().await?;
        let ended: Vec<TaskId> = children.iter().filter(|child| child.ended).map(|child| child.task).collect();
        let (stand, mut known) = tokio::try_join!(self.stand(&ended), self.known(&ended))?;
        let stand = if self.bring_along(&known).await { self.stand(&ended).await? } else { stand };
        let Stand { sight, tips, here, mut history } = stand;
        let given: BTreeSet<TaskId> = children.iter().map(|child| child.task).collect();
        let trailed = here.values().filter(|found| !given.contains(&found.task) && found.task != self.task);
        let trailed: Vec<&Found> = trailed.filter(|found| found.is_of(&self.hands.home, self.task)).collect();
        let mut asked: BTreeSet<&str> = tips.values().map(String::as_str).collect();
        if !trailed.is_empty() {
            asked.extend(trailed.iter().map(|found| found.oid.as_str()));
            history = self.history(&sight, &asked).await?;
            known.extend(self.known(&trailed.iter().map(|found| found.task).collect::<Vec<_>>()).await?);
        }
        let squashed = self.squashed(&sight, &history, &asked).await?;
        let is_merged = |oid: &str| history.has(oid) || squashed.contains(oid);
        let mut list = Vec::new();
        let mut seen = BTreeSet::new();
        for child in children.iter().filter(|child| seen.insert(child.task)) {
            let name = child.branch.as_ref().map_or_else(|| self.name_of(child.task), ToString::to_string);
            let known = known.get(&child.task);
            let merged = known.is_some_and(|known| known.is_merged(tips.get(&child.task), is_merged));
            list.push(match here.get(&child.task) {
                Some(found) => found.told(name, merged),
                None => {
                    let tip = known.and_then(Known::tip).map(str::to_owned);
                    let commit = short(&tip.or_else(|| self.base_of(child.task)).unwrap_or_default());
                    Branch { name, task: Some(child.task), merged, commit, subject: String::new() }
                }
            });
        }
        list.extend(trailed.iter().map(|found| {
            let merged = known.get(&found.task).is_some_and(|known| known.is_merged(Some(&found.oid), is_merged));
            found.told(self.name_of(found.task), merged)
        }));
        Ok(Outcome::Branches { list, merging: sight.merging.is_some() })
    }

    /// How these subtasks' work stands to the worktree's commit. What people read of it, and what is merged, two gits
    /// find out at once: where the work stands is read without one.
    async fn stand(&self, ended: &[TaskId]) -> Result<Stand, Trouble> {
        let merged = async {
            let (sight, tips) = tokio::try_join!(self.look(), self.tips(ended))?;
            let asked = tips.values().map(String::as_str).collect();
            let history = self.history(&sight, &asked).await?;
            Ok((sight, tips, history))
        };
        let all = all(self.hands, self.cancel, &self.bare, OURS);
        let ((sight, tips, history), here) = tokio::try_join!(merged, all)?;
        let here = here.into_iter().map(|found| (found.task, found)).collect();
        Ok(Stand { sight, tips, here, history })
    }

    /// Where the work of these subtasks stands in the repository that this one borrows from.
    async fn tips(&self, ended: &[TaskId]) -> Result<BTreeMap<TaskId, String>, Trouble> {
        let (bare, ended) = (self.bare.clone(), ended.to_vec());
        done(move || {
            let found = refs::some(&bare, ended.iter().map(|task| format!("{OURS}{task}")));
            let tip = |task: TaskId| Some((task, found.get(&format!("{OURS}{task}"))?.clone()));
            Ok(ended.into_iter().filter_map(tip).collect())
        })
        .await
    }

    /// The commit that a task started from, if that is known.
    fn base_of(&self, task: TaskId) -> Option<String> {
        Folder::of(&self.hands.home, task).standing().ok().flatten()?.prepared.base
    }
}

fn short(oid: &str) -> String {
    oid.chars().take(7).collect()
}

impl Found {
    fn told(&self, name: String, merged: bool) -> Branch {
        Branch { name, task: Some(self.task), merged, commit: self.short.clone(), subject: self.subject.clone() }
    }
}
