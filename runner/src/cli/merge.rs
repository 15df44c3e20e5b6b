//! `makima task branches`, `merge`, `retry` and `clone`: what a task's daemon is asked, and what it answers.

use makima_core::protocol::{
    BranchList, CloneWorktreeResult, CompletionActionResult, MergeCompleteCheck, MergeResult, MergeStatusResponse,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{AskArgs, AskManner, CloneArgs, Deed, MergeCommand, RetryArgs};
use super::print;
use super::say::refused;
use super::task::resolve;
use crate::report::{FAILED, Failure};
use crate::rest::{Question, Rest};

/// An answer: printed as it came where that is wanted, and then not again.
pub(super) struct Answer<T> {
    pub(super) body: T,
    pub(super) shown: bool,
}

async fn ask<T: DeserializeOwned>(
    rest: &Rest,
    id: Uuid,
    question: Question<'_>,
    manner: AskManner,
) -> Result<Answer<T>, Failure> {
    let answer = rest.question(id, question, manner.patience).await.map_err(refused)?;
    let Some(text) = answer else {
        return Err(Failure::failed(format!("the daemon has not answered within {} s", manner.patience))
            .hint("it goes on with it: ask later how it stands, or wait longer with --patience"));
    };
    let strange = |error| Failure::failed(format!("the daemon's answer is not understood: {error}"));
    let body = serde_json::from_str(&text).map_err(strange)?;
    if manner.json {
        print::line(&text);
    }
    Ok(Answer { body, shown: manner.json })
}

/// What was done, or why not.
fn conclude(success: bool, message: &str, shown: bool) -> Result<(), Failure> {
    match (success, shown) {
        (true, false) => {
            print::line(&print::tame(message));
            Ok(())
        }
        (true, true) => Ok(()),
        (false, true) => Err(Failure::silent(FAILED)),
        (false, false) => Err(Failure::failed(print::tame(message))),
    }
}

pub(super) async fn branches(rest: &Rest, args: &AskArgs) -> Result<(), Failure> {
    let id = resolve(rest, &args.id).await?;
    tell_branches(&ask(rest, id, Question::Look("branches"), args.manner).await?);
    Ok(())
}

pub(super) fn tell_branches(Answer { body, shown }: &Answer<BranchList>) {
    if *shown {
        return;
    }
    if body.branches.is_empty() {
        return print::note("no branches: this task has no subtasks with work");
    }
    print::line(&format!("{:6}  {:12}  {}", "MERGED", "COMMIT", "BRANCH"));
    for branch in &body.branches {
        let merged = if branch.is_merged { "yes" } else { "no" };
        let (commit, name) = (print::tame(&branch.last_commit), print::tame(&branch.name));
        print::line(&format!("{merged:6}  {commit:12}  {name}  {}", print::tame(&branch.last_commit_message)));
    }
}

pub(super) async fn merge(rest: &Rest, command: MergeCommand) -> Result<(), Failure> {
    match command {
        MergeCommand::Start { ask, branch } => {
            moved(rest, &ask, "merge", json!({ "branch": branch })).await?;
            if !ask.manner.json {
                print::note(&format!(
                    "commit it, if there is something to commit: makima task merge commit {}",
                    ask.id.0
                ));
            }
            Ok(())
        }
        MergeCommand::Status(ask) => status(rest, &ask).await,
        MergeCommand::Resolve { ask, file, side } => {
            moved(rest, &ask, "merge/resolve", json!({ "file": file, "strategy": side.as_str() })).await
        }
        MergeCommand::Commit { ask, message } => {
            moved(rest, &ask, "merge/commit", json!({ "message": message.unwrap_or_default() })).await
        }
        MergeCommand::Abort(ask) => moved(rest, &ask, "merge/abort", json!({})).await,
        MergeCommand::Skip { ask, subtask, reason } => {
            let subtask = resolve(rest, &subtask).await?;
            moved(rest, &ask, "merge/skip", json!({ "subtaskId": subtask, "reason": reason })).await
        }
        MergeCommand::Check(ask) => check(rest, &ask).await,
    }
}

/// A step of a merge.
async fn moved(rest: &Rest, args: &AskArgs, what: &str, body: Value) -> Result<(), Failure> {
    let id = resolve(rest, &args.id).await?;
    tell_step(&ask(rest, id, Question::Do(what, body), args.manner).await?)
}

pub(super) fn tell_step(Answer { body, shown }: &Answer<MergeResult>) -> Result<(), Failure> {
    for file in body.conflicts.iter().flatten().filter(|_| !shown) {
        print::line(&format!("conflict  {}", print::tame(file)));
    }
    conclude(body.success, &body.message, *shown)
}

async fn status(rest: &Rest, args: &AskArgs) -> Result<(), Failure> {
    let id = resolve(rest, &args.id).await?;
    tell_status(&ask(rest, id, Question::Look("merge"), args.manner).await?);
    Ok(())
}

pub(super) fn tell_status(Answer { body, shown }: &Answer<MergeStatusResponse>) {
    if *shown {
        return;
    }
    if !body.in_progress {
        return print::line("no merge is under way");
    }
    let source = body.source_branch.as_deref().map_or_else(|| "a branch".to_owned(), print::tame);
    let how = if body.conflicted_files.is_empty() { "can be committed" } else { "has conflicts" };
    print::line(&format!("a merge of {source} is under way and {how}"));
    body.conflicted_files.iter().for_each(|file| print::line(&format!("conflict  {}", print::tame(file))));
}

async fn check(rest: &Rest, args: &AskArgs) -> Result<(), Failure> {
    let id = resolve(rest, &args.id).await?;
    tell_check(&ask(rest, id, Question::Look("merge/check"), args.manner).await?)
}

pub(super) fn tell_check(Answer { body, shown }: &Answer<MergeCompleteCheck>) -> Result<(), Failure> {
    let MergeCompleteCheck { can_complete, unmerged_branches, merged_count, skipped_count, .. } = body;
    if !*shown {
        unmerged_branches.iter().for_each(|branch| print::line(&format!("unmerged  {}", print::tame(branch))));
    }
    let counts = format!("{merged_count} merged, {skipped_count} skipped");
    let why = if unmerged_branches.is_empty() {
        format!("{counts}; it is not complete: a merge waits for its commit, or the task has none to merge into")
    } else {
        format!("{counts}, {} left to merge", unmerged_branches.len())
    };
    let message = if *can_complete { format!("{counts}; nothing is left to merge") } else { why };
    conclude(*can_complete, &message, *shown)
}

pub(super) async fn retry(rest: &Rest, args: RetryArgs) -> Result<(), Failure> {
    let id = resolve(rest, &args.id).await?;
    let action = match args.action {
        Deed::Branch => "branch",
        Deed::Merge => "merge",
        Deed::Pr => "pr",
    };
    let body = json!({ "action": action, "targetRepoPath": args.target, "targetBranch": args.branch });
    let question = Question::Do("completion", body);
    let Answer { body, shown } = ask::<CompletionActionResult>(rest, id, question, args.manner).await?;
    conclude(body.success, &body.message, shown)?;
    if let Some(url) = body.pr_url.filter(|_| !shown) {
        print::line(&print::tame(&url));
    }
    Ok(())
}

pub(super) async fn clone(rest: &Rest, args: CloneArgs) -> Result<(), Failure> {
    let id = resolve(rest, &args.id).await?;
    let question = Question::Do("clone", json!({ "targetDir": args.to }));
    let Answer { body, shown } = ask::<CloneWorktreeResult>(rest, id, question, args.manner).await?;
    conclude(body.success, &body.message, shown)
}
