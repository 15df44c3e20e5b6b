//! A graph of tasks: an orchestrator, its subtasks, and some of nobody's; who waits for whom, and who is in whose way.

use std::path::Path;

use makima_core::rng::Rng;
use makima_tests::real::{Lines, left_behind, one_in};

/// Files that the work of all graphs stands in.
pub(crate) const SHARED: u64 = 4;

/// An agent's exit code where something could not be written, or committed.
pub(crate) const UNWRITTEN: i32 = 28;

/// A graph of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Graph {
    pub(crate) number: usize,
    /// In the orchestrator's lines.
    pub(crate) token: String,
    pub(crate) jobs: Vec<Job>,
}

/// What one of its tasks is to do, in as many attempts as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) lines: Lines,
    /// It begins after these, which stand before it.
    pub(crate) after: Vec<usize>,
    /// It goes on from the state of that one.
    pub(crate) goes_on: Option<usize>,
    /// It adds a line to that file, as others do.
    pub(crate) shared: Option<u64>,
    /// It writes that file, as others do, each in its own way: one of them stays.
    pub(crate) choice: Option<String>,
    pub(crate) end: End,
    /// It leaves a process behind that does not want to end.
    leaves: bool,
}

/// What becomes of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The orchestrator's: it is merged there. Before that it is begun, and taken back, where it says so.
    Merged { taken_back: bool },
    /// The orchestrator's: it is meant not to be merged.
    Skipped,
    /// It is merged into the user's branch by itself.
    HandedOver,
    /// Its branch is put into the user's repository.
    Branch,
}

impl End {
    /// Whether the task is one of the orchestrator's.
    pub(crate) const fn is_of_a_subtask(self) -> bool {
        matches!(self, Self::Merged { .. } | Self::Skipped)
    }
}

impl Graph {
    /// The one of this number, with so many tasks, the orchestrator among them.
    pub(crate) fn draw(seed: u64, number: usize, tasks: usize) -> Self {
        let mut rng = Rng::new(seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9)));
        let token = format!("{:08x}", rng.up_to(0xffff_ffff));
        let mut jobs: Vec<Job> = Vec::new();
        for n in 1..tasks {
            let job = Job::draw(&mut rng, number, n, &jobs);
            jobs.push(job);
        }
        Self { number, token, jobs }
    }

    /// The orchestrator's script: it says what it is told, under a number of its own, until it is told that it is over.
    pub(crate) fn orchestrator(&self, marks: &Path) -> String {
        let token = &self.token;
        format!(
            "{}i=0
             while read -r line; do
               if [ \"$line\" = over ]; then over 0; fi
               i=$((i+1)); echo \"<o:$i:{token}> $line\"
             done; over 98",
            head(marks)
        )
    }
}

impl Job {
    fn draw(rng: &mut Rng, graph: usize, n: usize, before: &[Self]) -> Self {
        let lines = Lines::draw(rng);
        let mut after = Vec::new();
        if !before.is_empty() && !one_in(rng, 3) {
            // Not far back, so that there are chains.
            let back = |rng: &mut Rng| before.len().saturating_sub(1 + rng.up_to(11) as usize);
            after.extend((0..=rng.up_to(2)).map(|_| back(rng)));
            after.sort_unstable();
            after.dedup();
        }
        let end = match rng.up_to(19) {
            0 => End::Skipped,
            1 | 2 => End::HandedOver,
            3 => End::Branch,
            _ => End::Merged { taken_back: one_in(rng, 8) },
        };
        let is_whole = |n: &&usize| before.get(**n).is_some_and(|job| job.choice.is_none() && job.end.is_merged());
        let goes_on = after.first().filter(is_whole).copied().filter(|_| end.is_merged() && one_in(rng, 3));
        let shared = (end.is_merged() && one_in(rng, 2)).then(|| rng.up_to(SHARED - 1));
        let choice =
            (end.is_merged() && goes_on.is_none() && one_in(rng, 4)).then(|| format!("{graph}-{}", rng.up_to(3)));
        Self { name: format!("{graph}-{n}"), lines, after, goes_on, shared, choice, end, leaves: one_in(rng, 6) }
    }

    /// Its script. `marks` is the folder in which it says that it began and how it ended, in a file of its own. Done
    /// once more, on what is there of it, it is as if done once.
    pub(crate) fn script(&self, marks: &Path) -> String {
        let Self { name, lines, shared, choice, leaves, .. } = self;
        let (token, file, failed) = (&lines.token, self.file(), format!("over {UNWRITTEN}"));
        let leave = if *leaves { left_behind() } else { ":;".to_owned() };
        let head = head(marks);
        let print = lines.script(&file, &failed);
        let shared = shared.map_or_else(String::new, |file| {
            format!("grep -qsx '{token}' shared/{file} || echo {token} >> shared/{file} || {failed};")
        });
        let choice = choice
            .as_ref()
            .map_or_else(String::new, |file| format!("mkdir -p choice && echo {token} > choice/{file} || {failed};"));
        format!(
            "{head}{leave}
             mkdir -p work 2> /dev/null || {failed}
             {print}
             {{ echo '{name} {token}' > {file} || {failed}; {shared} {choice} }} 2> /dev/null
             over 0"
        )
    }

    /// The file that is its own.
    fn file(&self) -> String {
        format!("work/{}", self.name)
    }

    /// What is to be found of its work, in the words of the repository's own check.
    pub(crate) fn expected(&self) -> String {
        let token = &self.lines.token;
        let shared = self.shared.map_or_else(String::new, |file| format!("shared {file} {token}\n"));
        format!("work {} {token}\n{shared}", self.name)
    }
}

impl End {
    const fn is_merged(self) -> bool {
        matches!(self, Self::Merged { .. })
    }
}

/// Says that it began, and knows how to say that it is over.
fn head(marks: &Path) -> String {
    let marks = marks.display();
    format!(
        "mark='{marks}'/$MAKIMA_TASK_ID; echo \"started $$\" >> \"$mark\"
         over() {{ echo \"ended $1 $i\" >> \"$mark\"; exit $1; }}\ni=0; "
    )
}

#[cfg(test)]
mod tests {
    use super::{End, Graph};

    #[test]
    fn a_seed_is_a_graph_and_each_number_another() {
        assert_eq!(Graph::draw(5, 1, 50), Graph::draw(5, 1, 50));
        assert_ne!(Graph::draw(5, 1, 50), Graph::draw(5, 2, 50));
        assert_ne!(Graph::draw(5, 1, 50), Graph::draw(6, 1, 50));
    }

    #[test]
    fn there_is_something_of_everything_in_graphs() {
        let jobs: Vec<_> = (0..20).flat_map(|number| Graph::draw(1, number, 50).jobs).collect();
        assert_eq!(jobs.len(), 20 * 49);
        for end in [End::Merged { taken_back: true }, End::Skipped, End::HandedOver, End::Branch] {
            assert!(jobs.iter().any(|job| job.end == end), "{end:?}");
        }
        let count = |of: fn(&super::Job) -> bool| jobs.iter().filter(|job| of(job)).count();
        assert!(count(|job| job.after.len() > 1) > 100);
        assert!(count(|job| job.goes_on.is_some()) > 30);
        assert!(count(|job| job.shared.is_some()) > 200, "lines in the same files");
        assert!(count(|job| job.choice.is_some()) > 80, "other contents of the same files");
    }
}
