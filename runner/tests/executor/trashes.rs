//! What has ended goes into the trash, comes back whole, and is gone for good in its time.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use makima_core::effect::Work;
use makima_core::id::TaskId;
use makima_core::input::Outcome;
use makima_core::task::{End, EndStatus};
use makima_core::time::Millis;
use makima_runner::executor::{Trash, leftovers};
use uuid::{NoContext, Timestamp, Uuid};

use crate::support::{World, git, spec, task};

/// A task that has ended, and whose end the server knows.
async fn ended(world: &mut World, script: &str) -> TaskId {
    let id = task();
    let repository = world.path("upstream");
    let repository = if repository.exists() { repository } else { world.repository("upstream") };
    assert_eq!(world.run(id, Work::Accept { spec: Box::new(spec(id)) }).await, Outcome::Done);
    let standing = world.prepare(id, Some(&repository)).await;
    world.act(id, script).await;
    world.commit(id, standing.base.as_deref()).await;
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 7 };
    assert_eq!(world.run(id, Work::Conclude { end, spec: None }).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Close).await, Outcome::Done);
    id
}

fn trash(world: &World) -> Trash {
    Trash::of(world.home.root())
}

fn log(world: &World, id: TaskId) -> PathBuf {
    world.home.task(id).join("output.log")
}

#[tokio::test]
async fn what_goes_comes_back_whole() {
    let mut world = World::new();
    let script = "echo told; echo work > work; echo '*.o' > .gitignore; echo built > built.o; chmod 500 .";
    let id = ended(&mut world, script).await;
    let (worktree, written) = (world.home.worktree(id), fs::read(log(&world, id)).expect("a log"));
    assert_eq!(world.run(id, Work::Discard).await, Outcome::Done);
    assert!(!worktree.exists() && !log(&world, id).exists());
    let left = leftovers(&world.home).expect("records");
    assert!(left.unreadable.is_empty() && left.tasks.iter().any(|left| left.spec.id == id && left.closed));
    // Asked again after a crash.
    assert_eq!(world.run(id, Work::Discard).await, Outcome::Done);
    let entries = trash(&world).entries().expect("a list");
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.task, Some(id));
    assert!(entry.worktree().is_some_and(|tree| tree.join("built.o").exists()));

    assert_eq!(trash(&world).restore(id).expect("it is there"), worktree);
    assert_eq!(git(&worktree, &["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(worktree.join("built.o")).expect("a file"), "built\n");
    assert_eq!(fs::read(log(&world, id)).expect("a log"), written);
    assert!(trash(&world).entries().expect("a list").is_empty());
    assert!(trash(&world).restore(id).expect_err("it is back").contains("is there"));

    // Somebody wanted it: it does not go by itself any more.
    assert_eq!(world.run(id, Work::Discard).await, Outcome::Done);
    assert!(worktree.exists());
    trash(&world).discard_again(id).expect("it is asked for");
    assert!(!worktree.exists() && !trash(&world).is_wanted(id));
}

#[tokio::test]
async fn a_task_that_is_forgotten_can_be_had_back() {
    let mut world = World::new();
    let id = ended(&mut world, "echo work > work").await;
    assert_eq!(world.run(id, Work::Discard).await, Outcome::Done);
    assert_eq!(trash(&world).restore(id).map(drop), Ok(()));
    assert_eq!(world.run(id, Work::Forget).await, Outcome::Done);
    assert!(!world.home.worktree(id).exists() && !world.home.task(id).exists());
    assert!(leftovers(&world.home).expect("records").tasks.is_empty());
    assert_eq!(world.run(id, Work::Forget).await, Outcome::Done, "twice is as if once");
    trash(&world).restore(id).expect("it is there");
    assert!(world.home.worktree(id).join("work").exists());
    assert_eq!(leftovers(&world.home).expect("records").tasks.len(), 1);
}

#[tokio::test]
async fn what_has_not_ended_does_not_go() {
    let mut world = World::new();
    let id = task();
    assert_eq!(world.run(id, Work::Accept { spec: Box::new(spec(id)) }).await, Outcome::Done);
    for work in [Work::Discard, Work::Forget] {
        assert!(world.refused(id, work).await.contains("not written down how it ended"));
    }
    world.prepare(id, None).await;
    world.start(id, "sleep 100").await;
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 7 };
    fs::write(world.home.task(id).join("end.json"), serde_json::json!({"version": 1, "end": end}).to_string())
        .expect("a record");
    assert!(world.refused(id, Work::Discard).await.contains("its agent runs"));
    assert!(trash(&world).forget(id).expect_err("it runs").contains("its agent runs"));
    assert!(world.home.worktree(id).exists());
    world.empty(id).await;
}

/// Killed between any two of its renames, there or back.
#[tokio::test]
async fn what_was_stopped_half_way_goes_on() {
    let mut world = World::new();
    let id = ended(&mut world, "echo work > work").await;
    let (worktree, records) = (world.home.worktree(id), world.home.task(id));
    let leaving = records.join("leaving");
    fs::create_dir(&leaving).expect("a folder");
    fs::rename(&worktree, leaving.join("worktree")).expect("moved");
    // Somebody wants it back just then.
    trash(&world).restore(id).expect("it is gathered");
    assert!(worktree.join("work").exists() && log(&world, id).exists() && !leaving.exists());
    fs::remove_file(records.join("restored")).expect("that mark");

    fs::create_dir(&leaving).expect("a folder");
    fs::rename(&worktree, leaving.join("worktree")).expect("moved");
    assert_eq!(world.run(id, Work::Discard).await, Outcome::Done);
    let entries = trash(&world).entries().expect("a list");
    assert!(entries.len() == 1 && entries[0].path.join("leaving/output.log").exists(), "{entries:?}");

    fs::rename(entries[0].path.join("leaving"), &leaving).expect("moved");
    fs::rename(leaving.join("worktree"), &worktree).expect("moved");
    assert!(trash(&world).restore(id).is_err(), "the worktree is there already");
    assert_eq!(world.run(id, Work::Discard).await, Outcome::Done, "and all of it can go again");
    trash(&world).restore(id).expect("it is there");
    assert!(worktree.join("work").exists() && log(&world, id).exists() && !leaving.exists());
}

/// A folder in the trash, put there so many days ago.
fn old(world: &World, name: &str, days: u64) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let when = Uuid::new_v7(Timestamp::from_unix(NoContext, now - days * 24 * 60 * 60, 0));
    let path = world.home.root().join("trash").join(format!("{name}.{when}"));
    fs::create_dir(&path).expect("a folder");
    path
}

fn close(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

#[tokio::test]
async fn the_trash_is_taken_out_in_its_time() {
    let mut world = World::new();
    let (young, gone) = (old(&world, "young", 29), old(&world, "gone", 31));
    let strange = world.home.root().join("trash/what somebody put here");
    fs::write(&strange, "").expect("a file");
    let canary = world.path("canary");
    fs::create_dir(&canary).expect("a folder");
    fs::write(canary.join("file"), "sings").expect("a file");
    // What tools leave: folders that cannot be written to, and links to anywhere.
    fs::create_dir_all(gone.join("module/inner")).expect("folders");
    fs::write(gone.join("module/inner/file"), "").expect("a file");
    symlink(&canary, gone.join("module/link")).expect("a link");
    symlink(&canary, gone.join("link")).expect("a link");
    close(&gone.join("module/inner"), 0o500);
    close(&gone.join("module"), 0o500);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let before = Millis(u64::try_from(now).expect("small") - 30 * 24 * 60 * 60 * 1_000);
    let nobody = TaskId(Uuid::nil());
    assert_eq!(world.run(nobody, Work::Expire { before }).await, Outcome::Done);
    assert!(young.exists() && !gone.exists() && strange.exists());
    assert_eq!(fs::read_to_string(canary.join("file")).expect("a file"), "sings");
    assert_eq!(fs::metadata(&canary).expect("a folder").permissions().mode() & 0o777, 0o755);
    assert_eq!(world.run(nobody, Work::Expire { before }).await, Outcome::Done);
}

/// What a task takes, and all do.
async fn weigh(world: &mut World, id: TaskId) -> (u64, u64) {
    let outcome = world.run(TaskId(Uuid::nil()), Work::Weigh { tasks: vec![id] }).await;
    let Outcome::Weighed(weighed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(weighed.tasks.len(), 1);
    (weighed.tasks[0].1, weighed.all)
}

#[tokio::test]
async fn what_is_handed_over_makes_room() {
    let mut world = World::new();
    let script = "echo work > work; echo '*.o' > .gitignore; head -c 3000000 /dev/urandom > built.o";
    let id = ended(&mut world, script).await;
    let (before, all) = weigh(&mut world, id).await;
    assert!(before > 3_000_000 && all >= before, "{before} of {all}");
    assert_eq!(world.run(id, Work::Spare).await, Outcome::Done);
    assert!(!world.home.worktree(id).exists());
    assert!(weigh(&mut world, id).await.0 > 3_000_000, "it is in the trash");
    // As long as it is there it comes back, and then stays.
    let worktree = trash(&world).restore(id).expect("it is there");
    assert!(worktree.join("built.o").exists() && trash(&world).entries().expect("a list").is_empty());
    let Outcome::Failed(why) = world.run(id, Work::Spare).await else { panic!("it was wanted") };
    assert!(why.contains("out of the trash"), "{why}");

    let id = ended(&mut world, script).await;
    assert_eq!(world.run(id, Work::Spare).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Purge).await, Outcome::Done);
    let (after, _) = weigh(&mut world, id).await;
    assert!(after < 1_000_000, "{after}");
    assert!(trash(&world).entries().expect("a list").is_empty());
    assert!(leftovers(&world.home).expect("records").tasks.iter().any(|left| left.spec.id == id));
}

/// Protects what an agent or its user has done behind the end of the task, or beside its branch.
#[tokio::test]
async fn what_is_nowhere_else_makes_no_room() {
    let mut world = World::new();
    for (script, reason) in [
        ("echo more >> work", "in no commit"),
        ("echo more > beside", "in no commit"),
        ("git add -A && git commit -qm more --allow-empty", "nowhere else"),
        ("git switch -qc side && git commit -qm side --allow-empty && git switch -q -", "nowhere else"),
        ("git stash push -qu -- . 2>/dev/null; echo more > beside && git stash push -qu", "nowhere else"),
        ("git worktree add -q ../beside-$$ && git -C ../beside-$$ commit -qm there --allow-empty", "of its own"),
        ("mkdir -p .git/modules/inner", "of its own"),
        ("rm .git/HEAD", "cannot be looked into"),
        ("mv .git .elsewhere && ln -s .elsewhere .git", "cannot be looked into"),
    ] {
        let id = ended(&mut world, "echo work > work").await;
        let worktree = world.home.worktree(id);
        let shell = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(&worktree)
            .env("GIT_AUTHOR_NAME", "x")
            .envs([
                ("GIT_AUTHOR_EMAIL", "x@example.org"),
                ("GIT_COMMITTER_NAME", "x"),
                ("GIT_COMMITTER_EMAIL", "x@example.org"),
            ])
            .status()
            .expect("a shell");
        assert!(shell.success(), "{script}");
        let Outcome::Failed(why) = world.run(id, Work::Spare).await else { panic!("{script}: it went") };
        assert!(why.contains(reason) && worktree.exists(), "{script}: {why}");
        // In its time it goes, and nothing takes it out of the trash before that.
        assert_eq!(world.run(id, Work::Discard).await, Outcome::Done);
        assert_eq!(world.run(id, Work::Purge).await, Outcome::Done);
        let entries = trash(&world).entries().expect("a list");
        assert!(entries.iter().any(|entry| entry.task == Some(id) && entry.worktree().is_some()), "{script}");
    }
}

/// Protects the history of a repository inside of the worktree, of which only the files are committed.
#[tokio::test]
async fn a_repository_inside_makes_no_room() {
    let mut world = World::new();
    let inner = "git init -q in/side && cd in/side && echo x > x && git add x && git -c user.name=x -c user.email=x@y \
                 commit -qm x";
    let id = ended(&mut world, inner).await;
    let Outcome::Failed(why) = world.run(id, Work::Spare).await else { panic!("it went") };
    assert!(why.contains("history of its own") && world.home.worktree(id).join("in/side/.git").exists(), "{why}");
}

/// Somebody has changed something in the trash since.
#[tokio::test]
async fn what_has_changed_in_the_trash_stays_there() {
    let mut world = World::new();
    let id = ended(&mut world, "echo work > work").await;
    assert_eq!(world.run(id, Work::Spare).await, Outcome::Done);
    let entries = trash(&world).entries().expect("a list");
    let tree = entries[0].worktree().expect("a worktree");
    fs::write(tree.join("more"), "more").expect("a file");
    let Outcome::Failed(why) = world.run(id, Work::Purge).await else { panic!("it went") };
    assert!(why.contains("in no commit") && tree.exists(), "{why}");
}
