//! What every executor owes the core: one list of contracts, kept by the machine of the simulated world and by the
//! real executor with real git and real processes. So what the world's runs show holds for the real one.
//!
//! A contract is a scene of [`Work`]s and of what is said to each. Everything that one executor may call otherwise than
//! another (paths, commits, process numbers) is left out of what is said.

mod begins;
mod branches;
mod lives;
mod overs;

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::{Arg, Child, Commit, Copy, Deed, Delivery, Launch, Merge, Prepare, Source, Start, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{ExitStatus, Leftover, Merging, Outcome, Stage};
use makima_core::policy::{BranchName, CommitText, RepositoryUrl};
use makima_core::task::{Action, End, EndStatus, Spec};
use uuid::Uuid;

use crate::refine::answers;

/// What an agent does. Each says a line first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Nothing else, and ends with this status.
    Ends(u8),
    /// Puts this into the file `x`, and ends.
    Writes(&'static str),
    /// Works until it is asked to end.
    Works,
}

impl Agent {
    /// The script that does it.
    #[must_use]
    pub fn script(self) -> String {
        match self {
            Self::Ends(status) => format!("echo here; exit {status}"),
            Self::Writes(text) => format!("echo here; echo {text} > x"),
            Self::Works => "trap 'exit 0' INT; echo here; while :; do sleep 0.02; done".to_owned(),
        }
    }
}

/// Something that carries out what the core asks for.
pub trait Subject {
    /// Asks for something.
    fn ask(&mut self, task: TaskId, work: Work) -> EffectId;
    /// What is said to it; waits until it is.
    fn answer(&mut self, id: EffectId) -> Outcome;
    /// How the agent ends that was started or found by this; waits until it does.
    fn exit(&mut self, id: EffectId) -> ExitStatus;
    /// Calls it off.
    fn cancel(&mut self, id: EffectId);
    /// The next agent of this task is to be one that does this.
    fn casts(&mut self, task: TaskId, agent: Agent);
    /// The daemon is killed and started anew.
    fn crash(&mut self);
    /// What the records on the disk tell of tasks.
    fn leftovers(&mut self) -> Vec<Leftover>;
    /// A repository of the user's with one commit, on `main` and tagged `first`.
    fn repository(&self) -> String;
    /// A path beside it, where nothing is.
    fn beside(&self) -> String;
}

/// One contract: what it is called and the scene.
pub type Contract = (&'static str, fn(&mut Scene<'_>));

/// All of them.
#[must_use]
pub fn all() -> Vec<Contract> {
    [lives::CONTRACTS, begins::CONTRACTS, branches::CONTRACTS, overs::CONTRACTS].concat()
}

/// What has to have been asked for once all are done.
#[must_use]
pub fn kinds() -> BTreeSet<&'static str> {
    [
        "accept",
        "prepare",
        "start",
        "read",
        "attach",
        "stdin",
        "signal",
        "empty",
        "freeze",
        "thaw",
        "make key",
        "commit",
        "check",
        "merge",
        "deliver",
        "clone",
        "look",
        "conclude",
        "delivered",
        "close",
        "discard",
        "forget",
        "expire",
        "weigh",
        "spare",
        "purge",
    ]
    .into()
}

/// A contract being tried on somebody.
pub struct Scene<'a> {
    subject: &'a mut dyn Subject,
    tasks: u128,
    /// The commits that tasks started from.
    bases: BTreeMap<TaskId, String>,
    asked: BTreeSet<&'static str>,
}

/// Tries one, and tells what was asked for.
///
/// # Panics
/// The contract is broken.
pub fn keep(subject: &mut dyn Subject, contract: Contract) -> BTreeSet<&'static str> {
    let mut scene = Scene { subject, tasks: 0, bases: BTreeMap::new(), asked: BTreeSet::new() };
    contract.1(&mut scene);
    scene.asked
}

impl Scene<'_> {
    /// A new task. The work of one that is `at_odds` conflicts with what others do in the same place.
    fn task(&mut self, at_odds: bool) -> TaskId {
        self.tasks += 1;
        TaskId(Uuid::from_u128(0x6f1c_3b0a_4a38_4c5e_9d0b_0000_0000_0000 | self.tasks << 8 | u128::from(at_odds)))
    }

    fn ask(&mut self, task: TaskId, work: Work) -> EffectId {
        self.asked.insert(work.kind());
        self.subject.ask(task, work)
    }

    /// What is said to something.
    fn says(&mut self, task: TaskId, work: Work) -> String {
        let id = self.ask(task, work.clone());
        let outcome = self.subject.answer(id);
        answers::check(&work, &outcome).unwrap_or_else(|why| panic!("{why}"));
        if let Outcome::Prepared(prepared) = &outcome {
            self.bases.extend(prepared.base.clone().map(|base| (task, base)));
        }
        said(&outcome)
    }

    /// Where the output ends that an agent has written by now.
    fn output_of(&mut self, task: TaskId) -> u64 {
        let id = self.ask(task, Work::Read { from: 0 });
        let outcome = self.subject.answer(id);
        assert_eq!(said(&outcome), "output");
        if let Outcome::Chunk(chunk) = outcome { chunk.to } else { 0 }
    }

    /// A task that was taken on.
    fn accepted(&mut self, at_odds: bool) -> TaskId {
        let task = self.task(at_odds);
        assert_eq!(self.says(task, accept(task)), "done");
        task
    }

    /// A task with a worktree.
    fn prepared(&mut self, at_odds: bool) -> TaskId {
        let task = self.accepted(at_odds);
        let prepare = self.prepare(task);
        assert_eq!(self.says(task, prepare), "prepared");
        task
    }

    /// A task whose agent has been at work, and is gone.
    fn worked(&mut self, agent: Agent, at_odds: bool) -> TaskId {
        let task = self.prepared(at_odds);
        let started = self.start(task, agent);
        self.subject.exit(started);
        assert_eq!(self.says(task, Work::Empty), "emptied");
        task
    }

    /// A task whose work is committed.
    fn committed(&mut self, agent: Agent, at_odds: bool) -> TaskId {
        let task = self.worked(agent, at_odds);
        let commit = self.commit(task);
        self.says(task, commit);
        task
    }

    /// A task that has ended.
    fn ended(&mut self) -> TaskId {
        let task = self.committed(Agent::Writes("1"), false);
        assert_eq!(self.says(task, conclude()), "done");
        task
    }

    fn start(&mut self, task: TaskId, agent: Agent) -> EffectId {
        self.subject.casts(task, agent);
        let argv = ["sh", "-c", &agent.script()].map(|word| Arg::Text(word.to_owned())).to_vec();
        let id = self.ask(task, Work::Start(Launch::script(argv)));
        assert_eq!(said(&self.subject.answer(id)), "started");
        // It has come so far that it can be asked to end.
        self.output_of(task);
        id
    }

    fn prepare(&self, task: TaskId) -> Work {
        self.prepare_at(task, Start::Default, None)
    }

    fn prepare_at(&self, task: TaskId, start: Start, copy: Option<Copy>) -> Work {
        Work::Prepare(Box::new(Prepare {
            repository: Some(RepositoryUrl::Local(self.subject.repository())),
            credentials: None,
            start,
            branch: branch(task),
            plan: "do it".to_owned(),
            copy,
            conversation: None,
        }))
    }

    /// A task whose worktree was made so: which one, and what was said.
    fn begun(&mut self, start: Start, copy: Option<Copy>) -> (TaskId, String) {
        let task = self.accepted(false);
        let prepare = self.prepare_at(task, start, copy);
        let said = self.says(task, prepare);
        (task, said)
    }

    /// The agent of a task with a worktree is at work, and its work is committed.
    fn works(&mut self, task: TaskId, agent: Agent) -> String {
        let started = self.start(task, agent);
        self.subject.exit(started);
        assert_eq!(self.says(task, Work::Empty), "emptied");
        let commit = self.commit(task);
        self.says(task, commit)
    }

    fn commit(&self, task: TaskId) -> Work {
        let (base, text) = (self.bases.get(&task).cloned(), CommitText::of("work", task, None));
        Work::Commit(Box::new(Commit { branch: branch(task), base, text }))
    }

    fn deliver(&self, task: TaskId, deed: Deed) -> Work {
        Work::Deliver(Box::new(Delivery {
            deed,
            target: Some(self.subject.repository()),
            repository: None,
            credentials: None,
            branch: branch(task),
            commit: None,
            into: None,
            base: None,
            text: CommitText::of("work", task, None),
        }))
    }

    fn deliver_to(&self, task: TaskId, deed: Deed, target: &str, into: Option<&str>) -> Work {
        let Work::Deliver(mut wanted) = self.deliver(task, deed) else { return Work::Close };
        wanted.target = Some(target.to_owned());
        wanted.into = into.map(str::to_owned);
        Work::Deliver(wanted)
    }

    /// What the records tell of a task.
    fn left_of(&mut self, task: TaskId) -> Option<Leftover> {
        self.subject.leftovers().into_iter().find(|leftover| leftover.spec.id == task)
    }
}

fn branch(task: TaskId) -> BranchName {
    BranchName::of("work", task)
}

fn accept(task: TaskId) -> Work {
    Work::Accept { spec: Box::new(spec(task)) }
}

fn spec(task: TaskId) -> Spec {
    Spec {
        id: task,
        name: "work".to_owned(),
        plan: "do it".to_owned(),
        repository: None,
        credentials: None,
        base: None,
        branch: branch(task),
        continues: None,
        conversation: None,
        copy: Vec::new(),
        parent: None,
        depth: 0,
        orchestrator: false,
        agent: makima_core::agent::Agent::Shell,
        allowance: makima_core::allowance::Allowance::default(),
        action: Action::Branch,
        target: None,
        into: None,
    }
}

fn conclude() -> Work {
    concluding(None)
}

/// Writes down how it ended, and what it was where that was not written down.
fn concluding(spec: Option<Spec>) -> Work {
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 0 };
    Work::Conclude { end, spec: spec.map(Box::new) }
}

fn child(task: TaskId, ended: bool) -> Child {
    Child { task, branch: Some(branch(task)), ended }
}

fn merging(task: TaskId) -> Work {
    Work::Merge(Merge::Start { source: Source::Child(child(task, true)) })
}

/// How far a task had come.
const fn stage(stage: &Stage) -> &'static str {
    match stage {
        Stage::Accepted => "accepted",
        Stage::Started(_) => "started",
        Stage::Ended(_) => "ended",
    }
}

/// What was answered, as far as all have to answer alike.
fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Prepared(prepared) => {
            if prepared.notes.is_empty() { "prepared" } else { "prepared, and a note" }.to_owned()
        }
        Outcome::Started { .. } => "started".to_owned(),
        Outcome::NotStarted => "not started".to_owned(),
        Outcome::Chunk(chunk) if chunk.to > chunk.from => "output".to_owned(),
        Outcome::Chunk(_) => "no output".to_owned(),
        // How many were left depends on the moment, and is not known everywhere.
        Outcome::Emptied { .. } => "emptied".to_owned(),
        Outcome::Committed(Some(_)) => "committed".to_owned(),
        Outcome::Committed(None) => "no change".to_owned(),
        Outcome::Key(_) => "a key".to_owned(),
        Outcome::Measured { .. } => "measured".to_owned(),
        Outcome::Checked { failed } => if failed.is_some() { "checked, and failed" } else { "checked" }.to_owned(),
        Outcome::Branches { list, merging } => {
            let branches: Vec<&str> = list.iter().map(|one| if one.merged { "merged" } else { "open" }).collect();
            format!("branches: {}{}", branches.join(", "), if *merging { "; one is being merged" } else { "" })
        }
        Outcome::Merging(merging) => merge_said(merging),
        Outcome::Delivered { message, .. } if message == "no changes" => message.clone(),
        Outcome::Delivered { .. } => "delivered".to_owned(),
        Outcome::Cloned { .. } => "cloned".to_owned(),
        Outcome::Weighed(_) => "weighed".to_owned(),
        Outcome::Looked { exists, .. } => if *exists { "there" } else { "not there" }.to_owned(),
        Outcome::Failed(_) | Outcome::NoRoom(_) => "failed".to_owned(),
    }
}

fn merge_said(merging: &Merging) -> String {
    match merging {
        Merging::Nothing => "no merge".to_owned(),
        Merging::NoBranch => "no such branch".to_owned(),
        Merging::Already => "merged already".to_owned(),
        Merging::InTheWay(files) => format!("in the way: {}", files.join(", ")),
        Merging::Open { conflicts, .. } if conflicts.is_empty() => "open".to_owned(),
        Merging::Open { conflicts, .. } => format!("in conflict: {}", conflicts.join(", ")),
        Merging::Busy(_) => "busy".to_owned(),
        Merging::NoConflict => "no conflict there".to_owned(),
        Merging::Committed(_) => "merge committed".to_owned(),
        Merging::Aborted => "aborted".to_owned(),
        Merging::Skipped => "skipped".to_owned(),
    }
}
