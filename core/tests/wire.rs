//! The wire, byte for byte: lines as existing programs' own serializers write them.

use makima_core::protocol::{DaemonCommand, DaemonMessage};

const COMMANDS: &str = include_str!("vectors/commands.ndjson");
const MESSAGES: &str = include_str!("vectors/messages.ndjson");
const OLD: &str = include_str!("vectors/commands-old-servers.ndjson");

#[test]
fn commands_come_back_as_they_were() {
    for line in COMMANDS.lines() {
        assert_eq!(DaemonCommand::read(line).expect(line).write(), line);
    }
}

#[test]
fn messages_come_back_as_they_were() {
    for line in MESSAGES.lines() {
        assert_eq!(DaemonMessage::read(line).expect(line).write(), line);
    }
}
