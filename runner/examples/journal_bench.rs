//! What a flush of the journal costs beside a bare one, and what a hundred busy tasks get out of sharing it.
//! `journal_bench FOLDER`, the folder on the disk that is meant; `bench journal` of `makima-tests` runs it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use makima_core::effect::{Effect, Work};
use makima_core::id::{EffectId, Epoch, TaskId};
use makima_core::input::Input;
use makima_core::protocol::{DaemonCommand, SendMessage};
use makima_core::time::Now;
use makima_core::{Compat, Config, Keep};
use makima_runner::journal::{Bounds, Journal, recover};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

/// Tasks, each of which goes on once its newest input is flushed.
const BUSY: usize = 100;

/// Inputs of a round.
const INPUTS: usize = 4_000;

/// Bare flushes of a round.
const FLUSHES: u32 = 40;

const ROUNDS: usize = 7;

/// The longest wait for a flush.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(std::env::args_os().nth(1).ok_or("journal_bench FOLDER")?)?;
    let journal = folder.path().join("journal");
    std::fs::create_dir(&journal)?;
    let recovered = recover(&journal, &config(), |_, _| None)?;
    let mut busy = Busy { journal: Journal::begin(&journal, Bounds::default(), &recovered)?, recovered, bytes: 0 };
    let (mut group, mut bare, mut rate, mut single) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (took, flushes) = busy.round().await?;
        let bytes = busy.bytes / flushes.max(1);
        group.push(took.as_secs_f64() / flushes as f64);
        rate.push(INPUTS as f64 / took.as_secs_f64());
        bare.push(flushes_of(folder.path(), usize::try_from(bytes)?)?);
        single.push(1.0 / flushes_of(folder.path(), usize::try_from(busy.bytes)? / INPUTS)?);
    }
    let [group, bare, rate, single] = [group, bare, rate, single].map(median);
    println!(r#"{{"group":{group},"bare":{bare},"rate":{rate},"single":{single}}}"#);
    Ok(())
}

/// A journal that many tasks write to.
struct Busy {
    journal: Journal,
    recovered: makima_runner::journal::Recovered,
    /// What the inputs of a round come to.
    bytes: u64,
}

impl Busy {
    /// Each task has one input under way, and the next as soon as that is flushed. How long it took, and how many
    /// flushes.
    async fn round(&mut self) -> Result<(Duration, u64), Failure> {
        let task = TaskId(Uuid::from_u128(1));
        let message = SendMessage { task_id: task.0, message: "and now the next thing, please".repeat(4) };
        let command: DaemonCommand = message.into();
        let input = Input::Command { epoch: Epoch(1), seq: None, command: Box::new(command), credentials: None };
        let id = EffectId { incarnation: 1, n: 1 };
        let effects = [Effect::Work { id, task, work: Work::Empty }];
        let (began, before) = (Instant::now(), self.journal.standing().flushes);
        let (mut written, mut waiting) = (0, VecDeque::new());
        self.bytes = 0;
        while written < INPUTS || !waiting.is_empty() {
            while written < INPUTS && waiting.len() < BUSY {
                let record = self.journal.record(Now::default(), &input);
                self.bytes += serde_json::to_vec(&record)?.len() as u64 + 60;
                waiting.push_back(self.journal.write(record, &effects, &mut self.recovered.daemon));
                written += 1;
            }
            tokio::time::timeout(PATIENCE, self.journal.moved()).await?;
            let (flushed, _) = self.journal.reach();
            while waiting.pop_front_if(|n| *n <= flushed).is_some() {}
        }
        let standing = self.journal.standing();
        match standing.trouble {
            None => Ok((began.elapsed(), standing.flushes - before)),
            Some(why) => Err(why.into()),
        }
    }
}

/// The seconds of one bare `fdatasync` behind so many bytes.
fn flushes_of(folder: &Path, bytes: usize) -> Result<f64, Failure> {
    let path = folder.join("bare");
    let mut file = File::create(&path)?;
    let block = vec![b'x'; bytes];
    let began = Instant::now();
    for _ in 0..FLUSHES {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    let took = began.elapsed();
    std::fs::remove_file(path)?;
    Ok(took.as_secs_f64() / f64::from(FLUSHES))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn config() -> Config {
    let text = || "bench".to_owned();
    Config {
        machine_id: text(),
        hostname: text(),
        max_tasks: 1,
        working_directory: text(),
        home_directory: text(),
        worktrees_directory: text(),
        api_url: String::new(),
        program: "/bin/makima".to_owned(),
        agent: makima_core::agent::Agent::default(),
        once: false,
        compat: Compat::default(),
        keep: Keep::default(),
        allowance: makima_core::allowance::Allowance::default(),
    }
}
