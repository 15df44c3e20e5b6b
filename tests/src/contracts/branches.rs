//! Merging the branches of subtasks.

use makima_core::effect::{Merge, Side, Source, Work};
use makima_core::id::TaskId;

use super::{Agent, Contract, Scene, child, merging};

pub(super) const CONTRACTS: &[Contract] = &[
    ("branches are told with what became of them", told),
    ("a branch is merged and committed", merged),
    ("files in conflict are settled", settled),
    ("a merge is called off", called_off),
    ("one merge after the other", one_by_one),
    ("what is in the way of a merge is named and left", in_the_way),
    ("a conflict is called off", conflict_called_off),
    ("what was squashed is merged", squashed),
    ("what changed nothing is merged, and what is in no commit is not", unchanged_or_lost),
    ("who is meant not to be merged is written down", skipped),
];

fn status() -> Work {
    Work::Merge(Merge::Status)
}

fn commit() -> Work {
    Work::Merge(Merge::Commit { message: None, trailers: Vec::new() })
}

fn resolve(file: &str) -> Work {
    Work::Merge(Merge::Resolve { file: file.to_owned(), side: Side::Ours })
}

fn told(s: &mut Scene<'_>) {
    let children = [
        child(s.committed(Agent::Ends(0), false), true),
        child(s.committed(Agent::Writes("1"), false), true),
        child(s.prepared(false), false),
    ];
    let task = s.prepared(false);
    let list = || Work::Merge(Merge::List { children: children.to_vec() });
    assert_eq!(s.says(task, list()), "branches: merged, open, open");
    assert_eq!(s.says(task, merging(children[1].task)), "open");
    assert_eq!(s.says(task, list()), "branches: merged, open, open; one is being merged");
    assert_eq!(s.says(task, commit()), "merge committed");
    assert_eq!(s.says(task, list()), "branches: merged, merged, open");
    s.subject.crash();
    assert_eq!(s.says(task, list()), "branches: merged, merged, open");
}

fn merged(s: &mut Scene<'_>) {
    let one = s.committed(Agent::Writes("1"), false);
    let task = s.prepared(false);
    assert_eq!(s.says(task, status()), "no merge");
    assert_eq!(s.says(task, commit()), "no merge");
    for _ in 0..2 {
        assert_eq!(s.says(task, merging(one)), "open");
        assert_eq!(s.says(task, status()), "open");
        s.subject.crash();
    }
    for _ in 0..2 {
        assert_eq!(s.says(task, commit()), "merge committed");
        assert_eq!(s.says(task, status()), "no merge");
        s.subject.crash();
    }
    assert_eq!(s.says(task, merging(one)), "merged already");
}

fn settled(s: &mut Scene<'_>) {
    let (one, other) = (s.committed(Agent::Writes("1"), false), s.committed(Agent::Writes("2"), true));
    let task = s.prepared(false);
    assert_eq!(s.says(task, merging(one)), "open");
    assert_eq!(s.says(task, commit()), "merge committed");
    for _ in 0..2 {
        assert_eq!(s.says(task, merging(other)), "in conflict: x");
        assert_eq!(s.says(task, commit()), "in conflict: x");
        s.subject.crash();
    }
    assert_eq!(s.says(task, resolve("y")), "no conflict there");
    assert_eq!(s.says(task, resolve("x")), "open");
    assert_eq!(s.says(task, resolve("x")), "no conflict there");
    assert_eq!(s.says(task, commit()), "merge committed");
    assert_eq!(s.says(task, resolve("x")), "no merge");
}

fn called_off(s: &mut Scene<'_>) {
    let one = s.committed(Agent::Writes("1"), false);
    let task = s.prepared(false);
    assert_eq!(s.says(task, Work::Merge(Merge::Abort)), "no merge");
    for _ in 0..2 {
        assert_eq!(s.says(task, merging(one)), "open");
        assert_eq!(s.says(task, Work::Merge(Merge::Abort)), "aborted");
        assert_eq!(s.says(task, status()), "no merge");
    }
}

fn one_by_one(s: &mut Scene<'_>) {
    let (one, other) = (s.committed(Agent::Writes("1"), false), s.committed(Agent::Writes("2"), true));
    let task = s.prepared(false);
    assert_eq!(s.says(task, merging(one)), "open");
    assert_eq!(s.says(task, merging(other)), "busy");
    let nobody = Work::Merge(Merge::Start { source: Source::Branch("nobody".to_owned()) });
    assert_eq!(s.says(task, Work::Merge(Merge::Abort)), "aborted");
    assert_eq!(s.says(task, nobody), "no such branch");
    // One that was taken on and has no worktree merges nothing.
    let bare = s.accepted(false);
    assert_eq!(s.says(bare, status()), "failed");
}

fn list(children: &[TaskId]) -> Work {
    Work::Merge(Merge::List { children: children.iter().map(|task| child(*task, true)).collect() })
}

fn in_the_way(s: &mut Scene<'_>) {
    let (one, task) = (s.committed(Agent::Writes("1"), false), s.worked(Agent::Writes("2"), false));
    for _ in 0..2 {
        assert_eq!(s.says(task, merging(one)), "in the way: x");
        assert_eq!(s.says(task, status()), "no merge");
        assert_eq!(s.says(task, list(&[one])), "branches: open");
        s.subject.crash();
    }
}

fn conflict_called_off(s: &mut Scene<'_>) {
    let (one, other) = (s.committed(Agent::Writes("1"), false), s.committed(Agent::Writes("2"), true));
    let task = s.prepared(false);
    assert_eq!(s.says(task, merging(one)), "open");
    assert_eq!(s.says(task, commit()), "merge committed");
    for _ in 0..2 {
        assert_eq!(s.says(task, merging(other)), "in conflict: x");
        s.subject.crash();
        assert_eq!(s.says(task, Work::Merge(Merge::Abort)), "aborted");
        assert_eq!(s.says(task, status()), "no merge");
        assert_eq!(s.says(task, list(&[one, other])), "branches: merged, open");
    }
}

fn squashed(s: &mut Scene<'_>) {
    let (one, other) = (s.committed(Agent::Writes("1"), false), s.committed(Agent::Writes("2"), true));
    // Whoever squashed it has committed just what was done there.
    let task = s.committed(Agent::Writes("1"), false);
    for _ in 0..2 {
        assert_eq!(s.says(task, list(&[one, other])), "branches: merged, open");
        assert_eq!(s.says(task, merging(one)), "merged already");
        assert_eq!(s.says(task, status()), "no merge");
        s.subject.crash();
    }
}

fn unchanged_or_lost(s: &mut Scene<'_>) {
    let (unchanged, never) = (s.committed(Agent::Ends(0), false), s.prepared(false));
    let lost = s.worked(Agent::Writes("1"), false);
    let task = s.prepared(false);
    for _ in 0..2 {
        assert_eq!(s.says(task, list(&[unchanged, never, lost])), "branches: merged, merged, open");
        assert_eq!(s.says(task, merging(unchanged)), "merged already");
        assert_eq!(s.says(task, merging(never)), "merged already");
        assert_eq!(s.says(task, merging(lost)), "failed");
        assert_eq!(s.says(task, status()), "no merge");
        s.subject.crash();
    }
}

fn skipped(s: &mut Scene<'_>) {
    let one = s.committed(Agent::Writes("1"), false);
    let task = s.prepared(false);
    let skip = |child| Work::Merge(Merge::Skip { child, reason: "a dead end".to_owned() });
    for _ in 0..2 {
        assert_eq!(s.says(task, skip(child(one, true))), "skipped");
    }
    let mut stranger = child(s.task(false), true);
    stranger.branch = None;
    assert_eq!(s.says(task, skip(stranger)), "no such branch");
    s.subject.crash();
    let left = s.left_of(task).map(|left| left.skipped);
    assert_eq!(left, Some(vec![(one, "a dead end".to_owned())]));
}
