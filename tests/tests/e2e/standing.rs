//! How a daemon stands: `makima status`, its socket, its metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Call, FakeServer, Fleet, Peer, Place, SOON, authenticated, status_as, until};

/// A daemon whose server is never there.
fn alone(place: &Place) -> Call {
    place.makima(["daemon", "--agent", "shell", "--server", "ws://127.0.0.1:1"]).env("MAKIMA_API_KEY", "the key 123")
}

fn status(place: &Place) -> Value {
    place.makima(["status", "--json"]).done().code(0).json()
}

/// Waits until the daemon of this place answers.
#[track_caller]
fn answers(place: &Place) -> Value {
    until("an answer of the daemon", SOON, || {
        let done = place.makima(["status", "--json"]).done().json();
        Some(done).filter(|status| status["daemon"]["answers"] == true)
    })
}

#[test]
fn the_status_tells_what_the_daemon_does_and_what_it_left() {
    let place = Place::new();
    let (repo, go) = (place.repo(), place.path("go"));
    let fleet = Fleet::start(&place);
    let wait = format!("echo up; until test -e {}; do sleep 0.02; done; echo x > x", go.display());
    let id = fleet.plan(&repo, &wait);
    fleet.writes(&id, "up");
    let told = until("a task without a lag", SOON, || {
        Some(status(&place)).filter(|told| told["tasks"][0]["lag"] == 0 && told["tasks"][0]["delivered"] != 0)
    });
    assert_eq!((&told["daemon"]["pid"], &told["daemon"]["answers"]), (&fleet.daemon.pid().into(), &true.into()));
    assert_eq!((&told["link"]["live"], &told["link"]["failures"]), (&true.into(), &0.into()), "{told}");
    assert_eq!((&told["daemon"]["busy"], &told["daemon"]["maxTasks"]), (&1.into(), &4.into()));
    let task = &told["tasks"][0];
    assert_eq!((&task["id"], &task["status"]), (&id.clone().into(), &"running".into()));
    let agent = task["pid"].as_u64().expect("the agent runs");
    assert!(place.running().iter().any(|(pid, _)| u64::try_from(*pid) == Ok(agent)));
    assert_eq!(told["counters"]["sessions"], 1);
    assert!(told["disk"]["freeBytes"].as_u64() > Some(0) && told["disk"]["journalBytes"].as_u64() > Some(0));
    assert_eq!(told["journal"]["trouble"], Value::Null);
    let text = place.makima(["status"]).done().code(0).out();
    for part in [&id, "running", "connected to", "1 of 4 in use", &agent.to_string()] {
        assert!(text.contains(part), "{part:?} is to stand in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours are for terminals");
    let mode = fs::metadata(place.home().join("daemon.sock")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Without a daemon the disk tells: the agent goes on.
    let Fleet { serve, daemon, .. } = fleet;
    daemon.terminate().code(0);
    assert!(!place.home().join("daemon.sock").exists());
    let left = place.makima(["status", "--json"]).done().code(3).json();
    assert_eq!(left["daemon"], Value::Null);
    let task = &left["tasks"][0];
    assert_eq!((&task["id"], &task["pid"], &task["status"]), (&id.into(), &agent.into(), &"started".into()));
    assert!(place.makima(["status"]).done().code(3).out().contains("does not run"));
    drop(place.makima(["metrics"]).done().code(3).noted(&["no daemon runs", "MAKIMA_HOME"]));
    fs::write(&go, "").expect("a file");
    let daemon = Fleet::daemon(&place);
    until("its end", SOON, || Some(status(&place)).filter(|told| told["tasks"][0].is_null()));
    daemon.terminate().code(0);
    serve.terminate().code(0);
}

#[test]
fn the_status_of_a_home_that_was_never_used() {
    let place = Place::new();
    let told = place.makima(["status", "--json"]).done().code(3).json();
    assert_eq!((&told["daemon"], &told["tasks"]), (&Value::Null, &Value::Array(Vec::new())));
    assert!(!place.home().exists());
}

#[test]
fn a_server_that_is_not_there_and_one_that_refuses_the_key() {
    let place = Place::new();
    let daemon = alone(&place).start();
    let link = until("a failure", SOON, || Some(answers(&place)["link"].clone()).filter(|link| link["failures"] != 0));
    assert_eq!((&link["live"], &link["keyRefused"]), (&false.into(), &false.into()));
    assert!(place.makima(["status"]).done().code(0).out().contains("trouble"));
    daemon.terminate().code(0);

    let fleet = Fleet::start(&place);
    let other = Place::new();
    let call = other.makima(["daemon", "--agent", "shell", "--server", &fleet.url]);
    let daemon = call.env("MAKIMA_API_KEY", "a wrong key").start();
    until("a refusal", SOON, || (answers(&other)["link"]["keyRefused"] == true).then_some(()));
    let text = other.makima(["status"]).done().code(0).out();
    assert!(text.contains("the server refuses it") && !text.contains("a wrong key"), "{text}");
    daemon.terminate().code(0);
    fleet.end();
}

#[test]
fn a_home_in_a_deep_place_has_its_socket_too() {
    let place = Place::new();
    let deep = place.path("deep").join("d".repeat(200)).join("e".repeat(200));
    let daemon = alone(&place).env("MAKIMA_HOME", &deep).start();
    until("an answer", SOON, || {
        let done = place.makima(["status", "--json"]).env("MAKIMA_HOME", &deep).done();
        (done.json()["daemon"]["answers"] == true).then_some(())
    });
    daemon.terminate().code(0);
}

#[test]
fn a_daemon_that_hangs_is_told_of_from_what_it_has_written_down() {
    let place = Place::new();
    let daemon = alone(&place).start();
    answers(&place);
    daemon.signal(Signal::STOP);
    let told = status(&place);
    assert_eq!((&told["daemon"]["answers"], &told["daemon"]["pid"]), (&false.into(), &daemon.pid().into()));
    drop(place.makima(["metrics"]).done().code(1).noted(&["does not tell its metrics"]));
    daemon.signal(Signal::CONT);
    answers(&place);
    daemon.terminate().code(0);
}

#[test]
fn rubbish_on_the_socket_hurts_nobody() {
    let place = Place::new();
    let daemon = alone(&place).start();
    answers(&place);
    let socket = place.home().join("daemon.sock");
    let silent: Vec<UnixStream> = (0..64).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    for words in [
        &b"\0\xff\r\n\r\n"[..],
        b"GET",
        &b"x".repeat(1 << 20),
        b"POST /status HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a bound");
        stream.set_write_timeout(Some(SOON)).expect("a bound");
        let _ = stream.write_all(words);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200") && !answer.starts_with(b"HTTP/1.0 200"));
    }
    answers(&place);
    drop(silent);
    daemon.terminate().code(0);
}

/// Reads a page as Prometheus does: each family has its help and its type before its samples, and stands once.
fn read_page(page: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut families, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(is_name(name) && !text.is_empty() && helped.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert!(helped.contains(name) && ["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name, kind).is_none(), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and a value");
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            assert!(families.contains_key(name) && labels.ends_with('}'), "{line}");
            let value: f64 = value.parse().expect("a number");
            assert!(samples.insert(sample.to_owned(), value).is_none(), "{line}");
        }
    }
    assert!(page.ends_with('\n'));
    samples
}

#[test]
fn the_metrics_tell_what_was_counted() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let id = fleet.plan(&repo, "echo x > x");
    assert_eq!(fleet.ended(&id)["status"], "done");
    let samples = read_page(&place.makima(["metrics"]).done().code(0).out());
    let value = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("no {name} in {samples:#?}"));
    assert_eq!((value("makima_link_up"), value("makima_sessions_total")), (1.0, 1.0));
    assert_eq!(value("makima_tasks{status=\"done\"}"), 1.0);
    assert_eq!(value("makima_work_total{work=\"start\",outcome=\"done\"}"), 1.0);
    assert!(value("makima_work_seconds_total{work=\"prepare\"}") > 0.0);
    assert!(value("makima_journal_flushes_total") > 0.0 && value("process_open_fds") > 3.0);
    assert_eq!((value("makima_log_lines_dropped_total"), value("makima_journal_is_stuck")), (0.0, 0.0));
    // Nothing that is counted is forgotten.
    for counter in status(&place)["counters"].as_object().expect("counters").keys() {
        value(&format!("makima_{counter}_total"));
    }
    fleet.end();
}

#[test]
fn metrics_on_a_port_of_this_machine() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    place.configure(&format!("[metrics]\nlisten = \"{free}\"\n"));
    let daemon = alone(&place).start();
    daemon.notes("metrics are told on http://");
    let origin = format!("http://{free}");
    assert_eq!(status_as(&origin, "localhost", "", "/metrics"), 200);
    assert_eq!(status_as(&origin, "[::1]:9", "", "/metrics"), 200);
    assert_eq!(status_as(&origin, "evil.example", "", "/metrics"), 403);
    assert_eq!(status_as(&origin, "localhost", "", "/status"), 404);
    let mut stream = TcpStream::connect(free).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers, and hangs up");
    assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
    read_page(answer.split_once("\r\n\r\n").expect("a head and a body").1);
    // Where it is taken that is said at once.
    let other = Place::new();
    other.configure(&format!("[metrics]\nlisten = \"{free}\"\n"));
    drop(alone(&other).done().code(2).noted(&["metrics cannot be told", &free.to_string()]));
    daemon.terminate().code(0);
}

#[test]
fn other_machines_read_metrics_only_where_that_is_said() {
    let place = Place::new();
    place.configure("[metrics]\nlisten = \"0.0.0.0:9464\"\n");
    drop(alone(&place).done().code(2).noted(&["0.0.0.0:9464", "allow_remote"]));
    place.configure("[metrics]\nlisten = \"0.0.0.0:0\"\nallow_remote = true\n");
    let daemon = alone(&place).start();
    daemon.notes("metrics are told on");
    daemon.terminate().code(0);
}

/// What somebody says who speaks the wire but never lets anybody in is no reason not to answer here.
#[test]
fn a_server_that_says_nothing_does_not_hold_up_the_status() {
    let place = Place::new();
    let server = FakeServer::start(|peer: &mut Peer| while peer.read().is_ok() {});
    let call = place.makima(["daemon", "--agent", "shell", "--server", &server.url()]);
    let daemon = call.env("MAKIMA_API_KEY", "k").start();
    until("authenticating", SOON, || (answers(&place)["link"]["state"] == "authenticating").then_some(()));
    daemon.terminate().code(0);
    let server = FakeServer::start(authenticated);
    let call = place.makima(["daemon", "--agent", "shell", "--server", &server.url()]);
    let daemon = call.env("MAKIMA_API_KEY", "k").start();
    until("connected", SOON, || (answers(&place)["link"]["live"] == true).then_some(()));
    daemon.terminate().code(0);
}
