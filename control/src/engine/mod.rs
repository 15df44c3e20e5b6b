//! Runs the hub: hands it inputs, has its records written, and lets its commands go once they are.
//!
//! A store that fails is treated as a restart of the server. What was not written never happened: every
//! session is closed with an error, what waited is dropped, and once writing works again the hub is made
//! anew from what is on disk. The daemons come back and deliver again what nobody acknowledged.

mod heads;
mod outgoing;
mod queue;
mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use makima_core::effect::Way;
use makima_core::protocol::{Authenticate, DaemonCommand, DaemonMessage, Wire};
use makima_core::time::Millis;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

pub(crate) use heads::Heads;
pub(crate) use outgoing::{Mailbox, Outgoing, Taken, worded};
pub(crate) use queue::Ticket;

use crate::clock;
use crate::hub::{Answer, DaemonView, Effect, Hub, Ignored, Input, Kin, QuestionId, Reply, Said, SessionId};
use crate::store::{Store, StoreError};
use outgoing::{COMMANDS, Line, LineEnd};
use queue::Queue;

/// Bytes that may wait for the writer before sessions are no longer read.
const ROOM: usize = 4 * 1024 * 1024;

/// What the server does at the moment, for whoever decides whether it may stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Tasks that have not ended.
    pub unfinished: usize,
    /// Open event streams.
    pub followers: usize,
}

/// What went wrong since start, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were read and could not be used.
    pub ignored: Ignored,
    /// Frames that could not be read.
    pub unreadable: u64,
    /// Batches that could not be written, and attempts to recover from that.
    pub store_errors: u64,
    /// Connections that showed a wrong key.
    pub wrong_keys: u64,
}

/// Nothing is taken on: the store fails, or the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// Why a frame was not taken: the session is over, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// Nothing is taken on, or the session had ended before.
    Unavailable,
    /// A number came that cannot be the next.
    OutOfOrder,
    /// Our own numbers begin anew, with the next session.
    Renumbered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    StoreFails,
    Ending,
}

#[derive(Debug)]
struct Inner {
    hub: Hub,
    queue: Queue,
    sessions: BTreeMap<SessionId, Line>,
    next_session: u64,
    /// Those who wait for an answer of a daemon's.
    asking: BTreeMap<QuestionId, oneshot::Sender<Reply>>,
    next_question: u64,
    state: State,
}

/// The hub with what it needs to act.
pub(crate) struct Engine {
    inner: Mutex<Inner>,
    store: Arc<dyn Store>,
    wake: Notify,
    full: watch::Sender<bool>,
    activity: watch::Sender<Activity>,
    heads: Heads,
    pub(crate) unreadable: AtomicU64,
    pub(crate) wrong_keys: AtomicU64,
    store_errors: AtomicU64,
}

impl Engine {
    pub(crate) async fn start(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let hub = Hub::restore(store.load().await?);
        let activity = Activity { unfinished: hub.unfinished(), followers: 0 };
        Ok(Self {
            inner: Mutex::new(Inner::new(hub)),
            store,
            wake: Notify::new(),
            full: watch::Sender::new(false),
            activity: watch::Sender::new(activity),
            heads: Heads::default(),
            unreadable: AtomicU64::new(0),
            wrong_keys: AtomicU64::new(0),
            store_errors: AtomicU64::new(0),
        })
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn heads(&self) -> &Heads {
        &self.heads
    }

    /// What a client wants.
    pub(crate) fn ask(&self, input: Input) -> Result<(Answer, Ticket), Unavailable> {
        self.step(&mut self.lock(), input)
    }

    /// What a client wants to know of a task's daemon: the reply comes once it has answered, and not at all where the
    /// store fails meanwhile.
    pub(crate) fn question(
        &self,
        task: Uuid,
        command: DaemonCommand,
    ) -> Result<(Answer, oneshot::Receiver<Reply>), Unavailable> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.lock();
        // Whoever has waited long enough has left.
        inner.asking.retain(|_, asking| !asking.is_closed());
        let question = QuestionId(inner.next_question);
        inner.next_question = inner.next_question.saturating_add(1);
        inner.asking.insert(question, sender);
        let answer = self.step(&mut inner, Input::Ask { task, question, command: Box::new(command) });
        if !matches!(answer, Ok((Answer::Done, _))) {
            inner.asking.remove(&question);
        }
        answer.map(|(answer, _)| (answer, receiver))
    }

    /// A daemon that has shown the right key, over a WebSocket.
    pub(crate) fn connect(
        &self,
        daemon: Authenticate,
        wire: Wire,
    ) -> Result<(SessionId, mpsc::Receiver<Outgoing>), Unavailable> {
        let (sender, receiver) = mpsc::channel(COMMANDS);
        let (session, ..) = self.enter(daemon, Line { wire, end: LineEnd::Socket(sender) }, Way::WebSocket)?;
        Ok((session, receiver))
    }

    /// The same by long-poll: with its id, and a ticket for what is in its mailbox then.
    pub(crate) fn connect_polling(
        &self,
        daemon: Authenticate,
    ) -> Result<(SessionId, Arc<Mailbox>, Option<Uuid>, Ticket), Unavailable> {
        let mailbox = Arc::new(Mailbox::default());
        let line = Line { wire: Wire::Two, end: LineEnd::Mailbox(Arc::clone(&mailbox)) };
        let (session, id, ticket) = self.enter(daemon, line, Way::LongPoll)?;
        Ok((session, mailbox, id, ticket))
    }

    fn enter(
        &self,
        daemon: Authenticate,
        line: Line,
        way: Way,
    ) -> Result<(SessionId, Option<Uuid>, Ticket), Unavailable> {
        let mut inner = self.lock();
        let session = SessionId(inner.next_session);
        inner.next_session = inner.next_session.saturating_add(1);
        let wire = line.wire;
        inner.sessions.insert(session, line);
        let input = Input::Connected {
            session,
            fresh: Uuid::now_v7(),
            machine: daemon.machine_id,
            hostname: daemon.hostname,
            max_tasks: daemon.max_concurrent_tasks,
            wire,
            way,
        };
        match self.step(&mut inner, input) {
            Ok((_, ticket)) => Ok((session, inner.hub.daemon_of(session), ticket)),
            Err(unavailable) => {
                inner.sessions.remove(&session);
                Err(unavailable)
            }
        }
    }

    /// What a daemon says. Unavailable: the session is over, and this was not taken.
    pub(crate) fn hear(&self, session: SessionId, message: DaemonMessage) -> Result<(), Unavailable> {
        let mut inner = self.lock();
        // A session of before a failure is unknown to the hub that was made since.
        if !inner.sessions.contains_key(&session) {
            return Err(Unavailable);
        }
        let (answer, _) = self.step(&mut inner, Input::Message { session, message })?;
        if answer.ends_the_session() { Err(Unavailable) } else { Ok(()) }
    }

    /// A daemon pings, in version 1. The ticket is for everything that it has said before.
    pub(crate) fn pinged(&self, session: SessionId) -> Result<Ticket, Unavailable> {
        let mut inner = self.lock();
        if !inner.sessions.contains_key(&session) {
            return Err(Unavailable);
        }
        let (answer, ticket) = self.step(&mut inner, Input::Pinged { session })?;
        if answer.ends_the_session() { Err(Unavailable) } else { Ok(ticket) }
    }

    /// What a daemon says in version 2.
    pub(crate) fn hear_said(&self, session: SessionId, said: Said) -> Result<(), Unheard> {
        let mut inner = self.lock();
        if !inner.sessions.contains_key(&session) {
            return Err(Unheard::Unavailable);
        }
        let input = Input::Said { session, said: Box::new(said) };
        let (answer, _) = self.step(&mut inner, input).map_err(|_| Unheard::Unavailable)?;
        if !answer.ends_the_session() {
            return Ok(());
        }
        Err(match answer {
            Answer::OutOfOrder => Unheard::OutOfOrder,
            Answer::Renumbered => Unheard::Renumbered,
            Answer::Over
            | Answer::Done
            | Answer::Known
            | Answer::NoSuchTask
            | Answer::Ended
            | Answer::NotEnded
            | Answer::Unassigned
            | Answer::Away(_)
            | Answer::Full
            | Answer::NoSuchNeed(_)
            | Answer::NeedsItself
            | Answer::TooDeep
            | Answer::TooManySubtasks
            | Answer::OverBudget
            | Answer::Ignored => Unheard::Unavailable,
        })
    }

    /// For everything that this session has said so far.
    pub(crate) fn heard(&self, session: SessionId) -> Result<Ticket, Unavailable> {
        let inner = self.lock();
        let here = inner.sessions.contains_key(&session) && inner.hub.is_open(session);
        if here && inner.state == State::Up { Ok(inner.queue.ticket()) } else { Err(Unavailable) }
    }

    /// A session is over.
    pub(crate) fn leave(&self, session: SessionId) {
        let mut inner = self.lock();
        inner.sessions.remove(&session);
        // While nothing is taken on, the hub is on its way out and so are all its sessions.
        let _ = self.step(&mut inner, Input::Gone { session });
    }

    /// True while too much waits for the writer.
    pub(crate) fn full(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }

    pub(crate) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    pub(crate) fn follow(&self, change: impl FnOnce(usize) -> usize) {
        self.activity.send_modify(|activity| activity.followers = change(activity.followers));
    }

    pub(crate) fn daemons(&self) -> Vec<DaemonView> {
        self.lock().hub.daemons().collect()
    }

    /// Unfinished tasks and connected daemons.
    pub(crate) fn numbers(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.hub.unfinished(), inner.hub.connected_daemons())
    }

    /// The task whose key this is.
    pub(crate) fn task_of_key(&self, shown: &str) -> Option<Uuid> {
        self.lock().hub.task_of_key(shown)
    }

    /// How a task stands to another.
    pub(crate) fn kin(&self, task: Uuid, of: Uuid) -> Kin {
        self.lock().hub.kin(task, of)
    }

    /// The children of a task, oldest first.
    pub(crate) fn children(&self, of: Uuid) -> Vec<Uuid> {
        self.lock().hub.children(of)
    }

    /// Every task below one, oldest first.
    pub(crate) fn below(&self, top: Uuid) -> Vec<Uuid> {
        self.lock().hub.below(top)
    }

    /// Whether a task has ended, be that on disk or not.
    pub(crate) fn has_ended(&self, task: Uuid) -> bool {
        self.lock().hub.has_ended(task)
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            ignored: self.lock().hub.ignored(),
            unreadable: self.unreadable.load(Ordering::Relaxed),
            store_errors: self.store_errors.load(Ordering::Relaxed),
            wrong_keys: self.wrong_keys.load(Ordering::Relaxed),
        }
    }

    /// Takes nothing on from now on. What was taken is still written.
    pub(crate) fn end(&self) {
        self.lock().state = State::Ending;
        self.wake.notify_one();
    }

    fn step(&self, inner: &mut Inner, input: Input) -> Result<(Answer, Ticket), Unavailable> {
        if inner.state != State::Up {
            return Err(Unavailable);
        }
        let mut effects: Vec<Effect> = Vec::new();
        let answer = inner.hub.step(now(), input, &mut effects);
        if !effects.is_empty() {
            for effect in effects {
                inner.queue.push(effect);
            }
            self.mark_full(inner.queue.bytes() > ROOM);
            self.wake.notify_one();
        }
        Ok((answer, inner.queue.ticket()))
    }

    fn mark_full(&self, full: bool) {
        self.full.send_if_modified(|old| std::mem::replace(old, full) != full);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn new(hub: Hub) -> Self {
        Self {
            hub,
            queue: Queue::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            asking: BTreeMap::new(),
            next_question: 1,
            state: State::Up,
        }
    }
}

fn now() -> Millis {
    clock::unix_millis()
}
