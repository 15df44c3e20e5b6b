//! What may be said to each [`Work`]: one table for the world's machine, for the contracts that both executors keep, and
//! for journals of the real one.

use makima_core::effect::{Merge, Work};
use makima_core::input::{Merging, Outcome};

/// Whether this may be said to that.
///
/// # Errors
/// Why not.
pub fn check(work: &Work, outcome: &Outcome) -> Result<(), String> {
    let said = name(outcome);
    let may = match outcome {
        // Whatever it is, it can be called off, or its like be missing.
        Outcome::Failed(_) => true,
        Outcome::NoRoom(_) => wants(work),
        Outcome::Done
        | Outcome::Prepared(_)
        | Outcome::Started { .. }
        | Outcome::NotStarted
        | Outcome::Chunk(_)
        | Outcome::Emptied { .. }
        | Outcome::Committed(_)
        | Outcome::Key(_)
        | Outcome::Measured { .. }
        | Outcome::Checked { .. }
        | Outcome::Branches { .. }
        | Outcome::Merging(_)
        | Outcome::Delivered { .. }
        | Outcome::Cloned { .. }
        | Outcome::Looked { .. }
        | Outcome::Weighed(_) => answers(work).contains(&said),
    };
    if may { Ok(()) } else { Err(format!("`{}` is not answered by `{said}`", work.kind())) }
}

/// What it is answered by where it does not fail.
const fn answers(work: &Work) -> &'static [&'static str] {
    match work {
        Work::Accept { .. }
        | Work::Stdin { .. }
        | Work::Signal { .. }
        | Work::Freeze
        | Work::Thaw
        | Work::Conclude { .. }
        | Work::Delivered { .. }
        | Work::Close
        | Work::Discard
        | Work::Forget
        | Work::Expire { .. }
        | Work::Spare
        | Work::Purge => &["done"],
        Work::Prepare(_) => &["prepared"],
        Work::Start(_) => &["started"],
        Work::Attach => &["started", "not started"],
        Work::Read { .. } => &["chunk"],
        Work::Empty => &["emptied"],
        Work::MakeKey => &["key"],
        Work::Measure => &["measured"],
        Work::Commit(_) => &["committed"],
        Work::Check(_) => &["checked"],
        Work::Deliver(_) => &["delivered"],
        Work::Clone { .. } => &["cloned"],
        Work::Look { .. } => &["looked"],
        Work::Weigh { .. } => &["weighed"],
        Work::Merge(merge) => merged(merge),
    }
}

const fn merged(merge: &Merge) -> &'static [&'static str] {
    match merge {
        Merge::List { .. } => &["branches"],
        Merge::Start { .. } => &["no branch", "merged already", "in the way", "open", "busy"],
        Merge::Status => &["no merge", "open"],
        Merge::Resolve { .. } => &["no merge", "no conflict", "open"],
        Merge::Commit { .. } => &["no merge", "open", "merge committed"],
        Merge::Abort => &["no merge", "busy", "in the way", "aborted"],
        Merge::Skip { .. } => &["no branch", "skipped"],
    }
}

/// Whether it may fail for want of room, on a disk or for another open file, if only to look what is there. A byte on a pipe
/// that is open costs nothing.
#[must_use]
pub const fn wants(work: &Work) -> bool {
    !matches!(work, Work::Stdin { .. })
}

const fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Prepared(_) => "prepared",
        Outcome::Started { .. } => "started",
        Outcome::NotStarted => "not started",
        Outcome::Chunk(_) => "chunk",
        Outcome::Emptied { .. } => "emptied",
        Outcome::Committed(_) => "committed",
        Outcome::Key(_) => "key",
        Outcome::Measured { .. } => "measured",
        Outcome::Checked { .. } => "checked",
        Outcome::Branches { .. } => "branches",
        Outcome::Merging(merging) => match merging {
            Merging::Nothing => "no merge",
            Merging::NoBranch => "no branch",
            Merging::Already => "merged already",
            Merging::InTheWay(_) => "in the way",
            Merging::Open { .. } => "open",
            Merging::Busy(_) => "busy",
            Merging::NoConflict => "no conflict",
            Merging::Committed(_) => "merge committed",
            Merging::Aborted => "aborted",
            Merging::Skipped => "skipped",
        },
        Outcome::Delivered { .. } => "delivered",
        Outcome::Cloned { .. } => "cloned",
        Outcome::Looked { .. } => "looked",
        Outcome::Weighed(_) => "weighed",
        Outcome::Failed(_) => "failed",
        Outcome::NoRoom(_) => "no room",
    }
}
