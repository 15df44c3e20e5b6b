//! A scripted stand-in for the Messages API, for the real `claude` to talk to: no model, no network beyond loopback.
//!
//! Each turn of the [`Script`] answers one request of an agent's main loop, in order; what a turn answers, how fast, and
//! where the answer breaks is said by the test. Everything that was asked is kept as a [`Request`].
//!
//! ```no_run
//! use makima_tests::api::{Api, Cut, Script, Turn};
//! use serde_json::json;
//! use std::time::Duration;
//!
//! let script = Script::new()
//!     .turn(Turn::error(429, "slow down").header("retry-after", "1"))
//!     .turn(Turn::text("I write it.").tool("Write", json!({ "file_path": "{cwd}/a.txt", "content": "a" })))
//!     .turn(Turn::text("It is not there yet").cut(3, Cut::Reset))
//!     .fallback(Turn::text("Done."));
//! let api = Api::start(script)?;
//! // ANTHROPIC_BASE_URL=api.url() ANTHROPIC_API_KEY=any claude -p ...
//! assert!(api.wait_for(2, Duration::from_secs(60)));
//! assert_eq!(api.newest().map(|request| request.tool_results().len()), Some(1));
//! # Ok::<(), std::io::Error>(())
//! ```

mod http;
mod message;
mod request;
mod script;
mod serve;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use request::{Answer, End, Kind, Request, ToolResult};
pub use script::{Cut, Script, Turn};
use shared::Shared;

/// For a connection to itself, which ends the wait for the next one.
const WAKE: Duration = Duration::from_secs(1);

/// Before connections are accepted again, where that has failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// A server that answers by a script. It stops when dropped.
pub struct Api {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Api {
    /// Listens on a free port of loopback, in threads of its own.
    ///
    /// # Errors
    /// No port or no thread can be had.
    pub fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(script));
        let accepted = Arc::clone(&shared);
        let accepting = thread::Builder::new().name("api".into()).spawn(move || accept(&listener, &accepted))?;
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// What `ANTHROPIC_BASE_URL` has to be.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a turn behind the script's others.
    pub fn push(&self, turn: Turn) {
        self.shared.push(turn);
    }

    /// Every `POST` to `/v1/messages` so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.look(|requests| requests.to_vec())
    }

    /// The newest request of a main loop.
    #[must_use]
    pub fn newest(&self) -> Option<Request> {
        self.shared.look(|requests| requests.iter().rev().find(|request| request.kind == Kind::Main).cloned())
    }

    /// What the newest main request has of the user, oldest first: see [`Request::user_texts`].
    #[must_use]
    pub fn user_texts(&self) -> Vec<String> {
        self.newest().map(|request| request.user_texts()).unwrap_or_default()
    }

    /// What the newest main request has of tools, oldest first.
    #[must_use]
    pub fn tool_results(&self) -> Vec<ToolResult> {
        self.newest().map(|request| request.tool_results()).unwrap_or_default()
    }

    /// Every other request so far, as method and path: probes, counts of tokens, and bodies that are no JSON.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        self.shared.others()
    }

    /// Waits until so many main requests have come in. False: they have not, in that time.
    #[must_use]
    pub fn wait_for(&self, count: usize, patience: Duration) -> bool {
        let is_main = |request: &&Request| request.kind == Kind::Main;
        self.wait_until(|requests| requests.iter().filter(is_main).count() >= count, patience)
    }

    /// Waits until the requests are like that; they are looked at whenever one comes in, is sent a delta, or ends.
    /// False: they are not, in that time. The server is locked meanwhile: `look` must not ask it.
    #[must_use]
    pub fn wait_until(&self, look: impl FnMut(&[Request]) -> bool, patience: Duration) -> bool {
        self.shared.wait_until(look, patience)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shared.stop();
        let woken = TcpStream::connect_timeout(&self.address, WAKE);
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _ = accepting.join();
        }
    }
}

/// Serves each connection in a thread of its own.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_over() {
            return;
        }
        let Ok(stream) = stream.map(Arc::new) else {
            thread::sleep(ACCEPT_AGAIN);
            continue;
        };
        if !shared.opened(&stream) {
            return;
        }
        let shared = Arc::clone(shared);
        // Without a thread the connection is closed, as by a server that has no room.
        let _ = thread::Builder::new().name("api-connection".into()).spawn(move || serve::connection(stream, &shared));
    }
}
