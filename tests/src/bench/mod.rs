//! Benchmarks of the real binary.
//!
//! A figure means little by itself: machines differ, and other work runs beside. So each is measured in turn
//! with a limit that is as plain as can be, and what is promised is the ratio of the two medians.

mod again;
pub(crate) mod agents;
mod away;
mod daemon;
mod git;
mod growth;
mod idle;
mod interrupt;
mod journal;
mod latency;
mod output;
mod process;
pub(crate) mod reference;
mod repository;
mod sink;
mod spawn;
mod start;
mod supervisors;
mod table;

use std::path::{Path, PathBuf};

use sink::Sink;

/// Why something could not be measured.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What can be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    Output,
    Latency,
    Spawn,
    Plan,
    Idle,
    Supervisors,
    Start,
    Restart,
    Tail,
    Reconnect,
    Journal,
    Git,
    Away,
    Growth,
    Interrupt,
}

impl Figure {
    pub(crate) const ALL: [Self; 15] = [
        Self::Idle,
        Self::Supervisors,
        Self::Start,
        Self::Latency,
        Self::Spawn,
        Self::Plan,
        Self::Output,
        Self::Reconnect,
        Self::Restart,
        Self::Tail,
        Self::Journal,
        Self::Git,
        Self::Away,
        Self::Growth,
        Self::Interrupt,
    ];
}

/// How much is measured, and where.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// None: as many as suit the figure.
    pub(crate) rounds: Option<usize>,
    pub(crate) lines: u64,
    pub(crate) files: usize,
    pub(crate) makima: Option<PathBuf>,
    pub(crate) folder: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        Self { rounds: None, lines: 1_000_000, files: 1_000, makima: None, folder }
    }
}

/// What everything is measured with.
pub(crate) struct Bench {
    options: Options,
    makima: PathBuf,
    own: PathBuf,
    folder: tempfile::TempDir,
    sink: Sink,
}

impl Bench {
    pub(crate) fn open(options: Options) -> Result<Self, Failure> {
        let own = std::env::current_exe()?;
        let makima = options.makima.clone().unwrap_or_else(|| own.with_file_name("makima"));
        if !makima.is_file() {
            return Err(format!("{} is not there: cargo build --release -p makima-runner", makima.display()).into());
        }
        let folder = tempfile::Builder::new().prefix("makima-bench-").tempdir_in(&options.folder)?;
        Ok(Self { options, makima: makima.canonicalize()?, own, folder, sink: Sink::open()? })
    }

    /// Prints what is measured, and on what.
    pub(crate) fn describe(&self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("unknown");
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        println!("{}, in {}", self.makima.display(), self.folder.path().display());
        println!("{cores} cores, load {load}; medians of rounds in turn\n");
        table::print_head();
    }

    pub(crate) fn measure(&mut self, figure: Figure) -> Result<(), Failure> {
        match figure {
            Figure::Output => output::measure(self),
            Figure::Latency => latency::measure(self),
            Figure::Spawn => spawn::measure(self),
            Figure::Plan => spawn::talking(self),
            Figure::Idle => idle::measure(self),
            Figure::Supervisors => supervisors::measure(self),
            Figure::Start => start::measure(self),
            Figure::Restart => again::restart(self),
            Figure::Tail => again::tail(self),
            Figure::Reconnect => again::reconnect(self),
            Figure::Journal => journal::measure(self),
            Figure::Git => git::measure(self),
            Figure::Away => away::measure(self),
            Figure::Growth => growth::measure(self),
            Figure::Interrupt => interrupt::measure(self),
        }
    }

    fn rounds(&self, usual: usize) -> usize {
        self.options.rounds.unwrap_or(usual).max(1)
    }

    /// A folder for one purpose; what an earlier one of that name left is gone.
    fn place(&self, name: &str) -> Result<PathBuf, Failure> {
        let place = self.folder.path().join(name);
        if place.exists() {
            std::fs::remove_dir_all(&place)?;
        }
        std::fs::create_dir(&place)?;
        Ok(place)
    }
}

/// A size from the environment, for machines that have the time and the room.
fn size(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
