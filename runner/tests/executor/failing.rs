//! Handing work over while git fails in every way: locks in the way, writes that fail, a daemon killed at any moment. The
//! user's repository is as it was or as it is to be, and the same again goes through.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use makima_core::effect::{Deed, Delivery, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::Outcome;
use makima_core::policy::CommitText;
use makima_runner::executor::{Executor, Secrets, Settings, Way};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::merges::{sh, state};
use crate::support::{Options, World, branch, folder, git, open, portable, task};

/// What is done to the user's repository, or beside it.
const DOES: &[&str] = &["branch", "merge", "clone"];

fn work(id: TaskId, does: &str, target: &Path, commit: &str) -> Work {
    let deed = match does {
        "branch" => Deed::Branch,
        "merge" => Deed::Merge,
        _ => return Work::Clone { to: target.with_file_name("copy").display().to_string(), branch: branch(id) },
    };
    Work::Deliver(Box::new(Delivery {
        deed,
        target: Some(target.display().to_string()),
        repository: None,
        credentials: None,
        branch: branch(id),
        commit: Some(commit.to_owned()),
        into: None,
        base: None,
        text: CommitText::of("a task", id, None),
    }))
}

/// A task with work, and a repository of the user's that has gone on meanwhile.
struct Scene {
    world: World,
    id: TaskId,
    target: PathBuf,
    commit: String,
}

impl Scene {
    async fn new() -> Self {
        let folder = folder();
        let user = folder.path().join("user");
        std::fs::create_dir(&user).unwrap();
        let identity = "[user]\n\tname = Ada\n\temail = ada@example.org\n";
        std::fs::write(user.join(".gitconfig"), identity).unwrap();
        // A git that the test can have fail, as `limit` says.
        let wrapper = folder.path().join("git");
        let limit = folder.path().join("limit");
        let script = format!(
            "#!/bin/sh\ntrap '' XFSZ\ntest -e '{0}' && ulimit -f \"$(cat '{0}')\"\nexec git \"$@\"\n",
            limit.display()
        );
        std::fs::write(&wrapper, script).unwrap();
        std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut world = World::on(folder, Options { git: wrapper, ..Options::default() });
        let target = world.repository("upstream");
        let id = task();
        let base = world.prepare(id, Some(&target)).await.base;
        world.act(id, "seq 20000 > a; mkdir d; echo x > d/x; rm README").await;
        let commit = world.commit(id, base.as_deref()).await.expect("a change").commit;
        sh(&target, "echo more > more; git add -A; git commit -qm more; echo mine > untracked");
        Self { world, id, target, commit }
    }

    fn work(&self, does: &str) -> Work {
        work(self.id, does, &self.target, &self.commit)
    }

    /// Does it, and sees that it is done.
    async fn done(&mut self, does: &str) {
        let work = self.work(does);
        let outcome = self.world.run(self.id, work).await;
        assert!(matches!(outcome, Outcome::Delivered { .. } | Outcome::Cloned { .. }), "{does}: {outcome:?}");
        match does {
            "branch" => assert_eq!(git(&self.target, &["rev-parse", branch(self.id).as_str()]), self.commit),
            "merge" => {
                assert_eq!(git(&self.target, &["rev-parse", "HEAD^2"]), self.commit);
                assert_eq!(git(&self.target, &["status", "--porcelain"]), "?? untracked");
            }
            _ => {
                let copy = self.target.with_file_name("copy");
                assert_eq!(git(&copy, &["rev-parse", "HEAD"]), self.commit);
                assert_eq!(git(&copy, &["status", "--porcelain"]), "");
                git(&copy, &["fsck", "--strict"]);
            }
        }
        git(&self.target, &["fsck", "--strict", "--no-dangling"]);
    }

    /// All that the user sees of the repository, and whether there is a copy.
    fn state(&self) -> (String, bool) {
        (format!("{:?}", state(&self.target)), self.target.with_file_name("copy").exists())
    }
}

#[tokio::test]
async fn a_lock_in_the_way_is_a_reason_and_no_harm() {
    for (does, lock) in [
        ("branch", "refs/heads/makima/BRANCH.lock"),
        ("merge", "refs/heads/main.lock"),
        ("merge", "index.lock"),
        ("merge", "HEAD.lock"),
    ] {
        let mut scene = Scene::new().await;
        let name = branch(scene.id).as_str().replace("makima/", "");
        let lock = scene.target.join(".git").join(lock.replace("BRANCH", &name));
        std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
        std::fs::write(&lock, "").unwrap();
        let before = scene.state();
        let work = scene.work(does);
        let outcome = scene.world.run(scene.id, work).await;
        if let Outcome::Failed(why) = &outcome {
            assert!(why.contains("lock") && why.contains("the work is kept in"), "{does}: {why}");
            assert_eq!(scene.state(), before, "{does} {}", lock.display());
            assert!(lock.exists(), "it is not ours to take away");
        }
        std::fs::remove_file(&lock).unwrap();
        if matches!(outcome, Outcome::Failed(_)) {
            scene.done(does).await;
        }
    }
}

/// Writes fail at some size, as on a disk that fills up: the first, one in between, a late one.
#[tokio::test]
async fn writes_that_fail_leave_all_as_it_was() {
    for does in DOES {
        for blocks in ["0", "1", "8", "64"] {
            let mut scene = Scene::new().await;
            let before = scene.state();
            let limit = scene.world.path("limit");
            std::fs::write(&limit, blocks).unwrap();
            let work = scene.work(does);
            let outcome = scene.world.run(scene.id, work).await;
            let failed = matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_));
            assert!(failed || blocks != "0", "{does}: {outcome:?}");
            std::fs::remove_file(&limit).unwrap();
            if failed {
                assert_eq!(scene.state(), before, "{does} {blocks}: {outcome:?}");
            }
            if failed || *does != "merge" {
                scene.done(does).await;
            }
        }
    }
}

/// Not a test: the life of a daemon that is killed by one.
#[tokio::test]
async fn life() {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(place) = variable("MAKIMA_LIFE_HANDS_OVER") else { return };
    let place = Path::new(&place);
    let id = TaskId(Uuid::try_parse(&variable("MAKIMA_LIFE_TASK").unwrap()).unwrap());
    let home = open(&place.join("makima"));
    let settings = Settings {
        environment: vec![
            ("PATH".to_owned(), variable("PATH").unwrap()),
            ("HOME".to_owned(), place.join("user").display().to_string()),
        ],
        allowed_roots: vec![place.to_owned()],
        forges: Vec::new(),
        agent_env: Vec::new(),
        secrets: Secrets::default(),
        git: "git".into(),
        launcher: env!("CARGO_BIN_EXE_makima").into(),
        way: Way::chosen(portable()),
        groups: false,
        output_max: 1 << 30,
        set_up_max: Duration::from_secs(600),
        repositories: Vec::new(),
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let mut executor = Executor::new(home.clone(), settings, sender).expect("an executor");
    let (does, commit) = (variable("MAKIMA_LIFE_DOES").unwrap(), variable("MAKIMA_LIFE_COMMIT").unwrap());
    let work = work(id, &does, &place.join("upstream"), &commit);
    executor.perform(EffectId { incarnation: home.incarnation(), n: 1 }, id, work);
    events.recv().await;
    std::process::exit(0);
}

/// A life that does this, and is killed after so long.
async fn live_and_die(mut scene: Scene, does: &str, after: Duration) -> Scene {
    let World { folder, executor, home, .. } = scene.world;
    drop(executor);
    drop(home);
    let mut life = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "failing::life", "--nocapture"])
        .env("MAKIMA_LIFE_HANDS_OVER", folder.path())
        .env("MAKIMA_LIFE_TASK", scene.id.to_string())
        .env("MAKIMA_LIFE_COMMIT", &scene.commit)
        .env("MAKIMA_LIFE_DOES", does)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(after).await;
    let _ = life.kill();
    let _ = life.wait();
    // A git that it had begun comes to its own end.
    tokio::time::sleep(Duration::from_millis(150)).await;
    scene.world = World::on(folder, Options::default());
    scene
}

/// Protects the user's repository from a daemon that is killed at any moment.
#[tokio::test]
async fn a_daemon_killed_at_any_moment_can_do_it_again() {
    let kills: u32 = std::env::var("MAKIMA_GIT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(40);
    let mut scene = Scene::new().await;
    let main = git(&scene.target, &["rev-parse", "main"]);
    let before = scene.state();
    let mut cut = [0_u32; 2];
    for n in 0..kills {
        let does = DOES[n as usize % DOES.len()];
        scene = live_and_die(scene, does, Duration::from_millis(u64::from(n * 37 % 160))).await;
        cut[usize::from(scene.state() == before)] += 1;
        git(&scene.target, &["fsck", "--strict", "--no-dangling"]);
        scene.done(does).await;
        let copy = scene.target.with_file_name("copy");
        if copy.exists() {
            std::fs::remove_dir_all(copy).unwrap();
        }
        let left = std::fs::read_dir(scene.world.folder.path()).unwrap();
        assert!(
            left.map(|entry| entry.unwrap().file_name()).all(|name| !name.to_string_lossy().starts_with(".makima-")),
            "{n}"
        );
        sh(&scene.target, &format!("git reset -q --hard {main}; git branch -q -D '{}' || true", branch(scene.id)));
        assert_eq!(scene.state(), before, "{n}: {does}");
    }
    assert!(kills < 20 || (cut[0] > 0 && cut[1] > 0), "it was killed too early or too late: {cut:?}");
}
