//! The fast way to write a `taskOutput` and the ordinary one give the same bytes.

use makima_core::protocol::{DaemonMessage, TaskOutput, write_task_output};
use uuid::Uuid;

const TASK: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

#[track_caller]
fn same(output: &str) {
    for is_partial in [false, true] {
        let ordinary = DaemonMessage::from(TaskOutput { task_id: TASK, output: output.to_owned(), is_partial }).write();
        let mut fast = Vec::from("kept");
        write_task_output(&mut fast, TASK, output, is_partial);
        assert_eq!(str::from_utf8(&fast), Ok(format!("kept{ordinary}").as_str()));
    }
}

#[test]
fn every_character_below_256_is_escaped_the_same_at_every_place_of_a_block() {
    for character in (0..256).filter_map(char::from_u32) {
        for before in 0..42 {
            same(&format!("{}{character}tail", "x".repeat(before)));
        }
    }
}

#[test]
fn lines_of_agents_come_out_the_same() {
    same("");
    same("\"");
    same(r#"{"type":"text","text":"a \\"quoted\\" line\\n","path":"C:\\\\x"}"#);
    same(&"\u{1b}[1m\u{65e5}\u{672c}\u{8a9e}\u{1b}[0m \u{1f980} \u{7f}\u{85}\u{2028}\u{fffd}".repeat(20));
    same(&"\\\"".repeat(500));
}
