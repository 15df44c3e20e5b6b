//! One run with a secret of every kind, told in every form; then none of it stands in anything that is kept or shown.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Fleet, Place, SOON, until};

/// What is secret in this run, by the way that it comes in.
const KEY: &str = "daemons+key/4c21=7f3e9ab0";
const PASSWORD: &str = "url-password-58d1c7aa";
const OF_AGENTS: &str = "of/agents env+\"quoted\"=91b2";
const HANDED_ON: &str = "handed on? 0f5e#77&3c-value";
const OF_SSH: &str = "ssh-password-e04b2c6d";
const ALL: [&str; 5] = [KEY, PASSWORD, OF_SSH, OF_AGENTS, HANDED_ON];

/// A secret in each form in which it is looked for.
fn forms(secret: &str) -> Vec<String> {
    let base64 = base64(secret.as_bytes());
    let escaped = |upper: bool| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let escape = |byte| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        secret.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { escape(byte) }).collect()
    };
    let quoted = json!(secret).to_string();
    vec![
        secret.to_owned(),
        base64.trim_end_matches('=').to_owned(),
        base64.trim_end_matches('=').replace('+', "-").replace('/', "_"),
        escaped(true),
        escaped(false),
        quoted.trim_matches('"').to_owned(),
    ]
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[test]
fn the_forms_are_what_programs_make_of_a_secret() {
    assert_eq!(
        ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
        ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
    );
    let forms = forms(OF_AGENTS);
    assert!(forms.contains(&"of%2Fagents%20env%2B%22quoted%22%3D91b2".to_owned()), "{forms:?}");
    assert!(forms.contains(&r#"of/agents env+\"quoted\"=91b2"#.to_owned()), "{forms:?}");
}

/// Fails where one of the secrets stands in this text.
#[track_caller]
fn clean(what: &str, bytes: &[u8]) {
    for secret in ALL {
        for form in forms(secret) {
            let found = bytes.windows(form.len()).position(|part| part == form.as_bytes());
            let around =
                found.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(80)..bytes.len().min(at + 120)]));
            assert!(around.is_none(), "{what} holds {form:?}: {around:?}");
        }
    }
}

/// Every file below a folder is clean, and its name.
fn clean_files(folder: &Path, but: &[&str]) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        clean("a name", path.as_os_str().as_encoded_bytes());
        if entry.file_type().expect("a kind").is_dir() {
            count += clean_files(&path, but);
        } else if !but.iter().any(|name| path.ends_with(name)) {
            clean(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            count += 1;
        }
    }
    count
}

/// An agent that shows all that it can get at, in every form, on both streams. What stood in another task's URL is none
/// of that.
fn showing(place: &Place) -> String {
    for (n, secret) in [KEY, OF_AGENTS, HANDED_ON].iter().enumerate() {
        fs::write(place.path(&format!("forms-{n}")), forms(secret).join("\n") + "\n").expect("a file");
    }
    let folder = place.root().display();
    format!(
        "echo up; cat {folder}/forms-*; cat {folder}/forms-* >&2; echo \"$FOO_TOKEN\"; echo \"$XDG_SOME_TOKEN\"
         for n in 0 1 2; do head -c 11 {folder}/forms-$n; sleep 0.1; tail -c +12 {folder}/forms-$n; done
         until test -e {folder}/go; do sleep 0.02; done; echo x > x; exit 3"
    )
}

#[test]
fn no_secret_stands_in_journal_states_recordings_or_logs() {
    let place = Place::new();
    let repo = place.repo();
    let env = json!(OF_AGENTS);
    place.configure(&format!("[agent]\nname = \"shell\"\nenv = {{ FOO_TOKEN = {env} }}\n"));
    let serve = place.makima(["-v", "serve", "--listen", "127.0.0.1:0"]).env("MAKIMA_API_KEY", KEY).start();
    serve.notes("connect a daemon");
    let file: serde_json::Value =
        serde_json::from_slice(&fs::read(place.home().join("server.json")).expect("a file")).expect("JSON");
    let daemon = || {
        let call = place.makima(["-vv", "daemon"]).env("MAKIMA_API_KEY", KEY).env("XDG_SOME_TOKEN", HANDED_ON);
        let daemon = call.start();
        daemon.notes("connected to the server");
        daemon
    };
    let url = file["url"].as_str().expect("a URL").to_owned();
    let mut fleet = Fleet { daemon: daemon(), serve, url, token: KEY.to_owned() };
    let remote = format!("https://me:{PASSWORD}@127.0.0.1:1/team/app");
    let refused = fleet.spawn(json!({ "plan": "true", "repoUrl": remote }));
    assert_eq!(fleet.ended(&refused)["status"], "failed");
    let remote = format!("ssh://git:{OF_SSH}@127.0.0.1:1/team/app");
    let refused = fleet.spawn(json!({ "plan": "true", "repoUrl": remote }));
    let why = fleet.ended(&refused)["error"].to_string();
    assert!(why.contains("ssh://git:@127.0.0.1:1/team/app") && why.contains("ssh takes none"), "{why}");
    let id = fleet.plan(&repo, &showing(&place));
    fleet.writes(&id, "up\n");
    // A life that takes its steps again, and one that ends in order: all that it knows is written down.
    fleet.daemon.signal(Signal::KILL);
    until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
    clean("the first daemon's words", fleet.daemon.err().as_bytes());
    fleet.daemon = daemon();
    fs::write(place.path("go"), "").expect("a file");
    let task = fleet.ended(&id);
    assert_eq!(task["error"], "the script ended with exit code 3", "{task}");
    let output = fleet.output(&id);
    assert!(output.matches("***").count() > 25, "what it told has come through, masked: {output}");
    clean("its output at the server", output.as_bytes());
    for path in ["", "/events"].map(|rest| format!("/api/v1/tasks/{id}{rest}")) {
        clean(&path, fleet.get(&path).1.as_bytes());
    }
    let Fleet { daemon, serve, .. } = fleet;
    let said = [daemon.terminate().code(0), serve.terminate().code(0)];
    said.iter().for_each(|done| clean("its words", (done.out() + &done.err()).as_bytes()));

    assert!(clean_files(&place.home().join("journal"), &[]) >= 3, "the journal of two lives");
    // What an agent wrote lies there as it came, and is masked whenever it is read.
    assert!(clean_files(&place.home().join("tasks"), &["output.log"]) > 5);
    let call = |words: &[&str]| {
        let call = place.makima(words).env("MAKIMA_API_KEY", KEY).env("XDG_SOME_TOKEN", HANDED_ON);
        call.done().code(0).out()
    };
    let recording = call(&["journal", "export", "--out", "-"]);
    assert!(recording.contains("\"text\":[") && recording.contains("up\\n"), "the output is in it");
    clean("the recording", recording.as_bytes());
    clean("the journal as it is shown", call(&["journal", "show"]).as_bytes());
    // Without a daemon it tells what the disk knows.
    let status = place.makima(["status"]).done().code(3).out();
    assert!(status.contains("does not run"), "{status}");
    clean("the status", status.as_bytes());
}
