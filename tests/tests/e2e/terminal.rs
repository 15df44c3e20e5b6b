//! What a person sees on a terminal.

use crate::support::Place;

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
