//! One task: what of it is in this process, and its work.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use makima_core::effect::{Launch, Prepare, Work};
use makima_core::id::TaskId;
use makima_core::input::{Chunk, ExitStatus, Outcome, Prepared};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;

use super::agent::{Seat, Started};
use super::answer::Answer;
use super::cancel::Cancel;
use super::log::{Reader, Shared};
use super::pump::Pump;
use super::record::Folder;
use super::tree::{Ended, Tree};
use super::{Hands, agent, blocking, branch, commit, group, log, outcome, prepare};

/// One task.
pub(super) struct Task {
    id: TaskId,
    /// Held by the one thing that is done for it.
    pub(super) turn: tokio::sync::Mutex<()>,
    log: Mutex<Option<Arc<Log>>>,
    /// A process that waits to become the agent.
    seat: Mutex<Option<Seat>>,
    running: Mutex<Option<Running>>,
}

/// A log and who reads it.
struct Log {
    shared: Arc<Shared>,
    reader: Mutex<Reader>,
}

/// An agent that was started in this life of the daemon.
struct Running {
    tree: Tree,
    pump: Arc<Pump>,
    stdin: mpsc::UnboundedSender<(Answer, String)>,
}

impl Log {
    fn next(&self, from: u64) -> io::Result<Option<Chunk>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).next(from, &self.shared)
    }

    fn is_at(&self, from: u64) -> bool {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).is_at(from)
    }
}

impl Task {
    pub(super) fn new(id: TaskId) -> Self {
        Self {
            id,
            turn: tokio::sync::Mutex::new(()),
            log: Mutex::default(),
            seat: Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// Does one thing that may take a while.
    pub(super) async fn perform(&self, hands: &Arc<Hands>, answer: Answer, work: Work) {
        let folder = Folder::of(&hands.home, self.id);
        let cancel = Arc::clone(&answer.cancel);
        match work {
            Work::Accept { spec } => {
                let credentials = spec.credentials.and_then(|id| hands.settings.secrets.get(id));
                let written = write_down(move || folder.accept(*spec, credentials.as_deref())).await;
                answer.done(written, "it cannot be written down that the task was taken on");
            }
            Work::Prepare(wanted) => {
                let made = self.prepare(hands, &wanted, &cancel).await;
                answer.give(outcome(made, Outcome::Prepared));
            }
            Work::Start(launch) => self.start(hands, answer, &launch).await,
            Work::Empty => {
                let emptied = self.empty(hands).await;
                let told = |(killed, log_end)| Outcome::Emptied { killed, log_end };
                answer.give(outcome(emptied, told));
            }
            Work::Commit(wanted) => {
                let made = commit::commit(hands, self.id, &wanted, &cancel).await;
                answer.give(outcome(made, Outcome::Committed));
            }
            Work::PutBranch { target, branch, commit } => {
                let put = branch::put(hands, self.id, &target, &branch, &commit, &cancel).await;
                answer.give(outcome(put, |message| Outcome::Delivered { message }));
            }
            Work::Conclude { end } => {
                self.vacate().await;
                group::discard(self.id);
                let written = write_down(move || folder.conclude(end)).await;
                answer.done(written, "it cannot be written down how the task ended");
            }
            Work::Close => {
                let written = write_down(move || folder.close()).await;
                answer.done(written, "it cannot be written down that the task is closed");
            }
            // These wait for nothing and never come here.
            Work::Read { .. } | Work::Stdin { .. } | Work::Signal { .. } | Work::Delivered { .. } => {}
        }
    }

    async fn start(&self, hands: &Hands, answer: Answer, launch: &Launch) {
        if answer.cancel.is_set() {
            return answer.give(Outcome::Failed("it was cancelled".to_owned()));
        }
        let path = Folder::of(&hands.home, self.id).log();
        let started = self.seat_and_start(hands, launch).await.and_then(|started| {
            let reader = Reader::new(&path, hands.settings.secrets.clone());
            reader.map(|reader| (started, reader)).map_err(|failure| format!("its output cannot be read: {failure}"))
        });
        let (started, reader) = match started {
            Ok(started) => started,
            Err(why) => return answer.give(Outcome::Failed(why)),
        };
        let log = Log { shared: Arc::clone(&started.pump.log), reader: Mutex::new(reader) };
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(log));
        let (stdin, texts) = mpsc::unbounded_channel();
        let running = Running { tree: started.tree, pump: Arc::new(started.pump), stdin };
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        tokio::spawn(feed(started.stdin, texts));
        let tell = answer.started(started.pid);
        tokio::spawn(watch(started.child, tell));
    }

    /// Makes the worktree, and lets a process take its seat meanwhile.
    async fn prepare(&self, hands: &Hands, wanted: &Prepare, cancel: &Cancel) -> Result<Prepared, String> {
        self.vacate().await;
        let seat = async { Seat::take(hands, self.id) };
        // In this order: git runs while the process is made.
        let (made, seat) = tokio::join!(prepare::prepare(hands, self.id, wanted, cancel), seat);
        match (&made, seat) {
            (Ok(_), Ok(seat)) => *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(seat),
            (Err(_), Ok(seat)) => seat.leave().await,
            // The start tries once more, and says why it cannot.
            (_, Err(_)) => {}
        }
        made
    }

    async fn seat_and_start(&self, hands: &Hands, launch: &Launch) -> Result<Started, String> {
        let taken = self.seat.lock().unwrap_or_else(PoisonError::into_inner).take();
        let seat = match taken {
            Some(seat) => seat,
            None => Seat::take(hands, self.id)?,
        };
        seat.start(hands, self.id, launch).await
    }

    /// Lets the process go that nothing has become of.
    async fn vacate(&self) {
        let taken = self.seat.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(seat) = taken {
            seat.leave().await;
        }
    }

    /// Hands a text to the agent, behind those before it.
    pub(super) fn write(&self, answer: Answer, text: String) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match running.as_ref() {
            Some(running) => running.stdin.send((answer, text)).err().map(|refused| refused.0.0),
            None => Some(answer),
        };
        if let Some(answer) = refused {
            answer.give(Outcome::Failed("no agent of this task is there to be written to".to_owned()));
        }
    }

    /// Signals the agent's process group.
    pub(super) fn signal(&self, hands: &Hands, answer: Answer, signal: rustix::process::Signal) {
        match self.tree(hands) {
            Ok(Some(tree)) if !tree.signal_group(signal) => {
                tokio::task::spawn_blocking(move || {
                    tree.signal_members(signal);
                    answer.give(Outcome::Done);
                });
            }
            Ok(_) => answer.give(Outcome::Done),
            Err(why) => answer.give(Outcome::Failed(why)),
        }
    }

    /// The task's process tree. None if it never had one, or the machine was started since.
    fn tree(&self, hands: &Hands) -> Result<Option<Tree>, String> {
        if let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(Some(running.tree.clone()));
        }
        let folder = Folder::of(&hands.home, self.id);
        let intent = folder.intent().map_err(|why| format!("its processes cannot be known: {why}"))?;
        // Without it they are found by their other marks.
        let agent = folder.agent().ok().flatten();
        Ok(intent.and_then(|intent| Tree::left(&intent, agent)))
    }

    /// Ends the tree, and with it the log. Returns how many had to be killed and where the log ends.
    async fn empty(&self, hands: &Hands) -> Result<(u32, u64), String> {
        self.vacate().await;
        let mut killed = 0;
        if let Some(tree) = self.tree(hands)? {
            killed = match blocking(move || tree.end()).await? {
                Ended::Empty(killed) => killed,
                Ended::Left(pids) => return Err(survivors(&pids)),
            };
        }
        let pump = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().map(|running| Arc::clone(&running.pump))
        };
        let Some(pump) = pump else {
            return Ok((killed, self.log(hands).await?.shared.length()));
        };
        pump.finish();
        loop {
            let grown = pump.log.grown();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if pump.log.is_closed() {
                return Ok((killed, pump.log.length()));
            }
            grown.await;
        }
    }

    /// Answers with the next chunk: at once if it is there, else as soon as it is.
    pub(super) fn read(self: &Arc<Self>, hands: &Arc<Hands>, answer: Answer, from: u64) {
        let open = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(log) = open.filter(|log| log.is_at(from)) {
            // Anything else shows again when it is waited for.
            if let Ok(Some(chunk)) = log.next(from) {
                return answer.give(Outcome::Chunk(chunk));
            }
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
        let (path, secrets) = (Folder::of(&hands.home, self.id).log(), hands.settings.secrets.clone());
        let open = move || -> io::Result<Log> {
            let shared = Arc::new(log::settle(&path)?);
            Ok(Log { shared, reader: Mutex::new(Reader::new(&path, secrets)?) })
        };
        let opened = blocking(open).await?.map_err(|failure| format!("its output cannot be read: {failure}"))?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(log.get_or_insert_with(|| Arc::new(opened))))
    }
}

impl Log {
    async fn wait(self: &Arc<Self>, from: u64, cancel: &Cancel) -> Result<Chunk, String> {
        let failed = |failure: io::Error| format!("its output cannot be read: {failure}");
        if !self.is_at(from) {
            let log = Arc::clone(self);
            // To get there the whole log may have to be gone through.
            if let Some(chunk) = blocking(move || log.next(from)).await?.map_err(failed)? {
                return Ok(chunk);
            }
        }
        loop {
            let grown = self.shared.grown();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if let Some(chunk) = self.next(from).map_err(failed)? {
                return Ok(chunk);
            }
            tokio::select! {
                () = grown => {}
                () = cancel.set() => return Ok(Chunk { from, to: from, parts: Vec::new() }),
            }
        }
    }
}

/// Writes texts to an agent, in order.
async fn feed(mut stdin: ChildStdin, mut texts: mpsc::UnboundedReceiver<(Answer, String)>) {
    while let Some((answer, text)) = texts.recv().await {
        let cancel = Arc::clone(&answer.cancel);
        let written = tokio::select! {
            written = agent::write(&mut stdin, &text) => written,
            () = cancel.set() => Err("it was cancelled; a part of it may have been written".to_owned()),
        };
        answer.give(outcome(written, |()| Outcome::Done));
    }
}

async fn watch(mut child: Child, tell: impl FnOnce(ExitStatus)) {
    tell(agent::exit_status(child.wait().await));
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
