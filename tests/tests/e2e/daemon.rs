//! `makima daemon`: where its settings come from, and what `--once` says by its exit code.

use std::fs;

use serde_json::Value;

use crate::support::{Call, FakeServer, Fleet, Peer, Place, SOON, authenticated, until};

/// Takes the daemon in and closes the session.
fn welcome_and_close(peer: &mut Peer) {
    let text = r#"{"type":"authenticated","daemonId":"0190a0e0-0000-7000-8000-000000000001"}"#;
    let _ = peer.send(tokio_tungstenite::tungstenite::Message::text(text));
    let _ = peer.close(None);
    while peer.read().is_ok() {}
}

fn once(place: &Place) -> Call {
    place.makima(["daemon", "--agent", "shell", "--once"]).env("MAKIMA_API_KEY", "the key")
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let place = Place::new();
    let servers: Vec<FakeServer> = (0..3).map(|_| FakeServer::start(welcome_and_close)).collect();
    let [by_file, by_env, by_flag] = &servers[..] else { unreachable!() };
    fs::write(place.path("key"), "key of the file\n").expect("a key");
    fs::write(place.path("other"), "key of the flag\n").expect("a key");
    let (key, other) = (place.path("key"), place.path("other"));
    let url = by_file.url();
    place.configure(&format!("server = {url:?}\napi_key_file = {key:?}\nagent = \"shell\"\nmax_tasks = 3\n"));
    let first = |server: &FakeServer| -> (Value, Value) {
        let heard = server.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        (heard[0]["apiKey"].clone(), heard[0]["maxConcurrentTasks"].clone())
    };

    place.makima(["daemon", "--once"]).done().code(0);
    assert_eq!(first(by_file), ("key of the file".into(), 3.into()));
    let env = |call: Call| call.env("MAKIMA_SERVER_URL", by_env.url()).env("MAKIMA_API_KEY", "key of the environment");
    env(place.makima(["daemon", "--once"])).done().code(0);
    assert_eq!(first(by_env), ("key of the environment".into(), 3.into()));
    let flags = ["daemon", "--once", "--max-tasks", "7", "--server", &by_flag.url(), "--api-key-file"];
    env(place.makima(flags).args([&other])).done().code(0);
    assert_eq!(first(by_flag), ("key of the flag".into(), 7.into()));
    assert_eq!((by_file.heard().len(), by_env.heard().len()), (1, 1));
}

#[test]
fn a_setting_that_is_not_known_is_named_with_its_line() {
    let place = Place::new();
    let repo = place.repo();
    place.configure("agent = \"shell\"\n\nmax_taks = 3\n");
    let file = place.home().join("config.toml");
    let said = [file.to_str().expect("a plain path"), "line 3", "max_taks"];
    place.makima(["daemon"]).done().code(2).noted(&said);
    place.run(&repo, &["true"]).done().code(2).noted(&said);
    place.makima(["task", "list"]).done().code(2).noted(&said);
    for (text, said) in [
        ("agent = 3\n", ["line 1", "an agent's name, or a table"]),
        ("[agent]\nname = \"shell\"\nenvy = {}\n", ["line 3", "`envy`"]),
        ("agent = \"shell\"\nmax_tasks = 0\n", ["line 2", "from 1 to 1000"]),
        ("\nallowed_roots = [\"~/a\", \"projects\"]\n", ["line 2", "projects is no absolute path"]),
        ("agent = \"shell\nserver = 3\n", ["line 1", "config.toml"]),
    ] {
        place.configure(text);
        place.makima(["daemon"]).done().code(2).noted(&said);
    }
}

#[test]
fn once_ends_well_when_the_server_closes_and_nothing_is_left() {
    let place = Place::new();
    let server = FakeServer::start(welcome_and_close);
    once(&place).args(["--server", &server.url()]).done().code(0);
    assert_eq!(server.heard().len(), 1, "one session");
}

#[test]
fn once_says_by_its_exit_code_that_the_key_is_refused() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let other = Place::new();
    let done = once(&other).args(["--server", &fleet.url]).done().code(3);
    drop(done.noted(&["refuses the key", "MAKIMA_API_KEY"]));
    fleet.end();
}

#[test]
fn once_says_by_its_exit_code_that_the_server_is_not_reached() {
    let place = Place::new();
    let done = once(&place).args(["--server", "ws://127.0.0.1:1"]).done().code(4);
    drop(done.noted(&["the server cannot be reached"]));
    // So it does where somebody is there who is no such server.
    let server = FakeServer::start(|peer| drop(peer.close(None)));
    once(&place).args(["--server", &server.url()]).done().code(4);
}

#[test]
fn what_a_daemon_needs_is_asked_for_before_it_starts() {
    let place = Place::new();
    let daemon = |words: &[&str]| place.makima(["daemon"]).args(words).done().code(2);
    drop(daemon(&[]).noted(&["no agent was named"]));
    drop(daemon(&["--agent", "shell"]).noted(&["no control server was named", "makima serve"]));
    drop(daemon(&["--agent", "shell", "--server", "ws://127.0.0.1:1"]).noted(&["there is no key", "MAKIMA_API_KEY"]));
    drop(daemon(&["--agent", "shell", "--server", "gopher://x"]).noted(&["gopher"]));
    let empty = place.path("empty");
    fs::write(&empty, "\n").expect("a file");
    let words = ["--agent", "shell", "--server", "ws://127.0.0.1:1", "--api-key-file", empty.to_str().expect("plain")];
    drop(daemon(&words).noted(&["holds no key"]));
    assert!(!place.home().exists(), "nothing was made");
}

#[test]
fn a_daemon_that_lost_its_server_goes_on_and_tells_it_later() {
    let place = Place::new();
    let repo = place.repo();
    let serve = |port: &str| {
        let serve = place.makima(["serve", "--listen", &format!("127.0.0.1:{port}")]).start();
        serve.notes("connect a daemon");
        serve
    };
    let fleet = Fleet::start(&place);
    let go = place.path("go");
    let id = fleet.plan(&repo, &format!("echo up; until test -e {}; do sleep 0.02; done; echo x > x", go.display()));
    fleet.writes(&id, "up");
    let Fleet { serve: old, daemon, url, .. } = fleet;
    drop(old.kill());
    daemon.notes("next attempt in");
    fs::write(&go, "").expect("a file");
    until("the branch", SOON, || repo.branches().pop());
    let port = url.rsplit(':').next().expect("a port").to_owned();
    let serve = serve(&port);
    let shown = until("the end at the server", SOON, || {
        let task = place.makima(["task", "show", "--json", &id]).done().code(0).json();
        Some(task).filter(|task| !task["endedAt"].is_null())
    });
    assert_eq!((&shown["status"], &shown["branch"]), (&"done".into(), &repo.branch().into()));
    daemon.terminate().code(0);
    serve.terminate().code(0);
}

#[test]
fn a_daemon_under_a_foreign_server_says_so_in_its_status() {
    let place = Place::new();
    let server = FakeServer::start(authenticated);
    let daemon =
        place.makima(["daemon", "--agent", "shell", "--server", &server.url()]).env("MAKIMA_API_KEY", "k").start();
    let link = || place.makima(["status", "--json"]).done().json()["daemon"]["link"].clone();
    until("connected", SOON, || (link() == "connected").then_some(()));
    let status = place.makima(["status"]).done().code(0).out();
    assert!(status.contains(&server.url().replace("ws://", "")), "{status}");
    daemon.terminate().code(0);
}
