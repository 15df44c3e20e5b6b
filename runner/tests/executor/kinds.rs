//! Repositories of other kinds than the ordinary one.

use std::path::Path;
use std::time::{Duration, Instant};

use makima_core::wants::Wants;
use makima_runner::consent::key;
use makima_runner::executor::OwnWants;

use crate::support::{Options, World, folder, git, task, user_git};

/// The user wants submodules of the repository `upstream`.
fn with_submodules() -> World {
    let folder = folder();
    let path = folder.path().canonicalize().unwrap().join("upstream");
    std::fs::create_dir(folder.path().join("user")).unwrap();
    let wants = Wants { submodules: true, ..Wants::default() };
    let own = OwnWants { repository: key(path.to_str().unwrap()), wants };
    World::on(folder, Options { repositories: vec![own], ..Options::default() })
}

fn add_submodule(world: &World, upstream: &Path) {
    let inner = world.repository("inner");
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q", inner.to_str().unwrap(), "sub"];
    git(upstream, &add);
    git(upstream, &["commit", "-q", "-m", "a submodule"]);
}

#[tokio::test]
async fn submodules_are_brought_where_the_user_wants_them_and_nowhere_else() {
    let mut world = World::new();
    let upstream = world.repository("upstream");
    add_submodule(&world, &upstream);
    let id = task();
    world.prepare(id, Some(&upstream)).await;
    assert!(!world.home.worktree(id).join("sub/README").exists());

    let mut world = with_submodules();
    let upstream = world.repository("upstream");
    add_submodule(&world, &upstream);
    let id = task();
    let base = world.prepare(id, Some(&upstream)).await.base;
    let worktree = world.home.worktree(id);
    assert_eq!(std::fs::read_to_string(worktree.join("sub/README")).unwrap(), "hello\n");
    assert_eq!(git(&worktree, &["status", "--porcelain"]), "");
    world.act(id, "echo x > x; git -C sub rev-parse HEAD").await;
    assert_eq!(world.commit(id, base.as_deref()).await.expect("a change").files, 1);
}

#[tokio::test]
async fn a_repository_of_the_long_ids_is_worked_in() {
    let mut world = World::new();
    let upstream = world.path("upstream");
    std::fs::create_dir(&upstream).unwrap();
    git(&upstream, &["init", "-q", "-b", "main", "--object-format=sha256"]);
    std::fs::write(upstream.join("README"), "hello\n").unwrap();
    git(&upstream, &["add", "-A"]);
    git(&upstream, &["commit", "-q", "-m", "first"]);
    let id = task();
    let base = world.prepare(id, Some(&upstream)).await.base;
    assert_eq!(base.as_ref().map(String::len), Some(64));
    world.act(id, "echo x > x").await;
    let change = world.commit(id, base.as_deref()).await.expect("a change");
    assert_eq!((change.commit.len(), change.files), (64, 1));
    assert_eq!(git(&world.bare(), &["show", &format!("{}:x", change.commit)]), "x");
}

#[tokio::test]
async fn a_repository_whose_past_is_cut_off_is_worked_in() {
    let mut world = World::new();
    let upstream = world.repository("upstream");
    git(&upstream, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let url = format!("file://{}", upstream.display());
    git(world.folder.path(), &["clone", "-q", "--depth", "1", &url, "cut"]);
    let (id, cut) = (task(), world.path("cut"));
    let base = world.prepare(id, Some(&cut)).await.base;
    world.act(id, "echo x > x").await;
    let change = world.commit(id, base.as_deref()).await.expect("a change");
    assert_eq!(git(&world.bare(), &["show", &format!("{}:x", change.commit)]), "x");
    assert_eq!(git(&world.home.worktree(id), &["rev-list", "--count", "HEAD"]), "2");
}

/// Protects a checkout from a filter that nobody has agreed to run, and the pointers from being changed.
#[tokio::test]
async fn pointers_to_large_files_stay_pointers() {
    let mut world = World::new();
    let upstream = world.repository("upstream");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    std::fs::write(upstream.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
    std::fs::write(upstream.join("large.bin"), pointer).unwrap();
    git(&upstream, &["add", "-A"]);
    git(&upstream, &["commit", "-q", "-m", "a pointer"]);
    let traces = world.path("traces");
    let config = world.path("user").join(".gitconfig");
    let set = |key: &str| {
        let (path, filter) =
            (config.to_str().unwrap(), format!("echo {key} >> {}; cat; echo changed", traces.display()));
        assert!(user_git(&upstream, &["config", "--file", path, key, &filter]).status().unwrap().success());
    };
    ["filter.lfs.smudge", "filter.lfs.clean", "filter.lfs.process"].iter().for_each(|key| set(key));
    let id = task();
    let base = world.prepare(id, Some(&upstream)).await.base;
    assert_eq!(std::fs::read_to_string(world.home.worktree(id).join("large.bin")).unwrap(), pointer);
    assert_eq!(std::fs::read_to_string(&traces).ok(), None, "a filter was run");
    std::fs::write(world.home.worktree(id).join("x"), "x").unwrap();
    assert_eq!(world.commit(id, base.as_deref()).await.expect("a change").files, 1);
    assert_eq!(std::fs::read_to_string(&traces).ok(), None, "a filter was run");
    // As the document says: what was brought is committed as it lies there.
    let id = task();
    let base = world.prepare(id, Some(&upstream)).await.base;
    std::fs::write(world.home.worktree(id).join("large.bin"), "brought").unwrap();
    let change = world.commit(id, base.as_deref()).await.expect("a change");
    assert_eq!(git(&world.bare(), &["show", &format!("{}:large.bin", change.commit)]), "brought");
    assert_eq!(std::fs::read_to_string(&traces).ok(), None, "a filter was run");
}

/// Only where `MAKIMA_LONG` says so: it takes a while.
#[tokio::test]
async fn a_repository_of_sixty_thousand_files_is_prepared_in_good_time() {
    if std::env::var_os("MAKIMA_LONG").is_none() {
        return eprintln!("skipped: it makes 60,000 files; set MAKIMA_LONG=1");
    }
    let mut world = World::new();
    let upstream = world.repository("upstream");
    for folder in 0..600 {
        let folder = upstream.join(format!("folder-{folder}"));
        std::fs::create_dir(&folder).unwrap();
        (0..100).for_each(|file| std::fs::write(folder.join(format!("{file}")), format!("{file}\n")).unwrap());
    }
    git(&upstream, &["add", "-A"]);
    git(&upstream, &["commit", "-q", "-m", "many"]);
    let (id, began) = (task(), Instant::now());
    let base = world.prepare(id, Some(&upstream)).await.base;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(std::fs::read_to_string(world.home.worktree(id).join("folder-599/99")).unwrap(), "99\n");
    std::fs::write(world.home.worktree(id).join("x"), "x").unwrap();
    assert_eq!(world.commit(id, base.as_deref()).await.expect("a change").files, 1);
}
