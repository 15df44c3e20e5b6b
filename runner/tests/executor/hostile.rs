//! Committing what agents leave that are up to no good.

use std::path::PathBuf;
use std::time::Duration;

use makima_core::effect::{Merge, Work};
use makima_core::id::SecretId;
use makima_core::input::Outcome;

use crate::commits::Done;
use crate::support::{Options, World, git, task};

/// Shorter than any limit that ends a git which waits.
const SOON: Duration = Duration::from_secs(20);

/// What of it is committed, soon, while the thread that everything runs on goes on.
async fn files_of(script: &str) -> (Vec<String>, String) {
    let mut done = Done::by(script).await;
    let longest = std::sync::Arc::new(std::sync::Mutex::new(Duration::ZERO));
    let watch = tokio::spawn({
        let longest = std::sync::Arc::clone(&longest);
        async move {
            loop {
                let before = std::time::Instant::now();
                tokio::time::sleep(Duration::from_millis(5)).await;
                let mut longest = longest.lock().unwrap();
                *longest = before.elapsed().max(*longest);
            }
        }
    });
    let change = tokio::time::timeout(SOON, done.commit()).await;
    watch.abort();
    let change = change.unwrap_or_else(|_| panic!("{script}: it is waited for")).expect("a change");
    assert!(*longest.lock().unwrap() < Duration::from_secs(5), "{script}: everything stood still");
    done.git(&["fsck", "--strict", "--connectivity-only"]);
    (done.files(), change.note.unwrap_or_default())
}

/// Runs it on a thread of its own: what blocks for ever must fail and not hang the test.
fn in_time(script: &'static str) -> (Vec<String>, String) {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = tell.send(runtime.block_on(files_of(script)));
    });
    told.recv_timeout(SOON * 2).unwrap_or_else(|_| panic!("{script}: the thread stands still"))
}

#[test]
fn pipes_and_devices_in_the_place_of_gits_files_stop_nothing() {
    for script in [
        "mkfifo .git/MERGE_HEAD",
        "ln -s /dev/zero .git/MERGE_HEAD",
        "rm .git/HEAD; mkfifo .git/HEAD",
        "rm .git/HEAD; ln -s /dev/zero .git/HEAD",
        "rm .git/packed-refs; mkfifo .git/packed-refs; rm -r .git/refs/heads/*",
        "rm .git/info/exclude; mkfifo .git/info/exclude",
        "rm .git/info/exclude; ln -s /dev/zero .git/info/exclude",
        "f=.git/$(git symbolic-ref HEAD); rm $f; mkfifo $f",
        "f=.git/$(git symbolic-ref HEAD); rm $f; ln -s /dev/zero $f",
        "rm .git/index; mkfifo .git/index",
        "truncate -s 100G .git/MERGE_HEAD",
        "truncate -s 100G .git/index",
        "mkfifo .git/shallow",
        "echo 0123456789012345678901234567890123456789 > .git/shallow",
        "echo 0123456789012345678901234567890123456789 > .git/MERGE_HEAD",
    ] {
        let script: &'static str = Box::leak(format!("echo c > c; {script}").into_boxed_str());
        assert_eq!(in_time(script).0, [".gitignore", "README", "c"], "{script}");
    }
}

#[test]
fn pipes_among_the_objects_stop_nothing() {
    for script in [
        "mkfifo .git/objects/info/commit-graph",
        "rm .git/objects/info/alternates; mkfifo .git/objects/info/alternates",
        "mkdir -p ../evil-$$/info ../evil-$$/pack; mkfifo ../evil-$$/info/commit-graph; \
         echo $(cd ../evil-$$; pwd) >> .git/objects/info/alternates",
        "git add c; o=.git/objects/$(git rev-parse :c | sed 's,^..,&/,'); rm -f $o; mkfifo $o",
        "git add c; git commit -qm c; o=.git/objects/$(git rev-parse HEAD | sed 's,^..,&/,'); rm -f $o; mkfifo $o",
    ] {
        let script: &'static str = Box::leak(format!("echo c > c; {script}").into_boxed_str());
        assert_eq!(in_time(script).0, [".gitignore", "README", "c"], "{script}");
    }
}

#[test]
fn pipes_in_the_worktree_that_git_would_open_stop_nothing() {
    for (script, aside) in [
        ("rm .gitignore; mkfifo .gitignore; mkdir d; echo c > d/c", ".gitignore"),
        ("rm .gitignore; mkdir -p d/e; mkfifo d/e/.gitignore; echo c > d/c", "d/e/.gitignore"),
        ("rm .gitignore; mkdir d; mkfifo d/.gitattributes; echo c > d/c", "d/.gitattributes"),
        ("rm .gitignore; mkfifo .gitattributes .gitmodules .mailmap; mkdir d; echo c > d/c", ".gitattributes"),
        ("rm .gitignore; git init -q d; rm d/.git/HEAD; mkfifo d/.git/HEAD; echo c > d/c", "d/.git/HEAD"),
        ("rm .gitignore; git init -q d; mkfifo d/.git/commondir; echo c > d/c", "d/.git/commondir"),
        ("rm .gitignore; mkdir d d/e; mkfifo d/e/.gitignore; echo c > d/c; chmod 555 d/e", "d/e/.gitignore"),
        (
            "rm .gitignore; git init -q ../evil-$$; mkdir d; echo gitdir: ../../evil-$$/.git > d/.git; \
             rm ../evil-$$/.git/HEAD; mkfifo ../evil-$$/.git/HEAD; echo c > d/c",
            "d/.git",
        ),
    ] {
        let (files, note) = in_time(script);
        assert_eq!(files, ["README", "d/c"], "{script}");
        assert!(note.contains(&format!("`{aside}`")), "{script}: {note}");
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_our_index_is_not_written_through() {
    let mut done = Done::by("echo precious > ../precious; ln -s ../../precious .git/index.makima; echo c > c").await;
    done.commit().await.expect("a change");
    let precious = done.tree.with_file_name("precious");
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious\n");
    assert_eq!(git(&done.tree, &["status", "--porcelain"]), "");
    // Nor are references of others.
    let mut done = Done::by(
        "mkdir -p ../others; b=$(git symbolic-ref --short HEAD); git checkout -q --detach; \
         rm -r .git/refs/heads; ln -s ../../../others .git/refs/heads; git symbolic-ref HEAD refs/heads/$b; echo c > c",
    )
    .await;
    done.commit().await.expect("a change");
    let others = done.tree.with_file_name("others");
    assert_eq!(std::fs::read_dir(others).unwrap().count(), 0);
}

/// A repository with a submodule, at its first of two commits.
fn with_submodule(world: &World) -> (PathBuf, String, String) {
    let inner = world.repository("inner");
    let first = git(&inner, &["rev-parse", "HEAD"]);
    std::fs::write(inner.join("second"), "second\n").unwrap();
    git(&inner, &["add", "-A"]);
    git(&inner, &["commit", "-q", "-m", "second"]);
    let second = git(&inner, &["rev-parse", "HEAD"]);
    let upstream = world.repository("upstream");
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q", inner.to_str().unwrap(), "sub"];
    git(&upstream, &add);
    git(&upstream.join("sub"), &["checkout", "-q", &first]);
    git(&upstream, &["add", "-A"]);
    git(&upstream, &["commit", "-q", "-m", "a submodule"]);
    (upstream, first, second)
}

const UPDATE: &str = "git -c protocol.file.allow=always submodule update -q --init";

async fn on_submodule(script: &str) -> (Done, String, String) {
    let world = World::new();
    let (upstream, first, second) = with_submodule(&world);
    (Done::by_on(world, &upstream, &script.replace("UPDATE", UPDATE)).await, first, second)
}

fn link(done: &Done) -> String {
    done.git(&["ls-tree", "--format=%(objectmode) %(objectname)", &done.name(), "sub"])
}

#[tokio::test]
async fn nothing_runs_inside_a_submodule() {
    for dirty in ["echo dirty > sub/README", "git -C sub commit -qm mine --allow-empty; echo dirty > sub/README"] {
        let script = format!(
            "UPDATE; cp -r .git/modules/sub ../aside-$$; {dirty}; c=$(cd ..; pwd)/canary-$$; \
             for k in filter.evil.clean filter.evil.process core.fsmonitor; do git -C sub config $k \"touch $c\"; done; \
             echo '* filter=evil' > sub/.gitattributes; touch sub/README; echo c > c; rm -f $c"
        );
        let (mut done, first, _) = on_submodule(&script).await;
        done.commit().await.expect("a change");
        let left = std::fs::read_dir(done.tree.parent().unwrap()).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        assert_eq!(left.filter(|name| name.starts_with("canary")).count(), 0, "{dirty}");
        let tip = if dirty.contains("commit") {
            git(&done.tree.join("sub"), &["log", "-1", "--format=%H", "HEAD"])
        } else {
            first
        };
        assert_eq!(link(&done), format!("160000 {tip}"));
    }
}

#[tokio::test]
async fn a_submodule_is_committed_where_the_agent_left_it() {
    // At another commit, detached or on a branch, with or without a `.git` folder of its own.
    for script in [
        "UPDATE; git -C sub checkout -q origin/main",
        "UPDATE; git -C sub switch -qc new origin/main; git -C sub pack-refs --all",
        "rm -r sub; git clone -q ../../../inner sub",
    ] {
        let (mut done, _, second) = on_submodule(script).await;
        let change = done.commit().await.unwrap_or_else(|| panic!("{script}: a change"));
        assert_eq!((link(&done), change.files), (format!("160000 {second}"), 1), "{script}");
    }
    // Where nothing was done to it, or it cannot be read, it stays.
    // (One with a pipe in it is a folder with files by then.)
    for script in ["true", "UPDATE", "UPDATE; echo garbage > .git/modules/sub/HEAD"] {
        let (mut done, first, _) = on_submodule(&format!("{script}; echo c > c")).await;
        done.commit().await.expect("a change");
        assert_eq!(link(&done), format!("160000 {first}"), "{script}");
    }
    // Gone, or something else.
    let (mut done, ..) = on_submodule("rm -r sub").await;
    done.commit().await.expect("a change");
    assert_eq!(done.files(), [".gitignore", ".gitmodules", "README"]);
    let (mut done, ..) = on_submodule("rm -r sub; echo file > sub").await;
    done.commit().await.expect("a change");
    assert_eq!(done.git(&["show", &format!("{}:sub", done.name())]), "file");
    let (mut done, ..) = on_submodule("UPDATE; rm sub/.git; echo more > sub/more").await;
    done.commit().await.expect("a change");
    assert_eq!(done.files(), [".gitignore", ".gitmodules", "README", "sub/.gitignore", "sub/README", "sub/more"]);
}

#[tokio::test]
async fn a_submodule_that_the_agent_added_is_a_link() {
    let world = World::new();
    world.repository("inner");
    let repository = world.repository("upstream");
    let script = format!("git -c protocol.file.allow=always submodule add -q {} sub", world.path("inner").display());
    let mut done = Done::by_on(world, &repository, &script).await;
    done.commit().await.expect("a change");
    assert_eq!(done.files(), [".gitignore", ".gitmodules", "README", "sub"]);
    assert!(link(&done).starts_with("160000 "));
}

#[tokio::test]
async fn what_is_told_of_a_commit_shows_no_secret() {
    let mut done = Done::by("git init -q tok3n-of-the-user; echo c > tok3n-of-the-user/c").await;
    done.world.secrets.set(SecretId::Credentials(done.id), "ada:tok3n-of-the-user");
    let note = done.commit().await.expect("a change").note.expect("a note");
    assert!(note.contains("`***` is committed"), "{note}");
}

#[tokio::test]
async fn attributes_that_git_cannot_follow_keep_nothing_back() {
    for attributes in [
        "* working-tree-encoding=UTF-16",
        "* working-tree-encoding=nonsense",
        "* text eol=crlf ident -diff",
        "* working-tree-encoding=UTF-32LE-BOM text",
        "[attr]mine filter=evil\n* mine",
    ] {
        let script =
            format!("printf '{attributes}\\n' > .gitattributes; printf 'a\\r\\nb\\n' > c; echo more >> README");
        let mut done = Done::by(&script).await;
        done.commit().await.unwrap_or_else(|| panic!("{attributes}"));
        assert_eq!(done.files(), [".gitattributes", ".gitignore", "README", "c"], "{attributes}");
    }
}

/// Protects from a `git` that an agent has laid out where a user's `PATH` names the folder that one is in.
#[tokio::test]
async fn a_git_in_the_worktree_is_not_git() {
    let path = format!(".:bin::{}", std::env::var("PATH").unwrap());
    let mut world = World::with(Options { more: vec![("PATH".to_owned(), path)], ..Options::default() });
    let repository = world.repository("upstream");
    let id = task();
    let base = world.prepare(id, Some(&repository)).await.base;
    let canary = world.path("canary");
    let script = format!(
        "mkdir bin; printf '#!/bin/sh\\ntouch {}\\n' | tee git > bin/git; chmod +x git bin/git; echo work > work",
        canary.display()
    );
    world.act(id, &script).await;
    let change = world.commit(id, base.as_deref()).await.expect("a change");
    assert_eq!(change.files, 3);
    let merged = world.run(id, Work::Merge(Merge::Status)).await;
    assert!(matches!(merged, Outcome::Merging(_)), "{merged:?}");
    assert!(!canary.exists());
}
