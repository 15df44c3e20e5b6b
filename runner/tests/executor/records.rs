//! What is written down, and what a next life of the daemon makes of it.

use std::os::unix::fs::PermissionsExt as _;

use makima_core::effect::Work;
use makima_core::id::SecretId;
use makima_core::input::{Outcome, Stage};
use makima_core::task::{End, EndStatus};
use makima_runner::executor::leftovers;
use makima_runner::home::{Home, HomeError};

use crate::support::{World, folder, spec, task};

fn end() -> End {
    End { status: EndStatus::Done, error: None, completion: None, log_end: 7 }
}

#[tokio::test]
async fn a_task_is_remembered_as_far_as_it_came() {
    let mut world = World::new();
    let (accepted, prepared, started, ended, closed) = (task(), task(), task(), task(), task());
    for id in [accepted, prepared, started, ended, closed] {
        let mut spec = spec(id);
        spec.credentials = (id == closed).then_some(SecretId::Credentials(id));
        world.secrets.set(SecretId::Credentials(closed), "ada:password");
        assert_eq!(world.run(id, Work::Accept { spec: Box::new(spec) }).await, Outcome::Done);
    }
    let credentials = world.home.task(closed).join("credentials");
    assert_eq!(std::fs::metadata(&credentials).unwrap().permissions().mode() & 0o777, 0o600);
    let repository = world.repository("upstream");
    world.prepare(prepared, Some(&repository)).await;
    let standing = world.prepare(started, Some(&repository)).await;
    world.act(started, "true").await;
    for id in [ended, closed] {
        assert_eq!(world.run(id, Work::Conclude { end: end(), spec: None }).await, Outcome::Done);
        assert_eq!(world.run(id, Work::Delivered { to: 1 << 40 }).await, Outcome::Done);
        assert_eq!(world.run(id, Work::Delivered { to: 5 }).await, Outcome::Done);
    }
    // Its output may still be read, and masked.
    assert!(credentials.exists());
    assert_eq!(world.run(closed, Work::Close).await, Outcome::Done);
    assert!(!credentials.exists());
    // Others' folders are none of ours, and what cannot be read stays.
    let broken = world.home.task(task());
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("spec.json"), "{\"version\":1,\"sp").unwrap();
    let newer = world.home.task(task());
    std::fs::create_dir(&newer).unwrap();
    std::fs::write(newer.join("spec.json"), "{\"version\":9,\"spec\":{}}").unwrap();
    std::fs::create_dir(world.home.task(task())).unwrap();
    std::fs::create_dir(world.home.tasks().join("other")).unwrap();
    let found = leftovers(&world.home).unwrap();
    assert_eq!(found.unreadable.len(), 2);
    assert!(found.unreadable.iter().any(|why| why.to_string().contains("version 9")), "{:?}", found.unreadable);
    assert!(broken.join("spec.json").exists());
    let stages: Vec<_> = found.tasks.iter().map(|l| (l.spec.id, l.stage.clone(), l.delivered, l.closed)).collect();
    assert_eq!(
        stages,
        [
            (accepted, Stage::Accepted, 0, false),
            (prepared, Stage::Accepted, 0, false),
            (started, Stage::Started(standing), 0, false),
            (ended, Stage::Ended(end()), 5, false),
            (closed, Stage::Ended(end()), 5, true),
        ]
    );
}

/// Protects the end of a task from a power cut: it names the end of the log, so that has to be on the disk before.
#[tokio::test]
async fn an_end_is_not_written_down_where_the_output_is_not_sure_to_last() {
    let mut world = World::new();
    let id = task();
    assert_eq!(world.run(id, Work::Accept { spec: Box::new(spec(id)) }).await, Outcome::Done);
    world.prepare(id, None).await;
    world.act(id, "echo out").await;
    let folder = world.home.task(id);
    std::fs::rename(folder.join("output.log"), folder.join("kept")).unwrap();
    // What cannot be flushed.
    std::os::unix::fs::symlink("/dev/null", folder.join("output.log")).unwrap();
    let why = world.refused(id, Work::Conclude { end: end(), spec: None }).await;
    assert!(why.contains("output.log"), "{why}");
    assert!(!folder.join("end.json").exists());
    std::fs::rename(folder.join("kept"), folder.join("output.log")).unwrap();
    assert_eq!(world.run(id, Work::Conclude { end: end(), spec: None }).await, Outcome::Done);
}

/// Set for what [`what_is_told_lasts`] runs once more to watch it.
const WATCHED: &str = "MAKIMA_TEST_WATCHED";

/// Protects from a power cut what a server was told: a new task with the folder that it lies in, and its output
/// before its end.
#[tokio::test]
async fn what_is_told_lasts() {
    if std::env::var_os(WATCHED).is_some() {
        let mut world = World::new();
        let id = task();
        assert_eq!(world.run(id, Work::Accept { spec: Box::new(spec(id)) }).await, Outcome::Done);
        world.prepare(id, None).await;
        world.act(id, "echo out").await;
        assert_eq!(world.run(id, Work::Conclude { end: end(), spec: None }).await, Outcome::Done);
        return;
    }
    let folder = folder();
    let calls = folder.path().join("calls");
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir", "-o"]).arg(&calls);
    strace.arg(std::env::current_exe().unwrap()).args(["--exact", "records::what_is_told_lasts"]).env(WATCHED, "1");
    match strace.output() {
        Ok(output) if output.status.success() => {}
        other => return eprintln!("skipped: nobody can be watched with strace here: {other:?}"),
    }
    let calls = std::fs::read_to_string(&calls).unwrap();
    let flushed = |line: &str, name: &str| line.contains("sync(") && line.contains(&format!("{name}>"));
    let renamed = |line: &str, name: &str| line.contains("rename") && line.contains(name);
    let place = |what: &dyn Fn(&str) -> bool| calls.lines().position(what);
    let flushes: Vec<&str> = calls.lines().filter(|line| line.contains("sync(")).collect();
    let accepted = place(&|line| renamed(line, "spec.json")).unwrap();
    assert!(place(&|line| flushed(line, "/tasks")).is_some_and(|at| at < accepted), "{flushes:#?}");
    let ended = place(&|line| renamed(line, "end.json")).unwrap();
    assert!(place(&|line| flushed(line, "output.log")).is_some_and(|at| at < ended), "{flushes:#?}");
}

/// Protects a task that is taken on at the second attempt from the end of the first, which could not be.
#[tokio::test]
async fn a_task_that_is_taken_on_has_no_end_yet() {
    let mut world = World::new();
    let id = task();
    assert_eq!(world.run(id, Work::Conclude { end: end(), spec: None }).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Close).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Accept { spec: Box::new(spec(id)) }).await, Outcome::Done);
    let found = leftovers(&world.home).unwrap();
    let stages: Vec<_> = found.tasks.iter().map(|l| (l.spec.id, l.stage.clone(), l.closed)).collect();
    assert_eq!(stages, [(id, Stage::Accepted, false)]);
}

#[test]
fn a_home_belongs_to_one_daemon_at_a_time() {
    let folder = folder();
    let path = folder.path().join("home");
    let first = Home::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["repos", "worktrees", "home", "tasks", "journal", "trash"] {
        assert_eq!(std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777, 0o700);
    }
    match Home::open(&path) {
        Err(HomeError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    let (machine, incarnation) = (first.machine_id(), first.incarnation());
    let clone = first.clone();
    drop(first);
    assert!(Home::open(&path).is_err());
    drop(clone);
    let next = crate::support::open(&path);
    assert_eq!((next.machine_id(), next.incarnation()), (machine, incarnation + 1));
}

#[test]
fn a_home_that_is_no_use_is_told_with_what_to_do() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let why = Home::open(&file).unwrap_err().to_string();
    assert!(why.contains("cannot be made") && why.contains("set MAKIMA_HOME"), "{why}");
    let path = folder.path().join("home");
    drop(Home::open(&path).unwrap());
    std::fs::write(path.join("incarnation"), "many").unwrap();
    let why = Home::open(&path).unwrap_err().to_string();
    assert!(why.contains("incarnation") && why.contains("\"many\""), "{why}");
}
