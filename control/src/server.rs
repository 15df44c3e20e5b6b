//! Starts the server and ends it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::{Config, Listen, StartError};
use crate::engine::{Activity, Counters, Engine};
use crate::hub::Bounds;
use crate::store::{Sqlite, Store};
use crate::{http, serve};

/// A whole shutdown takes no longer than this.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// For requests and sessions to end by themselves; then they are cut.
const POLITE: Duration = Duration::from_millis(1500);

/// A control server that runs. Dropping it ends it without waiting for anything.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    writer: Option<JoinHandle<()>>,
    writer_stop: CancellationToken,
}

impl Server {
    /// Starts one on the runtime that this is called on. When this returns it answers.
    ///
    /// # Errors
    /// Where it cannot listen, or its data file cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        // The port first: a second server on it is the likelier mistake, and the clearer one.
        let listener = listen(config.listen).await?;
        let store = Sqlite::open(&config.data).await?;
        run(listener, Arc::new(store), config.token, config.hosts, config.version, config.bounds).await
    }

    /// Starts one that keeps its records in this store; `config.data` is not used.
    ///
    /// # Errors
    /// Where it cannot listen, or what is stored cannot be read.
    pub async fn start_with(config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        run(listen(config.listen).await?, store, config.token, config.hosts, config.version, config.bounds).await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does at the moment. It counts a task before the client that asked for it is answered.
    #[must_use]
    pub fn activity(&self) -> watch::Receiver<Activity> {
        self.app.engine.activity()
    }

    /// What went wrong since start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.app.engine.counters()
    }

    /// Ends it within five seconds: takes no more, ends streams and sessions, writes all that was taken.
    pub async fn shutdown(mut self) {
        let deadline = Instant::now() + SHUTDOWN;
        self.app.stop.cancel();
        self.app.tracker.close();
        if timeout(POLITE, self.app.tracker.wait()).await.is_err() {
            self.app.kill.cancel();
            let _ = timeout(Duration::from_millis(500), self.app.tracker.wait()).await;
        }
        self.app.engine.end();
        self.writer_stop.cancel();
        if let Some(mut writer) = self.writer.take()
            && timeout_at(deadline - Duration::from_millis(500), &mut writer).await.is_err()
        {
            writer.abort();
            tracing::error!("not everything could be written in time; daemons deliver it again");
        }
        let _ = timeout_at(deadline, self.app.engine.store().close()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.app.stop.cancel();
        self.app.kill.cancel();
        self.writer_stop.cancel();
    }
}

async fn run(
    listener: TcpListener,
    store: Arc<dyn Store>,
    token: crate::Token,
    hosts: Vec<String>,
    version: String,
    bounds: Bounds,
) -> Result<Server, StartError> {
    if token.is_empty() {
        return Err(StartError::NoToken);
    }
    let address = listener.local_addr().map_err(|source| StartError::Socket { source })?;
    let engine = Engine::start(store).await.map_err(StartError::Load)?;
    let app = Arc::new(App::new(engine, token, hosts, version, bounds));
    let writer_stop = CancellationToken::new();
    let writer = {
        let (app, stop) = (Arc::clone(&app), writer_stop.clone());
        tokio::spawn(async move { app.engine.write(stop).await })
    };
    let router = http::router(Arc::clone(&app));
    app.tracker.spawn(serve::accept(listener, Arc::clone(&app), router));
    Ok(Server { app, address, writer: Some(writer), writer_stop })
}

async fn listen(listen: Listen) -> Result<TcpListener, StartError> {
    match listen {
        Listen::Address(address) => TcpListener::bind(address).await.map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                StartError::PortInUse { address }
            } else {
                StartError::Listen { address, source }
            }
        }),
        Listen::Bound(listener) => listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .map_err(|source| StartError::Socket { source }),
    }
}
