//! `makima config`: what holds and why, and what is wrong with the file.

use serde_json::{Value, json};

use crate::support::Place;

#[track_caller]
fn of<'a>(settings: &'a Value, key: &str) -> &'a Value {
    let all = settings.as_array().expect("an array");
    all.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("no {key:?} in {settings:#}"))
}

#[test]
fn each_setting_says_where_it_comes_from_and_the_order_holds() {
    let place = Place::new();
    let home = place.home();
    let settings = place.makima(["config", "show", "--json"]).done().code(0).json();
    let by_default = |value: Value| json!({ "key": "max_tasks", "value": value, "source": "default", "by": null });
    assert_eq!(*of(&settings, "max_tasks"), by_default(json!(4)));
    assert_eq!(of(&settings, "home")["source"], "environment");
    assert!(!home.exists(), "nothing is made by looking");

    place.configure("server = 'wss://file.example'\nmax_tasks = 7\nagent = 'shell'\n[log]\nfiles = 2\n");
    let settings = place.makima(["config", "show", "--json"]).done().code(0).json();
    assert_eq!(of(&settings, "max_tasks")["value"], 7);
    assert_eq!(of(&settings, "log.files")["source"], "file");
    assert_eq!(of(&settings, "server")["value"], "wss://file.example");
    let call = || place.makima(["config", "show", "--json"]).env("MAKIMA_SERVER_URL", "wss://variable.example");
    let settings = call().done().code(0).json();
    assert_eq!(of(&settings, "server")["by"], "MAKIMA_SERVER_URL");
    let words = ["--server", "wss://flag.example", "--max-tasks", "9"];
    let settings = call().args(words).done().code(0).json();
    assert_eq!(of(&settings, "server")["value"], "wss://flag.example");
    assert_eq!(
        (&of(&settings, "max_tasks")["value"], &of(&settings, "max_tasks")["by"]),
        (&json!(9), &json!("--max-tasks"))
    );

    let text = call().args(words).done().code(0);
    assert!(!text.out().contains('\u{1b}'));
    let text = place.makima(["config", "show"]).done().code(0).out();
    assert!(text.lines().any(|line| line.split_whitespace().eq(["max_tasks", "config.toml", "7"])), "{text}");
}

#[test]
fn no_secret_is_shown() {
    let place = Place::new();
    place.configure(
        "server = 'https://me:hunter22@h/x?token=hunter23'\n[agent]\nname = 'shell'\nenv = { A_TOKEN = 'hunter24' }\n",
    );
    for words in [vec!["config", "show"], vec!["config", "show", "--json"]] {
        let done = place.makima(words).env("MAKIMA_API_KEY", "hunter25").done().code(0);
        assert!(!done.out().contains("hunter") && !done.err().contains("hunter"), "{}", done.out());
        assert!(done.out().contains("***") && done.out().contains("agent.env.A_TOKEN"), "{}", done.out());
    }
}

#[test]
fn everything_that_is_wrong_with_the_file_is_named_with_its_place() {
    let place = Place::new();
    place.makima(["config", "check"]).done().code(0).noted(&["there is no", "in order"]);
    place.configure("max_taks = 3\noutput_mib = 0\n\n[log]\nfiles = 'two'\n");
    let done = place.makima(["config", "check"]).done().code(1).noted(&["3 problems in"]);
    let out = done.out();
    for place in ["config.toml:1:1:", "config.toml:2:14:", "config.toml:5:9:", "did you mean `max_tasks`?"] {
        assert!(out.contains(place), "{place:?} in {out}");
    }
    let problems = place.makima(["config", "check", "--json"]).done().code(1).json();
    assert_eq!(problems.as_array().map(Vec::len), Some(3), "{problems:#}");
    assert_eq!((&problems[0]["line"], &problems[0]["column"]), (&json!(1), &json!(1)));

    let good = place.path("good.toml");
    std::fs::write(&good, "max_tasks = 3\n").expect("a file");
    place.makima(["config", "check", good.to_str().expect("a path")]).done().code(0);
    place.makima(["config", "check", "/nowhere/at-all.toml"]).done().code(2).noted(&["/nowhere/at-all.toml"]);
    // What the check takes, the program takes, and the other way round.
    place.makima(["config", "show"]).done().code(2).noted(&["config.toml", "line "]);
    let path = place.makima(["config", "path"]).done().code(0).out();
    assert_eq!(path.trim_end(), place.home().join("config.toml").to_str().expect("a path"));
}
