//! The event stream.

use futures_util::StreamExt as _;
use makima_core::protocol::CompletionActionResult;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Daemon, World, complete, output, progress, soon, status, until};

/// One event as it came.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    kind: String,
    id: String,
    data: Value,
}

fn parse(text: &str) -> Vec<Seen> {
    let mut all = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.starts_with(':') && !block.is_empty()) {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name} in {block}")).to_owned()
        };
        all.push(Seen { kind: field("event"), id: field("id"), data: serde_json::from_str(&field("data")).unwrap() });
    }
    all
}

/// Follows to the end, from behind `last`.
async fn follow(world: &World, id: Uuid, last: Option<&str>) -> Vec<Seen> {
    let mut request = world.get(&format!("/api/v1/tasks/{id}/events"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = soon("events", request.send()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    parse(&soon("the end", response.text()).await.unwrap())
}

fn text(seen: &[Seen]) -> String {
    seen.iter().filter(|one| one.kind == "output").map(|one| one.data["text"].as_str().unwrap()).collect()
}

/// A task with a bit of everything. Its output.
async fn play(daemon: &mut Daemon, id: Uuid) -> String {
    daemon.say(status(id, "pending", "running")).await;
    daemon.say(output(id, "hé", true)).await;
    daemon.say(output(id, "llo\t\"world\"", false)).await;
    daemon.say(progress(id, "half")).await;
    daemon.stored().await;
    daemon.say(output(id, &"long ".repeat(100_000), false)).await;
    let pr_url = Some("https://forge.example/1".to_owned());
    daemon.say(CompletionActionResult { task_id: id, success: true, message: "put".to_owned(), pr_url }.into()).await;
    daemon.say(status(id, "running", "done")).await;
    daemon.say(complete(id, None)).await;
    daemon.stored().await;
    format!("héllo\t\"world\"\n{}\n", "long ".repeat(100_000))
}

/// Protects what a person sees of a task: all of it, in its order, and then an end.
#[tokio::test]
async fn a_follower_sees_everything_in_order() {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("x").await;
    daemon.spawned().await;
    let (live, whole) = tokio::join!(follow(&world, id, None), play(&mut daemon, id));
    let later = follow(&world, id, None).await;
    for seen in [&live, &later] {
        assert_eq!(text(seen), whole);
        let others: Vec<_> =
            seen.iter().filter(|one| one.kind != "output").map(|one| (&*one.kind, &one.data)).collect();
        let completion = json!({"success": true, "message": "put", "prUrl": "https://forge.example/1"});
        let task = world.task(id).await;
        assert_eq!(
            others,
            [
                ("status", &json!({"from": "pending", "to": "running"})),
                ("progress", &json!({"summary": "half"})),
                ("completion", &completion),
                ("status", &json!({"from": "running", "to": "done"})),
                ("end", &task),
            ]
        );
        assert!(seen.iter().all(|one| one.data.to_string().len() < 300 * 1024), "pages are bounded");
    }
    let place = |kind: &str| later.iter().position(|one| one.kind == kind).unwrap();
    assert!(place("status") < place("output") && place("output") < place("progress"));
    assert_eq!(later[place("progress")].id, "2:15");
}

/// Protects a stream that was cut: behind any event it goes on with nothing lost and nothing doubled.
#[tokio::test]
async fn a_stream_goes_on_behind_any_event() {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("x").await;
    daemon.spawned().await;
    play(&mut daemon, id).await;
    let whole = follow(&world, id, None).await;
    for (n, one) in whole.iter().enumerate() {
        assert_eq!(follow(&world, id, Some(&one.id)).await, whole[n + 1..], "behind {}", one.id);
    }
    // Any place at all, in the middle of a character too, gives the rest.
    let all = text(&whole);
    for (events, bytes) in [(0, 1), (0, 2), (1, 5), (3, 0), (5, 7), (4, all.len())] {
        let rest = follow(&world, id, Some(&format!("{events}:{bytes}"))).await;
        let from = (bytes..).find(|at| all.is_char_boundary(*at)).unwrap();
        let expected = if events == 5 { "" } else { &all[from..] };
        assert_eq!(text(&rest), expected, "{events}:{bytes}");
        assert_eq!(rest.iter().filter(|one| one.kind != "output").count(), 5 - events);
    }
    for bad in ["x", "1", "1:", ":1", "-1:0", "9:0", "0:99999999", "1:2:3"] {
        let request = world.get(&format!("/api/v1/tasks/{id}/events")).header("last-event-id", bad);
        assert_eq!(soon("events", request.send()).await.unwrap().status(), 400, "{bad}");
    }
    let query = world.get(&format!("/api/v1/tasks/{id}/events?last={}", whole[2].id)).send().await.unwrap();
    assert_eq!(parse(&query.text().await.unwrap()), whole[3..]);
}

/// Protects the runner from going away under somebody who follows, and from staying for nobody.
#[tokio::test]
async fn followers_are_counted() {
    let world = World::new().await;
    let id = world.create("x").await;
    let mut activity = world.server().activity();
    let path = format!("/api/v1/tasks/{id}/events");
    let (one, two) = tokio::join!(world.get(&path).send(), world.get(&path).send());
    assert_eq!((activity.borrow().unfinished, activity.borrow().followers), (1, 2));
    drop((one, two));
    soon("nobody follows", activity.wait_for(|activity| activity.followers == 0)).await.unwrap();
}

/// Protects memory from a follower that does not read, and everybody else from waiting for it.
#[tokio::test]
async fn a_slow_follower_costs_nothing_and_loses_nothing() {
    const LINES: usize = 768;
    if !alone("follow::a_slow_follower_costs_nothing_and_loses_nothing") {
        return;
    }
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("x").await;
    daemon.spawned().await;
    let slow = soon("events", world.get(&format!("/api/v1/tasks/{id}/events")).send()).await.unwrap();
    let before = resident();
    let line = "x".repeat(64 * 1024 - 1);
    for _ in 0..LINES {
        daemon.say(output(id, &line, false)).await;
    }
    daemon.say(complete(id, None)).await;
    assert!(daemon.stored().await);
    let grown = resident().saturating_sub(before);
    println!("48 MiB of output behind a follower that does not read: {} MiB more", grown >> 20);
    assert!(grown < 32 << 20, "{} MiB", grown >> 20);
    let mut bytes = 0;
    let mut stream = slow.bytes_stream();
    while let Some(chunk) = soon("more", stream.next()).await {
        bytes += chunk.unwrap().iter().filter(|byte| **byte == b'x').count();
    }
    assert!(bytes >= LINES * line.len(), "{bytes}");
    until("it is gone", async || world.json("/api/v1/info").await["followers"] == 0).await;
}

/// Memory is the whole process's, so this test runs in one of its own. True there.
fn alone(test: &str) -> bool {
    const MARK: &str = "MAKIMA_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let status = command.args(["--exact", test, "--nocapture"]).env(MARK, "1").status().unwrap();
    assert!(status.success());
    false
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: usize = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib * 1024
}
