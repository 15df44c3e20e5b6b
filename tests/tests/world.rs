//! The world under the swarm: many seeds, each with faults of its own, and everything that ever went wrong.

use makima_core::Daemon;
use makima_core::snapshot::Snapshot;
use makima_tests::boundaries::crash_everywhere;
use makima_tests::regressions::all;
use makima_tests::shrink::shrink;
use makima_tests::swarm::Run;
use makima_tests::world::{Act, Sightings, World};

/// How many seeds are run: `MAKIMA_SEEDS`, else so many that it takes seconds.
fn seeds() -> u64 {
    std::env::var("MAKIMA_SEEDS").ok().map_or(1_500, |text| text.parse().expect("MAKIMA_SEEDS is a number"))
}

/// What must happen at least so often in 2,000 seeds: else a check that looks at it proves nothing.
const SOMETIMES: &[(&str, &str, u64)] = &[
    ("done", "start", 1_000),
    ("done", "stdin", 100),
    ("done", "deliver", 100),
    ("done", "discard", 100),
    ("done", "forget", 50),
    ("done", "expire", 200),
    ("told", "not gone", 1),
    ("output", "a line", 1_000),
    ("output", "part of a line", 100),
    ("output", "again", 200),
    ("end", "first", 1_000),
    ("end", "again", 100),
    ("end", "unknown", 100),
    ("action", "done", 100),
    ("action", "failed", 100),
    ("signal", "interrupt", 50),
    ("signal", "terminate", 30),
    ("told", "a stubborn agent is killed", 20),
    ("told", "processes left behind", 50),
    ("told", "messages came too late", 5),
    ("told", "a place in line", 20),
    ("told", "an agent not reached", 1),
    ("told", "a turn that went well", 100),
    ("told", "a message that is seen", 10),
    ("told", "something denied", 5),
    ("told", "an agent that does not tell", 5),
    ("a person", "is needed", 8),
    ("a person", "is needed no more", 8),
    ("conversation", "gone on with", 4),
    ("conversation", "branched off from", 1),
    ("conversation", "what was left stands in it", 1),
    ("told", "a turn that failed", 20),
    ("told", "a turn to be tried again", 20),
    ("told", "no pongs", 100),
    ("told", "for 45 s", 100),
    ("told", "`authenticate`", 100),
    ("told", "the attempt to connect", 100),
    ("told", "key refused", 100),
    ("told", "link lost", 100),
    ("told", "polling", 100),
    ("told", "turns to polling", 500),
    ("wire", "one", 1_000),
    ("wire", "two", 1_000),
    ("output", "placed", 300),
    ("output", "closed", 10),
    ("number", "new", 10_000),
    ("numbers", "anew", 30),
    ("session", "superseded", 5),
    ("counted", "duplicate_commands", 1),
    ("counted", "probes", 20),
    ("told", "slept", 50),
    ("clock", "back", 50),
    ("clock", "forward", 50),
    ("told", "server error", 100),
    ("rejected", "busy", 50),
    ("rejected", "unauthorized", 50),
    ("exit", "stopped", 50),
    ("spawn", "many wait", 10),
    ("killed", "at work", 100),
    ("killed", "after its end", 50),
    ("killed", "by an outage", 50),
    ("recovered", "by replay", 200),
    ("recovered", "by salvage", 50),
    ("done", "attach", 50),
    ("counted", "salvaged", 50),
    ("killed while", "pending", 20),
    ("killed while", "preparing", 20),
    ("killed while", "running", 50),
    ("killed while", "finishing", 20),
    ("killed while", "done", 20),
    ("killed while", "failed", 20),
    ("killed while", "interrupted", 20),
    ("failed", "accept", 20),
    ("failed", "prepare", 20),
    ("failed", "start", 20),
    ("failed", "read", 20),
    ("failed", "empty", 20),
    ("failed", "commit", 20),
    ("failed", "deliver", 2),
    ("failed", "conclude", 20),
    ("failed", "delivered", 2),
    ("failed", "attach", 5),
    ("failed", "signal", 5),
    ("agent", "ended, nobody can tell how", 2),
    ("agent", "ended, and nobody saw it", 2),
    ("from a connection that is gone", "what became of it", 20),
    ("from a connection that is gone", "a frame", 50),
    ("failed", "close", 10),
    ("called off too late", "start", 5),
    ("called off too late", "prepare", 2),
    ("cancelled", "accept", 2),
    ("cancelled", "prepare", 10),
    ("cancelled", "start", 10),
    ("cancelled", "empty", 10),
    ("cancelled", "conclude", 2),
    ("counted", "stale_effects", 50),
    ("counted", "stale_frames", 50),
    ("counted", "unreadable", 50),
    ("counted", "duplicate_spawns", 100),
    ("counted", "inapplicable", 100),
    ("counted", "unknown_tasks", 100),
    ("counted", "refused_tasks", 50),
    ("counted", "resent", 500),
    ("counted", "timeouts", 50),
];

/// Every command that names a task, in two ways that with which there is more than one.
const COMMANDS: [&str; 18] = [
    "spawnTask",
    "pauseTask",
    "resumeTask",
    "interruptTask, gracefully",
    "interruptTask, by force",
    "sendMessage",
    "injectSiblingContext",
    "listBranches",
    "mergeStart",
    "mergeStatus",
    "mergeResolve",
    "mergeCommit",
    "mergeAbort",
    "mergeSkip",
    "checkMergeComplete",
    "retryCompletionAction",
    "cloneWorktree",
    "checkTargetExists",
];

const STATUSES: [&str; 9] =
    ["unknown", "pending", "preparing", "running", "paused", "finishing", "done", "failed", "interrupted"];

#[test]
fn seeds_run_clean_and_see_everything() {
    let seeds = seeds();
    let mut seen = Sightings::default();
    for seed in 0..seeds {
        match Run::of(seed) {
            (_, Ok(world)) => seen.merge(&world.sightings()),
            (run, Err(why)) => {
                let (short, why_short) = shrink(&run);
                let line = serde_json::to_string(&short).expect("a run can be written");
                panic!("seed {seed}: {why}\nshortened: {why_short}\n{line}");
            }
        }
    }
    // A handful of seeds need not see everything.
    let rare: Vec<String> = SOMETIMES
        .iter()
        .map(|(kind, which, least)| (kind, which, least * seeds / 2_000, seen.count(kind, which)))
        .filter(|(.., least, times)| times < least)
        .map(|(kind, which, least, times)| format!("{kind}: {which}: {times} times, at least {least}"))
        .collect();
    assert!(seeds < 1_000 || rare.is_empty(), "too rare in {seeds} seeds: {rare:#?}");
    let cells = COMMANDS.iter().flat_map(|command| STATUSES.iter().map(move |status| (*command, *status)));
    let untold: Vec<(&str, &str, u64)> = cells
        .map(|(command, status)| (command, status, seen.count(command, status)))
        .filter(|(.., times)| *times < seeds / 500)
        .collect();
    assert!(seeds < 1_000 || untold.is_empty(), "hardly a server said this: {untold:#?}");
}

/// What of a run shows after each act.
fn trace(run: &Run) -> Vec<(u64, u64)> {
    let mut world = run.world();
    let mut trace = Vec::new();
    for act in &run.acts {
        world.apply(*act);
        trace.push((world.daemon.digest(), world.steps));
    }
    world.settle();
    trace.push((world.daemon.digest(), world.steps));
    trace
}

#[test]
fn the_same_run_is_the_same_at_every_step() {
    for seed in 0..100 {
        let (run, world) = Run::of(seed);
        let mut world = world.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert_eq!(Run::of(seed).0, run, "seed {seed} gives another run");
        let first = trace(&run);
        assert_eq!(first, trace(&run), "seed {seed} runs in another way");
        assert_eq!(first.last(), Some(&(world.daemon.digest(), world.steps)), "the run of seed {seed} is another one");
        let line = serde_json::to_string(&run).expect("a run can be written");
        assert_eq!(serde_json::from_str::<Run>(&line).expect("and read"), run);
    }
}

#[test]
fn what_went_wrong_once_does_not_again() {
    for (path, run) in all::<Run>("regressions/world").expect("the runs that are kept") {
        if let Err(why) = run.try_run() {
            panic!("{}: {why}", path.display());
        }
    }
}

/// Protects work from a crash that comes between any two things that happen, whatever was done by then.
#[test]
fn a_daemon_may_crash_at_every_boundary_of_a_run() {
    let runs = (0..).map(|seed| Run::of(seed).0).filter(|run| (30..100).contains(&run.acts.len()));
    for run in runs.take(3) {
        let done = crash_everywhere(&run).unwrap_or_else(|(run, why)| {
            let line = serde_json::to_string(&shrink(&run).0).expect("a run can be written");
            panic!("{why}\n{line}")
        });
        assert!(done.crashes > 5 * run.acts.len() as u64, "{} crashes", done.crashes);
    }
}

fn through_json(daemon: &Daemon) -> Snapshot {
    let text = serde_json::to_string(&daemon.snapshot()).expect("a snapshot can be written");
    serde_json::from_str(&text).expect("a snapshot can be read")
}

/// At every step the daemon is put away and taken up again: nothing of the run changes.
#[test]
fn a_daemon_that_is_put_away_and_taken_up_goes_on_as_if_it_had_not() {
    for seed in 0..40 {
        let run = Run::of(seed).0;
        let plain = trace(&run);
        let mut world = run.world();
        let mut at = plain.iter();
        let mut step = |world: &mut World, act: Option<Act>| {
            match act {
                Some(act) => assert!(world.apply(act), "what was possible is not"),
                None => world.settle(),
            }
            assert_eq!(Some(&(world.daemon.digest(), world.steps)), at.next(), "seed {seed} goes another way");
            let mut restored = Daemon::restore(through_json(&world.daemon)).expect("a whole snapshot");
            assert_eq!(restored.digest(), world.daemon.digest());
            assert_eq!(restored, world.daemon, "something is lost in the snapshot");
            assert_eq!(restored.deadline(), world.daemon.deadline());
            world.daemon = restored;
            world.daemon.check();
        };
        run.acts.iter().for_each(|act| step(&mut world, Some(*act)));
        step(&mut world, None);
    }
}

/// Every other value that stands somewhere in a snapshot.
fn changed(value: &serde_json::Value) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        Value::Bool(it) => Value::from(!it),
        Value::Number(n) => Value::from(n.as_u64()? ^ 1),
        Value::String(text) => Value::from(format!("{text}x")),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    })
}

fn places(value: &serde_json::Value, at: &str, all: &mut Vec<String>) {
    if let Some(map) = value.as_object() {
        map.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), all));
    } else if let Some(list) = value.as_array() {
        list.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), all));
    } else if changed(value).is_some() {
        all.push(at.to_string());
    }
}

#[test]
fn a_snapshot_with_anything_changed_is_refused() {
    for seed in 0..12 {
        let run = Run::of(seed).0;
        let mut world = run.world();
        for act in &run.acts {
            world.apply(*act);
        }
        let whole = serde_json::to_value(world.daemon.snapshot()).expect("a snapshot can be written");
        let mut all = Vec::new();
        places(&whole, "", &mut all);
        for place in &all {
            let mut damaged = whole.clone();
            let value = damaged.pointer_mut(place).expect("it stands there");
            *value = changed(value).expect("it can be changed");
            let Ok(snapshot) = serde_json::from_value::<Snapshot>(damaged) else { continue };
            let error = Daemon::restore(snapshot).err().map(|error| error.to_string()).expect(place);
            let version = place == "/version";
            assert!(error.contains(if version { "version" } else { "damaged" }), "{place}: {error}");
        }
    }
}

/// Protects tasks that were taken on while the journal could not be written, by a daemon that was killed then: the server,
/// which was told that it has them, tells them again. Too rare a chain for the swarm.
#[test]
fn what_the_journal_lost_is_told_again() {
    let line = include_str!("../regressions/world/what-the-journal-lost-is-told-again.json");
    let run: Run = serde_json::from_str(line).expect("a run");
    assert_eq!(run.run().sightings().count("numbers", "given up"), 1);
}
