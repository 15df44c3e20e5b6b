//! What every request can reach.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Token;
use crate::engine::Engine;
use crate::hub::Bounds;
use crate::polls::Polls;

/// Connections that have not shown their key yet. Each may hold a message's worth of memory.
const AT_THE_DOOR: usize = 32;

/// Shared by all requests of a server.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) token: Token,
    pub(crate) hosts: Vec<String>,
    pub(crate) version: String,
    pub(crate) bounds: Bounds,
    /// The server is to end: finish what you are at.
    pub(crate) stop: CancellationToken,
    /// The server ends now.
    pub(crate) kill: CancellationToken,
    pub(crate) tracker: TaskTracker,
    pub(crate) door: Arc<Semaphore>,
    pub(crate) polls: Polls,
}

impl App {
    pub(crate) fn new(engine: Engine, token: Token, hosts: Vec<String>, version: String, bounds: Bounds) -> Self {
        Self {
            engine,
            token,
            hosts,
            version,
            bounds,
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tracker: TaskTracker::new(),
            door: Arc::new(Semaphore::new(AT_THE_DOOR)),
            polls: Polls::default(),
        }
    }
}
