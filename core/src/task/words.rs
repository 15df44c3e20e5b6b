//! How a step of a merge went, for people.

use alloc::format;
use alloc::string::String;

use crate::input::Merging;
use crate::limits;
use crate::outbox::MergeWent;
use crate::policy::{counted, shorten};

const NOTHING: &str = "no merge is under way";

/// Of `mergeStart`.
pub(super) fn started(branch: &str, merging: Merging) -> MergeWent {
    let branch = shorten(branch, limits::NAME_SHOWN);
    if let Merging::Open { conflicts, .. } = merging {
        return if conflicts.is_empty() {
            MergeWent::done(format!("`{branch}` is merged into the worktree; `mergeCommit` comes next"))
        } else {
            let message = format!("merging `{branch}`: {} in conflict", counted(conflicts.len() as u64, "file"));
            MergeWent { message, conflicts, ..MergeWent::default() }
        };
    }
    if merging == Merging::NoBranch {
        return MergeWent::refused(format!("there is no branch `{branch}` that could be merged here"));
    }
    went(merging)
}

/// Of `mergeResolve`.
pub(super) fn resolved(merging: Merging) -> MergeWent {
    let went = went(merging);
    if went.conflicts.is_empty() {
        return went;
    }
    let message = format!("it is settled; {} still in conflict", counted(went.conflicts.len() as u64, "file"));
    MergeWent { success: true, message, ..went }
}

/// Of any other.
pub(super) fn went(merging: Merging) -> MergeWent {
    match merging {
        Merging::Nothing => MergeWent::refused(NOTHING),
        Merging::NoBranch => MergeWent::refused("that is no subtask of this task"),
        Merging::Already => MergeWent::done("it is merged already; nothing is to be committed"),
        Merging::InTheWay(files) => {
            MergeWent::refused(format!("changes that are in no commit are in the way: {}", named(&files)))
        }
        Merging::Open { conflicts, .. } if conflicts.is_empty() => {
            MergeWent::done("no file is in conflict any more; `mergeCommit` comes next")
        }
        Merging::Open { conflicts, .. } => MergeWent {
            message: format!("{} in conflict", counted(conflicts.len() as u64, "file")),
            conflicts,
            ..MergeWent::default()
        },
        Merging::Busy(source) => MergeWent::refused(match source {
            Some(source) => {
                format!("a merge of `{}` is under way; commit or abort it first", shorten(&source, limits::NAME_SHOWN))
            }
            None => "something else is under way in the worktree that was not begun from here".into(),
        }),
        Merging::NoConflict => MergeWent::refused("that file is in no conflict"),
        Merging::Committed(commit) => MergeWent { commit: Some(commit), ..MergeWent::done("the merge is committed") },
        Merging::Aborted => aborted(),
        Merging::Skipped => MergeWent::done("it is not to be merged"),
    }
}

/// The merge was taken back.
pub(super) fn aborted() -> MergeWent {
    MergeWent::done("everything is as it was before the merge")
}

/// Some of them by name, the rest by number.
fn named(files: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text: String = files
        .iter()
        .take(SHOWN)
        .map(|file| format!("`{}`", shorten(file, limits::NAME_SHOWN)))
        .collect::<alloc::vec::Vec<_>>()
        .join(", ");
    if let Some(more) = files.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
