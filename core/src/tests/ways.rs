//! By which way a daemon goes to its server, and how another way takes over.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::NOTHING;
use super::bench::{Bench, OTHER, SERVER, TASK};
use super::link::{authenticated, down, error, refused, state, unreachable, up};
use crate::id::Epoch;
use crate::input::{Input, LinkCause};
use crate::limits;
use crate::protocol::{Hello, Said, Wire};
use crate::time::Millis;
use crate::view::{LinkState, Role};

/// By which way the next attempt goes, after this happened to attempts and sessions.
fn way_after(happened: &[(LinkCause, Option<u64>)]) -> String {
    let mut bench = Bench::new();
    let mut words = Vec::new();
    for (cause, lived) in happened {
        if let Some(lived) = lived {
            bench.open_session(Wire::Two);
            bench.pass(Millis(*lived));
        }
        words.extend(down(&mut bench, cause.clone()).into_iter().filter(|line| line.contains("long-poll is")));
        words = words.split_off(words.len().saturating_sub(1));
        let out = bench.next();
        words.extend(out.into_iter().filter(|line| line.starts_with("connect")));
        words = words.split_off(words.len().saturating_sub(2));
    }
    let changed = bench.daemon.counters().ways_changed;
    format!("{}; {changed}", words.join(", "))
}

/// Protects a daemon behind a proxy that lets no WebSocket through, and a server from being polled without need.
#[test]
fn long_poll_is_tried_where_no_websocket_passes() {
    let broken = || LinkCause::Broken("no".into());
    let attempt = |n: usize| (0..n).map(|_| (unreachable(), None)).collect::<Vec<_>>();
    assert_eq!(way_after(&attempt(2)), "connect websocket, connect websocket; 0");
    assert_eq!(way_after(&attempt(3)), "tell: no WebSocket stands; long-poll is tried, connect long-poll; 1");
    assert_eq!(
        way_after(&[(refused(400, true), None)]),
        "tell: no WebSocket stands; long-poll is tried, connect long-poll; 1"
    );
    assert_eq!(
        way_after(&[(refused(403, false), None)]),
        "tell: no WebSocket stands; long-poll is tried, connect long-poll; 1"
    );
    for status in [408, 425, 429, 500, 502, 503, 504] {
        assert_eq!(way_after(&[(refused(status, true), None)]), "connect websocket; 0", "{status}");
    }
    assert_eq!(
        way_after(&[(refused(501, true), None)]),
        "tell: no WebSocket stands; long-poll is tried, connect long-poll; 1"
    );
    assert_eq!(way_after(&[(broken(), Some(29_999))]), "connect websocket; 0");
    assert_eq!(
        way_after(&[(broken(), Some(29_999)), (broken(), Some(29_999))]),
        "tell: no WebSocket stands; long-poll is tried, connect long-poll; 1"
    );
    assert_eq!(
        way_after(&[(broken(), Some(29_999)), (broken(), Some(30_000))]),
        "connect websocket, connect websocket; 0"
    );
    assert_eq!(
        way_after(&[(refused(400, true), None), (unreachable(), None)]),
        "connect long-poll, connect websocket; 2"
    );
    assert_eq!(
        way_after(&[(refused(400, true), None), (refused(404, true), None), (refused(400, true), None)]),
        "connect websocket, connect websocket; 2"
    );
    assert_eq!(
        way_after(&[(refused(400, true), None), (refused(500, true), None), (refused(400, true), None)]),
        "tell: no WebSocket stands; long-poll is tried, connect long-poll; 3"
    );
    let html = LinkCause::Refused { status: 200, by_server: false, html: true, retry_after: None, detail: "no".into() };
    assert_eq!(
        way_after(&[(refused(400, true), None), (html, None), (refused(400, true), None)]),
        "connect websocket, connect websocket; 2"
    );
}

/// What failed long ago says nothing about now.
#[test]
fn only_what_failed_lately_counts() {
    let ways = |between: u64| {
        let mut bench = Bench::new();
        let mut last = Vec::new();
        for wait in [0, between, 0] {
            bench.now.mono = bench.now.mono + Millis(wait);
            down(&mut bench, unreachable());
            bench.now.mono = bench.daemon.deadline().expect("it tries again").0;
            last = bench.step(Input::Tick);
        }
        last
    };
    assert_eq!(ways(1), ["connect long-poll"]);
    assert_eq!(ways(400_000), ["connect websocket"]);
}

/// A daemon that polls: its session is open.
pub(super) fn polling() -> Bench {
    let mut bench = Bench::new();
    down(&mut bench, refused(400, true));
    bench.next();
    bench.open_session(Wire::Two);
    assert_eq!(bench.daemon.link_at(), LinkState::Polling);
    bench
}

/// Time passes up to where a WebSocket is tried: how long it took.
pub(super) fn until_tried(bench: &mut Bench) -> u64 {
    let begun = bench.now.mono;
    let main = bench.epoch;
    while bench.epoch == main {
        let (due, _) = bench.daemon.deadline().expect("something is due");
        bench.now.mono = due;
        bench.said(Said::Ping(1));
    }
    bench.now.mono.since(begun).0
}

/// Protects a daemon from polling for ever once a WebSocket passes; and a server from being asked for one all the time.
#[test]
fn a_websocket_is_tried_beside_polling() {
    let mut bench = polling();
    assert_eq!(
        (bench.daemon.counters().polling_sessions, bench.daemon.link_state()),
        (1, "connected by long-poll".into())
    );
    let main = bench.epoch;
    assert_eq!(until_tried(&mut bench), 60_000);
    assert_eq!(bench.daemon.counters().probes, 1);
    assert_eq!(state(&bench), "trying (connected by long-poll)");
    assert_eq!(bench.daemon.role(main), Some(Role::Main));
    assert_eq!(bench.daemon.role(bench.epoch), Some(Role::Probe));
    assert_eq!(bench.daemon.role(Epoch(99)), None);
    assert_eq!(down(&mut bench, unreachable()), NOTHING);
    assert_eq!(state(&bench), "polling (connected by long-poll)");
    bench.epoch = main;
    let mut waits = Vec::new();
    for _ in 0..5 {
        waits.push(until_tried(&mut bench));
        down(&mut bench, unreachable());
        bench.epoch = main;
    }
    assert_eq!(waits, [120_000, 240_000, 480_000, 900_000, 900_000]);
    until_tried(&mut bench);
    assert_eq!(up(&mut bench, Wire::Two), ["authenticate with DaemonKey"]);
    assert_eq!(error(&mut bench, "busy"), ["close 9"]);
    bench.epoch = main;
    until_tried(&mut bench);
    let probe = bench.epoch;
    bench.epoch = main;
    let mut out = Vec::new();
    while bench.daemon.role(probe).is_some() {
        bench.now.mono = bench.now.mono + limits::AUTHENTICATE;
        out.extend(bench.said(Said::Ping(1)));
    }
    out.retain(|line| line.starts_with("close"));
    assert_eq!(out, ["close 10"]);
    assert!(bench.daemon.link_at() == LinkState::Polling);
}

/// A WebSocket that has stood for long is worth to be tried soon again.
#[test]
fn a_good_websocket_begins_the_pauses_anew() {
    let tried_after = |lived: u64| {
        let mut bench = polling();
        let main = bench.epoch;
        until_tried(&mut bench);
        down(&mut bench, unreachable());
        bench.epoch = main;
        assert_eq!(until_tried(&mut bench), 120_000);
        bench.open_session(Wire::Two);
        bench.pass(Millis(lived));
        bench.cut();
        bench.next();
        down(&mut bench, refused(400, true));
        bench.next();
        bench.open_session(Wire::Two);
        assert_eq!(bench.daemon.link_at(), LinkState::Polling);
        until_tried(&mut bench)
    };
    assert_eq!([tried_after(59_999), tried_after(60_000)], [240_000, 60_000]);
}

/// Protects a command that is on its way by the connection before, and the server from two that have the say.
#[test]
fn a_websocket_that_is_let_in_takes_over() {
    let mut bench = polling();
    let main = bench.epoch;
    until_tried(&mut bench);
    up(&mut bench, Wire::Two);
    assert_eq!(authenticated(&mut bench), ["quiesce 2"]);
    assert_eq!(bench.daemon.role(main), Some(Role::Leaving));
    assert_eq!(
        bench.said(Said::Hello(Hello { epoch: SERVER, ..Hello::default() })),
        [
            "tell: connected to the server",
            "say Hello(Hello { epoch: 179147300232395, of: 77, applied: 0, tasks: [] })",
            "#1 daemonDirectories",
            "heartbeat",
            "say Ping(5)"
        ]
    );
    assert_eq!(state(&bench), "open (connected)");
    let probe = bench.epoch;
    bench.epoch = main;
    let spawn = |task| {
        format!(
            r#"{{"type":"spawnTask","taskId":"{task}","taskName":"a","plan":"b","depth":0,"isOrchestrator":false}}"#
        )
    };
    assert_eq!(bench.command(Some(1), &spawn(TASK)), ["Accept", "say Ack(1)"]);
    assert_eq!(bench.command(Some(1), &spawn(TASK)), ["say Ack(1)"]);
    assert_eq!(bench.daemon.counters().duplicate_commands, 1);
    assert_eq!(bench.command(Some(5), &spawn(OTHER)), NOTHING);
    assert_eq!(bench.said(Said::Ping(7)), NOTHING);
    let mut left = bench.clone();
    assert_eq!(down(&mut left, LinkCause::Gone), NOTHING);
    assert_eq!((left.daemon.role(main), left.daemon.link_at()), (None, LinkState::Open));
    assert_eq!(left.said(Said::Ping(7)), NOTHING);
    assert_eq!(left.daemon.counters().stale_frames, 1);
    bench.epoch = probe;
    let out = bench.pass(limits::LEAVING);
    assert_eq!(out, ["close 2"]);
    assert_eq!(bench.daemon.role(main), None);
    assert_eq!(bench.cut(), ["tell: the server does not know this session any more; next attempt in 1 s"]);
    assert!(bench.next().contains(&"connect websocket".into()), "it has stood");
}

/// Protects the session that has the say from what the one that is tried says too soon.
#[test]
fn a_number_by_a_connection_that_is_only_tried_is_passed_over() {
    let mut bench = polling();
    let main = bench.epoch;
    until_tried(&mut bench);
    up(&mut bench, Wire::Two);
    assert_eq!(
        bench.command(Some(1), r#"{"type":"mergeAbort","taskId":"00000000-0000-0000-0000-000000000007"}"#),
        NOTHING
    );
    assert_eq!(bench.daemon.counters().out_of_order, 0);
    bench.epoch = main;
    assert_eq!(bench.said(Said::Ping(7)), ["say Pong(7)"]);
}

/// Protects what comes late by a connection of before from a series that it is not of.
#[test]
fn another_series_lets_no_late_number_in() {
    let mut bench = polling();
    let main = bench.epoch;
    until_tried(&mut bench);
    up(&mut bench, Wire::Two);
    authenticated(&mut bench);
    assert_eq!(
        bench.said(Said::Hello(Hello { epoch: 99, ..Hello::default() })),
        [
            "close 2",
            "tell: connected to the server",
            "say Hello(Hello { epoch: 179147300232395, of: 99, applied: 0, tasks: [] })",
            "#1 daemonDirectories",
            "heartbeat",
            "say Ping(5)"
        ]
    );
    assert_eq!(bench.daemon.role(main), None);
}

/// Protects the daemon from a try that is due where nothing is open beside which it could be made.
#[test]
fn none_is_tried_beside_nothing() {
    let mut bench = polling();
    bench.pass(Millis::seconds(50));
    bench.cut();
    for _ in 0..20 {
        let out = bench.next();
        assert!(!out[0].contains("to be tried"), "{out:?}");
    }
}

/// What the session was let in after does not count as its life.
#[test]
fn a_session_lives_from_when_the_server_lets_us_in() {
    let mut bench = Bench::new();
    down(&mut bench, unreachable());
    bench.next();
    up(&mut bench, Wire::One);
    bench.now.mono = bench.now.mono + Millis(9_000);
    authenticated(&mut bench);
    for _ in 0..5 {
        bench.now.mono = bench.now.mono + Millis(10_000);
        error(&mut bench, "busy");
    }
    bench.now.mono = bench.now.mono + Millis(9_999);
    bench.cut();
    assert_eq!(bench.daemon.report().link.failures, 2);
}
