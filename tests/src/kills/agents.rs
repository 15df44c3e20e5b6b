//! The agents: shell scripts that print numbered lines at various paces, and say themselves that they were started.

use std::path::Path;

use makima_core::rng::Rng;
use makima_tests::real::{Lines, left_behind, one_in};

/// What an agent does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) lines: Lines,
    /// What it ends with.
    pub(crate) code: i32,
    /// It leaves a process behind that does not want to end.
    leaves: bool,
}

impl Agent {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let lines = Lines::draw(rng);
        let code = if one_in(rng, 3) { 1 + rng.up_to(60) as i32 } else { 0 };
        Self { lines, code, leaves: one_in(rng, 4) }
    }

    /// Its script. `marks` is the folder in which it says that it was started, in a file of its own.
    pub(crate) fn script(&self, marks: &Path) -> String {
        let Self { lines, code, leaves } = self;
        let (marks, print, token) = (marks.display(), lines.script("progress", ":"), &lines.token);
        let leave = if *leaves { left_behind() } else { ":;".to_owned() };
        format!(
            "echo \"started $$\" >> '{marks}'/$MAKIMA_TASK_ID; {leave}
             {print}
             echo \"{token} $i\" > progress; exit {code}"
        )
    }

    /// What it leaves in its file `progress`.
    pub(crate) fn work(&self) -> String {
        format!("{} {}", self.lines.token, self.lines.count)
    }
}
