//! What the kernel knows of time and of processes.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::time::{ClockId, clock_gettime};

use super::Failure;

/// The longest that anything that is waited for may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Nanoseconds on a clock that all processes of this machine share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// Milliseconds from one such time to another.
pub(crate) fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

/// Holds an agent back until everybody is ready.
pub(crate) struct Gate {
    pub(crate) path: PathBuf,
}

impl Gate {
    pub(crate) fn make(path: PathBuf) -> Result<Self, Failure> {
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        Ok(Self { path })
    }

    /// Waits until the agent stands there.
    pub(crate) fn arrived(&self) -> Result<Arrived, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            match open(&self.path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
                Ok(end) => return Ok(Arrived(File::from(end))),
                Err(rustix::io::Errno::NXIO) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(rustix::io::Errno::NXIO) => return Err("the agent did not start".into()),
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// The agent's side: returns when it may pass.
    pub(crate) fn pass(path: &Path) -> Result<(), Failure> {
        std::fs::read(path)?;
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// An agent that waits.
pub(crate) struct Arrived(File);

impl Arrived {
    pub(crate) fn go(mut self) -> Result<(), Failure> {
        Ok(self.0.write_all(b"go")?)
    }
}
