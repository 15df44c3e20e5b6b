//! Who comes to a supervisor's socket and is no daemon of this task's, and where that socket may lie.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use makima_core::effect::Work;
use makima_core::input::{ExitStatus, Outcome, Stream};

use crate::support::{Options, World, task, text_of};

const ECHO: &str = "while read line; do echo \"got $line\"; done";

/// A supervisor's descriptors, and the memory that it ever had, in KiB.
fn held(world: &World, id: makima_core::id::TaskId) -> (usize, u64) {
    let record = std::fs::read(world.home.task(id).join("agent")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let pid = record["supervisor"]["pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    (std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), memory.unwrap())
}

/// Protects an agent, and the daemon that is there, from strangers: they are refused, and cost nothing.
#[tokio::test]
async fn strangers_do_not_disturb_the_daemon_that_is_there() {
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    let (effect, _) = world.start(id, ECHO).await;
    world.run(id, Work::Stdin { n: 1, text: "one\n".to_owned() }).await;
    let (descriptors, _) = held(&world, id);
    let socket = world.home.task(id).join("socket");
    let says = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // It may be refused before it has said all of it.
        let _ = stream.write_all(bytes);
        stream
    };
    let wrong = br#"{"hello":{"version":1,"nonce":"another"}}"#;
    let order = b"{\"stdin\":{\"n\":9,\"text\":\"stranger\"}}\n{\"signal\":\"terminate\"}\n";
    let mut strangers = vec![says(order), says(b"rubbish\n\n\xff\n"), says(wrong), says(&vec![b'x'; 20 << 20])];
    strangers.push(says(&[&wrong[..], b"\n", order].concat()));
    // Some who say nothing at all, and stay.
    strangers.extend((0..1_000).map(|_| says(b"")));
    // And one who says it letter by letter.
    let mut slow = says(b"");
    for letter in wrong {
        let _ = slow.write_all(&[*letter]);
    }
    assert_eq!(world.run(id, Work::Stdin { n: 2, text: "two\n".to_owned() }).await, Outcome::Done);
    let (now, memory) = held(&world, id);
    // One at the door, and the next that takes its place.
    assert!(now <= descriptors + 3, "{descriptors} and then {now} descriptors");
    assert!(memory < 48 << 10, "{memory} KiB");
    // Another daemon comes in all the same.
    let mut world = world.again();
    let attached = world.ask(id, Work::Attach);
    assert!(matches!(world.answer(attached).await, Outcome::Started { .. }));
    assert_eq!(world.run(id, Work::Stdin { n: 3, text: "three\n".to_owned() }).await, Outcome::Done);
    world.empty(id).await;
    assert_eq!(world.exit(attached).await, ExitStatus::Signal(9));
    let (parts, _) = world.output(id, 0).await;
    assert!(text_of(&parts, Stream::Stdout).starts_with("got one\ngot two\n"));
    assert!(!text_of(&parts, Stream::Stdout).contains("stranger"));
    drop((strangers, slow, effect));
}

/// The path of a socket may have 107 bytes.
#[tokio::test]
async fn a_home_may_lie_deep() {
    let place = crate::support::folder();
    let deep = place.path().join("deeper-and-".repeat(5)).join("still-deeper-".repeat(12));
    std::fs::create_dir_all(&deep).unwrap();
    let folder = tempfile::tempdir_in(&deep).unwrap();
    std::fs::create_dir(folder.path().join("user")).unwrap();
    let mut world = World::on(folder, Options::default());
    let id = task();
    world.prepare(id, None).await;
    let (_, pid) = world.start(id, ECHO).await;
    let mut world = world.again();
    let attached = world.ask(id, Work::Attach);
    assert_eq!(world.answer(attached).await, Outcome::Started { pid, handed: 0 });
    assert_eq!(world.run(id, Work::Stdin { n: 1, text: "one\n".to_owned() }).await, Outcome::Done);
    world.empty(id).await;
    drop(world);
    drop(place);
}
