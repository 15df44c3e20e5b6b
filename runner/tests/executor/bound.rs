//! A task's output is bounded on the disk; its agent does not notice.

use std::os::unix::fs::MetadataExt as _;

use makima_core::effect::Work;
use makima_core::input::{ExitStatus, Outcome, Stream};

use crate::support::{Options, World, task, text_of};

const BOUND: u64 = 1 << 20;

fn on_disk(world: &World, id: makima_core::id::TaskId) -> u64 {
    std::fs::metadata(world.home.task(id).join("output.log")).unwrap().blocks() * 512
}

#[tokio::test]
async fn with_nobody_to_take_it_the_first_and_the_newest_are_kept_and_the_rest_is_told_of() {
    let mut world = World::with(Options { output_max: BOUND, ..Options::default() });
    let id = task();
    world.prepare(id, None).await;
    assert_eq!(world.act(id, "seq 1 1500000").await, ExitStatus::Code(0));
    assert!(on_disk(&world, id) <= BOUND + BOUND / 4, "{}", on_disk(&world, id));
    for _ in 0..2 {
        let (parts, end) = world.output(id, 0).await;
        assert!(end > 9 * BOUND);
        let told = text_of(&parts, Stream::Stderr);
        assert!(told.contains("bytes of the output log are missing here"), "{told}");
        let out = text_of(&parts, Stream::Stdout);
        assert!(out.starts_with("1\n2\n3\n") && out.ends_with("1499999\n1500000\n"));
        // The next life of the daemon reads the same.
        world = world.again();
    }
}

#[tokio::test]
async fn a_server_that_keeps_up_gets_all_and_what_it_has_goes() {
    let mut world = World::with(Options { output_max: BOUND, ..Options::default() });
    let id = task();
    world.prepare(id, None).await;
    let (effect, _) =
        world.start(id, "n=0; while read go; do n=$((n + 1)); seq 1 50000; echo round $n; done; exit 3").await;
    let (mut at, mut text) = (0, String::new());
    for n in 1..=12 {
        world.run(id, Work::Stdin { n, text: "go\n".to_owned() }).await;
        while !text.ends_with(&format!("round {n}\n")) {
            let Outcome::Chunk(chunk) = world.run(id, Work::Read { from: at }).await else { panic!("no chunk") };
            at = chunk.to;
            text.extend(chunk.parts.iter().map(|part| part.text.as_str()));
        }
        assert_eq!(world.run(id, Work::Delivered { to: at }).await, Outcome::Done);
    }
    let round: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    let expected: String = (1..=12).map(|n| format!("{round}round {n}\n")).collect();
    assert!(text == expected, "nothing is missing");
    assert!(on_disk(&world, id) <= BOUND + BOUND / 4, "{}", on_disk(&world, id));
    world.empty(id).await;
    assert_eq!(world.exit(effect).await, ExitStatus::Signal(9));
    // One that has lost it is told what is not there any more.
    let Outcome::Chunk(chunk) = world.run(id, Work::Read { from: 0 }).await else { panic!("no chunk") };
    assert!(chunk.parts[0].text.contains("are missing here"), "{:?}", chunk.parts);
}

/// A file system that goes with this.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Protects a disk whose file system cannot make holes: the log takes no more, the agent goes on, and it is said.
#[tokio::test]
async fn where_no_holes_can_be_made_what_comes_over_the_bound_is_counted() {
    let mut world = World::with(Options { output_max: BOUND, ..Options::default() });
    let tasks = world.home.tasks();
    let mount = std::process::Command::new("mount").args(["-t", "ramfs", "none"]).arg(&tasks).status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let mounted = Mounted(tasks);
    let id = task();
    world.prepare(id, None).await;
    assert_eq!(world.act(id, "seq 1 1500000").await, ExitStatus::Code(0));
    let (parts, end) = world.output(id, 0).await;
    let told = text_of(&parts, Stream::Stderr);
    let count = told.split(' ').find_map(|word| word.parse::<u64>().ok());
    let kept = text_of(&parts, Stream::Stdout).len() as u64;
    let all: u64 = (1..=1_500_000_u64).map(|n| u64::from(n.ilog10()) + 2).sum();
    drop(mounted);
    assert!(told.contains("bytes of output are missing here"), "{told}");
    assert!(end <= BOUND + BOUND / 4, "{end}");
    assert_eq!(count, Some(all - kept));
}
