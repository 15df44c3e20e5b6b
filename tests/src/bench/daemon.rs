//! The real binary, connected to the sink.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use makima_core::protocol::{DaemonMessage, SpawnTask};
use uuid::Uuid;

use super::process::{PATIENCE, ms, now};
use super::sink::Session;
use super::{Bench, Failure};

/// A daemon that runs.
pub(crate) struct Daemon {
    process: Child,
    pub(crate) home: PathBuf,
    pub(crate) session: Session,
    /// From exec until it has acted on being let in, in milliseconds.
    pub(crate) took: f64,
}

impl Daemon {
    /// Starts one on the home folder of that name in the bench's folder.
    pub(crate) fn start(bench: &Bench, home: &Path) -> Result<Self, Failure> {
        Self::of(bench, home, "shell")
    }

    /// The same, whose tasks this agent does.
    pub(crate) fn of(bench: &Bench, home: &Path, agent: &str) -> Result<Self, Failure> {
        std::fs::create_dir_all(home)?;
        let log = File::options().create(true).append(true).open(home.with_extension("log"))?;
        let began = now();
        let mut process = Command::new(&bench.makima)
            .args(["daemon", "--agent", agent, "--max-tasks", "200", "--server", &bench.sink.url()])
            .env("MAKIMA_HOME", home)
            .env("MAKIMA_API_KEY", "a-key-for-the-bench")
            .env_remove("RUST_LOG")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let opened = bench.sink.accept().and_then(|mut session| {
            session.authenticate()?;
            session.until(|message| matches!(message, DaemonMessage::DaemonDirectories(_)).then_some(()))?;
            Ok(session)
        });
        match opened {
            Ok(session) => Ok(Self { process, home: home.to_path_buf(), session, took: ms(began, now()) }),
            Err(why) => {
                process.kill()?;
                process.wait()?;
                Err(why)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The supervisor that has this task's agent in hand.
    pub(crate) fn supervisor(&self, task: Uuid) -> Result<u32, Failure> {
        let held = std::fs::read(self.home.join("tasks").join(task.to_string()).join("agent"))?;
        let held: serde_json::Value = serde_json::from_slice(&held)?;
        let pid = held["supervisor"]["pid"].as_u64().ok_or("no supervisor is written down")?;
        Ok(u32::try_from(pid)?)
    }

    /// Kills it and waits until it is gone; its agents go on.
    pub(crate) fn die(mut self) -> Result<(), Failure> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Takes the next connection, after this one was cut: with the time at which that came.
    pub(crate) fn reconnected(&mut self, bench: &Bench) -> Result<u64, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            // One that nobody took for long has been given up meanwhile.
            let opened = bench.sink.accept().and_then(|mut session| {
                session.authenticate()?;
                session.until(|message| matches!(message, DaemonMessage::DaemonDirectories(_)).then_some(()))?;
                Ok(session)
            });
            match opened {
                Ok(session) => {
                    self.session = session;
                    return Ok(self.session.accepted);
                }
                Err(why) if Instant::now() > until => return Err(why),
                Err(_) => {}
            }
        }
    }

    /// Asks for a task. Returns its id and when it was asked for.
    pub(crate) fn spawn(&mut self, plan: &str, repository: Option<&Path>) -> Result<(Uuid, u64), Failure> {
        let task_id = Uuid::from_u128(u128::from(now()));
        let command = SpawnTask {
            task_name: "bench".to_owned(),
            repo_url: repository.map(|path| path.to_string_lossy().into_owned()),
            ..SpawnTask::new(task_id, plan.to_owned())
        };
        let command = command.into();
        let asked = now();
        self.session.send(&command)?;
        Ok((task_id, asked))
    }

    /// The next line of output that is a time.
    pub(crate) fn stamp(&mut self) -> Result<u64, Failure> {
        self.session.until(|message| match message {
            DaemonMessage::TaskOutput(output) => Some(output.output.parse::<u64>().map_err(|_| output.output.into())),
            DaemonMessage::TaskComplete(end) => Some(Err(format!("the task ended: {:?}", end.error).into())),
            _ => None,
        })?
    }

    /// Waits until each of these tasks has ended, in whatever order.
    pub(crate) fn finish_all(&mut self, mut tasks: Vec<Uuid>) -> Result<(), Failure> {
        while !tasks.is_empty() {
            let ended = |message| if let DaemonMessage::TaskComplete(end) = message { Some(end.task_id) } else { None };
            let ended = self.session.until(ended)?;
            tasks.retain(|task| *task != ended);
        }
        Ok(())
    }

    /// Waits for the end of a task, which has to be a good one.
    pub(crate) fn finish(&mut self, task: Uuid) -> Result<(), Failure> {
        let ended = self.session.until(|message| match message {
            DaemonMessage::TaskComplete(end) if end.task_id == task => Some((end.success, end.error)),
            _ => None,
        })?;
        match ended {
            (true, _) => Ok(()),
            (false, why) => Err(format!("the task failed: {}", why.unwrap_or_default()).into()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has nothing that is worth keeping.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
