//! Starting an agent: its supervisor takes its seat while the worktree is made; then the intent is on disk, then the
//! supervisor gets its orders.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use makima_core::effect::{Arg, Launch, Value};
use makima_core::id::TaskId;
use makima_core::policy;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use super::answer::CANCELLED;
use super::cancel::Cancel;
use super::record::{Folder, Intent};
use super::report::Report;
use super::supervisor::Found;
use super::tree::{MARK, Tree, Way};
use super::user::{Ahead, User};
use super::wrap::{self, Places};
use super::{Hands, blocking, conversation, foreign, group, log, supervisor, user};
use crate::sandbox::{Plan, Room};
use crate::supervise::orders::{Orders, SetUp};
use crate::supervise::{NO_GROUP, WORD};

/// An agent that runs, under a supervisor of its own.
pub(super) struct Started {
    /// The supervisor.
    pub(super) child: Child,
    pub(super) found: Found,
    pub(super) tree: Tree,
}

/// A supervisor in its own session that waits for orders. Dropped, it ends; if the daemon goes down, it ends too.
pub(super) struct Seat {
    child: Child,
    stdin: Option<ChildStdin>,
    report: Report,
    nonce: String,
    mark: String,
    group: Option<PathBuf>,
    /// What was asked meanwhile, so that the start need not wait for it.
    user: Option<Ahead>,
}

impl Seat {
    /// Lets a process take its seat.
    pub(super) async fn take(hands: &Arc<Hands>, task: TaskId) -> Result<Self, String> {
        Self::take_in(hands, task, &Folder::of(&hands.home, task)).await
    }

    /// The same, with its records in another folder than the task's.
    pub(super) async fn take_in(hands: &Arc<Hands>, task: TaskId, folder: &Folder) -> Result<Self, String> {
        let (hands, folder) = (Arc::clone(hands), folder.clone());
        blocking(move || Self::take_now(&hands, task, &folder)).await?
    }

    /// Blocks.
    fn take_now(hands: &Hands, task: TaskId, folder: &Folder) -> Result<Self, String> {
        let failed = |failure: std::io::Error| format!("no process can be started: {failure}");
        let temporary = folder.temporary().map_err(failed)?;
        let report = Report::open(&temporary).map_err(failed)?;
        // Every process of the tree bears its mark, and may tell it. Whoever knows the nonce has the agent in hand.
        let (nonce, mark) = (name()?, name()?);
        let grouped = hands.settings.groups && hands.settings.way == Way::Full;
        let group = grouped.then(|| group::make(task, &mark)).flatten();
        let mut command = Command::new(&hands.settings.launcher);
        command.arg(WORD).arg(&report.path).arg(folder.path());
        match &group {
            Some(group) => command.arg(group),
            None => command.arg(NO_GROUP),
        };
        command.arg(hands.settings.output_max.to_string());
        command.args(hands.descriptors.map(|limit| limit.to_string()));
        // By its own search path, and not by one that an agent is given, it finds what puts a fence around that.
        let path = hands.settings.variable("PATH").map(|path| ("PATH", path));
        command.env_clear().env(MARK, &mark).envs(path).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        // Before anything waits for it: waiting closes its standard input.
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, report, nonce, mark, group, user: None })
    }

    /// It knows who the user is.
    pub(super) fn of(self, user: Option<Ahead>) -> Self {
        Self { user, ..self }
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

    /// Has it start the agent of `task`. Cancelled, it starts none, or what it has started is ended.
    pub(super) async fn start(
        self,
        hands: &Arc<Hands>,
        task: TaskId,
        launch: Launch,
        cancel: &Cancel,
    ) -> Result<Started, String> {
        let limit = hands.settings.set_up_max;
        self.start_in(hands, task, (&Folder::of(&hands.home, task), limit), launch, cancel).await
    }

    /// The same, with its records in the folder in which it took its seat, and so long for what is run first.
    pub(super) async fn start_in(
        mut self,
        hands: &Arc<Hands>,
        task: TaskId,
        (folder, limit): (&Folder, Duration),
        launch: Launch,
        cancel: &Cancel,
    ) -> Result<Started, String> {
        let intent = Intent::new(&self.nonce, &self.mark, hands.settings.way.boot(), self.group.clone());
        let Some(mut stdin) = self.stdin.take() else { return Err("a pipe is missing".to_owned()) };
        let folder = folder.clone();
        let ready = {
            let user = user::asked_ahead(hands, task, self.user.take(), cancel).await.into_owned();
            let (hands, folder, intent) = (Arc::clone(hands), folder.clone(), intent.clone());
            blocking(move || ready(&hands, task, (&launch, limit, &user), &folder, &intent)).await.flatten()
        };
        let orders = match ready {
            Ok(orders) => orders,
            Err(why) => {
                self.leave().await;
                return Err(why);
            }
        };
        let begun = async {
            // If the supervisor has gone, its report says why.
            let _ = stdin.write_all(&orders).await;
            self.report.wait(&mut self.child).await?;
            // It may have ended already, and its supervisor with it.
            let found = supervisor::find(&folder).await?;
            if matches!(found, Found::Nothing) {
                return Err("the supervisor was killed before its agent began".to_owned());
            }
            Ok(found)
        };
        let begun = tokio::select! {
            biased;
            // First: it gets no orders then.
            () = cancel.set() => Err(CANCELLED.to_owned()),
            begun = begun => begun,
        };
        // Where it has not got all of its orders, it will get none.
        drop(stdin);
        let tree = blocking(move || Tree::of(&folder, &intent, folder.held().ok().flatten().as_ref())).await?;
        let found = match begun {
            Ok(begun) => begun,
            Err(why) => {
                // It may have had its orders already, and have begun. Its agent first, so that it can say how.
                let _ = blocking(move || tree.end()).await;
                self.leave().await;
                return Err(why);
            }
        };
        let Self { child, report, .. } = self;
        blocking(move || drop(report)).await?;
        Ok(Started { child, found, tree })
    }
}

impl Started {
    /// Ends it, with all that it has started.
    pub(super) async fn end(mut self) {
        let tree = self.tree;
        let _ = blocking(move || tree.end()).await;
        let _ = self.child.wait().await;
    }
}

/// Everything there for an agent to be started, and on disk that it is about to. Blocks.
fn ready(
    hands: &Hands,
    task: TaskId,
    launch: (&Launch, Duration, &User),
    folder: &Folder,
    intent: &Intent,
) -> Result<Vec<u8>, String> {
    // Nothing is started twice.
    match folder.held() {
        Ok(None) => {}
        Ok(Some(_)) => return Err("an agent was started for it before".to_owned()),
        Err(why) => return Err(format!("whether an agent was started for it before cannot be read: {why}")),
    }
    if let Some(group) = &intent.group {
        group::bound(group, launch.0.memory, launch.0.processes);
    }
    let orders = orders(hands, task, launch, folder, intent)?.bytes()?;
    log::settle(folder).map_err(|failure| format!("its output log cannot be opened: {failure}"))?;
    let wrote = folder.start(intent);
    wrote.map_err(|failure| format!("it cannot be written down that it is about to start: {failure}"))?;
    Ok(orders)
}

fn orders(
    hands: &Hands,
    task: TaskId,
    (launch, limit, user): (&Launch, Duration, &User),
    folder: &Folder,
    intent: &Intent,
) -> Result<Orders, String> {
    let worktree = hands.home.worktree(task);
    if !foreign::is_folder(&worktree) {
        return Err(format!("its worktree {} is gone", worktree.display()));
    }
    let temporary = folder.temporary().map_err(|failure| format!("its temporary folder cannot be made: {failure}"))?;
    let passes = |name: &str| policy::passes(name) || launch.agent.passes(name);
    let own = hands.settings.environment.iter().filter(|(name, _)| passes(name));
    let texts = own.chain(&user.identity).chain(&hands.settings.agent_env);
    let mut env: Vec<(OsString, OsString)> =
        vec![("TERM".into(), "dumb".into()), ("TMPDIR".into(), (&temporary).into())];
    // What comes later wins.
    env.extend(texts.map(|(name, value)| (name.into(), value.into())));
    let places = Places { worktree: &worktree, temporary: &temporary, folder };
    // By what the user says alone: the rest is the repository's word, which is not to move a fence.
    let fence = fence(hands, task, launch, &places, &env)?;
    for (name, value) in &launch.env {
        let value = match value {
            Value::Text(text) => text.clone(),
            Value::Secret(id) => hands.secret(*id).ok_or_else(|| format!("the value of {name} is not there"))?,
        };
        hands.settings.secrets.add_variable(name, &value);
        env.push((name.into(), value.into()));
    }
    env.push((MARK.into(), intent.mark().into()));
    let argv = launch.argv.iter().map(|arg| match arg {
        Arg::Text(text) => text.into(),
        Arg::PlanFile => folder.plan().into_os_string(),
        Arg::Conversation(id) => conversation::find(*id, &env),
    });
    let (argv, commands) = wrap::wrapped(hands, task, &places, argv.collect(), &launch.setup)?;
    let setup = SetUp { commands, seconds: limit.as_secs() };
    let (nonce, way) = (intent.nonce.clone(), hands.settings.way);
    Ok(Orders { nonce, way, folder: worktree, setup, argv, env, fence })
}

/// The fence around a task's processes, where this daemon has one.
fn fence(
    hands: &Hands,
    task: TaskId,
    launch: &Launch,
    places: &Places<'_>,
    env: &[(OsString, OsString)],
) -> Result<Option<Plan>, String> {
    let Some(sandbox) = &hands.settings.sandbox else {
        return match launch.only_fenced {
            true => Err("it may do everything in a sandbox only, and this daemon has none".to_owned()),
            false => Ok(None),
        };
    };
    let Places { worktree, temporary, folder } = *places;
    let standing = Folder::of(&hands.home, task).standing().map_err(|failure| failure.to_string())?;
    let reads: Vec<PathBuf> = [folder.plan(), hands.settings.launcher.clone()]
        .into_iter()
        .chain(standing.map(|standing| standing.bare).filter(|bare| !bare.as_os_str().is_empty()))
        .collect();
    let room = Room { home: hands.home.root(), works_in: [worktree, temporary], reads: &reads, own: &launch.own, env };
    Ok(Some(sandbox.plan(&room)))
}

/// A name that no other start has, and that nobody can guess.
fn name() -> Result<String, String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|failure| format!("the machine gives no random bytes: {failure}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
