//! What became of a task's work, where it is no commit in the repository that is asked: of subtasks that are to be
//! merged, and of a task whose work is to be handed over again.

use makima_core::effect::{Deed, Delivery, Merge, Source, Work};
use makima_core::id::TaskId;
use makima_core::input::{Merging, Outcome};
use makima_core::policy::CommitText;

use crate::merges::{Family, sh};
use crate::support::{World, branch, committing, git, shell, task};

const OURS: &str = "echo ours > ours; git add -A; git commit -qm ours";

impl Family {
    /// A subtask more, on another repository.
    async fn far(&mut self, repository: &std::path::Path, script: &str) -> usize {
        let child = task();
        let base = self.world.prepare(child, Some(repository)).await.base;
        self.world.act(child, script).await;
        self.world.run(child, committing(child, base.as_deref())).await;
        self.children.push(child);
        self.children.len() - 1
    }

    async fn is_merged(&mut self, n: usize) -> bool {
        let children = vec![self.child(n)];
        self.list(children).await.0[0].merged
    }

    async fn refused(&mut self, n: usize) -> String {
        let source = Source::Child(self.child(n));
        self.world.refused(self.id, Work::Merge(Merge::Start { source })).await
    }
}

/// Protects work that cannot be brought here from being taken for none: nobody would ever merge it.
#[tokio::test]
async fn work_that_cannot_be_brought_here_is_not_merged() {
    let mut family = Family::of(OURS, &[]).await;
    let long = family.world.path("long");
    sh(
        family.world.folder.path(),
        "git init -q -b main --object-format=sha256 long; cd long; echo x > x; git add -A; git commit -qm first",
    );
    let n = family.far(&long, "echo far > far").await;
    let (list, _) = family.list(vec![family.child(n)]).await;
    assert!(!list[0].merged && list[0].commit.len() == 7, "{list:?}");
    let why = family.refused(n).await;
    assert!(why.contains("sha256"), "{why}");
    // One that changed nothing there has nothing to be brought.
    let n = family.far(&long, "true").await;
    assert!(family.is_merged(n).await);
    assert_eq!(family.begin(n).await, Merging::Already);
}

/// Protects from the same where the other repository is damaged, and the rest of its work from that one object.
#[tokio::test]
async fn work_that_is_damaged_elsewhere_is_not_merged_and_keeps_no_other() {
    let mut family = Family::of(OURS, &[]).await;
    let alien = family.world.repository("alien");
    let before = std::fs::read_dir(family.world.home.repos()).unwrap().count();
    let [damaged, whole] = [family.far(&alien, "echo a > a").await, family.far(&alien, "echo b > b").await];
    assert_eq!(std::fs::read_dir(family.world.home.repos()).unwrap().count(), before + 1);
    let mut repos = std::fs::read_dir(family.world.home.repos()).unwrap().map(|entry| entry.unwrap().path());
    let bare = repos.find(|path| path.join(format!("refs/makima/{}", family.children[whole])).exists()).unwrap();
    let blob = git(&bare, &["rev-parse", &format!("refs/makima/{}:a", family.children[damaged])]);
    sh(&bare, "mkdir packs; mv objects/pack/* packs; for p in packs/*.pack; do git unpack-objects -q < $p; done");
    std::fs::remove_file(bare.join("objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    let (list, _) = family.list(vec![family.child(damaged), family.child(whole)]).await;
    assert!(!list[0].merged && list[0].subject.is_empty(), "{list:?}");
    assert!(!list[1].merged && list[1].subject == "Do the work", "{list:?}");
    assert!(!family.refused(damaged).await.is_empty());
    assert!(matches!(family.begin(whole).await, Merging::Open { .. }));
    family.ask(Merge::Abort).await;
    // All of it is gone.
    std::fs::rename(&bare, family.world.path("gone")).unwrap();
    assert!(!family.is_merged(damaged).await);
}

/// Protects work that could not be committed from being taken for none, also beside what was committed before.
#[tokio::test]
async fn work_that_is_in_no_commit_is_not_merged() {
    let mut family = Family::of(OURS, &["true", "echo a > a"]).await;
    let repository = family.world.path("upstream");
    let bases: Vec<_> = family.children.clone();
    for child in &bases {
        // It is somewhere else for a moment.
        let (worktree, aside) = (family.world.home.worktree(*child), family.world.path("aside"));
        std::fs::write(worktree.join("more"), "more").unwrap();
        std::fs::rename(&worktree, &aside).unwrap();
        let why = family.world.refused(*child, committing(*child, None)).await;
        assert!(why.contains("is gone"), "{why}");
        std::fs::rename(aside, worktree).unwrap();
    }
    assert!(!family.is_merged(0).await);
    let why = family.refused(0).await;
    assert!(why.contains("in no commit"), "{why}");
    // What there is of it can be merged, and it is not all.
    assert!(matches!(family.begin(1).await, Merging::Open { .. }));
    assert!(matches!(family.commit().await, Merging::Committed(_)));
    assert!(!family.is_merged(1).await);
    let done = family.world.run(family.children[1], committing(family.children[1], None)).await;
    assert!(matches!(done, Outcome::Committed(Some(_))), "{done:?}");
    assert!(!family.is_merged(1).await);
    assert!(matches!(family.begin(1).await, Merging::Open { .. }));
    assert!(matches!(family.commit().await, Merging::Committed(_)));
    assert!(family.is_merged(1).await);
    // One that nobody has committed: the daemon was killed, and its work was never looked after.
    let child = task();
    family.world.prepare(child, Some(&repository)).await;
    family.children.push(child);
    assert!(family.is_merged(2).await, "what never ran has done nothing");
    family.world.act(child, "echo b > b").await;
    assert!(!family.is_merged(2).await);
    assert!(family.refused(2).await.contains("in no commit"));
}

/// Protects who merges one by one from a refusal, where the list says that there is nothing to be done.
#[tokio::test]
async fn a_subtask_that_changed_nothing_is_merged_already() {
    let mut family = Family::of(OURS, &["true", "echo a > a"]).await;
    let before = family.state();
    assert!(family.is_merged(0).await);
    assert_eq!(family.begin(0).await, Merging::Already);
    assert_eq!((family.ask(Merge::Status).await, family.state()), (Merging::Nothing, before));
    // Whoever is no subtask of its is none all the same.
    let mut stranger = family.child(0);
    stranger.branch = None;
    assert_eq!(family.ask(Merge::Start { source: Source::Child(stranger) }).await, Merging::NoBranch);
    assert_eq!(family.begin(1).await, family.open(1, &[]));
    let busy = Merging::Busy(Some(branch(family.children[1]).to_string()));
    assert_eq!(family.begin(0).await, busy);
}

/// Protects whoever hands over again what there is none of from an error; and work that is in no commit from being
/// taken for none.
#[tokio::test]
async fn no_work_is_handed_over_and_lost_work_is_not_said_to_be_none() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    let again = |task: TaskId, deed: Deed| {
        Work::Deliver(Box::new(Delivery {
            deed,
            target: Some(repository.display().to_string()),
            repository: None,
            credentials: None,
            branch: branch(task),
            commit: None,
            into: None,
            base: None,
            text: CommitText::of("a task", task, None),
        }))
    };
    let idle = task();
    let base = world.prepare(idle, Some(&repository)).await.base;
    world.act(idle, "true").await;
    assert_eq!(world.commit(idle, base.as_deref()).await, None);
    let never = task();
    for (task, deed) in [(idle, Deed::Branch), (idle, Deed::Merge), (idle, Deed::Pr), (never, Deed::Branch)] {
        match world.run(task, again(task, deed)).await {
            Outcome::Delivered { message, url: None } => assert_eq!(message, "no changes"),
            other => panic!("{deed:?}: {other:?}"),
        }
    }
    assert_eq!(git(&repository, &["branch", "--format=%(refname:short)"]), "main");
    let lost = task();
    world.prepare(lost, Some(&repository)).await;
    let id = world.ask(lost, Work::Start(shell("echo a > a")));
    world.answer(id).await;
    world.exit(id).await;
    // Nobody has committed it: that is done now, as long as it is there.
    let (worktree, aside) = (world.home.worktree(lost), world.path("aside"));
    std::fs::rename(&worktree, &aside).unwrap();
    let why = world.refused(lost, again(lost, Deed::Branch)).await;
    assert!(why.contains("is gone"), "{why}");
    std::fs::rename(&aside, &worktree).unwrap();
    let outcome = world.run(lost, again(lost, Deed::Branch)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(git(&repository, &["show", &format!("{}:a", branch(lost))]), "a");
}
