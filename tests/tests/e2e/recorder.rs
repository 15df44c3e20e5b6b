//! `makima protocol record`: what a server says, written down without its secrets, and no work taken on.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Call, FakeServer, Fleet, Peer, Place, SOON};

const KEY: &str = "a-key-that-nobody-sees";
const WELCOME: &str = r#"{"type":"authenticated","daemonId":"0190a0e0-0000-7000-8000-000000000001"}"#;

fn record(place: &Place, url: &str, words: &[&str]) -> Call {
    place.makima(["protocol", "record", url]).args(words).env("MAKIMA_API_KEY", KEY)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_session_is_written_down_and_a_task_is_ended_and_no_secret_is_in_it() {
    let place = Place::new();
    let id = "0190a0e0-0000-7000-8000-00000000000a";
    let server = FakeServer::start(move |peer: &mut Peer| {
        let spawn = json!({
            "type": "spawnTask", "taskId": id, "taskName": "t", "plan": "MY_TOKEN=t0ken-in-a-plan make", "depth": 0,
            "repoUrl": "https://me:hunter2-in-a-url@h/a", "isOrchestrator": false,
        });
        let echo = json!({ "type": "error", "code": "odd", "message": format!("your key is {KEY}, your url hunter2-in-a-url") });
        for text in [WELCOME.to_owned(), spawn.to_string(), "rubbish".to_owned(), echo.to_string()] {
            let _ = peer.send(Message::text(text));
        }
        // It waits for the task's end, and then it has had enough.
        while let Ok(message) = peer.read() {
            if message.to_text().is_ok_and(|text| text.contains("taskComplete")) {
                break;
            }
        }
        let _ = peer.close(None);
        while peer.read().is_ok() {}
    });
    let file = place.path("session.ndjson");
    let words = ["--out", file.to_str().expect("a path")];
    let done = record(&place, &server.url(), &words).done().code(0);
    let done = done.noted(&["spawnTask 1", "taskComplete 1", "1 frame could not be read"]);
    let text = fs::read_to_string(&file).expect("a recording");
    for secret in [KEY, "hunter2-in-a-url", "t0ken-in-a-plan"] {
        assert!(!text.contains(secret) && !done.err().contains(secret), "{secret} in {text}");
    }
    let all = lines(&text);
    assert_eq!((&all[0]["dir"], &all[0]["frame"]["apiKey"]), (&json!("out"), &json!("***")));
    let end = all.iter().find(|line| line["frame"]["type"] == "taskComplete").expect("an end");
    let frame = json!({ "type": "taskComplete", "taskId": id, "success": false, "error": "this is a recorder" });
    assert_eq!((&end["dir"], &end["frame"]), (&json!("out"), &frame));
    assert!(all.windows(2).all(|two| two[0]["t"].as_u64() <= two[1]["t"].as_u64()), "in the order of time");
    assert!(!place.home().join("daemon.json").exists());

    // It can be read again, but for what could not be read.
    let checked = place.makima(["protocol", "check", "recording"]).stdin(&text).done().code(1);
    assert_eq!(checked.out().lines().count(), all.len() - 1);
    assert_eq!(checked.err().lines().count(), 1, "{}", checked.err());
    let bad = ["{}", r#"{"t":1,"dir":"up","frame":{}}"#, r#"{"t":1,"dir":"in","frame":{"type":"pauseTask"}}"#];
    for line in bad {
        drop(place.makima(["protocol", "check", "recording"]).stdin(line).done().code(1).noted(&["line 1"]));
    }
}

#[test]
fn the_embedded_server_is_recorded_until_the_time_is_over_or_a_person_ends_it() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let record = |words: &[&str]| {
        place.makima(["protocol", "record", &fleet.url]).args(words).env("MAKIMA_API_KEY", &fleet.token)
    };
    let done = record(&["--for", "1"]).done().code(0).noted(&["in: authenticated 1"]);
    assert!(!done.out().contains(&fleet.token));
    let whole = place.makima(["protocol", "check", "recording"]).stdin(done.bytes()).done().code(0);
    assert_eq!(whole.out().lines().count(), done.out().lines().count());

    let running = record(&["--until-closed"]).start();
    running.notes("Ctrl-C ends it");
    running.ctrl_c();
    drop(running.wait(SOON).code(0).noted(&["in: authenticated 1", "out: authenticate 1"]));
    // The daemon of this home keeps its session all along.
    let repo = place.repo();
    let id = fleet.plan(&repo, "echo x > x");
    assert_eq!(fleet.ended(&id)["status"], "done");
    fleet.end();
}

#[test]
fn servers_that_are_away_or_refuse_the_key_are_told_by_the_exit_code() {
    let place = Place::new();
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let away = format!("http://{}", held.local_addr().expect("an address"));
    drop(held);
    drop(record(&place, &away, &[]).done().code(4).noted(&["not reached", "connection refused", "in: nothing"]));
    let silent = FakeServer::start(|peer| while peer.read().is_ok() {});
    drop(record(&place, &silent.url(), &[]).done().code(4).noted(&["did not answer `authenticate`"]));
    drop(record(&place, &silent.url(), &["--for", "1"]).done().code(4).noted(&["before the server had let us in"]));
    let fleet = Fleet::start(&place);
    drop(record(&place, &fleet.url, &[]).done().code(3).noted(&["does not let us in", "MAKIMA_API_KEY"]));
    fleet.end();
    let nowhere = place.path("no/such/folder/file");
    let words = ["--out", nowhere.to_str().expect("a path")];
    drop(record(&place, &away, &words).done().code(2).noted(&["no/such/folder"]));
    drop(record(&place, "http://192.0.2.1", &[]).done().code(2).noted(&["unencrypted", "--insecure"]));
    let keyless = place.makima(["protocol", "record", "https://192.0.2.1"]).done().code(2);
    drop(keyless.noted(&["there is no key for https://192.0.2.1"]));
}
