//! Committing what agents leave.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use makima_core::id::TaskId;
use makima_core::input::Change;

use crate::support::{Options, World, branch, committing, git, task, user_git};

/// A task whose agent does this, and what is committed of it.
pub(crate) struct Done {
    pub(crate) world: World,
    pub(crate) id: TaskId,
    pub(crate) base: String,
    pub(crate) tree: PathBuf,
}

impl Done {
    pub(crate) async fn by(script: &str) -> Self {
        Self::by_in(World::new(), script).await
    }

    async fn by_in(world: World, script: &str) -> Self {
        let repository = world.repository("upstream");
        Self::by_on(world, &repository, script).await
    }

    /// The same on a repository that is there.
    pub(crate) async fn by_on(mut world: World, repository: &Path, script: &str) -> Self {
        let id = task();
        let base = world.prepare(id, Some(repository)).await.base.expect("a base");
        world.act(id, &format!("export GIT_CONFIG_NOSYSTEM=1; {script}")).await;
        let tree = world.home.worktree(id);
        Self { world, id, base, tree }
    }

    pub(crate) async fn commit(&mut self) -> Option<Change> {
        let base = self.base.clone();
        self.world.commit(self.id, Some(&base)).await
    }

    /// In the shared repository.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.world.bare(), args)
    }

    pub(crate) fn name(&self) -> String {
        format!("refs/makima/{}", self.id)
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let files = self.git(&["ls-tree", "-r", "--name-only", &self.name()]);
        files.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn everything_that_is_not_ignored_is_committed() {
    let mut done = Done::by(
        "echo a > a; mkdir d; echo b > d/b; echo x > x.o; echo more >> README; rm .gitignore; \
        echo '*.o' > .gitignore; git add a",
    )
    .await;
    let change = done.commit().await.expect("a change");
    assert_eq!((change.files, change.insertions, change.deletions), (3, 3, 0));
    assert_eq!(change.note, None);
    assert_eq!(done.files(), [".gitignore", "README", "a", "d/b"]);
    assert_eq!(done.git(&["rev-parse", &done.name()]), change.commit);
    assert_eq!(
        done.git(&["log", "-1", "--format=%an <%ae> %cn %P", &done.name()]),
        format!("Ada <ada@example.org> Ada {}", done.base)
    );
    assert_eq!(
        done.git(&["log", "-1", "--format=%B", &done.name()]),
        format!("Do the work\n\nMakima-Task: {}", done.id)
    );
    // The worktree agrees.
    assert_eq!(git(&done.tree, &["status", "--porcelain"]), "");
    assert_eq!(git(&done.tree, &["rev-parse", "HEAD", branch(done.id).as_str()]), format!("{0}\n{0}", change.commit));
    done.world.is_tidy(done.id).await;
    // Again, as after a crash.
    assert_eq!(done.commit().await, Some(change));
}

#[tokio::test]
async fn nothing_is_no_change() {
    let mut done = Done::by("echo x > x.o").await;
    assert_eq!(done.commit().await, None);
    assert_eq!(done.git(&["for-each-ref", "refs/makima"]), "");
}

#[tokio::test]
async fn the_agents_own_commits_are_the_work() {
    let mut done = Done::by("echo a > a; git add a; git commit -qm mine").await;
    let change = done.commit().await.expect("a change");
    assert_eq!(done.git(&["log", "-1", "--format=%s", &change.commit]), "mine");
    assert_eq!((change.files, change.insertions), (1, 1));
}

#[tokio::test]
async fn a_crash_between_commit_and_answer_makes_no_second_commit() {
    let mut done = Done::by("git switch -q --detach; echo a > a").await;
    let first = done.commit().await.expect("a change");
    let second = done.commit().await.expect("a change");
    assert_eq!(first, second);
}

#[tokio::test]
async fn without_a_repository_the_work_is_a_root_commit() {
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    assert_eq!(world.commit(id, None).await, None);
    world.act(id, "echo a > a").await;
    let change = world.commit(id, None).await.expect("a change");
    assert_eq!((change.files, change.insertions), (1, 1));
    assert_eq!(git(&world.bare(), &["rev-list", "--count", &format!("refs/makima/{id}")]), "1");
}

#[tokio::test]
async fn an_unfinished_merge_is_committed_as_it_is() {
    let mut done = Done::by(
        "git switch -qc other; echo theirs > README; git commit -qam theirs; \
        git switch -q -; echo ours > README; git commit -qam ours; git merge other",
    )
    .await;
    let (other, ours) = (git(&done.tree, &["rev-parse", "other"]), git(&done.tree, &["rev-parse", "HEAD"]));
    let change = done.commit().await.expect("a change");
    let note = format!("unfinished merge; {other} is not merged: conflicts are left in `README`");
    assert_eq!(change.note, Some(note));
    assert_eq!(done.git(&["log", "-1", "--format=%s", &change.commit]), "Do the work (unfinished merge)");
    let parents = done.git(&["log", "-1", "--format=%P", &change.commit]);
    assert_eq!(parents, ours, "what has conflicts left counts as merged");
    assert!(done.git(&["show", &format!("{}:README", change.commit)]).contains("<<<<<<<"));
    assert!(!done.tree.join(".git/MERGE_HEAD").exists());
    assert_eq!(done.commit().await.map(|again| again.commit), Some(change.commit));
}

#[tokio::test]
async fn a_merge_that_only_waits_to_be_committed_is_one() {
    let mut done = Done::by(
        "git switch -qc other; echo theirs > README; git commit -qam theirs; \
        git switch -q -; echo ours > README; git commit -qam ours; git merge other; echo both > README; git add README",
    )
    .await;
    let other = git(&done.tree, &["rev-parse", "other"]);
    let change = done.commit().await.expect("a change");
    assert_eq!(change.note.as_deref(), Some("unfinished merge"));
    let parents = done.git(&["log", "-1", "--format=%P", &change.commit]);
    assert!(parents.ends_with(&other) && parents.len() == 81, "{parents}");
    // The daemon was killed before all of it stood in the agent's repository.
    std::fs::write(done.tree.join(".git/MERGE_HEAD"), format!("{other}\n")).expect("a file");
    assert_eq!(done.commit().await.map(|again| again.commit), Some(change.commit));
}

#[tokio::test]
async fn an_unfinished_rebase_keeps_what_it_was_to_replace() {
    let mut done = Done::by(
        "echo one > README; git commit -qam one; echo two > two; git add two; git commit -qm two; \
        git switch -qc onto HEAD~2; echo other > README; git commit -qam other; git switch -q -; git rebase onto",
    )
    .await;
    let before = git(&done.tree, &["rev-parse", branch(done.id).as_str()]);
    let change = done.commit().await.expect("a change");
    assert_eq!(done.git(&["log", "-1", "--format=%s", &change.commit]), "Do the work (unfinished rebase)");
    assert_eq!(done.git(&["rev-parse", &format!("refs/makima/kept/{}", done.id)]), before);
    let note = change.note.expect("a note");
    assert!(note.contains("unfinished rebase") && note.contains(&before), "{note}");
    assert_eq!(git(&done.tree, &["rev-parse", branch(done.id).as_str()]), change.commit);
}

#[tokio::test]
async fn work_away_from_the_branch_is_the_work() {
    let mut done = Done::by(
        "echo a > a; git add a; git commit -qm kept; git switch -q --detach origin/main; \
        echo b > b",
    )
    .await;
    let before = git(&done.tree, &["rev-parse", branch(done.id).as_str()]);
    let change = done.commit().await.expect("a change");
    assert_eq!(done.files(), [".gitignore", "README", "b"]);
    assert_eq!(done.git(&["rev-parse", &format!("refs/makima/kept/{}", done.id)]), before);
    let mut done = Done::by("git switch -qc mine; echo a > a; git add a; git commit -qm mine; echo b > b").await;
    let change_on_mine = done.commit().await.expect("a change");
    assert_eq!(change_on_mine.note, None);
    assert_eq!(done.files(), [".gitignore", "README", "a", "b"]);
    assert!(change.note.is_some());
}

#[tokio::test]
async fn an_agent_that_only_went_back_to_look_has_lost_nothing() {
    let mut done = Done::by("echo a > a; git add a; git commit -qm mine; git switch -q --detach origin/main").await;
    let change = done.commit().await.expect("a change");
    assert_eq!(done.git(&["log", "-1", "--format=%s", &change.commit]), "mine");
}

#[tokio::test]
async fn a_broken_or_removed_repository_costs_no_file() {
    for breakage in [
        "rm -rf .git",
        "rm .git/HEAD",
        "echo garbage > .git/index",
        "rm .git/index",
        "rm -rf .git/objects",
        "echo '[core' > .git/config",
        "mv .git ../moved-$$; echo gitdir: ../moved-$$ > .git",
        "git add -A; git commit -qm mine; rm -rf .git/objects; mkdir -p .git/objects",
        "git add -A; git commit -qm mine; find .git/objects -type f | while read f; do chmod u+w $f; echo x > $f; done",
        "git add -A; find .git/objects -type f | while read f; do chmod u+w $f; echo x > $f; done",
        "echo 0123456789012345678901234567890123456789 > .git/HEAD",
        "git checkout -q --orphan new; rm README",
        "touch .git/index.lock .git/refs/heads/makima.lock .git/HEAD.lock",
    ] {
        let mut done = Done::by(&format!("echo a > a; {breakage}")).await;
        let change = done.commit().await.expect("a change");
        assert!(done.files().contains(&"a".to_owned()), "{breakage}");
        let base = done.git(&["merge-base", &done.base, &change.commit]);
        assert_eq!(base, done.base, "{breakage}");
        done.git(&["fsck", "--strict", "--connectivity-only"]);
    }
}

#[tokio::test]
async fn a_worktree_that_is_gone_is_told() {
    let mut done = Done::by("true").await;
    std::fs::remove_dir_all(&done.tree).unwrap();
    let base = done.base.clone();
    let why = done.world.refused(done.id, committing(done.id, Some(&base))).await;
    assert!(why.ends_with("is gone"), "{why}");
}

#[tokio::test]
async fn repositories_inside_lose_no_file() {
    let mut done = Done::by(
        "for r in empty full deep/er linked; do mkdir -p $r; git -C $r init -q; echo x > $r/file; \
        echo y > $r/y.o; done; git -C full add -A; git -C full commit -qm x; echo new > full/new; \
        git -C linked add -A; git -C linked commit -qm x; git add linked 2> /dev/null; git commit -qm link; \
        mkdir full/inner; git -C full/inner init -q; echo z > full/inner/z; echo plain > plain",
    )
    .await;
    let change = done.commit().await.expect("a change");
    assert_eq!(
        done.files(),
        [
            ".gitignore",
            "README",
            "deep/er/file",
            "empty/file",
            "full/file",
            "full/inner/z",
            "full/new",
            "linked/file",
            "plain"
        ]
    );
    let note = change.note.expect("a note");
    for name in ["empty", "full", "deep/er", "linked"] {
        assert!(note.contains(&format!("`{name}`")), "{note}");
    }
}

#[tokio::test]
async fn files_that_git_was_told_not_to_look_at_are_looked_at() {
    let mut done = Done::by("git update-index --assume-unchanged README; echo more >> README").await;
    assert_eq!(done.commit().await.expect("a change").insertions, 1);
    // Files that a sparse checkout leaves out are not deleted.
    let mut done = Done::by(
        "mkdir a b; echo a > a/a; echo b > b/b; git add -A; git commit -qm ab; \
        git sparse-checkout set a; echo c > a/c",
    )
    .await;
    assert!(!done.tree.join("b").exists());
    done.commit().await.expect("a change");
    assert_eq!(done.files(), [".gitignore", "README", "a/a", "a/c", "b/b"]);
}

#[tokio::test]
async fn nothing_that_an_agent_chooses_is_run() {
    let world = World::new();
    let canary = world.path("canary");
    let touch = format!("touch {}", canary.display());
    let hooks = "pre-commit commit-msg prepare-commit-msg post-commit reference-transaction post-index-change \
        pre-merge-commit post-rewrite update post-update pre-receive";
    let keys = "core.fsmonitor filter.evil.clean filter.evil.smudge filter.evil.process diff.external \
        diff.evil.command diff.evil.textconv merge.evil.driver uploadpack.packObjectsHook core.sshCommand \
        gpg.program core.alternateRefsCommand core.editor sequence.editor credential.helper";
    let script = format!(
        "echo '* filter=evil diff=evil merge=evil' > .gitattributes; echo '* filter=evil' > .git/info/attributes; \
         for h in {hooks}; do printf '#!/bin/sh\\n{touch}\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done; \
         for k in {keys}; do git config $k '{touch}'; done; git config commit.gpgsign true; \
         git config core.hooksPath .git/hooks; git config extensions.partialClone origin; \
         git config remote.origin.promisor true; git config remote.origin.uploadpack '{touch}'; \
         git config include.path /etc/passwd; echo a > a; rm -f {}",
        canary.display()
    );
    let mut done = Done::by_in(world, &script).await;
    let _ = std::fs::remove_file(&canary);
    let change = done.commit().await.expect("a change");
    assert!(!canary.exists());
    assert_eq!(change.files, 2);
    assert_eq!(done.git(&["show", &format!("{}:a", change.commit)]), "a");
}

#[tokio::test]
async fn the_users_own_filters_are_not_run_either() {
    let world = World::new();
    let canary = world.path("canary");
    let config = world.path("user/.gitconfig");
    let filter = format!("[filter \"user\"]\n\tclean = touch {}\n\trequired = true\n", canary.display());
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &filter).unwrap();
    let script = format!("echo '* filter=user' > .gitattributes; echo a > a; rm -f {}", canary.display());
    let mut done = Done::by_in(world, &script).await;
    let change = done.commit().await.expect("a change");
    assert!(!canary.exists());
    assert_eq!(done.git(&["show", &format!("{}:a", change.commit)]), "a");
}

#[tokio::test]
async fn commits_are_signed_as_the_user_signs() {
    let signer = |world: &World, script: &str| {
        let program = world.path("signer");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("[commit]\n\tgpgsign = true\n[gpg]\n\tprogram = {}\n", program.display())
    };
    let with = |script: &str| {
        let world = World::new();
        let config = world.path("user/.gitconfig");
        let more = signer(&world, script);
        std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &more).unwrap();
        world.again()
    };
    let good = "echo '-----BEGIN PGP SIGNATURE-----'; echo; echo signed; echo '-----END PGP SIGNATURE-----'; \
        echo '[GNUPG:] SIG_CREATED ' >&2; cat > /dev/null";
    let mut done = Done::by_in(with(good), "unset GIT_CONFIG_GLOBAL; echo a > a").await;
    let change = done.commit().await.expect("a change");
    assert!(done.git(&["cat-file", "commit", &change.commit]).contains("signed"));
    let mut done = Done::by_in(with("echo 'no secret key' >&2; exit 2"), "echo a > a").await;
    // A key that is locked overnight is no reason to lose a night's work.
    let change = done.commit().await.expect("a change");
    assert!(!done.git(&["cat-file", "commit", &change.commit]).contains("signed"));
    let note = change.note.expect("it is said");
    assert!(note.contains("could not be signed") && note.contains("gpg failed to sign"), "{note}");
}

#[tokio::test]
async fn who_has_no_identity_commits_as_makima() {
    let world = World::new();
    std::fs::write(world.path("user/.gitconfig"), "").unwrap();
    let mut done = Done::by_in(world.again(), "echo a > a; git add a; git commit -qm mine; echo b > b").await;
    let change = done.commit().await.expect("a change");
    let authors = done.git(&["log", "-2", "--format=%an <%ae>", &change.commit]);
    assert_eq!(authors, "makima <makima@localhost>\nmakima <makima@localhost>");
    // The environment has the first word.
    let more = ["NAME", "EMAIL"].map(|what| (format!("GIT_AUTHOR_{what}"), "eve@example.org".to_owned()));
    let world = World::with(Options { more: more.to_vec(), ..Options::default() });
    let mut done = Done::by_in(world, "echo a > a").await;
    let change = done.commit().await.expect("a change");
    assert_eq!(done.git(&["log", "-1", "--format=%ae %ce", &change.commit]), "eve@example.org ada@example.org");
}

#[tokio::test]
async fn a_large_file_and_strange_names_are_no_trouble() {
    let mut done = Done::by(
        "head -c 104857600 /dev/urandom > big; printf x > \"$(printf 'a\\nb')\"; printf x > '-x'; \
        printf x > \"$(printf '\\377')\"; printf x > ':(exclude)y'; ln -s /etc/passwd link; mkfifo fifo; mkdir nothing",
    )
    .await;
    let change = done.commit().await.expect("a change");
    assert_eq!(change.files, 6);
    assert_eq!(done.git(&["cat-file", "-s", &format!("{}:big", change.commit)]), "104857600");
    assert_eq!(done.git(&["show", &format!("{}:link", change.commit)]), "/etc/passwd");
}

#[tokio::test]
async fn work_is_not_seen_as_a_branch_by_others() {
    let mut done = Done::by("echo a > a").await;
    done.commit().await.expect("a change");
    let bare = done.world.bare();
    let folder = done.world.folder.path().to_owned();
    assert!(user_git(&folder, &["clone", "-q", bare.to_str().unwrap(), "copy"]).status().unwrap().success());
    assert_eq!(git(&folder.join("copy"), &["branch", "-r", "--format=%(refname:short)"]), "origin\norigin/main");
    // Nor does the next fetch take it away.
    let repository = folder.join("upstream");
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "more"]);
    done.world.prepare(task(), Some(&repository)).await;
    done.git(&["rev-parse", &done.name()]);
}
