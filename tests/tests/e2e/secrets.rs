//! Secrets stay where they belong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::{Fleet, Place, until};

const KEY: &str = "the-key-9f27d1c84be0a356";
const FOO: &str = "foo/value+with=odd characters";

/// Files below a folder with one of these texts in them, or in their names.
fn files_with(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if entry.file_type().expect("a kind").is_dir() {
            found.extend(files_with(&path, texts));
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        let holds = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        if texts.iter().any(holds) || texts.iter().any(|text| path.to_string_lossy().contains(text)) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Command lines of any process with this text in them.
fn told_to_everybody(text: &str) -> bool {
    fs::read_dir("/proc").expect("/proc can be read").flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[test]
fn the_key_and_secret_variables_are_shown_nowhere_and_kept_nowhere() {
    let place = Place::new();
    let repo = place.repo();
    // The plan gets at the key in a way that is none of ours.
    fs::write(place.path("key"), KEY).expect("a file");
    place.configure(&format!("[agent]\nname = \"shell\"\nenv = {{ FOO_TOKEN = \"{FOO}\" }}\n"));
    let serve = place.makima(["serve", "--listen", "127.0.0.1:0"]).env("MAKIMA_API_KEY", KEY).start();
    serve.notes("connect a daemon");
    let daemon = place.makima(["-v", "daemon"]).env("MAKIMA_API_KEY", KEY).start();
    daemon.notes("connected to the server");
    let key = place.path("key");
    let plan = format!(
        "echo foo: $FOO_TOKEN; echo \"foo: $FOO_TOKEN\"; echo key: $(cat {0}) >&2; cat {0} | base64 -w0; echo
         printf '%s' \"$FOO_TOKEN\" | cut -c1-9 | tr -d '\\n'; sleep 0.3; printf '%s' \"$FOO_TOKEN\" | cut -c10-
         echo mine: $MAKIMA_API_KEY; echo up; until test -e {1}; do sleep 0.02; done; echo x > x; exit 3",
        key.display(),
        place.path("go").display()
    );
    let run = place.run(&repo, &[&plan]).env("MAKIMA_API_KEY", KEY).start();
    run.says("up\n");
    for secret in [KEY, FOO] {
        assert!(!told_to_everybody(secret), "{secret} on a command line");
    }
    fs::write(place.path("go"), "").expect("a file");
    let done = run.wait(Duration::from_secs(30)).code(1);
    let out = done.out();
    assert_eq!(out.matches("***").count(), 5, "{out}");
    assert!(out.contains("foo: ***\n") && out.contains("key: ***\n") && out.contains("mine:\n"), "{out}");
    let (daemon, serve) = (daemon.terminate().code(0), serve.terminate().code(0));
    for text in [out, done.err(), daemon.out(), daemon.err(), serve.out(), serve.err()] {
        assert!(!text.contains(KEY) && !text.contains(FOO), "{text}");
    }
    let allowed = ["config.toml", "token", "server.json"];
    let mut files = files_with(&place.home(), &[KEY, FOO]);
    files.retain(|file| !allowed.iter().any(|name| Path::new(file) == place.home().join(name)));
    // The one place where an agent's output lies as it came: it is masked whenever it is read.
    files.retain(|file| !file.ends_with("/output.log"));
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn the_token_of_a_run_of_its_own_is_the_agents_to_see_but_not_to_show() {
    let place = Place::new();
    let repo = place.repo();
    let plan =
        format!("cat {}; echo; cat /proc/$PPID/cmdline | tr '\\0' ' '; env", place.home().join("token").display());
    let done = place.run(&repo, &[&plan]).done().code(0);
    let token = fs::read_to_string(place.home().join("token")).expect("it was made");
    assert!(done.out().starts_with("***\n"), "{}", done.out());
    assert!(!done.out().contains(&token));
    assert!(
        files_with(&place.home(), &[&token])
            .iter()
            .all(|file| file.ends_with("/token") || file.ends_with("/output.log"))
    );
}

#[test]
fn an_agent_gets_of_the_environment_only_what_it_should() {
    let place = Place::new();
    let repo = place.repo();
    let call =
        place.run(&repo, &["env | sort"]).env("UNRELATED", "not for agents").env("AWS_SECRET_KEY", "not for agents");
    let out = call.env("MAKIMA_SERVER_URL_OF_OLD", "x").env("LC_TIME", "C").done().code(0).out();
    let names: Vec<&str> = out.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in ["PATH", "HOME", "LANG", "LC_TIME", "TZ", "TERM", "TMPDIR", "MAKIMA_TASK_ID", "GIT_AUTHOR_NAME"] {
        assert!(names.contains(&name), "{name}: {out}");
    }
    assert!(!out.contains("not for agents") && !out.contains("MAKIMA_HOME") && !out.contains("API_KEY"), "{out}");
    assert!(out.contains("TERM=dumb\n"));
}

#[test]
fn a_url_with_a_password_is_never_shown_with_it() {
    let place = Place::new();
    let password = "hunter2-hunter2";
    let url = format!("https://me:{password}@127.0.0.1:1/team/app");
    let fleet = Fleet::start(&place);
    let run = place.makima(["run", "--agent", "shell", "--repo", &url, "true"]).done().code(1);
    assert!(!run.err().contains(password), "{}", run.err());
    let id = fleet.spawn(serde_json::json!({ "plan": "true", "repoUrl": url }));
    let open = fleet.spawn(serde_json::json!({ "plan": "true", "repoUrl": url.replace("https:", "http:") }));
    for id in [id, open] {
        let task = fleet.ended(&id);
        assert_eq!(task["status"], "failed");
        assert!(!task.to_string().contains(password), "{task}");
    }
    assert!(!fleet.daemon.err().contains(password) && !fleet.serve.err().contains(password));
    until("the daemon's own records are without it", Duration::from_secs(5), || {
        let mut files = files_with(&place.home(), &[password]);
        // The server has to know the URL that it is to hand out.
        files.retain(|file| !file.contains("/control.db"));
        files.is_empty().then_some(())
    });
    fleet.end();
}
