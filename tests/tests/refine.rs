//! Journals walked by the rules of the world: those of its own runs are accepted, and what it could not have given is not.
//! The journals of the real binary are walked behind each of its tests: `Place::walked` in `e2e/support/place.rs`.

use makima_core::effect::Work;
use makima_core::input::{Boot, Chunk, Input, Outcome, Stage};
use makima_core::record::Record;
use makima_core::time::Millis;
use makima_tests::refine::{Segment, answers, walk};
use makima_tests::swarm::Run;
use makima_tests::world::{Act, GOES_ON, Manner, Speech, TaskKind, World};

/// Protects the walk of real journals from being narrower than the world that it stands for.
#[test]
fn every_run_of_the_world_is_accepted() {
    let (mut steps, mut lives, mut refused) = (0, 0, Vec::new());
    for seed in 0..300 {
        let world = Run::journaled(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        match walk(world.whole_journal()) {
            Ok(walked) => {
                (steps, lives) = (steps + walked.steps, lives + walked.lives);
                refused.extend(walked.cells.beyond_reviewed().iter().map(|cell| format!("seed {seed}: {cell}")));
            }
            Err(broken) => refused.push(format!("seed {seed}: {broken}")),
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(steps > 50_000 && lives > 600, "{steps} steps, {lives} lives");
}

/// What happens until nothing can.
fn goes_on(world: &mut World) {
    while GOES_ON.iter().any(|act| world.apply(*act)) {}
}

/// The journal of a daemon with one task, which writes, is killed under it and takes it to its end.
fn journal() -> Vec<Segment> {
    let mut world = World::new(Manner::Loose, Speech::Two, 1);
    world.segments = Some(Vec::new());
    goes_on(&mut world);
    world.apply(Act::Spawn { task: 0, kind: TaskKind::PLAIN });
    for _ in 0..3 {
        goes_on(&mut world);
        world.apply(Act::Write { task: 0, stderr: false, newline: true });
    }
    goes_on(&mut world);
    world.apply(Act::Kill { done: 0, journal: u8::MAX, other: false });
    goes_on(&mut world);
    world.apply(Act::Exit { task: 0, code: 0 });
    world.settle();
    world.whole_journal()
}

/// Has the first record that is fit for it told otherwise, and tells what a walk says of that.
fn told_otherwise(what: &str, lie: impl Fn(&mut Vec<Record>, usize) -> bool) -> String {
    let mut segments = journal();
    let told = segments.iter_mut().any(|segment| (0..segment.records.len()).any(|at| lie(&mut segment.records, at)));
    assert!(told, "nothing is fit for: {what}");
    let broken = walk(segments).map(|walked| walked.steps);
    let broken = broken.expect_err(what);
    assert!(broken.to_string().starts_with(&format!("record {}: ", broken.n)), "{broken}");
    broken.why
}

/// The same of one input.
fn input(what: &str, lie: impl Fn(&mut Input) -> bool) -> String {
    told_otherwise(what, |records, at| lie(&mut records[at].input))
}

/// Puts another record behind it.
fn behind(records: &mut Vec<Record>, at: usize, input: &Input) -> bool {
    let (n, now) = (records[at].n, records[at].now);
    records.insert(at + 1, Record::of(n, now, input));
    true
}

fn chunk(input: &mut Input) -> Option<&mut Chunk> {
    if let Input::Done { outcome: Outcome::Chunk(chunk), .. } = input { Some(chunk) } else { None }
}

fn boot(input: &mut Input) -> Option<&mut Boot> {
    if let Input::Boot(boot) = input { Some(boot) } else { None }
}

#[test]
fn the_journal_that_is_lied_about_is_a_legal_one() {
    let walked = walk(journal()).expect("it is legal");
    assert_eq!(walked.lives, 2);
    assert!(walked.steps > 40, "{}", walked.steps);
}

/// Protects the rule that each effect is answered once, and by what it may be answered by.
#[test]
fn an_answer_that_nobody_could_have_given_is_refused() {
    let twice = told_otherwise("twice", |records, at| {
        let input = records[at].input.clone();
        matches!(input, Input::Done { .. }) && behind(records, at, &input)
    });
    assert!(twice.contains("is not under way"), "{twice}");
    let another = input("another kind", |input| {
        let Input::Done { outcome: outcome @ Outcome::Prepared(_), .. } = input else { return false };
        *outcome = Outcome::Done;
        true
    });
    assert_eq!(another, "`prepare` is not answered by `done`");
    let before = told_otherwise("before its time", |records, at| {
        let Input::Done { mut id, .. } = records[at].input else { return false };
        id.n += 1_000;
        behind(records, at, &Input::Done { id, outcome: Outcome::Done })
    });
    assert!(before.contains("is not under way"), "{before}");
    assert!(answers::check(&Work::Empty, &Outcome::NotStarted).is_err());
}

/// Protects the rule that an agent's end is told once, and behind its start.
#[test]
fn an_end_of_an_agent_that_does_not_run_is_refused() {
    let twice = told_otherwise("twice", |records, at| {
        let input = records[at].input.clone();
        matches!(input, Input::Exited { .. }) && behind(records, at, &input)
    });
    assert!(twice.contains("has no agent that runs"), "{twice}");
    let unstarted = told_otherwise("without a start", |records, at| {
        let Input::Done { id, outcome: Outcome::Prepared(_) } = records[at].input else { return false };
        behind(records, at, &Input::Exited { id, status: makima_core::input::ExitStatus::Code(0) })
    });
    assert!(unstarted.contains("has no agent that runs"), "{unstarted}");
}

/// Protects the rule that output is told from where it was asked for, and no further than it reaches.
#[test]
fn output_that_is_not_where_it_was_asked_for_is_refused() {
    // The text is not needed for what is looked at before the step.
    let lie = |what: &str, lie: fn(&mut Chunk)| {
        told_otherwise(what, |records, at| {
            let record = &mut records[at];
            let Some(chunk) = chunk(&mut record.input).filter(|chunk| chunk.to > chunk.from) else { return false };
            lie(chunk);
            true
        })
    };
    let gap = lie("a gap", |chunk| chunk.from += 1);
    assert!(gap.contains("begins at 1, and was asked for from 0"), "{gap}");
    let beyond = lie("beyond the log", |chunk| chunk.log = chunk.to - 1);
    assert!(beyond.contains("and the log reaches to"), "{beyond}");
    let back =
        lie("backwards", |chunk| (chunk.from, chunk.to) = (chunk.from, chunk.from.wrapping_sub(1).min(chunk.from)));
    assert!(back.contains("a log ends that is not closed"), "{back}");
    let end = input("an end behind the end", |input| {
        let Input::Done { outcome: Outcome::Emptied { log_end, .. }, .. } = input else { return false };
        *log_end += 1;
        true
    });
    assert!(end.contains("is not its end") || end.contains("recorded"), "{end}");
}

/// Protects the rule that a connection brings what was asked of it, in its order.
#[test]
fn what_no_connection_could_have_brought_is_refused() {
    let beyond = input("a flush beyond what was sent", |input| {
        let Input::Flushed { n, .. } = input else { return false };
        *n += 1_000;
        true
    });
    assert!(beyond.contains("has flushed frame 10"), "{beyond}");
    let again = told_otherwise("a flush again", |records, at| {
        let input = records[at].input.clone();
        matches!(input, Input::Flushed { .. }) && behind(records, at, &input)
    });
    assert!(again.contains(" after frame "), "{again}");
    let strange = input("a connection that nobody asked for", |input| {
        let Input::LinkUp { epoch, .. } = input else { return false };
        epoch.0 += 7;
        true
    });
    assert!(strange.contains("was never asked for"), "{strange}");
    let twice = told_otherwise("up twice", |records, at| {
        let input = records[at].input.clone();
        matches!(input, Input::LinkUp { .. }) && behind(records, at, &input)
    });
    assert!(twice.contains("comes to stand twice"), "{twice}");
}

/// Protects the rules of time, of the journal's own trouble, and of what follows an end.
#[test]
fn what_the_machine_could_not_have_told_is_refused() {
    let back = told_otherwise("time goes back", |records, at| {
        let late = at > 3 && records[at].now.mono > Millis(0);
        records[at].now.mono = if late { Millis(0) } else { records[at].now.mono };
        late
    });
    assert!(back.contains("time goes back"), "{back}");
    let well = told_otherwise("no trouble twice", |records, at| {
        matches!(records[at].input, Input::Boot(_)) && behind(records, at, &Input::Journal { trouble: false })
    });
    assert!(well.contains("is false already"), "{well}");
    let life = told_otherwise("the same life", |records, at| {
        let input = records[at].input.clone();
        matches!(input, Input::Boot(_)) && behind(records, at, &input)
    });
    assert!(life.contains("comes after life"), "{life}");
    let unborn = told_otherwise("before its life", |records, at| {
        records[at].input = Input::Tick;
        true
    });
    assert!(unborn.contains("has not begun"), "{unborn}");
}

/// Protects the rule that what is found on the disk is what was written down there.
#[test]
fn a_folder_that_forgets_is_refused() {
    let lie = |what: &str, lie: fn(&mut Boot)| {
        input(what, |input| {
            let Some(boot) = boot(input).filter(|boot| !boot.leftovers.is_empty()) else { return false };
            lie(boot);
            true
        })
    };
    let gone = lie("gone", |boot| boot.leftovers.clear());
    assert!(gone.contains("which was written down"), "{gone}");
    let unstarted = lie("not started", |boot| boot.leftovers[0].stage = Stage::Accepted);
    assert!(unstarted.contains("its start was answered"), "{unstarted}");
    let other = lie("another task", |boot| boot.leftovers[0].spec.plan.push('!'));
    assert!(other.contains("was written down as"), "{other}");
    let worktree = lie("another worktree", |boot| {
        if let Stage::Started(prepared) = &mut boot.leftovers[0].stage {
            prepared.base = None;
        }
    });
    assert!(worktree.contains("its worktree is"), "{worktree}");
}

/// Protects a walk of many segments from one that does not follow.
#[test]
fn a_state_that_nothing_leads_to_is_refused() {
    let mut segments = journal();
    let blank = segments[0].snapshot.blank();
    segments[1].snapshot = blank;
    let broken = walk(segments).map(|walked| walked.steps).expect_err("it does not follow");
    assert!(broken.why.contains("not what the steps before lead to"), "{broken}");
}
