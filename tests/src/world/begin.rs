//! Where work starts on the machine, and what is brought along to it.

use makima_core::effect::{Arg, Launch, Prepare, Start};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{Outcome, Prepared};
use uuid::Uuid;

use super::act::TaskKind;
use super::folder::Folder;
use super::machine::Machine;
use super::speaker::Speaker;

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
            recalled: wanted.conversation.as_ref().and_then(|it| Some(self.conversation(it.id)?.0.recall(&it.left))),
            ..Prepared::default()
        };
        if prepared.recalled.as_ref().is_some_and(|recalled| !recalled.is_empty()) {
            self.seen.see("conversation", "what was left stands in it");
        }
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

impl Machine {
    /// Starts the agent of a task, which goes on with a conversation where its command line says so.
    pub(super) fn start(&mut self, id: EffectId, task: TaskId, launch: &Launch, kind: TaskKind) -> Outcome {
        let said = |word: &str| launch.argv.iter().position(|arg| *arg == Arg::Text(word.to_string()));
        let next = |at: usize| launch.argv.get(at + 1);
        let named = match said("--session-id").and_then(next) {
            Some(Arg::Text(name)) => Some(TaskId(Uuid::parse_str(name).expect("a conversation has a task's name"))),
            _ => None,
        };
        let resumed = match said("--resume").and_then(next) {
            Some(Arg::Conversation(name)) => Some(*name),
            _ => None,
        };
        match (named, resumed) {
            (Some(_), None) => self.seen.see("conversation", "begun"),
            (None, Some(_)) => self.seen.see("conversation", "gone on with"),
            (Some(_), Some(_)) => self.seen.see("conversation", "branched off from"),
            (None, None) => {}
        }
        let speaker = launch.argv.iter().any(|arg| *arg == Arg::Text("-p".to_string())).then(|| {
            // Of as many kinds as there are numbers of what started them.
            let number = id.n as u32;
            match (named, resumed) {
                (Some(name), None) => {
                    assert!(self.conversation(name).is_none(), "{task} begins a conversation that there is");
                    Speaker::new(name, number)
                }
                (named, Some(name)) => {
                    let (before, is_at_work) = self
                        .conversation(name)
                        .unwrap_or_else(|| panic!("{task} goes on with {name}, which is not there"));
                    assert!(named.is_some() || !is_at_work, "{task} goes on with {name}, and so does another");
                    before.goes_on(named, number)
                }
                (None, None) => panic!("{task} has no conversation"),
            }
        });
        let sets_up = !launch.setup.is_empty();
        self.folder_of(task).start(id, task, kind, sets_up, speaker)
    }

    /// The newest state of a conversation, where anything stands in it; and whether an agent is at it that should have ended
    /// by now.
    fn conversation(&self, name: TaskId) -> Option<(&Speaker, bool)> {
        let known = self.folders().filter_map(|folder| {
            let speaker =
                folder.speaker.as_ref().filter(|speaker| speaker.is_of(name) && speaker.has_a_transcript())?;
            Some((speaker, folder.process.is_some() && !folder.unkillable))
        });
        known.max_by_key(|(speaker, _)| speaker.begun())
    }
}

impl Folder {
    /// Whether its worktree, or at least its work, is there.
    fn is_to_be_seen(&self) -> bool {
        self.prepared.is_some() && (!self.discarded || self.committed)
    }
}
