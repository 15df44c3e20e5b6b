//! A home, a user and an executor, on a file system in memory where there is one.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use makima_core::effect::{Arg, Commit, Deed, Delivery, Launch, Prepare, Start, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{Change, ExitStatus, Input, Outcome, Part, Prepared, Stream};
use makima_core::policy::{BranchName, CommitText, RepositoryUrl};
use makima_core::task::{Action, Spec};
use makima_runner::executor::{Executor, OwnWants, Secrets, Settings, Way};
use makima_runner::home::Home;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Long enough for anything on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A folder that is gone afterwards.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new();
    let made = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    made.expect("a temporary folder")
}

/// A small disk, which is gone afterwards.
pub(crate) struct Disk(tempfile::TempDir);

impl Disk {
    /// None where no file system can be mounted, which is said.
    pub(crate) fn of(size: &str) -> Option<Self> {
        let place = folder();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(place.path())
            .status();
        if !mount.is_ok_and(|done| done.success()) {
            eprintln!("skipped: no file system can be mounted here");
            return None;
        }
        Some(Self(place))
    }

    pub(crate) fn folder(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(self.0.path()).unwrap()
    }

    /// Takes all room that there is, but for so many bytes.
    pub(crate) fn fill(&self, left: u64) {
        let script = "head -c 4G /dev/zero > fill 2> /dev/null; truncate -s -$0 fill";
        Command::new("sh").args(["-c", script, &left.to_string()]).current_dir(self.0.path()).status().unwrap();
    }

    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.0.path().join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) home: Home,
    pub(crate) secrets: Secrets,
    pub(crate) executor: Executor,
    events: mpsc::UnboundedReceiver<Input>,
    kept: VecDeque<Input>,
    n: u64,
}

pub(crate) struct Options {
    pub(crate) groups: bool,
    pub(crate) output_max: u64,
    pub(crate) set_up_max: Duration,
    pub(crate) silence_max: Duration,
    pub(crate) repositories: Vec<OwnWants>,
    pub(crate) agent_env: Vec<(String, String)>,
    pub(crate) git: PathBuf,
    pub(crate) launcher: PathBuf,
    pub(crate) more: Vec<(String, String)>,
    pub(crate) forges: Vec<makima_runner::executor::Forge>,
    pub(crate) sandbox: Option<makima_runner::sandbox::Sandbox>,
}

impl Default for Options {
    fn default() -> Self {
        let launcher = PathBuf::from(env!("CARGO_BIN_EXE_makima"));
        Self {
            groups: true,
            output_max: 1 << 30,
            set_up_max: Duration::from_secs(600),
            silence_max: Duration::from_secs(120),
            repositories: Vec::new(),
            agent_env: Vec::new(),
            git: PathBuf::from("git"),
            launcher,
            more: Vec::new(),
            forges: Vec::new(),
            sandbox: None,
        }
    }
}

/// Whether all of this runs in the portable way: what cannot hold there asks for it.
pub(crate) fn portable() -> bool {
    std::env::var("MAKIMA_PORTABLE").is_ok_and(|chosen| !["", "0", "false"].contains(&chosen.as_str()))
}

/// What puts a command into a session of its own, where that is not out of reach (docs/portable.md).
pub(crate) fn leaves() -> &'static str {
    if portable() { "" } else { "setsid" }
}

/// Whether the named test runs by itself, in a process that no other test shares: for what counts or limits what a
/// whole process has. Where it does not, it is run once more so, by this command, and must go well there.
pub(crate) fn is_by_itself(test: &str, mut command: std::process::Command) -> bool {
    const ALONE: &str = "MAKIMA_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test]).env(ALONE, "1");
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 passed"), "no test is named {test}: {told}");
    false
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::with_user(folder(), options)
    }

    /// In this folder, with a user.
    pub(crate) fn with_user(folder: tempfile::TempDir, options: Options) -> Self {
        let user = folder.path().join("user");
        std::fs::create_dir(&user).unwrap();
        let identity = "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n";
        std::fs::write(user.join(".gitconfig"), identity).unwrap();
        Self::on(folder, options)
    }

    /// Another life of the daemon on the same folder.
    pub(crate) fn again(self) -> Self {
        let Self { folder, executor, home, .. } = self;
        drop(executor);
        drop(home);
        Self::on(folder, Options::default())
    }

    pub(crate) fn on(folder: tempfile::TempDir, options: Options) -> Self {
        let home = open(&folder.path().join("makima"));
        let secrets = Secrets::default();
        let mut environment = vec![
            ("PATH".to_owned(), std::env::var("PATH").unwrap()),
            ("HOME".to_owned(), folder.path().join("user").display().to_string()),
        ];
        environment.retain(|(name, _)| options.more.iter().all(|(given, _)| given != name));
        environment.extend(options.more);
        let settings = Settings {
            environment,
            allowed_roots: vec![folder.path().to_owned()],
            agent_env: options.agent_env,
            forges: options.forges,
            secrets: secrets.clone(),
            git: options.git,
            launcher: options.launcher,
            way: Way::chosen(portable()),
            groups: options.groups,
            wrap: Vec::new(),
            sandbox: options.sandbox,
            output_max: options.output_max,
            set_up_max: options.set_up_max,
            silence_max: options.silence_max,
            repositories: options.repositories,
        };
        let (sender, events) = mpsc::unbounded_channel();
        let executor = Executor::new(home.clone(), settings, sender).expect("an executor");
        Self { folder, home, secrets, executor, events, kept: VecDeque::new(), n: 0 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn ask(&mut self, task: TaskId, work: Work) -> EffectId {
        self.n += 1;
        let id = EffectId { incarnation: self.home.incarnation(), n: self.n };
        self.executor.perform(id, task, work);
        id
    }

    pub(crate) async fn answer(&mut self, wanted: EffectId) -> Outcome {
        let is = |input: &Input| matches!(input, Input::Done { id, .. } if *id == wanted);
        match self.input(is).await {
            Input::Done { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn exit(&mut self, wanted: EffectId) -> ExitStatus {
        let is = |input: &Input| matches!(input, Input::Exited { id, .. } if *id == wanted);
        match self.input(is).await {
            Input::Exited { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }

    async fn input(&mut self, is: impl Fn(&Input) -> bool) -> Input {
        if let Some(place) = self.kept.iter().position(&is) {
            return self.kept.remove(place).unwrap();
        }
        loop {
            let input = tokio::time::timeout(LONG, self.events.recv()).await.expect("in time").expect("an input");
            if is(&input) {
                return input;
            }
            self.kept.push_back(input);
        }
    }

    /// Whether nothing else was told.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.kept.is_empty() && self.events.try_recv().is_err()
    }

    pub(crate) async fn run(&mut self, task: TaskId, work: Work) -> Outcome {
        let id = self.ask(task, work);
        self.answer(id).await
    }

    pub(crate) async fn prepare(&mut self, task: TaskId, repository: Option<&Path>) -> Prepared {
        let work = preparing(task, repository, None);
        match self.run(task, work).await {
            Outcome::Prepared(prepared) => prepared,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn refused(&mut self, task: TaskId, work: Work) -> String {
        match self.run(task, work).await {
            Outcome::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    /// Starts a script as the agent.
    pub(crate) async fn start(&mut self, task: TaskId, script: &str) -> (EffectId, u32) {
        let id = self.ask(task, Work::Start(shell(script)));
        match self.answer(id).await {
            Outcome::Started { pid, .. } => (id, pid),
            other => panic!("{other:?}"),
        }
    }

    /// Runs a script as the agent to its end, and ends its tree.
    pub(crate) async fn act(&mut self, task: TaskId, script: &str) -> ExitStatus {
        let (id, _) = self.start(task, script).await;
        let status = self.exit(id).await;
        self.empty(task).await;
        status
    }

    pub(crate) async fn empty(&mut self, task: TaskId) -> (u32, u64) {
        match self.run(task, Work::Empty).await {
            Outcome::Emptied { killed, log_end } => (killed, log_end),
            other => panic!("{other:?}"),
        }
    }

    /// All output behind `from`, until the log has ended.
    pub(crate) async fn output(&mut self, task: TaskId, from: u64) -> (Vec<Part>, u64) {
        let mut parts = Vec::new();
        let mut at = from;
        loop {
            match self.run(task, Work::Read { from: at }).await {
                Outcome::Chunk(chunk) if chunk.from == chunk.to => return (parts, at),
                Outcome::Chunk(chunk) => {
                    assert_eq!(chunk.from, at);
                    at = chunk.to;
                    parts.extend(chunk.parts);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn commit(&mut self, task: TaskId, base: Option<&str>) -> Option<Change> {
        match self.run(task, committing(task, base)).await {
            Outcome::Committed(change) => change,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until no repository of a moment is left of a task.
    pub(crate) async fn is_tidy(&self, task: TaskId) {
        let left = || {
            let listed = std::fs::read_dir(self.home.task(task)).expect("its records");
            listed.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("git."))
        };
        let gone = async {
            while left() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, gone).await.expect("what was made for a moment goes");
    }

    /// The folder of the only shared repository.
    pub(crate) fn bare(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.home.repos()).unwrap();
        let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.extension().is_some_and(|end| end == "git"));
        assert_eq!(all.len(), 1, "{all:?}");
        all.pop().unwrap()
    }

    /// A repository with one commit on `main`.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        std::fs::write(path.join("README"), "hello\n").unwrap();
        std::fs::write(path.join(".gitignore"), "*.o\n").unwrap();
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "-m", "first"]);
        path
    }
}

pub(crate) fn open(path: &Path) -> Home {
    // The lock of a life before may take a moment to go: processes that were being started held it.
    for _ in 0..200 {
        match Home::open(path) {
            Ok(home) => return home,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    Home::open(path).expect("a home")
}

pub(crate) fn task() -> TaskId {
    TaskId(Uuid::now_v7())
}

pub(crate) fn branch(task: TaskId) -> BranchName {
    BranchName::of("work", task)
}

pub(crate) fn preparing(task: TaskId, repository: Option<&Path>, base: Option<&str>) -> Work {
    Work::Prepare(Box::new(Prepare {
        repository: repository.map(|path| RepositoryUrl::Local(path.display().to_string())),
        credentials: None,
        start: base.map_or(Start::Default, |base| Start::At(base.to_owned())),
        branch: branch(task),
        plan: "do it".to_owned(),
        copy: None,
        conversation: None,
    }))
}

/// The task's branch, put into a repository on this machine.
pub(crate) fn putting(task: TaskId, target: &Path, commit: &str) -> Work {
    Work::Deliver(Box::new(Delivery {
        deed: Deed::Branch,
        target: Some(target.display().to_string()),
        repository: None,
        credentials: None,
        branch: branch(task),
        commit: Some(commit.to_owned()),
        into: None,
        base: None,
        text: CommitText::of("a task", task, None),
    }))
}

pub(crate) fn committing(task: TaskId, base: Option<&str>) -> Work {
    Work::Commit(Box::new(Commit {
        branch: branch(task),
        base: base.map(str::to_owned),
        text: CommitText::of("Do the work", task, None),
    }))
}

pub(crate) fn shell(script: &str) -> Launch {
    let argv = ["sh", "-c", script].map(|word| Arg::Text(word.to_owned()));
    Launch::script(argv.to_vec())
}

pub(crate) fn spec(task: TaskId) -> Spec {
    Spec {
        id: task,
        name: "work".to_owned(),
        plan: "do it".to_owned(),
        repository: None,
        credentials: None,
        base: None,
        branch: branch(task),
        continues: None,
        conversation: None,
        copy: Vec::new(),
        parent: None,
        depth: 0,
        orchestrator: false,
        agent: makima_core::agent::Agent::Shell,
        allowance: makima_core::allowance::Allowance::default(),
        action: Action::Branch,
        target: None,
        into: None,
    }
}

/// Git as the user runs it.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let output = user_git(dir, args).output().expect("git");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn user_git(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(args).current_dir(dir);
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.org");
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

pub(crate) fn text_of(parts: &[Part], stream: Stream) -> String {
    parts.iter().filter(|part| part.stream == stream).map(|part| part.text.as_str()).collect()
}

pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The number that a process of the agent's wrote into a file of the worktree.
pub(crate) async fn number_in(path: &Path) -> i32 {
    for _ in 0..1000 {
        if let Some(number) = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
            return number;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} was never written", path.display());
}
