//! Steps in a form that can be written down, read back and taken again: the journal's, and a recording's.
//!
//! A record holds what came in, when, and what went out as a list of words: enough to take the step again and to see
//! whether the same comes of it. Output text is not in it: a record of a stretch of output has the text's hash, and
//! whoever replays gets the text from the task's log, or from the record where it is an exported one.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::digest;
use crate::effect::{Effect, LinkEffect, Work};
use crate::id::TaskId;
use crate::input::{Chunk, Input, Outcome, Part};
use crate::time::Now;

/// One step, as it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number in this journal, from 1, without a gap.
    pub n: u64,
    /// The clocks.
    pub now: Now,
    /// What came in. The text of output is left out.
    pub input: Input,
    /// The hash of that text, where there was some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<u64>,
    /// That text, in an exported record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Vec<Part>>,
    /// What went out, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
    /// The state's digest after the step, now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<u64>,
}

/// A step that was taken again and did not go as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {n}: {what}: recorded {recorded}, and now {now}")]
pub struct Difference {
    /// The record.
    pub n: u64,
    /// What differs.
    pub what: &'static str,
    /// As it is written down.
    pub recorded: String,
    /// As it came now.
    pub now: String,
}

impl Record {
    /// The record of a step that is about to be taken: its effects and its digest come afterwards.
    #[must_use]
    pub fn of(n: u64, now: Now, input: &Input) -> Self {
        let hash = chunk(input).map(|chunk| digest::of(&chunk.parts));
        Self { n, now, input: without_text(input), hash, text: None, effects: Vec::new(), digest: None }
    }

    /// The output text that was taken in, given the task whose it is: to be had from the record itself, else from
    /// `log` (a task, and what was read of it). None where it is not what was taken in, or cannot be had.
    pub fn whole(
        &self,
        daemon: &Daemon,
        log: impl FnOnce(TaskId, &Chunk) -> Option<Vec<Part>>,
    ) -> Option<(Now, Input)> {
        let mut input = self.input.clone();
        if let (Some(hash), Input::Done { id, outcome: Outcome::Chunk(chunk) }) = (self.hash, &mut input) {
            let empty = chunk.from == chunk.to;
            let parts = match &self.text {
                Some(text) => text.clone(),
                None if empty => Vec::new(),
                // An effect that nobody waits for is not looked at.
                None => match daemon.owner(*id) {
                    Some(task) => log(task, chunk)?,
                    None => return Some((self.now, input)),
                },
            };
            if digest::of(&parts) != hash {
                return None;
            }
            chunk.parts = parts;
        }
        Some((self.now, input))
    }

    /// Puts the text of output into the record itself, from the input that was made of it.
    pub fn keep_text(&mut self, input: &Input) {
        self.text = chunk(input).filter(|chunk| !chunk.parts.is_empty()).map(|chunk| chunk.parts.clone());
    }

    /// Compares what came of the step, and the daemon behind it, with what is written down.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, effects: &[Effect], daemon: &mut Daemon) -> Result<(), Difference> {
        let mut line = String::new();
        let differs = |what, recorded: String, now: String| Difference { n: self.n, what, recorded, now };
        for at in 0..self.effects.len().max(effects.len()) {
            line.clear();
            let now = match effects.get(at) {
                // A string takes everything.
                Some(effect) => write!(line, "{effect}").ok().map(|()| line.as_str()),
                None => None,
            };
            let recorded = self.effects.get(at).map(String::as_str);
            if recorded != now {
                let shown = |line: Option<&str>| line.map_or_else(|| "nothing".to_string(), |line| format!("`{line}`"));
                return Err(differs("what was done", shown(recorded), shown(now)));
            }
        }
        let Some(recorded) = self.digest else { return Ok(()) };
        let digest = daemon.digest();
        if recorded == digest {
            return Ok(());
        }
        Err(differs("the digest of the state", format!("{recorded:016x}"), format!("{digest:016x}")))
    }
}

const fn chunk(input: &Input) -> Option<&Chunk> {
    if let Input::Done { outcome: Outcome::Chunk(chunk), .. } = input { Some(chunk) } else { None }
}

/// A copy that does not hold the text of output, which can be long.
fn without_text(input: &Input) -> Input {
    match (input, chunk(input)) {
        (Input::Done { id, .. }, Some(chunk)) => {
            let outcome = Outcome::Chunk(Chunk { parts: Vec::new(), ..*chunk });
            Input::Done { id: *id, outcome }
        }
        _ => input.clone(),
    }
}

/// One line: what was asked for, of whom, and enough to see that it was the same.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(effect) => effect.fmt(f),
            Self::Work { id, task, work } => {
                write!(f, "{} {id} of {task} {:08x}", work.kind(), digest::of(work) as u32)
            }
            Self::Cancel { id } => write!(f, "cancel {id}"),
            Self::Tell(notice) => write!(f, "tell {:08x}", digest::of(&notice.to_string()) as u32),
            Self::Exit(exit) => write!(f, "exit {exit:?}"),
        }
    }
}

impl fmt::Display for LinkEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { epoch, way } => write!(f, "connect {} {way:?}", epoch.0),
            Self::Send { epoch, n, message, envelope, .. } => {
                let hash = digest::of(&(message, envelope)) as u32;
                write!(f, "send {}.{n} {} {hash:08x}", epoch.0, message.kind())
            }
            Self::Output { epoch, n, task, text, pieces, stretch } => {
                let hash = digest::of(&(text, pieces, stretch)) as u32;
                write!(f, "output {}.{n} of {task} {} pieces {hash:08x}", epoch.0, pieces.len())
            }
            Self::Say { epoch, n, said } => write!(f, "say {}.{n} {said:?}", epoch.0),
            Self::Quiesce { epoch } => write!(f, "quiesce {}", epoch.0),
            Self::Ping { epoch, n } => write!(f, "ping {}.{n}", epoch.0),
            Self::Close { epoch } => write!(f, "close {}", epoch.0),
        }
    }
}

impl Work {
    /// What kind of work it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Accept { .. } => "accept",
            Self::Prepare(_) => "prepare",
            Self::Start(_) => "start",
            Self::Attach => "attach",
            Self::Read { .. } => "read",
            Self::Stdin { .. } => "stdin",
            Self::Signal { .. } => "signal",
            Self::Empty => "empty",
            Self::Commit(_) => "commit",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Measure => "measure",
            Self::MakeKey => "make key",
            Self::Check(_) => "check",
            Self::Merge(_) => "merge",
            Self::Deliver(_) => "deliver",
            Self::Clone { .. } => "clone",
            Self::Look { .. } => "look",
            Self::Conclude { .. } => "conclude",
            Self::Delivered { .. } => "delivered",
            Self::Close => "close",
            Self::Discard => "discard",
            Self::Forget => "forget",
            Self::Expire { .. } => "expire",
            Self::Weigh { .. } => "weigh",
            Self::Spare => "spare",
            Self::Purge => "purge",
        }
    }
}
