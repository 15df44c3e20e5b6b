//! Starting an agent: the intent on disk, then the process, in a session and a tree of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use makima_core::effect::{Arg, Launch};
use makima_core::id::TaskId;
use makima_core::input::ExitStatus;
use makima_core::policy;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::Hands;
use super::pump::Pump;
use super::record::{Folder, Intent, now};
use super::tree::{MARK, Tree};
use super::{group, log, proc};
use crate::launcher::{MISUSED, NO_GROUP, WORD};

/// The longest that an agent's program may take to be found and begun.
const BEGIN: Duration = Duration::from_secs(10);

/// An agent that runs.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) pid: u32,
    pub(super) stdin: ChildStdin,
    pub(super) pump: Pump,
    pub(super) tree: Tree,
}

/// Starts the agent of `task` in its worktree.
pub(super) async fn start(hands: &Hands, task: TaskId, launch: &Launch) -> Result<Started, String> {
    let folder = Folder::of(&hands.home, task);
    let worktree = hands.home.worktree(task);
    if !worktree.is_dir() {
        return Err(format!("its worktree {} is gone", worktree.display()));
    }
    let words = |what: &'static str| move |failure: std::io::Error| format!("{what}: {failure}");
    let temporary = folder.temporary().map_err(words("its temporary folder cannot be made"))?;
    // An earlier start may have left output behind; it stays.
    log::settle(&folder.log()).map_err(words("its output log cannot be opened"))?;
    let intent = Intent {
        nonce: nonce()?,
        at: now(),
        boot: proc::boot(),
        group: hands.settings.groups.then(|| group::make(task)).flatten(),
    };
    folder.start(&intent).map_err(words("it cannot be written down that it is about to start"))?;
    let report = Report::open(&temporary).map_err(words("the agent's beginning cannot be watched"))?;
    let mut command = command(hands, task, launch, &folder, &intent, &report.path);
    command.env("TMPDIR", &temporary).current_dir(&worktree);
    let begun = begin(command, report, &folder, &intent).await;
    if begun.is_err()
        && let Some(group) = &intent.group
    {
        // Nothing is in it. If something were, the end of the task would find it.
        let _ = group::remove(group);
    }
    begun
}

async fn begin(mut command: Command, report: Report, folder: &Folder, intent: &Intent) -> Result<Started, String> {
    let mut child = command.spawn().map_err(|failure| format!("no process can be started: {failure}"))?;
    let pid = child.id().unwrap_or_default();
    let agent = i32::try_from(pid).ok().and_then(proc::identity);
    // Before anything waits for it: waiting closes its standard input.
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if let Err(why) = report.wait(&mut child).await {
        let _ = child.kill().await;
        return Err(why);
    }
    let agent = agent.ok_or("the process that was started is gone")?;
    let tree = Tree::started(intent, agent);
    match attach(pipes, folder) {
        Ok((stdin, pump)) => {
            if let Err(failure) = folder.runs(agent) {
                // Only the next life of the daemon would use it, and it has other marks.
                tracing::warn!("an agent's process cannot be written down: {failure}");
            }
            Ok(Started { child, pid, stdin, pump, tree })
        }
        Err(failure) => {
            let ending = tree.clone();
            let _ = tokio::task::spawn_blocking(move || ending.end()).await;
            let _ = child.wait().await;
            Err(format!("its output cannot be read: {failure}"))
        }
    }
}

type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

fn attach(pipes: Pipes, folder: &Folder) -> std::io::Result<(ChildStdin, Pump)> {
    let (Some(stdin), Some(out), Some(err)) = pipes else { return Err(std::io::Error::other("a pipe is missing")) };
    let (out, err) = (out.into_owned_fd()?, err.into_owned_fd()?);
    // They were made for waiting on a runtime; the pump waits by itself.
    for pipe in [&out, &err] {
        rustix::io::ioctl_fionbio(pipe, false)?;
    }
    Ok((stdin, Pump::begin(&folder.log(), out.into(), err.into())?))
}

fn command(hands: &Hands, task: TaskId, launch: &Launch, folder: &Folder, intent: &Intent, report: &Path) -> Command {
    let mut command = Command::new(&hands.settings.launcher);
    command.arg(WORD).arg(report);
    match &intent.group {
        Some(group) => command.arg(group),
        None => command.arg(NO_GROUP),
    };
    for arg in &launch.argv {
        match arg {
            Arg::Text(text) => command.arg(text),
            Arg::PlanFile => command.arg(folder.plan()),
        };
    }
    let own = hands.settings.environment.iter().filter(|(name, _)| policy::passes(name));
    command.env_clear().envs(own.map(|(name, value)| (name, value))).env("TERM", "dumb");
    command.envs(hands.user.identity.iter().map(|(name, value)| (name, value)));
    let given = hands.settings.agent_env.iter().chain(&launch.env);
    for (name, value) in given {
        hands.settings.secrets.add_variable(name, value);
        command.env(name, value);
    }
    command.env("MAKIMA_TASK_ID", task.to_string()).env(MARK, &intent.nonce);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A name that no other tree has.
fn nonce() -> Result<String, String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|failure| format!("the machine gives no random bytes: {failure}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A FIFO on which the launcher tells why it could not become the agent. That it ends without a word means
/// that the agent runs.
struct Report {
    path: PathBuf,
    end: pipe::Receiver,
}

impl Report {
    fn open(folder: &Path) -> std::io::Result<Self> {
        let path = folder.join(".launch");
        super::record::forgiving(fs_err::remove_file(&path))?;
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let end = pipe::OpenOptions::new().open_receiver(&path)?;
        Ok(Self { path, end })
    }

    async fn wait(mut self, child: &mut Child) -> Result<(), String> {
        let mut said = Vec::new();
        let ended = tokio::select! {
            () = read_all(&mut self.end, &mut said) => None,
            status = child.wait() => Some(status),
            () = tokio::time::sleep(BEGIN) => {
                return Err(format!("the agent's program did not begin within {} s", BEGIN.as_secs()));
            }
        };
        if let Some(status) = ended {
            // It has begun and ended already; or it has told why not and ended. Then what it told is there, and
            // the runtime may not have heard of it yet.
            let mut buffer = [0_u8; 1024];
            while let Ok(count @ 1..) = rustix::io::read(&self.end, &mut buffer) {
                said.extend(buffer.iter().take(count));
            }
            if said.is_empty() && status.is_ok_and(|status| status.code() == Some(MISUSED)) && !self.was_opened() {
                return Err("the launcher could not do its work".to_owned());
            }
        }
        if said.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
    }

    /// Whether the launcher ever came so far as to open its end. Then this end has been hung up.
    fn was_opened(&self) -> bool {
        let mut asked = [PollFd::new(&self.end, PollFlags::IN)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&none)).is_ok_and(|count| count > 0)
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.path);
    }
}

/// Reads to the end. Only once somebody has opened the other end is there one.
async fn read_all(from: &mut pipe::Receiver, said: &mut Vec<u8>) {
    let mut buffer = [0_u8; 1024];
    while from.readable().await.is_ok() {
        match from.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => said.extend(buffer.iter().take(count)),
            Err(failure) if failure.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
}

/// How a process ended, as the core knows it.
pub(super) fn exit_status(status: std::io::Result<std::process::ExitStatus>) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt as _;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => ExitStatus::Unknown,
        },
        Err(_) => ExitStatus::Unknown,
    }
}

/// Writes to an agent's standard input.
pub(super) async fn write(stdin: &mut ChildStdin, text: &str) -> Result<(), String> {
    use tokio::io::AsyncWriteExt as _;
    let written = stdin.write_all(text.as_bytes()).await;
    written.map_err(|failure| {
        if failure.kind() == std::io::ErrorKind::BrokenPipe {
            "its standard input is closed".to_owned()
        } else {
            format!("its standard input cannot be written to: {failure}")
        }
    })
}
