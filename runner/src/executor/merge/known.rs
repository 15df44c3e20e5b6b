//! What is known of subtasks that have ended, beside the work of theirs that is here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use makima_core::id::TaskId;

use super::super::bare::OURS;
use super::super::harvest::Harvest;
use super::super::record::Folder;
use super::super::refs;
use super::super::trouble::Trouble;
use super::{Job, done};

/// What is known of one.
pub(super) struct Known {
    harvest: Harvest,
    /// Another shared repository that has its work, and where that stands.
    elsewhere: Option<(PathBuf, String)>,
}

impl Known {
    /// Whether the worktree's commit has all of it. What could not be committed, or not be brought here, is lost from
    /// sight where it is taken for nothing.
    pub(super) fn is_merged(&self, here: Option<&String>, is_merged: impl Fn(&str) -> bool) -> bool {
        let is_behind = self.elsewhere.as_ref().is_some_and(|(_, tip)| here != Some(tip));
        match (&self.harvest, here) {
            (Harvest::Lies { .. }, _) => false,
            _ if is_behind => false,
            (_, Some(tip)) => is_merged(tip),
            (Harvest::Nothing, None) => true,
            (Harvest::Commit { .. }, None) => false,
        }
    }

    /// Where its work stands, wherever that is.
    pub(super) fn tip(&self) -> Option<&str> {
        match (&self.elsewhere, &self.harvest) {
            (Some((_, tip)), _) | (None, Harvest::Commit { tip }) => Some(tip),
            (None, Harvest::Nothing | Harvest::Lies { .. }) => None,
        }
    }
}

impl Job<'_> {
    /// What is known of these.
    pub(super) async fn known(&self, ended: &[TaskId]) -> Result<BTreeMap<TaskId, Known>, Trouble> {
        let (home, own, ended) = (self.hands.home.clone(), self.bare.clone(), ended.to_vec());
        done(move || {
            let known = |task: TaskId| {
                let folder = Folder::of(&home, task);
                let harvest = Harvest::of(&folder);
                let other = folder.standing().ok().flatten().map(|standing| standing.bare);
                let other = other.filter(|other| *other != own);
                let elsewhere = other.and_then(|other| refs::one(&other, &name(task)).map(|tip| (other, tip)));
                (task, Known { harvest, elsewhere })
            };
            Ok(ended.into_iter().map(known).collect())
        })
        .await
    }

    /// Brings the work of subtasks on other repositories here, where it is not yet. Says whether any was to be brought.
    pub(super) async fn bring_along(&self, known: &BTreeMap<TaskId, Known>) -> bool {
        let mut wanted: BTreeMap<&PathBuf, Vec<String>> = BTreeMap::new();
        for (task, known) in known {
            if let Some((other, tip)) = &known.elsewhere
                && refs::find(&self.bare, &name(*task)).await.as_deref() != Some(tip)
            {
                wanted.entry(other).or_default().push(format!("+{0}:{0}", name(*task)));
            }
        }
        for (other, names) in &wanted {
            let bare = self.hands.bare(self.bare.clone());
            let Err(why) = bare.take(self.hands, self.cancel, other, names).await else { continue };
            // Of another kind, or damaged: it is told as not merged. One that is damaged must not keep the others.
            tracing::warn!("work in {} cannot be brought along: {}", other.display(), why.into_words());
            for name in names.iter().filter(|_| names.len() > 1 && !self.cancel.is_set()) {
                if let Err(why) = bare.take(self.hands, self.cancel, other, std::slice::from_ref(name)).await {
                    tracing::warn!("{name} in {} cannot be brought along: {}", other.display(), why.into_words());
                }
            }
        }
        !wanted.is_empty()
    }
}

/// Where the work of a task stands.
fn name(task: TaskId) -> String {
    format!("{OURS}{task}")
}
