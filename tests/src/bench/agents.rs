//! The agents: this program, under another word.

use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Failure;
use super::process::{Gate, now};

/// The word that asks for one.
pub(crate) const WORD: &str = "__agent";

/// The length of a line, without its newline.
pub(crate) const LINE: usize = 200;

/// The length of the time that a line begins with.
pub(crate) const TIME: usize = 20;

/// What an agent writes in one go at most.
const BLOCK: usize = 64 * 1024;

/// What lines look like, and how they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Letters, in blocks.
    Plain,
    /// JSON, which has much to escape, in blocks.
    Json,
    /// Letters, each line by itself.
    Single,
}

impl Shape {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Single => "single",
        }
    }

    /// A line that begins with a time.
    pub(crate) fn line(self, time: u64) -> String {
        let text = match self {
            Self::Plain | Self::Single => "abcdefghijklmnopqrstuvwxyz".repeat(8),
            Self::Json => {
                r#"{"type":"assistant","message":{"role":"assistant","content":[{"type":"text","text":"a\nb"}]}} "#
                    .repeat(2)
            }
        };
        let text: String = text.chars().cycle().take(LINE - TIME - 1).collect();
        format!("{time:0TIME$} {text}")
    }
}

/// `lines COUNT SHAPE GATE`, `beat COUNT MICROSECONDS`, `pulse MICROSECONDS STOP`, `wait GATE`, `pour MEGABYTES SECONDS`,
/// `stamp`, `talk` or `sleep`.
pub(crate) fn run(words: Vec<String>) -> Result<(), Failure> {
    // Not std's, which would look for the lines in what it is given.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["lines", count, shape, gate] => {
            let shapes = [Shape::Plain, Shape::Json, Shape::Single];
            let shape = shapes.into_iter().find(|known| known.word() == *shape).ok_or("no such shape")?;
            Gate::pass(Path::new(gate))?;
            lines(&mut out, count.parse()?, shape)
        }
        ["beat", count, pause] => beat(&mut out, count.parse()?, Duration::from_micros(pause.parse()?)),
        ["pulse", pause, stop] => pulse(&mut out, Duration::from_micros(pause.parse()?), Path::new(stop)),
        ["wait", gate] => Gate::pass(Path::new(gate)),
        ["pour", megabytes, seconds] => pour(&mut out, megabytes.parse()?, seconds.parse()?),
        ["stamp"] => Ok(writeln!(out, "{:0TIME$}", now())?),
        // It is started with more words, which are nothing to it.
        ["talk", ..] => talk(&mut out),
        ["sleep"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        other => Err(format!("no such agent: {other:?}").into()),
    }
}

fn lines(out: &mut File, count: u64, shape: Shape) -> Result<(), Failure> {
    let at_once = if shape == Shape::Single { 1 } else { BLOCK / (LINE + 1) };
    let block = format!("{}\n", shape.line(0)).repeat(at_once);
    let mut left = count;
    if left > 0 {
        writeln!(out, "{}", shape.line(now()))?;
        left -= 1;
    }
    while left > 0 {
        let some = left.min(at_once as u64);
        out.write_all(block.as_bytes().get(..usize::try_from(some)? * (LINE + 1)).unwrap_or_default())?;
        left -= some;
    }
    Ok(())
}

/// Lone lines, each with the time at which it was written.
fn beat(out: &mut File, count: u32, pause: Duration) -> Result<(), Failure> {
    for _ in 0..count {
        std::thread::sleep(pause);
        let line = format!("{:0TIME$}\n", now());
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// Lone lines until the file `stop` is there.
fn pulse(out: &mut File, pause: Duration, stop: &Path) -> Result<(), Failure> {
    while !stop.exists() {
        beat(out, 1, pause)?;
    }
    Ok(())
}

/// So many megabytes of lines each second; then the longest that a write took and all of the time, in nanoseconds.
fn pour(out: &mut File, megabytes: usize, seconds: u64) -> Result<(), Failure> {
    let (each, began, mut longest) = (Duration::from_millis(20), now(), 0);
    let block = format!("{}\n", Shape::Plain.line(0)).repeat(megabytes * 20_000 / (LINE + 1));
    for n in 0..seconds * 50 {
        let due = began + n * u64::try_from(each.as_nanos())?;
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now())));
        let before = now();
        out.write_all(block.as_bytes())?;
        longest = longest.max(now() - before);
    }
    Ok(writeln!(out, "{longest} {}", now() - began)?)
}

/// One that is driven as Claude Code is: the time at which it has read its plan is its result.
fn talk(out: &mut File) -> Result<(), Failure> {
    let mut lines = io::stdin().lock().lines();
    let mut read = || -> Result<Value, Failure> { Ok(serde_json::from_str(&lines.next().ok_or("nothing to read")??)?) };
    let opening = read()?;
    let response = json!({ "subtype": "success", "request_id": opening["request_id"] });
    writeln!(out, "{}", json!({ "type": "control_response", "response": response }))?;
    let mut plan = read()?;
    let came = now();
    plan["isReplay"] = true.into();
    let result = json!({ "type": "result", "subtype": "success", "is_error": false, "result": came.to_string() });
    writeln!(out, "{plan}\n{result}")?;
    // It ends when it is told to.
    lines.next().transpose()?;
    Ok(())
}

/// The time that such a line is the result of.
pub(crate) fn came(line: &str) -> Option<u64> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["result"].as_str()?.parse().ok()
}
