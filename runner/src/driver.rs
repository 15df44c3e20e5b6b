//! The one loop: inputs into the core, its effects to the transport and the executor.

use std::collections::VecDeque;

use makima_core::Daemon;
use makima_core::effect::{Effect, Exit, LinkEffect, Way};
use makima_core::id::Epoch;
use makima_core::input::{Boot, Input, LinkCause, Stop};
use makima_core::notice::{Level, Notice};
use makima_core::protocol::Wire;
use makima_transports::{Endpoint, LinkEvent, LinkHandle, Options, open_with};
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, timeout};

use crate::executor::{Executor, Secrets};
use crate::inspect::meters::Meters;
use crate::inspect::{Question, Told};
use crate::journal::Journal;
use crate::{clock, edge};

/// Events of a connection that may wait to be looked at; beyond it the socket is not read.
const EVENTS: usize = 256;

/// For the last frames of a connection that is closed when the daemon ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Both ends of a channel.
type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// What people can know of a daemon that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How the link stands.
    pub link: String,
    /// What was last said about it, where that was not good.
    pub trouble: Option<String>,
    /// Tasks whose end the server is not known to know.
    pub untold: usize,
    /// Tasks that have not ended.
    pub unended: usize,
}

/// Everything that a daemon is made of, before it runs.
pub struct Driver {
    core: Daemon,
    journal: Journal,
    /// Effects in their order that wait until the record of that number is flushed.
    held: VecDeque<(u64, Effect)>,
    executor: Executor,
    endpoint: Endpoint,
    secrets: Secrets,
    link: Option<(Epoch, LinkHandle)>,
    link_events: Channel<(Epoch, LinkEvent)>,
    executor_events: mpsc::UnboundedReceiver<Input>,
    stops: mpsc::Receiver<Stop>,
    state: watch::Sender<State>,
    exit: Option<Exit>,
    /// What was last said about the journal, if it cannot be written.
    journal_trouble: Option<String>,
    questions: Option<mpsc::Receiver<Question>>,
    meters: Meters,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Driver {
    /// A daemon that talks to `endpoint`. `executor_events` is where the executor answers to, `stops` tells it
    /// to end.
    #[must_use]
    pub fn new(
        (core, journal): (Daemon, Journal),
        (executor, executor_events): (Executor, mpsc::UnboundedReceiver<Input>),
        endpoint: Endpoint,
        secrets: Secrets,
        stops: mpsc::Receiver<Stop>,
        state: watch::Sender<State>,
    ) -> Self {
        let link_events = mpsc::channel(EVENTS);
        Self {
            core,
            journal,
            held: VecDeque::new(),
            executor,
            endpoint,
            secrets,
            link: None,
            link_events,
            executor_events,
            stops,
            state,
            exit: None,
            journal_trouble: None,
            questions: None,
            meters: Meters::default(),
        }
    }

    /// The same, and what is asked there is answered.
    #[must_use]
    pub fn with_questions(mut self, questions: mpsc::Receiver<Question>) -> Self {
        self.questions = Some(questions);
        self
    }

    /// Runs until the core says that its work is done.
    pub async fn run(mut self, boot: Boot) -> Exit {
        let mut effects = Vec::new();
        let mut input = Input::Boot(boot);
        loop {
            self.step(input, &mut effects);
            if let Some(exit) = self.exit {
                self.last_words().await;
                return exit;
            }
            self.tell_state();
            input = self.next().await;
        }
    }

    /// One step: written down, and done, or held until it is written down for good.
    fn step(&mut self, input: Input, effects: &mut Vec<Effect>) {
        self.meters.steps = self.meters.steps.saturating_add(1);
        let now = clock::now();
        let record = self.journal.record(now, &input);
        self.core.step(now, input, effects);
        let n = self.journal.write(record, effects, &self.core);
        for effect in effects.drain(..) {
            // What calls an effect off comes behind it.
            let behind = matches!(effect, Effect::Cancel { .. }) && !self.held.is_empty();
            if behind || effect.waits_for_the_journal() {
                self.held.push_back((n, effect));
            } else {
                self.carry_out(effect);
            }
        }
        self.let_go();
    }

    /// Does what waited for the journal, as far as that is now.
    fn let_go(&mut self) {
        while let Some((_, effect)) = self.held.pop_front_if(|(n, _)| self.journal.lets_go(*n)) {
            self.carry_out(effect);
        }
    }

    /// Waits for whatever happens next.
    async fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.input().await {
                return input;
            }
            self.let_go();
            self.tell_journal();
        }
    }

    /// The same; none where only the journal has moved.
    async fn input(&mut self) -> Option<Input> {
        let wait = clock::until(self.core.deadline().map(|(due, _)| due), clock::now());
        Some(tokio::select! {
            () = self.journal.moved() => return None,
            Some(question) = asked(&mut self.questions) => {
                self.answer(question);
                return None;
            }
            Some((epoch, event)) = self.link_events.1.recv() => {
                if matches!(event, LinkEvent::Down(_)) {
                    // Nothing more comes of it: nobody has to wait for its end.
                    self.link.take_if(|(open, _)| *open == epoch);
                }
                edge::input(epoch, event, &self.secrets)
            }
            Some(input) = self.executor_events.recv() => {
                self.meters.answered(&input);
                input
            }
            Some(how) = self.stops.recv() => Input::Stop { how },
            () = tokio::time::sleep(wait) => Input::Tick,
        })
    }

    /// Says when the journal cannot be written, and when it can again.
    fn tell_journal(&mut self) {
        let trouble = self.journal.standing().trouble;
        match (&self.journal_trouble, &trouble) {
            (None, Some(why)) => {
                tracing::error!("the journal cannot be written: {why}; agents go on, and it is tried again");
            }
            (Some(_), None) => tracing::info!("the journal is written again"),
            _ => return,
        }
        self.journal_trouble = trouble;
    }

    /// Tells how it stands, between two steps.
    fn answer(&self, question: Question) {
        // Whoever has left needs no answer.
        match question {
            Question::Turn(to) => drop(to.send(self.core.overdue(clock::now().mono))),
            Question::Standing(to) => {
                let (report, journal, held) = (self.core.report(), self.journal.standing(), self.held.len());
                drop(to.send(Box::new(Told { report, journal, held, meters: self.meters.clone() })));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Link(LinkEffect::Connect { epoch }) => {
                // The core speaks version 1 only, so nothing else is asked for.
                let options = Options { wire: Wire::One, ..Options::default() };
                let events = self.link_events.0.clone();
                self.meters.way = Some("websocket");
                self.link = Some((epoch, open_with(self.endpoint.clone(), options, Way::WebSocket, epoch, events)));
            }
            Effect::Link(LinkEffect::Close { epoch }) => {
                self.link.take_if(|(open, _)| *open == epoch);
            }
            Effect::Link(effect) => {
                let epoch = epoch_of(&effect);
                if let Some((_, link)) = self.link.as_ref().filter(|(open, _)| *open == epoch)
                    && let Some(outgoing) = edge::outgoing(effect, &self.secrets)
                {
                    link.send(outgoing);
                }
            }
            Effect::Work { id, task, work } => {
                self.meters.began(id, &work);
                self.executor.perform(id, task, work);
            }
            Effect::Cancel { id } => self.executor.cancel(id),
            Effect::Tell(notice) => self.tell(&notice),
            Effect::Exit(exit) => self.exit = Some(exit),
        }
    }

    fn tell(&mut self, notice: &Notice) {
        let text = self.secrets.masked(&notice.to_string());
        match notice.level() {
            Level::Error => tracing::error!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
            Level::Info => tracing::info!("{text}"),
        }
        self.meters.noticed(notice, &text);
        let trouble = match notice {
            Notice::LinkLost { .. } | Notice::Silent { .. } | Notice::KeyRefused { .. } => Some(text),
            Notice::Linked => None,
            Notice::ServerError { .. }
            | Notice::Slept { .. }
            | Notice::NoPongs
            | Notice::Misbehaved { .. }
            | Notice::Task { .. } => return,
        };
        self.state.send_if_modified(|state| std::mem::replace(&mut state.trouble, trouble.clone()) != trouble);
    }

    fn tell_state(&self) {
        let (link, untold, unended) = (self.core.link_state(), self.core.untold(), self.core.unended());
        self.state.send_if_modified(|state| {
            let changed = state.link != link || state.untold != untold || state.unended != unended;
            if changed {
                (state.link, state.untold, state.unended) = (link, untold, unended);
            }
            changed
        });
    }

    /// Lets the connection hand over what it was given before.
    async fn last_words(mut self) {
        self.journal.end(&self.core, LAST_WORDS).await;
        let Some((last, link)) = self.link.take() else { return };
        drop(link);
        let gone = async {
            while let Some((epoch, event)) = self.link_events.1.recv().await {
                if epoch == last && matches!(event, LinkEvent::Down(LinkCause::Closed(_) | LinkCause::Broken(_))) {
                    return;
                }
            }
        };
        let _ = timeout(LAST_WORDS, gone).await;
    }
}

/// The next question, if anybody may ask.
async fn asked(questions: &mut Option<mpsc::Receiver<Question>>) -> Option<Question> {
    questions.as_mut()?.recv().await
}

const fn epoch_of(effect: &LinkEffect) -> Epoch {
    match effect {
        LinkEffect::Connect { epoch }
        | LinkEffect::Send { epoch, .. }
        | LinkEffect::Output { epoch, .. }
        | LinkEffect::Ping { epoch, .. }
        | LinkEffect::Close { epoch } => *epoch,
    }
}
