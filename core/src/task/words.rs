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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn files(n: usize) -> Vec<String> {
        (0..n).map(|n| format!("f{n}")).collect()
    }

    fn open(conflicts: usize) -> Merging {
        Merging::Open { source: None, conflicts: files(conflicts) }
    }

    /// Protects people from a merge that is said to have gone otherwise than it did.
    #[test]
    fn a_step_of_a_merge_is_told_as_it_went() {
        let told = |went: MergeWent| (went.success, went.message, went.conflicts.len(), went.commit.is_some());
        let said = |text: &str| String::from(text);
        let begun = |merging| told(started("b", merging));
        let next = "`mergeCommit` comes next";
        assert_eq!(begun(open(0)), (true, format!("`b` is merged into the worktree; {next}"), 0, false));
        assert_eq!(begun(open(2)), (false, said("merging `b`: 2 files in conflict"), 2, false));
        assert_eq!(
            begun(Merging::NoBranch),
            (false, said("there is no branch `b` that could be merged here"), 0, false)
        );
        assert_eq!(begun(Merging::Already), told(went(Merging::Already)));
        assert!(began_well(Merging::Already) && !began_well(Merging::Nothing));
        assert_eq!(told(resolved(open(1))), (true, said("it is settled; 1 file still in conflict"), 1, false));
        assert_eq!(told(resolved(open(0))), told(went(open(0))));
        assert_eq!(told(went(open(0))), (true, format!("no file is in conflict any more; {next}"), 0, false));
        assert_eq!(told(went(open(1))), (false, said("1 file in conflict"), 1, false));
        assert_eq!(told(went(Merging::Committed("c".into()))), (true, said("the merge is committed"), 0, true));
        assert_eq!(told(aborted()), told(went(Merging::Aborted)));
        assert!(aborted().success && went(Merging::Skipped).success && !went(Merging::NoConflict).success);
        let busy = went(Merging::Busy(Some("b".into())));
        assert_eq!(told(busy), (false, said("a merge of `b` is under way; commit or abort it first"), 0, false));
    }

    fn began_well(merging: Merging) -> bool {
        started("b", merging).success
    }

    #[test]
    fn of_many_files_some_are_named() {
        assert_eq!(named(&files(2)), "`f0`, `f1`");
        assert!(named(&files(10)).ends_with("`f9`"));
        assert!(named(&files(12)).ends_with("`f9` and 2 more"));
        let message = went(Merging::InTheWay(files(1))).message;
        assert_eq!(message, "changes that are in no commit are in the way: `f0`");
    }
}
