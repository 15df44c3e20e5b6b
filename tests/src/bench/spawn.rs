//! From `spawnTask` to the running agent.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use makima_core::protocol::DaemonMessage;
use serde_json::json;

use super::daemon::Daemon;
use super::process::{ms, now};
use super::repository::{Repository, git};
use super::table::{Goal, Row, median};
use super::{Bench, Failure, agents};

/// What stands there before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing: the repository has to be cloned.
    Nothing,
    /// A clone that lacks the newest commit.
    Old,
    /// A clone that has all.
    Current,
}

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let place = bench.place("spawn")?;
    let repository = Repository::make(place.join("repository"), bench.options.files)?;
    let plan = format!("exec '{}' {} stamp", bench.own.display(), agents::WORD);
    let mut daemon = Daemon::start(bench, &place.join("home"))?;
    let mut plain = Plain::new(&place, &repository, &plan)?;
    let rounds = bench.rounds(15);
    let mut n = 0;
    for (name, before, rounds, goal) in [
        ("spawn, 1st of a repository", Before::Nothing, rounds.min(3), Goal::None),
        ("spawn, after a fetch", Before::Old, rounds.min(5), Goal::None),
        ("spawn", Before::Current, rounds, Goal::AtMostTimes(1.3)),
    ] {
        let (mut ours, mut limit) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            n += 1;
            if before == Before::Old {
                repository.change(n)?;
            }
            limit.push(plain.start(before)?);
            if before == Before::Nothing {
                forget(&daemon.home)?;
            }
            let (task, asked) = daemon.spawn(&plan, Some(&repository.path))?;
            ours.push(ms(asked, daemon.stamp()?));
            daemon.finish(task)?;
        }
        Row { name, unit: "ms", ours: median(&ours), limit: Some(median(&limit)), goal }.print();
    }
    Ok(())
}

/// How long it takes until an agent that talks has read its plan, beyond what is not ours: the checkout, and its own start.
pub(crate) fn talking(bench: &mut Bench) -> Result<(), Failure> {
    let place = bench.place("plan")?;
    let repository = Repository::make(place.join("repository"), bench.options.files)?;
    let home = place.join("home");
    std::fs::create_dir(&home)?;
    let words = [&bench.own.to_string_lossy(), agents::WORD, "talk"].map(|word| format!("'{word}'")).join(", ");
    std::fs::write(home.join("config.toml"), format!("[agent]\nname = \"claude\"\ncommand = [{words}]\n"))?;
    let mut daemon = Daemon::of(bench, &home, "claude")?;
    let mut plain = Plain::new(&place, &repository, "")?;
    // What is cloned once is no part of it.
    plain.talk(&bench.own, Before::Nothing)?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    // It is a small difference of two medians.
    for round in 0..=bench.rounds(41) {
        let (task, asked) = daemon.spawn("do it", Some(&repository.path))?;
        let came = daemon.session.until(|message| match message {
            DaemonMessage::TaskOutput(output) => output.output.lines().find_map(agents::came).map(Ok),
            DaemonMessage::TaskComplete(end) => Some(Err(format!("the task ended: {:?}", end.error))),
            _ => None,
        })??;
        daemon.finish(task)?;
        let alone = plain.talk(&bench.own, Before::Current)?;
        if round > 0 {
            ours.push(ms(asked, came));
            limit.push(alone);
        }
    }
    let (ours, limit) = (median(&ours), median(&limit));
    Row { name: "plan, to an agent that talks", unit: "ms", ours, limit: Some(limit), goal: Goal::None }.print();
    let (name, goal) = ("  beyond the checkout and its start", Goal::AtMost(15.0));
    Row { name, unit: "ms", ours: ours - limit, limit: None, goal }.print();
    Ok(())
}

/// Takes away what a daemon has cloned.
fn forget(home: &Path) -> Result<(), Failure> {
    for cloned in std::fs::read_dir(home.join("repos"))? {
        std::fs::remove_dir_all(cloned?.path())?;
    }
    Ok(())
}

/// The plain way: `git worktree add` and a process.
struct Plain {
    place: PathBuf,
    source: PathBuf,
    clone: PathBuf,
    plan: PathBuf,
    count: usize,
}

impl Plain {
    fn new(place: &Path, repository: &Repository, plan: &str) -> Result<Self, Failure> {
        let file = place.join("plan");
        std::fs::write(&file, plan)?;
        let clone = place.join("clone.git");
        Ok(Self { place: place.to_path_buf(), source: repository.path.clone(), clone, plan: file, count: 0 })
    }

    /// Makes a worktree. Says when that began, too.
    fn worktree(&mut self, before: Before) -> Result<(u64, PathBuf), Failure> {
        self.count += 1;
        let branch = format!("work-{}", self.count);
        let worktree = self.place.join(&branch);
        if before == Before::Nothing && self.clone.exists() {
            std::fs::remove_dir_all(&self.clone)?;
        }
        let began = now();
        match before {
            Before::Nothing => {
                let paths = [&self.source, &self.clone].map(|path| path.to_string_lossy());
                git(&self.place, &["clone", "--bare", "-q", &paths[0], &paths[1]])?;
            }
            Before::Old => {
                let source = self.source.to_string_lossy();
                git(&self.clone, &["fetch", "-q", &source, "+refs/heads/main:refs/heads/main"])?;
            }
            Before::Current => {}
        }
        git(&self.clone, &["worktree", "add", "-q", "-b", &branch, &worktree.to_string_lossy(), "main"])?;
        Ok((began, worktree))
    }

    fn start(&mut self, before: Before) -> Result<f64, Failure> {
        let (began, worktree) = self.worktree(before)?;
        let agent = Command::new("sh")
            .arg(&self.plan)
            .current_dir(&worktree)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?
            .wait_with_output()?;
        let stamp = String::from_utf8(agent.stdout)?;
        Ok(ms(began, stamp.trim().parse()?))
    }

    fn talk(&mut self, own: &Path, before: Before) -> Result<f64, Failure> {
        let (began, worktree) = self.worktree(before)?;
        let mut agent = Command::new(own)
            .args([agents::WORD, "talk"])
            .current_dir(&worktree)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = agent.stdin.take().ok_or("no stdin")?;
        let mut lines = BufReader::new(agent.stdout.take().ok_or("no stdout")?).lines();
        writeln!(input, "{}", json!({ "request_id": "1" }))?;
        lines.next().ok_or("no answer")??;
        writeln!(input, "{}", json!({ "type": "user" }))?;
        let came = lines.find_map(|line| line.ok().as_deref().and_then(agents::came));
        drop(input);
        agent.wait()?;
        Ok(ms(began, came.ok_or("no result")?))
    }
}
