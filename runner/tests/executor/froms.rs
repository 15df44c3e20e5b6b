//! Where work starts from: another task's state, a parent's last commit, files that are brought along.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use makima_core::effect::{Copy, Prepare, Start, Work};
use makima_core::id::TaskId;
use makima_core::input::{Outcome, Prepared};
use makima_core::policy::{InnerPath, RepositoryUrl};

use crate::support::{World, branch, git, task};

fn preparing(id: TaskId, repository: Option<&Path>, start: Start, copy: Option<Copy>) -> Work {
    Work::Prepare(Box::new(Prepare {
        repository: repository.map(|path| RepositoryUrl::Local(path.display().to_string())),
        credentials: None,
        start,
        branch: branch(id),
        plan: "do it".to_owned(),
        copy,
    }))
}

async fn prepare(world: &mut World, work: Work, id: TaskId) -> Prepared {
    match world.run(id, work).await {
        Outcome::Prepared(prepared) => prepared,
        other => panic!("{other:?}"),
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|failure| panic!("{}: {failure}", path.display()))
}

/// A task that has committed something, changed something since, and has new, deleted and ignored files.
async fn at_work(world: &mut World) -> (TaskId, PathBuf, PathBuf) {
    let repository = world.repository("upstream");
    let id = task();
    world.prepare(id, Some(&repository)).await;
    let script = "echo one > one; echo gone > gone; git add -A; git commit -qm mine; echo two >> one; rm gone; \
        mkdir -p deep/er; echo new > deep/er/new; echo skip > .gitignore; echo x > skip; chmod +x one";
    world.act(id, script).await;
    let tree = world.home.worktree(id);
    (id, repository, tree)
}

fn is_the_same(new: &Path, old: &Path) {
    assert_eq!(read(&new.join("one")), "one\ntwo\n");
    assert_eq!(std::fs::metadata(new.join("one")).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(read(&new.join("deep/er/new")), "new\n");
    assert!(!new.join("gone").exists());
    assert!(!new.join("skip").exists(), "what is ignored stays behind");
    assert_eq!(git(new, &["status", "--porcelain"]), git(old, &["status", "--porcelain"]));
    assert_eq!(git(new, &["rev-parse", "HEAD"]), git(old, &["rev-parse", "HEAD"]));
    git(new, &["fsck", "--strict"]);
}

#[tokio::test]
async fn a_task_goes_on_with_commits_and_uncommitted_files_of_another() {
    let mut world = World::new();
    let (old, repository, tree) = at_work(&mut world).await;
    let before = git(&tree, &["status", "--porcelain", "-b"]);
    for repository in [Some(repository.as_path()), None] {
        let id = task();
        let start = Start::Continue(old);
        let prepared = prepare(&mut world, preparing(id, repository, start.clone(), None), id).await;
        let new = world.home.worktree(id);
        is_the_same(&new, &tree);
        assert_eq!(prepared.base.as_deref(), Some(git(&new, &["rev-parse", "HEAD"]).as_str()));
        assert_eq!(git(&new, &["symbolic-ref", "--short", "HEAD"]), branch(id).to_string());
        // Asked for again it is as it is.
        prepare(&mut world, preparing(id, repository, start, None), id).await;
        is_the_same(&new, &tree);
        let change = world.commit(id, prepared.base.as_deref()).await.expect("the uncommitted files");
        assert_eq!(change.files, 4, "one, gone, deep/er/new and .gitignore");
    }
    assert_eq!(git(&tree, &["status", "--porcelain", "-b"]), before, "the other is as it was");
}

#[tokio::test]
async fn a_task_goes_on_with_one_that_has_ended_and_been_committed() {
    let mut world = World::new();
    let (old, repository, tree) = at_work(&mut world).await;
    let base = git(&repository, &["rev-parse", "HEAD"]);
    let change = world.commit(old, Some(&base)).await.expect("work");
    let id = task();
    let prepared = prepare(&mut world, preparing(id, Some(&repository), Start::Continue(old), None), id).await;
    assert_eq!(prepared.base.as_deref(), Some(change.commit.as_str()));
    assert_eq!(git(&world.home.worktree(id), &["status", "--porcelain"]), "");
    // Also where its worktree is gone.
    std::fs::remove_dir_all(&tree).unwrap();
    let id = task();
    let prepared = prepare(&mut world, preparing(id, Some(&repository), Start::Continue(old), None), id).await;
    assert_eq!(prepared.base.as_deref(), Some(change.commit.as_str()));
    assert_eq!(read(&world.home.worktree(id).join("one")), "one\ntwo\n");
}

#[tokio::test]
async fn a_task_that_is_not_here_cannot_be_gone_on_with() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    for repository in [Some(repository.as_path()), None] {
        let id = task();
        let why = world.refused(id, preparing(id, repository, Start::Continue(task()), None)).await;
        assert!(why.contains("has no worktree on this machine"), "{why}");
    }
}

/// What an agent has written into its repository has no say in what is done for another task.
#[tokio::test]
async fn going_on_runs_nothing_of_the_other_agents() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let old = task();
    world.prepare(old, Some(&repository)).await;
    let canary = world.path("canary");
    let run = format!("touch {}", canary.display());
    let script = format!(
        "echo a > a; git config core.fsmonitor '{run}'; git config filter.x.clean '{run}'; git config filter.x.smudge \
        '{run}'; echo '* filter=x' > .gitattributes; git config core.hooksPath hooks; mkdir hooks; printf \
        '#!/bin/sh\\n{run}\\n' > hooks/post-checkout; chmod +x hooks/post-checkout; git config uploadpack.packObjectsHook '{run}'"
    );
    world.act(old, &script).await;
    let _ = std::fs::remove_file(&canary);
    let id = task();
    prepare(&mut world, preparing(id, Some(&repository), Start::Continue(old), None), id).await;
    assert_eq!(read(&world.home.worktree(id).join("a")), "a\n");
    assert!(!canary.exists(), "something of the agent's was run");
}

#[tokio::test]
async fn a_subtask_starts_at_its_parents_last_commit() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let parent = task();
    world.prepare(parent, Some(&repository)).await;
    world.act(parent, "echo mine > mine; git add -A; git commit -qm mine; echo not yet > later").await;
    let head = git(&world.home.worktree(parent), &["rev-parse", "HEAD"]);
    let id = task();
    let prepared = prepare(&mut world, preparing(id, Some(&repository), Start::Parent(parent), None), id).await;
    assert_eq!(prepared.base, Some(head));
    let tree = world.home.worktree(id);
    assert_eq!(read(&tree.join("mine")), "mine\n");
    assert!(!tree.join("later").exists());
    assert_eq!(git(&tree, &["status", "--porcelain"]), "");
    // One that is not here has none: the default branch.
    let id = task();
    let prepared = prepare(&mut world, preparing(id, Some(&repository), Start::Parent(task()), None), id).await;
    assert_eq!(prepared.base, Some(git(&repository, &["rev-parse", "HEAD"])));
}

fn copy(from: TaskId, paths: &[&str]) -> Option<Copy> {
    Some(Copy { from, paths: paths.iter().map(|path| InnerPath::read(path).expect("a path")).collect() })
}

#[tokio::test]
async fn files_are_brought_along_and_git_leaves_them_alone() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let parent = task();
    world.prepare(parent, Some(&repository)).await;
    let script = "mkdir -p conf/deep; echo secret > conf/.env; echo '#!/bin/sh' > conf/deep/run; chmod 750 conf/deep/run; \
        ln -s deep/run conf/link; ln -s /etc/passwd conf/out; mkfifo conf/pipe; echo hash > '#odd [name]!'";
    world.act(parent, script).await;
    let id = task();
    let wanted = copy(parent, &["conf/", "./#odd [name]!", "absent"]);
    let prepared = prepare(&mut world, preparing(id, Some(&repository), Start::Default, wanted), id).await;
    let tree = world.home.worktree(id);
    assert_eq!(read(&tree.join("conf/.env")), "secret\n");
    assert_eq!(std::fs::metadata(tree.join("conf/deep/run")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(std::fs::read_link(tree.join("conf/link")).unwrap(), Path::new("deep/run"));
    assert_eq!(read(&tree.join("#odd [name]!")), "hash\n");
    assert!(std::fs::symlink_metadata(tree.join("conf/out")).is_err());
    assert!(std::fs::symlink_metadata(tree.join("conf/pipe")).is_err());
    let notes = prepared.notes.join("\n");
    for (path, why) in [("absent", "not there"), ("conf/out", "leads out"), ("conf/pipe", "no file")] {
        assert!(prepared.notes.iter().any(|note| note.contains(path) && note.contains(why)), "{path} in {notes}");
    }
    assert_eq!(git(&tree, &["status", "--porcelain"]), "", "git does not see them");
    git(&tree, &["add", "-A"]);
    assert_eq!(git(&tree, &["diff", "--cached", "--name-only"]), "");
    assert_eq!(world.commit(id, prepared.base.as_deref()).await, None);
}

/// The base may hold links, and so may the parent's worktree: neither leads anywhere.
#[tokio::test]
async fn no_link_leads_out_of_either_worktree() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let outside = world.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "canary").unwrap();
    symlink(&outside, repository.join("there")).unwrap();
    symlink(outside.join("file"), repository.join("file")).unwrap();
    git(&repository, &["add", "-A"]);
    git(&repository, &["commit", "-qm", "links"]);
    let parent = task();
    world.prepare(parent, Some(&repository)).await;
    let script =
        format!("rm there file; mkdir there; echo evil > there/file; echo evil > file; ln -s {} in", outside.display());
    world.act(parent, &script).await;
    let id = task();
    let wanted = copy(parent, &["there/file", "file", "in/file"]);
    let prepared = prepare(&mut world, preparing(id, Some(&repository), Start::Default, wanted), id).await;
    let tree = world.home.worktree(id);
    assert_eq!(read(&outside.join("file")), "canary");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert!(prepared.notes.iter().any(|note| note.contains("`there/file`") && note.contains("link")), "{prepared:?}");
    assert!(prepared.notes.iter().any(|note| note.contains("`in/file`") && note.contains("link")), "{prepared:?}");
    // The link itself is replaced, and not what it led to.
    assert_eq!(read(&tree.join("file")), "evil\n");
    assert!(std::fs::symlink_metadata(tree.join("file")).unwrap().is_file());
}
