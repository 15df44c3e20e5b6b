//! Users with strange settings, and repositories that are not as most are.

use std::path::{Path, PathBuf};

use crate::commits::Done;
use crate::support::{World, branch, git, putting, task, user_git};

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
    let work = putting(done.id, target, &change.commit);
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
