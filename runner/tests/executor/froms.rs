//! Where work starts from: another task's state, a parent's last commit, files that are brought along.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use makima_core::effect::{Copy, Prepare, Start, Work};
use makima_core::id::TaskId;
use makima_core::input::{Outcome, Prepared};
use makima_core::policy::{InnerPath, RepositoryUrl};
use makima_core::task::{End, EndStatus};

use crate::support::{World, branch, git, task};

fn preparing(id: TaskId, repository: Option<&Path>, start: Start, copy: Option<Copy>) -> Work {
    Work::Prepare(Box::new(Prepare {
        repository: repository.map(|path| RepositoryUrl::Local(path.display().to_string())),
        credentials: None,
        start,
        branch: branch(id),
        plan: "do it".to_owned(),
        copy,
        conversation: None,
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

/// One that has changed nothing has no commit of its own: what it began with is what it had.
#[tokio::test]
async fn a_task_goes_on_with_one_that_changed_nothing_and_is_in_the_trash() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let old = task();
    let base = world.prepare(old, Some(&repository)).await.base;
    world.act(old, "true").await;
    assert_eq!(world.commit(old, base.as_deref()).await, None);
    let worktree = world.home.worktree(old);
    std::fs::rename(&worktree, world.path("aside")).unwrap();
    let id = task();
    let why = world.refused(id, preparing(id, Some(&repository), Start::Continue(old), None)).await;
    assert!(why.contains("has no worktree on this machine"), "who knows what it had done: {why}");
    std::fs::rename(world.path("aside"), &worktree).unwrap();
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 0 };
    for work in [Work::Conclude { end, spec: None }, Work::Close, Work::Discard] {
        assert_eq!(world.run(old, work).await, Outcome::Done);
    }
    assert!(!worktree.exists());
    // The default branch has gone on, and another repository has none of it.
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "more"]);
    let other = world.repository("other");
    for repository in [Some(repository.as_path()), None, Some(other.as_path())] {
        let id = task();
        let prepared = prepare(&mut world, preparing(id, repository, Start::Continue(old), None), id).await;
        assert_eq!(prepared.base, base, "{repository:?}");
        assert_eq!(read(&world.home.worktree(id).join("README")), "hello\n");
    }
}

/// Protects who goes on from files that belong together from getting some of before and some of after.
#[tokio::test]
async fn files_that_are_being_written_are_of_one_moment() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let old = task();
    world.prepare(old, Some(&repository)).await;
    // Whatever is looked at between the two is of no moment that was meant.
    let script = "n=0; while :; do n=$((n+1)); echo $n > a; echo $n > z; done";
    world.start(old, script).await;
    let tree = world.home.worktree(old);
    until("it writes", || number_of(&tree, "z").is_some()).await;
    for round in 0..3 {
        let id = task();
        let work = preparing(id, Some(&repository), Start::Continue(old), None);
        let prepared = prepare(&mut world, work, id).await;
        let new = world.home.worktree(id);
        let [a, z] = ["a", "z"].map(|name| number_of(&new, name));
        // Either may be just being written.
        let of_one_moment = match (a, z) {
            (Some(a), Some(z)) => a == z || a == z + 1,
            (None, Some(_)) | (Some(_), None) => true,
            (None, None) => false,
        };
        assert!(of_one_moment, "{round}: {a:?} {z:?}");
        assert_eq!(prepared.notes, Vec::<String>::new(), "{round}");
        // It goes on.
        let before = number_of(&tree, "z");
        until("it goes on", || number_of(&tree, "z").is_some_and(|now| Some(now) > before)).await;
    }
    world.empty(old).await;
}

/// Protects a paused task from being let go on by somebody who looks at its files, and one that is paused or let go on
/// meanwhile from anything but that.
#[tokio::test]
async fn a_look_leaves_a_tree_as_it_is_to_be() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let old = task();
    world.prepare(old, Some(&repository)).await;
    world.start(old, "n=0; while :; do n=$((n+1)); echo $n > a; echo $n > z; done").await;
    let tree = world.home.worktree(old);
    until("it writes", || number_of(&tree, "z").is_some()).await;
    assert_eq!(world.run(old, Work::Freeze).await, Outcome::Done);
    // Whether it stands: what was inside the kernel when it was stopped comes to its end there.
    let stands = async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = std::fs::read(tree.join("a")).unwrap();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            if std::fs::read(tree.join("a")).unwrap() != before {
                return false;
            }
        }
        true
    };
    let goes_on = async || {
        let before = number_of(&tree, "z");
        until("it goes on", || number_of(&tree, "z").is_some_and(|now| Some(now) > before)).await;
    };
    assert!(stands().await);
    let next = async |world: &mut World| {
        let id = task();
        prepare(world, preparing(id, Some(&repository), Start::Continue(old), None), id).await
    };
    next(&mut world).await;
    assert!(stands().await, "a look let it go on");
    assert_eq!(world.run(old, Work::Thaw).await, Outcome::Done);
    // Paused in the middle of a look, whenever that is.
    for wait in [0, 40, 80, 160, 320, 640] {
        let id = task();
        let look = world.ask(id, preparing(id, Some(&repository), Start::Continue(old), None));
        tokio::time::sleep(Duration::from_millis(wait)).await;
        assert_eq!(world.run(old, Work::Freeze).await, Outcome::Done);
        assert!(matches!(world.answer(look).await, Outcome::Prepared(_)));
        assert!(stands().await, "{wait}");
        assert_eq!(world.run(old, Work::Thaw).await, Outcome::Done);
        goes_on().await;
    }
    // Called off in the middle of one, it goes on.
    for wait in [200, 400, 600] {
        let id = task();
        let look = world.ask(id, preparing(id, Some(&repository), Start::Continue(old), None));
        tokio::time::sleep(Duration::from_millis(wait)).await;
        world.executor.cancel(look);
        world.answer(look).await;
        goes_on().await;
    }
    world.empty(old).await;
}

fn number_of(tree: &Path, name: &str) -> Option<u64> {
    std::fs::read_to_string(tree.join(name)).ok()?.trim().parse().ok()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within half a minute");
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
    let script = "mkdir -p conf/deep only/this; echo secret > conf/.env; echo '#!/bin/sh' > conf/deep/run; chmod 750 conf/deep/run; \
        echo x > only/this/one; echo y > only/this/two; chmod 500 conf/deep; chmod 711 only; chmod 700 only/this; \
        ln -s deep/run conf/link; ln -s /etc/passwd conf/out; mkfifo conf/pipe; echo hash > '#odd [name]!'";
    world.act(parent, script).await;
    let id = task();
    let wanted = copy(parent, &["conf/", "./#odd [name]!", "absent", "only/this/one", "only/this/two"]);
    let prepared = prepare(&mut world, preparing(id, Some(&repository), Start::Default, wanted), id).await;
    let tree = world.home.worktree(id);
    assert_eq!(read(&tree.join("conf/.env")), "secret\n");
    for (path, mode) in [("conf/deep/run", 0o750), ("conf/deep", 0o500), ("only", 0o711), ("only/this", 0o700)] {
        assert_eq!(std::fs::metadata(tree.join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
    assert_eq!(read(&tree.join("only/this/two")), "y\n");
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

/// A parent with what is lent to its children, and a checkout of the user's with a file that every worktree gets.
async fn lent(world: &mut World) -> (TaskId, PathBuf) {
    let repository = world.repository("upstream");
    std::fs::write(repository.join(".worktreeinclude"), "*.o\n").unwrap();
    std::fs::write(repository.join("key.o"), "secret of the user's\n").unwrap();
    let parent = task();
    world.prepare(parent, Some(&repository)).await;
    world.act(parent, "mkdir conf; echo secret > .env; echo secret > conf/token; echo changed > README").await;
    (parent, repository)
}

/// Protects what was lent from being committed, whatever an agent does with its repository and with its rules.
#[tokio::test]
async fn no_commit_of_ours_has_what_was_brought_along() {
    let mut world = World::new();
    let (parent, repository) = lent(&mut world).await;
    for script in [
        "true",
        "rm -rf .git",
        "rm -rf .git; git init -q -b main",
        "rm -rf .git; git init -q -b main; git add -f -A",
        ": > .git/info/exclude",
        "rm .git/info/exclude; mkfifo .git/info/exclude",
        ": > .git/info/exclude; git add -f -A; git rm -q --cached work",
        "printf '!.env\\n!conf\\n!*.o\\n' > .gitignore",
        "printf garbage > .git/index",
        "git checkout -q --orphan other; git add -f -A",
        "git config core.excludesFile /dev/null; git update-index --add --cacheinfo 100644,$(git hash-object -w .env),.env",
    ] {
        let id = task();
        let wanted = copy(parent, &[".env", "conf", "README"]);
        let prepared = prepare(&mut world, preparing(id, Some(&repository), Start::Default, wanted), id).await;
        let tree = world.home.worktree(id);
        assert_eq!(read(&tree.join("key.o")), "secret of the user's\n");
        world.act(id, &format!("echo x > work; mkdir -p conf; echo mine > conf/mine; {script}")).await;
        let change = world.commit(id, prepared.base.as_deref()).await.expect("its work");
        let base = prepared.base.expect("a base");
        let names = git(&world.bare(), &["diff-tree", "-r", "--name-only", &base, &change.commit]);
        let names: Vec<&str> = names.lines().filter(|name| *name != ".gitignore").collect();
        // What the base tracks is its own, and was changed.
        assert_eq!(names, ["README", "conf/mine", "work"], "{script}");
        assert!(!change.note.unwrap_or_default().contains("brought along"), "{script}");
        assert_eq!(read(&tree.join(".env")), "secret\n", "it stays where it is");
        // Who goes on from there gets the work, and not what was lent.
        let next = task();
        prepare(&mut world, preparing(next, Some(&repository), Start::Continue(id), None), next).await;
        let next = world.home.worktree(next);
        assert!(next.join("work").exists() && !next.join(".env").exists(), "{script}");
    }
}

/// The list of what was lent is made anew with the worktree, and outlasts the worktree's way into the trash and back.
#[tokio::test]
async fn what_was_brought_along_is_known_to_each_life_of_the_daemon() {
    let mut world = World::new();
    let (parent, repository) = lent(&mut world).await;
    let id = task();
    let work = preparing(id, Some(&repository), Start::Default, copy(parent, &[".env"]));
    prepare(&mut world, work.clone(), id).await;
    let list = world.home.task(id).join("brought");
    assert_eq!(std::fs::read(&list).unwrap(), b".env\0key.o\0");
    // Killed before it was in place: both are made again.
    std::fs::remove_dir_all(world.home.worktree(id)).unwrap();
    std::fs::write(&list, "other\0").unwrap();
    let mut world = world.again();
    let prepared = prepare(&mut world, work.clone(), id).await;
    assert_eq!(std::fs::read(&list).unwrap(), b".env\0key.o\0");
    // Asked for again it is as it is.
    std::fs::remove_file(repository.join("key.o")).unwrap();
    prepare(&mut world, work, id).await;
    assert_eq!(std::fs::read(&list).unwrap(), b".env\0key.o\0");
    world.act(id, "rm -rf .git; git init -q; echo x > x").await;
    let mut world = world.again();
    let change = world.commit(id, prepared.base.as_deref()).await.expect("its work");
    assert_eq!(change.files, 1);
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
