//! Where a task's work starts, and what is brought along to it.

use makima_core::effect::{Copy, Start, Work};
use makima_core::id::TaskId;
use makima_core::policy::InnerPath;

use super::{Agent, Contract, Scene};

pub(super) const CONTRACTS: &[Contract] = &[
    ("work starts at a branch, a tag or a commit that is there, and nowhere else", named),
    ("work starts at its parent's last commit, where there is one", below),
    ("another task's work is gone on with, also what is in no commit", gone_on_with),
    ("files of another task are brought along, and are nobody's change", brought),
];

fn at(name: &str) -> Start {
    Start::At(name.to_owned())
}

fn named(s: &mut Scene<'_>) {
    let (first, said) = s.begun(Start::Default, None);
    assert_eq!(said, "prepared");
    let base = s.bases[&first].clone();
    for name in ["main", "first", &base] {
        let (task, said) = s.begun(at(name), None);
        assert_eq!((said.as_str(), &s.bases[&task]), ("prepared", &base));
    }
    for name in ["nobody", "no/such/tag", &"1".repeat(40)] {
        let (task, said) = s.begun(at(name), None);
        assert_eq!(said, "failed");
        // Nothing is in the way of another try.
        let prepare = s.prepare_at(task, at("main"), None);
        assert_eq!(s.says(task, prepare), "prepared");
    }
}

fn below(s: &mut Scene<'_>) {
    let parent = s.prepared(false);
    let base = s.bases[&parent].clone();
    let (child, said) = s.begun(Start::Parent(parent), None);
    assert_eq!((said.as_str(), &s.bases[&child]), ("prepared", &base));
    assert_eq!(s.works(parent, Agent::Writes("1")), "committed");
    s.subject.crash();
    let (child, said) = s.begun(Start::Parent(parent), None);
    assert_eq!(said, "prepared");
    assert_ne!(s.bases[&child], base);
    // What the parent has done is none of its own.
    assert_eq!(s.works(child, Agent::Ends(0)), "no change");
    let nobody = s.task(false);
    let (child, said) = s.begun(Start::Parent(nobody), None);
    assert_eq!((said.as_str(), &s.bases[&child]), ("prepared", &base));
}

fn gone_on_with(s: &mut Scene<'_>) {
    let nobody = s.accepted(false);
    let (_, said) = s.begun(Start::Continue(nobody), None);
    assert_eq!(said, "failed");
    let other = s.worked(Agent::Writes("1"), false);
    let base = s.bases[&other].clone();
    let (task, said) = s.begun(Start::Continue(other), None);
    assert_eq!((said.as_str(), &s.bases[&task]), ("prepared", &base));
    // Its files are in no commit, there and here.
    assert_eq!(s.works(task, Agent::Ends(0)), "committed");
    let commit = s.commit(other);
    assert_eq!(s.says(other, commit), "committed");
    let (task, said) = s.begun(Start::Continue(other), None);
    assert_eq!(said, "prepared");
    assert_ne!(s.bases[&task], base);
    assert_eq!(s.works(task, Agent::Ends(0)), "no change");
}

fn brought(s: &mut Scene<'_>) {
    let copy = |from: TaskId, path: &str| InnerPath::read(path).map(|path| Copy { from, paths: vec![path] }).ok();
    let other = s.worked(Agent::Writes("1"), false);
    let (task, said) = s.begun(Start::Default, copy(other, "x"));
    assert_eq!(said, "prepared");
    assert_eq!(s.works(task, Agent::Ends(0)), "no change");
    let nobody = s.accepted(false);
    for copy in [copy(other, "nothing"), copy(nobody, "x")] {
        let (task, said) = s.begun(Start::Default, copy);
        assert_eq!(said, "prepared, and a note");
        assert_eq!(s.says(task, Work::Empty), "emptied");
    }
}
