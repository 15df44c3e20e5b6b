//! Work that is checked and handed over, and what is refused of that.

use makima_core::effect::{Check, Deed, Work};

use super::{Agent, Contract, Scene};

pub(super) const CONTRACTS: &[Contract] = &[
    ("work is checked, up to the first check that fails", checked),
    ("what cannot be handed over is refused, and can be later", refused),
    ("where there is no work, none is handed over", nothing),
    ("work that is in no commit is committed when it is handed over", lost),
];

fn checked(s: &mut Scene<'_>) {
    let task = s.committed(Agent::Writes("1"), false);
    let check = |commands: &[&str]| {
        let commands = commands.iter().map(|command| (*command).to_owned()).collect();
        Work::Check(Box::new(Check { commands, env: Vec::new() }))
    };
    for _ in 0..2 {
        assert_eq!(s.says(task, check(&["true", "true"])), "checked");
        assert_eq!(s.says(task, check(&["true", "false", "true"])), "checked, and failed");
        s.subject.crash();
    }
}

fn refused(s: &mut Scene<'_>) {
    let task = s.committed(Agent::Writes("1"), false);
    let (target, nowhere) = (s.subject.repository(), s.subject.beside());
    assert_eq!(s.says(task, Work::Look { path: nowhere.clone() }), "not there");
    for deed in [Deed::Branch, Deed::Merge] {
        let deliver = s.deliver_to(task, deed, &nowhere, None);
        assert_eq!(s.says(task, deliver), "failed");
    }
    let deliver = s.deliver_to(task, Deed::Merge, &target, Some("nobody"));
    assert_eq!(s.says(task, deliver), "failed");
    assert_eq!(s.says(task, Work::Look { path: nowhere }), "not there");
    for deed in [Deed::Branch, Deed::Merge] {
        let deliver = s.deliver_to(task, deed, &target, Some("main"));
        assert_eq!(s.says(task, deliver), "delivered");
    }
}

fn nothing(s: &mut Scene<'_>) {
    let (ended, never) = (s.committed(Agent::Ends(0), false), s.accepted(false));
    for task in [ended, never] {
        for deed in [Deed::Branch, Deed::Merge, Deed::Pr] {
            let deliver = s.deliver(task, deed);
            assert_eq!(s.says(task, deliver), "no changes");
        }
        s.subject.crash();
    }
}

fn lost(s: &mut Scene<'_>) {
    let task = s.worked(Agent::Writes("1"), false);
    for _ in 0..2 {
        let deliver = s.deliver(task, Deed::Branch);
        assert_eq!(s.says(task, deliver), "delivered");
        s.subject.crash();
    }
    let commit = s.commit(task);
    assert_eq!(s.says(task, commit), "committed");
    let deliver = s.deliver(task, Deed::Branch);
    assert_eq!(s.says(task, deliver), "delivered");
}
