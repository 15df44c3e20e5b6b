//! What the daemon has around it, as far as its journal tells: what it asked for and is not answered, its agents, its
//! connections, its records. Each input is one that the world could have given just then, or is refused.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::Daemon;
use makima_core::effect::{Effect, Work};
use makima_core::id::{EffectId, SecretId, TaskId};
use makima_core::input::{Boot, Input, Outcome};
use makima_core::time::Now;

use super::answers;
use super::disk::Disk;
use super::links::Links;
use super::output::{Outputs, Read};

/// What is around a daemon.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    life: Life,
    last: Now,
    /// The newest effect.
    newest: EffectId,
    works: BTreeMap<EffectId, Asked>,
    /// Effects that were answered.
    answered: BTreeSet<EffectId>,
    /// Starts that were under way when the task was empty: until then nobody may have been asked to empty it, as that waits for
    /// the journal.
    called_off: BTreeSet<EffectId>,
    /// Agents whose end is not told yet, by what started or found them.
    agents: BTreeMap<EffectId, TaskId>,
    /// Tasks whose agent was in hand in this life.
    in_hand: BTreeSet<TaskId>,
    /// Whether the journal cannot be written, where that is known.
    trouble: Option<bool>,
    links: Links,
    outputs: Outputs,
    disk: Disk,
}

/// How much of the daemon's life is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It has not begun.
    Before,
    /// It had begun before what is known: there may be effects, agents and connections that are not.
    Partial,
    /// All of it.
    Whole,
    /// It is over.
    Over,
}

/// Something that is under way.
#[derive(Clone, Debug)]
struct Asked {
    task: TaskId,
    work: Work,
    cancelled: bool,
}

impl Mirror {
    /// Around a daemon of which nothing else is known.
    pub(super) fn around(daemon: &Daemon) -> Self {
        let incarnation = daemon.incarnation();
        Self {
            life: if incarnation == 0 { Life::Before } else { Life::Partial },
            last: Now::default(),
            newest: EffectId { incarnation, n: 0 },
            works: BTreeMap::new(),
            answered: BTreeSet::new(),
            called_off: BTreeSet::new(),
            agents: BTreeMap::new(),
            in_hand: BTreeSet::new(),
            trouble: None,
            links: Links::default(),
            outputs: Outputs::default(),
            disk: Disk::default(),
        }
    }

    /// Whether everything of this life of the daemon is known.
    pub(super) fn is_whole(&self) -> bool {
        self.life == Life::Whole
    }

    /// Something happens to the daemon, as it stands before it.
    pub(super) fn takes(&mut self, daemon: &Daemon, now: Now, input: &Input) -> Result<(), String> {
        if let Input::Boot(boot) = input {
            self.last = now;
            return self.begins(daemon, boot);
        }
        if let Life::Before | Life::Over = self.life {
            return Err("the daemon has not begun, or has ended".to_owned());
        }
        if now.mono < self.last.mono || now.asleep < self.last.asleep {
            return Err(format!("time goes back: {now:?} after {:?}", self.last));
        }
        self.last = now;
        match input {
            Input::Done { id, outcome } => self.done(daemon, *id, outcome),
            Input::Exited { id, .. } => match self.agents.remove(id) {
                None if self.life == Life::Whole => Err(format!("{id} has no agent that runs")),
                Some(_) | None => Ok(()),
            },
            Input::Journal { trouble } if self.trouble == Some(*trouble) => {
                Err(format!("that the journal is in trouble is {trouble} already"))
            }
            Input::Journal { trouble } => {
                self.trouble = Some(*trouble);
                Ok(())
            }
            Input::LinkUp { .. }
            | Input::LinkDown { .. }
            | Input::Command { .. }
            | Input::Unreadable { .. }
            | Input::Said { .. }
            | Input::Flushed { .. }
            | Input::Pong { .. } => self.links.takes(input, self.life == Life::Partial),
            Input::Boot(_) | Input::Tick | Input::Stop { .. } => Ok(()),
        }
    }

    /// A new life of the daemon: of the one before only its records are left.
    fn begins(&mut self, daemon: &Daemon, boot: &Boot) -> Result<(), String> {
        if boot.incarnation <= daemon.incarnation() {
            return Err(format!("life {} comes after life {}", boot.incarnation, daemon.incarnation()));
        }
        self.disk.finds(&boot.leftovers)?;
        let (disk, last) = (std::mem::take(&mut self.disk), self.last);
        let newest = EffectId { incarnation: boot.incarnation, n: 0 };
        *self = Self { life: Life::Whole, last, newest, disk, trouble: Some(false), ..Self::around(daemon) };
        Ok(())
    }

    fn done(&mut self, daemon: &Daemon, id: EffectId, outcome: &Outcome) -> Result<(), String> {
        let Some(asked) = self.works.remove(&id) else {
            // What was under way when nothing was known yet; also what the daemon had given up on by then.
            let before = self.life == Life::Partial && id.incarnation == daemon.incarnation();
            let may = before && self.answered.insert(id);
            return if may {
                Ok(())
            } else {
                Err(format!("{id} is not under way: it was answered, or never asked for"))
            };
        };
        let Asked { task, work, cancelled } = asked;
        self.answered.insert(id);
        answers::check(&work, outcome)?;
        self.disk.done(task, &work, outcome)?;
        match (&work, outcome) {
            (Work::Start(_) | Work::Attach, Outcome::Started { .. }) => {
                if self.called_off.remove(&id) {
                    return Err("an agent was started that was called off".to_owned());
                }
                self.agents.insert(id, task);
                self.in_hand.insert(task);
            }
            (Work::Read { from }, Outcome::Chunk(chunk)) => {
                self.outputs.read(task, Read { id, from: *from, cancelled }, chunk)?;
            }
            (Work::Empty, Outcome::Emptied { log_end, .. }) => {
                let starts = self.works.iter().filter(|(_, asked)| asked.task == task);
                let starts = starts.filter(|(_, asked)| matches!(asked.work, Work::Start(_)));
                self.called_off.extend(starts.map(|(id, _)| *id));
                self.outputs.emptied(task, *log_end, self.newest)?;
            }
            (Work::Freeze | Work::Thaw, _) => self.in_turn(id, task)?,
            (Work::Stdin { .. }, Outcome::Done) if self.life == Life::Whole && !self.in_hand.contains(&task) => {
                return Err("a message was taken by an agent that is not in hand".to_owned());
            }
            (Work::MakeKey, Outcome::Key(key)) if *key != SecretId::ToolKey(task) => {
                return Err(format!("the key of {task} is {key:?}"));
            }
            (Work::Weigh { tasks }, Outcome::Weighed(weighed)) => {
                if let Some((other, _)) = weighed.tasks.iter().find(|(task, _)| !tasks.contains(task)) {
                    return Err(format!("{other} was weighed, and nobody asked"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Trees are stopped and let go on one after the other.
    fn in_turn(&self, id: EffectId, task: TaskId) -> Result<(), String> {
        let mut before = self.works.range(..id).filter(|(_, asked)| asked.task == task);
        match before.find(|(_, asked)| matches!(asked.work, Work::Freeze | Work::Thaw)) {
            Some((first, asked)) => Err(format!("{id} is answered before the `{}` {first}", asked.work.kind())),
            None => Ok(()),
        }
    }

    /// What the daemon wanted then.
    pub(super) fn gave(&mut self, effects: &[Effect]) -> Result<(), String> {
        for effect in effects {
            match effect {
                Effect::Work { id, task, work } => {
                    if *id <= self.newest {
                        return Err(format!("the effect {id} comes after {}", self.newest));
                    }
                    self.newest = *id;
                    self.disk.asked(*task, work);
                    self.works.insert(*id, Asked { task: *task, work: work.clone(), cancelled: false });
                }
                Effect::Cancel { id } => {
                    if let Some(asked) = self.works.get_mut(id) {
                        asked.cancelled = true;
                    }
                }
                Effect::Link(effect) => self.links.gave(effect)?,
                Effect::Tell(_) => {}
                Effect::Exit(_) => self.life = Life::Over,
            }
        }
        Ok(())
    }
}
