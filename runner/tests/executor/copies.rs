//! Copying a task's worktree to a folder of the user's, and looking whether there is one.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use makima_core::effect::Work;
use makima_core::id::TaskId;
use makima_core::input::Outcome;
use makima_core::task::{End, EndStatus};

use crate::support::{World, branch, folder, git, spec, task};

async fn accepted(world: &mut World, repository: &Path) -> TaskId {
    let id = task();
    let mut spec = spec(id);
    spec.repository = Some(makima_core::policy::RepositoryUrl::Local(repository.display().to_string()));
    world.run(id, Work::Accept { spec: Box::new(spec) }).await;
    id
}

fn cloning(id: TaskId, to: &str) -> Work {
    Work::Clone { to: to.to_owned(), branch: branch(id) }
}

async fn cloned(world: &mut World, id: TaskId, to: &Path) -> PathBuf {
    match world.run(id, cloning(id, to.to_str().unwrap())).await {
        Outcome::Cloned { to } => PathBuf::from(to),
        other => panic!("{other:?}"),
    }
}

const WORK: &str = "echo a > a; git add a; git commit -qm one; echo b > b; echo changed > README; rm .gitignore; mkdir d; echo c > d/c; ln -s a link; printf x > run; chmod +x run";

fn is_like_the_worktree(world: &World, id: TaskId, copy: &Path) {
    let worktree = world.home.worktree(id);
    for what in [
        &["status", "--porcelain"][..],
        &["rev-parse", "HEAD"],
        &["log", "--format=%H %s"],
        &["branch", "--show-current"],
    ] {
        assert_eq!(git(copy, what), git(&worktree, what), "{what:?}");
    }
    let differ =
        std::process::Command::new("diff").args(["-r", "--exclude=.git"]).arg(&worktree).arg(copy).output().unwrap();
    assert!(differ.status.success(), "{}", String::from_utf8_lossy(&differ.stdout));
    git(copy, &["fsck", "--strict"]);
    assert!(!copy.join(".git/objects/info/alternates").exists());
    assert_eq!(git(copy, &["for-each-ref", "refs/makima"]), "");
}

#[tokio::test]
async fn files_and_history_are_copied_as_they_are() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let id = accepted(&mut world, &repository).await;
    let base = world.prepare(id, Some(&repository)).await.base;
    world.act(id, WORK).await;
    // New, with folders that are missing; empty; asked again.
    let to = world.path("user/new/one");
    assert_eq!(cloned(&mut world, id, &to).await, to.canonicalize().unwrap());
    is_like_the_worktree(&world, id, &to);
    assert_eq!(git(&to, &["branch", "--show-current"]), branch(id).as_str());
    assert_eq!(git(&to, &["remote", "get-url", "origin"]), repository.canonicalize().unwrap().display().to_string());
    assert_eq!(git(&to, &["rev-parse", "origin/main"]), base.clone().unwrap());
    let empty = world.path("user/empty");
    std::fs::create_dir(&empty).unwrap();
    cloned(&mut world, id, &empty).await;
    is_like_the_worktree(&world, id, &empty);
    std::fs::write(to.join("mine"), "mine").unwrap();
    cloned(&mut world, id, &to).await;
    assert!(to.join("mine").exists());
    // It stands by itself.
    std::fs::remove_dir_all(world.home.repos()).unwrap();
    git(&to, &["fsck", "--strict"]);
    let left: Vec<_> =
        std::fs::read_dir(world.path("user/new")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["one"]);
}

#[tokio::test]
async fn one_that_runs_and_one_without_a_commit_are_copied_too() {
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    let (running, _) = world.start(id, "echo a > a; touch ready; sleep 100").await;
    for _ in 0..500 {
        if world.home.worktree(id).join("ready").exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let to = world.path("user/copy");
    cloned(&mut world, id, &to).await;
    assert_eq!(git(&to, &["status", "--porcelain"]), "?? a\n?? ready");
    assert_eq!(git(&to, &["branch", "--show-current"]), branch(id).as_str());
    world.empty(id).await;
    world.exit(running).await;
}

/// Protects what the user has there.
#[tokio::test]
async fn what_is_there_is_never_written_over() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let (id, other) = (accepted(&mut world, &repository).await, accepted(&mut world, &repository).await);
    for id in [id, other] {
        world.prepare(id, Some(&repository)).await;
    }
    let full = world.path("user/full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join(".hidden"), "mine").unwrap();
    let file = world.path("user/file");
    std::fs::write(&file, "mine").unwrap();
    let copy = world.path("user/copy");
    cloned(&mut world, other, &copy).await;
    symlink(world.path("user/nowhere"), world.path("user/dangling")).unwrap();
    for (to, said) in [
        (full.clone(), "is not empty; it is left as it is"),
        (file.clone(), "is no folder"),
        (copy, "is not empty"),
        (file.join("inside"), "cannot be"),
        (world.path("user/dangling"), "is not empty any more"),
    ] {
        let why = world.refused(id, cloning(id, to.to_str().unwrap())).await;
        assert!(why.contains(said), "{}: {why}", to.display());
    }
    assert_eq!(std::fs::read_to_string(full.join(".hidden")).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert!(!world.path("user/nowhere").exists());
    let left = std::fs::read_dir(world.path("user"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".makima-clone"));
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn one_whose_worktree_is_gone_says_where_it_may_be() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let id = accepted(&mut world, &repository).await;
    world.prepare(id, Some(&repository)).await;
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 0 };
    assert_eq!(world.run(id, Work::Conclude { end, spec: None }).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Close).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Discard).await, Outcome::Done);
    let to = world.path("user/copy");
    let why = world.refused(id, cloning(id, to.to_str().unwrap())).await;
    assert!(why.contains(&format!("makima worktree restore {id}")), "{why}");
    assert!(!to.exists());
}

/// What a killed life of the daemon has half made is in nobody's way.
#[tokio::test]
async fn a_half_made_copy_is_made_anew() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let id = accepted(&mut world, &repository).await;
    world.prepare(id, Some(&repository)).await;
    let staging = world.path(&format!("user/.makima-clone-{id}"));
    std::fs::create_dir_all(staging.join(".git/objects")).unwrap();
    std::fs::write(staging.join(".git/config.lock"), "").unwrap();
    let to = world.path("user/copy");
    cloned(&mut world, id, &to).await;
    is_like_the_worktree(&world, id, &to);
    assert!(!staging.exists());
    // A link in its place is taken away, and not followed.
    let elsewhere = folder();
    std::fs::write(elsewhere.path().join("canary"), "").unwrap();
    symlink(elsewhere.path(), &staging).unwrap();
    let another = world.path("user/another");
    cloned(&mut world, id, &another).await;
    assert!(elsewhere.path().join("canary").exists());
}

#[tokio::test]
async fn nothing_is_copied_outside_the_allowed_roots() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let id = accepted(&mut world, &repository).await;
    world.prepare(id, Some(&repository)).await;
    let elsewhere = folder();
    std::fs::create_dir(elsewhere.path().join("empty")).unwrap();
    symlink(elsewhere.path(), world.path("link")).unwrap();
    let root = elsewhere.path().display().to_string();
    let own = world.home.worktrees().join("x").display().to_string();
    let link = world.path("link").display().to_string();
    for to in [
        format!("{root}/new"),
        format!("{root}/empty"),
        format!("{link}/new"),
        format!("{link}/empty"),
        own,
        "/proc/self/cwd/x".to_owned(),
        "~bob/x".to_owned(),
    ] {
        world.refused(id, cloning(id, &to)).await;
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1, "{to}");
        assert_eq!(std::fs::read_dir(elsewhere.path().join("empty")).unwrap().count(), 0, "{to}");
    }
    // The folder that servers are told of is there for it.
    let advertised = world.home.clones().join("copy");
    cloned(&mut world, id, &advertised).await;
}

async fn look(world: &mut World, path: &str) -> (String, bool, Option<String>) {
    match world.run(task(), Work::Look { path: path.to_owned() }).await {
        Outcome::Looked { path, exists, refused } => (path, exists, refused),
        other => panic!("{other:?}"),
    }
}

/// Protects what lies outside from being asked for: the answer is the same whether it is there or not.
#[tokio::test]
async fn what_is_outside_is_not_there() {
    let mut world = World::new();
    world.repository("upstream");
    let root = world.folder.path().canonicalize().unwrap();
    let (path, exists, refused) = look(&mut world, &format!("{}/upstream//", root.display())).await;
    assert_eq!((path, exists, refused), (root.join("upstream").display().to_string(), true, None));
    let (path, exists, refused) = look(&mut world, "~/nothing").await;
    assert_eq!((path, exists, refused), (root.join("user/nothing").display().to_string(), false, None));
    let elsewhere = folder();
    symlink(elsewhere.path(), root.join("link")).unwrap();
    std::fs::create_dir(elsewhere.path().join("there")).unwrap();
    for folder in [elsewhere.path().to_path_buf(), root.join("link"), world.home.worktrees()] {
        let mut said = Vec::new();
        for name in ["there", "absent"] {
            let named = folder.join(name).display().to_string();
            let (path, exists, refused) = look(&mut world, &named).await;
            assert_eq!((path, exists), (named, false));
            said.push(refused.expect("a reason").replace(name, "NAME"));
        }
        assert_eq!(said[0], said[1]);
        assert!(said[0].contains("`allowed_roots`"), "{said:?}");
    }
}
