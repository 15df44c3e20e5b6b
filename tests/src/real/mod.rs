//! The real binary as what tries to break it needs it: a server and a daemon in a folder of their own, a line between them
//! that can be cut, agents that print numbered lines, and what their processes are.

mod api;
mod builds;
mod fleet;
pub mod journals;
mod lines;
mod marks;
mod processes;
mod proxy;
mod sniff;
pub mod usage;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use makima_core::rng::Rng;

pub use api::Api;
pub use builds::{Builds, clock, memory};
pub use fleet::Fleet;
pub use lines::{Lines, left_behind, portable};
pub use marks::Marks;
pub use processes::{Process, marked, marked_of, peak_memory};
pub use proxy::{Line, Proxy};

/// Why a run could not go on.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The longest that anything that is asked of a healthy process may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until there is an answer.
///
/// # Errors
/// There is none within [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("waited {PATIENCE:?} for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a git says, without the white space at its end.
///
/// # Errors
/// It fails.
pub fn git(folder: &Path, words: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("git");
    command.args(words).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").stdin(Stdio::null());
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(format!("git {words:?} in {}: {}", folder.display(), String::from_utf8_lossy(&output.stderr)).into())
}

/// Whether that happens which happens once in `n` times.
pub const fn one_in(rng: &mut Rng, n: u64) -> bool {
    rng.up_to(n - 1) == 0
}
