//! `makima protocol`: the wire by hand.

use std::io::{self, BufRead as _, Write as _};

use makima_core::protocol::{DaemonCommand, DaemonMessage, Unreadable, schema};

use super::args::{Direction, ProtocolArgs, ProtocolCommand};
use super::print;
use crate::report::{FAILED, Failure};

pub(super) fn protocol(args: &ProtocolArgs) -> Result<(), Failure> {
    match args.command {
        ProtocolCommand::Check { direction } => check(direction),
        ProtocolCommand::Schema => {
            // Made of strings, numbers and lists: it can always be written.
            print::line(&serde_json::to_string_pretty(&schema()).unwrap_or_default());
            Ok(())
        }
    }
}

fn check(direction: Direction) -> Result<(), Failure> {
    let read = |line: &str| -> Result<String, Unreadable> {
        match direction {
            Direction::Commands => DaemonCommand::read(line).map(|command| command.write()),
            Direction::Messages => DaemonMessage::read(line).map(|message| message.write()),
        }
    };
    let mut unreadable = false;
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    for (number, line) in io::stdin().lock().split(b'\n').enumerate() {
        let line = line.map_err(|error| Failure::unusable(format!("stdin cannot be read: {error}")))?;
        let number = number.saturating_add(1);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            continue;
        }
        let written = match std::str::from_utf8(line) {
            Ok(text) => read(text).map_err(|why| format!("line {number}, {why}")),
            Err(error) => {
                Err(format!("line {number}, column {}: not valid UTF-8", error.valid_up_to().saturating_add(1)))
            }
        };
        match written {
            Ok(written) => {
                if writeln!(stdout, "{written}").is_err() {
                    return Err(Failure::silent(FAILED));
                }
            }
            Err(why) => {
                unreadable = true;
                print::note(&why);
            }
        }
    }
    let flushed = stdout.flush();
    if unreadable || flushed.is_err() { Err(Failure::silent(FAILED)) } else { Ok(()) }
}
