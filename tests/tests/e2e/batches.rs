//! `makima run --tasks`: a file of tasks, each after those that it names.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Place, Repo, SOON};

/// Writes a file of tasks beside the repository, and runs it there.
fn run(place: &Place, repo: &Repo, text: &str, more: &[&str]) -> crate::support::Call {
    let file = place.path("tasks.toml");
    fs::write(&file, text).expect("a file");
    place.run(repo, &[&["--tasks", file.to_str().expect("a plain path")], more].concat())
}

/// Protects the main use: all tasks of a file, in their order, each with a branch of its own and a line in the table.
#[test]
fn the_tasks_of_a_file_are_run_in_their_order() {
    let place = Place::new();
    let repo = place.repo();
    fs::write(place.path("last.sh"), "test -e go.b && echo last > last").expect("a plan");
    let seen = place.path("seen");
    let plan =
        |name: &str| format!("echo {name} >> {0}; echo hello from {name}; echo {name} > go.{name}", seen.display());
    let text = format!(
        "[[task]]\nname = \"c\"\nplan = '{}'\nafter = [\"a\", \"b\"]\n\n[[task]]\nname = \"a\"\nplan = '{}'\n\n\
         [[task]]\nname = \"b\"\nplan = '''{}'''\nafter = [\"a\"]\non_complete = \"none\"\n\n\
         [[task]]\nname = \"not there\"\nplan_file = \"last.sh\"\nafter = [\"c\"]\n",
        plan("c"),
        plan("a"),
        plan("b"),
    );
    // The last one fails: each starts where the repository stands, and not where another has left off.
    let done = run(&place, &repo, &text, &[]).done().code(1);
    assert_eq!(fs::read_to_string(&seen).expect("it was written"), "a\nb\nc\n");
    let mut lines: Vec<&str> = done.out().lines().map(|line| line.to_owned().leak() as &str).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a | hello from a", "b | hello from b", "c | hello from c"]);
    let branches = repo.branches();
    assert_eq!(branches.len(), 2, "{branches:?}");
    let err = done.err();
    let (_, table) = err.split_once("TASK ").expect("a table");
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).expect("a row").to_owned();
    assert!(row("a").contains("done") && row("a").contains("makima/a-"), "{table}");
    assert!(row("not there").contains("failed") && row("not there").contains("exit code 1"), "{table}");
    assert!(err.contains("1 of 4 tasks did not end well"), "{err}");
    place.assert_nothing_runs();
}

/// Protects tasks from being begun in vain, and scripts that read what became of each.
#[test]
fn what_needs_a_task_that_failed_is_not_begun() {
    let place = Place::new();
    let repo = place.repo();
    let text = "on_complete = 'none'\n[[task]]\nname = 'a'\nplan = 'exit 3'\n[[task]]\nname = 'b'\nplan = 'echo never'\n\
        after = ['a']\n[[task]]\nname = 'c'\nplan = 'echo never'\nafter = ['b']\n[[task]]\nname = 'd'\nplan = 'echo d'\n";
    let done = run(&place, &repo, text, &["--json"]).done().code(1);
    let values: Vec<Value> =
        done.out().lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let (summary, events) = values.split_last().expect("a summary");
    assert_eq!(summary["type"], "summary");
    let error = |name: &str| {
        let task = summary["tasks"].as_array().expect("tasks").iter().find(|task| task["name"] == name);
        task.expect("the task")["error"].clone()
    };
    assert_eq!(error("a"), "the script ended with exit code 3");
    assert_eq!((error("b"), error("c")), (json!("needs `a`, which failed"), json!("needs `b`, which failed")));
    assert_eq!(error("d"), json!(null));
    let output: Vec<_> = events.iter().filter(|event| event["type"] == "output").collect();
    assert!(output.len() == 1 && output[0]["name"] == "d" && output[0]["text"] == "d\n", "{output:?}");
    assert_eq!(events.iter().filter(|event| event["type"] == "end").count(), 4);
}

/// Protects people from half a night's work: the whole file is looked at before anything is started.
#[test]
fn nothing_is_started_where_anything_is_wrong() {
    let place = Place::new();
    let repo = place.repo();
    let good = "[[task]]\nname = 'good'\nplan = 'true'\n\n";
    for (text, parts) in [
        ("[[task]]\nname = 'x'\nplan = 'true'\nafter = ['good', 'god']\n", ["line 8", "no task is named `god`"]),
        ("[[task]]\nname = 'good'\nplan = 'true'\n", ["line 6", "stands twice"]),
        ("[[task]]\nname = 'x'\nplan = 'true'\nplanet = 1\n", ["line 8", "unknown field"]),
        (
            "[[task]]\nname = 'x'\nplan = 'true'\nbase = 'nowhere'\n",
            ["line 5: `x`", "no branch, tag or commit `nowhere`"],
        ),
        ("[[task]]\nname = 'x'\nplan = 'true'\nrepo = 'nowhere'\n", ["line 5: `x`", "there is nothing at"]),
        (
            "[[task]]\nname = 'x'\nplan = 'true'\nrepo = 'https://host/x'\non_complete = 'merge'\n",
            ["line 5: `x`", "on this machine"],
        ),
    ] {
        let done = run(&place, &repo, &format!("{good}{text}"), &[]).done().code(2);
        drop(done.noted(&parts));
    }
    drop(place.run(&repo, &["--tasks", "/no/such.toml"]).done().code(2).noted(&["/no/such.toml cannot be read"]));
    drop(place.run(&repo, &["--tasks", "x.toml", "and a plan"]).done().code(2).noted(&["cannot be used with"]));
    assert!(!place.home().join("control.db").exists(), "nothing was started");
}

/// Protects what agents have done from a person who wants the end: it is committed, and nothing else is begun.
#[test]
fn an_interruption_ends_all_tasks_and_keeps_their_work() {
    let place = Place::new();
    let repo = place.repo();
    let text = "[[task]]\nname = 'a'\nplan = 'echo a > a; echo up; while :; do sleep 0.05; done'\n[[task]]\nname = 'b'\n\
        plan = 'echo b > b; echo up; while :; do sleep 0.05; done'\n[[task]]\nname = 'c'\nplan = 'echo never'\nafter = ['a']\n";
    let run = run(&place, &repo, text, &[]).start();
    run.says("a | up");
    run.says("b | up");
    run.signal(Signal::INT);
    run.notes("interrupting the tasks");
    let done = run.wait(SOON).code(130);
    assert!(!done.out().contains("never"));
    let err = done.err();
    let (_, table) = err.split_once("TASK ").expect("a table");
    assert_eq!(table.matches(" interrupted ").count(), 3, "{table}");
    let branches = repo.branches();
    assert_eq!(branches.len(), 2, "what was done is committed: {branches:?}");
    place.assert_nothing_runs();
}

/// Protects whoever wants the work where it belongs: `--on-complete merge` has it in the branch that is checked out.
#[test]
fn work_is_merged_where_that_is_asked_for() {
    let place = Place::new();
    let repo = place.repo();
    let done = place.run(&repo, &["--on-complete", "merge", "echo x > x"]).done().code(0);
    assert_eq!(repo.show("main", "x"), "x");
    assert!(done.err().contains("`main`"), "it is said where: {}", done.err());
    let text = "on_complete = 'merge'\n[[task]]\nname = 'a'\nplan = 'echo a > a'\n[[task]]\nname = 'b'\nplan = 'echo b > b'\n\
        after = ['a']\n";
    drop(run(&place, &repo, text, &[]).done().code(0));
    assert_eq!((repo.show("main", "a"), repo.show("main", "b")), ("a".to_owned(), "b".to_owned()));
}

/// Protects a night's work from the end of whoever began to do it: another takes over, and nothing is done twice.
#[test]
fn the_tasks_of_a_file_outlive_the_process_that_worked_on_them() {
    let place = Place::new();
    let repo = place.repo();
    let (go, seen) = (place.path("go"), place.path("seen"));
    let wait = format!("until test -e {}; do sleep 0.02; done", go.display());
    let owner = place.run(&repo, &["--name", "owner", &format!("echo up; {wait}")]).start();
    owner.says("up");
    let text = format!(
        "[[task]]\nname = 'a'\nplan = 'echo a >> {0}; echo up; {wait}; echo over'\n[[task]]\nname = 'b'\n\
         plan = 'echo b >> {0}; echo too'\nafter = ['a']\n",
        seen.display()
    );
    let batch = run(&place, &repo, &text, &[]).start();
    batch.says("a | up");
    drop(owner.kill());
    batch.notes("looking for it again");
    fs::write(&go, "").expect("a file");
    let done = batch.wait(SOON).code(0);
    assert_eq!(done.out(), "a | up\na | over\nb | too\n", "no line is lost, and none comes twice");
    assert_eq!(fs::read_to_string(&seen).expect("it was written"), "a\nb\n");
    place.assert_nothing_runs();
}
