//! Several daemons under the real hub, searched by seeds.

use makima_control::hub::{DaemonState, Effect, Snapshot, TaskState};
use makima_control::store::{Batch, Block, Sqlite, Store as _};
use makima_tests::fleet::Fleet;
use makima_tests::fleet::swarm::Run;
use makima_tests::regressions::all;
use makima_tests::shrink::{Shrinks as _, shrink};

fn seeds() -> u64 {
    std::env::var("MAKIMA_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(2_000) / 4
}

/// Protects a fleet: each task is begun on one machine only, ends once, and all that its agent wrote is at the server, over
/// broken links, kills of every daemon and of the server, and mixed versions of the wire.
#[test]
fn a_fleet_comes_to_rest() {
    for seed in 0..seeds() {
        if let (run, Err(why)) = Run::of(seed) {
            let short = shrink(&run).0;
            let line = serde_json::to_string(&short).expect("a run can be written");
            panic!("seed {seed}: {why}\n{line}");
        }
    }
}

#[test]
fn what_went_wrong_once_in_a_fleet_does_not_again() {
    for (path, run) in all::<Run>("regressions/fleet").expect("the runs that are kept") {
        if let Some(why) = run.why() {
            panic!("{}: {why}", path.display());
        }
    }
}

/// A snapshot as far as a hub is made from it. Of tasks that have ended only their names are wanted.
fn wanted(mut snapshot: Snapshot) -> String {
    let bare = |task: TaskState| match task.spawn {
        Some(_) => format!("{task:#?}"),
        None => format!("{} {} {} {:?} {}", task.id, task.seq, task.status, task.daemon, task.branch_known),
    };
    snapshot.daemons.sort_by_key(|daemon: &DaemonState| daemon.id);
    snapshot.tasks.sort_by_key(|task| task.seq);
    format!("{:#?}\n{}", snapshot.daemons, snapshot.tasks.into_iter().map(bare).collect::<Vec<_>>().join("\n"))
}

/// Protects a server that begins again from what is in its file from being another than the one that this world knows.
#[tokio::test]
async fn the_file_keeps_what_the_records_add_up_to() {
    for seed in 0..40 {
        let run = Run::of(seed).0;
        let mut fleet = Fleet::new(&run.speeches, run.seed);
        fleet.keep_written();
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(&folder.path().join("data")).await.expect("a store");
        let mut known = 0;
        for act in &run.acts {
            fleet.apply(*act);
            let (all, kept) = fleet.written();
            if all.len() < known + 40 {
                continue;
            }
            store.write(batch(&all[known..])).await.expect("a batch that is kept");
            known = all.len();
            assert_eq!(wanted(store.load().await.expect("a snapshot")), wanted(kept.clone()), "seed {seed}");
        }
        store.close().await;
    }
}

fn batch(effects: &[Effect]) -> Batch {
    let mut batch = Batch::default();
    for effect in effects {
        if let Effect::Record(record) = effect {
            batch.records.push(record.clone());
        } else if let Effect::Output { task, offset, text } = effect
            && !text.is_empty()
        {
            batch.output.push(Block { task: *task, start: *offset, text: text.clone() });
        }
    }
    batch
}
