//! `makima mesh wait`: until subtasks have ended, however long that takes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::cli::args::WaitArgs;
use crate::cli::print;
use crate::mesh::{Mesh, Until, Waited};
use crate::report::{FAILED, Failure};
use crate::rest::Task;

/// How long one question waits, in seconds. What ends between two of them is seen with the next answer, and where any end is waited
/// for, at the end of that one's wait.
const ONE: u64 = 30;
const ONE_OF_ANY: u64 = 5;

/// For so long without a break the server may be away, or started anew and without its daemon.
const TROUBLE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn wait(mesh: &Mesh, args: &WaitArgs) -> Result<(), Failure> {
    let ids = mesh.resolve_all(&args.ids).await?;
    let until = if args.any { Until::Any } else { Until::All };
    let begun = Instant::now();
    // How they stand now: for `any` only what ends from here on counts.
    let first = mesh.wait(until, &ids, 0).await?;
    let open: BTreeSet<Uuid> = first.body.tasks.iter().filter(|task| !has_ended(task)).map(|task| task.id).collect();
    let mut answer = first;
    let mut troubled: Option<Instant> = None;
    let one = if args.any { ONE_OF_ANY } else { ONE };
    let over = loop {
        if is_over(&answer.body, until, &open) {
            break true;
        }
        let left = args.timeout.map(|seconds| Duration::from_secs(seconds).saturating_sub(begun.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            break false;
        }
        // A part of a second is waited for as a whole one.
        let seconds = left.map_or(one, |left| left.as_millis().div_ceil(1000).try_into().unwrap_or(one)).min(one);
        match mesh.wait(until, &ids, seconds).await {
            Ok(new) => (answer, troubled) = (new, None),
            Err(error) if error.may_pass() && troubled.is_none_or(|since| since.elapsed() < TROUBLE) => {
                if troubled.is_none() {
                    print::note(&format!("{error}; asking again"));
                }
                troubled.get_or_insert_with(Instant::now);
                sleep(left.map_or(PAUSE, |left| left.min(PAUSE))).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    tell(&answer.body, over, args.json);
    conclude(&answer.body.tasks, args.any.then_some(&open), over)
}

const fn has_ended(task: &Task) -> bool {
    task.success.is_some()
}

/// The server says so; or one has ended between two questions, which to the second one is nothing new.
fn is_over(answer: &Waited, until: Until, open: &BTreeSet<Uuid>) -> bool {
    match until {
        Until::All => answer.over,
        Until::Any => answer.over || answer.tasks.iter().any(|task| has_ended(task) && open.contains(&task.id)),
    }
}

fn tell(waited: &Waited, over: bool, json: bool) {
    if json {
        return print::json(&json!({ "over": over, "tasks": waited.tasks }));
    }
    for task in &waited.tasks {
        let why = task.error.as_deref().map(|why| format!("  {}", print::tame(why))).unwrap_or_default();
        let (status, name) = (print::tame(&task.status), print::tame(&task.name));
        print::line(&format!("{}  {status:11}  {name}{why}", task.id));
    }
}

/// Whether it went well: for `any` with what has ended since, where something has.
fn conclude(tasks: &[Task], open: Option<&BTreeSet<Uuid>>, over: bool) -> Result<(), Failure> {
    if !over {
        return Err(Failure::failed("the time is over, and they have not ended").hint("wait longer with --timeout"));
    }
    let new: Vec<&Task> = tasks.iter().filter(|task| open.is_some_and(|open| open.contains(&task.id))).collect();
    let counted = if new.iter().any(|task| has_ended(task)) { new } else { tasks.iter().collect() };
    if counted.iter().any(|task| task.success == Some(false)) { Err(Failure::silent(FAILED)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u128, success: Option<bool>) -> Task {
        let text = serde_json::json!({ "id": Uuid::from_u128(n), "name": "t", "status": "s", "success": success, "createdAt": "" });
        serde_json::from_value(text).expect("a task")
    }

    /// Protects a script that waits for one after the other from missing what ends while it does not ask.
    #[test]
    fn what_ends_between_two_questions_counts() {
        let open = BTreeSet::from([Uuid::from_u128(1), Uuid::from_u128(2)]);
        let answer = |one| Waited { over: false, tasks: vec![task(1, one), task(2, None), task(3, Some(false))] };
        assert!(!is_over(&answer(None), Until::Any, &open));
        assert!(is_over(&answer(Some(true)), Until::Any, &open));
        assert!(!is_over(&answer(Some(true)), Until::All, &open));
    }

    /// Protects a script from an exit code that an older failure has made.
    #[test]
    fn of_any_what_has_ended_since_decides() {
        let open = BTreeSet::from([Uuid::from_u128(1)]);
        let tasks = [task(1, Some(true)), task(3, Some(false))];
        assert!(conclude(&tasks, Some(&open), true).is_ok());
        assert!(conclude(&tasks, None, true).is_err_and(|failure| failure.code == 1));
        assert!(conclude(&tasks, Some(&BTreeSet::new()), true).is_err());
        assert!(conclude(&tasks, Some(&open), false).is_err_and(|failure| failure.message.contains("time is over")));
    }
}
