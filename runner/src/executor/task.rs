//! One task: what of it is in this process, and its work.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use makima_core::effect::{Launch, Prepare, Signal, Work};
use makima_core::id::{SecretId, TaskId};
use makima_core::input::{ExitStatus, Outcome, Prepared};
use makima_core::task::{End, Spec};
use tokio::sync::oneshot;

use super::agent::{Seat, Started};
use super::answer::{Answer, CANCELLED};
use super::cancel::Cancel;
use super::deliver::Delivered;
use super::output::Log;
use super::reach::Reach;
use super::record::Folder;
use super::still::Still;
use super::supervisor::{Found, Link};
use super::trash::Trash;
use super::tree::{Ended, Taken, Tree, Way};
use super::user::Ahead;
use super::{
    Hands, blocking, check, commit, copy, deliver, foreign, group, key, log, look, merge, outcome, prepare, room,
    supervisor,
};
use crate::supervise::is_held;
use crate::supervise::protocol::Sign;

/// One task.
pub(super) struct Task {
    pub(super) id: TaskId,
    /// Held by the one thing that is done in its worktree.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Held by the one thing that is done with its work: it is checked, handed over or copied. Taken after the other.
    pub(super) handing: tokio::sync::Mutex<()>,
    /// The last start that was asked for, to be called off.
    asked: Mutex<Option<Arc<Cancel>>>,
    /// Held while the agent is being started.
    starting: tokio::sync::Mutex<()>,
    log: Mutex<Option<Arc<Log>>>,
    /// A process that waits to become the agent.
    seat: Mutex<Option<Seat>>,
    /// From the agent's start until its tree is empty.
    running: Mutex<Option<Running>>,
    /// For whom its tree stands still.
    pub(super) still: Still,
}

/// How long the end of a tree waits for a start that was called off: less than the core waits for that end.
const CALLED_OFF: Duration = Duration::from_secs(10);

/// An agent that is in hand.
struct Running {
    tree: Tree,
    link: Arc<Link>,
}

impl Task {
    pub(super) fn new(id: TaskId) -> Self {
        Self {
            id,
            turn: tokio::sync::Mutex::new(()),
            handing: tokio::sync::Mutex::new(()),
            asked: Mutex::default(),
            starting: tokio::sync::Mutex::new(()),
            log: Mutex::default(),
            seat: Mutex::default(),
            running: Mutex::default(),
            still: Still::default(),
        }
    }

    /// Takes note of a start that is about to be made, so that it can be called off.
    pub(super) fn asks_to_start(&self, cancel: &Arc<Cancel>) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(cancel));
    }

    /// Calls off any start that was asked for: what is to be emptied gets no agent any more.
    pub(super) fn call_off_start(&self) {
        if let Some(asked) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take() {
            asked.cancel();
        }
    }

    /// Does one thing that may take a while.
    pub(super) async fn perform(&self, hands: &Arc<Hands>, answer: Answer, work: Work) {
        let folder = Folder::of(&hands.home, self.id);
        let cancel = Arc::clone(&answer.cancel);
        match work {
            Work::Accept { spec } => {
                let credentials = spec.credentials.and_then(|id| hands.settings.secrets.get(id));
                let written = write_down(move || folder.accept(*spec, credentials.as_deref()));
                answer.done_or_cancelled(written, "it cannot be written down that the task was taken on").await;
            }
            Work::Prepare(wanted) => {
                let made = self.prepare(hands, &wanted, &cancel).await;
                answer.give(outcome(made, Outcome::Prepared));
            }
            Work::Start(launch) => self.start(hands, answer, launch).await,
            Work::Empty => answer.give(self.emptied(hands, &cancel).await),
            Work::Commit(wanted) => {
                let made = commit::commit(hands, self.id, &wanted, &cancel).await;
                answer.give(outcome(made, Outcome::Committed));
            }
            Work::Deliver(wanted) => {
                let delivered = deliver::deliver(hands, self.id, &wanted, &cancel).await;
                answer.give(outcome(delivered, |Delivered { message, url }| Outcome::Delivered { message, url }));
            }
            Work::Merge(wanted) => {
                let merged = merge::merge(hands, self.id, wanted, &cancel).await;
                answer.give(merged.unwrap_or_else(Outcome::Failed));
            }
            Work::Freeze | Work::Thaw => {
                let held = self.still.for_the_core(self, folder, matches!(work, Work::Freeze), &cancel).await;
                answer.give(outcome(held, |()| Outcome::Done));
            }
            Work::Measure => measure(answer, folder).await,
            Work::MakeKey => self.make_key(hands, answer, folder).await,
            Work::Check(wanted) => {
                let checked = check::check(hands, self.id, *wanted, &cancel).await;
                answer.give(outcome(checked, |failed| Outcome::Checked { failed }));
            }
            Work::Clone { to, branch } => answer.give(copy::copy(hands, self.id, &to, &branch, &cancel).await),
            Work::Look { path } => look(hands, answer, path).await,
            Work::Conclude { end, spec } => {
                let written = self.conclude(hands.settings.way, folder, end, spec);
                answer.done_or_cancelled(written, "it cannot be written down how the task ended").await;
            }
            Work::Discard => self.let_go(hands, answer, |trash, id| trash.discard(id)).await,
            Work::Forget => self.let_go(hands, answer, |trash, id| trash.forget(id)).await,
            Work::Spare => self.spare(hands, answer, &folder).await,
            Work::Purge => answer.give(outcome(room::purge(hands, self.id, &folder).await, |()| Outcome::Done)),
            Work::Weigh { tasks } => answer.give(outcome(room::weigh(hands, tasks, cancel).await, Outcome::Weighed)),
            Work::Expire { before } => {
                self.let_go(hands, answer, move |trash, _| trash.expire(before.0, &cancel).map(drop)).await;
            }
            Work::Close => {
                let written = write_down(move || folder.close());
                answer.done_or_cancelled(written, "it cannot be written down that the task is closed").await;
            }
            Work::Delivered { to } => {
                if let Some(link) = self.link() {
                    link.delivered(to);
                }
                let written = write_down(move || folder.delivered(to)).await;
                answer.done(written, "it cannot be written down how far its output was handed over");
            }
            // These have ways of their own and never come here.
            Work::Read { .. } | Work::Stdin { .. } | Work::Signal { .. } | Work::Attach => {}
        }
    }

    async fn conclude(&self, way: Way, folder: Folder, end: End, spec: Option<Box<Spec>>) -> io::Result<()> {
        self.vacate().await;
        let id = self.id;
        write_down(move || {
            // Of checks that an earlier life of the daemon began, and that nobody wants any more.
            if let Err(why) = check::end(&folder) {
                tracing::warn!("task {id}: {why}");
            }
            if way == Way::Full {
                group::discard(id);
            }
            if let Some(spec) = spec {
                folder.accept(*spec, None)?;
            }
            folder.conclude(end)
        })
        .await
    }

    async fn start(&self, hands: &Arc<Hands>, answer: Answer, launch: Launch) {
        let _starting = self.starting.lock().await;
        let cancel = Arc::clone(&answer.cancel);
        if cancel.is_set() {
            return answer.give(Outcome::Failed(CANCELLED.to_owned()));
        }
        let started = self.seat_and_start(hands, launch, &cancel);
        tokio::pin!(started);
        tokio::select! {
            biased;
            started = &mut started => match started {
                Ok(started) => self.started(hands, answer, started),
                Err(why) => answer.give(Outcome::Failed(why)),
            },
            () = cancel.set() => {
                answer.give(Outcome::Failed(CANCELLED.to_owned()));
                // Nobody else would end what became an agent at the very same moment.
                if let Ok(started) = started.await {
                    started.end().await;
                }
            }
        }
    }

    fn started(&self, hands: &Hands, answer: Answer, started: Started) {
        let Started { mut child, found, tree } = started;
        // So that it leaves no entry behind in the table of processes.
        tokio::spawn(async move { child.wait().await });
        self.still.begins();
        self.found(hands, answer, found, Ok(Some(tree)));
    }

    /// What became of an agent is known.
    fn found(&self, hands: &Hands, answer: Answer, found: Found, tree: Result<Option<Tree>, String>) {
        match (found, tree) {
            (Found::Runs(link, ended), Ok(Some(tree))) => self.in_hand(hands, answer, (link, ended), tree),
            (Found::Runs(..), Ok(None)) | (Found::Nothing, _) => answer.give(Outcome::NotStarted),
            (Found::Runs(..), Err(why)) => answer.give(Outcome::Failed(why)),
            (Found::Ended(pid, status), _) => answer.started(pid, 0)(status),
            (Found::Lost(why), _) => answer.give(Outcome::Failed(why.to_owned())),
        }
    }

    /// An agent runs, and its supervisor is spoken to.
    fn in_hand(&self, hands: &Hands, answer: Answer, (link, ended): (Link, oneshot::Receiver<ExitStatus>), tree: Tree) {
        let (folder, secrets) = (Folder::of(&hands.home, self.id), hands.settings.secrets.clone());
        let log = Log::new(folder, secrets, Arc::clone(&link.log));
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(log));
        let (pid, handed) = (link.pid.unsigned_abs(), link.handed);
        let running = Running { tree, link: Arc::new(link) };
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        let tell = answer.started(pid, handed);
        tokio::spawn(async move {
            // Where nothing is told, nobody listens any more.
            if let Ok(status) = ended.await {
                tell(status);
            }
        });
    }

    /// Finds the agent that an earlier life of the daemon started.
    pub(super) async fn attach(&self, hands: &Arc<Hands>, answer: Answer) {
        let folder = Folder::of(&hands.home, self.id);
        let found = tokio::select! {
            found = supervisor::find(&folder) => found,
            () = answer.cancel.set() => Err(CANCELLED.to_owned()),
        };
        match found {
            Ok(found) => self.found(hands, answer, found, left(&folder)),
            Err(why) => answer.give(Outcome::Failed(why)),
        }
    }

    /// Makes the worktree, and meanwhile lets a process take its seat, and asks who the user is.
    async fn prepare(&self, hands: &Arc<Hands>, wanted: &Prepare, cancel: &Cancel) -> Result<Prepared, String> {
        self.vacate().await;
        let made = prepare::prepare(hands, self.id, wanted, cancel);
        let user = Ahead::ask(hands, wanted.repository.as_ref(), cancel);
        let (made, seat, user) = tokio::join!(made, Seat::take(hands, self.id), user);
        match (&made, seat.map(|seat| seat.of(user))) {
            (Ok(_), Ok(seat)) => *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(seat),
            (Err(_), Ok(seat)) => seat.leave().await,
            // The start tries once more, and says why it cannot.
            (_, Err(_)) => {}
        }
        made
    }

    async fn seat_and_start(&self, hands: &Arc<Hands>, launch: Launch, cancel: &Cancel) -> Result<Started, String> {
        let taken = self.seat.lock().unwrap_or_else(PoisonError::into_inner).take();
        let seat = match taken {
            Some(seat) => seat,
            None => Seat::take(hands, self.id).await?,
        };
        seat.start(hands, self.id, launch, cancel).await
    }

    /// Lets the process go that nothing has become of.
    async fn vacate(&self) {
        let taken = self.seat.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(seat) = taken {
            seat.leave().await;
        }
    }

    /// Hands a message to the agent, behind those before it.
    pub(super) fn write(&self, answer: Answer, n: u64, text: String) {
        let Some(link) = self.link() else {
            return answer.give(Outcome::Failed("no agent of this task is there to be written to".to_owned()));
        };
        let taken = link.write(n, text);
        tokio::spawn(async move {
            let taken = tokio::select! {
                taken = taken => taken.unwrap_or_else(|_| Err("the agent has ended".to_owned())),
                () = answer.cancel.set() => Err("it was cancelled; a part of it may have been written".to_owned()),
            };
            answer.give(outcome(taken, |()| Outcome::Done));
        });
    }

    /// Signals the agent's process group.
    pub(super) fn signal(&self, hands: &Hands, answer: Answer, signal: Signal) {
        let (sign, number) = match signal {
            Signal::Interrupt => (Sign::Interrupt, rustix::process::Signal::INT),
            Signal::Terminate => (Sign::Terminate, rustix::process::Signal::TERM),
        };
        if self.link().is_some_and(|link| link.signal(sign)) {
            return answer.give(Outcome::Done);
        }
        let folder = Folder::of(&hands.home, self.id);
        tokio::task::spawn_blocking(move || {
            let signalled = left(&folder).map(|tree| {
                if let Some(tree) = tree {
                    tree.signal_members(number);
                }
            });
            answer.give(outcome(signalled, |()| Outcome::Done));
        });
    }

    async fn make_key(&self, hands: &Hands, answer: Answer, folder: Folder) {
        let (secrets, id) = (hands.settings.secrets.clone(), SecretId::ToolKey(self.id));
        let made = blocking(move || key::make(&folder, id, &secrets)).await.flatten();
        answer.give(outcome(made, Outcome::Key));
    }

    /// Something that has ended goes into the trash, or out of it.
    async fn let_go(
        &self,
        hands: &Hands,
        answer: Answer,
        how: impl FnOnce(&Trash, TaskId) -> Result<(), String> + Send + 'static,
    ) {
        let (trash, id) = (Trash::of(hands.home.root()), self.id);
        let gone = blocking(move || how(&trash, id)).await.flatten();
        answer.give(outcome(gone, |()| Outcome::Done));
    }

    async fn emptied(&self, hands: &Arc<Hands>, cancel: &Cancel) -> Outcome {
        let emptied = tokio::select! {
            biased;
            emptied = self.empty(hands) => emptied,
            () = cancel.set() => Err(CANCELLED.to_owned()),
        };
        outcome(emptied, |(killed, log_end)| Outcome::Emptied { killed, log_end })
    }

    /// Lets go of what holds nothing that is nowhere else. A worktree that is gone holds nothing.
    async fn spare(&self, hands: &Hands, answer: Answer, folder: &Folder) {
        let worktree = hands.home.worktree(self.id);
        let kept = if foreign::is_folder(&worktree) { look::is_kept(hands, folder, &worktree).await } else { Ok(()) };
        match kept {
            Ok(()) => self.let_go(hands, answer, |trash, id| trash.spare(id)).await,
            Err(why) => answer.give(Outcome::Failed(why)),
        }
    }

    /// Stops all processes of the task where they stand, or lets them go on.
    pub(super) async fn hold(&self, folder: Folder, still: bool) -> Result<(), String> {
        let (running, place) = (self.running_tree(), folder.clone());
        let held = blocking(move || {
            let tree = running.map_or_else(|| left(&folder), |tree| Ok(Some(tree)))?;
            // Where there is none, nobody is left to stand still.
            Ok::<_, String>(tree.map_or(Some(Ok(())), |tree| tree.hold(still)))
        });
        if let Some(held) = held.await?? {
            return held;
        }
        match self.link() {
            Some(link) if link.is_gone() || link.hold(still) => Ok(()),
            Some(_) => Err("its supervisor is of a version that cannot do that".to_owned()),
            None if !is_held(place.path()) => Ok(()),
            None => Err("its supervisor is not in hand".to_owned()),
        }
    }

    fn link(&self) -> Option<Arc<Link>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|running| Arc::clone(&running.link))
    }

    fn running_tree(&self) -> Option<Tree> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|running| running.tree.clone())
    }

    /// Ends the tree, and with it the log. Returns how many had to be killed and where the log ends.
    async fn empty(&self, hands: &Hands) -> Result<(u32, u64), String> {
        // An agent that were started beside this would be found by nobody.
        let waited = tokio::time::timeout(CALLED_OFF, self.starting.lock()).await;
        let _starting = waited.map_err(|_| "its agent was just being started, and that does not end".to_owned())?;
        self.vacate().await;
        let (running, folder) = (self.running_tree(), Folder::of(&hands.home, self.id));
        let end = move || -> Result<Ended, String> {
            let tree = running.map_or_else(|| left(&folder), |tree| Ok(Some(tree)))?;
            Ok(tree.map_or(Ended::Empty(0), |tree| tree.end_but(Some(&folder))))
        };
        let killed = match blocking(end).await?? {
            Ended::Empty(killed) => killed,
            Ended::Left(pids) => return Err(survivors(&pids)),
            Ended::Owing(why) => return Err(format!("its supervisor cannot write down the end of it: {why}")),
        };
        // Nothing of it is needed any more, and what it holds open might be needed for others.
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        match running {
            // Its supervisor has left: where its log ends is about to be known.
            Some(running) => running.link.log.closed().await,
            None => self.settle(hands).await?,
        }
        let log = self.log(hands).await?;
        let length = log.shared.length();
        blocking(move || log.rest()).await?;
        Ok((killed, length))
    }

    /// Nobody writes to its log any more. What was measured before may have been written to since: whoever waits for more of
    /// it is told.
    async fn settle(&self, hands: &Hands) -> Result<(), String> {
        let (folder, secrets) = (Folder::of(&hands.home, self.id), hands.settings.secrets.clone());
        let settled = blocking(move || log::settle(&folder).map(|shared| (folder, shared))).await?;
        let (folder, shared) = settled.map_err(|failure| format!("its output cannot be read: {failure}"))?;
        let length = shared.length();
        let log = Arc::new(Log::new(folder, secrets, Arc::new(shared)));
        let before = self.log.lock().unwrap_or_else(PoisonError::into_inner).replace(log);
        if let Some(before) = before {
            before.shared.grow(length);
            before.shared.close();
        }
        Ok(())
    }

    /// Answers with the next chunk: at once if it is there, else as soon as it is.
    pub(super) fn read(self: &Arc<Self>, hands: &Arc<Hands>, answer: Answer, from: u64) {
        let open = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Anything else shows again when it is waited for.
        if let Some(Ok(Some(chunk))) = open.and_then(|log| log.at_once(from)) {
            return answer.give(Outcome::Chunk(chunk));
        }
        let (task, hands) = (Arc::clone(self), Arc::clone(hands));
        tokio::spawn(async move {
            let cancel = Arc::clone(&answer.cancel);
            let chunk = async { task.log(&hands).await?.wait(from, &cancel).await };
            answer.give(outcome(chunk.await, Outcome::Chunk));
        });
    }

    /// The task's log: the one that is written to, else the one that an earlier life of the daemon left.
    async fn log(&self, hands: &Hands) -> Result<Arc<Log>, String> {
        if let Some(log) = self.log.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(Arc::clone(log));
        }
        let (folder, secrets) = (Folder::of(&hands.home, self.id), hands.settings.secrets.clone());
        let settle = move || {
            // What is being written is not to be cut.
            let shared = if is_held(folder.path()) { log::measure(&folder.log())? } else { log::settle(&folder)? };
            io::Result::Ok(Log::new(folder, secrets, Arc::new(shared)))
        };
        let opened = blocking(settle).await?.map_err(|failure| format!("its output cannot be read: {failure}"))?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(log.get_or_insert_with(|| Arc::new(opened))))
    }
}

/// Looks what a task's processes take.
async fn measure(answer: Answer, folder: Folder) {
    let measured = blocking(move || match left(&folder)? {
        Some(tree) => tree.takes(),
        None => Err("it has no processes".to_owned()),
    });
    let measured = measured.await.flatten();
    answer.give(outcome(measured, |Taken { memory, processes }| Outcome::Measured { memory, processes }));
}

/// Looks whether something is at a path.
async fn look(hands: &Arc<Hands>, answer: Answer, path: String) {
    let (cancel, hands) = (Arc::clone(&answer.cancel), Arc::clone(hands));
    tokio::select! {
        looked = blocking(move || Reach::of(&hands).look(&path)) => answer.give(looked.unwrap_or_else(Outcome::Failed)),
        // It may lie where nobody answers.
        () = cancel.set() => answer.give(Outcome::Failed(CANCELLED.to_owned())),
    }
}

/// The tree that an earlier life of the daemon left, or one that this life has ended. None if the task never had
/// one, or the machine was started since. Blocks.
pub(super) fn left(folder: &Folder) -> Result<Option<Tree>, String> {
    let intent = folder.intent().map_err(|why| format!("its processes cannot be known: {why}"))?;
    // Without it they are found by their other marks.
    let held = folder.held().ok().flatten();
    Ok(intent.and_then(|intent| Tree::left(folder, &intent, held.as_ref())))
}

async fn write_down(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    blocking(work).await.map_err(io::Error::other)?
}

fn survivors(pids: &[i32]) -> String {
    let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
    match pids.len() {
        1 => format!("1 process could not be ended: {}", list.join(", ")),
        count => format!("{count} processes could not be ended: {}", list.join(", ")),
    }
}
