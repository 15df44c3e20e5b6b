//! `makima protocol check`: the wire by hand.

use crate::support::Place;

const COMMANDS: &str = include_str!("../../../core/tests/vectors/commands.ndjson");
const MESSAGES: &str = include_str!("../../../core/tests/vectors/messages.ndjson");
const OLD: &str = include_str!("../../../core/tests/vectors/commands-old-servers.ndjson");

#[test]
fn every_line_comes_back_as_makima_would_send_it() {
    let place = Place::new();
    for (direction, lines) in [("commands", COMMANDS), ("messages", MESSAGES)] {
        let done = place.makima(["protocol", "check", direction]).stdin(lines).done().code(0);
        assert_eq!(done.bytes(), lines.as_bytes(), "{direction}");
        assert_eq!(done.err(), "");
    }
    let done = place.makima(["protocol", "check", "commands"]).stdin(OLD).done().code(0);
    assert_eq!(done.out().lines().count(), OLD.lines().count());
    assert!(
        done.out().lines().all(|line| line.contains(r#""copyFiles":null"#)),
        "what older servers leave out is there"
    );
    assert!(!done.out().contains("aFieldOfTomorrow"));
    // A file without a newline at its end, and one with the line ends of another system.
    let lines = COMMANDS.trim_end().replace('\n', "\r\n");
    let done = place.makima(["protocol", "check", "commands"]).stdin(lines).done().code(0);
    assert_eq!(done.bytes(), COMMANDS.as_bytes());
}

#[test]
fn lines_that_cannot_be_read_are_named_with_number_place_and_reason() {
    let place = Place::new();
    let good = COMMANDS.lines().next().expect("a line");
    let mut lines = format!("{{\"type\":\"pauseTask\"}}\n{good}\nnonsense\n{{\"type\":\"unheardOf\"}}\n").into_bytes();
    lines.extend_from_slice(b"{\"type\":\"\xff\"}\n");
    lines.extend_from_slice(good.as_bytes());
    let done = place.makima(["protocol", "check", "commands"]).stdin(lines).done().code(1);
    assert_eq!(done.out(), format!("{good}\n{good}\n"), "the others are written back");
    let expected = "line 1, column 20: `pauseTask`: missing field `taskId`\nline 3, not a JSON object\n\
                    line 4, `unheardOf`: unknown type\nline 5, column 10: not valid UTF-8\n";
    assert_eq!(done.err(), expected);
    // What goes one way is nothing that goes the other.
    let done = place.makima(["protocol", "check", "messages"]).stdin(good).done().code(1);
    drop(done.noted(&["line 1, `authenticated`: unknown type"]));
    place.makima(["protocol", "check", "sideways"]).done().code(2).noted(&["commands", "messages"]);
}
