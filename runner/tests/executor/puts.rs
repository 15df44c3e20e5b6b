//! Putting branches into repositories of the user's.

use std::path::{Path, PathBuf};

use makima_core::effect::{Delivery, Work};
use makima_core::id::TaskId;
use makima_core::input::Outcome;

use crate::support::{World, branch, committing, git, putting, task};

/// A task with one commit, and the repository that it came from.
async fn worked(world: &mut World) -> (TaskId, PathBuf, String) {
    let repository = world.repository("upstream");
    let id = task();
    let base = world.prepare(id, Some(&repository)).await.base;
    world.act(id, "echo a > a").await;
    let change = world.commit(id, base.as_deref()).await.expect("a change");
    (id, repository, change.commit)
}

#[tokio::test]
async fn the_branch_is_put_and_nothing_else_changes() {
    let mut world = World::new();
    let (id, repository, commit) = worked(&mut world).await;
    std::fs::write(repository.join("README"), "dirty\n").unwrap();
    let status = git(&repository, &["status", "--porcelain", "-b"]);
    for _ in 0..2 {
        match world.run(id, putting(id, &repository, &commit)).await {
            Outcome::Delivered { message, .. } => {
                let place = repository.canonicalize().unwrap();
                assert_eq!(message, format!("branch `{}` is in {}", branch(id), place.display()));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(git(&repository, &["rev-parse", branch(id).as_str()]), commit);
    }
    assert_eq!(git(&repository, &["status", "--porcelain", "-b"]), status);
    assert!(!repository.join(".git/FETCH_HEAD").exists());
    git(&repository, &["fsck", "--strict"]);
    // The next task starts from it all the same.
    world.prepare(task(), Some(&repository)).await;
}

#[tokio::test]
async fn a_branch_at_another_commit_is_left_alone() {
    let mut world = World::new();
    let (id, repository, commit) = worked(&mut world).await;
    git(&repository, &["branch", branch(id).as_str()]);
    let why = world.refused(id, putting(id, &repository, &commit)).await;
    assert!(why.contains("already, at another commit") && why.contains("kept in"), "{why}");
    assert_ne!(git(&repository, &["rev-parse", branch(id).as_str()]), commit);
}

#[tokio::test]
async fn a_branch_named_makima_is_said_in_plain_words() {
    let mut world = World::new();
    let (id, repository, commit) = worked(&mut world).await;
    git(&repository, &["branch", "makima"]);
    let why = world.refused(id, putting(id, &repository, &commit)).await;
    let said =
        "has a branch named `makima`; git cannot hold `makima/…` beside it; rename that branch, the work is kept in";
    assert!(why.contains(said), "{why}");
}

#[tokio::test]
async fn what_is_no_target_is_refused() {
    let mut world = World::new();
    let (id, repository, commit) = worked(&mut world).await;
    let why = world.refused(id, putting(id, Path::new("/nowhere"), &commit)).await;
    assert!(why.starts_with("`/nowhere` does not exist; the work is kept in "), "{why}");
    let other = "0123456789012345678901234567890123456789";
    let why = world.refused(id, putting(id, &repository, other)).await;
    assert!(why.contains("is not at"), "{why}");
    // A bare one will do, and one in the user's home folder.
    git(world.folder.path(), &["clone", "-q", "--bare", "upstream", "user/bare.git"]);
    let bare = world.path("user/bare.git");
    world.run(id, putting(id, Path::new("~/bare.git"), &commit)).await;
    assert_eq!(git(&bare, &["rev-parse", branch(id).as_str()]), commit);
}

#[tokio::test]
async fn the_targets_hooks_are_not_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::new();
    let (id, repository, commit) = worked(&mut world).await;
    let canary = world.path("canary");
    for hook in ["reference-transaction", "post-update", "pre-auto-gc"] {
        let path = repository.join(".git/hooks").join(hook);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\ntouch {}\n", canary.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    world.run(id, putting(id, &repository, &commit)).await;
    assert_eq!(git(&repository, &["rev-parse", branch(id).as_str()]), commit);
    assert!(!canary.exists());
}

/// Protects the rest of the disk from a server's word, however the target is spelled.
#[tokio::test]
async fn nothing_is_put_outside_the_allowed_roots() {
    let mut world = World::new();
    let (id, repository, commit) = worked(&mut world).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("outside");
    let path = outside.to_str().unwrap();
    git(world.folder.path(), &["clone", "-q", repository.to_str().unwrap(), path]);
    let link = world.path("link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let winding = world.path(&format!("upstream/../../..{path}"));
    for target in [&outside, &link, &winding] {
        let why = world.refused(id, putting(id, target, &commit)).await;
        assert!(why.contains("`allowed_roots`") || why.contains("does not exist"), "{target:?}: {why}");
        assert!(git(&outside, &["branch", "--list", "makima/*"]).is_empty(), "{target:?}");
    }
    // Once the user has named it, it is allowed: for the daemon that runs, too.
    makima_runner::roots::allow(&world.path("makima"), &outside).unwrap();
    world.run(id, putting(id, &outside, &commit)).await;
    assert_eq!(git(&outside, &["rev-parse", branch(id).as_str()]), commit);
}

/// Protects work of which only the task is known: of one that failed, or whose end could not be brought home.
#[tokio::test]
async fn work_is_found_where_it_stands() {
    let mut world = World::new();
    let (id, repository, commit) = worked(&mut world).await;
    let unnamed = |id, target: &Path| match putting(id, target, "") {
        Work::Deliver(delivery) => Work::Deliver(Box::new(Delivery { commit: None, ..*delivery })),
        other => panic!("{other:?}"),
    };
    for _ in 0..2 {
        let outcome = world.run(id, unnamed(id, &repository)).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
        assert_eq!(git(&repository, &["rev-parse", branch(id).as_str()]), commit);
    }
    // What an agent committed, and nobody has brought into the shared repository since.
    let id = task();
    world.prepare(id, Some(&repository)).await;
    let nothing = Outcome::Delivered { message: "no changes".to_owned(), url: None };
    assert_eq!(world.run(id, unnamed(id, &repository)).await, nothing);
    world.act(id, "echo b > b; git add b; git commit -qm b").await;
    let outcome = world.run(id, unnamed(id, &repository)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    let head = git(&world.home.worktree(id), &["rev-parse", "HEAD"]);
    assert_eq!(git(&repository, &["rev-parse", branch(id).as_str()]), head);
    assert_eq!(git(&world.bare(), &["rev-parse", &format!("refs/makima/{id}")]), head);
    // Where the worktree is gone, the shared repository has it still; and where that has nothing, nobody has.
    std::fs::remove_dir_all(world.home.worktree(id)).unwrap();
    git(&repository, &["branch", "-q", "-D", branch(id).as_str()]);
    let outcome = world.run(id, unnamed(id, &repository)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    let id = task();
    assert_eq!(world.run(id, unnamed(id, &repository)).await, nothing);
}

/// Protects the last work of a task from being left behind where an earlier state of it stands in the shared repository: a
/// merge commit, say, that it made on its way.
#[tokio::test]
async fn work_that_could_not_be_committed_is_when_it_is_asked_for_again() {
    let mut world = World::new();
    let (id, repository, earlier) = worked(&mut world).await;
    let (worktree, aside) = (world.home.worktree(id), world.path("aside"));
    std::fs::write(worktree.join("last"), "last").unwrap();
    std::fs::rename(&worktree, &aside).unwrap();
    let why = world.refused(id, committing(id, None)).await;
    assert!(why.contains("is gone"), "{why}");
    let Work::Deliver(delivery) = putting(id, &repository, "") else { panic!("no delivery") };
    let again = || Work::Deliver(Box::new(Delivery { commit: None, ..(*delivery).clone() }));
    // While it is nowhere, no older state is told to be all of it.
    let why = world.refused(id, again()).await;
    assert!(why.contains("is gone"), "{why}");
    std::fs::rename(&aside, &worktree).unwrap();
    let outcome = world.run(id, again()).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    let branch = branch(id);
    assert_eq!(git(&repository, &["show", &format!("{branch}:last")]), "last");
    assert_eq!(git(&repository, &["rev-parse", &format!("{branch}~")]), earlier);
}
