//! Who does the work of `makima run`: a server and a daemon in this process, or those that hold the home
//! already.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use makima_control::{Activity, Bounds, Config, Listen, Server, Token};
use makima_core::input::Stop;
use makima_transports::endpoint;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::print;
use super::signals::Signals;
use crate::config::{self, ConfigFile, OrchestrationFile};
use crate::home::{Home, HomeError};
use crate::report::Failure;
use crate::rest::{Rest, RestError};
use crate::server_file::{self, ServerFile};
use crate::service::{self, MAX_TASKS, Options, Service, VERSION};

/// For another process that is about to hold the home, or to let go of it.
const SETTLE: Duration = Duration::from_millis(200);

/// For whoever holds the home to say where its server is.
const FIND: Duration = Duration::from_secs(20);

/// For the daemon to end its tasks and tell of it, once it was told to stop.
const STOP: Duration = Duration::from_secs(120);

/// Between the last look at whether anybody is left to be served and the end.
const LINGER: Duration = Duration::from_millis(50);

/// Who does the work.
pub(super) enum Host {
    /// This process.
    Owner(Box<Owner>),
    /// Somebody else: the first `makima run`, or a daemon under an embedded server.
    Guest(Rest),
    /// A server that people name: who does the work is its affair.
    Elsewhere(Rest),
}

impl Host {
    pub(super) fn rest(&self) -> &Rest {
        match self {
            Self::Owner(owner) => &owner.rest,
            Self::Guest(rest) | Self::Elsewhere(rest) => rest,
        }
    }

    /// Finds who holds the home, or takes it.
    ///
    /// # Errors
    /// The home cannot be used; or its daemon works for a server that takes no plans from here.
    pub(super) async fn find(path: &Path, file: &ConfigFile) -> Result<Self, Failure> {
        let until = Instant::now() + FIND;
        while Instant::now() < until {
            match Home::open(path) {
                Ok(home) => return Owner::start(home, file).await.map(|owner| Self::Owner(Box::new(owner))),
                Err(HomeError::Locked { .. }) => {
                    if let Some(rest) = holder(path).await? {
                        agrees(path, file)?;
                        return Ok(Self::Guest(rest));
                    }
                }
                Err(error) => return Err(Failure::unusable(error.to_string())),
            }
            // It is about to say where it is, or to end.
            sleep(SETTLE).await;
        }
        Err(Failure::unusable(format!("{} is held by a daemon that does not say where its server is", path.display()))
            .hint("see `makima status`; or set MAKIMA_HOME to another folder"))
    }
}

/// The server of the daemon that holds the home, if it is an embedded one; none while that is not known.
async fn holder(home: &Path) -> Result<Option<Rest>, Failure> {
    let Some(daemon) = service::read_daemon_file(home) else { return Ok(None) };
    let Ok(server) = endpoint(&daemon.server) else { return Ok(None) };
    let known = ServerFile::read(home);
    let known = known.filter(|file| endpoint(&file.url).is_ok_and(|there| there.origin() == server.origin()));
    // A key goes unencrypted to this machine only.
    let given = std::env::var("MAKIMA_API_KEY").ok().filter(|_| server.is_encrypted() || server.is_loopback());
    let key = known.as_ref().map(|file| file.token.clone()).or(given);
    let rest = Rest::new(&server, key.unwrap_or_default())?;
    match rest.info().await {
        Ok(info) if info.server == "makima" => Ok(Some(rest)),
        // Ours, and on its way: up or down.
        Err(RestError::Away { .. }) if known.is_some() => Ok(None),
        _ => Err(foreign(home, &daemon.server, daemon.pid)),
    }
}

/// A plan for one agent is nothing for another: a script would be told to a model, or words be run as a script.
fn agrees(home: &Path, file: &ConfigFile) -> Result<(), Failure> {
    let wanted = config::agent(file)?;
    match service::read_daemon_file(home) {
        Some(daemon) if daemon.agent != wanted.name() => Err(Failure::unusable(format!(
            "{} is held by a daemon (process {}) whose agent is {}, and this plan is for {}",
            home.display(),
            daemon.pid,
            daemon.agent,
            wanted.name()
        ))
        .hint(format!(
            "write --agent {}; or wait until it has ended; or set MAKIMA_HOME to another folder",
            print::word(&print::tame(&daemon.agent))
        ))),
        Some(_) | None => Ok(()),
    }
}

fn foreign(home: &Path, server: &str, pid: u32) -> Failure {
    Failure::unusable(format!(
        "{} is held by a daemon (process {pid}) that works for {server}, which takes no plans from here",
        home.display()
    ))
    .hint("give the plan to that server; or set MAKIMA_HOME to another folder for a makima of your own")
}

/// A server and a daemon in this process.
pub(super) struct Owner {
    rest: Rest,
    home: PathBuf,
    /// None where `makima serve` runs on this home already.
    server: Option<(Server, ServerFile)>,
    /// What that has to do.
    activity: Option<watch::Receiver<Activity>>,
    service: Service,
}

impl Owner {
    async fn start(home: Home, file: &ConfigFile) -> Result<Self, Failure> {
        let path = home.root().to_path_buf();
        let (url, token, server) = match running(&path).await {
            Some(found) => (found.url, found.token, None),
            None => {
                let (server, file) = start_server(&path, loopback(0), Vec::new(), bounds(file.orchestration)).await?;
                (file.url.clone(), file.token.clone(), Some((server, file)))
            }
        };
        let endpoint = service::server_endpoint(&url, false)?;
        let rest = Rest::new(&endpoint, token.clone())?;
        let service = service::start(Options {
            home,
            server: endpoint,
            key: token,
            max_tasks: file.max_tasks.unwrap_or(MAX_TASKS),
            once: false,
            file: file.clone(),
        })?;
        let activity = server.as_ref().map(|(server, _)| server.activity());
        Ok(Self { rest, home: path, server, activity, service })
    }

    /// How many tasks are under way here, and how many people follow one.
    pub(super) fn busy(&self) -> (usize, usize) {
        match &self.activity {
            Some(activity) => {
                let Activity { unfinished, followers, .. } = *activity.borrow();
                (unfinished, followers)
            }
            // Who gives plans to a server of its own is not seen here; what the daemon makes of them is.
            None => (self.service.state.borrow().untold, 0),
        }
    }

    /// How many tasks have not ended here.
    pub(super) fn unended(&self) -> usize {
        match &self.activity {
            Some(activity) => activity.borrow().unfinished,
            // An end that is on its way to the server is not under way.
            None => self.service.state.borrow().unended,
        }
    }

    /// Waits until that may have changed. False where it cannot any more: our daemon has ended.
    pub(super) async fn changed(&mut self) -> bool {
        match &mut self.activity {
            Some(activity) => tokio::select! {
                changed = activity.changed() => changed.is_ok(),
                _ = self.service.ended() => false,
            },
            None => self.service.state.changed().await.is_ok(),
        }
    }

    /// Whether nobody needs this process any more. Then it takes no more plans.
    pub(super) async fn is_free(&mut self) -> bool {
        // Somebody may be between two requests.
        if self.busy() != (0, 0) || timeout(LINGER, self.changed()).await.is_ok_and(|changed| changed) {
            return false;
        }
        if self.server.is_some() {
            return true;
        }
        self.service.stop(Stop::IfIdle);
        timeout(LINGER, self.service.ended()).await.is_ok()
    }

    /// Waits until the daemon has ended.
    pub(super) async fn ended(&mut self) {
        self.service.ended().await;
    }

    /// Tells the daemon to end what it does.
    pub(super) fn stop(&self, how: Stop) {
        self.service.stop(how);
    }

    /// Ends the server, which has nothing more to be told, then the daemon. In this order: a plan that comes in at
    /// the last moment is not refused by a daemon that is about to end; it is kept for whoever comes next.
    pub(super) async fn end(mut self, signals: &mut Signals) {
        if let Some((server, file)) = self.server {
            file.remove(&self.home);
            server.shutdown().await;
        }
        self.service.stop(Stop::Graceful);
        let limit = sleep(STOP);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                _ = self.service.ended() => return,
                _ = signals.next() => self.service.stop(Stop::Forced),
                () = &mut limit => return tracing::error!("the daemon does not end"),
            }
        }
    }
}

/// The embedded server that runs on this home, if one does.
pub(super) async fn running(home: &Path) -> Option<ServerFile> {
    let file = ServerFile::read(home)?;
    let rest = Rest::new(&endpoint(&file.url).ok()?, file.token.clone()).ok()?;
    let info = rest.info().await.ok()?;
    (info.server == "makima").then_some(file)
}

/// What orchestrators may do, as the configuration has it.
pub(super) fn bounds(file: OrchestrationFile) -> Bounds {
    let OrchestrationFile { max_depth, max_subtasks, max_cost } = file;
    let usual = Bounds::default();
    Bounds {
        max_depth: max_depth.map_or(usual.max_depth, i32::from),
        max_subtasks: max_subtasks.map_or(usual.max_subtasks, |most| most as usize),
        max_cost: max_cost.map(config::millionths).or(usual.max_cost),
    }
}

/// Starts the embedded server with its data in `data`, and says in the home where it is.
/// It answers to this machine's own names, to the address that it listens on, and to `hosts`.
pub(super) async fn start_server(
    data: &Path,
    listen: SocketAddr,
    mut hosts: Vec<String>,
    bounds: Bounds,
) -> Result<(Server, ServerFile), Failure> {
    let (token, _) = server_file::token(data)?;
    hosts.push(listen.ip().to_string());
    let config = Config {
        listen: Listen::Address(listen),
        data: data.join("control.db"),
        token: Token::new(&token),
        hosts,
        version: VERSION.to_string(),
        bounds,
    };
    let server = Server::start(config).await.map_err(|error| Failure::unusable(error.to_string()))?;
    let mut address = server.address();
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let file = ServerFile { url: format!("http://{address}"), token, pid: std::process::id() };
    file.write(data).map_err(|error| Failure::unusable(error.to_string()))?;
    Ok((server, file))
}

/// An address of this machine that nobody else can reach.
pub(super) const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
