//! What is said to an agent: kept until it is known to have reached it, and numbered, so that it does so once. Of an agent
//! that tells what it takes up, users' messages are kept until it has done with them.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::spec::Spec;
use crate::agent::{Progress, Utterance};
use crate::digest;
use crate::id::{EffectId, TaskId};
use crate::input::Prepared;
use crate::limits;
use crate::time::Millis;

/// Letters in order, those of users bounded in number and size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Mailbox {
    letters: VecDeque<Letter>,
    /// Of users' messages.
    bytes: usize,
    /// The number of the newest that was handed over.
    last: u64,
    /// How many messages of users' there were.
    count: u64,
    /// The agent tells which messages it takes up.
    tells: bool,
    /// It has said so of one.
    #[serde(default)]
    heeded: bool,
    /// What it had not done with when its task ended.
    #[serde(default)]
    left: Vec<Utterance>,
}

/// Something that is said to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Letter {
    /// Under which it is handed over, once and for all; none before that.
    n: Option<u64>,
    what: What,
    at: At,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum What {
    /// A line of the talk itself, as it stands.
    Own(String),
    /// The plan, which the task's spec holds.
    Plan {
        /// Its name for the agent.
        name: Uuid,
    },
    /// What was said in the conversation that is gone on with, or a word of ours in a user's place.
    Word(Utterance),
    /// A user's message.
    Message {
        /// The how manieth of the task's, from 1 on.
        number: u64,
        /// Its name for the agent.
        name: Uuid,
        /// What it says.
        text: String,
    },
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum At {
    Waiting,
    /// On its way by this effect.
    Sent(EffectId),
    /// With the agent.
    Delivered,
    /// The agent works on it.
    Seen,
    /// It did not come to the agent, or the agent has put it away: whoever goes on with the conversation says it.
    Left,
}

/// A letter's effect was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It is no letter's.
    No,
    /// A line of the talk, or a word of ours.
    Own,
    /// The plan.
    Plan,
    /// The user's message of this number.
    Message(u64),
}

impl What {
    const fn name(&self) -> Option<Uuid> {
        match self {
            Self::Own(_) => None,
            Self::Plan { name } | Self::Word(Utterance { name, .. }) | Self::Message { name, .. } => Some(*name),
        }
    }

    /// Room that it takes of what users have.
    fn bytes(&self) -> usize {
        match self {
            Self::Own(_) | Self::Plan { .. } | Self::Word(_) => 0,
            Self::Message { text, .. } => text.len(),
        }
    }

    /// Whether a user said it.
    const fn is_a_users(&self) -> bool {
        matches!(self, Self::Message { .. })
    }

    const fn answered(&self) -> Answered {
        match self {
            Self::Own(_) | Self::Word(_) => Answered::Own,
            Self::Plan { .. } => Answered::Plan,
            Self::Message { number, .. } => Answered::Message(*number),
        }
    }
}

/// The number of the line that a talk begins with.
const FIRST: u64 = 1;

/// Whence a message comes, as far as that tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// By its number among the server's commands, and the series that it is of.
    Numbered((u64, u64)),
    /// It has none, and came at this moment.
    At(Millis),
    /// It tells of the end of this one, which ends once.
    Subtask(TaskId),
}

/// The name of a task's message for its agent. Another message has another name, and the same one has the same: one that is
/// taken from a journal once more was first taken at the same moment, and one that the server says again has its number.
fn name_of(task: TaskId, origin: Origin, text: &str, nth: usize) -> Uuid {
    let half = |which: u8| digest::of(&(task, origin, text, nth, which));
    uuid::Builder::from_custom_bytes(Uuid::from_u64_pair(half(0), half(1)).into_bytes()).into_uuid()
}

/// The name of a task's plan for its agent.
fn plan_of(task: TaskId) -> Uuid {
    name_of(task, Origin::At(Millis(0)), "", 0)
}

impl Mailbox {
    /// A talk begins with an agent that tells which messages it takes up: with this line, with what was left of the conversation
    /// that is gone on with and does not stand in it, and then with the plan.
    pub(crate) fn open(&mut self, opening: String, spec: &Spec, prepared: &Prepared) {
        let letter = |n, what| Letter { n, what, at: At::Waiting };
        self.letters.push_front(letter(None, What::Plan { name: plan_of(spec.id) }));
        let stands_there = |name: &Uuid| prepared.recalled.iter().flatten().any(|recalled| recalled == name);
        let left = spec.conversation.iter().flat_map(|conversation| &conversation.left);
        left.rev()
            .filter(|said| !stands_there(&said.name))
            .for_each(|said| self.letters.push_front(letter(None, What::Word(said.clone()))));
        self.letters.push_front(letter(Some(FIRST), What::Own(opening)));
        self.last = self.last.max(FIRST);
        self.tells = true;
    }

    /// Whoever hands letters over has handed all up to this number. Whether some of them are not known here: of an agent that
    /// tells which it takes up.
    pub(crate) fn handed(&mut self, last: u64) -> bool {
        // A script's messages bear the numbers in which they came: those that were handed over are not handed over again.
        let unknown = self.tells && last > self.last;
        if unknown {
            self.last = last;
        }
        unknown
    }

    /// Of a talk that an earlier life began, of which nothing is known, so many lines came before the first message, and all
    /// up to `last` were handed over.
    pub(crate) fn begun_before(&mut self, setup: u64, last: u64) {
        let opens = |letter: &&mut Letter| !matches!(letter.what, What::Own(_)) && letter.n.is_none();
        let plan = self.letters.iter().position(|letter| matches!(letter.what, What::Plan { .. }));
        let first = self.letters.iter_mut().take(plan.map_or(0, |plan| plan.saturating_add(1))).filter(opens);
        for (letter, n) in first.zip(setup.saturating_add(1)..=last) {
            (letter.n, letter.at) = (Some(n), At::Delivered);
        }
    }

    /// Whether the agent has a message, or the plan, on its way or to work on.
    pub(crate) fn has_under_way(&self) -> bool {
        let is_under_way = |letter: &Letter| match letter.at {
            At::Waiting | At::Left => false,
            At::Sent(_) | At::Delivered | At::Seen => letter.what.name().is_some(),
        };
        self.letters.iter().any(is_under_way)
    }

    /// The number of the user's message that came last.
    pub(crate) const fn newest(&self) -> u64 {
        self.count
    }

    /// Whether the agent tells which messages it takes up.
    pub(crate) const fn tells(&self) -> bool {
        self.tells
    }

    /// Takes a user's message. False where it does not fit.
    pub(crate) fn push(&mut self, text: String, task: TaskId, origin: Origin) -> bool {
        let fits = self.fits(&text);
        if fits {
            let name = self.named(&text, task, origin);
            let what = What::Message { number: self.count, name, text };
            self.letters.push_back(Letter { n: None, what, at: At::Waiting });
            self.weigh();
        }
        fits
    }

    /// Whether there is room for it.
    fn fits(&self, text: &str) -> bool {
        let bytes = self.bytes.saturating_add(text.len());
        self.messages() < limits::MESSAGES && bytes <= limits::MESSAGE_BYTES
    }

    /// The name of a user's message, which is the newest from here on.
    fn named(&mut self, text: &str, task: TaskId, origin: Origin) -> Uuid {
        self.count = self.count.saturating_add(1);
        // Who says the same twice at once means it.
        let named = |name| self.letters.iter().any(|letter| letter.what.name() == Some(name));
        let names = (0..=self.letters.len()).map(|nth| name_of(task, origin, text, nth));
        names.into_iter().find(|name| !named(*name)).unwrap_or_default()
    }

    /// Takes a user's message that comes after the agent's end, for whoever goes on. Its number; none where it does not fit.
    pub(crate) fn push_late(&mut self, text: String, task: TaskId, origin: Origin) -> Option<u64> {
        let bytes = self.left.iter().map(|left| left.text.len()).fold(text.len(), usize::saturating_add);
        let fits = self.left.len() < limits::MESSAGES && bytes <= limits::MESSAGE_BYTES;
        if !fits || !self.fits(&text) {
            return None;
        }
        let name = self.named(&text, task, origin);
        self.left.push(Utterance { name, text });
        Some(self.count)
    }

    /// Takes a word of ours in a user's place, which goes before what users have to say.
    pub(crate) fn go_on(&mut self, word: &str, task: TaskId, origin: Origin) {
        // What ends once is told once, even where it reads otherwise by now.
        let text = if matches!(origin, Origin::Subtask(_)) { "" } else { word };
        let name = name_of(task, origin, text, 0);
        if self.letters.iter().any(|letter| letter.what.name() == Some(name)) {
            return;
        }
        let what = What::Word(Utterance { name, text: word.into() });
        let behind = self.letters.iter().position(|letter| letter.at == At::Waiting && letter.what.is_a_users());
        self.letters.insert(behind.unwrap_or(self.letters.len()), Letter { n: None, what, at: At::Waiting });
    }

    /// Takes a line of the talk itself, which goes before all messages that wait.
    pub(crate) fn say(&mut self, line: String) {
        self.letters.push_back(Letter { n: None, what: What::Own(line), at: At::Waiting });
    }

    /// How many of users' messages wait, are on their way, or are worked on.
    pub(crate) fn messages(&self) -> usize {
        self.letters.iter().filter(|letter| letter.what.is_a_users()).count()
    }

    /// Whether the agent has a message, or the plan, to come or to work on.
    pub(crate) fn is_busy(&self) -> bool {
        self.letters.iter().any(|letter| letter.what.name().is_some() && letter.at != At::Left)
    }

    /// Whether the agent has messages, or the plan, and has not said that it works on them.
    pub(crate) fn is_unseen(&self) -> bool {
        self.letters.iter().any(|letter| letter.at == At::Delivered)
    }

    /// Whether a user's message waits to be sent.
    pub(crate) fn has_waiting(&self) -> bool {
        let waits = |letter: &Letter| letter.at == At::Waiting && letter.what.is_a_users();
        self.letters.iter().any(waits)
    }

    /// Has the next letter sent by `send`, which is given its number: what was sent before goes first, then lines of the
    /// talk, then messages, if they may go. False where none is to be sent.
    pub(crate) fn send(&mut self, messages: bool, send: impl FnOnce(u64, &What) -> EffectId) -> bool {
        let rank = |letter: &Letter| match (letter.n, &letter.what) {
            (Some(n), _) => Some((0_u8, n)),
            (None, What::Own(_)) => Some((1, 0)),
            (None, What::Plan { .. } | What::Word(_) | What::Message { .. }) => messages.then_some((2, 0)),
        };
        let waits = self.letters.iter_mut().filter(|letter| letter.at == At::Waiting);
        let next = waits.filter_map(|letter| rank(letter).map(|rank| (rank, letter))).min_by_key(|(rank, _)| *rank);
        let Some((_, letter)) = next else { return false };
        let last = if bug!(MessageNumberUsedAgain) { 0 } else { self.last };
        let n = letter.n.unwrap_or(last.saturating_add(1));
        self.last = last.max(n);
        letter.n = Some(n);
        letter.at = At::Sent(send(n, &letter.what));
        true
    }

    /// That effect was answered: the letter is there, or it never will be. Messages for an agent that tells what it takes up
    /// stay, until it does or somebody else has to say them.
    pub(crate) fn answered(&mut self, id: EffectId, done: bool) -> Answered {
        let Some(at) = self.letters.iter().position(|letter| letter.at == At::Sent(id)) else { return Answered::No };
        let Some(letter) = self.letters.get_mut(at) else { return Answered::No };
        let answered = letter.what.answered();
        if self.tells && letter.what.name().is_some() {
            letter.at = if done { At::Delivered } else { At::Left };
        } else {
            self.letters.remove(at);
            self.weigh();
        }
        answered
    }

    /// The agent says how far a message has come. Its number, where it is a user's and this is news.
    pub(crate) fn is_at(&mut self, name: Uuid, progress: Progress) -> Option<u64> {
        let letter = self.letters.iter_mut().find(|letter| letter.what.name() == Some(name))?;
        let news = letter.at != At::Seen;
        let number = match &letter.what {
            What::Message { number, .. } => Some(*number),
            What::Own(_) | What::Plan { .. } | What::Word(_) => None,
        };
        // What is on its way as far as is known here has arrived: the answer may come behind what the agent says.
        letter.at = if progress == Progress::Dropped { At::Left } else { At::Seen };
        if progress == Progress::Over {
            self.letters.retain(|letter| letter.what.name() != Some(name));
            self.weigh();
        }
        number.filter(|_| news)
    }

    /// A turn is over, and with it all that the agent worked on.
    pub(crate) fn turn_over(&mut self) {
        self.heeded = true;
        self.letters.retain(|letter| letter.at != At::Seen);
        self.weigh();
    }

    /// The agent has what it has, and will not say so. How many of users' messages that are.
    pub(crate) fn take_for_seen(&mut self) -> usize {
        let before = self.messages();
        self.letters.retain(|letter| letter.at != At::Delivered);
        self.weigh();
        before.saturating_sub(self.messages())
    }

    /// The daemon has a new life: what is not known to have reached the agent is sent again, under its number.
    pub(crate) fn unsend(&mut self) {
        let sent = self.letters.iter_mut().filter(|letter| matches!(letter.at, At::Sent(_)));
        sent.for_each(|letter| letter.at = At::Waiting);
    }

    /// The task has ended. What its agent has not done with is kept for whoever goes on with the conversation. Says how many of
    /// users' messages came too late: of those that were left before, that was said.
    pub(crate) fn close(&mut self, spec: &Spec) -> usize {
        if spec.agent.talks() {
            let again = |letter: &&Letter| letter.at != At::Seen || spec.agent.knows_names();
            let late = mem::take(&mut self.left);
            self.left = self.not_done_with(spec, again);
            self.left.extend(late);
        }
        let too_late = |letter: &&Letter| match letter.at {
            At::Waiting | At::Delivered => letter.what.is_a_users(),
            // What is on its way still is told of when that is answered.
            At::Sent(_) | At::Seen | At::Left => false,
        };
        let count = self.letters.iter().filter(too_late).count();
        self.letters.retain(|letter| letter.at != At::Waiting);
        self.weigh();
        count
    }

    fn not_done_with(&self, spec: &Spec, again: impl Fn(&&Letter) -> bool) -> Vec<Utterance> {
        let plan = || Utterance { name: plan_of(spec.id), text: spec.plan.clone() };
        let said = self.letters.iter().filter(again).filter_map(|letter| match &letter.what {
            What::Own(_) => None,
            What::Plan { .. } => Some(plan()),
            What::Word(said) => Some(said.clone()),
            What::Message { name, text, .. } => Some(Utterance { name: *name, text: text.clone() }),
        });
        let unopened = (!self.tells).then(plan);
        unopened.into_iter().chain(said).collect()
    }

    /// What the agent had not done with when its task ended, in order.
    pub(crate) fn left(&self) -> &[Utterance] {
        &self.left
    }

    /// Whether the agent has done with anything that it was told. What it has only taken up need not stand in its conversation:
    /// that is written down a little later, and an agent that is killed in between has none.
    pub(crate) const fn is_heeded(&self) -> bool {
        self.heeded
    }

    /// Whether it works on something that it was told.
    pub(crate) fn is_at_work(&self) -> bool {
        self.letters.iter().any(|letter| letter.at == At::Seen)
    }

    fn weigh(&mut self) {
        self.bytes = self.letters.iter().map(|letter| letter.what.bytes()).sum();
    }
}

#[cfg(test)]
mod tests;
