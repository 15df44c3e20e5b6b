//! Running what a repository has its work checked by: after the agent's end, in a tree of its own, under a supervisor of
//! its own, with records of their own in `tasks/<id>/checks`.

use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;
use makima_core::effect::{Arg, Check, Launch, Value};
use makima_core::id::TaskId;
use makima_core::input::ExitStatus;
use makima_core::limits;

use super::agent::{Seat, Started};
use super::answer::CANCELLED;
use super::cancel::Cancel;
use super::record::{Folder, forgiving};
use super::supervisor::Found;
use super::task::left;
use super::tree::Ended;
use super::{Hands, blocking};
use crate::home::make_private;
use crate::supervise::failed_first;

/// Their folder in the task's.
const FOLDER: &str = "checks";

/// How long they may take: the core waits a little longer, so that it hears which of them it was.
const LIMIT: Duration = Duration::from_millis(limits::CHECKS.0 - 60_000);

/// What is run once all of them have passed.
const PASSED: &str = "true";

/// Runs them up to the first that fails. Says which one did, if one did.
pub(super) async fn check(
    hands: &Arc<Hands>,
    task: TaskId,
    wanted: Check,
    cancel: &Cancel,
) -> Result<Option<String>, String> {
    let folder = Folder::at(&Folder::of(&hands.home, task).file(FOLDER));
    let place = folder.clone();
    blocking(move || clear(&place)).await.flatten()?;
    let seat = Seat::take_in(hands, task, &folder).await?;
    let env = wanted.env.into_iter().map(|(name, value)| (name, Value::Text(value))).collect();
    let launch = Launch { setup: wanted.commands, env, ..Launch::script(vec![Arg::Text(PASSED.to_owned())]) };
    let started = seat.start_in(hands, task, (&folder, LIMIT), launch, cancel).await?;
    let Started { mut child, found, tree } = started;
    let status = match found {
        Found::Runs(link, ended) => {
            let status = tokio::select! {
                status = ended => status.map_err(|_| "whoever supervised them was killed".to_owned()),
                () = cancel.set() => Err(CANCELLED.to_owned()),
            };
            // Nothing more is to be heard of them.
            drop(link);
            status
        }
        Found::Ended(_, status) => Ok(status),
        Found::Nothing => Err("they were not started".to_owned()),
        Found::Lost(why) => Err(why.to_owned()),
    };
    let ended = blocking(move || tree.end()).await?;
    let _ = child.wait().await;
    match (status?, ended) {
        (_, Ended::Left(pids)) => Err(format!("processes of theirs cannot be ended: {pids:?}")),
        (_, Ended::Owing(why)) => Err(format!("the end of their output cannot be written down: {why}")),
        (ExitStatus::Code(0), Ended::Empty(_)) => Ok(None),
        (ExitStatus::NotSetUp(code), Ended::Empty(_)) => {
            let why = failed_first(folder.path()).map(|(_, why)| why);
            Ok(Some(format!("the check {}", why.unwrap_or_else(|| format!("failed with exit code {code}")))))
        }
        (ExitStatus::Code(code), Ended::Empty(_)) => Ok(Some(format!("the checks ended with exit code {code}"))),
        (ExitStatus::Signal(signal), Ended::Empty(_)) => Ok(Some(format!("the checks were ended by signal {signal}"))),
        (ExitStatus::Unknown | ExitStatus::Lost, Ended::Empty(_)) => Err("how they ended is not known".to_owned()),
    }
}

/// Ends what an earlier life of the daemon has left of them. Blocks.
pub(super) fn end(task: &Folder) -> Result<(), String> {
    let folder = Folder::at(&task.file(FOLDER));
    match left(&folder)?.map(|tree| tree.end()) {
        Some(Ended::Left(pids)) => Err(format!("processes of earlier checks cannot be ended: {pids:?}")),
        Some(Ended::Owing(why)) => Err(format!("what earlier checks have to say cannot be written down: {why}")),
        Some(Ended::Empty(_)) | None => Ok(()),
    }
}

/// A folder in which nothing has happened yet. Blocks.
fn clear(folder: &Folder) -> Result<(), String> {
    let path = folder.path().to_path_buf();
    let Some(task) = path.parent() else { return Err("its folder is nowhere".to_owned()) };
    end(&Folder::at(task))?;
    let made = forgiving(fs::remove_dir_all(&path)).and_then(|()| make_private(&path));
    made.map_err(|failure| format!("their folder cannot be made: {failure}"))
}
