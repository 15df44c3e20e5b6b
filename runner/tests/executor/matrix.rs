//! Whatever an agent has made of its files and of its repository: all that the daemon does with them afterwards runs
//! nothing of the agent's, writes and reads nothing outside, ends in time, and leaves every repository of the user's
//! whole. What agents do is in [`hostilities`](crate::hostilities), a test for each.

use std::path::{Path, PathBuf};
use std::process::Command;

use makima_core::effect::{Child, Commit, Copy, Deed, Delivery, Merge, Prepare, Side, Source, Start, Work};
use makima_core::forge::Kind;
use makima_core::id::TaskId;
use makima_core::input::{ExitStatus, Outcome};
use makima_core::policy::{CommitText, InnerPath, RepositoryUrl};
use makima_core::task::{End, EndStatus};

use crate::merges::{FIRST, sh};
use crate::prs::Scene;
use crate::support::{World, branch, git, spec, task, user_git};

/// What nobody may read. No script names it.
const SECRET: &str = "nobody-is-to-read-this";

/// What every agent does beside: files that collide with the other's, a commit, and something that is not committed.
const WORK: &str = "printf 'one\\nmine\\nthree\\n' > file; git commit -qam mine; echo new > new; echo y2 > d/y";
const OTHERS: &str = "printf 'one\\ntheirs\\nthree\\n' > file; git commit -qam theirs; echo newer > newer";

/// A user's folder with a clone, a forge, and what must stay as it is.
struct Ground {
    world: World,
    /// The user's clone, where the work comes from and is merged into.
    clone: PathBuf,
    remote: PathBuf,
    /// Another clone, where branches are put.
    target: PathBuf,
    /// What was answered with a reason instead of being done.
    refused: Vec<&'static str>,
    told: String,
    before: String,
}

impl Ground {
    async fn new() -> Self {
        let Scene { world, clone, remote, .. } = Scene::new(Some(Kind::GitHub), &[("GH_ENTERPRISE_TOKEN", "t")]).await;
        sh(&clone, FIRST);
        git(&clone, &["push", "-q", &remote.display().to_string(), "main"]);
        git(world.folder.path(), &["clone", "-q", "clone", "target"]);
        let target = world.path("target");
        let outside = world.path("outside");
        sh(
            world.folder.path(),
            "mkdir -p outside/dir; mkfifo outside/pipe; echo x > outside/dir/y; echo x > outside/file",
        );
        std::fs::write(outside.join("secret"), SECRET).unwrap();
        std::fs::write(outside.join("dir/secret"), SECRET).unwrap();
        let canary = format!("#!/bin/sh\necho \"$0 $*\" >> {}\n", world.path("ran").display());
        std::fs::write(world.path("canary"), canary).unwrap();
        sh(world.folder.path(), "chmod +x canary; chmod 400 outside/secret");
        let mut ground =
            Self { world, clone, remote, target, refused: Vec::new(), told: String::new(), before: String::new() };
        ground.before = ground.what_must_stay();
        ground
    }

    /// Runs a script as the agent, who may run anything and write anywhere: what it does by itself does not count.
    async fn act(&mut self, id: TaskId, script: &str) {
        let (canary, outside) = (self.world.path("canary"), self.world.path("outside"));
        let names =
            format!("CANARY={} OUT={} USERS={}; set -e; ", canary.display(), outside.display(), self.clone.display());
        let status = self.world.act(id, &(names + script)).await;
        assert_eq!(status, ExitStatus::Code(0), "the script itself fails: {script}");
        let _ = std::fs::remove_file(self.world.path("ran"));
        assert_eq!(self.what_must_stay(), self.before, "the script itself does harm: {script}");
    }

    async fn does(&mut self, id: TaskId, name: &'static str, work: Work) -> Outcome {
        let outcome = self.world.run(id, work).await;
        self.told += &format!("{name}: {outcome:?}\n");
        if matches!(outcome, Outcome::Failed(_)) {
            self.refused.push(name);
        }
        let ran = std::fs::read_to_string(self.world.path("ran")).unwrap_or_default();
        assert_eq!(ran, "", "{name} runs what the agent has laid out: {}", self.told);
        assert_eq!(self.what_must_stay(), self.before, "{name} writes elsewhere: {}", self.told);
        outcome
    }

    /// What is outside, and what decides how the user's repositories behave.
    fn what_must_stay(&self) -> String {
        let listed = "find outside clone/.git/config clone/.git/hooks clone/.git/info target/.git/config \
            target/.git/hooks target/.git/info user ! -type p -printf '%p %y %m %s %T@ %l\\n' | sort; \
            cat outside/dir/y outside/file; git -C clone symbolic-ref HEAD; git -C target symbolic-ref HEAD; \
            git -C target rev-parse main";
        sh(self.world.folder.path(), listed)
    }

    async fn prepared(&mut self, start: Start, copy: Option<Copy>, name: &'static str) -> Option<TaskId> {
        let id = task();
        let work = Work::Prepare(Box::new(Prepare {
            repository: Some(RepositoryUrl::Local(self.clone.display().to_string())),
            credentials: None,
            start,
            branch: branch(id),
            plan: "do it".to_owned(),
            copy,
            conversation: None,
        }));
        assert_eq!(self.world.run(id, Work::Accept { spec: Box::new(spec(id)) }).await, Outcome::Done);
        matches!(self.does(id, name, work).await, Outcome::Prepared(_)).then_some(id)
    }

    async fn commit(&mut self, id: TaskId, name: &'static str) -> Option<String> {
        let text = CommitText::of("Do the work", id, None);
        let base = Some(git(&self.clone, &["rev-parse", "main"]));
        match self.does(id, name, Work::Commit(Box::new(Commit { branch: branch(id), base, text }))).await {
            Outcome::Committed(change) => change.map(|change| change.commit),
            _ => None,
        }
    }

    async fn deliver(&mut self, id: TaskId, name: &'static str, deed: Deed, commit: &str) {
        let target = if deed == Deed::Branch { &self.target } else { &self.clone };
        let work = Delivery {
            deed,
            target: Some(target.display().to_string()),
            repository: None,
            credentials: None,
            branch: branch(id),
            commit: Some(commit.to_owned()),
            into: None,
            base: None,
            text: CommitText::of("a task", id, None),
        };
        self.does(id, name, Work::Deliver(Box::new(work))).await;
    }

    async fn deliver_everywhere(&mut self, id: TaskId, commit: &str) {
        self.deliver(id, "branch", Deed::Branch, commit).await;
        self.deliver(id, "merge", Deed::Merge, commit).await;
        self.deliver(id, "pr", Deed::Pr, commit).await;
    }

    /// The work of `child` is merged into the worktree of `into`: taken back, begun again, settled.
    async fn merged(&mut self, into: TaskId, child: TaskId) {
        let child = Child { task: child, branch: Some(branch(child)), ended: true };
        let start = || Work::Merge(Merge::Start { source: Source::Child(child.clone()) });
        self.does(into, "list", Work::Merge(Merge::List { children: vec![child.clone()] })).await;
        self.does(into, "start", start()).await;
        self.does(into, "abort", Work::Merge(Merge::Abort)).await;
        self.does(into, "start again", start()).await;
        self.does(into, "status", Work::Merge(Merge::Status)).await;
        self.does(into, "resolve", Work::Merge(Merge::Resolve { file: "file".into(), side: Side::Theirs })).await;
        self.does(into, "settle", Work::Merge(Merge::Commit { message: None, trailers: Vec::new() })).await;
    }

    async fn put_away(&mut self, id: TaskId) {
        let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 0 };
        for (name, work) in
            [("conclude", Work::Conclude { end, spec: None }), ("close", Work::Close), ("discard", Work::Discard)]
        {
            self.does(id, name, work).await;
        }
        self.does(id, "forget", Work::Forget).await;
    }

    /// The next task is as good as any, and nothing of anybody's was damaged or told.
    async fn ends_well(&mut self) {
        let before = self.refused.len();
        let id = self.prepared(Start::Default, None, "next").await.expect("the next is prepared");
        self.act(id, "echo next > next").await;
        let commit = self.commit(id, "next").await.expect("the next is committed");
        self.deliver(id, "next", Deed::Branch, &commit).await;
        assert_eq!(self.refused.len(), before, "the next does not work: {}", self.told);
        assert!(!self.told.contains(SECRET), "{}", self.told);
        for repository in [&self.clone, &self.target, &self.remote, &self.world.bare()] {
            let odd = [
                "-c",
                "fsck.missingNameBeforeEmail=ignore",
                "-c",
                "fsck.missingEmail=ignore",
                "-c",
                "fsck.badTimezone=ignore",
            ];
            let fsck = [&odd[..], &["fsck", "--strict", "--no-dangling"]].concat();
            let fsck = user_git(repository, &fsck).output().unwrap();
            assert!(fsck.status.success(), "{}: {}\n{}", repository.display(), text(&fsck.stderr), self.told);
            let all = ["cat-file", "--batch-all-objects", "--batch", "--buffer"];
            let all = user_git(repository, &all).output().unwrap().stdout;
            assert!(!text(&all).contains(SECRET), "{} has it: {}", repository.display(), self.told);
        }
        assert_eq!(git(&self.clone, &["status", "--porcelain"]), "", "{}", self.told);
        let within = "grep -rlsF --devices=skip -e \"$0\" clone target makima forge user || true";
        let found = Command::new("sh").args(["-c", within, SECRET]).current_dir(self.world.folder.path()).output();
        assert_eq!(text(&found.unwrap().stdout), "", "{}", self.told);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A hostile agent's work is gone on with, copied, committed, handed over, merged into another's, and put away.
pub(crate) async fn a_subtask(script: &str) -> Vec<&'static str> {
    let mut ground = Ground::new().await;
    let parent = ground.prepared(Start::Default, None, "prepare").await.expect("it is prepared");
    ground.act(parent, OTHERS).await;
    let id = ground.prepared(Start::Default, None, "prepare").await.expect("it is prepared");
    ground.act(id, &format!("{WORK}; {script}")).await;

    let paths = ["file", "d/y", "new", "there/file"].map(|path| InnerPath::read(path).unwrap()).to_vec();
    ground.prepared(Start::Default, Some(Copy { from: id, paths }), "copy files").await;
    ground.prepared(Start::Continue(id), None, "go on").await;
    let to = ground.world.path("copy").display().to_string();
    ground.does(id, "clone", Work::Clone { to, branch: branch(id) }).await;
    if let Some(commit) = ground.commit(id, "commit").await {
        ground.deliver_everywhere(id, &commit).await;
    }
    ground.prepared(Start::Parent(id), None, "start from").await;
    ground.merged(parent, id).await;
    ground.put_away(id).await;
    ground.ends_well().await;
    if std::env::var_os("MAKIMA_TELL").is_some() {
        println!("{}", ground.told);
    }
    ground.refused
}

/// Another's work is merged into a hostile agent's, which is then handed over.
pub(crate) async fn a_parent(script: &str) -> Vec<&'static str> {
    let mut ground = Ground::new().await;
    let child = ground.prepared(Start::Default, None, "prepare").await.expect("it is prepared");
    ground.act(child, OTHERS).await;
    ground.commit(child, "commit").await.expect("it is committed");
    let id = ground.prepared(Start::Default, None, "prepare").await.expect("it is prepared");
    ground.act(id, &format!("{WORK}; {script}")).await;

    ground.merged(id, child).await;
    if let Some(commit) = ground.commit(id, "commit").await {
        ground.deliver_everywhere(id, &commit).await;
    }
    ground.put_away(id).await;
    ground.ends_well().await;
    if std::env::var_os("MAKIMA_TELL").is_some() {
        println!("{}", ground.told);
    }
    ground.refused
}

/// Protects the tests of this kind from finding nothing because nothing would be found.
#[tokio::test]
async fn a_canary_sings() {
    let ground = Ground::new().await;
    let script = format!("git -c core.fsmonitor={} status", ground.world.path("canary").display());
    sh(&ground.clone, &script);
    assert!(Path::new(&ground.world.path("ran")).exists());
    std::fs::write(ground.world.path("outside/dir/more"), "").unwrap();
    assert_ne!(ground.what_must_stay(), ground.before);
}
