//! `makima daemon`: the tasks of a control server, run on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use makima_core::effect::Exit;
use makima_core::input::Stop;
use tokio::time::Instant;

use super::args::DaemonArgs;
use super::host::running;
use super::signals::{Asked, Signals};
use crate::config::{self, ConfigFile};
use crate::home::{Home, is_held};
use crate::report::{Failure, KEY_REFUSED, NOT_REACHED};
use crate::sandbox::Settled;
use crate::service::{self, MAX_TASKS, Options};

pub(super) async fn daemon(args: DaemonArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let mut file = ConfigFile::read(&home)?;
    file.portable |= args.portable;
    file.overrule(args.agent.flags())?;
    file.api_key_file = args.api_key_file.clone().or(file.api_key_file);
    file.settle_permissions(false)?;
    let how = how(&file)?;
    let chosen = choose(&home, args.server.as_deref(), args.api_key_file.as_deref(), &file).await?;
    let server = service::server_endpoint(&chosen.url, args.insecure)?;
    let mut signals = Signals::new()?;
    let home = Home::open(&home).map_err(|error| Failure::unusable(error.to_string()))?;
    tracing::info!("makima {} in {} for {server}", service::VERSION, home.root().display());
    tracing::info!("{how}");
    let max_tasks = args.max_tasks.or(file.max_tasks).unwrap_or(MAX_TASKS);
    let mut service = service::start(Options { home, server, key: chosen.key, max_tasks, once: args.once, file })?;
    let mut end = End { drain: args.drain, asked: 0, detach_at: None };
    let exit = loop {
        let detach_at = end.detach_at;
        let patience = async {
            tokio::time::sleep_until(detach_at?).await;
            Some(())
        };
        tokio::select! {
            exit = service.ended() => break exit,
            asked = signals.next() => {
                let agents = service.state.borrow().unended;
                if let Some(how) = end.asked(asked, agents) {
                    service.stop(how);
                }
            }
            Some(()) = patience => {
                end.detach_at = None;
                service.stop(Stop::Detach);
            }
        }
    };
    match exit {
        Exit::Stopped | Exit::Detached | Exit::SessionOver => Ok(()),
        Exit::KeyRefused => {
            Err(Failure::failed("with --once a key that is refused is not shown again").with_code(KEY_REFUSED))
        }
        Exit::NotReached => Err(Failure::failed("with --once a server is tried once").with_code(NOT_REACHED)),
    }
}

/// Which agent it runs, what that may do, and what fences it in.
fn how(file: &ConfigFile) -> Result<String, Failure> {
    let agent = config::told(&config::agent(file)?);
    let fence = match file.sandbox()? {
        Settled::On(sandbox) => {
            let held = format!("sandboxed by {}", sandbox.held_by().name());
            std::iter::once(held).chain(sandbox.missing()).collect::<Vec<_>>().join("; ")
        }
        Settled::Off(why) => format!("no sandbox: {why}"),
    };
    Ok(format!("agent {agent}; {fence}"))
}

/// How long a person has to say that the agents are to end as well.
const PATIENCE: Duration = Duration::from_secs(3);

/// How this daemon is asked to end.
struct End {
    /// It is to wait for its agents.
    drain: bool,
    /// How often a person has asked.
    asked: u32,
    /// When it leaves its agents to themselves, if nobody asks once more.
    detach_at: Option<Instant>,
}

impl End {
    /// What is to be done about one more request, while there are so many tasks.
    fn asked(&mut self, by: Asked, tasks: usize) -> Option<Stop> {
        if self.drain {
            self.drain = false;
            tracing::info!("taking on nothing more, and waiting for the agents to end; once more leaves them running");
            return Some(Stop::Drain);
        }
        if by == Asked::Terminate || tasks == 0 {
            tracing::info!("leaving; agents go on, and the next daemon finds them");
            return Some(Stop::Detach);
        }
        self.asked = self.asked.saturating_add(1);
        match self.asked {
            1 => {
                let seconds = PATIENCE.as_secs();
                tracing::info!(
                    "leaving in {seconds} s; agents go on, and the next daemon finds them. Ctrl-C again ends them"
                );
                self.detach_at = Some(Instant::now() + PATIENCE);
                None
            }
            2 => {
                self.detach_at = None;
                tracing::info!("ending: running tasks are interrupted, their work is committed; once more kills them");
                Some(Stop::Graceful)
            }
            _ => Some(Stop::Forced),
        }
    }
}

/// A server, and what it is shown.
pub(super) struct Chosen {
    pub(super) url: String,
    pub(super) key: String,
}

/// Which server, and the key for it: flag or environment, then the file, then the server of this home.
pub(super) async fn choose(
    home: &Path,
    server: Option<&str>,
    key_file: Option<&Path>,
    file: &ConfigFile,
) -> Result<Chosen, Failure> {
    let key = given_key(key_file, file)?;
    if let Some(url) = server.or(file.server.as_deref()) {
        let url = url.to_string();
        if let Some(key) = key {
            return Ok(Chosen { url, key });
        }
        return match running(home).await.filter(|here| same_server(&here.url, &url)) {
            Some(here) => Ok(Chosen { url, key: here.token }),
            None => Err(no_key(&url)),
        };
    }
    if let Some(here) = running(home).await {
        return Ok(Chosen { url: here.url, key: key.unwrap_or(here.token) });
    }
    let Some(daemon) = service::read_daemon_file(home).filter(|_| is_held(home)) else {
        return Err(Failure::unusable("no control server was named")
            .hint("use --server URL, MAKIMA_SERVER_URL or `server` in config.toml; or start one with `makima serve`"));
    };
    let key = key.ok_or_else(|| no_key(&daemon.server))?;
    Ok(Chosen { url: daemon.server, key })
}

pub(super) fn no_key(url: &str) -> Failure {
    Failure::unusable(format!("there is no key for {url}"))
        .hint("set MAKIMA_API_KEY, or name a file that holds it with --api-key-file")
}

fn same_server(one: &str, other: &str) -> bool {
    let origin = |url| makima_transports::endpoint(url).map(|endpoint| endpoint.origin()).ok();
    origin(one).is_some() && origin(one) == origin(other)
}

/// The key: the file of the flag, the environment, the file of the configuration.
pub(super) fn given_key(flag: Option<&Path>, file: &ConfigFile) -> Result<Option<String>, Failure> {
    let from_file = |path: PathBuf| {
        let key = std::fs::read_to_string(&path)
            .map_err(|error| Failure::unusable(format!("the key in {} cannot be read: {error}", path.display())))?;
        match key.trim() {
            "" => Err(Failure::unusable(format!("{} holds no key", path.display()))),
            key => Ok(Some(key.to_string())),
        }
    };
    if let Some(path) = flag {
        return from_file(path.to_path_buf());
    }
    match std::env::var("MAKIMA_API_KEY").ok().filter(|key| !key.trim().is_empty()) {
        Some(key) => Ok(Some(key.trim().to_string())),
        None => file.api_key_file.clone().map_or(Ok(None), from_file),
    }
}
