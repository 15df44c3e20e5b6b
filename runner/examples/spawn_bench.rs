//! How long it takes from a task to its running agent, against `git worktree add` and a bare spawn, in one
//! run; and what the way of the output costs. `cargo run --release --example spawn_bench -p makima-runner`,
//! after `cargo build --release -p makima-runner`.
#![expect(clippy::wildcard_enum_match_arm, reason = "a benchmark names the one answer that it expects")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use makima_core::effect::{Arg, Launch, Prepare, Start, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{Input, Outcome};
use makima_core::policy::{BranchName, RepositoryUrl};
use makima_runner::executor::{Executor, Secrets, Settings};
use makima_runner::home::Home;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

const FILES: usize = 1000;
const ROUNDS: usize = 25;
const LINES: u64 = 2_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" })?;
    let repository = folder.path().join("repository");
    make(&repository)?;
    let bare = folder.path().join("bare.git");
    run(folder.path(), &["clone", "-q", "--bare", "repository", "bare.git"])?;
    let mut bench = Bench::new(&folder.path().join("home"))?;
    bench.begin(&repository, &["sleep", "1000"]).await?;
    let (mut theirs, mut ours, mut prepares) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        theirs.push(worktree_and_spawn(&bare, &folder.path().join(format!("worktree-{round}")))?);
        let (whole, prepare) = bench.begin(&repository, &["sleep", "1000"]).await?;
        ours.push(whole);
        prepares.push(prepare);
    }
    let (theirs, ours, prepare) = (median(&mut theirs), median(&mut ours), median(&mut prepares));
    println!("git worktree add + bare spawn, {FILES} files  {:8.2} ms", ms(theirs));
    println!("Prepare + Start                           {:8.2} ms  ({:.2}x)", ms(ours), ms(ours) / ms(theirs));
    println!("  of which Prepare                        {:8.2} ms", ms(prepare));
    limit(folder.path())?;
    bench.lines(&repository, "no secrets").await?;
    for n in 0..4 {
        bench.secrets.add(format!("s3cret-number-{n}-{}", Uuid::now_v7()));
    }
    bench.lines(&repository, "4 secrets").await?;
    bench.latency(&repository).await
}

fn make(repository: &Path) -> Result<(), Failure> {
    for n in 0..FILES {
        let folder = repository.join(format!("d{}", n / 20));
        std::fs::create_dir_all(&folder)?;
        let line = format!("{n} {}\n", "abcdefgh ".repeat(7));
        std::fs::write(folder.join(format!("f{n}.txt")), line.repeat(48))?;
    }
    run(repository, &["init", "-q", "-b", "main"])?;
    run(repository, &["add", "-A"])?;
    run(repository, &["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "x"])?;
    run(repository, &["repack", "-adq"])
}

fn run(folder: &Path, args: &[&str]) -> Result<(), Failure> {
    let status = Command::new("git").args(args).current_dir(folder).status()?;
    if status.success() { Ok(()) } else { Err(format!("git {args:?} failed").into()) }
}

fn worktree_and_spawn(bare: &Path, place: &Path) -> Result<Duration, Failure> {
    let began = Instant::now();
    let name = place.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    let path = place.to_str().ok_or("no path")?;
    run(bare, &["worktree", "add", "-q", "-b", name, path, "main"])?;
    let pipes = || Stdio::piped();
    let mut agent = Command::new("sleep");
    let agent = agent.arg("1000").current_dir(place).stdin(pipes()).stdout(pipes()).stderr(pipes()).spawn();
    let took = began.elapsed();
    let mut agent = agent?;
    agent.kill()?;
    agent.wait()?;
    Ok(took)
}

struct Bench {
    secrets: Secrets,
    executor: Executor,
    events: UnboundedReceiver<Input>,
    n: u64,
    task: TaskId,
}

impl Bench {
    fn new(home: &Path) -> Result<Self, Failure> {
        let mut settings = Settings::here()?;
        settings.groups = std::env::var_os("NO_GROUPS").is_none();
        let beside = settings.launcher.ancestors().nth(2).map(|folder| folder.join("makima"));
        settings.launcher = beside.filter(|path: &PathBuf| path.exists()).ok_or("build the program first")?;
        let secrets = settings.secrets.clone();
        let (sender, events) = mpsc::unbounded_channel();
        let executor = Executor::new(Home::open(home)?, settings, sender)?;
        Ok(Self { secrets, executor, events, n: 0, task: TaskId(Uuid::now_v7()) })
    }

    async fn ask(&mut self, work: Work) -> Result<Outcome, Failure> {
        self.n += 1;
        let wanted = EffectId { incarnation: 1, n: self.n };
        self.executor.perform(wanted, self.task, work);
        loop {
            match self.events.recv().await.ok_or("no answer")? {
                Input::Done { id, outcome } if id == wanted => return Ok(outcome),
                _ => {}
            }
        }
    }

    /// From a new task to its running agent, which is ended again. Returns what that and its worktree took.
    async fn begin(&mut self, repository: &Path, argv: &[&str]) -> Result<(Duration, Duration), Failure> {
        let began = Instant::now();
        let prepared = self.start(repository, argv, began).await?;
        let took = began.elapsed();
        self.ask(Work::Empty).await?;
        Ok((took, prepared))
    }

    async fn start(&mut self, repository: &Path, argv: &[&str], began: Instant) -> Result<Duration, Failure> {
        self.task = TaskId(Uuid::now_v7());
        let prepare = Prepare {
            repository: Some(RepositoryUrl::Local(repository.display().to_string())),
            credentials: None,
            start: Start::Default,
            copy: None,
            conversation: None,
            branch: BranchName::of("bench", self.task),
            plan: "x".to_owned(),
        };
        match self.ask(Work::Prepare(Box::new(prepare))).await? {
            Outcome::Prepared(_) => {}
            other => return Err(format!("{other:?}").into()),
        }
        let prepared = began.elapsed();
        let argv = argv.iter().map(|word| Arg::Text((*word).to_owned())).collect();
        match self.ask(Work::Start(Launch::script(argv))).await? {
            Outcome::Started { .. } => Ok(prepared),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// What the way of a line costs from the pipe to the chunk.
    async fn lines(&mut self, repository: &Path, what: &str) -> Result<(), Failure> {
        let script = format!("yes {} | head -n {LINES}", "x".repeat(199));
        let before = cpu()?;
        let began = Instant::now();
        self.start(repository, &["sh", "-c", &script], began).await?;
        let began = Instant::now();
        let (mut from, mut bytes) = (0, 0);
        loop {
            match self.ask(Work::Read { from }).await? {
                Outcome::Chunk(chunk) if chunk.from == chunk.to => break,
                Outcome::Chunk(chunk) => {
                    from = chunk.to;
                    bytes += chunk.parts.iter().map(|part| part.text.len() as u64).sum::<u64>();
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
        let took = began.elapsed();
        let us = (cpu()? - before).as_secs_f64() * 1e6 / LINES as f64;
        let rate = bytes as f64 / 200.0 / took.as_secs_f64() / 1e6;
        println!("output, 200 B lines, {what:11}           {us:8.3} us CPU a line, {rate:.2} M lines/s");
        self.ask(Work::Empty).await?;
        Ok(())
    }

    /// From a line to the agent and back.
    async fn latency(&mut self, repository: &Path) -> Result<(), Failure> {
        self.start(repository, &["cat"], Instant::now()).await?;
        let (mut from, mut took) = (0, Vec::new());
        for _ in 0..2000 {
            tokio::time::sleep(Duration::from_micros(300)).await;
            let began = Instant::now();
            self.ask(Work::Stdin { n: 1, text: "hello\n".to_owned() }).await?;
            match self.ask(Work::Read { from }).await? {
                Outcome::Chunk(chunk) => from = chunk.to,
                other => return Err(format!("{other:?}").into()),
            }
            took.push(began.elapsed());
        }
        println!("a line to `cat` and back, median          {:8.3} ms", ms(median(&mut took)));
        self.ask(Work::Empty).await?;
        Ok(())
    }
}

/// What the same lines cost at least: out of the pipe, into a file, out of the file.
fn limit(folder: &Path) -> Result<(), Failure> {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::FileExt as _;
    let script = format!("yes {} | head -n {LINES}", "x".repeat(199));
    let mut child = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn()?;
    let mut pipe = child.stdout.take().ok_or("no pipe")?;
    let path = folder.join("limit.log");
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
    let reader = std::fs::File::open(&path)?;
    let mut buffer = vec![0; 64 * 1024];
    let (before, mut at) = (cpu()?, 0);
    loop {
        let count = pipe.read(&mut buffer)?;
        let Some(read) = buffer.get_mut(..count).filter(|read| !read.is_empty()) else { break };
        log.write_all(read)?;
        reader.read_exact_at(read, at)?;
        at += count as u64;
    }
    let us = (cpu()? - before).as_secs_f64() * 1e6 / LINES as f64;
    println!("pipe, file and back, nothing else         {us:8.3} us CPU a line");
    child.wait()?;
    Ok(())
}

/// What this process has used of the processors; its children are not in it.
fn cpu() -> Result<Duration, Failure> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
