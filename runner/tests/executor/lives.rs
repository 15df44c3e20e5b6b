//! Daemons that are killed by a test while they do something, and what they do.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use makima_core::effect::{Child, Deed, Delivery, Merge, Source, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::policy::CommitText;
use makima_runner::executor::{Executor, Secrets, Settings, Way};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::support::{Options, World, branch, committing, open, portable, preparing};

/// Microseconds in which all of what a life does is done.
const LONGEST: u64 = 160_000;

/// How many are killed.
pub(crate) fn kills() -> u32 {
    std::env::var("MAKIMA_GIT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(24)
}

/// What the moments follow from: another one each time, unless it is given.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| match std::env::var("MAKIMA_GIT_KILL_SEED") {
        Ok(seed) => seed.parse().expect("MAKIMA_GIT_KILL_SEED is to be a number"),
        Err(_) => RandomState::new().hash_one(0) & 0xffff_ffff,
    })
}

/// When the kill of this number comes, and whether git is killed as well.
fn moment(seed: u64, n: u32) -> (Duration, bool) {
    // SplitMix64: each number has a moment of its own, whichever came before.
    let mut x = seed.wrapping_add(u64::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (Duration::from_micros(x % LONGEST), x >> 63 == 1)
}

/// Something that a daemon does in `place`, by name. `more` is a commit, or a subtask.
pub(crate) fn work(place: &Path, id: TaskId, does: &str, more: &str) -> Work {
    let upstream = place.join("upstream");
    let child = || {
        let task = TaskId(Uuid::try_parse(more).unwrap());
        Child { task, branch: Some(branch(task)), ended: true }
    };
    let deed = match does {
        "prepare" => return preparing(id, Some(&upstream), None),
        "commit" => return committing(id, Some(more)),
        "start" => return Work::Merge(Merge::Start { source: Source::Child(child()) }),
        "abort" => return Work::Merge(Merge::Abort),
        "settle" => return Work::Merge(Merge::Commit { message: None, trailers: Vec::new() }),
        "clone" => return Work::Clone { to: place.join("copy").display().to_string(), branch: branch(id) },
        "branch" => Deed::Branch,
        "merge" => Deed::Merge,
        other => panic!("nobody does {other}"),
    };
    Work::Deliver(Box::new(Delivery {
        deed,
        target: Some(upstream.display().to_string()),
        repository: None,
        credentials: None,
        branch: branch(id),
        commit: Some(more.to_owned()),
        into: None,
        base: None,
        text: CommitText::of("a task", id, None),
    }))
}

/// Not a test: the life of a daemon that is killed by one.
#[tokio::test]
async fn life() {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(place) = variable("MAKIMA_LIFE") else { return };
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
        wrap: Vec::new(),
        sandbox: None,
        output_max: 1 << 30,
        set_up_max: Duration::from_secs(600),
        silence_max: Duration::from_secs(120),
        repositories: Vec::new(),
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let mut executor = Executor::new(home.clone(), settings, sender).expect("an executor");
    let does = work(place, id, &variable("MAKIMA_LIFE_DOES").unwrap(), &variable("MAKIMA_LIFE_MORE").unwrap());
    executor.perform(EffectId { incarnation: home.incarnation(), n: 1 }, id, does);
    events.recv().await;
    std::process::exit(0);
}

/// A life that does this in the world's folder, and is killed at a moment of chance, that of this number: by itself, or with
/// the git that it has started, as by who runs out of memory. Which moment it was is printed, for the test that fails.
pub(crate) async fn live_and_die(world: World, id: TaskId, does: &str, more: &str, n: u32) -> World {
    let World { folder, executor, home, .. } = world;
    drop(executor);
    drop(home);
    let mut life = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lives::life", "--nocapture"])
        .env("MAKIMA_LIFE", folder.path())
        .env("MAKIMA_LIFE_TASK", id.to_string())
        .env("MAKIMA_LIFE_DOES", does)
        .env("MAKIMA_LIFE_MORE", more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (after, with_git) = moment(seed(), n);
    eprintln!("kill {n}, of {does}, after {after:?}, git too: {with_git} (MAKIMA_GIT_KILL_SEED={})", seed());
    tokio::time::sleep(after).await;
    let gits = if with_git { children(life.id()) } else { Vec::new() };
    let _ = life.kill();
    for git in gits {
        let _ = kill_process(git, Signal::KILL);
    }
    let _ = life.wait();
    // A git that goes on comes to its own end.
    tokio::time::sleep(Duration::from_millis(150)).await;
    World::on(folder, Options::default())
}

/// What a process has started, with what that has started, as far as the system tells.
fn children(of: u32) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let direct: Vec<u32> =
        lists.flat_map(|list| list.split(' ').filter_map(|pid| pid.trim().parse().ok()).collect::<Vec<_>>()).collect();
    let pid = |pid: &u32| i32::try_from(*pid).ok().and_then(Pid::from_raw);
    direct.iter().filter_map(pid).chain(direct.iter().flat_map(|child| children(*child))).collect()
}
