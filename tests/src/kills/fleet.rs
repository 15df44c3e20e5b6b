//! The real binary, twice: a server, and a daemon whose link to it goes over a line that can be cut.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::Failure;
use super::proxy::Proxy;

/// The longest that anything that is asked of a healthy process may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const KEY: &str = "the-key-of-the-kill-loop";

/// Tasks that run at once.
const AT_ONCE: &str = "16";

/// A server, a daemon, and what is between them.
pub(crate) struct Fleet {
    pub(crate) root: PathBuf,
    /// Both builds; the first is the usual one.
    builds: [PathBuf; 2],
    is_other: bool,
    server: Child,
    address: SocketAddr,
    daemon: Child,
    pub(crate) started: Instant,
    pub(crate) proxy: Proxy,
}

impl Fleet {
    /// Starts both in a folder that is empty.
    pub(crate) fn start(root: &Path, builds: [PathBuf; 2]) -> Result<Self, Failure> {
        for name in ["user", "marks", "server", "makima"] {
            fs::create_dir(root.join(name))?;
        }
        let server = serve(root, &builds[0], "127.0.0.1:0")?;
        let address = wait_for("the server to say where it is", || {
            let file: Value = serde_json::from_slice(&fs::read(root.join("server/server.json")).ok()?).ok()?;
            file["url"].as_str()?.strip_prefix("http://")?.parse().ok()
        })?;
        let proxy = Proxy::open(address)?;
        let daemon = daemon(root, &builds[0], proxy.address)?;
        let (root, started) = (root.to_path_buf(), Instant::now());
        Ok(Self { root, builds, is_other: false, server, address, daemon, started, proxy })
    }

    /// Kills the daemon. Fails where it had ended by itself.
    pub(crate) fn kill_daemon(&mut self) -> Result<(), Failure> {
        if let Some(status) = self.daemon.try_wait()? {
            return Err(format!("the daemon had ended by itself: {status}").into());
        }
        self.daemon.kill()?;
        self.daemon.wait()?;
        Ok(())
    }

    /// Starts the next daemon.
    pub(crate) fn next_daemon(&mut self, change_build: bool) -> Result<(), Failure> {
        self.is_other ^= change_build;
        let build = &self.builds[usize::from(self.is_other)];
        self.daemon = daemon(&self.root, build, self.proxy.address)?;
        self.started = Instant::now();
        Ok(())
    }

    /// Kills the server and starts it again.
    pub(crate) fn kill_server(&mut self) -> Result<(), Failure> {
        self.server.kill()?;
        self.server.wait()?;
        self.server = serve(&self.root, &self.builds[0], &self.address.to_string())?;
        Ok(())
    }

    /// Asks both to end, and waits for that.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        for process in [&mut self.daemon, &mut self.server] {
            kill_process(Pid::from_child(process), Signal::TERM)?;
            let status = wait_for("a process that was asked to end", || process.try_wait().ok()?)?;
            if !status.success() {
                return Err(format!("asked to end, it ends with {status}").into());
            }
        }
        Ok(())
    }

    /// Asks for a task of this id. Done again until the server has it: it may be killed meanwhile.
    pub(crate) fn spawn(&self, id: &str, plan: &str, repository: &Path) -> Result<(), Failure> {
        let task = json!({ "taskId": id, "taskName": "Kill loop", "plan": plan, "repoUrl": repository,
                           "completionAction": "branch" });
        wait_for("the server to take a task", || {
            let (status, _) = self.request("POST", "/api/v1/tasks", &task.to_string()).ok()?;
            matches!(status, 200 | 201).then_some(())
        })
    }

    /// What the server answers to a `GET`.
    pub(crate) fn get(&self, path: &str) -> Result<String, Failure> {
        wait_for(&format!("the server to answer to {path}"), || {
            let (status, body) = self.request("GET", path, "").ok()?;
            (status == 200).then_some(body)
        })
    }

    pub(crate) fn tasks(&self) -> Result<Vec<Value>, Failure> {
        Ok(serde_json::from_str(&self.get("/api/v1/tasks")?)?)
    }

    /// The older version of HTTP knows no chunks: the body ends where the connection does.
    fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String), Failure> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (host, length) = (self.address, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8(answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a head")?;
        let whole = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if whole.is_some_and(|length| length != body.len()) {
            return Err("an answer that breaks off".into());
        }
        Ok((head.split(' ').nth(1).ok_or("an answer without a status")?.parse()?, body.to_owned()))
    }

    /// Processes that were started by any daemon here: these two know of the folder, too.
    pub(crate) fn others(&self) -> Result<Vec<(u32, String)>, Failure> {
        let ours = [self.daemon.id(), self.server.id()];
        Ok(marked(&self.root)?.into_iter().filter(|(pid, _)| !ours.contains(pid)).collect())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in [&mut self.daemon, &mut self.server] {
            let _ = process.kill();
            let _ = process.wait();
        }
        // Only after a failure is anything else left.
        for (pid, _) in marked(&self.root).unwrap_or_default() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
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
    let mut command = Command::new(build);
    command.args(words).current_dir(root).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", root.join("user")).env("MAKIMA_HOME", root.join(home)).env("MAKIMA_API_KEY", KEY);
    // How processes are handled is chosen for all of a run.
    command.envs(std::env::var_os("MAKIMA_PORTABLE").map(|chosen| ("MAKIMA_PORTABLE", chosen)));
    command.env("LANG", "C.UTF-8").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Somebody").env(format!("GIT_{role}_EMAIL"), "some@example.com");
    }
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn()?)
}

/// Looks again and again until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("waited {PATIENCE:?} for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes with this folder in their environment, their command line or as the place that they work in.
fn marked(folder: &Path) -> Result<Vec<(u32, String)>, Failure> {
    let text = folder.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has just ended has nothing to be read.
        let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default().into_os_string().into_encoded_bytes();
        let is_marked = |bytes: &Vec<u8>| bytes.windows(text.len()).any(|part| part == text);
        if pid != std::process::id() && [&read("environ"), &command, &place].into_iter().any(is_marked) {
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    Ok(found)
}
