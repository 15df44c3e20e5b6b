//! What the threads of a server share: the script as far as it is used up, what was asked, and who is connected.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::http::Connection;
use super::{Answer, End, Kind, Request, Script, Turn};

/// How often is looked whether a client is still there.
const LOOK: Duration = Duration::from_millis(50);

/// The longest that a connection hangs. No client waits so long.
const HANG: Duration = Duration::from_secs(1800);

pub(super) struct Shared {
    state: Mutex<State>,
    /// Requests have changed, or it is over.
    changed: Condvar,
    /// Different for each server: identifiers must not come again, as sessions outlive servers.
    seed: u128,
}

struct State {
    script: Script,
    /// Requests that each turn may still answer.
    left: Vec<usize>,
    requests: Vec<Request>,
    others: Vec<String>,
    /// Identifiers that were given.
    given: u64,
    open: Vec<Weak<TcpStream>>,
    is_over: bool,
}

impl Shared {
    pub(super) fn new(script: Script) -> Self {
        let left = script.turns.iter().map(left).collect();
        let (requests, others, open) = (Vec::new(), Vec::new(), Vec::new());
        let state = Mutex::new(State { script, left, requests, others, given: 0, open, is_over: false });
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self { state, changed: Condvar::new(), seed }
    }

    pub(super) fn push(&self, turn: Turn) {
        let mut state = self.held();
        state.left.push(left(&turn));
        state.script.turns.push(turn);
    }

    /// Keeps a request, and gives its index and the turn that answers it; without one the key is wrong.
    pub(super) fn take(&self, mut request: Request, key: Option<&str>) -> (usize, Option<Turn>) {
        let mut state = self.held();
        let turn = state.choose(&mut request, key);
        state.requests.push(request);
        let index = state.requests.len() - 1;
        self.changed.notify_all();
        (index, turn)
    }

    /// A text with what stands for the script's variables, and for the request's own directory.
    pub(super) fn fill(&self, text: &str, cwd: Option<&str>) -> String {
        let mut text = cwd.map_or_else(|| text.to_owned(), |cwd| text.replace("{cwd}", cwd));
        for (name, value) in &self.held().script.variables {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// An identifier that was not there before.
    pub(super) fn id(&self, begin: &str) -> String {
        let mut state = self.held();
        state.given += 1;
        format!("{begin}_{:x}{:04x}", self.seed, state.given)
    }

    pub(super) fn count_tokens(&self) -> Option<u64> {
        self.held().script.count_tokens
    }

    pub(super) fn note(&self, other: String) {
        self.held().others.push(other);
    }

    pub(super) fn others(&self) -> Vec<String> {
        self.held().others.clone()
    }

    /// One more delta was sent.
    pub(super) fn sent(&self, index: usize) {
        self.change(index, |request| request.deltas += 1);
    }

    pub(super) fn ended(&self, index: usize, end: End) {
        self.change(index, |request| request.end = Some(end));
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&[Request]) -> T) -> T {
        look(&self.held().requests)
    }

    pub(super) fn wait_until(&self, mut look: impl FnMut(&[Request]) -> bool, patience: Duration) -> bool {
        let mut is_awaited = |state: &mut State| !look(&state.requests);
        let waited = self.changed.wait_timeout_while(self.held(), patience, &mut is_awaited);
        let (_state, time) = waited.unwrap_or_else(PoisonError::into_inner);
        !time.timed_out()
    }

    /// Waits so long.
    ///
    /// # Errors
    /// The client has gone meanwhile, or the server stops.
    pub(super) fn pause(&self, connection: &Connection, time: Duration) -> Result<(), End> {
        let end = Instant::now() + time;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            let is_over = |state: &mut State| !state.is_over;
            let waited = self.changed.wait_timeout_while(self.held(), rest.min(LOOK), is_over);
            let is_over = waited.unwrap_or_else(PoisonError::into_inner).0.is_over;
            if is_over || !connection.has_client() {
                return Err(End::Gone);
            }
        }
    }

    /// Waits until the client has gone.
    pub(super) fn hang(&self, connection: &Connection) {
        let _ = self.pause(connection, HANG);
    }

    /// A connection that has to end with the server. False: that is over.
    pub(super) fn opened(&self, stream: &Arc<TcpStream>) -> bool {
        let mut state = self.held();
        state.open.retain(|open| open.strong_count() > 0);
        state.open.push(Arc::downgrade(stream));
        !state.is_over
    }

    pub(super) fn is_over(&self) -> bool {
        self.held().is_over
    }

    /// Ends all connections, and every wait.
    pub(super) fn stop(&self) {
        let mut state = self.held();
        state.is_over = true;
        for stream in state.open.drain(..).filter_map(|open| open.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Request)) {
        self.held().requests.get_mut(index).map(change);
        self.changed.notify_all();
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The turn that answers a request, and that is noted in it.
    fn choose(&mut self, request: &mut Request, key: Option<&str>) -> Option<Turn> {
        if self.script.key.is_some() && self.script.key.as_deref() != key {
            request.answer = Answer::Refused;
            return None;
        }
        if request.kind == Kind::Side {
            request.answer = Answer::Side;
            return Some(self.script.side.clone());
        }
        for (index, (turn, left)) in self.script.turns.iter().zip(&mut self.left).enumerate() {
            if *left > 0 && turn.suits(request) {
                *left -= 1;
                request.answer = Answer::Turn(index);
                return Some(turn.clone());
            }
        }
        request.answer = Answer::Fallback;
        Some(self.script.fallback.clone())
    }
}

/// Requests that a turn may answer.
fn left(turn: &Turn) -> usize {
    if turn.repeat == 0 { usize::MAX } else { turn.repeat }
}
