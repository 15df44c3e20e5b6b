//! Merging branches in a task's worktree.

use std::path::{Path, PathBuf};

use makima_core::effect::{Child, Merge, Side, Source, Work};
use makima_core::id::TaskId;
use makima_core::input::{Branch, Merging, Outcome};

use crate::support::{World, branch, committing, git, spec, task, user_git};

/// A task and its subtasks, each of which has done something.
pub(crate) struct Family {
    pub(crate) world: World,
    pub(crate) id: TaskId,
    pub(crate) tree: PathBuf,
    pub(crate) children: Vec<TaskId>,
}

/// What the repository has before anybody works on it.
pub(crate) const FIRST: &str =
    "printf 'one\\ntwo\\nthree\\n' > file; echo x > other; mkdir d; echo y > d/y; git add -A; git commit -qm second";

impl Family {
    /// The parent does `ours`, and commits; a subtask does each of `theirs`.
    pub(crate) async fn of(ours: &str, theirs: &[&str]) -> Self {
        Self::on(World::new(), ours, theirs).await
    }

    pub(crate) async fn on(mut world: World, ours: &str, theirs: &[&str]) -> Self {
        let repository = world.repository("upstream");
        let made = user_git(&repository, &["status"]).output().unwrap();
        assert!(made.status.success());
        sh(&repository, FIRST);
        let mut children = Vec::new();
        for script in theirs {
            let child = task();
            let base = world.prepare(child, Some(&repository)).await.base;
            world.act(child, script).await;
            let made = world.run(child, committing(child, base.as_deref())).await;
            assert!(matches!(made, Outcome::Committed(_)), "{made:?}");
            children.push(child);
        }
        let id = task();
        world.prepare(id, Some(&repository)).await;
        let tree = world.home.worktree(id);
        sh(&tree, ours);
        Self { world, id, tree, children }
    }

    pub(crate) fn child(&self, n: usize) -> Child {
        Child { task: self.children[n], branch: Some(branch(self.children[n])), ended: true }
    }

    pub(crate) async fn ask(&mut self, merge: Merge) -> Merging {
        match self.world.run(self.id, Work::Merge(merge)).await {
            Outcome::Merging(merging) => merging,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn begin(&mut self, n: usize) -> Merging {
        let source = Source::Child(self.child(n));
        self.ask(Merge::Start { source }).await
    }

    pub(crate) async fn list(&mut self, children: Vec<Child>) -> (Vec<Branch>, bool) {
        match self.world.run(self.id, Work::Merge(Merge::List { children })).await {
            Outcome::Branches { list, merging } => (list, merging),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn commit(&mut self) -> Merging {
        let trailers = vec![("Makima-Task", self.id.to_string())];
        self.ask(Merge::Commit { message: None, trailers }).await
    }

    pub(crate) fn open(&self, n: usize, conflicts: &[&str]) -> Merging {
        let conflicts = conflicts.iter().map(|path| (*path).to_owned()).collect();
        Merging::Open { source: Some(branch(self.children[n]).to_string()), conflicts }
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.tree, args)
    }

    pub(crate) fn state(&self) -> String {
        state(&self.tree)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.tree.join(name)).unwrap()
    }
}

/// Everything that an abort has to bring back, as git and the disk have it.
pub(crate) fn state(tree: &Path) -> String {
    let find = "find . -path ./.git -prune -o -printf '%p %y %m %l\\n' | sort; find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 md5sum";
    let files = sh(tree, find);
    let git = sh(
        tree,
        "git rev-parse HEAD; git ls-files -s; git status --porcelain=2 -b; ls .git | sort | grep -v -e logs -e ORIG_HEAD -e COMMIT_EDITMSG",
    );
    files + &git
}

pub(crate) fn sh(dir: &Path, script: &str) -> String {
    let mut command = user_git(dir, &[]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-ec", script]).current_dir(dir);
    for (name, value) in command.env("LC_ALL", "C").get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const CONFLICT: &[&str] = &["printf 'one\\ntheirs\\nthree\\n' > file; echo new > new"];
const OURS: &str = "printf 'one\\nours\\nthree\\n' > file; git commit -qam ours";

#[tokio::test]
async fn a_clean_merge_waits_for_its_commit() {
    let mut family = Family::of(
        "echo ours > ours; git add -A; git commit -qm ours; echo dirty > other",
        &["echo new > new; rm d/y; chmod +x file"],
    )
    .await;
    let before = family.git(&["rev-parse", "HEAD"]);
    assert_eq!(family.begin(0).await, family.open(0, &[]));
    assert_eq!(family.begin(0).await, family.open(0, &[]));
    let theirs = git(&family.world.bare(), &["rev-parse", &format!("refs/makima/{}", family.children[0])]);
    assert_eq!(family.git(&["rev-parse", "HEAD", "MERGE_HEAD"]), format!("{before}\n{theirs}"));
    assert_eq!(family.git(&["status", "--porcelain"]), "D  d/y\nM  file\nA  new\n M other");
    assert!(!family.tree.join("d").exists() && !family.tree.join(".git/index.lock").exists());
    assert_eq!(family.ask(Merge::Status).await, family.open(0, &[]));
    let Merging::Committed(made) = family.commit().await else { panic!("no commit") };
    assert_eq!(family.git(&["rev-parse", "HEAD", "HEAD^1", "HEAD^2"]), format!("{made}\n{before}\n{theirs}"));
    assert_eq!(family.git(&["status", "--porcelain"]), "M other");
    let said = format!("Merge branch '{}'\n\nMakima-Task: {}", branch(family.children[0]), family.id);
    assert_eq!(family.git(&["log", "-1", "--format=%B"]), said);
    assert_eq!(git(&family.world.bare(), &["rev-parse", &format!("refs/makima/{}", family.id)]), made);
    // Again, as after a crash.
    assert_eq!(family.commit().await, Merging::Committed(made));
    assert_eq!(family.begin(0).await, Merging::Already);
    assert_eq!(family.ask(Merge::Status).await, Merging::Nothing);
    assert_eq!(family.ask(Merge::Abort).await, Merging::Nothing);
    family.git(&["fsck", "--strict"]);
}

#[tokio::test]
async fn a_conflict_is_what_git_would_have_left() {
    let mut family = Family::of(OURS, CONFLICT).await;
    // What git itself makes of it.
    let copy = family.world.path("copy");
    sh(
        &family.tree,
        &format!(
            "cp -a . {0}; cd {0}; git fetch -q {1} +refs/makima/{2}:t; git merge -q t || true",
            copy.display(),
            family.world.bare().display(),
            family.children[0]
        ),
    );
    assert_eq!(family.begin(0).await, family.open(0, &["file"]));
    assert_eq!(family.git(&["ls-files", "-s"]), git(&copy, &["ls-files", "-s"]));
    assert_eq!(family.git(&["status", "--porcelain=2"]), git(&copy, &["status", "--porcelain=2"]));
    let merged = family.read("file");
    assert!(merged.contains("<<<<<<<") && merged.contains("theirs") && merged.contains("ours"), "{merged}");
    assert_eq!(family.commit().await, family.open(0, &["file"]));
    // The agent settles it.
    sh(&family.tree, "echo both > file");
    assert_eq!(family.ask(Merge::Status).await, family.open(0, &["file"]));
    sh(&family.tree, "git add file");
    assert_eq!(family.ask(Merge::Status).await, family.open(0, &[]));
    assert!(matches!(family.commit().await, Merging::Committed(_)));
    assert_eq!(family.git(&["show", "HEAD:file"]), "both");
}

#[tokio::test]
async fn the_agent_may_commit_it_itself() {
    let mut family = Family::of(OURS, CONFLICT).await;
    family.begin(0).await;
    sh(&family.tree, "echo both > file; git add file; git commit -qm mine");
    let made = family.git(&["rev-parse", "HEAD"]);
    assert_eq!(family.ask(Merge::Status).await, Merging::Nothing);
    assert_eq!(family.commit().await, Merging::Committed(made));
    assert_eq!(family.begin(0).await, Merging::Already);
}

/// Protects an orchestrator's branch from counting as complete with half a merge in it: its agent ended, or was ended, before
/// the conflicts were settled.
#[tokio::test]
async fn what_ends_before_its_conflicts_are_settled_is_not_merged() {
    let mut family = Family::of(OURS, CONFLICT).await;
    assert_eq!(family.begin(0).await, family.open(0, &["file"]));
    let (id, before) = (family.id, family.git(&["rev-parse", "HEAD"]));
    let change = family.world.commit(id, None).await.expect("a change");
    assert_eq!(family.git(&["rev-parse", &format!("{}^@", change.commit)]), before);
    assert_eq!(family.ask(Merge::Status).await, Merging::Nothing);
    let child = family.child(0);
    assert!(!family.list(vec![child]).await.0[0].merged);
    assert_eq!(family.begin(0).await, family.open(0, &["file"]));
    let settled = Merge::Resolve { file: "file".to_owned(), side: Side::Theirs };
    assert_eq!(family.ask(settled).await, family.open(0, &[]));
    assert!(matches!(family.commit().await, Merging::Committed(_)));
    assert!(!family.read("file").contains("<<<<<<<"));
    let child = family.child(0);
    assert!(family.list(vec![child]).await.0[0].merged);
}

/// Each kind of conflict: told, settled by either side, and taken back.
#[tokio::test]
async fn every_kind_of_conflict_is_settled_or_taken_back() {
    let commit = "git add -A; git commit -qm ours";
    let kinds: &[(&str, &str)] = &[
        ("printf 'one\\nours\\n' > file", "printf 'one\\ntheirs\\n' > file"),
        ("rm file", "echo theirs >> file"),
        ("echo ours >> file", "rm file"),
        ("git mv file ours", "git mv file theirs"),
        ("echo ours > added", "echo theirs > added; chmod +x added"),
        ("head -c 3000 /dev/zero > file", "head -c 4000 /dev/zero > file"),
        ("ln -sf a link", "ln -sf b link"),
        ("rm other; ln -s a other", "echo more > other"),
        ("rm -r d; echo file > d", "echo more >> d/y"),
        ("echo more >> d/y", "rm -r d; echo file > d"),
        ("printf x > \"$(printf 'a\\nb')\"", "printf y > \"$(printf 'a\\nb')\""),
        ("printf x > '-\"q'", "printf y > '-\"q'"),
        (
            "printf x > \"$(printf 'e\\314\\201')\"",
            "printf y > \"$(printf 'e\\314\\201')\"; printf z > \"$(printf '\\303\\251')\"",
        ),
    ];
    for (ours, theirs) in kinds {
        let mut family = Family::of(&format!("{ours}; {commit}; echo mine > untracked"), &[theirs]).await;
        let before = family.state();
        for side in [Side::Ours, Side::Theirs] {
            let Merging::Open { conflicts, .. } = family.begin(0).await else { panic!("{ours}") };
            assert!(!conflicts.is_empty(), "{ours}");
            assert_eq!(family.ask(Merge::Abort).await, Merging::Aborted, "{ours}");
            assert_eq!(family.state(), before, "{ours}");
            family.begin(0).await;
            for file in &conflicts {
                let now = family.ask(Merge::Resolve { file: file.clone(), side }).await;
                assert!(matches!(now, Merging::Open { .. }), "{ours}: {file}: {now:?}");
                assert_eq!(family.ask(Merge::Resolve { file: file.clone(), side }).await, Merging::NoConflict);
            }
            assert_eq!(family.ask(Merge::Status).await, family.open(0, &[]), "{ours}");
            // What is staged is what lies there.
            assert_eq!(family.git(&["diff", "--name-only"]), "", "{ours}");
            if side == Side::Ours {
                assert_eq!(family.ask(Merge::Abort).await, Merging::Aborted);
                assert_eq!(family.state(), before, "{ours}");
            }
        }
        assert!(matches!(family.commit().await, Merging::Committed(_)), "{ours}");
        assert_eq!(family.git(&["status", "--porcelain"]), "?? untracked", "{ours}");
        family.git(&["fsck", "--strict"]);
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_left() {
    for (there, files) in [
        ("echo dirty >> file", vec!["file"]),
        ("echo mine > new", vec!["new"]),
        ("mkdir new; echo mine > new/x", vec!["new/x"]),
        ("echo staged > staged; git add staged", vec!["staged"]),
        ("rm file", vec!["file"]),
        ("echo '*' > .git/info/exclude; echo mine > new", vec!["new"]),
    ] {
        let mut family = Family::of(&format!("{OURS}; {there}"), CONFLICT).await;
        let before = family.state();
        let files = files.into_iter().map(str::to_owned).collect();
        assert_eq!(family.begin(0).await, Merging::InTheWay(files), "{there}");
        assert_eq!(family.state(), before, "{there}");
    }
}

#[tokio::test]
async fn another_merge_is_not_disturbed() {
    let mut family = Family::of(OURS, &[CONFLICT[0], "echo second > second"]).await;
    family.begin(0).await;
    let busy = Merging::Busy(Some(branch(family.children[0]).to_string()));
    assert_eq!(family.begin(1).await, busy);
    family.ask(Merge::Abort).await;
    // The agent's own.
    sh(
        &family.tree,
        "git switch -qc side HEAD~1; printf 'one\\nside\\nthree\\n' > file; git commit -qam side; git switch -q -; git merge -q side || true",
    );
    let before = family.state();
    assert_eq!(family.begin(1).await, Merging::Busy(None));
    assert_eq!(family.ask(Merge::Abort).await, Merging::Busy(None));
    assert_eq!(family.ask(Merge::Status).await, Merging::Open { source: None, conflicts: vec!["file".into()] });
    assert_eq!(family.state(), before);
    sh(&family.tree, "git merge --abort; git rebase -q side || true");
    assert_eq!(family.begin(1).await, Merging::Busy(None));
    assert_eq!(family.ask(Merge::Abort).await, Merging::Busy(None));
}

#[tokio::test]
async fn branches_are_told_with_what_became_of_them() {
    let mut family = Family::of(OURS, &["echo a > a", "true", "echo c > c", "echo e > e"]).await;
    let tip =
        |n: usize| git(&family.world.bare(), &["rev-parse", "--short", &format!("refs/makima/{}", family.children[n])]);
    let tips = [tip(0), tip(2), tip(3)];
    // The third is squashed.
    sh(&family.tree, "echo c > c; git add c; git commit -qm squashed");
    let mut children: Vec<Child> = (0..4).map(|n| family.child(n)).collect();
    children[3].ended = false;
    let (list, merging) = family.list(children.clone()).await;
    assert!(!merging);
    let told: Vec<(String, bool)> = list.iter().map(|branch| (branch.name.clone(), branch.merged)).collect();
    let name = |n: usize| branch(family.children[n]).to_string();
    assert_eq!(told, [(name(0), false), (name(1), true), (name(2), true), (name(3), false)]);
    assert_eq!([&list[0].commit, &list[2].commit, &list[3].commit], [&tips[0], &tips[1], &tips[2]]);
    assert_eq!(list[0].subject, "Do the work");
    family.begin(0).await;
    assert!(family.list(children.clone()).await.1);
    family.commit().await;
    assert!(family.list(children).await.0[0].merged);
    assert_eq!(family.list(Vec::new()).await, (Vec::new(), false));
}

#[tokio::test]
async fn who_is_no_subtask_is_not_merged_or_skipped() {
    let mut family = Family::of(OURS, &["echo a > a"]).await;
    let stranger = Child { branch: None, ..family.child(0) };
    assert_eq!(family.ask(Merge::Start { source: Source::Child(stranger.clone()) }).await, Merging::NoBranch);
    let reason = "why".to_owned();
    assert_eq!(family.ask(Merge::Skip { child: stranger.clone(), reason: reason.clone() }).await, Merging::NoBranch);
    assert_eq!(family.ask(Merge::Skip { child: family.child(0), reason: reason.clone() }).await, Merging::Skipped);
    let running = Child { ended: false, ..family.child(0) };
    assert_eq!(family.ask(Merge::Start { source: Source::Child(running) }).await, Merging::NoBranch);
    for name in ["nobody", "../../config", "-x", "", "a b"] {
        assert_eq!(family.ask(Merge::Start { source: Source::Branch(name.into()) }).await, Merging::NoBranch, "{name}");
    }
    // By the trailer that a commit of its bears.
    let text = format!("work\n\nMakima-Parent: {}", family.id);
    let bare = family.world.bare();
    let name = format!("refs/makima/{}", stranger.task);
    let made = git(&bare, &["commit-tree", &format!("{name}^{{tree}}"), "-p", &name, "-m", &text]);
    git(&bare, &["update-ref", &name, &made]);
    let (list, _) = family.list(Vec::new()).await;
    assert_eq!((list.len(), list[0].task), (1, Some(stranger.task)));
    assert_eq!(family.ask(Merge::Skip { child: stranger.clone(), reason }).await, Merging::Skipped);
    let source = Source::Branch(list[0].name.clone());
    assert!(matches!(family.ask(Merge::Start { source }).await, Merging::Open { .. }));
}

/// Protects an orchestrator from the work of strangers: an agent writes what it likes into its commits, also that it is somebody's
/// subtask. Of a task that the daemon took on, it knows better.
#[tokio::test]
async fn whose_subtask_a_task_is_its_commits_do_not_say() {
    let mut family = Family::of(OURS, &["echo a > a"]).await;
    let child = family.children[0];
    let bare = family.world.bare();
    let (name, text) = (format!("refs/makima/{child}"), format!("work\n\nMakima-Parent: {}", family.id));
    let made = git(&bare, &["commit-tree", &format!("{name}^{{tree}}"), "-p", &name, "-m", &text]);
    git(&bare, &["update-ref", &name, &made]);
    for (parent, listed) in [(None, 0), (Some(task()), 0), (Some(family.id), 1)] {
        let spec = makima_core::task::Spec { parent, ..spec(child) };
        assert_eq!(family.world.run(child, Work::Accept { spec: Box::new(spec) }).await, Outcome::Done);
        assert_eq!(family.list(Vec::new()).await.0.len(), listed, "{parent:?}");
        let stranger = Child { branch: None, ..family.child(0) };
        let begun = family.ask(Merge::Start { source: Source::Child(stranger) }).await;
        assert_eq!(begun == Merging::NoBranch, listed == 0, "{parent:?}");
    }
}

#[tokio::test]
async fn work_on_another_repository_is_brought_along() {
    let mut family = Family::of(OURS, &[]).await;
    let upstream = family.world.path("upstream");
    let other = family.world.path("other");
    sh(&upstream, &format!("git clone -q . {}", other.display()));
    let alien = family.world.repository("alien");
    for (repository, merges) in [(other, true), (alien, false)] {
        let child = task();
        let base = family.world.prepare(child, Some(&repository)).await.base;
        family.world.act(child, "echo far > far").await;
        family.world.run(child, committing(child, base.as_deref())).await;
        family.children.push(child);
        let n = family.children.len() - 1;
        let child = family.child(n);
        let (list, _) = family.list(vec![child]).await;
        assert!(!list[0].merged && !list[0].commit.is_empty());
        let begun = family.begin(n).await;
        assert!(matches!(begun, Merging::Open { .. }), "{begun:?} {merges}");
        family.ask(Merge::Abort).await;
    }
}

#[tokio::test]
async fn an_agents_git_at_work_is_waited_for_and_then_named() {
    let mut family = Family::of(OURS, CONFLICT).await;
    let lock = family.tree.join(".git/index.lock");
    std::fs::write(&lock, "").unwrap();
    let source = Source::Child(family.child(0));
    let why = family.world.refused(family.id, Work::Merge(Merge::Start { source })).await;
    assert!(why.contains("index.lock"), "{why}");
    assert!(lock.exists());
    std::fs::remove_file(&lock).unwrap();
    assert_eq!(family.begin(0).await, family.open(0, &["file"]));
}
