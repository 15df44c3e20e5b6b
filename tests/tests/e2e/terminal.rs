//! What a person sees on a terminal.

use crate::support::{Place, SOON, until};

#[test]
fn what_an_agent_writes_stays_on_the_screen_and_the_status_line_goes() {
    let place = Place::new();
    let repo = place.repo();
    let plan = "printf 'hello '; sleep 0.4; echo world; printf ..; sleep 0.4; echo ...; touch x; printf end; sleep 0.4";
    let terminal = place.run(&repo, &["--name", "Greet", plan]).on_a_terminal();
    terminal.shows("running");
    terminal.shows("\nhello world");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    for line in ["hello world", ".....", "end"] {
        assert!(screen.lines().any(|shown| shown == line), "{line:?} is not on the screen:\n{screen}");
    }
    assert!(screen.contains("branch   makima/greet-"), "{screen}");
    assert!(!screen.contains("running"), "the status line is still there:\n{screen}");
    place.assert_nothing_runs();
}

/// A prompt is seen before its line is whole.
#[test]
fn a_line_that_is_not_whole_stands_in_the_status_line() {
    let place = Place::new();
    let repo = place.repo();
    let mut terminal = place.run(&repo, &["--name", "Ask", "printf 'are you sure? '; sleep 600"]).on_a_terminal();
    terminal.shows("are you sure?");
    terminal.types("\x03");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(130), "{screen}");
    assert!(screen.contains("are you sure?"), "{screen}");
    assert!(screen.contains("Ctrl-C again kills it"), "{screen}");
    place.assert_nothing_runs();
}

/// Protects the sight of many tasks at once: a line each while they run, what they wrote and a table afterwards.
#[test]
fn tasks_of_a_file_have_a_line_each_while_they_run() {
    let place = Place::new();
    let repo = place.repo();
    let go = place.path("go");
    let wait = format!("until test -e {}; do sleep 0.02; done", go.display());
    let text = format!(
        "[[task]]\nname = 'first'\nplan = 'echo up; {wait}'\n[[task]]\nname = 'second'\nplan = 'echo too'\nafter = ['first']\n"
    );
    std::fs::write(place.path("tasks.toml"), text).expect("a file");
    let file = place.path("tasks.toml");
    let terminal = place.run(&repo, &["--tasks", file.to_str().expect("a plain path")]).on_a_terminal();
    terminal.shows("first | up");
    let line = |screen: &str, parts: [&str; 2]| screen.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    until("a line for each", SOON, || {
        let screen = terminal.screen();
        (line(&screen, ["first ", "running"]) && line(&screen, ["second", "waits for first"])).then_some(())
    });
    std::fs::write(&go, "").expect("a file");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(line(&screen, ["second | too", ""]) && line(&screen, ["TASK", "RESULT"]), "{screen}");
    assert!(!screen.contains("running"), "the status lines are still there:\n{screen}");
    place.assert_nothing_runs();
}
