//! Servers that are not there, that refuse, and that speak nonsense: the daemon says so, goes on trying, and
//! what it can do without them it does.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{FakeServer, Fleet, Peer, Place, Proc, SOON, until};

const WELCOME: &str = r#"{"type":"authenticated","daemonId":"0190a0e0-0000-7000-8000-000000000001"}"#;

fn daemon(place: &Place, url: &str) -> Proc {
    place.makima(["daemon", "--agent", "shell", "--server", url]).env("MAKIMA_API_KEY", "the wrong key").start()
}

fn status(place: &Place) -> Value {
    place.makima(["status", "--json"]).done().code(0).json()["daemon"].clone()
}

/// Waits until `makima status` names this trouble.
#[track_caller]
fn troubled(place: &Place, text: &str) {
    until(&format!("{text:?} in the status"), SOON, || status(place)["trouble"].as_str()?.contains(text).then_some(()));
}

/// The daemon is still there, and ends well when it is asked to.
#[track_caller]
fn lives(mut daemon: Proc) {
    assert!(daemon.is_running());
    daemon.terminate().code(0);
}

#[test]
fn a_wrong_key_is_tried_again_slowly_and_said() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let other = Place::new();
    let daemon = daemon(&other, &fleet.url);
    daemon.notes("the server refuses the key");
    daemon.notes("next attempt in 5 min");
    assert!(!daemon.err().contains("the wrong key"), "the key itself is shown nowhere");
    troubled(&other, "the server refuses the key");
    let people = other.makima(["status"]).done().code(0).out();
    assert!(people.contains("trouble") && people.contains("MAKIMA_API_KEY"), "{people}");
    lives(daemon);
    fleet.end();
}

#[test]
fn a_server_that_is_not_there_is_looked_for_again() {
    let place = Place::new();
    // A port that nobody listens on, and that nobody else gets meanwhile.
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = held.local_addr().expect("an address");
    drop(held);
    let daemon = daemon(&place, &format!("http://{address}"));
    daemon.notes("the server cannot be reached");
    troubled(&place, "next attempt in");
    // As soon as it is there it is used.
    let serve =
        place.makima(["serve", "--listen", &address.to_string()]).env("MAKIMA_API_KEY", "the wrong key").start();
    daemon.notes("connected to the server");
    until("no trouble", SOON, || status(&place)["trouble"].is_null().then_some(()));
    lives(daemon);
    serve.terminate().code(0);
}

#[test]
fn a_server_that_speaks_rubbish_does_no_harm() {
    let place = Place::new();
    let server = FakeServer::start(|peer: &mut Peer| {
        let rubbish =
            ["", "rubbish", "{}", "[]", "null", "{\"type\":\"nobodyKnows\"}", "{\"type\":\"spawnTask\"}", "\0"];
        let deep = "[".repeat(100_000);
        for text in rubbish.into_iter().chain([deep.as_str(), WELCOME]).chain(rubbish) {
            let _ = peer.send(Message::text(text));
        }
        let _ =
            peer.send(Message::text("{\"type\":\"pauseTask\",\"taskId\":\"0190a0e0-0000-7000-8000-00000000000a\"}"));
        let _ =
            peer.send(Message::text("{\"type\":\"error\",\"code\":\"odd\",\"message\":\"something odd\\u001b[31m\"}"));
        while peer.read().is_ok() {}
    });
    let daemon = daemon(&place, &server.url());
    daemon.notes("connected to the server");
    daemon.notes("the server misbehaves");
    daemon.notes("something odd");
    assert!(!daemon.err().contains('\u{1b}'), "nothing that a terminal would obey");
    assert_eq!(status(&place)["link"], "connected");
    assert_eq!(server.heard().len(), 1, "one session through all of it");
    lives(daemon);
}

#[test]
fn a_server_that_never_answers_authenticate_is_left_after_a_while() {
    let place = Place::new();
    let server = FakeServer::start(|peer| while peer.read().is_ok() {});
    let other = Place::new();
    let once = ["daemon", "--once", "--agent", "shell", "--server", &server.url()];
    let once = other.makima(once).env("MAKIMA_API_KEY", "k").start();
    let daemon = daemon(&place, &server.url());
    daemon.notes("did not answer `authenticate`");
    troubled(&place, "did not answer");
    until("another attempt", SOON, || (server.heard().len() > 2).then_some(()));
    lives(daemon);
    once.wait(SOON).code(4);
}

#[test]
fn a_message_of_seventeen_mebibytes_is_too_large_and_said_to_be() {
    let place = Place::new();
    let server = FakeServer::start(|peer: &mut Peer| {
        let _ = peer.send(Message::text(WELCOME));
        let plan = "x".repeat(17 << 20);
        let _ = peer.send(Message::text(json!({ "type": "spawnTask", "plan": plan }).to_string()));
        while peer.read().is_ok() {}
    });
    let daemon = daemon(&place, &server.url());
    daemon.notes("at most 16777216 are taken");
    troubled(&place, "at most 16777216 are taken");
    until("another attempt", SOON, || (server.heard().len() > 1).then_some(()));
    lives(daemon);
}

#[test]
fn binary_frames_are_ignored_and_said() {
    let place = Place::new();
    let server = FakeServer::start(|peer: &mut Peer| {
        let _ = peer.send(Message::binary(vec![0xff; 1000]));
        let _ = peer.send(Message::text(WELCOME));
        let _ = peer.send(Message::binary(vec![0xff; 1000]));
        while peer.read().is_ok() {}
    });
    let daemon = daemon(&place, &server.url());
    daemon.notes("connected to the server");
    daemon.notes("a binary frame of 1000 bytes");
    lives(daemon);
}

#[test]
fn a_web_server_that_is_none_of_ours_is_named_as_what_it_is() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming().take(100) {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let page =
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            let _ = stream.write_all(page.as_bytes());
        }
    });
    let daemon = daemon(&place, &url);
    daemon.notes("HTTP 200");
    lives(daemon);
    let done = place.makima(["task", "list", "--server", &url]).env("MAKIMA_API_KEY", "k").done().code(2);
    drop(done.noted(&["an answer that is not understood"]));
}

#[test]
fn what_a_server_asks_for_of_tasks_that_are_not_there_is_answered() {
    let place = Place::new();
    let id = "0190a0e0-0000-7000-8000-00000000000a";
    let (said, heard) = std::sync::mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let server = FakeServer::start(move |peer: &mut Peer| {
        let _ = peer.send(Message::text(WELCOME));
        let ask = json!({ "type": "interruptTask", "taskId": id, "graceful": true });
        let _ = peer.send(Message::text(ask.to_string()));
        while let Ok(message) = peer.read() {
            let Message::Text(text) = message else { continue };
            let _ = said.lock().expect("nobody panics with it").send(text.to_string());
        }
    });
    let daemon = daemon(&place, &server.url());
    let answer = until("an answer", SOON, || heard.try_iter().find(|text| text.contains("taskComplete")));
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&answer["taskId"], &answer["success"]), (&json!(id), &json!(false)));
    assert_eq!(answer["error"], "not known to this daemon");
    lives(daemon);
}

#[test]
fn a_server_that_goes_away_in_the_middle_of_everything_again_and_again() {
    let place = Place::new();
    let server = FakeServer::start(|peer: &mut Peer| {
        let _ = peer.send(Message::text(WELCOME));
        std::thread::sleep(Duration::from_millis(5));
    });
    let daemon = daemon(&place, &server.url());
    until("three sessions", SOON, || (server.heard().len() > 2).then_some(()));
    lives(daemon);
}

#[test]
fn a_port_that_is_in_use() {
    let place = Place::new();
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = held.local_addr().expect("an address").to_string();
    let done = place.makima(["serve", "--listen", &address]).done().code(2);
    assert!(!done.err().contains("token"), "what is not served needs no token yet");
    drop(done.noted(&[&format!("cannot listen on {address}"), "another program uses this port"]));
    drop(place.makima(["serve", "--listen", "192.0.2.1:1"]).done().code(2).noted(&["cannot listen on 192.0.2.1:1"]));
    place.makima(["serve", "--listen", "nonsense"]).done().code(2);
    assert!(!place.home().join("server.json").exists());
    let serve = place.makima(["serve", "--listen", "127.0.0.1:0"]).start();
    serve.notes("token (shown once");
    serve.terminate().code(0);
}

#[test]
fn the_daemon_of_a_server_that_answers_is_none_the_worse_for_strangers() {
    // A stranger at the server's port, and one that is slow with everything.
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let host = fleet.url.strip_prefix("http://").expect("a plain URL").to_owned();
    let strangers: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(&host).expect("a connection")).collect();
    let repo = place.repo();
    let id = fleet.plan(&repo, "echo x > x");
    assert_eq!(fleet.ended(&id)["status"], "done");
    drop(strangers);
    fleet.end();
}
