//! A dialog with an agent that tells how it gets on: it is listened to, and what it says is acted upon.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};

use serde::{Deserialize, Serialize};

use super::brood::{Brood, Follows};
use super::cx::Cx;
use super::ear::{Ear, Lines};
use super::mailbox::{Mailbox, Origin, What};
use super::spec::Spec;
use crate::agent::{self, Answer, Heard, Progress, Talk, Utterance};
use crate::effect::Work;
use crate::id::{EffectId, TaskId};
use crate::input::{Outcome, Prepared};
use crate::limits;
use crate::policy::{counted, cut};
use crate::time::{Millis, moment};

/// A dialog with an agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Dialog {
    talk: Talk,
    ear: Ear,
    /// How it did, where that is settled whatever else it says.
    settled: Option<agent::Result>,
    /// Times in a row that its turn failed by what may pass.
    troubles: u8,
    /// When it is told to go on after that.
    again: Option<Millis>,
    /// Not before this moment, since 1970: then its user may use its model again.
    parked: Option<Millis>,
    /// It was begun in a life of the daemon of which nothing is known.
    past: Option<Past>,
    /// It was told something in such a life, and may have that still to do.
    #[serde(default)]
    told_more: bool,
    /// It was gone, and subtasks of its were at work.
    #[serde(default)]
    left_subtasks: bool,
    /// It has broken off what it did, and has only to be ended.
    through: bool,
    /// When something was heard of it last.
    heard: Millis,
    /// What it is expected to say something of.
    silence: Option<Silence>,
    /// People were told that nothing is heard of it.
    told_silent: bool,
    /// What may be on its way to it, if its task leads others.
    #[serde(default)]
    following: Option<Follows>,
}

/// What an earlier life of the daemon said and heard, of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Past {
    /// So many lines were handed over.
    handed: u64,
    /// Which of the letters those were is known.
    told_apart: bool,
}

/// What an agent is silent of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Silence {
    /// It waits for what its model says.
    Model,
    /// It rests, and does not say that it works on what it was told.
    Messages,
    /// It rests, and something runs behind the conversation.
    Background,
    /// It rests, and something that ran there has ended, or it was told something that is not known here.
    Returns,
    /// It waits for a person's answer.
    Answer,
}

impl Silence {
    /// From when on that is too long.
    const fn limit(self) -> Millis {
        match self {
            Self::Model => limits::SILENT_AGENT,
            Self::Messages => limits::TAKEN_UP,
            Self::Background => limits::BACKGROUND,
            Self::Returns => limits::RETURNS,
            Self::Answer => limits::UNANSWERED,
        }
    }
}

/// What it is told where its turn failed by what has passed, perhaps.
const GO_ON: &str = "Your last turn was broken off, as the model could not be reached. Go on where you were.";

impl Dialog {
    /// With the agent of a task, of which nothing has been heard; none with one that says nothing of how it gets on.
    pub(super) fn of(spec: &Spec, cx: &Cx<'_>) -> Option<Box<Self>> {
        let talk = spec.agent.talk(spec, folder(cx), (cx.api_url, cx.program))?;
        let (ear, heard) = (Ear::default(), cx.now);
        let (settled, again, parked, silence) = (None, None, None, None);
        let (past, told_more, through, told_silent, troubles, following) = (None, false, false, false, 0, None);
        Some(Box::new(Self {
            talk,
            ear,
            settled,
            troubles,
            again,
            parked,
            past,
            told_more,
            left_subtasks: false,
            through,
            heard,
            silence,
            told_silent,
            following,
        }))
    }

    /// The first words to an agent that was just started, or of which nothing else is known here than that it was.
    pub(super) fn begin(spec: &Spec, prepared: &Prepared, cx: &mut Cx<'_>) -> Option<Box<Self>> {
        let dialog = Self::of(spec, cx)?;
        cx.mailbox.open(dialog.talk.opening(), spec, prepared);
        Some(dialog)
    }

    /// It was begun in a life of the daemon of which nothing is known, and so many lines were handed over.
    pub(super) fn was_begun(&mut self, handed: u64, cx: &mut Cx<'_>) {
        self.talk.was_begun(handed);
        self.past = Some(Past { handed, told_apart: false });
        self.remembers(cx);
    }

    /// An earlier life of the daemon told it something that it could not write down.
    pub(super) const fn was_told_more(&mut self) {
        self.told_more = true;
    }

    /// Tells the letters apart that were handed over before, as soon as it is known which came first.
    fn remembers(&mut self, cx: &mut Cx<'_>) {
        if let Some(past) = self.past.as_mut().filter(|past| !past.told_apart)
            && let Some(setup) = self.talk.setup()
        {
            past.told_apart = true;
            cx.mailbox.begun_before(setup, past.handed);
        }
    }

    /// The agent is in hand, perhaps again.
    pub(super) fn listen(&mut self, cx: &mut Cx<'_>) {
        self.heard = cx.now;
        self.ear.listen(cx);
    }

    /// Nothing more is to be heard of it.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        self.ear.leave(cx);
    }

    /// The daemon has a new life.
    pub(super) fn recover(&mut self) {
        self.ear.recover();
    }

    /// Takes an answer, if it is one to what was asked here.
    pub(super) fn answered(&mut self, id: EffectId, outcome: &mut Outcome, cx: &mut Cx<'_>) -> bool {
        let Some(Lines { whole, too_long, deaf }) = self.ear.answered(id, outcome, cx) else { return false };
        if !too_long.is_empty() {
            cx.agent_misbehaves(&format!("lines that were too long and are passed over: {}", too_long.len()));
        }
        for head in &too_long {
            self.talk.hear_head(head).into_iter().for_each(|heard| self.act(heard, cx));
        }
        if !whole.is_empty() || !too_long.is_empty() {
            self.heard = cx.now;
            self.told_silent = false;
        }
        for line in whole {
            for heard in self.talk.hear(&line) {
                self.act(heard, cx);
            }
            self.remembers(cx);
        }
        if self.ear.has_caught_up() && self.past.take().is_some() {
            self.talk.is_present().into_iter().for_each(|heard| self.act(heard, cx));
        }
        if let Some(why) = deaf {
            self.fails(format!("what the agent says cannot be read: {why}"));
        }
        true
    }

    fn act(&mut self, heard: Heard, cx: &mut Cx<'_>) {
        match heard {
            Heard::Tell(what) => cx.progress(inner(&what, &folder(cx))),
            Heard::Say(line) => cx.mailbox.say(line),
            Heard::Message { name, state } => {
                if let Some(number) = cx.mailbox.is_at(name, state) {
                    match state {
                        Progress::Seen => cx.progress(format!("message {number}: seen")),
                        Progress::Over => cx.progress(format!("message {number}: done with")),
                        Progress::Dropped => cx.progress(format!("message {number}: not taken up")),
                    }
                }
            }
            Heard::TurnOver { well } => {
                cx.mailbox.turn_over();
                self.following = Follows::from_now(cx);
                if well {
                    (self.troubles, self.again, self.parked) = (0, None, None);
                }
            }
            Heard::Settled(agent::Result::Success) if cx.mailbox.is_busy() => {
                self.fails("it was asked to end before it had done all that it was told".to_string());
            }
            Heard::Settled(result) => {
                self.settled.get_or_insert(result);
            }
            Heard::Trouble(why) => self.trouble(&why, cx),
            Heard::Limit { until } => self.park(until, cx),
            Heard::Asks(question) if !cx.people => {
                let told = self.talk.nobody_answers(question);
                told.into_iter().for_each(|heard| self.act(heard, cx));
            }
            Heard::Asks(_) => {}
            Heard::Through => self.through = true,
            Heard::Unreadable(why) => cx.agent_misbehaves(&format!("a line could not be read: {why}")),
        }
    }

    fn fails(&mut self, why: String) {
        self.settled.get_or_insert(agent::Result::Failure(why));
    }

    /// The turn failed by what may pass: it is waited for, longer each time, and not for ever.
    fn trouble(&mut self, why: &str, cx: &mut Cx<'_>) {
        if self.troubles >= limits::TROUBLES {
            return;
        }
        let minutes = 1_u64 << self.troubles.min(4);
        self.troubles = self.troubles.saturating_add(1);
        self.again = Some(cx.now + Millis::seconds(minutes.saturating_mul(60)));
        cx.progress(format!("the agent goes on in {}: {why}", counted(minutes, "minute")));
    }

    /// Nothing is to be had of its model before that moment.
    fn park(&mut self, until: Millis, cx: &mut Cx<'_>) {
        if until <= cx.unix {
            return self.trouble("a usage limit is reached, and does not say until when", cx);
        }
        self.parked = Some(until);
        // The wall clock may be set, and the machine may sleep: it is looked at now and then.
        let long = Millis(until.0.saturating_sub(cx.unix.0)).min(limits::PARKED);
        self.again = Some(cx.now + long);
    }

    /// A person answers what it has asked.
    pub(super) fn answer(&mut self, answer: &Answer, cx: &mut Cx<'_>) {
        match self.talk.answer(answer) {
            Ok(heard) => heard.into_iter().for_each(|heard| self.act(heard, cx)),
            Err(why) => cx.progress(why),
        }
    }

    /// A subtask of its has ended: it is told, and may have something to do about it.
    pub(super) fn subtask_ended(&mut self, subtask: TaskId, news: &str, cx: &mut Cx<'_>) {
        cx.mailbox.go_on(news, cx.task, Origin::Subtask(subtask));
        self.following = Follows::from_now(cx);
    }

    /// What it has cost so far, in millionths of a dollar, by its own account.
    pub(super) const fn cost(&self) -> Option<u64> {
        self.talk.cost()
    }

    /// What a person is needed for.
    pub(super) fn needs(&self) -> Option<String> {
        let limit = || Some(format!("a usage limit is reached; it goes on at {}", moment(self.parked?)));
        let silent = self.told_silent && self.talk.awaits_its_model();
        let silent = || silent.then(|| "nothing is heard of the agent".to_string());
        self.talk.question().map(|what| cut(&what, limits::REASON)).or_else(limit).or_else(silent)
    }

    /// How it did, where there is nothing more to be waited for.
    pub(super) fn verdict(&self, cx: &Cx<'_>) -> Option<agent::Result> {
        if self.settled.is_some() {
            return self.settled.clone();
        }
        let busy = cx.mailbox.is_busy() && !bug!(EndedOverAMessage);
        // It is told of each of them as it ends.
        let waits = cx.brood.is_some_and(Brood::is_at_work) || self.following.is_some();
        let leads = waits && !bug!(EndedBeforeItsSubtasks);
        self.talk.done().filter(|_| self.again.is_none() && !busy && !leads && !self.told_more)
    }

    /// Has what waits for the agent sent, in order.
    pub(super) fn deliver(&mut self, spec: &Spec, cx: &mut Cx<'_>) {
        let (open, several) = (self.talk.is_open() && self.again.is_none(), self.talk.takes_several());
        let talk = &mut self.talk;
        let messages = |mailbox: &Mailbox| open && (several || !mailbox.has_under_way());
        deliver(messages, cx, |what| match what {
            What::Own(line) => line.clone(),
            What::Plan { name } if talk.is_anew() => talk.message(&spec.plan_anew(), *name),
            What::Plan { name } => talk.message(&spec.plan, *name),
            What::Word(Utterance { name, text }) | What::Message { name, text, .. } => talk.message(text, *name),
        });
    }

    /// It is to break off what it does, and then end. False where there are no words for that.
    pub(super) fn break_off(&mut self, cx: &mut Cx<'_>) -> bool {
        let lines = self.talk.break_off();
        let has_words = !lines.is_empty();
        lines.into_iter().for_each(|line| cx.mailbox.say(line));
        has_words
    }

    /// It has done its work, and is to end. False where there are no words for that.
    pub(super) fn close(&mut self, cx: &mut Cx<'_>) -> bool {
        let line = self.talk.close();
        line.map(|line| cx.mailbox.say(line)).is_some()
    }

    /// Whether it has broken off what it did, and has only to be ended.
    pub(super) const fn is_through(&self) -> bool {
        self.through
    }

    /// The agent's own name for the conversation, where it makes one up.
    pub(super) fn session(&self) -> Option<&str> {
        self.talk.session()
    }

    /// It has ended, and its log does at `end`: the rest is still to be heard.
    pub(super) fn hear_out(&mut self, end: u64, cx: &mut Cx<'_>) {
        self.ear.ended(end);
        self.ear.listen(cx);
    }

    /// When what could not be read is read once more.
    pub(super) fn listens_again(&self) -> Option<Millis> {
        self.ear.deadline()
    }

    /// Reads that once more, if it is time.
    pub(super) fn listen_again(&mut self, cx: &mut Cx<'_>) {
        self.ear.due(cx);
    }

    /// Whether all that it said has been heard.
    pub(super) fn has_heard_all(&self) -> bool {
        self.ear.has_heard_all()
    }

    /// It has ended by itself.
    pub(super) fn is_gone(&mut self, cx: &Cx<'_>) {
        self.left_subtasks = cx.brood.is_some_and(Brood::is_at_work);
    }

    /// How it did, by all that it said before it ended by itself, as `how` says. What it was told and had not done with then
    /// was not done.
    pub(super) fn judge(&self, how: &str, cx: &Cx<'_>) -> agent::Result {
        match (&self.settled, self.talk.ended(how, self.ear.said())) {
            (Some(settled), _) => settled.clone(),
            (None, agent::Result::Success) if cx.mailbox.is_busy() => {
                agent::Result::Failure(format!("{how} before it had done all that it was told"))
            }
            (None, agent::Result::Success) if self.left_subtasks => {
                agent::Result::Failure(format!("{how} before its subtasks had ended"))
            }
            (None, result) => result,
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let silence = self.silence.as_ref().map(|silence| self.heard + silence.limit());
        let follows = self.following.as_ref().map(Follows::deadline);
        [self.listens_again(), self.again, silence, follows].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(super) fn due(&mut self, cx: &mut Cx<'_>) {
        self.listen_again(cx);
        if self.again.is_some_and(|again| again <= cx.now) {
            match self.parked.filter(|until| cx.unix < *until) {
                Some(until) => self.park(until, cx),
                None => {
                    (self.again, self.parked) = (None, None);
                    cx.mailbox.go_on(GO_ON, cx.task, Origin::At(cx.now));
                }
            }
        }
        self.following = self.following.take().and_then(|follows| follows.left(cx));
        let over = |silence: &mut Silence| self.heard + silence.limit() <= cx.now;
        if let Some(silence) = self.silence.take_if(over) {
            self.too_silent(&silence, cx);
        }
    }

    fn too_silent(&mut self, silence: &Silence, cx: &mut Cx<'_>) {
        self.told_silent |= *silence != Silence::Answer;
        let minutes = counted(silence.limit().0 / 60_000, "minute");
        match silence {
            Silence::Model => cx.progress(format!("nothing was heard of the agent for {minutes}; it is waited for")),
            Silence::Messages => {
                let count = cx.mailbox.take_for_seen();
                if count > 0 {
                    cx.progress(format!("the agent does not say whether it read {}", counted(count as u64, "message")));
                }
                if self.talk.done().is_none() && !bug!(SilentForGood) {
                    self.fails(format!("the agent was told its plan, and said nothing for {minutes}"));
                }
            }
            Silence::Background => {
                cx.progress(format!(
                    "what runs behind the agent was silent for {minutes}, and is not waited for any more"
                ));
                self.talk.forget_background();
            }
            Silence::Returns => {
                self.told_more = false;
                self.talk.forget_background();
            }
            Silence::Answer if cx.people => {}
            // It has asked while no server was there, and the one that is has no people who answer.
            Silence::Answer => {
                let told = self.talk.nobody_answers_any();
                told.into_iter().for_each(|heard| self.act(heard, cx));
            }
        }
    }

    /// Watches for a silence that is too long, of an agent that `goes`.
    pub(super) fn watch(&mut self, goes: bool, cx: &Cx<'_>) {
        let silence = if !goes || self.again.is_some() {
            None
        } else if self.talk.question().is_some() {
            Some(Silence::Answer)
        } else if self.talk.awaits_its_model() {
            Some(Silence::Model).filter(|_| !self.told_silent)
        } else if self.talk.is_at_rest() && cx.mailbox.is_unseen() {
            Some(Silence::Messages)
        } else if self.talk.has_background() {
            Some(Silence::Background)
        } else if self.talk.returns() || self.told_more && self.talk.is_at_rest() {
            Some(Silence::Returns)
        } else {
            None
        };
        // What stood still could say nothing.
        if silence.is_some() && self.silence.is_none() {
            self.heard = cx.now;
        }
        self.silence = silence;
    }
}

/// The worktree that a task's agent works in.
fn folder(cx: &Cx<'_>) -> String {
    format!("{}/{}", cx.worktrees, cx.task)
}

/// A text in which files of that folder are told as they are called there.
pub(super) fn inner(text: &str, folder: &str) -> String {
    text.replace(&(String::from(folder) + "/"), "")
}

/// Has what waits for an agent sent, in order: `line` is how it reads it, and `messages` says whether the next may be one.
pub(super) fn deliver(messages: impl Fn(&Mailbox) -> bool, cx: &mut Cx<'_>, mut line: impl FnMut(&What) -> String) {
    loop {
        let mut mailbox = core::mem::take(cx.mailbox);
        let may = messages(&mailbox);
        let sent = mailbox.send(may, |n, what| cx.work(Work::Stdin { n, text: line(what) }));
        *cx.mailbox = mailbox;
        if !sent {
            return;
        }
    }
}
