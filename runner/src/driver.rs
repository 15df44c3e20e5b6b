//! The one loop: inputs into the core, its effects to the transport and the executor.

use makima_core::Daemon;
use makima_core::effect::{Effect, Exit};
use makima_core::held::Held;
use makima_core::input::{Boot, Input, Stop};
use makima_core::notice::{Level, Notice};
use makima_transports::Endpoint;
use tokio::sync::{mpsc, watch};
use tokio::time::Duration;

use crate::clock;
use crate::executor::{Executor, Secrets};
use crate::inspect::meters::Meters;
use crate::inspect::{Question, Told};
use crate::journal::Journal;
use crate::links::Links;
use crate::news::News;

/// For the journal's last records when the daemon ends.
const LAST_RECORDS: Duration = Duration::from_secs(2);

/// For git that is under way to end in good order: a checkout of the user's that follows a merge may be large.
const LAST_GIT: Duration = Duration::from_secs(20);

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
    /// What waits for the journal.
    held: Held,
    executor: Executor,
    secrets: Secrets,
    links: Links,
    executor_events: mpsc::UnboundedReceiver<Input>,
    stops: mpsc::Receiver<Stop>,
    state: watch::Sender<State>,
    exit: Option<Exit>,
    /// What was last said about the journal, if it cannot be written.
    journal_trouble: Option<String>,
    questions: Option<mpsc::Receiver<Question>>,
    meters: Meters,
    news: Option<News>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("links", &self.links).finish_non_exhaustive()
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
        Self {
            core,
            journal,
            held: Held::default(),
            executor,
            links: Links::new(endpoint, secrets.clone()),
            secrets,
            executor_events,
            stops,
            state,
            exit: None,
            journal_trouble: None,
            questions: None,
            meters: Meters::default(),
            news: None,
        }
    }

    /// The same, and what is asked there is answered.
    #[must_use]
    pub fn with_questions(mut self, questions: mpsc::Receiver<Question>) -> Self {
        self.questions = Some(questions);
        self
    }

    /// The same, and the user is told what happens to tasks.
    #[must_use]
    pub fn with_news(mut self, news: Option<News>) -> Self {
        self.news = news;
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
        let n = self.journal.write(record, effects, &mut self.core);
        for effect in effects.drain(..) {
            if let Some(effect) = self.held.take(n, effect) {
                self.carry_out(effect);
            }
        }
        self.let_go();
    }

    /// Does what waited for the journal, as far as that is now.
    fn let_go(&mut self) {
        let (flushed, trouble) = self.journal.reach();
        while let Some(effect) = self.held.let_go(flushed, trouble) {
            self.carry_out(effect);
        }
    }

    /// Waits for whatever happens next.
    async fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.input().await {
                return input;
            }
            let trouble = self.tell_journal();
            self.let_go();
            if let Some(trouble) = trouble {
                return Input::Journal { trouble };
            }
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
            input = self.links.next() => input,
            Some(input) = self.executor_events.recv() => {
                self.meters.answered(&input);
                input
            }
            Some(how) = self.stops.recv() => Input::Stop { how },
            () = tokio::time::sleep(wait) => Input::Tick,
        })
    }

    /// Says when the journal cannot be written, and when it can again. Gives back which, where it is news.
    fn tell_journal(&mut self) -> Option<bool> {
        let trouble = self.journal.standing().trouble;
        let news = match (&self.journal_trouble, &trouble) {
            (None, Some(why)) => {
                tracing::error!("the journal cannot be written: {why}; agents go on, and it is tried again");
                true
            }
            (Some(_), None) => {
                tracing::info!("the journal is written again");
                false
            }
            _ => return None,
        };
        self.journal_trouble = trouble;
        Some(news)
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
            Effect::Link(effect) => self.links.carry_out(effect),
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
        if let Some(news) = &self.news {
            news.take(notice, |text| self.secrets.masked(text));
        }
        let trouble = match notice {
            Notice::LinkLost { .. } | Notice::Silent { .. } | Notice::KeyRefused { .. } => Some(text),
            Notice::Linked { .. } => None,
            Notice::ServerError { .. }
            | Notice::Slept { .. }
            | Notice::NoPongs
            | Notice::TurnsToPolling
            | Notice::Misbehaved { .. }
            | Notice::NotGone { .. }
            | Notice::NoMoreRoom { .. }
            | Notice::Needs { .. }
            | Notice::Ended { .. }
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

    /// Lets everything be written and sent that was to be before.
    async fn last_words(self) {
        let Self { core, journal, links, executor, .. } = self;
        let written = async {
            journal.end(&core, LAST_RECORDS).await;
            links.end().await;
        };
        tokio::join!(written, executor.end(LAST_GIT));
    }
}

/// The next question, if anybody may ask.
async fn asked(questions: &mut Option<mpsc::Receiver<Question>>) -> Option<Question> {
    questions.as_mut()?.recv().await
}
