//! The same task gives the same result, whichever way its daemon reaches the server, and when that changes under it.

use std::time::Duration;

use crate::support::{Fleet, Manner, Place, Repo, number, until};

/// What the agent does: it waits to be let on, floods, leaves lines without their ends, changes a file.
const PLAN: &str = "echo begun; while [ ! -e GO ]; do sleep 0.02; done; \
    i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo \"line $i\"; done; sleep 0.1; echo warned >&2; sleep 0.1; \
    printf half; sleep 0.1; echo ' a line'; echo work > x; printf end";

/// For those who have to find out first that no WebSocket passes.
const LATE: Duration = Duration::from_secs(90);

/// What must have come of it, to the byte.
fn expected() -> String {
    let lines: String = (1..=2000).map(|n| format!("line {n}\n")).collect();
    format!("begun\n{lines}warned\nhalf a line\nend\n")
}

fn plan(fleet: &Fleet, place: &Place, repo: &Repo) -> String {
    fleet.plan(repo, &PLAN.replace("GO", &place.path("go").display().to_string()))
}

fn go(place: &Place) {
    std::fs::write(place.path("go"), "").expect("a file");
}

/// Waits for the end, and looks at everything that came of it.
#[track_caller]
fn came_out_well(fleet: &Fleet, repo: &Repo, id: &str) {
    let ended = || Some(fleet.task(id)).filter(|task| !task["endedAt"].is_null());
    let task = until(&format!("the end of {}\n{}", fleet.task(id), fleet.daemon.err()), LATE, ended);
    assert_eq!(task["status"], "done", "{task}");
    let (output, expected) = (fleet.output(id), expected());
    let first = output.lines().zip(expected.lines()).find(|(one, other)| one != other);
    assert!(output == expected, "{} bytes of {}: {first:?}", output.len(), expected.len());
    assert_eq!(repo.show(&repo.branch(), "x"), "work");
    let (_, events) = fleet.get(&format!("/api/v1/tasks/{id}/events"));
    assert_eq!(events.lines().filter(|line| *line == "event: end").count(), 1, "{events}");
}

/// Protects people behind each kind of proxy that there is.
#[test]
fn whatever_stands_between_the_result_is_the_same() {
    for (manner, polls) in [
        (Manner::Open, false),
        (Manner::Page(403), true),
        (Manner::Page(200), true),
        (Manner::Strips, false),
        (Manner::CutsIdle(Duration::from_secs(2)), false),
    ] {
        let place = Place::new();
        let repo = place.repo();
        let (fleet, middle) = Fleet::behind(&place, manner);
        let id = plan(&fleet, &place, &repo);
        go(&place);
        came_out_well(&fleet, &repo, &id);
        let (websockets, requests) = middle.passed();
        assert!(!polls || (websockets == 0 && requests > 0), "{manner:?}: {websockets} WebSockets, {requests} others");
        assert!(polls || websockets > 0, "{manner:?}: no WebSocket passed");
        fleet.end();
    }
}

/// Protects people who reach the world by a proxy only, as their environment says: it is asked for the server, and given
/// its own password.
#[test]
fn a_proxy_that_the_environment_names_is_used() {
    for (manner, polls) in [(Manner::Open, false), (Manner::Page(403), true)] {
        let place = Place::new();
        let repo = place.repo();
        let (fleet, middle) = Fleet::by_way_of(&place, manner);
        let id = plan(&fleet, &place, &repo);
        go(&place);
        came_out_well(&fleet, &repo, &id);
        let (websockets, requests) = middle.passed();
        assert_eq!(polls, websockets == 0, "{manner:?}: {websockets} WebSockets, {requests} others");
        let asked = middle.asked();
        assert!(asked.contains(" http://makima.test/") && asked.contains("\r\nproxy-authorization: "), "{asked}");
        assert!(!fleet.daemon.err().contains("hunter2"), "the proxy's password is in the log");
        fleet.end();
    }
}

/// Protects people behind a proxy that takes a WebSocket and keeps to itself what comes over it.
#[test]
fn one_that_holds_back_is_found_out() {
    let place = Place::new();
    let repo = place.repo();
    let (fleet, middle) = Fleet::behind(&place, Manner::Buffers);
    let id = plan(&fleet, &place, &repo);
    go(&place);
    came_out_well(&fleet, &repo, &id);
    assert!(middle.passed().1 > 0, "it went by long-poll in the end");
    fleet.end();
}

/// Protects a task under which the network changes: no line is lost, none comes twice, and its end is told once.
#[test]
fn the_way_changes_under_a_task() {
    let place = Place::new();
    let repo = place.repo();
    let (fleet, middle) = Fleet::behind(&place, Manner::Open);
    let id = plan(&fleet, &place, &repo);
    fleet.writes(&id, "begun");
    // From here on no WebSocket passes.
    middle.becomes(Manner::Page(403));
    fleet.daemon.notes("connected to the server by long-poll");
    go(&place);
    fleet.writes(&id, "line 2");
    middle.cut();
    came_out_well(&fleet, &repo, &id);
    fleet.end();
}

/// Protects the way back: a WebSocket is tried while polling, and takes over without losing anything.
#[test]
fn the_way_back_is_found() {
    if number("MAKIMA_LONG", 0) == 0 {
        eprintln!("skipped: it takes more than a minute; set MAKIMA_LONG=1");
        return;
    }
    let place = Place::new();
    let repo = place.repo();
    let (fleet, middle) = Fleet::behind(&place, Manner::Page(403));
    let id = plan(&fleet, &place, &repo);
    fleet.writes(&id, "begun");
    middle.becomes(Manner::Open);
    let back = || (middle.passed().0 > 0).then_some(());
    until("a WebSocket is tried", LATE, back);
    go(&place);
    came_out_well(&fleet, &repo, &id);
    fleet.end();
}
