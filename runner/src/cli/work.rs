//! One task of `makima run`, from finding who does the work to its end; whatever becomes of the server meanwhile.

use std::path::Path;
use std::time::Duration;

use console::style;
use makima_core::input::Stop;
use makima_core::needs;
use makima_core::policy::counted;
use makima_core::protocol::SpawnTask;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use uuid::Uuid;

use super::asker::Asker;
use super::follow::{Manner, View};
use super::host::{Host, Owner};
use super::print;
use super::repo::Repo;
use super::signals::{Asked, Signals};
use crate::config::{self, ConfigFile};
use crate::edge;
use crate::events::{Event, Events};
use crate::home::is_held;
use crate::report::{FAILED, Failure, INTERRUPTED};
use crate::rest::{Rest, RestError, Task};
use crate::roots;
use crate::sandbox::Settled;

/// Times in a row that a server which went away is looked for again.
pub(super) const RECOVERIES: u32 = 20;

/// Before the first of those; doubled for each up to the last.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Between two looks at whether there still is a daemon.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// Between two attempts to have the task interrupted.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// For the server to tell of the end, once our daemon has ended.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(10);

/// Looks in a row that found none before its place is taken: one that was killed may be started again.
pub(super) const ALONE: u32 = 5;

/// What is asked for.
pub(super) enum Order {
    /// A task.
    New(SpawnTask),
    /// One that goes on where another is.
    GoOn {
        /// Its id.
        id: Uuid,
        /// The other.
        with: Uuid,
        /// What people call both.
        name: String,
        /// What its agent is told; none where that is to go on.
        message: Option<String>,
    },
}

impl Order {
    const fn id(&self) -> Uuid {
        match self {
            Self::New(task) => task.task_id,
            Self::GoOn { id, .. } => *id,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::New(task) => &task.task_name,
            Self::GoOn { name, .. } => name,
        }
    }

    /// Gives it to a server. Doing so twice is as good as once.
    async fn place(&self, rest: &Rest) -> Result<(), RestError> {
        match self {
            Self::New(task) => rest.create(task, &[]).await,
            Self::GoOn { id, with, message, .. } => rest.go_on(*with, *id, message.as_deref()).await,
        }
    }
}

/// Follows one task to its end, whoever does the work.
pub(super) struct Work<'a> {
    home: &'a Path,
    file: &'a ConfigFile,
    /// None where it is not known here.
    repo: Option<&'a Repo>,
    order: Order,
    signals: Signals,
    /// What people see of it.
    pub(super) view: View,
    /// Who answers what its agent asks.
    asker: Asker,
    introduced: bool,
    /// How often a person has asked for the end.
    asked: u32,
    /// The server did not take it when it was asked for the end; gracefully or not.
    unheard: Option<bool>,
    /// The newest event that was seen.
    last: Option<String>,
    /// The server is gone for good.
    lost: bool,
}

/// How following came to its end.
enum Followed {
    /// The task has ended.
    Ended(Box<Task>),
    /// Our daemon has ended, and nobody tells how the task did.
    Untold,
    /// The server or the daemon went away.
    Lost {
        /// For people.
        why: String,
        /// Something was heard of the task before.
        heard: bool,
    },
}

impl<'a> Work<'a> {
    pub(super) fn new(
        home: &'a Path,
        file: &'a ConfigFile,
        repo: Option<&'a Repo>,
        order: Order,
        manner: Manner,
    ) -> Result<Self, Failure> {
        let (signals, view) = (Signals::new()?, View::new(manner, order.name()));
        let asker = if manner == Manner::Plain { Asker::here() } else { Asker::nobody() };
        Ok(Self {
            home,
            file,
            repo,
            order,
            signals,
            view,
            asker,
            introduced: false,
            asked: 0,
            unheard: None,
            last: None,
            lost: false,
        })
    }

    /// Whether a person asked for the end.
    pub(super) const fn is_asked(&self) -> bool {
        self.asked > 0
    }

    /// Gives the task to whoever does the work, and follows it to its end. A host that is ours stays in `host`,
    /// also where this fails: there may be others who need it, and its agents have to be ended.
    pub(super) async fn run(&mut self, host: &mut Option<Host>) -> Result<Box<Task>, Failure> {
        let result = self.try_run(host).await;
        self.view.end();
        result
    }

    async fn try_run(&mut self, host: &mut Option<Host>) -> Result<Box<Task>, Failure> {
        let mut tries = 0;
        while tries < RECOVERIES {
            let host = self.host(host).await?;
            match self.order.place(host.rest()).await {
                Ok(()) => match self.follow(host).await {
                    Followed::Ended(task) => return Ok(task),
                    Followed::Untold => return Err(self.untold()),
                    Followed::Lost { why, heard } => {
                        tries = if heard { 0 } else { tries };
                        self.view.note(&format!("{why}; looking for it again"));
                    }
                },
                // Its server is about to end: another look finds another, or none.
                Err(RestError::Away { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                () = sleep(LONGEST_PAUSE.min(PAUSE * (1 << tries.min(10)))) => tries += 1,
                _ = self.signals.next() => {
                    self.lost = true;
                    self.asked += 1;
                    return Err(Failure::silent(INTERRUPTED));
                }
            }
        }
        self.lost = true;
        Err(Failure::failed("the server went away and does not come back")
            .hint(format!("the task goes on if its daemon runs: makima task show {}", self.order.id())))
    }

    fn untold(&mut self) -> Failure {
        self.lost = true;
        Failure::failed("the task was ended, but its end could not be told")
            .with_code(if self.is_asked() { INTERRUPTED } else { FAILED })
            .hint(format!(
                "is there room on the disk of {}? the next `makima run` goes on from there",
                self.home.display()
            ))
    }

    /// Who does the work: whoever did before, if that is us; else whoever is found.
    async fn host<'h>(&mut self, host: &'h mut Option<Host>) -> Result<&'h mut Host, Failure> {
        if !matches!(host, Some(Host::Owner(_) | Host::Elsewhere(_))) {
            let found = tokio::select! {
                found = Host::find(self.home, self.file) => found?,
                _ = self.signals.next() => {
                    self.view.note(if self.introduced { "no longer followed" } else { "nothing was started" });
                    return Err(Failure::silent(INTERRUPTED));
                }
            };
            *host = Some(found);
            if let Some(local) = self.repo.and_then(|repo| repo.local.as_ref()) {
                roots::allow(self.home, local).map_err(|error| Failure::unusable(error.to_string()))?;
            }
        }
        host.as_mut().ok_or_else(|| Failure::unusable("nobody does the work"))
    }

    fn introduce(&mut self, is_ours: bool) {
        if std::mem::replace(&mut self.introduced, true) || self.view.manner() == Manner::Raw {
            return;
        }
        let name = print::tame(self.order.name());
        let name = style(name).bold().for_stderr();
        let task = self.order.id();
        // Whoever else does the work has its own settings.
        let how = config::agent(self.file).ok().filter(|_| is_ours);
        let fence = if matches!(self.file.sandbox(), Ok(Settled::On(_))) { "sandboxed" } else { "no sandbox" };
        let told = |agent| format!(", {}, {fence}", print::tame(&config::told(&agent)));
        let how = how.map(told).unwrap_or_default();
        if let Order::GoOn { with, .. } = &self.order {
            self.view.note(&format!("{name}, going on where {with} is"));
            return self.view.note(&format!("task {task}{how}"));
        }
        let Some(repo) = self.repo else { return };
        let base = repo.base.as_deref().map(|base| format!(" at {}", base.get(..10).unwrap_or(base)));
        self.view.note(&format!("{name} on {}{}", print::tame(&edge::shown(&repo.url)), base.unwrap_or_default()));
        self.view.note(&format!("task {task}{how}"));
        if repo.uncommitted > 0 {
            let files = counted(repo.uncommitted as u64, "file");
            self.view.note(&format!("{files} with uncommitted changes: left out, and left as they are"));
        }
    }

    async fn follow(&mut self, host: &mut Host) -> Followed {
        self.introduce(matches!(host, Host::Owner(_)));
        let response = match host.rest().events(self.order.id(), self.last.as_deref()).await {
            Ok(response) => response,
            Err(error) => return Followed::Lost { why: error.to_string(), heard: false },
        };
        let mut events = Events::new(response, self.last.take());
        let (mut look, mut again, mut until) = (interval(LOOK), interval(AGAIN), None);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rest = host.rest().clone();
        let (mut heard, mut alone) = (false, 0);
        let is_guest = matches!(host, Host::Guest(_));
        let lost = |why, heard| Followed::Lost { why, heard };
        let followed = loop {
            let next = tokio::select! {
                next = events.next() => next,
                asked = self.signals.next() => {
                    self.asked(asked, host).await;
                    continue;
                }
                line = self.asker.line(), if self.asker.waits() => {
                    self.answered(&line, &rest).await;
                    continue;
                }
                _ = again.tick(), if self.unheard.is_some() => {
                    self.interrupt(&rest).await;
                    continue;
                }
                () = ended(host), if until.is_none() => {
                    until = Some(Instant::now() + LAST_WORDS);
                    continue;
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break Followed::Untold,
                _ = look.tick(), if is_guest => {
                    alone = if is_held(self.home) { 0 } else { alone + 1 };
                    if alone < ALONE {
                        continue;
                    }
                    break lost("the daemon that worked on it has ended".to_string(), heard);
                }
            };
            match next {
                Ok(Some(event)) => {
                    heard = true;
                    self.view.show(&event);
                    self.needs_a_person(&event);
                    if let Event::End(task) = event {
                        break Followed::Ended(task);
                    }
                    if self.view.unread && self.asked == 0 {
                        self.view.note("nobody reads the output any more");
                        self.asked(Asked::Interrupt, host).await;
                    }
                }
                Ok(None) => break lost("the server ended the stream".to_string(), heard),
                Err(error) => break lost(rest.away(&error).to_string(), heard),
            }
        };
        self.last = events.last;
        followed
    }

    /// Its agent may have asked something, or need no answer any more.
    fn needs_a_person(&mut self, event: &Event) {
        let Event::Progress(step) = event else { return };
        if let Some(how) = self.asker.refused(step) {
            return self.ask_again(step, how);
        }
        let Some(what) = needs::read(step) else { return };
        let how = self.asker.needs(what);
        self.view.hush(how.is_some());
        if let Some(how) = how {
            self.view.note(how);
        }
    }

    /// The answer that a person gave was none.
    fn ask_again(&mut self, why: &str, how: &str) {
        self.view.note(&format!("that was no answer: {}", print::tame(why)));
        self.view.hush(true);
        self.view.note(how);
    }

    /// A person has typed something.
    async fn answered(&mut self, line: &str, rest: &Rest) {
        let Some(answer) = self.asker.answer(line) else { return };
        if let Err(error) = rest.say(self.order.id(), "answers", &answer).await {
            self.view.note(&format!("the answer did not get there: {error}"));
            if let Some(how) = self.asker.again() {
                self.view.note(how);
            }
        }
    }

    /// A person wants it to end: this task, and no other. The first time it is asked, the second time killed.
    async fn asked(&mut self, asked: Asked, host: &Host) {
        self.asked = self.asked.saturating_add(1);
        let graceful = self.asked == 1;
        let stuck = self.unheard.is_some() && self.asked > 2;
        if let (true, Host::Owner(owner)) = (asked == Asked::Terminate || stuck, host) {
            self.view.note("ending all that runs here: what has been done is committed");
            // By this way alone: asked for by another as well, the agent would be killed.
            return owner.stop(if graceful { Stop::Graceful } else { Stop::Forced });
        }
        if graceful {
            self.view.note("interrupting the task; what it has done is committed. Ctrl-C again kills it");
        } else {
            self.view.note("killing the task; what it has done is committed");
        }
        self.unheard = Some(graceful);
        self.interrupt(host.rest()).await;
        if self.unheard.is_some() {
            self.view.note("the server does not take it just now (is its disk full?); it is tried again each second");
        }
    }

    /// Has the server tell the daemon. A task that has just ended says so by itself.
    async fn interrupt(&mut self, rest: &Rest) {
        let Some(graceful) = self.unheard else { return };
        let answer = rest.interrupt(self.order.id(), graceful).await;
        if !answer.is_err_and(|error| error.is_troubled()) {
            self.unheard = None;
        }
    }

    /// See [`leave`].
    pub(super) async fn leave(&mut self, owner: Owner) {
        leave(owner, &mut self.signals, self.lost).await;
    }
}

/// Others may have given their plans to this process: it stays until the last of them is served. Where the
/// server is lost, nobody can be.
pub(super) async fn leave(mut owner: Owner, signals: &mut Signals, lost: bool) {
    let (mut told, mut asked) = (false, 0);
    while !lost && !owner.is_free().await {
        if owner.busy() == (0, 0) {
            continue;
        }
        let tasks = owner.unended();
        if !told && tasks > 0 {
            told = true;
            let (others, are) = (counted(tasks as u64, "other task"), if tasks == 1 { "is" } else { "are" });
            print::note(&format!("{others} {are} still under way here; waiting"));
        }
        tokio::select! {
            changed = owner.changed() => if !changed { break },
            _ = signals.next() => {
                asked += 1;
                if asked == 1 {
                    print::note("Ctrl-C again interrupts the other tasks too");
                } else {
                    owner.stop(if asked == 2 { Stop::Graceful } else { Stop::Forced });
                }
            }
        }
    }
    owner.end(signals).await;
}

/// Waits until our own daemon has ended. Nobody else's is waited for.
pub(super) async fn ended(host: &mut Host) {
    match host {
        Host::Owner(owner) => owner.ended().await,
        Host::Guest(_) | Host::Elsewhere(_) => std::future::pending().await,
    }
}
