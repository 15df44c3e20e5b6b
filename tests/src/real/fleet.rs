//! The real binary, twice: a server, and a daemon whose link to it goes over a line that can be cut.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::api::{Api, KEY};
use super::processes::{Process, marked};
use super::{Failure, Proxy, journals, wait_for};
use crate::refine::Walked;

/// Tasks that run at once.
const AT_ONCE: &str = "16";

/// A server, a daemon, and what is between them.
pub struct Fleet {
    /// The folder that all of it lies in.
    pub root: PathBuf,
    /// Where the server answers.
    pub api: Api,
    /// When the daemon was started.
    pub started: Instant,
    /// What is between them.
    pub proxy: Proxy,
    /// Both builds; the first is the usual one.
    builds: [PathBuf; 2],
    /// Whether daemon and server are of the other one.
    is_other: [bool; 2],
    address: SocketAddr,
    daemon: Child,
    server: Child,
}

impl Fleet {
    /// Starts both in a folder that is empty, but for folders of theirs.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn start(root: &Path, builds: [PathBuf; 2]) -> Result<Self, Failure> {
        for name in ["user", "marks", "server", "makima"] {
            fs::create_dir_all(root.join(name))?;
        }
        // Agents say there how far they came, out of their sandbox.
        let sandbox = format!("[sandbox]\nwrite = [\"{}\"]\n", root.join("marks").display());
        fs::write(root.join("makima/config.toml"), sandbox)?;
        let server = serve(root, &builds[0], "127.0.0.1:0")?;
        let address = wait_for("the server to say where it is", || {
            let file: Value = serde_json::from_slice(&fs::read(root.join("server/server.json")).ok()?).ok()?;
            file["url"].as_str()?.strip_prefix("http://")?.parse().ok()
        })?;
        let proxy = Proxy::open(address)?;
        let daemon = daemon(root, &builds[0], proxy.address)?;
        let (root, api, started) = (root.to_path_buf(), Api::at(address), Instant::now());
        Ok(Self { root, api, started, proxy, builds, is_other: [false; 2], address, daemon, server })
    }

    /// Walks through the journal of the daemons, once they have ended.
    ///
    /// # Errors
    /// What the simulated world could not have given.
    pub fn journal(&self) -> Result<Walked, String> {
        journals::walked(&self.root.join("makima"), || call(&self.root, &self.builds[0], "makima"))
    }

    /// Kills the daemon.
    ///
    /// # Errors
    /// It had ended by itself.
    pub fn kill_daemon(&mut self) -> Result<(), Failure> {
        killed(&mut self.daemon, "the daemon")
    }

    /// Kills the server.
    ///
    /// # Errors
    /// It had ended by itself.
    pub fn kill_server(&mut self) -> Result<(), Failure> {
        killed(&mut self.server, "the server")
    }

    /// Asks the daemon to end, and waits until it has.
    ///
    /// # Errors
    /// It does not end.
    pub fn end_daemon(&mut self) -> Result<ExitStatus, Failure> {
        ended(&mut self.daemon)
    }

    /// Asks the server to end, and waits until it has.
    ///
    /// # Errors
    /// It does not end.
    pub fn end_server(&mut self) -> Result<ExitStatus, Failure> {
        ended(&mut self.server)
    }

    /// Starts the next daemon, of the same build or of the other.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn next_daemon(&mut self, change_build: bool) -> Result<(), Failure> {
        self.is_other[0] ^= change_build;
        let build = &self.builds[usize::from(self.is_other[0])];
        self.daemon = daemon(&self.root, build, self.proxy.address)?;
        self.started = Instant::now();
        Ok(())
    }

    /// Starts the next server, of the same build or of the other, where the one before was.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn next_server(&mut self, change_build: bool) -> Result<(), Failure> {
        self.is_other[1] ^= change_build;
        let build = &self.builds[usize::from(self.is_other[1])];
        self.server = serve(&self.root, build, &self.address.to_string())?;
        Ok(())
    }

    /// Signals the daemon.
    ///
    /// # Errors
    /// It is not there.
    pub fn signal_daemon(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.daemon), signal)?)
    }

    /// Signals the server.
    ///
    /// # Errors
    /// It is not there.
    pub fn signal_server(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.server), signal)?)
    }

    /// How the daemon has ended, where it has.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn daemon_has_ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        Ok(self.daemon.try_wait()?)
    }

    /// How the server has ended, where it has.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn server_has_ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        Ok(self.server.try_wait()?)
    }

    /// The processes of daemon and server.
    #[must_use]
    pub fn pids(&self) -> [u32; 2] {
        [self.daemon.id(), self.server.id()]
    }

    /// Asks both to end, and waits for that.
    ///
    /// # Errors
    /// One does not end well.
    pub fn end(&mut self) -> Result<(), Failure> {
        let statuses = [self.end_daemon()?, self.end_server()?];
        let bad = statuses.into_iter().find(|status| !status.success());
        bad.map_or(Ok(()), |status| Err(format!("asked to end, it ends with {status}").into()))
    }

    /// Processes that were started by any daemon here: these two know of the folder, too.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn others(&self) -> Result<Vec<Process>, Failure> {
        let ours = self.pids();
        Ok(marked(&self.root)?.into_iter().filter(|process| !ours.contains(&process.pid)).collect())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in [&mut self.daemon, &mut self.server] {
            let _ = process.kill();
            let _ = process.wait();
        }
        // Only after a failure is anything else left.
        for process in marked(&self.root).unwrap_or_default() {
            if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn killed(process: &mut Child, name: &str) -> Result<(), Failure> {
    if let Some(status) = process.try_wait()? {
        return Err(format!("{name} had ended by itself: {status}").into());
    }
    process.kill()?;
    process.wait()?;
    Ok(())
}

fn ended(process: &mut Child) -> Result<ExitStatus, Failure> {
    kill_process(Pid::from_child(process), Signal::TERM)?;
    wait_for("a process that was asked to end", || process.try_wait().ok()?)
}

fn serve(root: &Path, build: &Path, listen: &str) -> Result<Child, Failure> {
    started(root, build, "server", &["serve", "--listen", listen])
}

fn daemon(root: &Path, build: &Path, server: SocketAddr) -> Result<Child, Failure> {
    let server = format!("ws://{server}");
    started(root, build, "makima", &["daemon", "--agent", "shell", "--max-tasks", AT_ONCE, "--server", &server])
}

/// A process with `home` of this folder as its home, and what it says in the file beside that.
fn started(root: &Path, build: &Path, home: &str, words: &[&str]) -> Result<Child, Failure> {
    let said = File::options().create(true).append(true).open(root.join(home).with_extension("log"))?;
    let mut command = call(root, build, home);
    Ok(command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn()?)
}

/// A call of the program with `home` of this folder as its home.
fn call(root: &Path, build: &Path, home: &str) -> Command {
    let mut command = Command::new(build);
    command.current_dir(root).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", root.join("user")).env("MAKIMA_HOME", root.join(home)).env("MAKIMA_API_KEY", KEY);
    // How processes are handled is chosen for all of a run.
    command.envs(std::env::var_os("MAKIMA_PORTABLE").map(|chosen| ("MAKIMA_PORTABLE", chosen)));
    command.env("LANG", "C.UTF-8").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Somebody").env(format!("GIT_{role}_EMAIL"), "some@example.com");
    }
    command
}
