//! Handing work over while git fails in every way: locks in the way, writes that fail, a daemon killed at any moment. The
//! user's repository is as it was or as it is to be, and the same again goes through.

use std::path::PathBuf;

use makima_core::effect::Work;
use makima_core::id::TaskId;
use makima_core::input::Outcome;

use crate::lives::{kills, live_and_die, work};
use crate::merges::{sh, state};
use crate::support::{Disk, Options, World, branch, committing, folder, git, is_by_itself, preparing, task};

/// What is done to the user's repository, or beside it.
const DOES: &[&str] = &["branch", "merge", "clone"];

/// A task with work, and a repository of the user's that has gone on meanwhile.
struct Scene {
    world: World,
    id: TaskId,
    target: PathBuf,
    commit: String,
}

impl Scene {
    async fn new() -> Self {
        Self::on(folder()).await
    }

    async fn on(folder: tempfile::TempDir) -> Self {
        let user = folder.path().join("user");
        std::fs::create_dir(&user).unwrap();
        let identity = "[user]\n\tname = Ada\n\temail = ada@example.org\n";
        std::fs::write(user.join(".gitconfig"), identity).unwrap();
        // A git that the test can have fail, as `limit` says.
        let wrapper = folder.path().join("git");
        // `dies` holds a verb, and a lock that git holds as it is killed at that.
        let script = format!(
            r#"#!/bin/sh
trap '' XFSZ
if read verb lock < '{0}/dies'; then
    case " $* " in *" $verb "*) : > "$lock"; kill -9 $$;; esac
fi 2>/dev/null
test -e '{0}/limit' && ulimit -f "$(cat '{0}/limit')"
exec git "$@"
"#,
            folder.path().display()
        );
        std::fs::write(&wrapper, script).unwrap();
        std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut world = World::on(folder, Options { git: wrapper, ..Options::default() });
        let target = world.repository("upstream");
        let id = task();
        let base = world.prepare(id, Some(&target)).await.base;
        world.act(id, "seq 20000 > a; mkdir d; echo x > d/x; rm README").await;
        let commit = world.commit(id, base.as_deref()).await.expect("a change").commit;
        sh(&target, "echo more > more; git add -A; git commit -qm more; echo mine > untracked");
        Self { world, id, target, commit }
    }

    fn work(&self, does: &str) -> Work {
        work(self.world.folder.path(), self.id, does, &self.commit)
    }

    /// Does it, and sees that it is done.
    async fn done(&mut self, does: &str) {
        let work = self.work(does);
        let outcome = self.world.run(self.id, work).await;
        assert!(matches!(outcome, Outcome::Delivered { .. } | Outcome::Cloned { .. }), "{does}: {outcome:?}");
        match does {
            "branch" => assert_eq!(git(&self.target, &["rev-parse", branch(self.id).as_str()]), self.commit),
            "merge" => {
                assert_eq!(git(&self.target, &["rev-parse", "HEAD^2"]), self.commit);
                assert_eq!(git(&self.target, &["status", "--porcelain"]), "?? untracked");
            }
            _ => {
                let copy = self.target.with_file_name("copy");
                assert_eq!(git(&copy, &["rev-parse", "HEAD"]), self.commit);
                assert_eq!(git(&copy, &["status", "--porcelain"]), "");
                git(&copy, &["fsck", "--strict"]);
            }
        }
        git(&self.target, &["fsck", "--strict", "--no-dangling"]);
    }

    /// All that the user sees of the repository, and whether there is a copy.
    fn state(&self) -> (String, bool) {
        (format!("{:?}", state(&self.target)), self.target.with_file_name("copy").exists())
    }
}

#[tokio::test]
async fn a_lock_in_the_way_is_a_reason_and_no_harm() {
    for (does, lock) in [
        ("branch", "refs/heads/makima/BRANCH.lock"),
        ("merge", "refs/heads/main.lock"),
        ("merge", "index.lock"),
        ("merge", "HEAD.lock"),
    ] {
        let mut scene = Scene::new().await;
        let name = branch(scene.id).as_str().replace("makima/", "");
        let lock = scene.target.join(".git").join(lock.replace("BRANCH", &name));
        std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
        std::fs::write(&lock, "").unwrap();
        let before = scene.state();
        let work = scene.work(does);
        let outcome = scene.world.run(scene.id, work).await;
        if let Outcome::Failed(why) = &outcome {
            assert!(why.contains("lock") && why.contains("the work is kept in"), "{does}: {why}");
            assert_eq!(scene.state(), before, "{does} {}", lock.display());
            assert!(lock.exists(), "it is not ours to take away");
        }
        std::fs::remove_file(&lock).unwrap();
        if matches!(outcome, Outcome::Failed(_)) {
            scene.done(does).await;
        }
    }
}

/// Protects a delivery from a git that was killed while it wrote in the user's repository: its lock is known to be ours.
#[tokio::test]
async fn a_lock_that_a_killed_git_of_ours_left_is_taken_away() {
    tokio::join!(
        killed_holding("branch", "fetch", "refs/heads/makima/BRANCH.lock", "true"),
        killed_holding("merge", "update-ref", "refs/heads/main.lock", "true"),
        killed_holding("merge", "update-ref", "HEAD.lock", "true"),
        // Where it is not checked out there are no files that are written down to follow.
        killed_holding("merge", "update-ref", "refs/heads/main.lock", "git switch -qc other"),
    );
}

async fn killed_holding(does: &str, verb: &str, lock: &str, first: &str) {
    let mut scene = Scene::new().await;
    sh(&scene.target, first);
    let name = branch(scene.id).as_str().replace("makima/", "");
    let lock = scene.target.join(".git").join(lock.replace("BRANCH", &name));
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let dies = scene.world.path("dies");
    std::fs::write(&dies, format!("{verb} {}\n", lock.display())).unwrap();
    let Work::Deliver(mut delivery) = scene.work(does) else { panic!("{does} hands nothing over") };
    delivery.into = Some("main".to_owned());
    let outcome = scene.world.run(scene.id, Work::Deliver(delivery.clone())).await;
    assert!(matches!(outcome, Outcome::Failed(_)) && lock.exists(), "{does}: {outcome:?}");
    std::fs::remove_file(&dies).unwrap();
    let outcome = scene.world.run(scene.id, Work::Deliver(delivery)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{does} {}: {outcome:?}", lock.display());
    assert!(!lock.exists(), "{does} {}", lock.display());
}

/// Writes fail at some size, as on a disk that fills up: the first, one in between, a late one, that of the user's file.
#[tokio::test]
async fn writes_that_fail_leave_all_as_it_was() {
    for does in DOES {
        for blocks in ["0", "1", "8", "64", "160"] {
            let mut scene = Scene::new().await;
            let before = scene.state();
            let limit = scene.world.path("limit");
            std::fs::write(&limit, blocks).unwrap();
            let work = scene.work(does);
            let outcome = scene.world.run(scene.id, work).await;
            let failed = matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_));
            assert!(failed || blocks != "0", "{does}: {outcome:?}");
            std::fs::remove_file(&limit).unwrap();
            if failed {
                assert_eq!(scene.state(), before, "{does} {blocks}: {outcome:?}");
            }
            if failed || *does != "merge" {
                scene.done(does).await;
            }
        }
    }
}

/// Protects the user's repository from a daemon that is killed at any moment.
#[tokio::test]
async fn a_daemon_killed_at_any_moment_can_do_it_again() {
    let kills = kills();
    let mut scene = Scene::new().await;
    let main = git(&scene.target, &["rev-parse", "main"]);
    let before = scene.state();
    let mut cut = [0_u32; 2];
    for n in 0..kills {
        let does = DOES[n as usize % DOES.len()];
        scene.world = live_and_die(scene.world, scene.id, does, &scene.commit, n).await;
        cut[usize::from(scene.state() == before)] += 1;
        git(&scene.target, &["fsck", "--strict", "--no-dangling"]);
        scene.done(does).await;
        let copy = scene.target.with_file_name("copy");
        if copy.exists() {
            std::fs::remove_dir_all(copy).unwrap();
        }
        let left = std::fs::read_dir(scene.world.folder.path()).unwrap();
        assert!(
            left.map(|entry| entry.unwrap().file_name()).all(|name| !name.to_string_lossy().starts_with(".makima-")),
            "{n}"
        );
        sh(&scene.target, &format!("git reset -q --hard {main}; git branch -q -D '{}' || true", branch(scene.id)));
        assert_eq!(scene.state(), before, "{n}: {does}");
    }
    assert!(kills < 20 || (cut[0] > 0 && cut[1] > 0), "it was killed too early or too late: {cut:?}");
}

/// Protects a task from a daemon that is killed while it makes the worktree or commits: who comes after makes what is
/// whole, of a shared repository that is.
#[tokio::test]
async fn who_comes_after_prepares_and_commits() {
    let mut world = World::new();
    let upstream = world.repository("upstream");
    sh(&upstream, "for n in $(seq 300); do echo $n > $n; done; git add -A; git commit -qm many");
    let mut cut = [0_u32; 2];
    for n in 0..kills() {
        // There is always something to bring, and at times everything.
        sh(&upstream, &format!("seq {n} 20000 > news; git add -A; git commit -qm {n}"));
        if n.is_multiple_of(6) {
            sh(world.folder.path(), "rm -rf makima/repos/*");
        }
        let id = task();
        if n % 3 < 2 {
            world = live_and_die(world, id, "prepare", "", n).await;
            cut[usize::from(world.home.worktree(id).exists())] += 1;
        }
        let base = world.prepare(id, Some(&upstream)).await.base.unwrap();
        let tree = world.home.worktree(id);
        assert_eq!(base, git(&upstream, &["rev-parse", "main"]), "{n}");
        assert_eq!(git(&tree, &["status", "--porcelain"]), "", "{n}");
        world.act(id, "seq 30000 > a; mkdir d; echo x > d/x; rm 7; git add d; git commit -qm d; echo y > y").await;
        if n % 3 > 0 {
            world = live_and_die(world, id, "commit", &base, n).await;
        }
        let made = world.run(id, committing(id, Some(&base))).await;
        let Outcome::Committed(Some(change)) = made else { panic!("{n}: {made:?}") };
        let bare = world.bare();
        let there = git(&bare, &["rev-parse", &format!("refs/makima/{id}")]);
        assert_eq!(there, change.commit, "{n}");
        let names = git(&bare, &["diff-tree", "-r", "--name-status", &base, &there]);
        assert_eq!(names, "D\t7\nA\ta\nA\td/x\nA\ty", "{n}");
        assert_eq!(git(&bare, &["rev-list", "--count", &format!("{base}..{there}")]), "2", "{n}: no commit twice");
        for repository in [&bare, &tree, &upstream] {
            git(repository, &["fsck", "--strict", "--no-dangling"]);
        }
        assert_eq!(git(&upstream, &["status", "--porcelain"]), "", "{n}");
    }
    assert!(kills() < 20 || (cut[0] > 0 && cut[1] > 0), "it was killed too early or too late: {cut:?}");
}

/// Protects the user's repository and the work from a disk that is full, at once or in the middle.
#[tokio::test]
async fn a_full_disk_is_a_reason_and_no_harm() {
    let Some(disk) = Disk::of("280m") else { return };
    let mut scene = Scene::on(disk.folder()).await;
    let mut failed = 0;
    for left in [0, 16 << 10, 128 << 10, 1 << 20] {
        for does in DOES {
            let before = scene.state();
            let work = scene.work(does);
            disk.fill(left);
            let outcome = scene.world.run(scene.id, work).await;
            disk.empty();
            if matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_)) {
                failed += 1;
                assert_eq!(scene.state(), before, "{does} {left}: {outcome:?}");
            }
            scene.done(does).await;
            let undo =
                format!("git reset -q --hard HEAD^; git branch -q -D '{}' || true; rm -rf ../copy", branch(scene.id));
            sh(&scene.target, if *does == "merge" { &undo } else { &undo["git reset -q --hard HEAD^; ".len()..] });
            assert_eq!(scene.state(), before, "{does} {left}: it is as before");
        }
        // Work that is not committed.
        let id = task();
        let base = scene.world.prepare(id, Some(&scene.target)).await.base;
        scene.world.act(id, "seq 20000 > b; echo mine > c").await;
        disk.fill(left);
        let outcome = scene.world.run(id, committing(id, base.as_deref())).await;
        let next = scene.world.run(task(), preparing(task(), Some(&scene.target), None)).await;
        disk.empty();
        assert!(matches!(&next, Outcome::Failed(why) if why.starts_with("only ")), "{next:?}");
        failed += u32::from(matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_)));
        let change = scene.world.commit(id, base.as_deref()).await.expect("a change");
        assert_eq!(change.files, 2, "{left}");
        git(&scene.world.bare(), &["fsck", "--strict", "--no-dangling"]);
    }
    assert!(failed >= 6, "the disk was not full enough: {failed}");
}

/// The words for it; where it was a folder on the way to a reference, git has no more of them.
fn says_no(why: &str) -> bool {
    ["ermission", "unable to create directory"].iter().any(|words| why.contains(words))
}

/// As a user whom modes keep out, which the superuser is not.
fn kept_out() -> std::process::Command {
    if !rustix::process::geteuid().is_root() {
        return std::process::Command::new("env");
    }
    let mut command = std::process::Command::new("setpriv");
    command.arg("--bounding-set=-dac_override,-dac_read_search,-fowner");
    command
}

/// Protects the user's repository, and ours, from what is half done where nothing may be written.
#[tokio::test]
async fn what_may_not_be_written_is_a_reason_and_no_harm() {
    if !is_by_itself("failing::what_may_not_be_written_is_a_reason_and_no_harm", kept_out()) {
        return;
    }
    // The user's: all of it, what is new among objects and references, its files alone.
    for (does, closed) in [
        ("branch", ".git"),
        ("branch", ".git/refs/heads"),
        ("branch", ".git/objects"),
        ("merge", "."),
        ("merge", ".git"),
        ("merge", ".git/objects"),
        ("merge", ".git/refs/heads"),
    ] {
        let mut scene = Scene::new().await;
        let before = scene.state();
        sh(&scene.target, &format!("find '{closed}' -type d -exec chmod a-w {{}} +"));
        let work = scene.work(does);
        let why = scene.world.refused(scene.id, work).await;
        sh(&scene.target, &format!("find '{closed}' -type d -exec chmod u+w {{}} +"));
        let told = says_no(&why) && why.contains("the work is kept in");
        assert!(told, "{does} {closed}: {why}");
        assert_eq!(scene.state(), before, "{does} {closed}: {why}");
        scene.done(does).await;
    }
    // A copy, where nothing may be made.
    let mut scene = Scene::new().await;
    sh(scene.world.folder.path(), "chmod a-w .");
    let work = scene.work("clone");
    let why = scene.world.refused(scene.id, work).await;
    sh(scene.world.folder.path(), "chmod u+w .");
    assert!(says_no(&why), "{why}");
    scene.done("clone").await;
}

/// Protects the work from a shared repository that may not be written for a while.
#[tokio::test]
async fn a_shared_repository_that_may_not_be_written_waits_for_better_times() {
    if !is_by_itself("failing::a_shared_repository_that_may_not_be_written_waits_for_better_times", kept_out()) {
        return;
    }
    let mut world = World::new();
    let upstream = world.repository("upstream");
    let id = task();
    let base = world.prepare(id, Some(&upstream)).await.base;
    world.act(id, "echo a > a").await;
    let bare = world.bare();
    let refs = git(&bare, &["for-each-ref"]);
    sh(&upstream, "echo more > more; git add -A; git commit -qm more");
    for closed in [".", "objects", "refs"] {
        sh(&bare, &format!("find '{closed}' -type d -exec chmod a-w {{}} +"));
        let outcome = world.run(id, committing(id, base.as_deref())).await;
        let next = task();
        let prepared = world.run(next, preparing(next, Some(&upstream), None)).await;
        sh(&bare, &format!("find '{closed}' -type d -exec chmod u+w {{}} +"));
        for outcome in [&outcome, &prepared] {
            assert!(matches!(outcome, Outcome::Failed(why) if says_no(why)), "{closed}: {outcome:?}");
        }
        assert_eq!(git(&bare, &["for-each-ref"]), refs, "{closed}");
        git(&bare, &["fsck", "--strict", "--no-dangling"]);
        assert_eq!(world.bare(), bare, "it was not taken for a damaged one");
        assert!(!world.home.worktree(next).exists());
    }
    // Nor may one be made where none may.
    let other = world.repository("other");
    let repos = world.home.repos();
    sh(&repos, "chmod a-w .");
    let why = world.refused(task(), preparing(task(), Some(&other), None)).await;
    sh(&repos, "chmod u+w .");
    assert!(says_no(&why), "{why}");
    let change = world.commit(id, base.as_deref()).await.expect("its work");
    assert_eq!(git(&bare, &["rev-parse", &format!("refs/makima/{id}")]), change.commit);
    for repository in [&upstream, &other] {
        world.prepare(task(), Some(repository)).await;
    }
    git(&bare, &["fsck", "--strict", "--no-dangling"]);
}

/// Protects all others from a repository of the user's that is damaged: who starts from what is whole is as good as any,
/// and so is everybody once it is mended.
#[tokio::test]
async fn a_damaged_source_is_a_reason_and_no_harm() {
    for (object, damage) in [
        ("side:only", "chmod u+w $f; printf garbage > $f"),
        ("side:only", "rm -f $f"),
        ("side^{tree}", "chmod u+w $f; printf garbage > $f"),
        ("side", "chmod u+w $f; : > $f"),
    ] {
        let mut world = World::new();
        let upstream = world.repository("upstream");
        sh(&upstream, "git switch -qc side; echo only > only; git add -A; git commit -qm side; git switch -q main");
        let oid = git(&upstream, &["rev-parse", object]);
        let file = format!(".git/objects/{}/{}", &oid[..2], &oid[2..]);
        sh(&upstream, &format!("cp -p {file} saved; f={file}; {damage}"));
        for round in 0..3 {
            let id = task();
            let outcome = world.run(id, preparing(id, Some(&upstream), Some("side"))).await;
            assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("git ")), "{object} {damage}: {outcome:?}");
            assert!(!world.home.worktree(id).exists(), "{round}");
        }
        // No copy of it is left for each that has failed.
        let kept = std::fs::read_dir(world.home.repos()).unwrap().count();
        assert!(kept <= 2, "{object} {damage}: {kept} are left");
        let other = world.repository("other");
        world.prepare(task(), Some(&other)).await;
        sh(&upstream, &format!("rm -f {file}; mv saved {file}"));
        let id = task();
        let outcome = world.run(id, preparing(id, Some(&upstream), Some("side"))).await;
        assert!(matches!(&outcome, Outcome::Prepared(_)), "{object} {damage}: {outcome:?}");
        git(&world.home.worktree(id), &["fsck", "--strict"]);
        git(&upstream, &["fsck", "--strict"]);
    }
}
