//! The tables as a document for people: what the states mean, and how they follow from one another, as drawings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use makima_core::view::{LinkState, TaskState};

use super::{Cells, REFUSED, STAYS, Table, UNKNOWN, merge};

const HEAD: &str = "# The machines of the core

What the states of tasks, of the link and of merges are, and how one follows from another. Everything here is written by
`MAKIMA_WRITE=1 cargo test -p makima-tests --test cells` from what the daemon does in the simulated world, and that test
holds it to that. What comes of *each* input in *each* state, also where nothing changes, stands in
`tests/tests/snapshots/cells__each_cell_is_as_it_was_reviewed.snap`; what cannot come, and why, in
`tests/src/cells/impossible.rs`.

An arrow bears what leads along it; what leaves a state as it is is left out. One word, as `pauseTask`, is a command of the
server's; `prepare done`, `freeze failed` and the like are answers of the executor's.
";

/// A part of a machine that is drawn by itself: what leads away from these states.
struct Part {
    title: &'static str,
    says: &'static str,
    from: &'static [&'static str],
}

const TASK: &[Part] = &[
    Part {
        title: "Before its agent runs",
        says: "An interrupt or a stop that comes while something is being made waits for its answer: so the same answer may \
               lead to different places.",
        from: &[UNKNOWN, "accepting", "waiting", "preparing", "making its key", "telling its key", "held", "starting"],
    },
    Part {
        title: "While its agent is at work",
        says: "An agent that is looked for again may be found in any of these states.",
        from: &["attaching", "running", "pausing", "paused", "resuming", "ending"],
    },
    Part {
        title: "When its agent has ended",
        says: "Which of the three ends it is was settled before: by the agent, by an interrupt, or by what could not be done.",
        from: &[
            "emptying",
            "committing",
            "out of room",
            "checking",
            "delivering",
            "concluding",
            "unwritten",
            "left",
            "done",
            "failed",
            "interrupted",
        ],
    },
];

/// What is said as one where all of it that is there leads to the same.
const TOGETHER: &[(&str, &[&str])] = &[
    ("interruptTask", &["interruptTask, gracefully", "interruptTask, by force"]),
    ("the daemon stops", &["stop, gracefully", "stop, by force"]),
    ("its agent ends", &["its agent ends well", "its agent ends badly"]),
    ("attach answered", &["attach found it", "attach found no start", "attach failed"]),
    ("not reached or refused", &["not reached", "refused: the key", "refused: not this way", "refused: later"]),
    ("lost", &["closed", "broken", "session gone"]),
    ("error", &["error: the key", "error: another"]),
];

/// What has a place of its own in the document, or comes from everywhere.
const NOT_DRAWN: &[&str] = &[
    "new life, no record",
    "new life, accepted",
    "new life, started",
    "new life, ended",
    "new life",
    "the daemon ends",
];

/// The document.
#[must_use]
pub fn document(cells: &Cells) -> String {
    let mut text = HEAD.to_string();
    text.push_str("\n## A task\n\n| state | what it is | what the server was told last |\n|---|---|---|\n");
    for state in TaskState::ALL {
        let told = cells.told.0.get(&(state.name(), "")).map(words).unwrap_or_default();
        let told = told.replace(" | ", ", ");
        writeln!(text, "| {} | {} | {told} |", state.name(), sentence(state.help())).expect("text");
    }
    for part in TASK {
        writeln!(text, "\n### {}\n\n{}\n", part.title, wrapped(part.says)).expect("text");
        text.push_str(&drawing(&cells.task, part.from));
    }
    text.push_str(&lives(&cells.task));
    text.push_str("\n## The link\n\n| state | what it is |\n|---|---|\n");
    for state in LinkState::ALL {
        writeln!(text, "| {} | {} |", state.name(), sentence(state.help())).expect("text");
    }
    text.push_str(LINK);
    text.push_str(&drawing(&cells.link, &LinkState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>()));
    text.push_str(MERGE);
    text.push_str(&drawing(&cells.merge, &[merge::NONE, merge::CONFLICTED, merge::RESOLVED]));
    text.push_str(&commands(&cells.merge));
    text
}

const LINK: &str = "
`beside` is the WebSocket that is tried while long-poll has the say. From every state a new life leads to `connecting`, and
the daemon's end to `idle`; a connection that has been followed by another has no say in anything.

";

const MERGE: &str = "
## A merge

How a merge in the worktree of a task stands is read from the worktree each time. `resolved` is a merge that nothing is in
the way of: begun without a conflict, or with the last one settled. Who edits files and adds them settles conflicts too.

";

/// The arrows that lead away from some states.
fn drawing(table: &Table, from: &[&'static str]) -> String {
    let mut arrows: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let states: BTreeSet<&str> = table.0.keys().map(|(state, _)| *state).collect();
    for ((state, input), came) in &table.0 {
        let next = came.iter().filter(|next| states.contains(*next) && *next != state);
        for next in next.filter(|_| from.contains(state) && !NOT_DRAWN.contains(input)) {
            arrows.entry((*state, *next)).or_default().insert(*input);
        }
    }
    let mut text = "```mermaid\nstateDiagram-v2\n".to_string();
    let seen = |state: &&str| arrows.keys().any(|(from, to)| from == state || to == state);
    for state in states.iter().filter(|state| **state != UNKNOWN && state.contains(' ')).filter(|state| seen(state)) {
        writeln!(text, "    state \"{state}\" as {}", id(state)).expect("text");
    }
    // In the order of the states, for whoever reads the text.
    for state in from {
        for ((_, next), inputs) in arrows.iter().filter(|((from, _), _)| from == state) {
            writeln!(text, "    {} --> {}: {}", id(state), id(next), label(table, state, inputs)).expect("text");
        }
    }
    text.push_str("```\n");
    text
}

/// A state's name for the drawing.
fn id(state: &str) -> String {
    if state == UNKNOWN { "[*]".to_string() } else { state.replace(' ', "_") }
}

/// What stands at an arrow.
fn label(table: &Table, state: &'static str, inputs: &BTreeSet<&'static str>) -> String {
    let mut inputs = inputs.clone();
    let mut words = Vec::new();
    for (name, group) in TOGETHER {
        let there: Vec<&str> =
            group.iter().copied().filter(|input| table.0.keys().any(|cell| *cell == (state, *input))).collect();
        if !there.is_empty() && there.iter().all(|input| inputs.contains(input)) {
            inputs.retain(|input| !there.contains(input));
            words.push((*name).to_string());
        }
    }
    words.extend(inputs.iter().map(|input| input.replace(": ", " ").replace(", ", " ")));
    words.join(", ")
}

/// What a new life makes of a task.
fn lives(table: &Table) -> String {
    let stages = ["no record", "accepted", "started", "ended"];
    let mut text = "\n### When the daemon is started anew\n\n".to_string();
    text.push_str(
        "By what is known of a task from the journal, and what its folder tells: nothing, that it was taken on, that its\n\
         agent was started or about to be, that it has ended. The folder may know more than the journal.\n\n\
         | state | no record | accepted | started | ended |\n|---|---|---|---|---|\n",
    );
    for state in [UNKNOWN].into_iter().chain(TaskState::ALL.iter().map(|state| state.name())) {
        let cell = |stage: &str| {
            let cell = table.0.iter().find(|((at, input), _)| *at == state && *input == format!("new life, {stage}"));
            cell.map(|(_, came)| words(came).replace(" | ", ", ").replace(STAYS, state)).unwrap_or_default()
        };
        writeln!(text, "| {state} | {} |", stages.map(cell).join(" | ")).expect("text");
    }
    text
}

/// What comes of each command about a merge.
fn commands(table: &Table) -> String {
    let machine = merge::machine();
    let mut text = "\nWhat comes of each command; an executor may fail at any of them.\n".to_string();
    for input in machine.inputs {
        writeln!(text, "\n- **{input}**").expect("text");
        let mut by_result: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for state in &machine.states {
            if let Some(came) = table.0.get(&(*state, *input)) {
                let came: BTreeSet<&str> =
                    came.iter().copied().filter(|word| *word != "failed" || came.len() == 1).collect();
                let came = if came.contains(REFUSED) && came.len() > 1 {
                    came.into_iter().filter(|word| *word != REFUSED).collect()
                } else {
                    came
                };
                by_result.entry(words(&came).replace(" | ", "; ")).or_default().push(state);
            }
        }
        for (came, states) in by_result {
            writeln!(text, "  - {}: {came}", states.join(", ")).expect("text");
        }
    }
    text
}

fn words(came: &BTreeSet<&str>) -> String {
    came.iter().copied().collect::<Vec<_>>().join(" | ")
}

/// A help text of the core's without its end.
fn sentence(help: &str) -> &str {
    help.trim().trim_end_matches('.')
}

/// Broken into lines that are not too long.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if lines.last().is_some_and(|line| line.len() + word.len() > 118) {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("a line");
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.join("\n")
}
