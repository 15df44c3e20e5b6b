//! What a task writes is bounded on the disk, and what is not kept is told to the server.

use rustix::process::Signal;

use crate::support::{Fleet, Place, SOON, until};

/// Protects a daemon that runs for months from what each task might leave behind.
#[test]
fn after_two_hundred_tasks_no_process_is_left_and_no_descriptor_open() {
    let place = Place::new();
    place.configure("max_tasks = 8\n");
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let many = |count: usize| {
        let ids: Vec<String> = (0..count).map(|_| fleet.plan(&repo, "echo done")).collect();
        for id in ids {
            assert_eq!(fleet.ended(&id)["status"], "done");
        }
    };
    let folder = format!("/proc/{}/fd", fleet.daemon.pid());
    let open = || std::fs::read_dir(&folder).expect("it runs").count();
    many(16);
    let usual = open();
    many(184);
    until("as many descriptors as before", SOON, || (open() <= usual + 2).then_some(()));
    until("only server and daemon", SOON, || (place.running().len() == 2).then_some(()));
    fleet.end();
}

#[test]
fn more_than_the_disk_is_to_hold_is_cut_in_the_middle_and_the_server_is_told() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    place.configure("output_mib = 1\n");
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let (go, done) = (place.path("go"), place.path("done"));
    let (wait, tell) = (go.display(), done.display());
    let plan =
        format!("echo first\nuntil [ -e {wait} ]; do sleep 0.05; done\nseq -f %01000.0f 1 25000\necho > {tell}\n");
    let id = fleet.plan(&repo, &plan);
    fleet.writes(&id, "first");
    // A server that is there and takes nothing.
    fleet.serve.signal(Signal::STOP);
    std::fs::write(&go, "").expect("room");
    until("the agent is not held up", SOON, || done.exists().then_some(()));
    let log = place.home().join("tasks").join(&id).join("output.log");
    let log = std::fs::metadata(log).expect("a log");
    assert!(log.len() > 20 << 20 && log.blocks() * 512 <= 3 << 19, "{} bytes, {} blocks", log.len(), log.blocks());
    fleet.serve.signal(Signal::CONT);
    assert_eq!(fleet.ended(&id)["status"], "done");
    let output = fleet.output(&id);
    assert!(
        output.starts_with(&format!("first\n{:01000}\n{:01000}\n", 1, 2)),
        "{}",
        output.chars().take(100).collect::<String>()
    );
    assert!(output.contains("bytes of the output log are missing here"));
    assert!(output.trim_end().ends_with(&format!("{:01000}\n{:01000}", 24_999, 25_000)), "the newest is there");
    fleet.end();
}
