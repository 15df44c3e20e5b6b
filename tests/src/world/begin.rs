//! Where work starts on the machine, and what is brought along to it.

use makima_core::effect::{Prepare, Start};
use makima_core::id::TaskId;
use makima_core::input::{Outcome, Prepared};

use super::act::TaskKind;
use super::folder::Folder;
use super::machine::Machine;

/// The one commit of the user's repository, which has a branch and a tag.
const BASE: &str = "0123456789abcdef0123456789abcdef01234567";
const NAMES: [&str; 3] = ["main", "first", BASE];

/// The one file that agents write.
pub(super) const FILE: &str = "x";

impl Machine {
    /// Makes a worktree.
    pub(super) fn prepare(&mut self, task: TaskId, wanted: &Prepare, kind: TaskKind) -> Outcome {
        let here = wanted.repository.is_some();
        let default = here.then(|| BASE.to_string());
        let mut laid = false;
        let base = match &wanted.start {
            Start::At(name) if here && !NAMES.contains(&name.as_str()) => {
                return Outcome::Failed(format!("/repository has no branch, tag or commit `{name}`"));
            }
            Start::Default | Start::At(_) => default,
            Start::Parent(parent) => self.head(*parent).or(default),
            Start::Continue(other) => {
                let Some(folder) = self.folder(*other).filter(|folder| folder.is_to_be_seen()) else {
                    return Outcome::Failed(format!("{other} has nothing here that could be gone on with"));
                };
                laid = folder.dirty && !folder.discarded;
                self.head(*other)
            }
        };
        // Git leaves alone what is brought along: it is nobody's change.
        let mut notes = Vec::new();
        if let Some(copy) = &wanted.copy {
            let from = self.folder(copy.from).filter(|folder| folder.prepared.is_some() && !folder.discarded);
            let has = |path: &str| path == FILE && from.is_some_and(|folder| folder.dirty || folder.committed);
            let missing = copy.paths.iter().filter(|path| !has(path.as_str()));
            notes.extend(missing.map(|path| format!("`{}` was not brought along", path.as_str())));
        }
        let commands = if kind.checks { vec!["true".to_string()] } else { Vec::new() };
        let prepared = Prepared {
            base,
            local: here.then(|| "/repository".to_string()),
            notes,
            setup: commands.clone(),
            checks: commands,
            ..Prepared::default()
        };
        let folder = self.folder_of(task);
        assert!(folder.spec.is_some(), "{task} is prepared before it is written down");
        let prepared = folder.prepared.get_or_insert(prepared).clone();
        folder.laid |= laid && !folder.started;
        Outcome::Prepared(prepared)
    }

    /// The last commit of a task, where it has one here.
    fn head(&self, task: TaskId) -> Option<String> {
        let folder = self.folder(task).filter(|folder| folder.is_to_be_seen())?;
        folder.tip.clone().or_else(|| folder.prepared.as_ref()?.base.clone())
    }
}

impl Folder {
    /// Whether its worktree, or at least its work, is there.
    fn is_to_be_seen(&self) -> bool {
        self.prepared.is_some() && (!self.discarded || self.committed)
    }
}
