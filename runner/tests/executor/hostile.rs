//! Committing what agents leave that are up to no good, or whose users have strange settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use makima_core::id::SecretId;

use crate::commits::Done;
use crate::support::{World, branch, git, task, user_git};

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

/// Everything that could be in the way of ours.
const STRANGE: &str = "
[init]
    defaultBranch = trunk
    defaultRefFormat = reftable
    defaultObjectFormat = sha256
    templateDir = /nowhere
[core]
    autocrlf = input
    safecrlf = true
    splitIndex = true
    fsmonitor = true
    untrackedCache = true
    hooksPath = /nowhere
    quotePath = false
    precomposeUnicode = true
    fileMode = false
    ignoreCase = true
    symlinks = false
    checkStat = minimal
    trustctime = false
    preloadIndex = false
    logAllRefUpdates = always
    pager = false
    editor = false
    askPass = false
    attributesFile = /nowhere
    commentChar = auto
    abbrev = 4
[index]
    version = 4
    sparse = true
    skipHash = true
    recordEndOfIndexEntries = true
[feature]
    manyFiles = true
    experimental = true
[gc]
    auto = 1
    autoDetach = false
[maintenance]
    auto = true
[fetch]
    prune = true
    pruneTags = true
    fsckObjects = true
    recurseSubmodules = true
    writeCommitGraph = true
    all = true
    output = compact
[transfer]
    fsckObjects = true
    credentialsInUrl = die
[clone]
    defaultRemoteName = upstream
    rejectShallow = true
[protocol]
    allow = never
    version = 0
[protocol \"file\"]
    allow = never
[safe]
    bareRepository = explicit
[merge]
    conflictStyle = zdiff3
    ff = only
[status]
    showUntrackedFiles = no
    short = true
    relativePaths = true
[log]
    showSignature = true
    mailmap = true
    date = relative
    follow = true
[format]
    pretty = oneline
[diff]
    orderFile = /nowhere
    external = false
    noprefix = true
    renames = false
    relative = true
    ignoreSubmodules = all
    statGraphWidth = 1
[color]
    ui = always
    diff = always
[submodule]
    recurse = true
[commit]
    template = /nowhere
    verbose = true
    cleanup = verbatim
[push]
    default = nothing
[pack]
    packSizeLimit = 1m
[column]
    ui = always
[tag]
    gpgSign = true
[user]
    useConfigOnly = true
";

/// A repository on which agents work whose user has strange settings.
async fn strange(repository: impl Fn(&World) -> PathBuf, settings: &str) -> (Done, PathBuf) {
    let world = World::new();
    let config = world.path("user/.gitconfig");
    let repository = repository(&world);
    std::fs::write(&config, format!("{}{settings}", std::fs::read_to_string(&config).unwrap())).unwrap();
    let script = "unset GIT_CONFIG_GLOBAL; printf 'a\\r\\nb\\r\\n' > crlf; chmod +x README; echo c > readme; \
        ln -s nowhere link; git commit -q --allow-empty -m mine; echo d > d";
    (Done::by_on(world.again(), &repository, script).await, repository)
}

async fn is_delivered(done: &mut Done, target: &Path) {
    let change = done.commit().await.expect("a change");
    assert_eq!(done.commit().await.as_ref(), Some(&change));
    let work = makima_core::effect::Work::PutBranch {
        target: target.display().to_string(),
        branch: branch(done.id),
        commit: change.commit.clone(),
    };
    let answer = done.world.run(done.id, work).await;
    assert!(matches!(answer, makima_core::input::Outcome::Delivered { .. }), "{answer:?}");
    assert_eq!(git(target, &["rev-parse", branch(done.id).as_str()]), change.commit);
}

/// What the agent's repository says, where line ends are as the user wants them.
fn status(done: &Done) -> String {
    git(&done.tree, &["-c", "core.autocrlf=input", "status", "--porcelain"])
}

#[tokio::test]
async fn the_users_settings_are_not_in_the_way() {
    let (mut done, repository) = strange(|world| world.repository("upstream"), STRANGE).await;
    is_delivered(&mut done, &repository).await;
    assert_eq!(done.files(), [".gitignore", "README", "crlf", "d", "link", "readme"]);
    let modes = done.git(&["ls-tree", "--format=%(objectmode)", &done.name(), "README", "link"]);
    assert_eq!(modes, "100755\n120000");
    assert_eq!(status(&done), "");
    // The same without a repository, and on one that is bare.
    let id = task();
    done.world.prepare(id, None).await;
    done.world.act(id, "echo a > a").await;
    done.world.commit(id, None).await.expect("a change");
    let bare = |world: &World| {
        git(&world.repository("upstream"), &["clone", "-q", "--bare", ".", "../bare.git"]);
        world.path("bare.git")
    };
    let (mut done, repository) = strange(bare, STRANGE).await;
    is_delivered(&mut done, &repository).await;
}

#[tokio::test]
async fn repositories_of_another_format_go_on_working() {
    for (option, settings) in [
        ("--object-format=sha256", ""),
        ("--object-format=sha256", STRANGE),
        ("--ref-format=reftable", ""),
        ("--ref-format=reftable", STRANGE),
    ] {
        // Git has known of references that are no files since 2.45.
        let known = user_git(Path::new("/"), &["init", "-q", "-h"]).output().unwrap().stdout;
        if option.contains("reftable") && !String::from_utf8_lossy(&known).contains("--ref-format") {
            continue;
        }
        let make = |world: &World| {
            let path = world.path("upstream");
            std::fs::create_dir(&path).unwrap();
            git(&path, &["init", "-q", "-b", "main", option]);
            std::fs::write(path.join("README"), "hello\n").unwrap();
            git(&path, &["add", "-A"]);
            git(&path, &["commit", "-q", "-m", "first"]);
            path
        };
        let (mut done, repository) = strange(make, settings).await;
        is_delivered(&mut done, &repository).await;
        assert_eq!(status(&done), "", "{option}");
    }
}

#[tokio::test]
async fn a_shallow_repository_is_as_good_as_any() {
    for settings in ["", STRANGE] {
        let make = |world: &World| {
            let deep = world.repository("deep");
            for n in 0..3 {
                std::fs::write(deep.join("n"), n.to_string()).unwrap();
                git(&deep, &["add", "-A"]);
                git(&deep, &["commit", "-q", "-m", "more"]);
            }
            let address = format!("file://{}", deep.display());
            git(world.folder.path(), &["clone", "-q", "--depth", "1", &address, "upstream"]);
            world.path("upstream")
        };
        let (mut done, repository) = strange(make, settings).await;
        assert_eq!(git(&done.tree, &["log", "--format=%s"]), "mine\nmore");
        git(&done.tree, &["fsck"]);
        is_delivered(&mut done, &repository).await;
        assert_eq!(done.git(&["rev-list", "--count", &done.name()]), "3");
        done.git(&["fsck"]);
        // Upstream goes on, and is as shallow as before.
        git(&done.world.path("deep"), &["commit", "-q", "--allow-empty", "-m", "newest"]);
        git(&repository, &["fetch", "-q", "--depth", "1"]);
        git(&repository, &["reset", "-q", "--hard", "origin/main"]);
        let id = task();
        done.world.prepare(id, Some(&repository)).await;
        assert_eq!(git(&done.world.home.worktree(id), &["log", "--format=%s"]), "newest");
        // An agent may bring shallow history of its own.
        let deep = done.world.path("deep");
        let script = format!(
            "unset GIT_CONFIG_GLOBAL; git -C {0} branch -f side main~1; export GIT_ALLOW_PROTOCOL=file; \
             git fetch -q --depth 1 file://{0} side; git merge -q --allow-unrelated-histories -X theirs -m side FETCH_HEAD; echo e > e",
            deep.display()
        );
        let base = git(&done.world.home.worktree(id), &["rev-parse", "HEAD"]);
        done.world.act(id, &script).await;
        done.world.commit(id, Some(&base)).await.expect("a change");
    }
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
