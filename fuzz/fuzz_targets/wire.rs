//! Whatever comes over the wire is read or refused: never a panic, and what was read is written the same way
//! twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use makima_core::protocol::{DaemonCommand, DaemonMessage};

fuzz_target!(|text: &str| {
    if let Ok(command) = DaemonCommand::read(text) {
        let written = command.write();
        assert_eq!(DaemonCommand::read(&written).as_ref(), Ok(&command), "{written}");
    }
    if let Ok(message) = DaemonMessage::read(text) {
        let written = message.write();
        assert_eq!(DaemonMessage::read(&written).as_ref(), Ok(&message), "{written}");
    }
});
