//! A daemon put together: home, executor, core, driver. The same for `makima daemon` and `makima run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use makima_core::agent::Agent;
use makima_core::effect::Exit;
use makima_core::id::SecretId;
use makima_core::input::{Boot, Stop};
use makima_core::{Config, Daemon};
use makima_transports::{Endpoint, endpoint};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{self, ConfigFile};
use crate::driver::{Driver, State};
use crate::executor::{Again, Executor, Leftovers, Secrets, Settings, Way, leftovers};
use crate::home::{Home, daemon_file, write_atomic};
use crate::inspect::notify::{self, Notifier, Wishes};
use crate::inspect::socket::{self, Desk};
use crate::inspect::status::Identity;
use crate::journal::{self, Bounds, Journal};
use crate::news::News;
use crate::report::Failure;
use crate::sandbox::Settled;
use crate::{inspect, logging};

/// What a daemon is started with.
#[derive(Debug)]
pub struct Options {
    /// Its home, which it holds.
    pub home: Home,
    /// Its server.
    pub server: Endpoint,
    /// What it shows to the server.
    pub key: String,
    /// How many tasks run at once.
    pub max_tasks: u32,
    /// End after one session.
    pub once: bool,
    /// The rest, from the file.
    pub file: ConfigFile,
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Service {
    stop: mpsc::Sender<Stop>,
    /// How it stands.
    pub state: watch::Receiver<State>,
    task: JoinHandle<Exit>,
    notifier: Notifier,
    exit: Option<Exit>,
}

/// The file in the home that says who runs there: for `makima status` and for a second `makima run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonFile {
    /// The daemon's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its server.
    pub server: String,
    /// How the link to that stands.
    pub link: String,
    /// What is wrong with it, if anything.
    pub trouble: Option<String>,
    /// Which agent runs its tasks. Older ones do not say it: theirs was the only one.
    #[serde(default = "only_agent")]
    pub agent: String,
}

fn only_agent() -> String {
    Agent::Shell.name().to_owned()
}

/// This program's version.
pub const VERSION: &str = crate::journal::BUILD;

/// Tasks that run at once, where nobody says otherwise.
pub const MAX_TASKS: u32 = 4;

/// Starts a daemon on the runtime that this is called on.
///
/// # Errors
/// This machine has no git that is new enough, or the home cannot be read.
pub fn start(options: Options) -> Result<Service, Failure> {
    let Options { home, server, key, max_tasks, once, file } = options;
    let mut settings = settings(&file)?;
    settings.allowed_roots = file.allowed_roots();
    settings.forges = file.forges();
    let secrets = settings.secrets.clone();
    logging::mask(&secrets);
    secrets.set(SecretId::DaemonKey, key);
    let left = leftovers(&home).map_err(|error| Failure::unusable(error.to_string()))?;
    for unreadable in &left.unreadable {
        tracing::error!("{unreadable}; it is left as it is");
    }
    left.know_credentials(&home, &secrets);
    know_keys(&home, &left, &secrets);
    let config = Config {
        machine_id: home.machine_id().to_string(),
        hostname: hostname(),
        max_tasks: max_tasks.max(1),
        working_directory: text(&std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))),
        home_directory: text(&home.clones()),
        worktrees_directory: text(&home.worktrees()),
        api_url: server.origin(),
        program: text(&settings.launcher),
        agent: config::agent(&file)?,
        once,
        compat: file.compat(),
        keep: file.keep.keep(),
        allowance: file.limits.allowance(),
    };
    let agent = config.agent.name().to_owned();
    let (news, teller) = News::begin(&file.notify, &config.hostname)?.unzip();
    let (core, journal) = take_up(&home, &config, &secrets)?;
    let (events, executor_events) = mpsc::unbounded_channel();
    let incarnation = home.incarnation().max(core.incarnation().saturating_add(1));
    let boot = Boot { incarnation, seed: seed(), config: Some(Box::new(config)), leftovers: left.tasks };
    let executor =
        Executor::new(home.clone(), settings, events).map_err(|unfit| Failure::unusable(unfit.to_string()))?;
    let (stop, stops) = mpsc::channel(4);
    let (state_in, state) = watch::channel(State::default());
    let (asker, asked) = inspect::questions();
    let mut desks = JoinSet::new();
    let desk = Desk { asker, home: home.root().to_path_buf(), who: who(&server) };
    open_desks(&mut desks, &desk, &file)?;
    let wishes = Wishes::here();
    let notifier = wishes.notifier.clone();
    desks.spawn(notify::keep_told(wishes, desk.asker, state.clone()));
    let keeper = tokio::spawn(keep_file(home.root().to_path_buf(), (server.to_string(), agent), state.clone()));
    let driver = Driver::new((core, journal), (executor, executor_events), server, secrets, stops, state_in);
    let driver = driver.with_questions(asked).with_news(news);
    let task = tokio::spawn(async move {
        let exit = driver.run(boot).await;
        let _ = keeper.await;
        if let Some(teller) = teller {
            teller.end().await;
        }
        // The last who holds the home lets go of it.
        let _ = std::fs::remove_file(daemon_file(home.root()));
        desks.shutdown().await;
        socket::remove(home.root());
        drop(home);
        exit
    });
    Ok(Service { stop, state, task, notifier, exit: None })
}

/// The keys of orchestrators of before: the server is told them again, and no output is read before they are masked.
fn know_keys(home: &Home, left: &Leftovers, secrets: &Secrets) {
    for left in left.tasks.iter().filter(|left| left.spec.orchestrator) {
        if let Ok(key) = std::fs::read_to_string(home.task(left.spec.id).join("key")) {
            secrets.set(SecretId::ToolKey(left.spec.id), key);
        }
    }
}

fn who(server: &Endpoint) -> Identity {
    Identity { server: server.to_string(), since: crate::clock::now().unix.0 }
}

/// Begins to tell how the daemon stands. A daemon works without it, but not where it was asked for and cannot be had.
fn open_desks(desks: &mut JoinSet<()>, desk: &Desk, file: &ConfigFile) -> Result<(), Failure> {
    match socket::bind(&desk.home) {
        Ok(listener) => drop(desks.spawn(socket::serve_home(listener, desk.clone()))),
        Err(why) => tracing::warn!("how this daemon stands cannot be asked of it: {why}"),
    }
    let Some(address) = file.metrics.address()? else { return Ok(()) };
    let failed = |why: std::io::Error| {
        Failure::unusable(format!("metrics cannot be told on {address}: {why}"))
            .hint("see metrics.listen in config.toml")
    };
    desks.spawn(socket::serve_port(socket::bind_port(address).map_err(failed)?, desk.clone()));
    tracing::info!("metrics are told on http://{address}/metrics");
    Ok(())
}

/// The settings of this process and of the configuration, with what is secret in them known as such.
fn settings(file: &ConfigFile) -> Result<Settings, Failure> {
    let mut settings = Settings::here().map_err(|error| Failure::unusable(error.to_string()))?;
    settings.agent_env = file.agent_env();
    settings.way = Way::chosen(file.portable);
    settings.wrap = file.wrap();
    settings.sandbox = match file.sandbox()? {
        Settled::On(sandbox) => Some(sandbox),
        Settled::Off(_) => None,
    };
    if let Some(number) = file.output_mib {
        settings.output_max = u64::from(number) << 20;
    }
    if let Some(minutes) = file.setup_minutes {
        settings.set_up_max = Duration::from_secs(u64::from(minutes.get()) * 60);
    }
    let own = file.repository.iter().map(|own| {
        own.wants().map_err(|why| Failure::unusable(format!("repository `{}` in config.toml: {why}", own.url)))
    });
    settings.repositories = own.collect::<Result<_, _>>()?;
    settings.know_secrets();
    Ok(settings)
}

/// What a daemon that was started here would mask, beside its key.
///
/// # Errors
/// This program's own file cannot be found.
pub fn known_secrets(file: &ConfigFile) -> Result<Secrets, Failure> {
    settings(file).map(|settings| settings.secrets)
}

/// The daemon as its journal knows it, and the journal that goes on from there.
fn take_up(home: &Home, config: &Config, secrets: &Secrets) -> Result<(Daemon, Journal), Failure> {
    let folder = home.journal();
    let mut again = Again::new(home.tasks(), secrets.clone());
    let unusable = |what: String| Failure::unusable(format!("{}: {what}", folder.display()));
    let recovered = journal::recover(&folder, config, |task, chunk| again.parts(task, chunk));
    let recovered = recovered.map_err(|error| unusable(format!("the journal cannot be taken up: {error}")))?;
    for note in &recovered.notes {
        tracing::warn!("{note}");
    }
    tracing::debug!("{} steps taken again from the journal", recovered.replayed);
    let begun = Journal::begin(&folder, Bounds::default(), &recovered);
    let journal = begun.map_err(|error| unusable(format!("the journal cannot be written: {error}")))?;
    Ok((recovered.daemon, journal))
}

impl Service {
    /// Tells it to end. The sternest word counts.
    pub fn stop(&self, how: Stop) {
        self.notifier.stopping(how);
        // A full queue has as stern words in it already: nobody says more than a few.
        let _ = self.stop.try_send(how);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let exit = (&mut self.task).await.unwrap_or(Exit::Stopped);
        self.exit = Some(exit);
        exit
    }
}

/// Reads who runs on a home, if anybody says so.
#[must_use]
pub fn read_daemon_file(home: &Path) -> Option<DaemonFile> {
    serde_json::from_slice(&std::fs::read(daemon_file(home)).ok()?).ok()
}

/// Writes down how the daemon stands whenever that changes.
async fn keep_file(home: PathBuf, (server, agent): (String, String), mut state: watch::Receiver<State>) {
    let mut there = None;
    loop {
        let State { link, trouble, .. } = state.borrow_and_update().clone();
        let (pid, version) = (std::process::id(), VERSION.to_string());
        let (server, agent) = (server.clone(), agent.clone());
        let new = Some(DaemonFile { pid, version, server, link, trouble, agent });
        if there != new {
            let (path, bytes) = (daemon_file(&home), serde_json::to_vec(&new).unwrap_or_default());
            let written = tokio::task::spawn_blocking(move || write_atomic(&path, &bytes, 0o600));
            match written.await {
                Ok(Ok(())) => there = new,
                Ok(Err(error)) => tracing::warn!("{error}"),
                Err(_) => {}
            }
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Reads a server's URL.
///
/// # Errors
/// It is none; or the key would go over the network unencrypted and nobody said that it may.
pub fn server_endpoint(url: &str, insecure: bool) -> Result<Endpoint, Failure> {
    let server = endpoint(url).map_err(|error| Failure::unusable(error.to_string()))?;
    if server.is_encrypted() || server.is_loopback() || insecure {
        return Ok(server);
    }
    Err(Failure::unusable(format!("{server}: the key would go over the network unencrypted"))
        .hint("use https:// or wss://, or --insecure if you know that the network is safe"))
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn seed() -> u64 {
    // Only spreads reconnects: where the system has no chance to give, the clock will do.
    getrandom::u64().unwrap_or_else(|_| crate::clock::now().unix.0)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
