//! What comes of each input in each state, as the simulated world shows it: the machines of tasks, of the link and of
//! merges as tables, that can be reviewed and drawn.
//!
//! A [`Watch`] looks at every step of a world's daemon from outside. What depends on luck in a run, as which command comes
//! in which state, it tries on copies of the daemon as well: the swarm says where the machines can get, and it what they
//! can meet there.

mod draw;
mod impossible;
mod link;
mod merge;
mod probe;
pub mod rare;
mod task;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use makima_core::agent::{Agent, Claude};

pub use self::draw::document;
pub use self::watch::Watch;
use crate::regressions;
use crate::swarm::Run;
use crate::world::{Act, GOES_ON, Manner, Speech, TaskKind, World};

/// What cannot be known or named here: no task of that name.
const UNKNOWN: &str = "unknown";

/// Nothing changed, and nothing had to.
const STAYS: &str = "stays";

/// It cannot apply: that is counted, and answered with the truth.
const REFUSED: &str = "refused";

/// It is nothing to it any more, or not yet: that is counted.
const IGNORED: &str = "ignored";

/// What came of it: the next states, and other words.
type Came = BTreeSet<&'static str>;

/// One machine: what came of each input in each state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(BTreeMap<(&'static str, &'static str), Came>);

impl Table {
    fn see(&mut self, state: &'static str, input: &'static str, came: &'static str) {
        self.0.entry((state, input)).or_default().insert(came);
    }

    fn merge(&mut self, other: &Self) {
        for (cell, came) in &other.0 {
            self.0.entry(*cell).or_default().extend(came);
        }
    }
}

/// Machine, state and input, and what comes of it.
type Reviewed = BTreeMap<(&'static str, &'static str, &'static str), Came>;

/// The tables of all machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    /// Tasks.
    pub task: Table,
    /// The link.
    pub link: Table,
    /// Merges in the worktrees of tasks.
    pub merge: Table,
    /// What the server is told of tasks in each state.
    told: Table,
}

/// Inputs that a machine does not meet in some states, as nothing can bring them there.
struct Never {
    inputs: &'static [&'static str],
    /// Where they are met all the same.
    but: &'static [&'static str],
    why: &'static str,
}

/// What a machine is made of.
struct Machine {
    name: &'static str,
    states: Vec<&'static str>,
    inputs: &'static [&'static str],
    never: &'static [Never],
}

impl Cells {
    /// What the runs of these seeds show, and those that are kept for what is [`rare`].
    ///
    /// # Panics
    /// Where a run does not go well.
    #[must_use]
    pub fn of(seeds: std::ops::Range<u64>) -> Self {
        let mut watch = Some(Box::default());
        for (changes, branch) in [(false, None), (false, Some(1)), (false, Some(2)), (true, Some(2))] {
            watch = merging(watch, changes, branch).watch;
        }
        watch = resumed_early(watch).watch;
        watch = checked(watch).watch;
        watch = heard_out(watch).watch;
        for seed in seeds {
            let (_, world) = Run::watched(seed, watch);
            watch = world.unwrap_or_else(|why| panic!("seed {seed}: {why}")).watch;
        }
        let mut cells = watch.map(|watch: Box<Watch>| watch.cells().clone()).unwrap_or_default();
        for (path, run) in regressions::all::<Run>(rare::KEPT).unwrap_or_else(|why| panic!("{why}")) {
            cells.merge(&rare::shown(&run).unwrap_or_else(|why| panic!("{}: {why}", path.display())));
        }
        cells
    }

    /// Takes in what another run has shown.
    pub fn merge(&mut self, other: &Self) {
        self.task.merge(&other.task);
        self.link.merge(&other.link);
        self.merge.merge(&other.merge);
    }

    fn machines(&self) -> [(Machine, &Table); 3] {
        [(task::machine(), &self.task), (link::machine(), &self.link), (merge::machine(), &self.merge)]
    }

    /// Cells that are not among those that were reviewed.
    #[must_use]
    pub fn beyond_reviewed(&self) -> Vec<String> {
        let tables = [("task", &self.task), ("link", &self.link), ("merge", &self.merge)];
        let cells = tables.iter().flat_map(|(name, table)| table.0.iter().map(move |cell| (*name, cell)));
        let all =
            cells.flat_map(|(name, ((state, input), came))| came.iter().map(move |came| [name, state, input, came]));
        let beyond = all.filter(|[name, state, input, came]| {
            !REVIEWED.get(&(*name, *state, *input)).is_some_and(|cell| cell.contains(came))
        });
        beyond.map(|[name, state, input, came]| format!("{name}: {state}: {input}: {came}")).collect()
    }

    /// What is not as it should be: cells that cannot be and were seen, and those that were not and could be.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.machines().iter().flat_map(|(machine, table)| machine.faults(table)).collect()
    }

    /// All of it as text, a machine after the other.
    #[must_use]
    pub fn text(&self) -> String {
        self.machines().iter().map(|(machine, table)| machine.text(table)).collect::<Vec<_>>().join("\n")
    }
}

/// The cells of a text, as [`Cells::text`] writes it.
fn read(text: &'static str) -> Reviewed {
    let (mut machine, mut state) = ("", "");
    let mut cells = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            machine = name;
        } else if let Some(name) = line.strip_prefix("## ") {
            state = name;
        } else if let Some((input, came)) = line.split_at_checked(INPUT) {
            cells.insert((machine, state, input.trim_end()), came.trim_start().split(" | ").collect());
        }
    }
    cells
}

/// The cells that the world visits, as they were reviewed.
static REVIEWED: LazyLock<Reviewed> =
    LazyLock::new(|| read(include_str!("../../tests/snapshots/cells__each_cell_is_as_it_was_reviewed.snap")));

/// So wide is an input in a text.
const INPUT: usize = 31;

impl Machine {
    /// Why an input is never met in a state, if it is not.
    fn never(&self, state: &str, input: &str) -> Option<&'static str> {
        let never = self.never.iter().find(|never| never.inputs.contains(&input) && !never.but.contains(&state));
        never.map(|never| never.why)
    }

    fn faults(&self, table: &Table) -> Vec<String> {
        let mut faults = Vec::new();
        for (state, input) in table.0.keys() {
            if !self.states.contains(state) || !self.inputs.contains(input) {
                faults.push(format!("{}: {state}: {input}: neither is on the lists", self.name));
            }
        }
        let listed = self.never.iter().flat_map(|never| never.inputs.iter().chain(never.but));
        for word in listed.filter(|word| !self.states.contains(word) && !self.inputs.contains(word)) {
            faults.push(format!("{}: `{word}` is neither a state nor an input", self.name));
        }
        for state in &self.states {
            for input in self.inputs {
                match (table.0.get(&(*state, *input)), self.never(state, input)) {
                    (Some(came), Some(why)) => {
                        faults.push(format!("{}: {state}: {input}: {came:?}, and cannot be: {why}", self.name));
                    }
                    (None, None) => faults.push(format!("{}: {state}: {input}: was not seen", self.name)),
                    (Some(_), None) | (None, Some(_)) => {}
                }
            }
        }
        faults
    }

    /// A block for each state: what comes of each input, and which are never met there.
    fn text(&self, table: &Table) -> String {
        let mut text = format!("# {}\n", self.name);
        for state in &self.states {
            text.push_str(&format!("\n## {state}\n"));
            let mut none = Vec::new();
            for input in self.inputs {
                match table.0.get(&(*state, *input)) {
                    Some(came) => {
                        let came = came.iter().copied().collect::<Vec<_>>().join(" | ");
                        text.push_str(&format!("{input:<INPUT$} {came}\n"));
                    }
                    None => none.push(*input),
                }
            }
            if !none.is_empty() {
                text.push_str(&format!("· {}\n", none.join(", ")));
            }
        }
        text
    }
}

/// What is possible of these happens, until nothing is.
fn goes_on(world: &mut World, acts: &[Act]) {
    while acts.iter().any(|act| world.apply(*act)) {}
}

/// More tasks than may run at once, and a paused one that is let go on after the daemon was killed, and before its agent is
/// in hand again: too rare in the swarm, too. It cannot be let go on at first.
fn resumed_early(watch: Option<Box<Watch>>) -> World {
    let (pause, resume) = (Act::Other { task: 0, which: 0 }, Act::Other { task: 0, which: 1 });
    let link = [Act::Sync, Act::Accept, Act::Flush, Act::Deliver, Act::Answer];
    let mut world = World::watched(Manner::Loose, Speech::Two, 1, watch);
    goes_on(&mut world, &GOES_ON);
    for act in (0..5).map(|task| Act::Spawn { task, kind: TaskKind::PLAIN }).chain([pause]) {
        world.apply(act);
        goes_on(&mut world, &GOES_ON);
    }
    world.apply(Act::Kill { done: 0, journal: u8::MAX, other: false });
    goes_on(&mut world, &link);
    world.apply(resume);
    goes_on(&mut world, &link);
    for act in [Act::Perform { nth: 0, fails: false }, Act::Sync, Act::Perform { nth: 0, fails: true }] {
        world.apply(act);
    }
    world.settle();
    world
}

/// Checks of work that is handed over whatever they say.
fn checked(watch: Option<Box<Watch>>) -> World {
    let mut world = World::watched(Manner::Loose, Speech::Two, 1, watch);
    goes_on(&mut world, &GOES_ON);
    world.apply(Act::Spawn { task: 0, kind: TaskKind { checks: true, ..TaskKind::PLAIN } });
    goes_on(&mut world, &GOES_ON);
    world.apply(Act::Exit { task: 0, code: 0 });
    world.settle();
    world
}

/// An agent that tells how it gets on, and ends by itself before it has been listened to.
fn heard_out(watch: Option<Box<Watch>>) -> World {
    let agent = Agent::Claude(Claude::default());
    let mut world = World::with_agents(agent, Manner::Loose, Speech::Two, 1, watch);
    goes_on(&mut world, &GOES_ON);
    world.apply(Act::Spawn { task: 0, kind: TaskKind::PLAIN });
    goes_on(&mut world, &GOES_ON);
    let speaks = Act::Write { task: 0, stderr: false, newline: false };
    world.apply(speaks);
    goes_on(&mut world, &GOES_ON);
    // More than is read in one go.
    for _ in 0..9 {
        world.apply(speaks);
    }
    world.apply(Act::Exit { task: 0, code: 0 });
    // The daemon is told of its end before what it said.
    let last = world.machine.ready().count().saturating_sub(1);
    world.apply(Act::Perform { nth: u8::try_from(last).unwrap_or_default(), fails: false });
    world.settle();
    world
}

/// The subtask that does not end.
const AT_WORK: u8 = 5;

/// A task at work whose subtasks have ended, with work or without, but for one that is at work: too rare in the swarm. One's
/// branch is being merged when it ends itself.
fn merging(watch: Option<Box<Watch>>, changes: bool, branch: Option<u8>) -> World {
    let mut world = World::watched(Manner::Loose, Speech::Two, 1, watch);
    goes_on(&mut world, &GOES_ON);
    world.apply(Act::Spawn { task: 0, kind: TaskKind { orchestrator: true, changes, ..TaskKind::PLAIN } });
    goes_on(&mut world, &GOES_ON);
    for (task, changes) in [(AT_WORK, true), (1, true), (2, true), (3, true), (4, false)] {
        world.apply(Act::Spawn { task, kind: TaskKind { subtask: true, changes, ..TaskKind::PLAIN } });
        goes_on(&mut world, &GOES_ON);
        if task != AT_WORK {
            world.apply(Act::Exit { task, code: 0 });
            goes_on(&mut world, &GOES_ON);
        }
    }
    world.apply(Act::Message { task: 0 });
    goes_on(&mut world, &GOES_ON);
    if let Some(task) = branch {
        world.apply(Act::Other { task: 0, which: 3 + 15 * task });
        goes_on(&mut world, &GOES_ON);
    }
    world.apply(Act::Exit { task: 0, code: 0 });
    world.settle();
    world
}
