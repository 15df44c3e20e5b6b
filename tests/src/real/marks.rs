//! What agents say of themselves, in a file of their own, where nobody else writes.

use std::path::Path;

use rustix::process::{Pid, test_kill_process};

use super::Failure;

/// What the agents of a task say of themselves.
#[derive(Debug, Default)]
pub struct Marks {
    /// The processes that they were.
    pub started: Vec<i32>,
    /// How each that came to its end ended: its exit code, and how many lines it had printed by then.
    pub ended: Vec<(i32, u64)>,
}

impl Marks {
    /// Those of a task, in the folder of all.
    ///
    /// # Errors
    /// They are none.
    pub fn read(folder: &Path, task: &str) -> Result<Self, Failure> {
        let mut marks = Self::default();
        for line in std::fs::read_to_string(folder.join(task)).unwrap_or_default().lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["started", pid] => marks.started.push(pid.parse()?),
                ["ended", code, lines] => marks.ended.push((code.parse()?, lines.parse()?)),
                _ => return Err(format!("a mark that is none: {line:?}").into()),
            }
        }
        Ok(marks)
    }

    /// Of these processes the first that still runs.
    #[must_use]
    pub fn running(&self, task: &str) -> Option<i32> {
        self.started.iter().copied().find(|pid| runs(*pid, task))
    }
}

/// Whether that process runs, and is this task's.
fn runs(pid: i32, task: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
        && environment.windows(task.len()).any(|window| window == task.as_bytes())
}
