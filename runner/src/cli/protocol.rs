//! `makima protocol`: the wire by hand.

use std::io::{self, BufRead as _, Write as _};

use makima_core::protocol::{DaemonCommand, DaemonMessage, Unreadable, schema};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::args::{Direction, ProtocolCommand};
use super::{print, record};
use crate::report::{FAILED, Failure};

pub(super) async fn protocol(command: ProtocolCommand) -> Result<(), Failure> {
    match command {
        ProtocolCommand::Record(args) => record::record(args).await,
        ProtocolCommand::Check { direction } => check(direction),
        ProtocolCommand::Schema => {
            // Made of strings, numbers and lists: it can always be written.
            print::line(&serde_json::to_string_pretty(&schema()).unwrap_or_default());
            Ok(())
        }
    }
}

/// A command as it would be sent.
fn command(line: &str) -> Result<String, Unreadable> {
    DaemonCommand::read(line).map(|command| command.write())
}

/// A message as it would be sent.
fn message(line: &str) -> Result<String, Unreadable> {
    DaemonMessage::read(line).map(|message| message.write())
}

/// A line of a recording, with its frame as makima would send it.
fn recorded(line: &str) -> Result<String, String> {
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line<'a> {
        t: u64,
        dir: &'a str,
        #[serde(borrow)]
        frame: &'a RawValue,
    }
    let told = |why: serde_json::Error| format!("no line of a recording: {why}");
    let line: Line<'_> = serde_json::from_str(line).map_err(told)?;
    let frame = match line.dir {
        "in" => command(line.frame.get()),
        "out" => message(line.frame.get()),
        _ => return Err("no line of a recording: `dir` is `in` or `out`".to_owned()),
    };
    let frame = frame.map_err(|why| format!("its frame, {why}"))?;
    let frame = RawValue::from_string(frame).map_err(told)?;
    serde_json::to_string(&Line { frame: &frame, ..line }).map_err(told)
}

fn check(direction: Direction) -> Result<(), Failure> {
    let read = |line: &str| -> Result<String, String> {
        match direction {
            Direction::Commands => command(line).map_err(|why| why.to_string()),
            Direction::Messages => message(line).map_err(|why| why.to_string()),
            Direction::Recording => recorded(line),
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
