//! Making worktrees.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use makima_core::effect::{Prepare, Start, Work};
use makima_core::id::SecretId;
use makima_core::input::Outcome;
use makima_core::policy::RepositoryUrl;

use crate::support::{Options, World, branch, git, preparing, task, user_git};

#[tokio::test]
async fn a_worktree_stands_at_the_default_branch() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    git(&repository, &["tag", "v1"]);
    git(&repository, &["branch", "feature/x"]);
    let id = task();
    let prepared = world.prepare(id, Some(&repository)).await;
    let worktree = world.home.worktree(id);
    assert_eq!(prepared.base.as_deref(), Some(git(&repository, &["rev-parse", "main"]).as_str()));
    assert_eq!(prepared.local.as_deref(), repository.canonicalize().unwrap().to_str());
    assert_eq!(std::fs::read_to_string(worktree.join("README")).unwrap(), "hello\n");
    assert_eq!(git(&worktree, &["status", "--porcelain", "-b"]), format!("## {}", branch(id)));
    assert_eq!(git(&worktree, &["rev-parse", "origin/main", "origin/feature/x", "v1"]).lines().count(), 3);
    assert_eq!(git(&worktree, &["remote", "get-url", "origin"]), repository.to_str().unwrap());
    assert_eq!(git(&worktree, &["log", "-1", "--format=%s", "origin/HEAD"]), "first");
    git(&worktree, &["fsck", "--strict"]);
    let plan = world.home.task(id).join("plan");
    assert_eq!(std::fs::read_to_string(&plan).unwrap(), "do it");
    assert_eq!(std::fs::metadata(&plan).unwrap().permissions().mode() & 0o777, 0o600);
    // Again, as after a crash.
    assert_eq!(world.prepare(id, Some(&repository)).await, prepared);
    assert!(world.is_quiet());
}

#[tokio::test]
async fn the_work_starts_where_it_was_asked_to() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let first = git(&repository, &["rev-parse", "HEAD"]);
    git(&repository, &["tag", "-a", "v1", "-m", "annotated"]);
    git(&repository, &["switch", "-q", "-c", "side"]);
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let second = git(&repository, &["rev-parse", "HEAD"]);
    git(&repository, &["switch", "-q", "main"]);
    for (base, commit) in [("side", &second), ("v1", &first), (second.as_str(), &second)] {
        let id = task();
        match world.run(id, preparing(id, Some(&repository), Some(base))).await {
            Outcome::Prepared(prepared) => assert_eq!(prepared.base.as_ref(), Some(commit), "{base}"),
            other => panic!("{other:?}"),
        }
    }
    let id = task();
    let why = world.refused(id, preparing(id, Some(&repository), Some("nowhere"))).await;
    assert!(why.ends_with("has no branch, tag or commit `nowhere`"), "{why}");
    let absent = "0123456789012345678901234567890123456789";
    let why = world.refused(id, preparing(id, Some(&repository), Some(absent))).await;
    assert!(why.contains("has no branch, tag or commit"), "{why}");
    assert!(!world.home.worktree(id).exists());
}

#[tokio::test]
async fn what_upstream_changes_is_there_next_time() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    git(&repository, &["branch", "old"]);
    world.prepare(task(), Some(&repository)).await;
    git(&repository, &["branch", "-D", "old"]);
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "second"]);
    git(&repository, &["commit", "-q", "--amend", "--allow-empty", "-m", "rewritten"]);
    git(&repository, &["branch", "old/and/deeper"]);
    git(&repository, &["branch", "-m", "main", "trunk"]);
    let id = task();
    let prepared = world.prepare(id, Some(&repository)).await;
    assert_eq!(prepared.base, Some(git(&repository, &["rev-parse", "trunk"])));
    let branches = git(&world.home.worktree(id), &["branch", "-r", "--format=%(refname:short)"]);
    assert_eq!(branches.lines().collect::<Vec<_>>(), ["origin", "origin/old/and/deeper", "origin/trunk"]);
}

#[tokio::test]
async fn a_commit_that_no_branch_leads_to_can_be_started_from() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    git(&repository, &["switch", "-q", "--detach"]);
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "loose"]);
    let loose = git(&repository, &["rev-parse", "HEAD"]);
    // HEAD is at no branch: the default is where it is.
    let id = task();
    assert_eq!(world.prepare(id, Some(&repository)).await.base, Some(loose.clone()));
}

#[tokio::test]
async fn what_is_no_repository_is_told_apart() {
    let mut world = World::new();
    let id = task();
    let why = world.refused(id, preparing(id, Some(Path::new("/nowhere/at/all")), None)).await;
    assert_eq!(why, "`/nowhere/at/all` does not exist");
    let plain = world.path("plain");
    std::fs::create_dir(&plain).unwrap();
    let why = world.refused(id, preparing(id, Some(&plain), None)).await;
    assert_eq!(why, format!("`{}` is not a git repository", plain.display()));
    git(&plain, &["init", "-q"]);
    let why = world.refused(id, preparing(id, Some(&plain), None)).await;
    assert!(why.contains("has no commit yet"), "{why}");
    // A folder inside a repository is none.
    let repository = world.repository("upstream");
    std::fs::create_dir(repository.join("inner")).unwrap();
    let why = world.refused(id, preparing(id, Some(&repository.join("inner")), None)).await;
    assert!(why.contains("is not a git repository"), "{why}");
    // HEAD names a branch that is not there.
    git(&repository, &["symbolic-ref", "HEAD", "refs/heads/gone"]);
    let why = world.refused(id, preparing(id, Some(&repository), None)).await;
    assert!(why.contains("has no commit on its default branch"), "{why}");
}

#[tokio::test]
async fn a_bare_repository_and_a_path_from_home_will_do() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    git(world.folder.path(), &["clone", "-q", "--bare", "upstream", "user/bare.git"]);
    let base = git(&repository, &["rev-parse", "HEAD"]);
    let id = task();
    assert_eq!(world.prepare(id, Some(Path::new("~/bare.git"))).await.base, Some(base));
}

#[tokio::test]
async fn the_users_repository_is_not_touched() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    std::fs::write(repository.join("README"), "changed\n").unwrap();
    std::fs::write(repository.join("new"), "new\n").unwrap();
    let look = |path: &Path| {
        let mut find = std::process::Command::new("find");
        let mut files = files_of(find.args([".", "-printf", "%p %s %T@ %m\n"]).current_dir(path));
        files.sort();
        files
    };
    // Once, so that git's own refreshing of the index is over.
    git(&repository, &["status"]);
    let before = look(&repository);
    for _ in 0..2 {
        world.prepare(task(), Some(&repository)).await;
    }
    assert_eq!(look(&repository), before);
}

fn files_of(command: &mut std::process::Command) -> Vec<String> {
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn nothing_is_borrowed_from_a_user() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    git(world.folder.path(), &["clone", "-q", "--shared", "upstream", "borrower"]);
    let id = task();
    world.prepare(id, Some(&world.path("borrower"))).await;
    assert!(!world.bare().join("objects/info/alternates").exists());
    std::fs::remove_dir_all(repository).unwrap();
    git(&world.home.worktree(id), &["fsck", "--strict"]);
}

#[tokio::test]
async fn an_empty_worktree_without_a_repository() {
    let mut world = World::new();
    let id = task();
    let prepared = world.prepare(id, None).await;
    assert_eq!((prepared.base, prepared.local), (None, None));
    let status = git(&world.home.worktree(id), &["status", "--porcelain", "-b"]);
    assert_eq!(status, format!("## No commits yet on {}", branch(id)));
}

#[tokio::test]
async fn eight_at_once_do_not_disturb_each_other() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    for round in 0..3 {
        git(&repository, &["commit", "-q", "--allow-empty", "-m", "more"]);
        let tasks: Vec<_> = (0..8).map(|_| task()).collect();
        let ids: Vec<_> = tasks.iter().map(|id| world.ask(*id, preparing(*id, Some(&repository), None))).collect();
        let head = git(&repository, &["rev-parse", "HEAD"]);
        for id in ids {
            match world.answer(id).await {
                Outcome::Prepared(prepared) => assert_eq!(prepared.base.as_ref(), Some(&head), "round {round}"),
                other => panic!("round {round}: {other:?}"),
            }
        }
    }
    world.bare();
}

#[tokio::test]
async fn a_damaged_shared_repository_is_made_anew() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let id = task();
    let base = world.prepare(id, Some(&repository)).await.base;
    world.act(id, "echo work > work").await;
    let change = world.commit(id, base.as_deref()).await.expect("a change");
    let bare = world.bare();
    // Half of it is gone.
    std::fs::remove_file(bare.join("HEAD")).unwrap();
    world.prepare(task(), Some(&repository)).await;
    // The finished work of others is still there.
    assert_eq!(git(&bare, &["rev-parse", &format!("refs/makima/{id}")]), change.commit);
    // Its objects are gone.
    let objects = bare.join("objects");
    for entry in std::fs::read_dir(&objects).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name().unwrap().len() == 2 || entry.ends_with("pack") {
            std::fs::remove_dir_all(entry).unwrap();
        }
    }
    world.prepare(task(), Some(&repository)).await;
    git(&bare, &["fsck", "--strict"]);
}

/// Protects a shared repository, and all who borrow from it, from what an agent has done to its own: that is no damage of
/// ours. And where there is some, those who began from what upstream has thrown away since can still be committed.
#[tokio::test]
async fn who_borrows_keeps_what_it_began_from() {
    let mut world = World::new();
    let upstream = world.repository("upstream");
    let (old, other) = (task(), task());
    for id in [old, other] {
        world.prepare(id, Some(&upstream)).await;
    }
    git(&upstream, &["commit", "-q", "--amend", "-m", "thrown away"]);
    git(&upstream, &["reflog", "expire", "--expire=now", "--all"]);
    git(&upstream, &["gc", "-q", "--prune=now"]);
    std::fs::write(world.home.worktree(old).join(".git/index"), "rubbish").unwrap();
    let next = task();
    let Work::Prepare(mut wanted) = preparing(next, Some(&upstream), None) else { panic!("another work") };
    wanted.start = Start::Continue(old);
    let said = world.run(next, Work::Prepare(wanted)).await;
    let repos = |world: &World| std::fs::read_dir(world.home.repos()).unwrap().count();
    assert_eq!(repos(&world), 1, "it was made anew: {said:?}");
    // Half of it is gone, in truth.
    std::fs::remove_file(world.bare().join("HEAD")).unwrap();
    let base = world.prepare(task(), Some(&upstream)).await.base;
    assert_eq!(repos(&world), 2);
    world.act(other, "echo work > work").await;
    let begun = git(&world.home.worktree(other), &["rev-parse", "HEAD"]);
    assert_ne!(Some(&begun), base.as_ref());
    assert!(world.commit(other, Some(&begun)).await.is_some());
}

#[tokio::test]
async fn a_half_made_worktree_is_not_taken_for_whole() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let id = task();
    let staging = world.home.worktrees().join(format!(".making-{id}"));
    std::fs::create_dir_all(staging.join(".git")).unwrap();
    // One that nobody wrote down is put aside.
    let place = world.home.worktree(id);
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("precious"), "").unwrap();
    world.prepare(id, Some(&repository)).await;
    assert!(place.join("README").exists() && !place.join("precious").exists() && !staging.exists());
    let trash: Vec<_> = std::fs::read_dir(world.home.root().join("trash")).unwrap().collect();
    assert_eq!(trash.len(), 1);
}

#[tokio::test]
async fn a_worktree_of_before_the_machine_went_down_is_made_anew_until_an_agent_was_in_it() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let (id, id_of_started) = (task(), task());
    for id in [id, id_of_started] {
        world.prepare(id, Some(&repository)).await;
    }
    world.act(id_of_started, "true").await;
    // As after a loss of power: what was written last is there in name only.
    for id in [id, id_of_started] {
        let place = world.home.worktree(id);
        std::fs::write(place.join("README"), "").unwrap();
        std::fs::write(place.join(".git/makima-laid"), "another").unwrap();
    }
    for id in [id, id_of_started] {
        world.prepare(id, Some(&repository)).await;
    }
    let readme = |id| std::fs::read_to_string(world.home.worktree(id).join("README")).unwrap();
    assert_eq!((readme(id).as_str(), readme(id_of_started).as_str()), ("hello\n", ""));
}

#[tokio::test]
async fn lock_files_of_a_killed_git_do_not_block_for_ever() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    world.prepare(task(), Some(&repository)).await;
    let bare = world.bare();
    for name in ["packed-refs.lock", "refs/heads/main.lock", "config.lock"] {
        std::fs::write(bare.join(name), "").unwrap();
    }
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let head = git(&repository, &["rev-parse", "HEAD"]);
    assert_eq!(world.prepare(task(), Some(&repository)).await.base, Some(head));
}

/// A git that does as it is told by a script, and is git otherwise.
fn wrapped(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("git-wrapped");
    std::fs::write(&path, format!("#!/bin/bash\n{script}\nexec git \"$@\"\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_git_that_is_killed_half_way_can_be_followed_by_another() {
    let folder = crate::support::folder();
    let marks = folder.path().join("killed");
    let script = format!(
        r#"if [ "$1" = "$(cat {0} 2>/dev/null)" ]; then echo > {0}; git "$@" & p=$!; sleep 0.004; kill -9 $p 2> /dev/null; kill -9 $$; fi"#,
        marks.display()
    );
    let mut world = World::with(Options { git: wrapped(folder.path(), &script), ..Options::default() });
    let repository = world.repository("upstream");
    for verb in ["clone", "for-each-ref", "read-tree", "fetch"] {
        git(&repository, &["commit", "-q", "--allow-empty", "-m", verb]);
        std::fs::write(&marks, verb).unwrap();
        let id = task();
        let why = world.refused(id, preparing(id, Some(&repository), None)).await;
        assert!(why.starts_with(&format!("git {verb}")), "{verb}: {why}");
        assert!(!world.home.worktree(id).exists(), "{verb}");
        world.prepare(id, Some(&repository)).await;
        git(&world.home.worktree(id), &["fsck", "--strict"]);
    }
}

#[tokio::test]
async fn a_git_that_hangs_can_be_cancelled() {
    let folder = crate::support::folder();
    let pid = folder.path().join("pid");
    let script = format!(r#"if [ "$1" = for-each-ref ]; then echo $$ > {}; sleep 1000; fi"#, pid.display());
    let mut world = World::with(Options { git: wrapped(folder.path(), &script), ..Options::default() });
    let repository = world.repository("upstream");
    let id = task();
    let effect = world.ask(id, preparing(id, Some(&repository), None));
    let pid = crate::support::number_in(&pid).await;
    world.executor.cancel(effect);
    match world.answer(effect).await {
        Outcome::Failed(why) => assert!(why.contains("cancelled"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(!crate::support::is_alive(pid));
}

#[tokio::test]
async fn nothing_that_a_repository_chooses_is_run() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let canary = world.path("canary");
    let touch = format!("touch {}", canary.display());
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "post-update"] {
        let path = repository.join(".git/hooks").join(hook);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{touch}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(repository.join(".gitattributes"), "* filter=evil diff=evil merge=evil\n").unwrap();
    user_git(&repository, &["add", "-A"]).status().unwrap();
    user_git(&repository, &["commit", "-q", "-m", "attributes"]).status().unwrap();
    for key in [
        "core.fsmonitor",
        "filter.evil.smudge",
        "filter.evil.clean",
        "filter.evil.process",
        "diff.external",
        "uploadpack.packObjectsHook",
        "core.sshCommand",
        "core.pager",
        "core.alternateRefsCommand",
        "core.askPass",
    ] {
        git(&repository, &["config", key, &touch]);
    }
    let _ = std::fs::remove_file(&canary);
    for _ in 0..2 {
        world.prepare(task(), Some(&repository)).await;
        user_git(
            &repository,
            &[
                "-c",
                "core.fsmonitor=false",
                "-c",
                "core.hooksPath=/dev/null",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                "more",
            ],
        )
        .status()
        .unwrap();
        let _ = std::fs::remove_file(&canary);
        world.prepare(task(), Some(&repository)).await;
        assert!(!canary.exists());
    }
}

#[tokio::test]
async fn a_password_is_told_to_its_own_server_and_stands_nowhere() {
    let folder = crate::support::folder();
    let told = folder.path().join("told");
    // Asks git's own helper machinery, as git would when a server wants a password.
    let ask = |host: &str| format!("printf 'protocol=https\\nhost={host}\\n\\n' | git credential fill");
    let script = format!(
        r#"if [ "$1" = ls-remote ]; then
             tr '\0' ' ' < /proc/$$/cmdline > {0}.argv
             {1} > {0}.right 2>&1
             {2} > {0}.wrong 2>&1
             printf 'protocol=https\nhost=git.example.org\nusername=ada\npassword=x\n\n' | git credential approve
             echo "fatal: wrong password s3cr3t@pass for https://git.example.org" >&2; exit 128
           fi"#,
        told.display(),
        ask("git.example.org"),
        ask("other.example.org"),
    );
    let mut world = World::with(Options { git: wrapped(folder.path(), &script), ..Options::default() });
    let stored = world.path("user/stored");
    let store = format!("[credential]\n\thelper = store --file={}\n", stored.display());
    let config = world.path("user/.gitconfig");
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &store).unwrap();
    let id = task();
    world.secrets.set(SecretId::Credentials(id), "ada:s3cr3t%40pass");
    let mut spec = crate::support::spec(id);
    spec.credentials = Some(SecretId::Credentials(id));
    world.run(id, Work::Accept { spec: Box::new(spec) }).await;
    let why = world
        .refused(
            id,
            Work::Prepare(Box::new(Prepare {
                repository: Some(RepositoryUrl::Remote("https://git.example.org/x.git".to_owned())),
                credentials: Some(SecretId::Credentials(id)),
                start: Start::Default,
                copy: None,
                conversation: None,
                branch: branch(id),
                plan: String::new(),
            })),
        )
        .await;
    assert_eq!(why, "git ls-remote: wrong password *** for https://git.example.org");
    let read = |end: &str| std::fs::read_to_string(format!("{}{end}", told.display())).unwrap();
    assert!(read(".right").contains("password=s3cr3t@pass\n"), "{}", read(".right"));
    assert!(!read(".wrong").contains("s3cr3t"), "{}", read(".wrong"));
    assert!(!read(".argv").contains("s3cr3t"), "{}", read(".argv"));
    assert!(!stored.exists(), "the user's own helper was told");
    let found = std::process::Command::new("grep").args(["-rlaE", "s3cr3t"]).arg(world.home.root()).output().unwrap();
    let expected = format!("{}\n", world.home.task(id).join("credentials").display());
    assert_eq!(String::from_utf8(found.stdout).unwrap(), expected);
}

/// Protects a daemon that has worked for months from a shared repository in thousands of files, and what only others borrow
/// from being taken for nobody's.
#[tokio::test]
async fn a_shared_repository_stays_in_few_files() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let (id, other) = (task(), task());
    let base = world.prepare(id, Some(&repository)).await.base;
    world.prepare(other, Some(&repository)).await;
    let bare = world.bare();
    std::fs::write(world.path("lost"), "nothing leads to it").unwrap();
    let lost = git(&bare, &["hash-object", "-w", &world.path("lost").display().to_string()]);
    let packs = bare.join("objects/pack");
    std::fs::create_dir_all(&packs).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 60 * 60);
    for (name, written) in [(".tmp-1-pack-old.pack", Some(long_ago)), ("tmp_pack_young", None)] {
        let file = std::fs::File::create(packs.join(name)).unwrap();
        if let Some(written) = written {
            file.set_modified(written).unwrap();
        }
    }
    let mut most = 0;
    for n in 0..40 {
        std::fs::write(world.home.worktree(id).join("file"), n.to_string()).unwrap();
        world.commit(id, base.as_deref()).await.expect("a change");
        let names = std::fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().file_name());
        most = most.max(names.filter(|name| name.to_string_lossy().ends_with(".idx")).count());
    }
    assert!((10..=17).contains(&most), "{most} packs");
    assert!(!packs.join(".tmp-1-pack-old.pack").exists() && packs.join("tmp_pack_young").exists());
    assert_eq!(git(&bare, &["cat-file", "-p", &lost]), "nothing leads to it");
    for repository in [&bare, &world.home.worktree(id), &world.home.worktree(other)] {
        git(repository, &["fsck", "--strict", "--no-dangling"]);
    }
}
