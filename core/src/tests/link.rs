//! The link to the server: when it connects, by which way, and when it takes it for dead.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::NOTHING;
use super::bench::{Bench, OTHER, TASK, config};
use super::ways::{polling, until_tried};
use crate::config::Config;
use crate::effect::{Effect, LinkEffect};
use crate::input::{Input, LinkCause};
use crate::limits;
use crate::protocol::{Hello, Said, Wire};
use crate::time::{Millis, Now};
use crate::view::LinkState;

pub(super) fn down(bench: &mut Bench, cause: LinkCause) -> Vec<String> {
    let epoch = bench.epoch;
    bench.step(Input::LinkDown { epoch, cause })
}

pub(super) fn refused(status: u16, by_server: bool) -> LinkCause {
    LinkCause::Refused { status, by_server, html: false, retry_after: None, detail: "no".into() }
}

pub(super) fn unreachable() -> LinkCause {
    LinkCause::Unreachable("no".into())
}

pub(super) fn up(bench: &mut Bench, wire: Wire) -> Vec<String> {
    let epoch = bench.epoch;
    bench.step(Input::LinkUp { epoch, wire })
}

pub(super) fn authenticated(bench: &mut Bench) -> Vec<String> {
    bench.command(None, r#"{"type":"authenticated","daemonId":"00000000-0000-0000-0000-000000000000"}"#)
}

pub(super) fn error(bench: &mut Bench, code: &str) -> Vec<String> {
    bench.command(None, &format!(r#"{{"type":"error","code":"{code}","message":"no"}}"#))
}

fn flushed(bench: &mut Bench, n: u64) -> Vec<String> {
    let epoch = bench.epoch;
    bench.step(Input::Flushed { epoch, n })
}

fn pong(bench: &mut Bench, n: u64) -> Vec<String> {
    let epoch = bench.epoch;
    bench.step(Input::Pong { epoch, n })
}

pub(super) fn state(bench: &Bench) -> String {
    format!("{} ({})", bench.daemon.link_at().name(), bench.daemon.link_state())
}

/// Protects the daemon from an attempt that nobody answers, at each step of it.
#[test]
fn an_attempt_has_its_time_at_each_step() {
    let mut bench = Bench::new();
    assert_eq!(state(&bench), "connecting (connecting)");
    assert_eq!(bench.daemon.deadline(), Some((Millis(1030000), "an attempt to connect that nobody answers")));
    assert_eq!(
        bench.next(),
        [
            "30000 ms: an attempt to connect that nobody answers",
            "close 1",
            "tell: the server did not answer the attempt to connect; next attempt in 240 ms"
        ]
    );
    assert_eq!(state(&bench), "waiting (waiting to connect again)");
    assert_eq!(bench.next(), ["240 ms: the next attempt to connect", "connect websocket"]);
    assert_eq!(up(&mut bench, Wire::Two), ["authenticate with DaemonKey"]);
    assert_eq!(up(&mut bench, Wire::Two), NOTHING);
    assert_eq!(state(&bench), "authenticating (authenticating)");
    assert_eq!(
        bench.next(),
        [
            "10000 ms: `authenticated` that does not come",
            "close 2",
            "tell: the server did not answer `authenticate`; next attempt in 1 s"
        ]
    );
    bench.next();
    assert_eq!(up(&mut bench, Wire::Two), ["authenticate with DaemonKey"]);
    bench.now.mono = bench.now.mono + Millis(5_000);
    assert_eq!(authenticated(&mut bench), NOTHING);
    assert_eq!(state(&bench), "greeting (authenticating)");
    assert_eq!(authenticated(&mut bench), ["tell: the server misbehaves: `authenticated` came twice"]);
    assert_eq!(
        bench.next(),
        [
            "10000 ms: a greeting that does not come",
            "close 3",
            "tell: no WebSocket stands; long-poll is tried",
            "tell: the server did not answer `authenticated` with a greeting of its own; next attempt in 972 ms"
        ]
    );
    assert_eq!(bench.daemon.counters().connects, 3);
    assert_eq!(bench.daemon.counters().silences, 3);
}

/// The same where a session is open with `authenticated`.
#[test]
fn a_session_is_open_when_the_server_lets_us_in() {
    let mut bench = Bench::new();
    assert_eq!(authenticated(&mut bench), ["tell: the server misbehaves: `authenticated` came twice"]);
    up(&mut bench, Wire::One);
    assert_eq!(
        bench.tell(TASK, "listBranches", ""),
        ["tell: the server misbehaves: `listBranches` came before `authenticated`"]
    );
    bench.now.mono = bench.now.mono + Millis(5_000);
    assert_eq!(authenticated(&mut bench), ["tell: connected to the server", "daemonDirectories", "heartbeat", "ping"]);
    assert_eq!(state(&bench), "open (connected)");
    assert_eq!(bench.daemon.counters().sessions, 1);
    assert_eq!(bench.daemon.counters().polling_sessions, 0);
    assert_eq!(authenticated(&mut bench), ["tell: the server misbehaves: `authenticated` came twice"]);
    assert_eq!(error(&mut bench, "busy"), ["tell: the server says: busy: no"]);
    assert_eq!(bench.daemon.counters().server_errors, 1);
    let link = bench.daemon.report().link;
    assert_eq!(
        (link.way.as_deref(), link.wire, link.live, link.failures, link.again_in),
        (Some("websocket"), Some(1), true, 0, None)
    );
    let mut bench = Bench::open(Wire::Two);
    assert_eq!(
        bench.said(Said::Hello(Hello::default())),
        ["tell: the server misbehaves: `hello` came when it was not due"]
    );
    let link = bench.daemon.report().link;
    assert_eq!(
        (link.way.as_deref(), link.wire, link.live, link.failures, link.again_in),
        (Some("websocket"), Some(2), true, 0, None)
    );
}

/// Protects people from a key that is refused in silence, and the server from being asked with it all the time.
#[test]
fn a_key_that_is_refused_is_tried_again_after_a_while() {
    for status in [401, 403] {
        let mut bench = Bench::new();
        let told = "check MAKIMA_API_KEY or --api-key-file; next attempt in 5 min";
        let told = format!("tell: the server refuses the key (HTTP {status}: no); {told}");
        assert_eq!(down(&mut bench, refused(status, true)), ["close 1", &told]);
        assert_eq!(bench.next(), ["300000 ms: the next attempt to connect", "connect websocket"]);
        assert_eq!(bench.daemon.counters().key_refused, 1);
    }
    let mut bench = Bench::new();
    up(&mut bench, Wire::One);
    assert_eq!(
        error(&mut bench, "Invalid-Key"),
        [
            "close 1",
            "tell: the server refuses the key (Invalid-Key: no); check MAKIMA_API_KEY or --api-key-file; next attempt in 5 min"
        ]
    );
    assert_eq!(
        bench.daemon.deadline().map(|(due, why)| (due.since(bench.now.mono).0, why)),
        Some((300000, "the next attempt to connect"))
    );
    let mut bench = Bench::new();
    up(&mut bench, Wire::One);
    assert_eq!(error(&mut bench, "busy"), ["tell: the server says: busy: no", "close 1"]);
    assert_eq!(state(&bench), "waiting (waiting to connect again)");
}

/// Protects a server that asks for time.
#[test]
fn a_server_that_says_when_is_heeded_within_bounds() {
    for (asked, least, most) in [(0, 1, 1_000), (7_000, 7_000, 7_000), (900_000, 300_000, 300_000)] {
        let mut bench = Bench::new();
        let retry_after = Some(Millis(asked));
        let cause =
            LinkCause::Refused { status: 503, by_server: true, html: false, retry_after, detail: String::new() };
        down(&mut bench, cause);
        let (due, _) = bench.daemon.deadline().expect("it tries again");
        let wait = due.since(bench.now.mono).0;
        assert!((least..=most).contains(&wait), "{wait} ms where {asked} were asked for");
        assert_eq!(bench.daemon.report().link.again_in, Some(wait));
    }
}

/// A session that has stood for long begins the waits anew; a short one does not.
#[test]
fn a_good_session_begins_the_backoff_anew() {
    let failures = |lived: Millis| {
        let mut bench = Bench::new();
        down(&mut bench, unreachable());
        bench.next();
        bench.open_session(Wire::Two);
        bench.pass(lived);
        bench.cut();
        bench.daemon.report().link.failures
    };
    assert_eq!([failures(Millis(59_999)), failures(Millis(60_000))], [2, 1]);
}

/// Protects a daemon from a server that is gone without a word, on either wire.
#[test]
fn a_server_that_is_silent_for_long_is_gone() {
    for wire in [Wire::One, Wire::Two] {
        let mut bench = Bench::open(wire);
        let begun = bench.now.mono;
        let mut out = Vec::new();
        while bench.daemon.link_at() == LinkState::Open {
            out.extend(bench.next());
        }
        assert_eq!(bench.now.mono.since(begun), limits::LINK_SILENCE);
        out.truncate(4);
        let all = ["30000 ms: a heartbeat", "heartbeat", "15000 ms: a silent server", "close 1"];
        assert_eq!(out, all);
    }
}

/// Protects a session from a server that answers each ping, and whose answers say what was delivered.
#[test]
fn pings_go_out_now_and_then_and_behind_what_matters() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.open_session(Wire::One),
        ["tell: connected to the server", "daemonDirectories", "heartbeat", "ping"]
    );
    assert_eq!(pong(&mut bench, 9), NOTHING);
    assert_eq!(bench.daemon.counters().misbehaved, 1);
    assert_eq!(pong(&mut bench, 4), NOTHING);
    assert_eq!(bench.next(), ["20000 ms: a ping", "ping"]);
    assert_eq!(pong(&mut bench, 5), NOTHING);
    assert_eq!(bench.next(), ["10000 ms: a heartbeat", "heartbeat"]);
    assert_eq!(bench.tell(TASK, "listBranches", ""), ["progress: not known to this daemon", "branchList", "ping"]);
    assert_eq!(bench.tell(OTHER, "listBranches", ""), ["progress: not known to this daemon", "branchList"]);
    assert_eq!(bench.daemon.report().outbox, 4);
    let ping = bench.daemon.core.link.next_frame() - 1;
    assert_eq!(pong(&mut bench, ping - 2), ["ping"]);
    assert_eq!(bench.daemon.report().outbox, 2);
}

/// Protects what was sent to a server that answers no pings: it counts as delivered once it has left and the session has
/// lived on for long enough.
#[test]
fn a_server_that_answers_no_pings_is_judged_by_tcp_alone() {
    let mut bench = Bench::new();
    let mut told = 0;
    for session in 1..=2 {
        bench.open_session(Wire::One);
        // It says something now and then, but answers no ping.
        for _ in 0..if session == 1 { 2 } else { 5 } {
            bench.now.mono = bench.now.mono + Millis::seconds(10);
            let out = error(&mut bench, "busy");
            told += out.iter().filter(|line| line.contains("answers no pings")).count();
            assert!(session == 2 || told == 0, "once says nothing");
        }
        if session == 1 {
            bench.cut();
            bench.next();
        }
    }
    assert_eq!(told, 1);
    let sent = bench.daemon.core.link.next_frame() - 1;
    flushed(&mut bench, sent);
    bench.wait(limits::SILENT_GRACE);
    assert_eq!(bench.tell(TASK, "listBranches", ""), ["progress: not known to this daemon", "branchList"]);
    let sent = bench.daemon.core.link.next_frame() - 1;
    assert_eq!(bench.daemon.report().outbox, 2);
    bench.now.mono = bench.now.mono + Millis::seconds(100);
    assert_eq!(error(&mut bench, "busy"), ["tell: the server says: busy: no", "heartbeat"]);
    assert_eq!(bench.daemon.report().outbox, 2, "it has not left");
    flushed(&mut bench, sent);
    bench.now.mono = bench.now.mono + Millis(59_999);
    bench.step(Input::Tick);
    assert_eq!(bench.daemon.report().outbox, 2);
    bench.wait(Millis(1));
    assert_eq!(bench.daemon.report().outbox, 0);
    assert_eq!(bench.daemon.link_at(), LinkState::Open);
    for _ in 0..5 {
        let out = bench.next();
        assert!(!out[0].contains("grace"), "nothing hangs on it: {out:?}");
    }
    let life = bench.boot(2, Vec::new());
    assert_eq!(life, ["connect websocket"]);
    bench.open_session(Wire::One);
    bench.wait(limits::LINK_SILENCE);
    assert_eq!(bench.daemon.link_at(), LinkState::Open, "what is known of the server outlasts the daemon");
    pong(&mut bench, 4);
    bench.wait(limits::LINK_SILENCE);
    assert_eq!(bench.daemon.link_at(), LinkState::Waiting, "it has answered one after all");
}

/// Protects a server that answers from being judged by TCP alone, and one that had no time to answer.
#[test]
fn only_pings_that_stay_without_an_answer_count() {
    let told = |wire: Wire, lived: u64, answers: bool| {
        let mut bench = Bench::new();
        let mut out = Vec::new();
        for _ in 0..4 {
            bench.open_session(wire);
            if answers {
                out.extend(pong(&mut bench, 4));
            }
            out.extend(bench.wait(Millis(lived)));
            out.extend(bench.cut());
            bench.next();
            if bench.daemon.link_at() == LinkState::Waiting {
                bench.next();
            }
        }
        out.iter().filter(|line| line.contains("answers no pings")).count()
    };
    assert_eq!(told(Wire::One, 10_000, false), 1);
    assert_eq!(told(Wire::One, 9_999, false), 0, "there was no time");
    assert_eq!(told(Wire::One, 15_000, true), 0, "it has answered");
    assert_eq!(told(Wire::Two, 15_000, false), 0, "nothing hangs on it");
}

/// Protects what was sent from being taken for delivered where the server is not known to answer no pings.
#[test]
fn what_has_left_is_not_delivered_yet() {
    let mut bench = Bench::open(Wire::One);
    pong(&mut bench, 4);
    bench.tell(TASK, "listBranches", "");
    let sent = bench.daemon.core.link.next_frame() - 1;
    flushed(&mut bench, sent);
    for _ in 0..20 {
        bench.now.mono = bench.now.mono + Millis::seconds(10);
        error(&mut bench, "busy");
        flushed(&mut bench, sent);
    }
    assert_eq!(bench.daemon.report().outbox, 2);
}

/// Protects version 2 of the wire, in which all is in envelopes, and version 1, which knows none.
#[test]
fn who_we_are_is_said_as_the_wire_wants_it() {
    for (wire, wanted) in [(Wire::One, false), (Wire::Two, true)] {
        let mut bench = Bench::new();
        assert_eq!(up(&mut bench, wire), ["authenticate with DaemonKey"]);
        let enveloped = |effect: &Effect| matches!(effect, Effect::Link(LinkEffect::Send { envelope: Some(_), .. }));
        assert_eq!(bench.last.iter().any(enveloped), wanted);
    }
}

/// A machine that slept has lost its connections, and that says nothing about the server.
#[test]
fn a_machine_that_slept_connects_again() {
    let sleep = |bench: &mut Bench, time: Millis| {
        bench.now = Now { mono: bench.now.mono + time, asleep: bench.now.asleep + time, ..bench.now };
        bench.step(Input::Tick)
    };
    let mut bench = Bench::open(Wire::One);
    assert_eq!(sleep(&mut bench, limits::SLEPT), NOTHING);
    assert_eq!(sleep(&mut bench, Millis(10_001)), ["tell: the machine slept for 10 s; connecting again", "close 1"]);
    assert_eq!(bench.next(), ["1 ms: the next attempt to connect", "connect websocket"]);
    assert_eq!(bench.daemon.report().link.failures, 0);
    for _ in 0..3 {
        bench.open_session(Wire::One);
        let out = sleep(&mut bench, Millis::seconds(100));
        assert_eq!(out.len(), 2, "a ping of before the night says nothing about the server: {out:?}");
        bench.next();
    }
    let mut bench = Bench::new();
    down(&mut bench, unreachable());
    let out = sleep(&mut bench, Millis::seconds(100));
    assert_eq!(out, ["connect websocket"]);
}

/// Protects the server from a daemon that has ended and leaves its connections open.
#[test]
fn a_daemon_that_ends_closes_all() {
    let mut bench = polling();
    until_tried(&mut bench);
    assert_eq!(bench.step(Input::Stop { how: crate::input::Stop::Graceful }), ["close 3", "close 2", "exit Stopped"]);
    assert_eq!(bench.daemon.link_at(), LinkState::Idle);
    assert_eq!(bench.daemon.deadline(), None);
}

/// `--once` ends with the one session, and where there is none to be had; not where another way is still to be tried.
#[test]
fn a_daemon_for_one_session_ends_with_it() {
    let once = || Bench::with(Config { once: true, ..config() });
    let mut bench = once();
    assert_eq!(
        down(&mut bench, unreachable()),
        ["tell: the server cannot be reached: no; next attempt in 240 ms", "exit NotReached"]
    );
    let mut bench = once();
    assert_eq!(
        down(&mut bench, refused(400, true)),
        [
            "tell: no WebSocket stands; long-poll is tried",
            "tell: the server answered the handshake with HTTP 400: no; next attempt in 240 ms"
        ]
    );
    assert_eq!(bench.next(), ["240 ms: the next attempt to connect", "connect long-poll"]);
    assert_eq!(
        down(&mut bench, unreachable()),
        ["tell: the server cannot be reached: no; next attempt in 1 s", "exit NotReached"]
    );
    let mut bench = once();
    assert_eq!(
        down(&mut bench, refused(401, true)),
        [
            "close 1",
            "tell: the server refuses the key (HTTP 401: no); check MAKIMA_API_KEY or --api-key-file; next attempt in 5 min",
            "exit KeyRefused"
        ]
    );
    let mut bench = once();
    bench.open_session(Wire::Two);
    assert_eq!(
        bench.cut(),
        ["tell: the server does not know this session any more; next attempt in 448 ms", "exit SessionOver"]
    );
}

/// Protects whoever watches from states that have no name.
#[test]
fn a_link_says_how_it_stands() {
    let mut bench = Bench::new();
    let mut seen = Vec::new();
    let mut look = |bench: &Bench| {
        let link = bench.daemon.report().link;
        seen.push(format!("{}: {:?} {:?} {}", state(bench), link.way, link.wire, link.live).to_string());
    };
    look(&bench);
    up(&mut bench, Wire::Two);
    look(&bench);
    authenticated(&mut bench);
    look(&bench);
    bench.cut();
    look(&bench);
    let mut bench = polling();
    look(&bench);
    until_tried(&mut bench);
    look(&bench);
    assert_eq!(
        seen,
        [
            "connecting (connecting): Some(\"websocket\") None false",
            "authenticating (authenticating): Some(\"websocket\") None false",
            "greeting (authenticating): Some(\"websocket\") None false",
            "waiting (waiting to connect again): None None false",
            "polling (connected by long-poll): Some(\"long-poll\") Some(2) true",
            "trying (connected by long-poll): Some(\"long-poll\") Some(2) true"
        ]
    );
}
