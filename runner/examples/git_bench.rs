//! What is done with git beside what git itself takes for the like: worktrees made, merged, listed, put away.
//! `git_bench FOLDER [FILES…]`, the folder in memory if there is one; `bench git` of `makima-tests` runs it. Prints a
//! JSON object a figure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use makima_core::effect::{Child, Commit, Deed, Delivery, Merge, Prepare, Start, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{Input, Outcome};
use makima_core::policy::{BranchName, CommitText, RepositoryUrl};
use makima_core::task::{Action, End, EndStatus, Spec};
use makima_runner::executor::{Executor, Secrets, Settings, Way};
use makima_runner::home::Home;
use tokio::sync::mpsc;
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 7;

/// Files of the repository that is merged into, and whose branches are listed.
const FILES: usize = 10_000;

const BRANCHES: usize = 500;

/// So many at once.
const EIGHT: usize = 8;

/// Worktrees that are asked for at once on one repository.
const MANY: usize = 1_000;

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let usage = "git_bench FOLDER [FILES…] [eight|many|merges|list…]";
    let folder = tempfile::tempdir_in(words.next().ok_or(usage)?)?;
    let (sizes, parts): (Vec<String>, Vec<String>) = words.partition(|word| word.parse::<usize>().is_ok());
    let mut sizes = sizes.iter().map(|word| word.parse()).collect::<Result<Vec<usize>, _>>()?;
    if sizes.is_empty() && parts.is_empty() {
        sizes = vec![1_000, FILES];
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut bench = Bench::open(folder.path())?;
    for files in sizes {
        bench.worktrees(files).await?;
    }
    if wanted("eight") {
        bench.at_once().await?;
    }
    if wanted("many") {
        bench.many().await?;
    }
    if wanted("merges") {
        bench.merges().await?;
    }
    if wanted("list") {
        bench.list().await?;
    }
    Ok(())
}

struct Bench {
    place: PathBuf,
    home: Home,
    executor: Executor,
    events: mpsc::UnboundedReceiver<Input>,
    n: u64,
}

impl Bench {
    fn open(place: &Path) -> Result<Self, Failure> {
        let home = Home::open(&place.join("makima"))?;
        let user = place.join("user");
        std::fs::create_dir(&user)?;
        std::fs::write(user.join(".gitconfig"), "[user]\n\tname = Ada\n\temail = ada@example.org\n")?;
        let own = std::env::current_exe()?;
        let launcher = own.parent().and_then(Path::parent).ok_or("a folder above")?.join("makima");
        let settings = Settings {
            environment: vec![
                ("PATH".to_owned(), std::env::var("PATH")?),
                ("HOME".to_owned(), user.display().to_string()),
            ],
            allowed_roots: vec![place.to_owned()],
            forges: Vec::new(),
            agent_env: Vec::new(),
            secrets: Secrets::default(),
            git: PathBuf::from("git"),
            launcher,
            way: Way::chosen(false),
            groups: false,
            wrap: Vec::new(),
            sandbox: None,
            output_max: 1 << 30,
            set_up_max: Duration::from_secs(600),
            silence_max: Duration::from_secs(120),
            repositories: Vec::new(),
        };
        let (sender, events) = mpsc::unbounded_channel();
        let executor = Executor::new(home.clone(), settings, sender)?;
        Ok(Self { place: place.to_owned(), home, executor, events, n: 0 })
    }

    fn ask(&mut self, task: TaskId, work: Work) -> EffectId {
        self.n += 1;
        let id = EffectId { incarnation: self.home.incarnation(), n: self.n };
        self.executor.perform(id, task, work);
        id
    }

    async fn outcome(&mut self) -> Result<Outcome, Failure> {
        loop {
            let input = tokio::time::timeout(PATIENCE, self.events.recv()).await?.ok_or("the executor is gone")?;
            if let Input::Done { outcome, .. } = input {
                return Ok(outcome);
            }
        }
    }

    /// One thing, and how long it took.
    async fn run(&mut self, task: TaskId, work: Work) -> Result<(Outcome, f64), Failure> {
        let began = Instant::now();
        self.ask(task, work);
        let outcome = self.outcome().await?;
        let took = began.elapsed().as_secs_f64();
        if let Outcome::Failed(why) | Outcome::NoRoom(why) = outcome {
            return Err(why.into());
        }
        Ok((outcome, took))
    }

    /// A repository with so many files of 3.3 KiB on average, twenty in a folder, as in one that people write code in.
    fn repository(&self, name: &str, files: usize) -> Result<PathBuf, Failure> {
        let path = self.place.join(name);
        std::fs::create_dir(&path)?;
        git(&path, &["init", "-q", "-b", "main"])?;
        // Nothing of it is tidied up while it is measured.
        git(&path, &["config", "gc.auto", "0"])?;
        git(&path, &["config", "maintenance.auto", "false"])?;
        for n in 0..files {
            let folder = path.join(format!("d{}/e{}", n / 400, n / 20));
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(format!("f{n}")), content(n))?;
        }
        git(&path, &["add", "-A"])?;
        git(&path, &["commit", "-qm", "first"])?;
        git(&path, &["repack", "-adq"])?;
        Ok(path)
    }

    /// A worktree made, beside `git worktree add`; and put away, at the same size.
    async fn worktrees(&mut self, files: usize) -> Result<(), Failure> {
        let repository = self.repository(&format!("of-{files}"), files)?;
        self.run(task(), preparing(task(), &repository)).await?;
        let (mut ours, mut gits, mut away) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let id = task();
            ours.push(self.run(id, preparing(id, &repository)).await?.1);
            let to = self.place.join(format!("added-{round}"));
            let began = Instant::now();
            git(&repository, &["worktree", "add", "-q", "--detach", &to.display().to_string()])?;
            gits.push(began.elapsed().as_secs_f64());
            git(&repository, &["worktree", "remove", "--force", &to.display().to_string()])?;
            self.end(id).await?;
            away.push(self.run(id, Work::Discard).await?.1);
            self.take_out_the_trash()?;
        }
        tell(&format!("worktree of {files} files"), "ms", median(&ours) * 1e3, Some(median(&gits) * 1e3), 1.1);
        tell(&format!("put away, {files} files"), "ms", median(&away) * 1e3, None, 5.0);
        Ok(())
    }

    /// Worktrees go once their task has ended.
    async fn end(&mut self, id: TaskId) -> Result<(), Failure> {
        self.run(id, Work::Accept { spec: Box::new(spec(id)) }).await?;
        self.run(id, Work::Empty).await?;
        let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 0 };
        self.run(id, Work::Conclude { end, spec: None }).await?;
        self.run(id, Work::Close).await?;
        Ok(())
    }

    fn take_out_the_trash(&self) -> Result<(), Failure> {
        for entry in std::fs::read_dir(self.home.root().join("trash"))? {
            std::fs::remove_dir_all(entry?.path())?;
        }
        Ok(())
    }

    /// Eight worktrees of one repository at once, beside eight in a row.
    async fn at_once(&mut self) -> Result<(), Failure> {
        let repository = self.repository("eight", FILES)?;
        self.run(task(), preparing(task(), &repository)).await?;
        let (mut once, mut row) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS.div_ceil(2) {
            let began = Instant::now();
            for _ in 0..EIGHT {
                let id = task();
                self.run(id, preparing(id, &repository)).await?;
            }
            row.push(began.elapsed().as_secs_f64());
            once.push(self.together(&repository, EIGHT).await?.0);
        }
        tell("8 worktrees at once, in a row", "ms", median(&once) * 1e3, Some(median(&row) * 1e3), 0.7);
        Ok(())
    }

    /// So many at once: how long that takes, and how many failed.
    async fn together(&mut self, repository: &Path, count: usize) -> Result<(f64, usize), Failure> {
        let began = Instant::now();
        let ids: Vec<TaskId> = (0..count).map(|_| task()).collect();
        for id in &ids {
            self.ask(*id, preparing(*id, repository));
        }
        let mut failed = 0;
        for _ in 0..count {
            failed += usize::from(!matches!(self.outcome().await?, Outcome::Prepared(_)));
        }
        let took = began.elapsed().as_secs_f64();
        for id in ids {
            self.run(id, Work::Empty).await?;
            std::fs::remove_dir_all(self.home.worktree(id))?;
        }
        Ok((took, failed))
    }

    async fn many(&mut self) -> Result<(), Failure> {
        let repository = self.repository("many", 20)?;
        let (took, failed) = self.together(&repository, MANY).await?;
        tell(&format!("{MANY} worktrees at once, failures"), "", failed as f64, None, 0.0);
        tell(&format!("{MANY} worktrees at once"), "s", took, None, f64::INFINITY);
        Ok(())
    }

    /// Merged into a repository of the user's, beside a worktree of its and `git merge` there.
    async fn merges(&mut self) -> Result<(), Failure> {
        let repository = self.repository("merged", FILES)?;
        git(&repository, &["branch", "aside"])?;
        let (mut out, mut aside, mut gits) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for (into, to) in [("aside", &mut aside), ("main", &mut out)] {
                let (id, commit) = self.change(&repository, &format!("{into}-{round}")).await?;
                // It goes on meanwhile: else there is nothing to merge.
                let tip = git(&repository, &["commit-tree", "-p", into, "-m", "on", &format!("{into}^{{tree}}")])?;
                match into {
                    "main" => git(&repository, &["reset", "-q", "--hard", &tip])?,
                    _ => git(&repository, &["update-ref", "refs/heads/aside", &tip])?,
                };
                to.push(self.run(id, merging(id, &repository, &commit, into)).await?.1);
            }
            let (id, commit) = self.change(&repository, &format!("git-{round}")).await?;
            let bare = self.home.worktree(id).display().to_string();
            git(&repository, &["fetch", "-q", &bare, &commit])?;
            let to = self.place.join(format!("merged-{round}"));
            let began = Instant::now();
            git(&repository, &["worktree", "add", "-q", "--detach", &to.display().to_string(), "aside"])?;
            git(&to, &["-c", "user.name=A", "-c", "user.email=a@example.org", "merge", "-q", "--no-edit", &commit])?;
            gits.push(began.elapsed().as_secs_f64());
            git(&repository, &["worktree", "remove", "--force", &to.display().to_string()])?;
        }
        let (aside, out, gits) = (median(&aside) * 1e3, median(&out) * 1e3, median(&gits) * 1e3);
        tell("merge into a branch that is not checked out", "ms", aside, Some(gits), 0.05);
        tell("merge into a clean checkout", "ms", out, Some(gits), 0.3);
        Ok(())
    }

    /// A task that has changed one file.
    async fn change(&mut self, repository: &Path, name: &str) -> Result<(TaskId, String), Failure> {
        let id = task();
        let (prepared, _) = self.run(id, preparing(id, repository)).await?;
        let Outcome::Prepared(prepared) = prepared else { return Err("it was not prepared".into()) };
        std::fs::write(self.home.worktree(id).join(name), name)?;
        let text = CommitText::of("a change", id, None);
        let work = Work::Commit(Box::new(Commit { branch: branch(id), base: prepared.base, text }));
        let (committed, _) = self.run(id, work).await?;
        self.run(id, Work::Empty).await?;
        let Outcome::Committed(Some(change)) = committed else { return Err("nothing was committed".into()) };
        Ok((id, change.commit))
    }

    /// The branches of subtasks and which are merged, beside two calls of `git for-each-ref`.
    async fn list(&mut self) -> Result<(), Failure> {
        let repository = self.repository("listed", FILES)?;
        let id = task();
        self.run(id, preparing(id, &repository)).await?;
        let children: Vec<Child> =
            (0..BRANCHES).map(|_| task()).map(|task| Child { task, branch: Some(branch(task)), ended: true }).collect();
        let repos = std::fs::read_dir(self.home.repos())?.collect::<Result<Vec<_>, _>>()?;
        let marked = self.home.worktree(id).join(".git/objects/info/alternates");
        let objects = PathBuf::from(std::fs::read_to_string(marked)?.trim());
        let bare = repos.iter().map(std::fs::DirEntry::path).find(|path| objects.starts_with(path)).ok_or("no bare")?;
        let mut refs = String::new();
        for (n, child) in children.iter().enumerate() {
            // Every other one has done something.
            let tip = if n % 2 == 0 {
                let message = format!("work {n}");
                let head = git(&bare, &["rev-parse", "main"])?;
                commit_tree(&bare, &head, &message)?
            } else {
                git(&bare, &["rev-parse", "main"])?
            };
            refs += &format!("create refs/makima/{} {tip}\n", child.task);
        }
        update_refs(&bare, &refs)?;
        let (mut ours, mut gits, mut listed) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let work = Work::Merge(Merge::List { children: children.clone() });
            let (outcome, took) = self.run(id, work).await?;
            if let Outcome::Branches { list, .. } = outcome {
                listed = list.len();
            }
            ours.push(took);
            let began = Instant::now();
            git(&bare, &["for-each-ref", "refs/makima"])?;
            git(&bare, &["for-each-ref", "--merged=main", "refs/makima"])?;
            gits.push(began.elapsed().as_secs_f64());
        }
        tell(&format!("{listed} branches listed"), "ms", median(&ours) * 1e3, Some(median(&gits) * 1e3), 1.3);
        Ok(())
    }
}

/// Lines that are alike and not the same, from none to 7 KiB: every file has another size.
fn content(n: usize) -> String {
    let lines = n.wrapping_mul(7_919) % 161;
    (0..lines)
        .map(|line| format!("    let value_{line} = compute({n}, {});\n", n.wrapping_mul(line + 1)))
        .collect::<String>()
        + "\n"
}

fn task() -> TaskId {
    TaskId(Uuid::now_v7())
}

fn branch(task: TaskId) -> BranchName {
    BranchName::of("work", task)
}

fn spec(task: TaskId) -> Spec {
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

fn preparing(task: TaskId, repository: &Path) -> Work {
    Work::Prepare(Box::new(Prepare {
        repository: Some(RepositoryUrl::Local(repository.display().to_string())),
        credentials: None,
        start: Start::Default,
        branch: branch(task),
        plan: "do it".to_owned(),
        copy: None,
        conversation: None,
    }))
}

fn merging(task: TaskId, target: &Path, commit: &str, into: &str) -> Work {
    Work::Deliver(Box::new(Delivery {
        deed: Deed::Merge,
        target: Some(target.display().to_string()),
        repository: None,
        credentials: None,
        branch: branch(task),
        commit: Some(commit.to_owned()),
        into: Some(into.to_owned()),
        base: None,
        text: CommitText::of("a task", task, None),
    }))
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(args).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.org");
    }
    command
}

fn git(folder: &Path, args: &[&str]) -> Result<String, Failure> {
    let output = command(folder, args).output()?;
    if !output.status.success() {
        return Err(format!("git {args:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn commit_tree(bare: &Path, parent: &str, message: &str) -> Result<String, Failure> {
    git(bare, &["commit-tree", "-p", parent, "-m", message, &format!("{parent}^{{tree}}")])
}

fn update_refs(bare: &Path, refs: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut child = command(bare, &["update-ref", "--stdin"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(refs.as_bytes())?;
    if child.wait()?.success() { Ok(()) } else { Err("git update-ref failed".into()) }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One figure: at most so many times the limit, or at most so much where there is none.
fn tell(name: &str, unit: &str, ours: f64, limit: Option<f64>, most: f64) {
    println!("{}", serde_json::json!({"name": name, "unit": unit, "ours": ours, "limit": limit, "most": most}));
}
