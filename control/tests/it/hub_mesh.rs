//! Tasks that lead others, in the pure hub: their keys, what is below them, and what they may ask for.

use makima_control::hub::{Answer, Bounds, Effect, Hub, Input, Kin, Record, Said, SessionId, Snapshot};
use makima_core::effect::Way;
use makima_core::protocol::{
    DaemonCommand, DaemonMessage, Hello, InjectSiblingContext, RegisterToolKey, RevokeToolKey, SpawnTask, Wire,
};
use uuid::Uuid;

use crate::common::{complete, progress};
use crate::hub::{Bench, spawn, task};

fn register(id: Uuid, key: &str) -> DaemonMessage {
    RegisterToolKey { task_id: id, key: key.to_owned() }.into()
}

fn child(n: u128, parent: u128, depth: i32) -> SpawnTask {
    SpawnTask { parent_task_id: Some(task(parent)), depth, ..spawn(n) }
}

fn delegate(bench: &mut Bench, parent: u128, asked: SpawnTask, after: Vec<Uuid>, bounds: Bounds) -> Answer {
    bench.put(Input::Delegate { parent: task(parent), spawn: Box::new(asked), after, bounds });
    bench.answer
}

/// What a file would have of all that was recorded.
fn kept(effects: &[Effect]) -> Snapshot {
    let mut kept = Snapshot::default();
    for effect in effects {
        if let Effect::Record(record) = effect {
            kept.keep(record.clone());
        }
    }
    kept
}

/// What the last step told of siblings.
fn told(bench: &Bench) -> Vec<InjectSiblingContext> {
    let words = |effect: &Effect| {
        let Effect::Send { command, .. } = effect else { return None };
        let DaemonCommand::InjectSiblingContext(body) = &**command else { return None };
        Some(body.clone())
    };
    bench.out.iter().filter_map(words).collect()
}

/// Task 1 with children 2 and 3, of which 3 has a child 4; and task 5 of its own.
fn tree() -> Bench {
    let mut bench = Bench::new();
    bench.connect(1, "a", 9).create(spawn(1)).create(child(2, 1, 1)).create(child(3, 1, 1)).create(child(4, 3, 2));
    bench.create(spawn(5));
    bench
}

/// Protects tasks from whoever has a key of another's: it speaks for its task, from when that is told until its end.
#[test]
fn a_key_is_its_tasks_until_it_is_void() {
    let mut bench = tree();
    assert_eq!(bench.hub.task_of_key("k"), None);
    assert_eq!(bench.say(1, register(task(1), "k")).answer, Answer::Done);
    assert_eq!(bench.hub.task_of_key("k"), Some(task(1)));
    bench.say(1, register(task(1), "new"));
    assert_eq!((bench.hub.task_of_key("k"), bench.hub.task_of_key("new")), (None, Some(task(1))), "one key a task");
    bench.say(1, RevokeToolKey { task_id: task(1) }.into());
    assert_eq!(bench.hub.task_of_key("new"), None);
    bench.say(1, register(task(1), "last")).say(1, complete(task(1), None));
    assert_eq!(bench.hub.task_of_key("last"), None, "its end takes it away");
    bench.say(1, register(task(1), "late"));
    assert_eq!((bench.hub.task_of_key("late"), bench.hub.ignored().late), (None, 1));
}

/// Protects tasks from daemons that do not have them.
#[test]
fn only_the_daemon_that_has_a_task_tells_its_key() {
    let mut bench = tree();
    bench.connect(2, "b", 9).say(2, register(task(1), "k")).say(1, register(task(99), "k"));
    assert_eq!(bench.hub.task_of_key("k"), None);
    let ignored = bench.hub.ignored();
    assert_eq!((ignored.foreign, ignored.unknown), (1, 1));
    bench.say(1, register(task(1), "k")).say(2, RevokeToolKey { task_id: task(1) }.into());
    assert_eq!(bench.hub.task_of_key("k"), Some(task(1)));
}

/// Protects tasks from keys that anybody could show, or that would speak for two.
#[test]
fn a_key_that_is_empty_or_another_tasks_is_not_taken() {
    let mut bench = tree();
    bench.say(1, register(task(1), "k"));
    for (n, key) in [(2, "k"), (2, ""), (2, &"k".repeat(1_000))] {
        assert_eq!(bench.say(1, register(task(n), key)).answer, Answer::Ignored);
    }
    assert_eq!(bench.hub.task_of_key("k"), Some(task(1)));
    assert_eq!(bench.hub.task_of_key(""), None);
    assert_eq!(bench.hub.ignored().unused, 3);
}

/// Protects keys from logs and files: nothing that is shown or kept has them.
#[test]
fn a_key_is_kept_nowhere() {
    let mut bench = tree();
    bench.say(1, register(task(1), "hunter2"));
    assert!(bench.out.is_empty());
    assert!(!format!("{:?}", bench.hub).contains("hunter2"));
}

/// Protects an agent whose server is started again: its key is void until its daemon is back, and good after that; and one
/// whose daemon's link only broke, whose key stays.
#[test]
fn a_key_is_told_again_in_a_new_session() {
    let mut bench = Bench::new();
    let mut all = bench.connect(1, "a", 4).out.clone();
    all.extend(bench.create(spawn(1)).out.clone());
    bench.say(1, register(task(1), "k")).connect(2, "a", 4);
    assert_eq!(bench.hub.task_of_key("k"), Some(task(1)));
    bench.hub = Hub::restore(kept(&all));
    assert_eq!(bench.hub.task_of_key("k"), None);
    bench.connect(3, "a", 4).say(3, register(task(1), "k"));
    assert_eq!(bench.hub.task_of_key("k"), Some(task(1)));
}

/// Protects daemons of version 2 from being heard differently: their numbered message is the same.
#[test]
fn a_key_is_told_under_a_number_too() {
    let mut bench = Bench::new();
    bench.create(spawn(1)).put(Input::Connected {
        session: SessionId(1),
        fresh: Uuid::from_u128(1),
        machine: "a".to_owned(),
        hostname: String::new(),
        max_tasks: 4,
        wire: Wire::Two,
        way: Way::LongPoll,
    });
    let hello = Some(Hello { epoch: 3, of: 0, applied: 0, tasks: Vec::new() });
    bench.put(Input::Said { session: SessionId(1), said: Box::new(Said { hello, ..Said::default() }) });
    let said = Said { seq: Some(1), body: Some(register(task(1), "k")), ..Said::default() };
    bench.put(Input::Said { session: SessionId(1), said: Box::new(said) });
    assert_eq!(bench.hub.task_of_key("k"), Some(task(1)));
}

/// Protects everything that is not a task's: below it are its children, theirs, and nothing else.
#[test]
fn below_a_task_are_its_children_and_theirs() {
    let bench = tree();
    assert_eq!(bench.hub.children(task(1)), [task(2), task(3)]);
    assert_eq!(bench.hub.below(task(1)), [task(2), task(3), task(4)]);
    assert!(bench.hub.below(task(4)).is_empty());
    for (n, of, kin) in [
        (1, 1, Kin::Itself),
        (2, 1, Kin::Below),
        (4, 1, Kin::Below),
        (4, 3, Kin::Below),
        (1, 2, Kin::Neither),
        (4, 2, Kin::Neither),
        (3, 2, Kin::Neither),
        (5, 1, Kin::Neither),
        (99, 1, Kin::Neither),
        (99, 99, Kin::Neither),
    ] {
        assert_eq!(bench.hub.kin(task(n), task(of)), kin, "{n} of {of}");
    }
}

/// Protects the server from people who make two tasks each other's: nobody climbs for ever.
#[test]
fn a_circle_of_parents_comes_to_an_end() {
    let mut bench = Bench::new();
    bench.connect(1, "a", 4).create(child(1, 2, 0)).create(child(2, 1, 0)).create(child(3, 3, 0));
    assert_eq!(bench.hub.below(task(1)), [task(2)]);
    assert_eq!(bench.hub.kin(task(1), task(1)), Kin::Itself);
    assert_eq!(bench.hub.kin(task(5), task(1)), Kin::Neither);
    assert!(bench.hub.below(task(3)).is_empty());
    assert_eq!(delegate(&mut bench, 1, spawn(4), Vec::new(), Bounds::default()), Answer::Done);
    assert_eq!(delegate(&mut bench, 3, spawn(5), Vec::new(), Bounds::default()), Answer::Done);
}

/// Protects trees over a restart: who is whose, also of those that have ended, and what they have cost.
#[test]
fn a_tree_is_known_after_a_restart() {
    let mut bench = Bench::new();
    let mut all = bench.connect(1, "a", 9).out.clone();
    for one in [spawn(1), child(2, 1, 1), child(3, 2, 2)] {
        all.extend(bench.create(one).out.clone());
    }
    let step = "turn over (1 tokens read, 2 written; $0.7000 so far)";
    all.extend(bench.say(1, progress(task(2), step)).out.clone());
    all.extend(bench.say(1, complete(task(2), None)).out.clone());
    bench.hub = Hub::restore(kept(&all));
    assert_eq!(bench.hub.below(task(1)), [task(2), task(3)]);
    assert!(bench.hub.has_ended(task(2)) && !bench.hub.has_ended(task(3)));
    let bounds = |max_cost| Bounds { max_cost: Some(max_cost), ..Bounds::default() };
    assert_eq!(delegate(&mut bench, 1, spawn(4), Vec::new(), bounds(700_000)), Answer::OverBudget);
    assert_eq!(delegate(&mut bench, 1, spawn(4), Vec::new(), bounds(700_001)), Answer::Done);
}

/// Protects what a task may not choose for those below it: where they go, and what is done with their work.
#[test]
fn a_subtask_has_its_place_and_its_repository_from_its_parent() {
    let mut bench = Bench::new();
    let of = SpawnTask { repo_url: Some("https://u:p@h/r".to_owned()), depth: 1, ..spawn(1) };
    bench.connect(1, "a", 4).create(of);
    let asked = SpawnTask {
        base_branch: Some("b".to_owned()),
        is_orchestrator: true,
        copy_files: Some(vec!["f".to_owned()]),
        repo_url: Some("https://elsewhere".to_owned()),
        parent_task_id: Some(task(9)),
        depth: -7,
        completion_action: Some("pr".to_owned()),
        target_repo_path: Some("/etc".to_owned()),
        target_branch: Some("main".to_owned()),
        continue_from_task_id: Some(task(9)),
        ..spawn(2)
    };
    assert_eq!(delegate(&mut bench, 1, asked, Vec::new(), Bounds::default()), Answer::Done);
    let expected = SpawnTask {
        base_branch: Some("b".to_owned()),
        is_orchestrator: true,
        copy_files: Some(vec!["f".to_owned()]),
        repo_url: Some("https://u:p@h/r".to_owned()),
        parent_task_id: Some(task(1)),
        depth: 2,
        completion_action: Some("none".to_owned()),
        ..spawn(2)
    };
    let made = bench.out.iter().find_map(|effect| {
        let Effect::Record(Record::Task { spawn, .. }) = effect else { return None };
        Some(SpawnTask::clone(spawn))
    });
    assert_eq!(made, Some(expected));
    assert_eq!(delegate(&mut bench, 1, spawn(2), Vec::new(), Bounds::default()), Answer::Known);
}

/// Protects other trees from being waited for, and a tree from what has ended or never was.
#[test]
fn a_subtask_needs_only_what_is_below_its_parent() {
    let mut bench = tree();
    let mut ask = |parent, n, after: &[u128]| {
        delegate(&mut bench, parent, spawn(n), after.iter().map(|n| task(*n)).collect(), Bounds::default())
    };
    for need in [1, 5, 99] {
        assert_eq!(ask(1, 6, &[2, need]), Answer::NoSuchNeed(task(need)));
    }
    assert_eq!(ask(3, 6, &[2]), Answer::NoSuchNeed(task(2)), "a sibling of the parent's");
    assert_eq!(ask(1, 6, &[6]), Answer::NeedsItself);
    assert_eq!(ask(1, 6, &[2, 4]), Answer::Done);
    assert_eq!(ask(99, 7, &[]), Answer::NoSuchTask);
    bench.say(1, complete(task(3), None));
    assert_eq!(delegate(&mut bench, 3, spawn(7), Vec::new(), Bounds::default()), Answer::Ended);
}

/// Protects tasks whose parent is not there from whoever has a key and takes that one's id.
#[test]
fn nobody_becomes_the_parent_of_tasks_that_are_there() {
    let mut bench = tree();
    bench.create(child(6, 9, 0));
    assert_eq!(delegate(&mut bench, 1, spawn(9), Vec::new(), Bounds::default()), Answer::Known);
    assert_eq!(bench.hub.kin(task(6), task(1)), Kin::Neither);
    assert_eq!(bench.hub.below(task(1)), [task(2), task(3), task(4)]);
}

/// Protects a person's machine and money from trees that grow without an end.
#[test]
fn a_tree_keeps_to_its_bounds() {
    let mut bench = tree();
    let small = Bounds { max_depth: 2, max_subtasks: 5, max_cost: Some(1_000_000) };
    assert_eq!(delegate(&mut bench, 4, spawn(10), Vec::new(), small), Answer::TooDeep);
    bench.say(1, complete(task(2), None));
    assert_eq!(delegate(&mut bench, 3, spawn(10), Vec::new(), small), Answer::Done);
    assert_eq!(delegate(&mut bench, 1, spawn(11), Vec::new(), small), Answer::Done);
    assert_eq!(
        delegate(&mut bench, 3, spawn(12), Vec::new(), small),
        Answer::TooManySubtasks,
        "those that ended count"
    );
    assert_eq!(
        delegate(&mut bench, 3, spawn(10), Vec::new(), small),
        Answer::Known,
        "what is there already is no more"
    );
    let large = Bounds { max_subtasks: 64, ..small };
    for (n, cost) in [(1, "0.4000"), (4, "0.2000"), (3, "0.3999"), (5, "9.0000")] {
        bench.say(1, progress(task(n), &format!("turn over (0 tokens read, 0 written; ${cost} so far)")));
    }
    assert_eq!(delegate(&mut bench, 1, spawn(12), Vec::new(), large), Answer::Done);
    bench.say(1, progress(task(3), "turn failed: no (0 tokens read, 0 written; $0.4000 so far)"));
    assert_eq!(delegate(&mut bench, 3, spawn(13), Vec::new(), large), Answer::OverBudget, "all of the tree's");
    assert_eq!(delegate(&mut bench, 3, spawn(13), Vec::new(), Bounds { max_cost: None, ..large }), Answer::Done);
}

/// Protects agents that work side by side from not knowing what the others have done.
#[test]
fn siblings_that_are_under_way_hear_of_an_end() {
    let mut bench = tree();
    bench.create(child(6, 1, 1)).say(1, complete(task(6), None));
    assert_eq!(told(&bench), [], "a script reads lines for what it asks for itself");
    for n in [2, 3] {
        bench.say(1, progress(task(n), "agent: I begin"));
    }
    bench.create(child(8, 1, 1)).say(1, complete(task(8), None));
    let context = |to, of: u128, status: &str, summary: Option<&str>| InjectSiblingContext {
        task_id: task(to),
        sibling_task_id: task(of),
        sibling_name: format!("Task {of}"),
        sibling_status: status.to_owned(),
        progress_summary: summary.map(str::to_owned),
        changed_files: Vec::new(),
    };
    assert_eq!(told(&bench), [context(2, 8, "done", None), context(3, 8, "done", None)]);
    bench.say(1, progress(task(2), "committed 1 on b")).say(1, progress(task(2), "committed 2 on b"));
    bench.say(1, progress(task(2), "agent: committed 3")).say(1, complete(task(2), Some("no")));
    assert_eq!(told(&bench), [context(3, 2, "failed", Some("committed 2 on b"))]);
    bench.create(child(7, 3, 2)).say(1, progress(task(7), "tool: Read")).say(1, complete(task(4), Some("out of luck")));
    assert_eq!(told(&bench), [context(7, 4, "failed", Some("out of luck"))]);
    bench.say(1, complete(task(5), None));
    assert_eq!(told(&bench), [], "it has no parent");
}

/// Protects siblings from a restart in between: what was committed is known still, and they hear of an end that no daemon tells.
#[test]
fn what_was_committed_outlives_a_restart() {
    let mut bench = Bench::new();
    let mut all = bench.connect(1, "a", 9).out.clone();
    for one in [spawn(1), child(2, 1, 1), child(3, 1, 1)] {
        all.extend(bench.create(one).out.clone());
    }
    all.extend(bench.say(1, progress(task(2), "committed 1 on b")).out.clone());
    all.extend(bench.say(1, progress(task(3), "tool: Read: x")).out.clone());
    bench.hub = Hub::restore(kept(&all));
    bench.connect(2, "a", 9).say(2, complete(task(2), None));
    assert_eq!(told(&bench)[0].progress_summary.as_deref(), Some("committed 1 on b"));
    let waits = Input::Create { spawn: Box::new(child(4, 1, 1)), after: vec![task(3)] };
    bench.put(waits).put(Input::Interrupt { task: task(4), graceful: true });
    let [told] = &told(&bench)[..] else { panic!() };
    assert_eq!((told.task_id, told.sibling_status.as_str()), (task(3), "interrupted"));
}
