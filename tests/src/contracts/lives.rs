//! A task from being taken on to being forgotten, and the lives of the daemon that it outlasts.

use makima_core::effect::{Deed, Signal, Work};
use makima_core::input::{ExitStatus, Stage};
use makima_core::time::Millis;

use super::{Agent, Contract, Scene, accept, branch, conclude, concluding, said, spec, stage};

pub(super) const CONTRACTS: &[Contract] = &[
    ("what is asked for twice is done once", twice),
    ("an agent ends by itself, and its tree is empty", by_itself),
    ("an agent ends because it is asked to", asked),
    ("an agent is ended by force", by_force),
    ("what is started stands still and goes on", still),
    ("output is told up to its end", output),
    ("messages reach an agent that runs", messages),
    ("an agent outlives the daemon", outlives),
    ("an agent that ended while no daemon was there is told of", ended_meanwhile),
    ("what never ran is not found", never_ran),
    ("what changed is committed, and nothing else", commits),
    ("records tell how far a task had come", records),
    ("what has ended goes to the trash, and nothing else", trash),
    ("what has ended makes room in two steps, and nothing that is nowhere else does", room),
    ("work is handed over", over),
];

fn twice(s: &mut Scene<'_>) {
    let task = s.accepted(false);
    assert_eq!(s.says(task, accept(task)), "done");
    for _ in 0..2 {
        let prepare = s.prepare(task);
        assert_eq!(s.says(task, prepare), "prepared");
    }
    for _ in 0..2 {
        assert_eq!(s.says(task, Work::MakeKey), "a key");
    }
}

fn by_itself(s: &mut Scene<'_>) {
    for status in [0, 3] {
        let task = s.prepared(false);
        let started = s.start(task, Agent::Ends(status));
        assert_eq!(s.subject.exit(started), ExitStatus::Code(i32::from(status)));
        for _ in 0..2 {
            assert_eq!(s.says(task, Work::Empty), "emptied");
        }
    }
    // Nothing of it ever ran.
    let task = s.prepared(false);
    assert_eq!(s.says(task, Work::Empty), "emptied");
}

fn asked(s: &mut Scene<'_>) {
    let task = s.prepared(false);
    let started = s.start(task, Agent::Works);
    assert_eq!(s.says(task, Work::Signal { signal: Signal::Interrupt }), "done");
    assert_eq!(s.subject.exit(started), ExitStatus::Code(0));
    // Nobody is there any more to be asked.
    assert_eq!(s.says(task, Work::Signal { signal: Signal::Terminate }), "done");
    assert_eq!(s.says(task, Work::Empty), "emptied");
}

fn by_force(s: &mut Scene<'_>) {
    let task = s.prepared(false);
    let started = s.start(task, Agent::Works);
    assert_eq!(s.says(task, Work::Empty), "emptied");
    assert_eq!(s.subject.exit(started), ExitStatus::Signal(9));
}

fn still(s: &mut Scene<'_>) {
    let task = s.prepared(false);
    let started = s.start(task, Agent::Works);
    for _ in 0..2 {
        assert_eq!(s.says(task, Work::Freeze), "done");
    }
    for _ in 0..2 {
        assert_eq!(s.says(task, Work::Thaw), "done");
    }
    assert_eq!(s.says(task, Work::Freeze), "done");
    // Who stands still can be ended.
    assert_eq!(s.says(task, Work::Empty), "emptied");
    assert_eq!(s.subject.exit(started), ExitStatus::Signal(9));
    assert_eq!(s.says(task, Work::Thaw), "done");
}

fn output(s: &mut Scene<'_>) {
    let task = s.prepared(false);
    let started = s.start(task, Agent::Works);
    let from = s.output_of(task);
    let id = s.ask(task, Work::Read { from });
    // What waits for output that does not come is called off, and answered all the same.
    s.subject.cancel(id);
    assert_eq!(said(&s.subject.answer(id)), "no output");
    s.says(task, Work::Empty);
    s.subject.exit(started);
    assert_eq!(s.says(task, Work::Read { from: 0 }), "output");
    assert_eq!(s.says(task, Work::Delivered { to: 1 }), "done");
    s.subject.crash();
    assert_eq!(s.says(task, Work::Read { from: 0 }), "output");
    assert_eq!(s.left_of(task).map(|left| left.delivered), Some(1));
}

fn messages(s: &mut Scene<'_>) {
    let task = s.prepared(false);
    let started = s.start(task, Agent::Works);
    for n in [1, 1, 2] {
        assert_eq!(s.says(task, Work::Stdin { n, text: format!("{n}\n") }), "done");
    }
    s.says(task, Work::Empty);
    s.subject.exit(started);
    assert_eq!(s.says(task, Work::Stdin { n: 3, text: "3\n".to_owned() }), "failed");
}

fn outlives(s: &mut Scene<'_>) {
    let task = s.prepared(false);
    s.start(task, Agent::Works);
    s.subject.crash();
    assert_eq!(s.left_of(task).map(|left| stage(&left.stage)), Some("started"));
    let found = s.ask(task, Work::Attach);
    assert_eq!(said(&s.subject.answer(found)), "started");
    assert_eq!(s.says(task, Work::Freeze), "done");
    assert_eq!(s.says(task, Work::Thaw), "done");
    assert_eq!(s.says(task, Work::Signal { signal: Signal::Interrupt }), "done");
    assert_eq!(s.subject.exit(found), ExitStatus::Code(0));
    assert_eq!(s.says(task, Work::Empty), "emptied");
}

fn ended_meanwhile(s: &mut Scene<'_>) {
    let task = s.prepared(false);
    let started = s.start(task, Agent::Ends(7));
    s.subject.exit(started);
    for _ in 0..2 {
        s.subject.crash();
        let found = s.ask(task, Work::Attach);
        assert_eq!(said(&s.subject.answer(found)), "started");
        assert_eq!(s.subject.exit(found), ExitStatus::Code(7));
    }
}

fn never_ran(s: &mut Scene<'_>) {
    let task = s.prepared(false);
    s.subject.crash();
    assert_eq!(s.left_of(task).map(|left| stage(&left.stage)), Some("accepted"));
    assert_eq!(s.says(task, Work::Attach), "not started");
    assert_eq!(s.says(task, Work::Empty), "emptied");
}

fn commits(s: &mut Scene<'_>) {
    let task = s.worked(Agent::Ends(0), false);
    for _ in 0..2 {
        let commit = s.commit(task);
        assert_eq!(s.says(task, commit), "no change");
    }
    let task = s.worked(Agent::Writes("1"), false);
    for _ in 0..2 {
        let commit = s.commit(task);
        assert_eq!(s.says(task, commit), "committed");
        s.subject.crash();
    }
}

fn records(s: &mut Scene<'_>) {
    let unknown = s.task(false);
    let task = s.ended();
    for _ in 0..2 {
        assert_eq!(s.says(task, conclude()), "done");
        assert_eq!(s.left_of(task).map(|left| (stage(&left.stage), left.closed)), Some(("ended", false)));
        s.subject.crash();
    }
    for _ in 0..2 {
        assert_eq!(s.says(task, Work::Close), "done");
        assert!(s.left_of(task).is_some_and(|left| left.closed));
        s.subject.crash();
    }
    // It is taken on again by the same id once it was forgotten: nothing is left of its end.
    assert_eq!(s.says(task, Work::Forget), "done");
    assert_eq!(s.says(task, accept(task)), "done");
    assert!(s.left_of(task).is_some_and(|left| left.stage == Stage::Accepted && !left.closed));
    assert!(s.left_of(unknown).is_none());
    // What could not be written down when it was taken on is with its end.
    for _ in 0..2 {
        assert_eq!(s.says(unknown, concluding(Some(spec(unknown)))), "done");
        assert_eq!(s.left_of(unknown).map(|left| stage(&left.stage)), Some("ended"));
        s.subject.crash();
    }
}

fn trash(s: &mut Scene<'_>) {
    let task = s.committed(Agent::Writes("1"), false);
    assert_eq!(s.says(task, Work::Discard), "failed");
    assert_eq!(s.says(task, Work::Forget), "failed");
    assert_eq!(s.says(task, conclude()), "done");
    for _ in 0..2 {
        assert_eq!(s.says(task, Work::Discard), "done");
    }
    assert!(s.left_of(task).is_some());
    for _ in 0..2 {
        assert_eq!(s.says(task, Work::Forget), "done");
        assert!(s.left_of(task).is_none());
    }
    assert_eq!(s.says(task, Work::Expire { before: Millis(1) }), "done");
}

fn room(s: &mut Scene<'_>) {
    let task = s.committed(Agent::Writes("1"), false);
    assert_eq!(s.says(task, Work::Spare), "failed");
    assert_eq!(s.says(task, conclude()), "done");
    for work in [Work::Purge, Work::Spare, Work::Spare, Work::Purge, Work::Purge] {
        assert_eq!(s.says(task, work), "done");
        assert_eq!(s.says(task, Work::Weigh { tasks: vec![task] }), "weighed");
    }
    assert!(s.left_of(task).is_some());
    // Its changes are in no commit.
    let task = s.worked(Agent::Writes("1"), false);
    assert_eq!(s.says(task, conclude()), "done");
    assert_eq!(s.says(task, Work::Spare), "failed");
}

fn over(s: &mut Scene<'_>) {
    let task = s.committed(Agent::Writes("1"), false);
    for deed in [Deed::Branch, Deed::Branch, Deed::Merge, Deed::Merge] {
        let deliver = s.deliver(task, deed);
        assert_eq!(s.says(task, deliver), "delivered");
    }
    let to = s.subject.beside();
    for _ in 0..2 {
        let clone = Work::Clone { to: to.clone(), branch: branch(task) };
        assert_eq!(s.says(task, clone), "cloned");
    }
    assert_eq!(s.says(task, Work::Look { path: s.subject.repository() }), "there");
}
