//! From `spawnTask` to the running agent.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

    fn start(&mut self, before: Before) -> Result<f64, Failure> {
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
}
