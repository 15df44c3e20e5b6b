//! Branches that were squashed into the worktree's commit are merged, whatever was done since; and no other is.

use makima_core::effect::Child;
use makima_core::input::Merging;

use crate::merges::{Family, sh};
use crate::support::git;

impl Family {
    /// Squashes a subtask's work into the worktree's branch, as a person would.
    fn squash(&self, n: usize) {
        let (bare, child) = (self.world.bare(), self.children[n]);
        sh(
            &self.tree,
            &format!(
                "git fetch -q {} +refs/makima/{child}:refs/heads/theirs; git merge -q --squash theirs; \
                 git commit -qm squashed; git branch -qD theirs",
                bare.display()
            ),
        );
    }

    async fn merged(&mut self) -> Vec<bool> {
        let children: Vec<Child> = (0..self.children.len()).map(|n| self.child(n)).collect();
        self.list(children).await.0.iter().map(|branch| branch.merged).collect()
    }
}

/// Protects from a branch that stays open for ever because a line of its was changed again.
#[tokio::test]
async fn what_was_changed_again_since_is_still_merged() {
    let theirs = &[
        "printf 'one\\ntheirs\\nthree\\n' > file; git commit -qam a; echo new > new; rm d/y",
        "printf 'one\\nothers\\nthree\\n' > file",
        "printf '\\0\\1' > blob; chmod +x other",
    ];
    let mut family = Family::of("echo ours > ours; git add -A; git commit -qm ours", theirs).await;
    family.squash(0);
    family.squash(2);
    assert_eq!(family.merged().await, [true, false, true]);
    sh(
        &family.tree,
        "printf 'one\\nmore\\nthree\\n' > file; git rm -q new blob; echo x > y; git add -A; git commit -qm on",
    );
    assert_eq!(family.merged().await, [true, false, true]);
    let before = family.state();
    assert_eq!((family.begin(0).await, family.begin(2).await), (Merging::Already, Merging::Already));
    assert_eq!(family.state(), before);
    assert_eq!(family.begin(1).await, family.open(1, &["file"]));
}

/// Protects work that only looks like what is there: nobody would ever merge it.
#[tokio::test]
async fn what_only_looks_alike_is_not_merged() {
    let theirs = &[
        "printf '\\0one' > blob",
        "printf 'if x:\\n  y\\n  z\\n' > python",
        "printf 'one\\ntheirs\\nthree\\n' > file; echo more > more",
        "chmod +x other",
    ];
    let ours = "printf '\\0two' > blob; git add -A; git commit -qm 1; \
        printf 'if x:\\n  y\\nz\\n' > python; git add -A; git commit -qm 2; \
        printf 'one\\ntheirs\\nthree\\n' > file; git add -A; git commit -qm 3; echo more > more; git add -A; git commit -qm 4; \
        echo x > other; echo y >> other; git commit -qam 5; git rm -q blob more; echo on > file; git add -A; git commit -qm on";
    let mut family = Family::of(ours, theirs).await;
    assert_eq!(family.merged().await, [false; 4]);
}

/// Protects from a branch that is not recognised because it went its own ways, or others began elsewhere.
#[tokio::test]
async fn wherever_a_branch_came_from_it_is_recognised() {
    let mut family = Family::of("true", &["echo a > a; echo x > file"]).await;
    let upstream = family.world.path("upstream");
    sh(&upstream, "echo up > up; git add -A; git commit -qm up");
    // One that began later, and one that has both, by a merge of its own.
    for script in ["echo b > b; echo y > file", "true"] {
        let child = crate::support::task();
        let base = family.world.prepare(child, Some(&upstream)).await.base;
        family.world.act(child, script).await;
        if script == "true" {
            let tree = family.world.home.worktree(child);
            sh(
                &tree,
                "git switch -qc side HEAD~1; echo c > c; git add -A; git commit -qm c; \
                 git merge -q --no-edit -; echo z > file; git commit -qam z; git switch -qC $(git branch --list 'makima/*' \
                 --format='%(refname:short)') side",
            );
        }
        family.world.run(child, crate::support::committing(child, base.as_deref())).await;
        family.children.push(child);
    }
    let bare = family.world.bare();
    sh(&family.tree, &format!("git pull -q --ff-only {} main", upstream.display()));
    for n in 0..3 {
        assert!(!family.merged().await[n]);
        family.squash_over(n);
        let on = format!("echo {n} >> file; git commit -qam on");
        sh(&family.tree, &on);
        assert!(family.merged().await[n], "{n}");
    }
    assert_eq!(family.merged().await, [true; 3]);
    git(&bare, &["fsck", "--strict", "--no-dangling"]);
}

impl Family {
    /// The same over what is there: the branch's own patch, and all of it.
    fn squash_over(&self, n: usize) {
        let (bare, child) = (self.world.bare(), self.children[n]);
        sh(
            &self.tree,
            &format!(
                "git fetch -q {} +refs/makima/{child}:refs/heads/theirs; base=$(git merge-base HEAD theirs); \
                 git checkout -q $base -- .; git commit -qm back --allow-empty; git diff $base theirs | git apply --index; \
                 git commit -qm squashed; git branch -qD theirs",
                bare.display()
            ),
        );
    }
}

/// Protects from programs that a repository names for looking at differences.
#[tokio::test]
async fn nothing_that_a_repository_names_is_run_to_compare() {
    let mut family = Family::of(
        "echo ours > ours; git add -A; git commit -qm ours",
        &["printf 'one\\ntheirs\\nthree\\n' > file; echo '* diff=evil filter=evil' > .gitattributes"],
    )
    .await;
    family.squash(0);
    let canary = family.world.path("canary");
    let touch = format!("touch {}", canary.display());
    sh(
        &family.tree,
        &format!(
            "printf 'one\\nmore\\nthree\\n' > file; git commit -qam more; for k in diff.evil.command diff.evil.textconv \
             diff.external filter.evil.clean filter.evil.smudge; do git config $k '{touch}'; done; \
             echo '* diff=evil filter=evil' > .git/info/attributes"
        ),
    );
    assert_eq!(family.merged().await, [true]);
    assert_eq!(family.begin(0).await, Merging::Already);
    assert!(!canary.exists());
}
