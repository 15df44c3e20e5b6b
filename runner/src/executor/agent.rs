//! Starting an agent: a process takes its seat while the worktree is made; then the intent is on disk, then
//! the process becomes the agent.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use makima_core::effect::{Arg, Launch};
use makima_core::id::TaskId;
use makima_core::input::ExitStatus;
use makima_core::policy;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::answer::CANCELLED;
use super::cancel::Cancel;
use super::pump::Pump;
use super::record::{Folder, Identity, Intent, now};
use super::report::Report;
use super::tree::{MARK, Tree};
use super::{Hands, blocking, group, log, proc};
use crate::launcher::{NO_GROUP, Orders, WORD};

/// An agent that runs.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) pid: u32,
    pub(super) stdin: ChildStdin,
    pub(super) pump: Pump,
    pub(super) tree: Tree,
}

/// A process in its own session and group that waits for what it is to become. Dropped, it ends; if the daemon
/// goes down, it ends too.
pub(super) struct Seat {
    child: Child,
    identity: Identity,
    pipes: Option<Pipes>,
    report: Report,
    nonce: String,
    group: Option<PathBuf>,
}

impl Seat {
    /// Lets a process take its seat.
    pub(super) async fn take(hands: &Arc<Hands>, task: TaskId) -> Result<Self, String> {
        let hands = Arc::clone(hands);
        blocking(move || Self::take_now(&hands, task)).await?
    }

    /// Blocks.
    fn take_now(hands: &Hands, task: TaskId) -> Result<Self, String> {
        let failed = |failure: std::io::Error| format!("no process can be started: {failure}");
        let temporary = Folder::of(&hands.home, task).temporary().map_err(failed)?;
        let report = Report::open(&temporary).map_err(failed)?;
        let nonce = nonce()?;
        let group = hands.settings.groups.then(|| group::make(task)).flatten();
        let mut command = Command::new(&hands.settings.launcher);
        command.arg(WORD).arg(&report.path);
        match &group {
            Some(group) => command.arg(group),
            None => command.arg(NO_GROUP),
        };
        command.args(hands.descriptors.map(|limit| limit.to_string()));
        command.env_clear().env(MARK, &nonce).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let identity = pid.and_then(proc::identity).ok_or("the process that was started is gone")?;
        // Before anything waits for it: waiting closes its standard input.
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err("a pipe is missing".to_owned()) };
        Ok(Self { child, identity, pipes: Some((stdin, stdout, stderr)), report, nonce, group })
    }

    /// Lets it go: it has become nothing.
    pub(super) async fn leave(self) {
        let Self { mut child, report, group, .. } = self;
        let _ = child.kill().await;
        let tidy = move || {
            drop(report);
            // If it holds on, the end of the task takes it away.
            group.map(|group| group::remove(&group))
        };
        let _ = blocking(tidy).await;
    }

    /// Makes it the agent of `task`. Cancelled, it becomes nothing, or what it has become is ended.
    pub(super) async fn start(
        mut self,
        hands: &Arc<Hands>,
        task: TaskId,
        launch: Launch,
        cancel: &Cancel,
    ) -> Result<Started, String> {
        let intent = Intent { nonce: self.nonce.clone(), at: now(), boot: proc::boot(), group: self.group.clone() };
        let tree = Tree::started(&intent, self.identity);
        let Some(pipes) = self.pipes.take() else { return Err("a pipe is missing".to_owned()) };
        let ready = {
            let hands = Arc::clone(hands);
            blocking(move || Ready::make(&hands, task, &launch, &intent, pipes)).await.flatten()
        };
        let Ready { mut stdin, pump, orders } = match ready {
            Ok(ready) => ready,
            Err(why) => {
                self.leave().await;
                return Err(why);
            }
        };
        let begun = async {
            // If the launcher has gone, its report says why.
            let _ = stdin.write_all(&orders).await;
            self.report.wait(&mut self.child).await
        };
        let begun = tokio::select! {
            biased;
            // First: it gets no orders then.
            () = cancel.set() => Err(CANCELLED.to_owned()),
            begun = begun => begun,
        };
        if let Err(why) = begun {
            self.leave().await;
            // It may have had its orders already, and have begun.
            let _ = blocking(move || tree.end()).await;
            pump.finish();
            pump.log.closed().await;
            return Err(why);
        }
        let (Self { child, identity, report, .. }, folder) = (self, Folder::of(&hands.home, task));
        let noted = move || {
            drop(report);
            folder.runs(identity)
        };
        if let Err(failure) = blocking(noted).await.map_err(std::io::Error::other).flatten() {
            // Only the next life of the daemon would use it, and it has other marks.
            tracing::warn!("an agent's process cannot be written down: {failure}");
        }
        Ok(Started { pid: identity.pid.unsigned_abs(), child, stdin, pump, tree })
    }
}

impl Started {
    /// Ends it, with all that it has started.
    pub(super) async fn end(mut self) {
        let _ = self.child.kill().await;
        let tree = self.tree;
        let _ = blocking(move || tree.end()).await;
        self.pump.finish();
        // What it wrote last is in the log before that is measured.
        self.pump.log.closed().await;
    }
}

/// Everything there for a process to become the agent, and on disk that it is about to.
struct Ready {
    stdin: ChildStdin,
    pump: Pump,
    orders: Vec<u8>,
}

impl Ready {
    /// Blocks.
    fn make(hands: &Hands, task: TaskId, launch: &Launch, intent: &Intent, pipes: Pipes) -> Result<Self, String> {
        let folder = Folder::of(&hands.home, task);
        let orders = orders(hands, task, launch, &folder, intent)?.bytes()?;
        log::settle(&folder.log()).map_err(|failure| format!("its output log cannot be opened: {failure}"))?;
        let wrote = folder.start(intent);
        wrote.map_err(|failure| format!("it cannot be written down that it is about to start: {failure}"))?;
        let (stdin, pump) =
            attach(pipes, &folder).map_err(|failure| format!("its output cannot be read: {failure}"))?;
        Ok(Self { stdin, pump, orders })
    }
}

type Pipes = (ChildStdin, ChildStdout, ChildStderr);

fn attach((stdin, out, err): Pipes, folder: &Folder) -> std::io::Result<(ChildStdin, Pump)> {
    let (out, err) = (out.into_owned_fd()?, err.into_owned_fd()?);
    // They were made for waiting on a runtime; the pump waits by itself.
    for pipe in [&out, &err] {
        rustix::io::ioctl_fionbio(pipe, false)?;
    }
    Ok((stdin, Pump::begin(&folder.log(), out.into(), err.into())?))
}

fn orders(hands: &Hands, task: TaskId, launch: &Launch, folder: &Folder, intent: &Intent) -> Result<Orders, String> {
    let worktree = hands.home.worktree(task);
    if !worktree.is_dir() {
        return Err(format!("its worktree {} is gone", worktree.display()));
    }
    let temporary = folder.temporary().map_err(|failure| format!("its temporary folder cannot be made: {failure}"))?;
    let argv = launch.argv.iter().map(|arg| match arg {
        Arg::Text(text) => text.into(),
        Arg::PlanFile => folder.plan().into_os_string(),
    });
    let own = hands.settings.environment.iter().filter(|(name, _)| policy::passes(name));
    let given = hands.settings.agent_env.iter().chain(&launch.env);
    for (name, value) in &launch.env {
        hands.settings.secrets.add_variable(name, value);
    }
    let texts = own.chain(&hands.user.identity).chain(given);
    let mut env: Vec<(OsString, OsString)> = vec![("TERM".into(), "dumb".into()), ("TMPDIR".into(), temporary.into())];
    // What comes later wins.
    env.extend(texts.map(|(name, value)| (name.into(), value.into())));
    env.push(("MAKIMA_TASK_ID".into(), task.to_string().into()));
    env.push((MARK.into(), intent.nonce.clone().into()));
    Ok(Orders { folder: worktree, argv: argv.collect(), env })
}

/// A name that no other tree has.
fn nonce() -> Result<String, String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|failure| format!("the machine gives no random bytes: {failure}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
    let written = stdin.write_all(text.as_bytes()).await;
    written.map_err(|failure| {
        if failure.kind() == std::io::ErrorKind::BrokenPipe {
            "its standard input is closed".to_owned()
        } else {
            format!("its standard input cannot be written to: {failure}")
        }
    })
}
