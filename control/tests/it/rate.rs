//! How fast output is taken.

use std::time::Instant;

use futures_util::SinkExt as _;
use makima_core::protocol::write_task_output;
use tokio_tungstenite::tungstenite::Message;

use crate::common::World;

/// Protects against output that arrives faster than it is stored: 100 MB in lines of 200 bytes.
#[tokio::test]
async fn a_flood_of_lines_is_stored_in_seconds() {
    /// Without optimisation the test's own client takes most of the time.
    const LINES: usize = if cfg!(debug_assertions) { 50_000 } else { 500_000 };
    let started = Instant::now();
    let world = World::new().await;
    println!("started in {:.1?}", started.elapsed());
    let mut daemon = world.daemon("a").await;
    let id = world.create("flood").await;
    daemon.spawned().await;
    let line = "x".repeat(199);
    let started = Instant::now();
    for n in 0..LINES {
        let mut text = Vec::new();
        write_task_output(&mut text, id, &line, false);
        let text = String::from_utf8(text).unwrap();
        if n % 128 == 0 {
            daemon.raw(Message::text(text)).await;
        } else {
            daemon.socket.feed(Message::text(text)).await.unwrap();
        }
    }
    assert!(daemon.stored().await);
    let took = started.elapsed();
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim().to_owned();
    println!("peak memory of server and client {peak}");
    let path = format!("/api/v1/tasks/{id}/output");
    let reading = Instant::now();
    let text = world.get(&path).send().await.unwrap().bytes().await.unwrap();
    let size = std::fs::metadata(world.data()).unwrap().len() >> 20;
    println!(
        "{LINES} lines, {} MB in {took:.2?} ({:.0} lines/s, client in the same thread); read back in {:.2?}; file {size} MiB",
        text.len() / 1_000_000,
        LINES as f64 / took.as_secs_f64(),
        reading.elapsed(),
    );
    assert_eq!(text.len(), LINES * 200);
    // Far from what it takes, so that a busy machine does not fail it.
    assert!(took.as_secs() < 30, "{took:?}");
}
