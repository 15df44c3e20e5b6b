//! The machine: a disk with the daemon's records, git, and processes that outlive the daemon. It stands for
//! the executor, and keeps to the same contract.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use makima_core::effect::Work;
use makima_core::id::{EffectId, SecretId, TaskId};
use makima_core::input::{Chunk, ExitStatus, Input, Leftover, Outcome, Part, Stage, Stream, Weighed};
use makima_core::limits;
use makima_core::task::{EndStatus, Spec};
use makima_core::time::Millis;

use crate::refine::answers;

use super::act::{TaskKind, Temper};
use super::folder::{Folder, Process};
use super::git::Merges;
use super::sightings::Sightings;

/// The one repository of the user's.
pub(super) const REPOSITORY: &str = "/repository";

/// From these on, codes stand for ends of agents of which nobody can tell how, and for those that nobody saw.
const UNKNOWN: u8 = 240;
const LOST: u8 = 248;

/// One machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    tasks: BTreeMap<TaskId, Folder>,
    /// Effects that the daemon waits for.
    pending: BTreeMap<EffectId, (TaskId, Work)>,
    cancelled: BTreeSet<EffectId>,
    /// Folders that tasks were copied to.
    cloned: BTreeSet<String>,
    /// Starts that cannot be made any more, however late somebody comes to them.
    called_off: BTreeSet<EffectId>,
    /// Whether what is called off was done already is a choice, made by its failing; else every third was.
    pub(super) tries: bool,
    /// Ends of agents that the daemon has not been told yet.
    exits: Vec<(EffectId, ExitStatus)>,
    /// What it did, and how often.
    pub(crate) seen: Sightings,
    /// As the world has it.
    pub(super) now: Millis,
}

impl Machine {
    /// The daemon wants something done.
    pub fn take(&mut self, id: EffectId, task: TaskId, work: Work) {
        assert!(!self.pending.contains_key(&id), "the effect {id} was given twice");
        // An executor that is given up on has not done what it was to do.
        let pending = |is: fn(&Work) -> bool| self.pending.values().any(|(of, work)| *of == task && is(work));
        let given_up = pending(|work| matches!(work, Work::Empty));
        let not_committed = pending(|work| matches!(work, Work::Commit(_)));
        let not_delivered = pending(|work| matches!(work, Work::Deliver(_)));
        let folder = self.tasks.entry(task).or_default();
        folder.concluding |= matches!(work, Work::Conclude { .. });
        folder.concludes += u32::from(matches!(work, Work::Conclude { .. }));
        folder.commit_failed |= not_committed && matches!(work, Work::Conclude { .. });
        folder.action_failed |= not_delivered && matches!(work, Work::Conclude { .. });
        folder.unkillable |= given_up && matches!(work, Work::Commit(_));
        if matches!(work, Work::Empty) {
            // What is to be emptied gets no agent any more.
            let starts = self.pending.iter().filter(|(_, (of, work))| *of == task && matches!(work, Work::Start(_)));
            self.called_off.extend(starts.map(|(id, _)| *id));
        }
        self.pending.insert(id, (task, work));
    }

    /// Writes down what can still become of it. What the tasks ask for stands with each: which of them asked first makes no
    /// difference. What was called off says nothing once it is not under way any more.
    pub(super) fn lay_open(&self, text: &mut String) {
        let Self { tasks, pending, cancelled, cloned, called_off, tries, exits, seen: _, now: _ } = self;
        let mut under_way: Vec<_> = pending.iter().map(|(id, (task, work))| (task, id, work)).collect();
        under_way.sort_by_key(|(task, id, _)| (*task, *id));
        let under_way =
            under_way.iter().map(|(_, id, work)| (id, work, cancelled.contains(id), called_off.contains(id)));
        let under_way: Vec<_> = under_way.collect();
        write!(text, "{:?}", (tasks, under_way, cloned, tries, exits)).expect("a string takes everything");
    }

    /// The daemon gives up on what was not even begun.
    pub(super) fn give_up(&mut self, task: TaskId, work: &Work) {
        self.tasks.entry(task).or_default().refused(work);
    }

    /// The daemon calls an effect off.
    pub fn cancel(&mut self, id: EffectId) {
        if self.pending.contains_key(&id) {
            self.cancelled.insert(id);
        }
    }

    /// Everything that can be answered now, in order.
    pub fn ready(&self) -> impl Iterator<Item = EffectId> {
        let exits = self.exits.iter().map(|(id, _)| *id);
        self.pending
            .iter()
            .filter(|(id, (task, work))| self.can_answer(**id, *task, work))
            .map(|(id, _)| *id)
            .chain(exits)
    }

    /// Whether it is a choice if this one was called off in time.
    #[must_use]
    pub fn may_be_too_late(&self, id: EffectId) -> bool {
        self.tries && self.cancelled.contains(&id) && !self.called_off.contains(&id)
    }

    /// Whose tree is stopped or let go on by this.
    #[must_use]
    pub fn stops_or_lets_go(&self, id: EffectId) -> Option<TaskId> {
        let (task, work) = self.pending.get(&id)?;
        matches!(work, Work::Freeze | Work::Thaw).then_some(*task)
    }

    fn can_answer(&self, id: EffectId, task: TaskId, work: &Work) -> bool {
        match work {
            Work::Read { from } => {
                let log = self.tasks.get(&task).map(|folder| &folder.log);
                self.cancelled.contains(&id) || log.is_none_or(|log| log.end() > *from || log.closed)
            }
            // One after the other: what is given up on is done before whatever is asked for after it, or not at all.
            Work::Freeze | Work::Thaw => {
                let mut before = self.pending.range(..id).filter(|(_, (of, _))| *of == task);
                !before.any(|(_, (_, work))| matches!(work, Work::Freeze | Work::Thaw))
            }
            Work::Accept { .. }
            | Work::Prepare(_)
            | Work::Start(_)
            | Work::Attach
            | Work::Stdin { .. }
            | Work::Signal { .. }
            | Work::Empty
            | Work::MakeKey
            | Work::Measure
            | Work::Commit(_)
            | Work::Check(_)
            | Work::Merge(_)
            | Work::Deliver(_)
            | Work::Clone { .. }
            | Work::Look { .. }
            | Work::Conclude { .. }
            | Work::Delivered { .. }
            | Work::Discard
            | Work::Forget
            | Work::Expire { .. }
            | Work::Weigh { .. }
            | Work::Spare
            | Work::Purge
            | Work::Close => true,
        }
    }

    /// Does one of them, and gives the answer that the daemon gets.
    pub fn perform(&mut self, id: EffectId, fails: bool, kind: impl Fn(TaskId) -> TaskKind) -> Option<Input> {
        if let Some(at) = self.exits.iter().position(|(exit, _)| *exit == id)
            && !self.pending.contains_key(&id)
        {
            let (id, status) = self.exits.remove(at);
            return Some(Input::Exited { id, status });
        }
        let (task, work) = self.pending.remove(&id)?;
        let cancelled = self.cancelled.remove(&id);
        // Some are called off when they are done already.
        let done = if self.tries { fails } else { id.n.is_multiple_of(3) };
        let too_late = cancelled && done && !self.called_off.remove(&id);
        if too_late {
            self.seen.see("called off too late", work.kind());
        }
        let asked = work.clone();
        let outcome = if cancelled && !too_late && !matches!(work, Work::Read { .. }) {
            // What was called off in time was not done.
            self.seen.see("cancelled", work.kind());
            self.tasks.entry(task).or_default().refused(&work);
            Outcome::Failed("cancelled".to_string())
        } else if fails && !cancelled && answers::wants(&work) {
            self.seen.see("failed", work.kind());
            self.tasks.entry(task).or_default().refused(&work);
            let why = "no space left on device".to_string();
            if id.n.is_multiple_of(2) { Outcome::NoRoom(why) } else { Outcome::Failed(why) }
        } else {
            self.seen.see("done", work.kind());
            self.carry_out(id, task, work, cancelled && !too_late, kind(task))
        };
        answers::check(&asked, &outcome).unwrap_or_else(|why| panic!("the effect {id}: {why}"));
        Some(Input::Done { id, outcome })
    }

    fn carry_out(&mut self, id: EffectId, task: TaskId, work: Work, cancelled: bool, kind: TaskKind) -> Outcome {
        let folder = self.tasks.entry(task).or_default();
        match work {
            // A task has its turns: what was given up on is done before whatever was asked for after it, or not at all.
            Work::Accept { .. } if folder.concluded > Some(id) => {}
            Work::Accept { spec } => folder.accept(*spec),
            Work::Prepare(prepare) => return self.prepare(task, &prepare, kind),
            Work::Start(launch) => return self.start(id, task, &launch, kind),
            Work::Attach => return self.attach(id, task),
            Work::Read { from } => {
                assert!(!folder.discarded, "the output of {task} is read after it was put aside");
                folder.hears(from, self.now);
                return Outcome::Chunk(if cancelled {
                    Chunk { from, to: from, ..Chunk::default() }
                } else {
                    folder.log.read(from)
                });
            }
            Work::Stdin { .. } if folder.process.is_none() => return Outcome::Failed("broken pipe".to_string()),
            Work::Stdin { n, text } => {
                let frozen = folder.process.as_ref().and_then(|process| process.frozen);
                let before = frozen.is_none_or(|frozen| id < frozen);
                assert!(before, "a message reaches {task}, which stands still");
                self.message(task, n, &text);
            }
            Work::Freeze => folder.freeze(Some(id)),
            Work::Thaw => folder.freeze(None),
            Work::MakeKey => {
                folder.key = true;
                return Outcome::Key(SecretId::ToolKey(task));
            }
            Work::Signal { signal } => folder.signal(signal),
            Work::Empty => return self.empty(task),
            Work::Commit(commit) => {
                assert!(folder.process.is_none() || folder.unkillable, "{task} is committed while its agent runs");
                return Outcome::Committed(folder.commit(format!("commit-of-{}", commit.branch)));
            }
            Work::Check(check) => return folder.checked(task, &check, !kind.branch),
            Work::Merge(merge) => return self.merge(task, merge),
            Work::Clone { to, .. } => {
                self.cloned.insert(to.clone());
                return Outcome::Cloned { to };
            }
            Work::Measure => return folder.measured(),
            Work::Look { path } => {
                let exists = path == REPOSITORY || self.cloned.contains(&path);
                return Outcome::Looked { path, exists, refused: None };
            }
            Work::Deliver(wanted) => return folder.deliver(task, &wanted),
            Work::Conclude { end, spec } => {
                if let Some(spec) = spec {
                    folder.accept(*spec);
                }
                (folder.end, folder.concluded) = (Some(end), Some(id));
                folder.key = false;
            }
            Work::Delivered { to } => folder.delivered = folder.delivered.max(to),
            Work::Close => folder.closed = true,
            Work::Discard => return folder.discard(false),
            Work::Forget => return folder.discard(true),
            Work::Expire { .. } => {}
            Work::Spare => return folder.spare(),
            Work::Purge => return folder.purge(),
            Work::Weigh { tasks } => return Outcome::Weighed(self.weigh(tasks)),
        }
        Outcome::Done
    }

    /// An agent writes, if it runs.
    pub fn write(&mut self, task: TaskId, stderr: bool, newline: bool) -> bool {
        let Some(folder) = self.tasks.get_mut(&task) else { return false };
        folder.write(if stderr { Stream::Stderr } else { Stream::Stdout }, newline, self.now)
    }

    /// An agent that has something to say says it. False where none has.
    pub fn speak(&mut self) -> bool {
        let now = self.now;
        self.tasks.values_mut().any(|folder| folder.speaker.is_some() && folder.write(Stream::Stdout, true, now))
    }

    /// An agent ends by itself, if it runs and ever does so.
    pub fn exit(&mut self, task: TaskId, code: u8) -> bool {
        let Some(folder) = self.tasks.get_mut(&task) else { return false };
        let ends =
            |process: &mut Process| process.frozen.is_none() && (process.ending || process.temper != Temper::Stubborn);
        let Some(process) = folder.process.take_if(ends) else {
            return false;
        };
        // A failure may be that of what was to be run before the agent.
        let status = match code {
            1.. if process.sets_up => ExitStatus::NotSetUp(i32::from(code)),
            UNKNOWN..LOST => ExitStatus::Unknown,
            LOST.. => ExitStatus::Lost,
            _ => ExitStatus::Code(i32::from(code)),
        };
        self.seen.see("agent", ended(status));
        // What nobody saw is written down nowhere.
        folder.exit = (status != ExitStatus::Lost).then_some(status);
        self.exits.extend(process.told.map(|told| (told, status)));
        true
    }

    /// Messages are written in order, whichever is answered first.
    fn message(&mut self, task: TaskId, n: u64, text: &str) {
        let folder = self.tasks.entry(task).or_default();
        for (of, work) in self.pending.values() {
            if let (true, Work::Read { from }) = (*of == task, work) {
                folder.hears(*from, self.now);
            }
        }
        for (of, work) in self.pending.values() {
            if let (true, Work::Stdin { n: before, text }) = (*of == task, work)
                && *before < n
            {
                folder.message(task, *before, text, self.now);
            }
        }
        folder.message(task, n, text, self.now);
    }

    /// Each worktree takes one byte, here or in the trash.
    fn weigh(&self, tasks: Vec<TaskId>) -> Weighed {
        let of = |task: TaskId| self.tasks.get(&task).map_or(0, Folder::weight);
        let all = self.tasks.values().map(Folder::weight).sum();
        Weighed { all, tasks: tasks.into_iter().map(|task| (task, of(task))).collect() }
    }

    /// Nothing of the task runs any more.
    fn empty(&mut self, task: TaskId) -> Outcome {
        let folder = self.tasks.entry(task).or_default();
        let process = folder.process.take();
        folder.log.closed = true;
        let log_end = folder.log.end();
        let killed = u32::from(process.is_some());
        if let Some(process) = process {
            let status = *folder.exit.insert(ExitStatus::Signal(9));
            self.exits.extend(process.told.map(|told| (told, status)));
        }
        Outcome::Emptied { killed, log_end }
    }

    /// The agent that was started before is found again, or how it ended.
    fn attach(&mut self, id: EffectId, task: TaskId) -> Outcome {
        let folder = self.tasks.entry(task).or_default();
        match (&mut folder.process, folder.exit) {
            (Some(process), _) => process.told = Some(id),
            (None, Some(status)) => self.exits.push((id, status)),
            (None, None) if folder.started => return Outcome::Failed("the machine was restarted".to_string()),
            (None, None) => return Outcome::NotStarted,
        }
        Outcome::Started { pid: 4321, handed: folder.message.0 }
    }

    /// Agents that were asked to end, and those that would end by themselves some time.
    #[must_use]
    pub fn ending(&self) -> Vec<TaskId> {
        // Who tells how it gets on ends when it is told to.
        let by_itself =
            |folder: &Folder, process: &Process| folder.speaker.is_none() && process.temper != Temper::Stubborn;
        let ends = |folder: &Folder| {
            let process = folder.process.as_ref().filter(|process| process.frozen.is_none());
            process.is_some_and(|process| process.ending || by_itself(folder, process))
        };
        self.tasks.iter().filter(|(_, folder)| ends(folder)).map(|(id, _)| *id).collect()
    }

    /// Whether its agent is at work, and does not end by itself.
    #[must_use]
    pub fn is_stubborn(&self, task: TaskId) -> bool {
        let folder = self.tasks.get(&task).filter(|folder| folder.speaker.is_none());
        let process = folder.and_then(|folder| folder.process.as_ref());
        process.is_some_and(|process| process.frozen.is_none() && process.temper == Temper::Stubborn)
    }

    /// Agents that run.
    #[must_use]
    pub fn running(&self) -> Vec<TaskId> {
        self.tasks.iter().filter(|(_, folder)| folder.process.is_some()).map(|(id, _)| *id).collect()
    }

    /// The daemon is killed: of what was under way, some was done. What is on the disk stays, and so do the
    /// agents.
    pub fn kill_daemon(&mut self, done: u8, kind: impl Fn(TaskId) -> TaskKind) {
        let ready: Vec<EffectId> = self.ready().collect();
        for (at, id) in ready.into_iter().enumerate() {
            if done & (1 << (at % 8)) != 0 {
                self.perform(id, self.may_be_too_late(id), &kind);
            }
        }
        self.pending.clear();
        self.cancelled.clear();
        self.called_off.clear();
        for folder in self.tasks.values_mut() {
            folder.concluding = false;
            folder.closed_before = folder.closed;
            folder.process.iter_mut().for_each(|process| process.told = None);
        }
        self.exits.clear();
    }

    /// The power fails once the daemon is gone: agents are gone too, and the ends of their logs.
    pub fn outage(&mut self, kept: u8) {
        for folder in self.tasks.values_mut() {
            folder.process = None;
            // Nobody is left who could write to it.
            folder.log.closed |= folder.started;
            let kept = folder.log.writes.len() * usize::from(kept) / usize::from(u8::MAX);
            folder.torn |= kept < folder.log.writes.len();
            folder.log.writes.truncate(kept);
        }
    }

    /// The text of a stretch of output that was read before, if the log still has it.
    #[must_use]
    pub fn reread(&self, task: TaskId, was: &Chunk) -> Option<Vec<Part>> {
        let chunk = self.tasks.get(&task).filter(|folder| !folder.discarded)?.log.read_to(was.from, was.to);
        (chunk.to == was.to).then_some(chunk.parts)
    }

    /// Whether nothing is under way: what waits for output that will not come does not count.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ready().next().is_none()
    }

    /// What the next daemon finds.
    #[must_use]
    pub fn leftovers(&self) -> Vec<Leftover> {
        let leftover = |folder: &Folder| {
            let stage = match (&folder.end, folder.started) {
                (Some(end), _) => Stage::Ended(end.clone()),
                (None, true) => Stage::Started(folder.prepared.clone().unwrap_or_default()),
                (None, false) => Stage::Accepted,
            };
            Some(Leftover {
                spec: folder.spec.clone()?,
                stage,
                delivered: folder.delivered,
                closed: folder.closed,
                skipped: folder.skipped(),
            })
        };
        self.tasks.values().filter_map(leftover).collect()
    }

    /// How many tokens each stream of a task's output has; none where somebody may go on writing for ever.
    #[must_use]
    pub fn tokens(&self, task: TaskId) -> Option<[u32; 2]> {
        let folder = self.tasks.get(&task)?;
        let readable = folder.failed_reads < limits::READ_TRIES;
        (!folder.unkillable && !folder.torn && readable).then_some(folder.log.tokens)
    }

    pub(crate) fn has_worktree(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|folder| folder.prepared.is_some() && !folder.discarded)
    }

    /// What is written down of what was asked for.
    pub(crate) fn spec(&self, task: TaskId) -> Option<&Spec> {
        self.tasks.get(&task)?.spec.as_ref()
    }

    pub(crate) fn has_work(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|folder| folder.committed)
    }

    pub(super) fn folder_of(&mut self, task: TaskId) -> &mut Folder {
        self.tasks.entry(task).or_default()
    }

    /// The work of a task comes to this: that of two tasks may be the same.
    pub fn writes(&mut self, task: TaskId, text: &'static str) {
        self.folder_of(task).text = Some(text);
    }

    pub(super) fn merges(&mut self, task: TaskId) -> &mut Merges {
        &mut self.tasks.entry(task).or_default().merges
    }

    pub(super) fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.tasks.values()
    }

    pub(crate) fn folder(&self, task: TaskId) -> Option<&Folder> {
        self.tasks.get(&task)
    }

    /// Whether the work of a task that ended is safe.
    pub(crate) fn is_work_kept(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_none_or(|folder| !folder.dirty || folder.commit_failed)
    }

    /// How the record on the disk says that a task ended.
    #[must_use]
    pub fn recorded_end(&self, task: TaskId) -> Option<EndStatus> {
        self.tasks.get(&task)?.end.as_ref().map(|end| end.status)
    }
}

const fn ended(status: ExitStatus) -> &'static str {
    match status {
        ExitStatus::Code(_) | ExitStatus::Signal(_) => "ended",
        ExitStatus::NotSetUp(_) => "not set up",
        ExitStatus::Unknown => "ended, nobody can tell how",
        ExitStatus::Lost => "ended, and nobody saw it",
    }
}
