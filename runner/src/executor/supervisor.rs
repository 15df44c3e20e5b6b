//! The daemon's end of the socket to a task's supervisor.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use makima_core::input::ExitStatus;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::blocking;
use super::log::{self, Shared};
use super::record::Folder;
use super::tree::Way;
use crate::near::Near;
use crate::supervise::protocol::{HOLDS, LINE, Said, Sign, Told, VERSION, line};
use crate::supervise::{SOCKET, is_held};

/// For a supervisor to say who it is.
const GREET: Duration = Duration::from_secs(2);

/// For one that lives to be there: it may just be starting its agent, or be about to leave.
const FIND: Duration = Duration::from_secs(10);

/// Between two looks for it.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of a message.
type Taken = oneshot::Sender<Result<(), String>>;

/// Something for a supervisor.
enum Order {
    Text { n: u64, text: String, taken: Taken },
    Sign(Sign),
    Delivered(u64),
}

/// A supervisor that is spoken to.
#[derive(Debug)]
pub(super) struct Link {
    /// The agent's process, for people.
    pub(super) pid: i32,
    /// The number of the newest message that it had been handed when it was found.
    pub(super) handed: u64,
    /// How far the log is.
    pub(super) log: Arc<Shared>,
    /// What the supervisor speaks.
    version: u32,
    to: mpsc::UnboundedSender<Order>,
    /// The agent itself is gone, though not all that it started may be.
    gone: Arc<AtomicBool>,
}

/// How an agent was found.
pub(super) enum Found {
    /// It runs. How it ends comes by the other.
    Runs(Link, oneshot::Receiver<ExitStatus>),
    /// It has ended: the process that it was, and how.
    Ended(u32, ExitStatus),
    /// None was ever started.
    Nothing,
    /// There was one, and nobody knows what became of it.
    Lost(&'static str),
}

/// Finds the supervisor of a task, or what it left behind.
pub(super) async fn find(folder: &Folder) -> Result<Found, String> {
    let until = Instant::now() + FIND;
    let unknown = |why| format!("what became of its agent cannot be read: {why}");
    let intent = loop {
        let records = folder.clone();
        match blocking(move || records.intent()).await? {
            Ok(intent) => break intent,
            // An agent may be at work: it is not given up for an error that may pass.
            Err(why) if Instant::now() > until => return Err(unknown(why)),
            Err(_) => sleep(PAUSE).await,
        }
    };
    let Some(intent) = intent else { return Ok(Found::Nothing) };
    let may_live = Way::may_live(&intent.boot);
    while may_live && is_held(folder.path()) {
        if let Ok((link, ended)) = connect(folder, &intent.nonce).await {
            return Ok(Found::Runs(link, ended));
        }
        if Instant::now() > until {
            return Err("its supervisor is there and does not answer".to_owned());
        }
        sleep(PAUSE).await;
    }
    let records = folder.clone();
    let (held, ending) = blocking(move || (records.held(), records.ending())).await?;
    let held = held.map_err(unknown)?.filter(|held| held.nonce == intent.nonce);
    let ending = ending.map_err(unknown)?.filter(|ending| ending.nonce == intent.nonce);
    Ok(match (held, ending) {
        (held, Some(ending)) => {
            let pid = held.and_then(|held| held.agent).map_or(0, |agent| agent.pid.unsigned_abs());
            Found::Ended(pid, ending.status)
        }
        (Some(_), None) if !may_live => Found::Lost("the machine was restarted"),
        (Some(_), None) => Found::Lost(match Way::of(&intent.boot) {
            Way::Full => "the supervisor was killed",
            // A lock does not say when it was let go of.
            Way::Portable => "the supervisor was killed, or the machine was restarted",
        }),
        (None, None) => Found::Nothing,
    })
}

/// Speaks to the supervisor of a task.
///
/// # Errors
/// None is there, or it is another start's.
pub(super) async fn connect(folder: &Folder, nonce: &str) -> Result<(Link, oneshot::Receiver<ExitStatus>), String> {
    let (wire, Hello { pid, log, version, handed }) = Wire::open(folder.path().to_path_buf(), nonce).await?;
    let shared = Arc::new(Shared::default());
    shared.grow(log);
    let (to, orders) = mpsc::unbounded_channel();
    let (tell, ended) = oneshot::channel();
    let gone = Arc::new(AtomicBool::new(false));
    let talk = Talk {
        folder: folder.clone(),
        nonce: nonce.to_owned(),
        log: Arc::clone(&shared),
        gone: Arc::clone(&gone),
        texts: BTreeMap::new(),
        orders,
    };
    tokio::spawn(talk.run(wire, tell));
    Ok((Link { pid, handed, log: shared, version, to, gone }, ended))
}

impl Link {
    /// Hands the agent a message. Ready when it has it, or cannot have it.
    pub(super) fn write(&self, n: u64, text: String) -> oneshot::Receiver<Result<(), String>> {
        let (taken, told) = oneshot::channel();
        // Where nobody listens any more, nobody answers, and that is an answer too.
        let _ = self.to.send(Order::Text { n, text, taken });
        told
    }

    /// The server has the log up to here. Where that gets lost, more is kept for a while.
    pub(super) fn delivered(&self, to: u64) {
        let _ = self.to.send(Order::Delivered(to));
    }

    /// Whether the agent is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Stops the agent's process group where it stands, or lets it go on. False where that cannot be.
    pub(super) fn hold(&self, still: bool) -> bool {
        self.version >= HOLDS && self.signal(if still { Sign::Stop } else { Sign::Continue })
    }

    /// Signals the agent's process group. False where the agent is gone.
    pub(super) fn signal(&self, sign: Sign) -> bool {
        !self.is_gone() && self.to.send(Order::Sign(sign)).is_ok()
    }
}

/// What a supervisor says first.
struct Hello {
    pid: i32,
    log: u64,
    version: u32,
    handed: u64,
}

/// A connection that has been greeted on.
struct Wire {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    heard: Vec<u8>,
}

impl Wire {
    async fn open(folder: PathBuf, nonce: &str) -> Result<(Self, Hello), String> {
        let refused = |failure: io::Error| format!("its supervisor cannot be reached: {failure}");
        let near = Near::to(&folder, SOCKET).map_err(refused)?;
        let stream = UnixStream::connect(near.path()).await.map_err(refused)?;
        let (from, to) = stream.into_split();
        let mut wire = Self { from: BufReader::new(from), to, heard: Vec::new() };
        let greeted = async {
            wire.send(&Told::Hello { version: VERSION, nonce: nonce.to_owned() }).await?;
            wire.next().await
        };
        match timeout(GREET, greeted).await {
            Ok(Ok(Some(Said::Hello { nonce: theirs, pid, log, version, handed }))) if theirs == nonce => {
                Ok((wire, Hello { pid, log, version, handed }))
            }
            Ok(Ok(_)) => Err("its supervisor is another one".to_owned()),
            Ok(Err(failure)) => Err(refused(failure)),
            Err(_) => Err("its supervisor does not answer".to_owned()),
        }
    }

    async fn send(&mut self, told: &Told) -> io::Result<()> {
        self.to.write_all(&line(told)).await
    }

    /// The next thing that it says and that is understood; none once it is gone. Safe to be dropped half-way.
    async fn next(&mut self) -> io::Result<Option<Said>> {
        loop {
            // Not even what has no end is kept: who listens there may be the agent.
            let room = LINE.saturating_sub(self.heard.len()) as u64;
            if (&mut self.from).take(room).read_until(b'\n', &mut self.heard).await? == 0 && self.heard.is_empty() {
                return Ok(None);
            }
            if !self.heard.ends_with(b"\n") {
                return Ok(None);
            }
            let said = serde_json::from_slice(&self.heard);
            self.heard.clear();
            if let Ok(said) = said {
                return Ok(Some(said));
            }
        }
    }
}

/// The conversation with one supervisor, over as many connections as it takes.
struct Talk {
    folder: Folder,
    nonce: String,
    log: Arc<Shared>,
    gone: Arc<AtomicBool>,
    /// What the agent is not known to have.
    texts: BTreeMap<u64, (String, Taken)>,
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Talk {
    /// Talks until the supervisor has left, and tells how the agent ended as soon as that is known.
    async fn run(mut self, mut wire: Wire, tell: oneshot::Sender<ExitStatus>) {
        let mut tell = Some(tell);
        loop {
            // An error, too, says that it has gone or does not want this connection any more.
            if self.session(&mut wire, &mut tell).await.is_ok_and(|how| how.is_break()) {
                return;
            }
            match self.again().await {
                Some(anew) => wire = anew,
                None => break,
            }
        }
        self.gone.store(true, Ordering::Release);
        // It wrote what it had to write before it left, and nobody else writes.
        let ending = self.folder.ending().ok().flatten();
        self.close(ending.is_some()).await;
        if let Some(tell) = tell {
            // Nobody waits for it any more where the daemon ends.
            let _ = tell.send(ending.map_or(ExitStatus::Lost, |ending| ending.status));
        }
    }

    /// Where the log ends is known: at its last whole record, if the supervisor was killed in the middle of one.
    async fn close(&self, in_order: bool) {
        let folder = self.folder.clone();
        let length = blocking(move || {
            if in_order { Ok(fs_err::metadata(folder.log())?.len()) } else { Ok(log::settle(&folder)?.length()) }
        });
        match length.await.unwrap_or_else(|why| Err(io::Error::other(why))) {
            Ok(length) => self.log.grow(length),
            Err(failure) => tracing::warn!("{failure}"),
        }
        self.log.close();
    }

    /// Another connection to it; none where it is gone.
    async fn again(&self) -> Option<Wire> {
        while is_held(self.folder.path()) {
            if let Ok((wire, hello)) = Wire::open(self.folder.path().to_path_buf(), &self.nonce).await {
                self.log.grow(hello.log);
                return Some(wire);
            }
            sleep(PAUSE).await;
        }
        None
    }

    /// One connection, until its end; a break where nobody listens here any more.
    async fn session(
        &mut self,
        wire: &mut Wire,
        tell: &mut Option<oneshot::Sender<ExitStatus>>,
    ) -> io::Result<ControlFlow<()>> {
        for (n, (text, _)) in &self.texts {
            wire.send(&Told::Stdin { n: *n, text: text.clone() }).await?;
        }
        loop {
            let said = tokio::select! {
                said = wire.next() => said?,
                order = self.orders.recv() => {
                    // Nobody has a hold of it any more: another daemon may have.
                    let Some(order) = order else { return Ok(ControlFlow::Break(())) };
                    let told = self.told(order);
                    wire.send(&told).await?;
                    continue;
                }
            };
            let Some(said) = said else { return Ok(ControlFlow::Continue(())) };
            match said {
                Said::Log(length) => self.log.grow(length),
                Said::Took(n) => self.taken(n, Ok(())),
                Said::Refused { n, why } => self.taken(n, Err(why)),
                Said::Exit(status) => {
                    self.gone.store(true, Ordering::Release);
                    let _ = tell.take().map(|tell| tell.send(status));
                }
                Said::Hello { .. } => {}
            }
        }
    }

    fn told(&mut self, order: Order) -> Told {
        match order {
            Order::Text { n, text, taken } => {
                self.texts.insert(n, (text.clone(), taken));
                Told::Stdin { n, text }
            }
            Order::Sign(sign) => Told::Signal(sign),
            Order::Delivered(to) => Told::Delivered(to),
        }
    }

    fn taken(&mut self, n: u64, how: Result<(), String>) {
        if let Some((_, taken)) = self.texts.remove(&n) {
            // Called off by whoever asked for it.
            let _ = taken.send(how);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the daemon's memory from who listens in a supervisor's place and says one line without an end.
    #[tokio::test]
    async fn a_line_without_an_end_is_left() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let (from, to) = ours.into_split();
        let mut wire = Wire { from: BufReader::new(from), to, heard: Vec::new() };
        let says = tokio::spawn(async move {
            let (piece, mut said) = (vec![b'x'; 1 << 20], 0);
            while said < 4 << 10 && theirs.write_all(&piece).await.is_ok() {
                said += 1;
            }
            said
        });
        assert!(matches!(wire.next().await, Ok(None)), "it is taken for gone");
        assert!(wire.heard.len() <= LINE, "{} bytes are held", wire.heard.len());
        drop(wire);
        let said = says.await.expect("it says what it can");
        assert!(said <= 16, "{said} MiB were taken");
    }
}
