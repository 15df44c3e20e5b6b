//! The output logs of tasks as a journal tells of them.

use std::collections::BTreeMap;

use makima_core::id::{EffectId, TaskId};
use makima_core::input::{Chunk, Stream};

/// Those that one life of the daemon has read.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs(BTreeMap<TaskId, Output>);

#[derive(Clone, Debug, Default)]
struct Output {
    /// Where the log ends for good, and the last effect that was asked for before that was told.
    end: Option<(u64, EffectId)>,
    /// Where the last stretch ended, and whose line goes on there.
    last: Option<(u64, Option<Stream>)>,
}

/// A read, as it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) id: EffectId,
    pub(super) from: u64,
    pub(super) cancelled: bool,
}

impl Outputs {
    /// Nobody writes to the log of this task any more. `asked`: the last effect by then.
    pub(super) fn emptied(&mut self, task: TaskId, end: u64, asked: EffectId) -> Result<(), String> {
        let output = self.0.entry(task).or_default();
        match output.end {
            Some((before, _)) if before != end => Err(format!("the log that ended at {before} ends at {end}")),
            Some(_) => Ok(()),
            None => {
                output.end = Some((end, asked));
                Ok(())
            }
        }
    }

    /// A stretch of the log was read.
    pub(super) fn read(&mut self, task: TaskId, read: Read, chunk: &Chunk) -> Result<(), String> {
        let output = self.0.entry(task).or_default();
        let Chunk { from, to, log, closed, .. } = *chunk;
        if from != read.from {
            return Err(format!("a stretch begins at {from}, and was asked for from {}", read.from));
        }
        if to < from {
            return Err(format!("a stretch goes from {from} back to {to}"));
        }
        if to == from {
            let may = closed || read.cancelled;
            return if may { Ok(()) } else { Err("a log ends that is not closed".to_owned()) };
        }
        if to > log {
            return Err(format!("a stretch ends at {to}, and the log reaches to {log}"));
        }
        if let Some((end, asked)) = output.end {
            if log > end {
                return Err(format!("a log that ended at {end} reaches to {log}"));
            }
            if read.id > asked && !(closed && log == end) {
                return Err(format!("the log ended at {end}, and now {log} is not its end"));
            }
        }
        parts(chunk)?;
        // What stands for a stretch that is gone ends the line before it by itself.
        let ends_it = chunk.begun.is_none() && chunk.parts.first().is_some_and(|part| part.text.starts_with('\n'));
        if let Some((_, begun)) = output.last.filter(|(at, _)| *at == from)
            && begun != chunk.begun
            && !ends_it
        {
            return Err(format!("the line of {begun:?} goes on at {from}, and not that of {:?}", chunk.begun));
        }
        output.last = chunk.parts.last().filter(|part| part.to == to).map(|part| {
            let goes_on = part.line_end != Some(to);
            (to, goes_on.then_some(part.stream))
        });
        Ok(())
    }
}

/// The parts of a stretch lie in it, one behind the other.
fn parts(chunk: &Chunk) -> Result<(), String> {
    let mut at = chunk.from;
    for part in &chunk.parts {
        if part.to < at || part.to > chunk.to {
            return Err(format!("a part ends at {}, behind {at} and before {}", part.to, chunk.to));
        }
        if part.line_end.is_some_and(|end| end < at || end > part.to) {
            return Err(format!("a line ends at {:?}, in a part from {at} to {}", part.line_end, part.to));
        }
        at = part.to;
    }
    Ok(())
}
