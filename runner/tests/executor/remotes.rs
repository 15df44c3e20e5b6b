//! Bringing repositories from servers that fall silent, and how ssh is run for those that might.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use makima_core::effect::{Prepare, Start, Work};
use makima_core::id::TaskId;
use makima_core::input::Outcome;
use makima_core::policy::RepositoryUrl;

use crate::forge::Forge;
use crate::support::{Options, World, branch, folder, git, task};

fn preparing(id: TaskId, url: &str, start: Start) -> Work {
    Work::Prepare(Box::new(Prepare {
        repository: Some(RepositoryUrl::Remote(url.to_owned())),
        credentials: None,
        start,
        branch: branch(id),
        plan: String::new(),
        copy: None,
        conversation: None,
    }))
}

fn program(path: &Path, script: &str) -> PathBuf {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// A server on this machine, which is reached without encryption, and how it names its repository.
async fn served(silence_max: Duration) -> (World, Forge, PathBuf, String) {
    let folder = folder();
    let root = folder.path().join("forge");
    std::fs::create_dir_all(root.join("o")).unwrap();
    let forge = Forge::new(&root).await;
    let wrapper =
        program(&folder.path().join("git"), "export GIT_ALLOW_PROTOCOL=\"$GIT_ALLOW_PROTOCOL:http\"\nexec git \"$@\"");
    let world = World::with_user(folder, Options { git: wrapper, silence_max, ..Options::default() });
    let upstream = world.repository("upstream");
    let remote = root.join("o/r.git");
    git(&upstream, &["clone", "-q", "--bare", ".", remote.to_str().unwrap()]);
    let url = format!("http://{}/o/r.git", forge.host);
    (world, forge, remote, url)
}

fn left(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("tmp_") || name.starts_with(".making-") || name.contains(".lock") {
                found.push(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// Protects all tasks of a repository from a server that stops in the middle of what it sends: it is given up, and who
/// waits for the same repository does not wait for an hour.
#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let (mut world, forge, remote, url) = served(Duration::from_secs(2)).await;
    for round in ["clone", "fetch"] {
        let tip = if round == "fetch" {
            let tree = git(&remote, &["rev-parse", "main^{tree}"]);
            let more = git(&remote, &["commit-tree", "-p", "main", "-m", "more", &tree]);
            git(&remote, &["update-ref", "refs/heads/main", &more]);
            more
        } else {
            git(&remote, &["rev-parse", "main"])
        };
        forge.stalls(true);
        let begun = Instant::now();
        let tasks = [task(), task()].map(|id| (id, world.ask(id, preparing(id, &url, Start::Default))));
        for (id, effect) in tasks {
            let outcome = world.answer(effect).await;
            let Outcome::Failed(why) = outcome else { panic!("{round}: {outcome:?}") };
            assert!(why.starts_with(&format!("git {round}: ")) && why.contains("too slow"), "{why}");
            assert!(!world.home.worktree(id).exists());
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{round}: {:?}", begun.elapsed());
        assert_eq!(left(&world.home.repos()), Vec::<PathBuf>::new(), "{round}");
        forge.stalls(false);
        let id = task();
        let Outcome::Prepared(prepared) = world.run(id, preparing(id, &url, Start::Default)).await else { panic!() };
        assert_eq!(prepared.base.as_deref(), Some(tip.as_str()), "{round}");
        git(&world.home.worktree(id), &["fsck", "--strict"]);
        git(&world.bare(), &["fsck", "--strict"]);
    }
}

/// Protects who waits for a repository that is being brought from having to wait although nobody wants it any more.
#[tokio::test]
async fn who_waits_for_a_silent_server_can_be_called_off() {
    let (mut world, forge, _, url) = served(Duration::from_secs(600)).await;
    forge.stalls(true);
    let tasks = [task(), task()].map(|id| world.ask(id, preparing(id, &url, Start::Default)));
    tokio::time::sleep(Duration::from_millis(700)).await;
    for effect in tasks.into_iter().rev() {
        let begun = Instant::now();
        world.executor.cancel(effect);
        let outcome = world.answer(effect).await;
        assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("cancelled")), "{outcome:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

/// A commit that cannot be asked for, as the server is away, is not said to be none.
#[tokio::test]
async fn a_server_that_is_away_is_not_said_to_lack_a_commit() {
    let (mut world, forge, remote, url) = served(Duration::from_secs(60)).await;
    git(&remote, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let tree = git(&remote, &["rev-parse", "main^{tree}"]);
    let apart = git(&remote, &["commit-tree", "-p", "main", "-m", "on no branch", &tree]);
    let id = task();
    let first = world.run(id, preparing(id, &url, Start::Default)).await;
    assert!(matches!(first, Outcome::Prepared(_)), "{first:?}");
    // It tells its branches, and is gone when it is asked for more.
    forge.drops_packs(true);
    let id = task();
    let why = world.refused(id, preparing(id, &url, Start::At(apart.clone()))).await;
    assert!(why.starts_with(&format!("{apart} cannot be brought from http://")), "{why}");
    forge.drops_packs(false);
    let Outcome::Prepared(prepared) = world.run(id, preparing(id, &url, Start::At(apart.clone()))).await else {
        panic!()
    };
    assert_eq!(prepared.base, Some(apart));
    let absent = "0123456789012345678901234567890123456789".to_owned();
    let id = task();
    let why = world.refused(id, preparing(id, &url, Start::At(absent))).await;
    assert!(why.contains("has no branch, tag or commit"), "{why}");
}

/// Protects from an ssh that waits for ever, and a user's own way to run it from us.
#[tokio::test]
async fn ssh_is_told_how_long_to_wait_unless_the_user_says_how_it_is_run() {
    let ours = "-o BatchMode=yes -o ConnectTimeout=8 -o ServerAliveInterval=2 -o ServerAliveCountMax=4";
    for (variable, config, said) in [
        (None, "", format!("ssh {ours} ")),
        (Some(("GIT_SSH_COMMAND", "ssh -o Own=yes")), "", "ssh -o Own=yes ".to_owned()),
        (None, "[core]\n\tsshCommand = ssh -o Configured=yes\n", "ssh -o Configured=yes ".to_owned()),
    ] {
        let folder = folder();
        let bin = folder.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let told = folder.path().join("told");
        program(&bin.join("ssh"), &format!("echo \"ssh $*\" >> {}; exit 255", told.display()));
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut more = vec![("PATH".to_owned(), path)];
        more.extend(variable.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let silence_max = Duration::from_secs(8);
        std::fs::create_dir(folder.path().join("user")).unwrap();
        std::fs::write(folder.path().join("user/.gitconfig"), config).unwrap();
        let mut world = World::on(folder, Options { more, silence_max, ..Options::default() });
        let id = task();
        world.refused(id, preparing(id, "ssh://git@host.invalid/x", Start::Default)).await;
        let told = std::fs::read_to_string(told).unwrap();
        assert!(told.starts_with(&said), "{told}");
        assert_eq!(told.contains("ConnectTimeout"), said.contains("ConnectTimeout"), "{told}");
    }
}
