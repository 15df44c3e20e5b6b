//! Commands of the server's that have an answer of their own: about merging, handing the work over, copying it. Each
//! is one effect, which may be asked for again after a crash, and whose answer becomes the command's.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::conflict::Conflict;
use super::cx::{Cx, Wait};
use super::prepare::{given_up, reason};
use super::spec::{Completion, Spec};
use super::words;
use crate::effect::{Child, Deed, Delivery, Merge, Side, Source, Work};
use crate::id::{EffectId, TaskId};
use crate::input::{Branch, Merging, Outcome};
use crate::limits;
use crate::outbox::{Gate, MergeOpen, MergeWent, Report};
use crate::policy::{CommitText, cut};
use crate::time::Millis;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// `listBranches`
    Branches,
    /// `mergeStatus`
    Status,
    /// `checkMergeComplete`
    Gate,
    /// `mergeStart`
    Start { branch: String, child: Option<TaskId> },
    /// `mergeResolve`
    Resolve { file: String, side: Side },
    /// `mergeCommit`
    Commit { message: Option<String> },
    /// `mergeAbort`
    Abort,
    /// `mergeSkip`
    Skip { child: TaskId, why: String },
    /// `retryCompletionAction`
    Retry { deed: Deed, target: Option<String>, into: Option<String> },
    /// `cloneWorktree`
    Clone { to: String },
}

impl Errand {
    /// Whether it changes the worktree, and not only looks at it.
    pub(crate) const fn moves_the_merge(&self) -> bool {
        match self {
            Self::Start { .. } | Self::Resolve { .. } | Self::Commit { .. } | Self::Abort | Self::Skip { .. } => true,
            Self::Branches | Self::Status | Self::Gate | Self::Retry { .. } | Self::Clone { .. } => false,
        }
    }

    /// Its answer where it is not carried out.
    pub(crate) fn refused(&self, why: String) -> Report {
        match self {
            Self::Branches => Report::Branches(Vec::new()),
            Self::Status => Report::MergeStatus(None),
            Self::Gate => Report::Gate(Gate::default()),
            Self::Start { .. } | Self::Resolve { .. } | Self::Commit { .. } | Self::Abort | Self::Skip { .. } => {
                Report::merge_refused(why)
            }
            Self::Retry { .. } => Report::action_refused(why),
            Self::Clone { .. } => Report::clone_refused(why),
        }
    }

    /// What is to be done for it. `children` are the task's subtasks that are known.
    fn work(&self, spec: &Spec, children: &[Child]) -> Work {
        let child = |id: TaskId| {
            let known = children.iter().find(|child| child.task == id).cloned();
            known.unwrap_or(Child { task: id, branch: None, ended: true })
        };
        match self {
            Self::Branches | Self::Gate => Work::Merge(Merge::List { children: children.to_vec() }),
            Self::Status => Work::Merge(Merge::Status),
            Self::Start { child: Some(id), .. } => Work::Merge(Merge::Start { source: Source::Child(child(*id)) }),
            Self::Start { branch, child: None } => Work::Merge(Merge::Start { source: Source::Branch(branch.clone()) }),
            Self::Resolve { file, side } => Work::Merge(Merge::Resolve { file: file.clone(), side: *side }),
            Self::Commit { message } => {
                let trailers = CommitText::of(&spec.name, spec.id, spec.parent).trailers;
                Work::Merge(Merge::Commit { message: message.clone(), trailers })
            }
            Self::Abort => Work::Merge(Merge::Abort),
            Self::Skip { child: id, why } => Work::Merge(Merge::Skip { child: child(*id), reason: why.clone() }),
            Self::Retry { deed, target, into } => {
                Work::Deliver(alloc::boxed::Box::new(delivery(spec, *deed, target.clone(), into.clone(), None)))
            }
            Self::Clone { to } => Work::Clone { to: to.clone(), branch: spec.branch.clone() },
        }
    }

    /// Why it cannot be done, where that is plain from what was asked for.
    pub(super) fn refusal(&self, spec: &Spec) -> Option<&'static str> {
        let Self::Retry { deed, target, into } = self else { return None };
        delivery(spec, *deed, target.clone(), into.clone(), None).refusal()
    }

    const fn limit(&self) -> Millis {
        match self {
            Self::Retry { deed, .. } => deed_limit(*deed),
            Self::Clone { .. } => limits::CLONE,
            Self::Branches
            | Self::Status
            | Self::Gate
            | Self::Start { .. }
            | Self::Resolve { .. }
            | Self::Commit { .. }
            | Self::Abort
            | Self::Skip { .. } => limits::MERGE,
        }
    }
}

/// How long handing over may take.
pub(super) const fn deed_limit(deed: Deed) -> Millis {
    match deed {
        Deed::Branch | Deed::Merge => limits::ACTION,
        Deed::Pr => limits::PULL_REQUEST,
    }
}

/// What is handed over, and to whom: to the repository that was named, else to the one that the work came from.
pub(super) fn delivery(
    spec: &Spec,
    deed: Deed,
    target: Option<String>,
    into: Option<String>,
    commit: Option<String>,
) -> Delivery {
    let own = || match &spec.repository {
        Some(crate::policy::RepositoryUrl::Local(path)) => Some(path.clone()),
        Some(crate::policy::RepositoryUrl::Remote(_)) | None => None,
    };
    Delivery {
        deed,
        target: target.or_else(own),
        repository: spec.repository.clone(),
        credentials: spec.credentials,
        branch: spec.branch.clone(),
        commit,
        into,
        base: spec.base.clone(),
        text: CommitText::of(&spec.name, spec.id, spec.parent),
    }
}

/// Errands under way, and what was learned by those before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Errands {
    under_way: Vec<UnderWay>,
    /// Subtasks that are meant not to be merged, and why.
    skipped: BTreeMap<TaskId, String>,
    /// Files that wait to be settled.
    #[serde(default)]
    conflict: Option<Conflict>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct UnderWay {
    wait: Wait,
    errand: Errand,
    /// An earlier life of the daemon may have done it.
    again: bool,
}

impl Errands {
    /// Begins one. False where too many are under way.
    pub(super) fn begin(&mut self, errand: Errand, spec: &Spec, children: &[Child], cx: &mut Cx<'_>) -> bool {
        if self.under_way.len() >= limits::ERRANDS {
            return false;
        }
        let wait = cx.wait(errand.work(spec, children), errand.limit());
        self.under_way.push(UnderWay { wait, errand, again: false });
        true
    }

    /// Whether none is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let conflict = self.conflict.as_ref().and_then(Conflict::deadline);
        self.under_way.iter().map(|under_way| under_way.wait.due).chain(conflict).min()
    }

    /// What a person is needed for.
    pub(super) fn needs(&self) -> Option<String> {
        self.conflict.as_ref().and_then(Conflict::needs)
    }

    /// The worktree is left: what was in conflict there is committed as it is.
    pub(super) fn leave(&mut self) {
        self.conflict = None;
    }

    /// Calls all of them off: they would keep the task's own end waiting.
    pub(super) fn call_off(&mut self, cx: &mut Cx<'_>) {
        for under_way in &mut self.under_way {
            under_way.wait.cancel(cx);
        }
    }

    /// The daemon has a new life: what was asked for is asked for again.
    pub(super) fn recover(&mut self, spec: &Spec, children: &[Child], cx: &mut Cx<'_>) {
        for under_way in &mut self.under_way {
            let errand = &under_way.errand;
            under_way.wait = cx.wait(errand.work(spec, children), errand.limit());
            under_way.again = true;
        }
    }

    /// The daemon has a new life, whether errands are under way or not.
    pub(super) fn recover_conflict(&mut self) {
        self.conflict.iter_mut().for_each(Conflict::recover);
    }

    /// What an earlier life of the daemon wrote down.
    pub(super) fn skip_all(&mut self, skipped: Vec<(TaskId, String)>) {
        self.skipped.extend(skipped);
    }

    /// Time has passed.
    pub(super) fn due(&mut self, cx: &mut Cx<'_>) {
        let given = |under_way: &mut UnderWay| under_way.wait.overdue(cx).then_some(under_way.wait.id);
        let late: Vec<EffectId> = self.under_way.iter_mut().filter_map(given).collect();
        for id in late {
            self.answered(id, &mut Some(given_up()), cx);
        }
        if let Some(conflict) = &mut self.conflict {
            conflict.due(cx);
        }
    }

    /// An effect was answered: takes the outcome where it is one of these.
    pub(super) fn answered(&mut self, id: EffectId, outcome: &mut Option<Outcome>, cx: &mut Cx<'_>) {
        if let Some(left) = self
            .conflict
            .as_mut()
            .zip(outcome.as_ref())
            .and_then(|(conflict, outcome)| conflict.answered(id, outcome, cx.now))
        {
            (self.conflict, *outcome) = (left, None);
            return;
        }
        let Some(at) = self.under_way.iter().position(|under_way| under_way.wait.id == id) else { return };
        let Some(outcome) = outcome.take() else { return };
        if let Outcome::Merging(merging) = &outcome {
            self.conflict = Conflict::after(self.conflict.take(), merging, cx.now);
        }
        let UnderWay { errand, again, .. } = self.under_way.remove(at);
        let report = self.report(&errand, again, outcome, cx);
        cx.report(report, 0);
    }

    fn report(&mut self, errand: &Errand, again: bool, outcome: Outcome, cx: &mut Cx<'_>) -> Report {
        match (errand, outcome) {
            (Errand::Branches, Outcome::Branches { list, .. }) => Report::Branches(list),
            (Errand::Gate, Outcome::Branches { list, merging }) => Report::Gate(self.gate(&list, merging)),
            (Errand::Status, Outcome::Merging(Merging::Open { source, conflicts })) => {
                Report::MergeStatus(Some(MergeOpen { source, conflicts }))
            }
            (Errand::Status, Outcome::Merging(_)) => Report::MergeStatus(None),
            (Errand::Skip { child, why }, Outcome::Merging(Merging::Skipped)) => {
                self.skipped.insert(*child, why.clone());
                Report::Merge(MergeWent::done(format!("the branch of {child} is not to be merged")))
            }
            (Errand::Abort, Outcome::Merging(Merging::Nothing)) if again => Report::Merge(words::aborted()),
            (Errand::Start { branch, .. }, Outcome::Merging(merging)) => Report::Merge(words::started(branch, merging)),
            (Errand::Resolve { .. }, Outcome::Merging(merging)) => Report::Merge(words::resolved(merging)),
            (_, Outcome::Merging(merging)) => Report::Merge(words::went(merging)),
            (Errand::Retry { .. }, Outcome::Delivered { message, url }) => {
                Report::Completion(Completion { success: true, message, url })
            }
            (Errand::Clone { .. }, Outcome::Cloned { to }) => {
                Report::Cloned { message: format!("the files and the history are in {to}"), to: Some(to) }
            }
            (_, outcome) => {
                let why = cut(&reason(outcome), limits::REASON);
                cx.progress(why.clone());
                errand.refused(why)
            }
        }
    }

    /// Each branch is merged, or meant not to be, or in the way of the end.
    fn gate(&self, branches: &[Branch], merging: bool) -> Gate {
        let mut gate = Gate::default();
        for branch in branches {
            let is_skipped = branch.task.is_some_and(|task| self.skipped.contains_key(&task));
            match (branch.merged, is_skipped) {
                (true, _) => gate.merged = gate.merged.saturating_add(1),
                (false, true) => gate.skipped = gate.skipped.saturating_add(1),
                (false, false) => gate.unmerged.push(branch.name.to_string()),
            }
        }
        gate.can_complete = gate.unmerged.is_empty() && (!merging || bug!(CompleteWhileMerging));
        gate
    }
}
