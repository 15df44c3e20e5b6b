//! Merging a task's work into a branch of a repository of the user's.

use std::path::{Path, PathBuf};

use makima_core::effect::{Deed, Delivery, Work};
use makima_core::id::TaskId;
use makima_core::input::Outcome;
use makima_core::policy::CommitText;

use crate::merges::{sh, state};
use crate::support::{World, branch, git, task};

pub(crate) struct Into {
    pub(crate) world: World,
    pub(crate) id: TaskId,
    pub(crate) repository: PathBuf,
    pub(crate) commit: String,
}

impl Into {
    /// A task that has done this, on a repository where `then` has happened since.
    pub(crate) async fn of(work: &str, then: &str) -> Self {
        Self::on(World::new(), "true", work, then).await
    }

    /// The same where `first` has happened before.
    pub(crate) async fn on(mut world: World, first: &str, work: &str, then: &str) -> Self {
        let repository = world.repository("upstream");
        sh(&repository, first);
        let id = task();
        let base = world.prepare(id, Some(&repository)).await.base;
        world.act(id, work).await;
        let commit = world.commit(id, base.as_deref()).await.expect("a change").commit;
        sh(&repository, then);
        Self { world, id, repository, commit }
    }

    pub(crate) fn work(&self, target: &Path, into: Option<&str>) -> Work {
        merging(self.id, target, &self.commit, into)
    }

    pub(crate) async fn merge(&mut self, into: Option<&str>) -> String {
        let work = self.work(&self.repository.clone(), into);
        match self.world.run(self.id, work).await {
            Outcome::Delivered { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn refused(&mut self, into: Option<&str>) -> String {
        let work = self.work(&self.repository.clone(), into);
        self.world.refused(self.id, work).await
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.repository, args)
    }

    /// Everything that a merge that is refused leaves as it was.
    pub(crate) fn state(&self) -> String {
        state(&self.repository) + &self.git(&["for-each-ref"])
    }

    /// A hook of the repository's.
    pub(crate) fn hook(&self, name: &str, script: &str) {
        let path = self.repository.join(".git/hooks").join(name);
        let script =
            format!("mkdir -p .git/hooks; cat > '{0}' <<'E'\n#!/bin/sh\n{script}\nE\nchmod +x '{0}'", path.display());
        sh(&self.repository, &script);
    }
}

/// The work of a task, merged into a repository on this machine.
fn merging(id: TaskId, target: &Path, commit: &str, into: Option<&str>) -> Work {
    Work::Deliver(Box::new(Delivery {
        deed: Deed::Merge,
        target: Some(target.display().to_string()),
        repository: None,
        credentials: None,
        branch: branch(id),
        commit: Some(commit.to_owned()),
        into: into.map(str::to_owned),
        base: None,
        text: CommitText::of("a task", id, None),
    }))
}

pub(crate) const GONE_ON: &str = "echo more > more; git add -A; git commit -qm more";

#[tokio::test]
async fn a_clean_checkout_is_moved_along() {
    let mut into = Into::of("echo a > a; rm README", &format!("{GONE_ON}; echo mine > untracked")).await;
    let before = into.git(&["rev-parse", "HEAD"]);
    let message = into.merge(None).await;
    let tip = into.git(&["rev-parse", "HEAD"]);
    assert!(message.contains("`main`") && message.ends_with(&format!("merged as {tip}")), "{message}");
    assert_eq!(into.git(&["rev-parse", "main^1", "main^2"]), format!("{before}\n{}", into.commit));
    assert_eq!(into.git(&["status", "--porcelain"]), "?? untracked");
    assert!(into.repository.join("a").exists() && !into.repository.join("README").exists());
    let said = into.git(&["log", "-1", "--format=%an: %B"]);
    let merges = makima_core::policy::merge_message(branch(into.id).as_str(), Some("main"));
    assert_eq!(said, format!("Ada: {merges}\n\nMakima-Task: {}", into.id));
    assert!(into.merge(None).await.contains("has all of it already"));
    assert_eq!(into.git(&["rev-parse", "HEAD"]), tip);
    into.git(&["fsck", "--strict"]);
}

#[tokio::test]
async fn a_branch_that_has_not_gone_on_is_forwarded() {
    let mut into = Into::of("echo a > a", "true").await;
    let message = into.merge(Some("main")).await;
    assert!(message.contains("fast-forwarded"), "{message}");
    assert_eq!(into.git(&["rev-parse", "HEAD"]), into.commit);
    assert_eq!(into.git(&["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_branch_that_is_not_checked_out_is_moved_by_itself() {
    let then =
        format!("git switch -qc side; {GONE_ON}; git switch -q main; echo dirty > README; echo x > new; git add new");
    let mut into = Into::of("echo a > a", &then).await;
    let before = state(&into.repository);
    into.merge(Some("side")).await;
    assert_eq!(state(&into.repository), before);
    assert_eq!(into.git(&["ls-tree", "--name-only", "side"]), ".gitignore\nREADME\na\nmore");
}

#[tokio::test]
async fn what_is_open_is_never_touched() {
    for (then, said) in [
        ("echo more > more; git add -A; git commit -qm more; echo dirty > README", "`README`"),
        ("echo staged > staged; git add staged", "`staged`"),
        ("echo mine > a", "a"),
        (
            "git switch -qc x; echo 1 > README; git commit -qam 1; git switch -q main; echo 2 > README; git commit -qam 2; git merge -q x || true",
            "unfinished merge",
        ),
        ("echo theirs > a; git add -A; git commit -qm theirs", "would conflict, and nothing was done: `a`"),
        ("git checkout -q --detach", "no branch checked out"),
    ] {
        let mut into = Into::of("echo a > a", then).await;
        let before = into.state();
        let why = into.refused(None).await;
        assert!(why.contains(said) && why.contains("is kept in"), "{then}: {why}");
        assert_eq!(into.state(), before, "{then}");
    }
}

#[tokio::test]
async fn another_worktree_of_the_branch_is_seen() {
    let mut into = Into::of(
        "echo a > a",
        "git branch side; git worktree add -q ../linked side; git commit -q --allow-empty -m more",
    )
    .await;
    into.merge(Some("side")).await;
    let linked = into.world.path("linked");
    assert!(linked.join("a").exists());
    assert_eq!(git(&linked, &["status", "--porcelain"]), "");
    sh(&into.repository, "git branch -f other main; git worktree add -q ../dirty other; echo x > ../dirty/README");
    let why = into.refused(Some("other")).await;
    assert!(why.contains("dirty") && why.contains("`README`"), "{why}");
}

/// Protects a branch that the user is rebasing, or looking for a culprit on: no worktree has it checked out then, and it is
/// in the middle of something all the same.
#[tokio::test]
async fn a_branch_in_the_middle_of_something_is_left() {
    let two = "git switch -qc side; echo 1 > README; git commit -qam 1; git switch -q main; echo 2 > README; git commit -qam 2";
    let linked = "git switch -q side; git worktree add -q ../linked main; cd ../linked";
    for (then, said) in [
        (format!("{two}; git rebase -q side || true"), "being rebased in"),
        (format!("{two}; git rebase -q --apply side || true"), "being rebased in"),
        (format!("{two}; {linked}; git rebase -q side || true"), "linked"),
        (
            format!(
                "{two}; {linked}; git switch -qc top; git commit -q --allow-empty -m top; git rebase -q --update-refs side || true"
            ),
            "being rebased in",
        ),
        (
            format!(
                "{two}; for n in 1 2 3; do git commit -q --allow-empty -m $n; done; git bisect start HEAD HEAD~3 > /dev/null; git symbolic-ref HEAD && exit 1 || true"
            ),
            "bisected in",
        ),
    ] {
        let mut into = Into::of("echo a > a", &then).await;
        let before = into.state();
        let why = into.refused(Some("main")).await;
        assert!(why.contains(said) && why.contains("is kept in"), "{then}: {why}");
        assert_eq!(into.state(), before, "{then}");
    }
    // One that was, and another one, are not in the middle of anything.
    let mut into = Into::of("echo a > a", &format!("{two}; git rebase -q side || true; git rebase --abort")).await;
    into.merge(Some("main")).await;
    let mut into = Into::of("echo a > a", &format!("{two}; git branch aside; git rebase -q side || true")).await;
    into.merge(Some("aside")).await;
}

/// Protects tasks that come to their ends together from each other: none sees another's half.
#[tokio::test]
async fn many_are_merged_into_one_checkout_at_once() {
    let many = "for d in $(seq 40); do mkdir $d; for f in $(seq 50); do echo $f > $d/$f; done; done; git add -A; git commit -qm many";
    let mut into = Into::on(World::new(), many, "echo 0 > 1/0", GONE_ON).await;
    let mut all = vec![(into.id, into.commit.clone())];
    for n in 1..6 {
        let id = task();
        let base = into.world.prepare(id, Some(&into.repository)).await.base;
        into.world.act(id, &format!("for d in $(seq 40); do echo {n} > $d/new-{n}; done")).await;
        all.push((id, into.world.commit(id, base.as_deref()).await.expect("a change").commit));
    }
    let mut asked = Vec::new();
    for (id, commit) in &all {
        let work = merging(*id, &into.repository, commit, None);
        asked.push(into.world.ask(*id, work));
    }
    for id in asked {
        let outcome = into.world.answer(id).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    }
    assert_eq!(into.git(&["status", "--porcelain"]), "");
    for (_, commit) in &all {
        into.git(&["merge-base", "--is-ancestor", commit, "main"]);
    }
    let reflog = into.git(&["reflog", "main"]);
    assert!(!reflog.contains("taken back"), "{reflog}");
}

/// Protects a merge from the user's own git, which is at work there at that moment.
#[tokio::test]
async fn who_is_at_work_there_is_waited_for() {
    for (begin, end) in [
        ("touch .git/index.lock", "rm .git/index.lock"),
        ("touch .git/refs/heads/main.lock", "rm .git/refs/heads/main.lock"),
        ("cp README .git/kept; echo half > README", "cat .git/kept > README; rm .git/kept"),
    ] {
        let mut into = Into::of("echo a > a", &format!("{GONE_ON}; {begin}")).await;
        let work = into.work(&into.repository, None);
        let asked = into.world.ask(into.id, work);
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        sh(&into.repository, end);
        let outcome = into.world.answer(asked).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{begin}: {outcome:?}");
        assert_eq!(into.git(&["status", "--porcelain"]), "", "{begin}");
    }
}

#[tokio::test]
async fn odd_names_are_names() {
    let mut into = Into::of("echo a > a", GONE_ON).await;
    for name in ["nobody", "main~1", "-x", "--all", "../HEAD", "ma*"] {
        let why = into.refused(Some(name)).await;
        assert!(why.contains("has no branch"), "{name}: {why}");
    }
}

#[tokio::test]
async fn the_repositorys_hooks_have_their_say() {
    for hook in ["pre-merge-commit", "commit-msg", "reference-transaction"] {
        let mut into = Into::of("echo a > a", GONE_ON).await;
        into.hook(hook, "echo 'not on a Friday' >&2; exit 1");
        let before = state(&into.repository);
        let why = into.refused(None).await;
        assert!(why.contains("not on a Friday"), "{hook}: {why}");
        assert_eq!(state(&into.repository), before, "{hook}");
    }
    let mut into = Into::of("echo a > a", GONE_ON).await;
    let seen = into.world.path("seen");
    into.hook("pre-merge-commit", &format!("pwd >> {0}; git diff --cached --name-only HEAD >> {0}", seen.display()));
    into.hook("commit-msg", "echo 'Change-Id: 1' >> \"$1\"");
    for hook in ["post-merge", "pre-commit", "post-checkout", "post-index-change", "prepare-commit-msg"] {
        into.hook(hook, &format!("echo {hook} >> {}", seen.display()));
    }
    into.merge(None).await;
    let place = into.repository.canonicalize().unwrap();
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), format!("{}\na\n", place.display()));
    assert!(into.git(&["log", "-1", "--format=%B"]).ends_with("Change-Id: 1"));
    // Where the configuration says that they are.
    let mut into =
        Into::of("echo a > a", &format!("{GONE_ON}; git config core.hooksPath elsewhere; mkdir elsewhere")).await;
    sh(
        &into.repository,
        "printf '#!/bin/sh\\necho elsewhere >&2; exit 1' > elsewhere/commit-msg; chmod +x elsewhere/commit-msg",
    );
    assert!(into.refused(None).await.contains("elsewhere"));
}

#[tokio::test]
async fn nothing_is_merged_outside_the_allowed_roots() {
    let mut into = Into::of("echo a > a", GONE_ON).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("outside");
    git(into.world.folder.path(), &["clone", "-q", "upstream", outside.to_str().unwrap()]);
    let work = into.work(&outside, None);
    let why = into.world.refused(into.id, work).await;
    assert!(why.contains("`allowed_roots`"), "{why}");
    // Nor by way of a worktree of an allowed one.
    let linked = elsewhere.path().join("linked");
    into.git(&["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    let why = into.refused(Some("side")).await;
    assert!(why.contains("`allowed_roots`"), "{why}");
}

#[tokio::test]
async fn what_others_share_stays_shared() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut into =
        Into::of("echo a > a", &format!("{GONE_ON}; git repack -adq; git config core.sharedRepository group")).await;
    into.merge(None).await;
    let tip = into.git(&["rev-parse", "HEAD"]);
    let object = into.repository.join(".git/objects").join(&tip[..2]).join(&tip[2..]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&object) & 0o444, 0o444);
    assert_eq!(mode(object.parent().unwrap()) & 0o070, 0o070);
}

#[tokio::test]
async fn where_history_ends_nothing_is_made_up() {
    // The user's repository has less of it than the work.
    let mut into = Into::of("echo a > a", GONE_ON).await;
    let short = into.world.path("short");
    let url = format!("file://{}", into.repository.display());
    git(into.world.folder.path(), &["clone", "-q", "--depth", "1", &url, short.to_str().unwrap()]);
    sh(&short, "git config user.name A; git config user.email a@b.c");
    let work = into.work(&short, None);
    let why = into.world.refused(into.id, work).await;
    assert!(why.contains("unrelated histories") && why.contains("is kept in"), "{why}");
    git(&short, &["fsck", "--connectivity-only"]);
    // The work has less of it than the user's.
    let mut world = World::new();
    let whole = world.repository("upstream");
    sh(&whole, "echo 1 > 1; git add -A; git commit -qm 1");
    let url = format!("file://{}", whole.display());
    git(world.folder.path(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    let (id, shallow) = (task(), world.path("shallow"));
    let base = world.prepare(id, Some(&shallow)).await.base;
    world.act(id, "echo a > a").await;
    let commit = world.commit(id, base.as_deref()).await.expect("a change").commit;
    sh(&whole, GONE_ON);
    let mut into = Into { world, id, repository: whole, commit };
    into.merge(None).await;
    assert_eq!(into.git(&["log", "--format=%s"]).lines().count(), 5);
    into.git(&["fsck", "--strict"]);
    assert!(!into.repository.join(".git/shallow").exists());
}

/// A branch that moves by one commit whenever it is about to be moved, so many times.
async fn that_moves(times: u32) -> Into {
    let folder = crate::support::folder();
    // In there, as it is all that git may write to then.
    let steps = folder.path().join("upstream/.git/steps");
    let script = format!(
        "#!/bin/sh
for branch in main side; do
  full=refs/heads/$branch
  case \"$*\" in *makima:*$full*) ;; *) continue ;; esac
  left=$(cat '{0}' 2> /dev/null || echo 0)
  if [ $left -gt 0 ]; then
    echo $((left - 1)) > '{0}'
    git update-ref $full $(git commit-tree -p $full -m \"moved $left\" $full^{{tree}}) || exit 99
  fi
done
exec git \"$@\"
",
        steps.display()
    );
    let git = folder.path().join("git");
    std::fs::write(&git, script).unwrap();
    std::fs::set_permissions(&git, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let world = World::with_user(folder, crate::support::Options { git, ..crate::support::Options::default() });
    let then = format!("{GONE_ON}; git branch side; echo mine > untracked; echo {times} > .git/steps");
    Into::on(world, "true", "echo a > a; rm README", &then).await
}

/// Protects commits that somebody makes while we merge: the merge is made with them, or not at all.
#[tokio::test]
async fn a_branch_that_moves_meanwhile_is_merged_where_it_is_or_left_alone() {
    for branch in ["main", "side"] {
        let full = format!("refs/heads/{branch}");
        for times in [1, 3] {
            let mut into = that_moves(times).await;
            let message = into.merge(Some(branch)).await;
            let tip = into.git(&["rev-parse", &full]);
            assert!(message.ends_with(&format!("merged as {tip}")), "{message}");
            assert_eq!(into.git(&["rev-parse", &format!("{full}^2")]), into.commit);
            // Every one of them, once.
            let log = into.git(&["log", "--first-parent", "--format=%s", &format!("{full}^1")]);
            assert_eq!(log.lines().filter(|line| line.starts_with("moved")).count(), times as usize, "{log}");
            assert_eq!(into.git(&["status", "--porcelain"]), "?? untracked");
            assert_eq!(into.repository.join("a").exists(), branch == "main");
            assert!(!into.world.home.task(into.id).join("into.json").exists());
            into.git(&["fsck", "--strict", "--no-dangling"]);
        }
        let mut into = that_moves(100).await;
        let before = (into.git(&["status", "--porcelain"]), into.git(&["rev-parse", &full]));
        let why = into.refused(Some(branch)).await;
        assert!(why.contains(&format!("`{branch}`")) && why.contains("moved each time that it was tried"), "{why}");
        assert!(why.contains("the work is kept in"), "{why}");
        let moved = into.git(&["log", "--first-parent", "--format=%s", &format!("{}..{full}", before.1)]);
        assert!(moved.lines().all(|line| line.starts_with("moved")) && !moved.is_empty(), "{moved}");
        assert_eq!(into.git(&["status", "--porcelain"]), before.0);
        assert!(into.repository.join("README").exists() && !into.repository.join("a").exists());
        // Nothing waits to be followed: whoever goes on by hand is not disturbed by it.
        assert!(!into.world.home.task(into.id).join("into.json").exists());
        into.world.is_tidy(into.id).await;
        std::fs::remove_file(into.repository.join(".git/steps")).unwrap();
        into.merge(Some(branch)).await;
        into.git(&["fsck", "--strict", "--no-dangling"]);
    }
}
