//! `makima doctor`: what is in order and what is not, told so that a person and a program can act on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{FakeServer, Fleet, Place};

/// What was found of one thing.
#[track_caller]
fn of<'a>(checks: &'a Value, name: &str) -> (&'a str, &'a str, &'a str) {
    let all = checks.as_array().expect("an array");
    let check = all.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name:?} in {checks:#}"));
    let text = |field: &str| check[field].as_str().unwrap_or_default();
    (text("state"), text("detail"), text("help"))
}

fn program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it can be run");
}

#[test]
fn a_home_that_is_not_there_yet_is_in_order_and_stays_away() {
    let place = Place::new();
    let done = place.makima(["doctor"]).done().code(0);
    assert!(done.out().contains("is not there yet"), "what it is");
    assert!(!done.out().contains('\u{1b}'), "no colours where there is no terminal");
    let checks = place.makima(["doctor", "--json"]).done().code(0).json();
    for check in checks.as_array().expect("an array") {
        assert!(["ok", "warn"].contains(&check["state"].as_str().expect("a state")), "{check}");
        assert_eq!(check["help"].is_null(), check["state"] == "ok", "{check}: what is wrong comes with what to do");
    }
    assert!(of(&checks, "git").1.contains("Ada Author <ada@example.com>"));
    assert!(!place.home().exists(), "nothing is made by looking");
}

/// Protects people from a plan that fails at once, as the agent that they configured cannot be started.
#[test]
fn the_agent_of_the_configuration_is_looked_for() {
    let place = Place::new();
    place.configure("agent = 'acp:no-such-agent --acp'\n");
    let checks = place.makima(["doctor", "--json"]).done().code(1).json();
    let (state, detail, _) = of(&checks, "agent");
    assert_eq!((state, detail), ("fail", "there is no `no-such-agent` on PATH"));
    place.program("some-agent", "exit 0");
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    place.configure("agent = 'acp:some-agent --acp'\npermissions = 'ask'\n");
    let checks = place.makima(["doctor", "--json"]).env("PATH", path).done().code(0).json();
    assert_eq!(of(&checks, "agent").1, "acp:some-agent --acp, permissions ask");
}

/// Protects people whose Claude Code is not called `claude`, or is not on PATH, from being told of another or of none.
#[test]
fn the_command_of_the_configuration_is_asked_for_its_version() {
    let place = Place::new();
    place.program("claude", "echo '1.0.0 (Claude Code)'");
    let mine = place.path("elsewhere/claude-code");
    program(&mine, "test \"$1\" = --fast && echo '2.1.330 (Claude Code)'");
    place.configure(&format!("[agent]\ncommand = ['{}', '--fast']\n", mine.display()));
    let checks = place.makima(["doctor", "--json"]).env("PATH", place.programs()).done().code(0).json();
    let (state, detail, _) = of(&checks, "agent claude");
    assert_eq!((state, detail), ("ok", format!("2.1.330 (Claude Code) ({})", mine.display()).as_str()));
    assert!(of(&checks, "agent").1.starts_with("claude, permissions "), "{checks:#}");
    fs::remove_file(&mine).expect("it is there");
    let checks = place.makima(["doctor", "--json"]).env("PATH", place.programs()).done().code(1).json();
    let (state, detail, help) = of(&checks, "agent");
    assert!(state == "fail" && detail.contains(&mine.display().to_string()), "{checks:#}");
    assert!(help.contains("`command` under [agent]"), "{checks:#}");
}

#[test]
fn a_server_is_reached_by_both_ways_and_takes_the_key_and_knows_no_machine_more() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let daemons = fleet.get("/api/v1/daemons").1;
    let checks = place.makima(["doctor", "--json"]).done().code(0).json();
    let (state, detail, _) = of(&checks, "server");
    assert!(state == "ok" && detail.contains("by WebSocket and by long-poll"), "{checks:#}");
    assert!(of(&checks, "key").1.contains("takes it"), "{checks:#}");
    assert!(of(&checks, "daemon").1.contains(&format!("process {}", fleet.daemon.pid())), "{checks:#}");
    let machines = |text: &str| serde_json::from_str::<Value>(text).expect("JSON").as_array().expect("a list").len();
    assert_eq!(machines(&fleet.get("/api/v1/daemons").1), machines(&daemons));
    assert!(!checks.to_string().contains(&fleet.token));

    let wrong = place.makima(["doctor", "--json", "--server", &fleet.url]).env("MAKIMA_API_KEY", "the wrong key");
    let wrong = wrong.done().code(1).json();
    let (state, detail, help) = of(&wrong, "key");
    assert!(state == "fail" && detail.contains("refuses it") && help.contains("MAKIMA_API_KEY"), "{wrong:#}");
    assert_eq!(of(&wrong, "server").0, "ok", "it is the key that is wrong, and not the server");
    assert!(!wrong.to_string().contains("the wrong key"));
    fleet.end();
}

#[test]
fn a_server_that_is_away_and_one_that_says_nothing_are_told_within_a_bound() {
    let place = Place::new();
    let away = place.makima(["doctor", "--json", "--server", "http://127.0.0.1:1"]).env("MAKIMA_API_KEY", "k");
    let checks = away.done().code(1).json();
    let (state, detail, help) = of(&checks, "server");
    assert!(state == "fail" && detail.contains("connection refused") && !help.is_empty(), "{checks:#}");

    let silent = FakeServer::start(|peer| while peer.read().is_ok() {});
    let begun = Instant::now();
    let done = place.makima(["doctor", "--json", "--server", &silent.url()]).env("MAKIMA_API_KEY", "k").done().code(1);
    assert!(of(&done.json(), "server").1.contains("no answer within 10 s"), "{:#}", done.json());
    assert!(begun.elapsed() < Duration::from_secs(60));

    let open = place.makima(["doctor", "--json", "--server", "http://192.0.2.1"]).env("MAKIMA_API_KEY", "k");
    assert!(of(&open.done().code(1).json(), "server").2.contains("--insecure"));
    let keyless = place.makima(["doctor", "--json", "--server", "https://192.0.2.1"]).done().code(1).json();
    assert!(of(&keyless, "key").1.contains("there is no key for https://192.0.2.1"), "{keyless:#}");
}

#[test]
fn what_is_wrong_on_the_disk_is_told_and_everything_else_too() {
    let place = Place::new();
    place.configure("max_taks = 3\n");
    fs::create_dir_all(place.home().join("worktrees/0190a0e0-0000-7000-8000-00000000000a")).expect("a folder");
    fs::create_dir_all(place.home().join("journal")).expect("a folder");
    fs::write(place.home().join("journal/journal-00000001"), "rubbish\n").expect("a file");
    fs::write(place.home().join("journal/journal-00000002"), "rubbish\n").expect("a file");
    fs::set_permissions(place.home(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let key = place.path("key");
    fs::write(&key, "a key\n").expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("a mode");
    let words = ["doctor", "--json", "--server", "http://127.0.0.1:1", "--api-key-file", key.to_str().expect("a path")];
    let checks = place.makima(words).done().code(1).json();
    let (state, detail, _) = of(&checks, "configuration");
    assert!(state == "fail" && detail.contains("max_taks") && detail.contains("line 1, column 1"), "{checks:#}");
    assert!(of(&checks, "home").1.contains("755") && of(&checks, "home").0 == "warn", "{checks:#}");
    assert!(of(&checks, "worktrees").1.contains("1 of no known task"), "{checks:#}");
    assert!(of(&checks, "journal").1.contains("line 1"), "{checks:#}");
    assert!(of(&checks, "key file").1.contains("644"), "{checks:#}");
    assert_eq!(of(&checks, "git").0, "ok", "and the rest is looked at all the same");
}

#[test]
fn agents_are_asked_for_their_version_and_not_waited_for() {
    let place = Place::new();
    let path = |folder: &Path| format!("{}:{}", folder.display(), std::env::var("PATH").expect("a PATH"));
    let bin = place.path("bin");
    program(&bin.join("claude"), "echo '2.1.0 (Claude Code)'");
    let checks = place.makima(["doctor", "--json"]).env("PATH", path(&bin)).done().code(0).json();
    assert!(of(&checks, "agent claude").1.starts_with("2.1.0 (Claude Code)"), "{checks:#}");
    program(&bin.join("claude"), "exec sleep 600");
    let checks = place.makima(["doctor", "--json"]).env("PATH", path(&bin)).done().code(0).json();
    assert_eq!(of(&checks, "agent claude").0, "warn", "{checks:#}");
    assert!(of(&checks, "agent claude").1.contains("no version within 5 s"), "{checks:#}");
    place.assert_nothing_runs();

    // An old git is one that cannot be used.
    program(&bin.join("git"), "echo git version 2.30.1");
    let checks = place.makima(["doctor", "--json"]).env("PATH", path(&bin)).done().code(1).json();
    let (state, detail, help) = of(&checks, "git");
    assert!(state == "fail" && detail.contains("2.30.1") && help.contains("2.41"), "{checks:#}");
}
