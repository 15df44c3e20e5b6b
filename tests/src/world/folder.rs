//! What the machine has of one task: its records on the disk, its log, its process.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::{Check, Deed, Delivery, Signal, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{Change, ExitStatus, Outcome, Prepared, Stream};
use makima_core::task::{End, EndStatus, Spec};
use makima_core::time::Millis;

use super::act::{TaskKind, Temper};
use super::git::Merges;
use super::log::Log;
use super::machine::REPOSITORY;
use super::speaker::Speaker;

/// What there is of one task: its folder on the disk, and its process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    pub(crate) spec: Option<Spec>,
    pub(super) prepared: Option<Prepared>,
    pub(super) started: bool,
    pub(super) process: Option<Process>,
    /// Its agent, where that tells how it gets on.
    pub(super) speaker: Option<Speaker>,
    pub(super) log: Log,
    /// How often it was looked at what its processes take.
    pub(super) looks: u32,
    /// Changes of the agent's that are in no commit.
    pub(super) dirty: bool,
    /// Files of another task's lie in its worktree, in no commit.
    pub(super) laid: bool,
    pub(super) committed: bool,
    /// Its last commit.
    pub(super) tip: Option<String>,
    /// What its agent writes, where that may be what another one does.
    pub(super) text: Option<&'static str>,
    pub(super) delivered_branch: bool,
    pub(super) end: Option<End>,
    /// What wrote the end down last.
    pub(super) concluded: Option<EffectId>,
    pub(super) closed: bool,
    pub(super) delivered: u64,
    /// Its completion action failed at least once.
    pub(super) action_failed: bool,
    pub(crate) starts: u32,
    pub(super) commit_failed: bool,
    /// Its processes could not be ended at least once: they may outlive it.
    pub(super) unkillable: bool,
    /// The daemon wants its end to be written down: how it ends is settled.
    pub(super) concluding: bool,
    /// How the agent ended, as its supervisor wrote it down.
    pub(super) exit: Option<ExitStatus>,
    /// Records of its end that were asked for.
    pub(super) concludes: u32,
    /// An earlier life of the daemon knew that the server knows of its end.
    pub(super) closed_before: bool,
    /// The number of the newest message that its agent got, and what it said: texts are numbers that grow.
    pub(super) message: (u64, u64),
    /// What each message said.
    said: BTreeMap<u64, String>,
    /// Messages that came by a connection on its way out, while another had the say: newer ones may have gone before.
    pub(super) overtaken: BTreeSet<u64>,
    /// A message of another's number, or the same one twice.
    pub(super) mixed_up: Option<String>,
    /// Times that its output could not be read.
    pub(super) failed_reads: u8,
    /// A part of its output was lost in an outage.
    pub(super) torn: bool,
    /// The key of its agent is on the disk.
    pub(super) key: bool,
    pub(super) merges: Merges,
    /// Its worktree and its output are in the trash.
    pub(super) discarded: bool,
    /// They are there to make room.
    pub(super) spared: bool,
    /// They are out of the trash.
    pub(super) purged: bool,
    /// Its records are, too.
    pub(super) forgotten: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    /// The effect that the daemon knows it by; none where it has not found it yet in this life.
    pub(super) told: Option<EffectId>,
    pub(super) temper: Temper,
    /// It was asked to end, and will.
    pub(super) ending: bool,
    /// The effect that stopped it where it stands.
    pub(super) frozen: Option<EffectId>,
    /// Whether commands are run in it before the agent.
    pub(super) sets_up: bool,
}

impl Folder {
    /// Its work is checked, and where it `fails` anyway so do the checks.
    pub(super) fn checked(&self, task: TaskId, check: &Check, fails: bool) -> Outcome {
        assert!(self.committed, "{task} is checked before it is committed");
        let fails = fails || check.commands.iter().any(|command| command == "false");
        Outcome::Checked { failed: fails.then(|| "a check failed".to_string()) }
    }

    /// What its processes take: now and then more than usual.
    pub(super) fn measured(&mut self) -> Outcome {
        self.looks += 1;
        let processes = if self.looks % 4 == 3 { 2 } else { 1 };
        Outcome::Measured { memory: 1 << 20, processes }
    }

    /// Its end could not be written down, or it could not be ended.
    pub(super) const fn cannot_go(&self) -> bool {
        self.end.is_none() || self.process.is_some()
    }

    /// It is taken on.
    pub(super) fn accept(&mut self, spec: Spec) {
        if self.forgotten {
            *self = Self::default();
        }
        // Records of a task of that name that was never taken on.
        (self.end, self.closed, self.closed_before) = (None, false, false);
        self.spec = Some(spec);
    }

    /// What is left of it goes to the trash.
    pub(super) fn discard(&mut self, forget: bool) -> Outcome {
        if self.cannot_go() {
            return Outcome::Failed("it has not ended".to_string());
        }
        self.discarded = true;
        self.forgotten |= forget;
        if forget {
            self.spec = None;
        }
        Outcome::Done
    }

    /// The same, to make room: only what is nowhere else stays.
    pub(super) fn spare(&mut self) -> Outcome {
        if self.dirty {
            return Outcome::Failed("it has changes that are in no commit".to_string());
        }
        let before = self.discarded;
        let outcome = self.discard(false);
        self.spared |= !before && self.discarded;
        outcome
    }

    /// What made room leaves the trash.
    ///
    /// # Panics
    /// It is somebody's work that was not handed over.
    pub(super) fn purge(&mut self) -> Outcome {
        assert!(self.end.as_ref().is_some_and(|end| end.status == EndStatus::Done), "what did not end well is purged");
        self.purged |= std::mem::take(&mut self.spared) && !self.dirty;
        Outcome::Done
    }

    /// How much room it takes.
    pub(super) fn weight(&self) -> u64 {
        u64::from(self.prepared.is_some() && !self.purged && !self.forgotten)
    }

    /// Something was not done: what that excuses at the end.
    pub(super) const fn refused(&mut self, work: &Work) {
        self.commit_failed |= matches!(work, Work::Commit(_));
        self.unkillable |= matches!(work, Work::Empty);
        self.action_failed |= matches!(work, Work::Deliver(_));
        if matches!(work, Work::Read { .. }) {
            self.failed_reads = self.failed_reads.saturating_add(1);
        }
    }

    /// A message for the agent. What has been taken under a number is not taken again.
    pub(super) fn message(&mut self, task: TaskId, n: u64, text: &str, now: Millis) {
        let (taken, before) = self.message;
        // What an agent has said of a message makes it needless to tell it that again, under its new number.
        let follows = n <= taken + 1 || self.speaker.is_some();
        assert!(follows, "message {n} reaches {task} behind message {taken}");
        let said = self.said.entry(n).or_insert_with(|| text.to_string());
        if let Some(speaker) = &mut self.speaker {
            if said != text {
                self.mixed_up = Some(format!("line {n} reaches {task} as {text:?}, and was {said:?}"));
            }
            if n > taken {
                speaker.told(text, now);
                self.message = (n, before);
            }
            return;
        }
        if said != text || n > taken && text.trim_end() == before.to_string() {
            self.mixed_up = Some(format!("message {n} reaches {task} as {text:?}, behind {before} and {said:?}"));
        }
        if n > taken {
            // News of a sibling bear no number of their own.
            let text = text.trim_end().parse().unwrap_or(before);
            let in_order = text >= before || self.overtaken.contains(&text);
            assert!(in_order, "message {text} reaches {task} behind {before}");
            self.message = (n, text.max(before));
        }
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.ending |= match signal {
                Signal::Interrupt => process.temper == Temper::Mild,
                Signal::Terminate => process.temper <= Temper::Firm,
            };
        }
    }

    /// Its agent is started, as the effect `id` asks.
    pub(super) fn start(
        &mut self,
        id: EffectId,
        task: TaskId,
        kind: TaskKind,
        sets_up: bool,
        speaker: Option<Speaker>,
    ) -> Outcome {
        assert!(!self.started, "{task} is started twice");
        let orchestrator = self.spec.as_ref().is_some_and(|spec| spec.orchestrator);
        assert!(self.key || !orchestrator, "{task} is started without its key");
        self.started = true;
        self.starts += 1;
        // Where one that was called off was emptied, another goes on with its log.
        self.log.closed = false;
        self.dirty = kind.changes;
        self.process = Some(Process { told: Some(id), temper: kind.temper, ending: false, frozen: None, sets_up });
        self.speaker = speaker;
        Outcome::Started { pid: 4321, handed: 0 }
    }

    /// Its agent writes something, if it can: a token, or what it has to say. `ends`: where the line ends, or its turn.
    pub(super) fn write(&mut self, stream: Stream, ends: bool, now: Millis) -> bool {
        if self.stands_still() != Some(false) {
            return false;
        }
        let Some(speaker) = self.speaker.as_mut().filter(|_| stream == Stream::Stdout) else {
            self.log.write(stream, ends);
            return true;
        };
        let reads = speaker.has_input();
        match speaker.speak(ends, now) {
            Some(line) => self.log.say(&line, now),
            None if !reads => return false,
            None => {}
        }
        if let Some(process) = self.process.as_mut().filter(|_| speaker.is_leaving()) {
            process.ending |= process.temper != Temper::Stubborn;
        }
        true
    }

    /// Somebody comes to what its agent says from there on: perhaps so late that the agent need not be waited for.
    pub(super) fn hears(&mut self, from: u64, now: Millis) {
        let waited = self.log.unheard(from, now);
        if let Some(speaker) = &mut self.speaker {
            speaker.waited(waited);
        }
    }

    /// Stops its process where it stands, or lets it go on.
    pub(super) fn freeze(&mut self, by: Option<EffectId>) {
        if let Some(process) = &mut self.process {
            process.frozen = by;
        }
    }

    /// Subtasks of its that are not to be merged.
    pub(super) fn skipped(&self) -> Vec<(TaskId, String)> {
        self.merges.skipped()
    }

    /// Whether its process stands still; none if it has none.
    pub(super) fn stands_still(&self) -> Option<bool> {
        self.process.as_ref().map(|process| process.frozen.is_some())
    }

    pub(super) fn commit(&mut self, commit: String) -> Option<Change> {
        self.merges.close();
        if self.dirty || self.laid {
            self.tip = Some(commit.clone());
        }
        self.committed |= self.dirty || self.laid;
        (self.dirty, self.laid) = (false, false);
        self.committed.then_some(Change { commit, files: 1, insertions: 2, deletions: 0, note: None })
    }

    /// Its work is handed over: for itself, or as the server wishes, whatever is there.
    pub(super) fn deliver(&mut self, task: TaskId, wanted: &Delivery) -> Outcome {
        if wanted.commit.is_none() {
            // What could not be committed when it ended is committed now.
            if self.dirty {
                self.commit(format!("commit-of-{}", wanted.branch));
            }
            if !self.committed {
                return Outcome::Delivered { message: "no changes".to_string(), url: None };
            }
        }
        assert!(self.committed, "{task} delivers a branch that is not committed");
        if wanted.target.as_ref().is_some_and(|target| target != REPOSITORY) {
            return Outcome::Failed("there is no such repository".to_string());
        }
        if wanted.deed == Deed::Merge && wanted.into.as_ref().is_some_and(|into| into != "main") {
            return Outcome::Failed("there is no such branch".to_string());
        }
        self.delivered_branch = true;
        Outcome::Delivered { message: "the branch is there".to_string(), url: None }
    }
}
