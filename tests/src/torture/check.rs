//! What must be true of a task that has ended, by the server's own store and the agent's own marks; and what it may have
//! failed by.

use std::time::Instant;

use makima_tests::real::{Failure, Lines, Marks};
use serde_json::Value;

use super::graph::UNWRITTEN;
use super::output::{self, Printed};
use super::people::People;

/// How often the events of a task are asked for.
const TRIES: usize = 20;

/// How a task has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    /// Well, and its work was handed over, or not.
    Well { handed_over: bool },
    /// It failed, and may be gone on from.
    Failed { has_work: bool },
    /// It never began, as one that it comes after failed.
    InVain,
}

/// One attempt at a job.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) begun: Instant,
}

/// Checks a task that has ended; `lines` are those of its agent, where they are numbered.
pub(crate) fn ended(
    people: &People<'_>,
    attempt: &Attempt,
    lines: Option<&Lines>,
    task: &Value,
) -> Result<Went, Failure> {
    let id = &attempt.id;
    let wrong = |what: String| people.ledger.wrong(format!("task {id}: {what}: {task}"));
    let (status, error) = (task["status"].as_str().unwrap_or_default(), task["error"].as_str());
    let is_well = status == "done";
    if task["success"] != is_well || is_well != error.is_none() {
        wrong("it says two things of its end".to_owned());
    }
    let marks = Marks::read(&people.marks(), id)?;
    if marks.started.len() > 1 || marks.ended.len() > marks.started.len() {
        wrong(format!("its agent was started several times: {marks:?}"));
    }
    if let Some(pid) = marks.running(id) {
        wrong(format!("its agent, process {pid}, still runs"));
    }
    let events = events(people, id)?;
    let ends = ends(&events);
    if ends != 1 {
        wrong(format!("it has {ends} ends"));
    }
    let excuse = people.ledger.excuse(id, attempt.begun);
    if let Some(lines) = lines {
        let text = people.text(&format!("/api/v1/tasks/{id}/output"))?;
        let printed = match marks.ended.first() {
            _ if excuse.supervisor => Printed::Any,
            Some((_, count)) => Printed::Just(*count),
            None => Printed::Just(0),
        };
        match output::read(lines, printed, &text) {
            Ok(heard) if heard.missing > 0 && !excuse.disk => wrong(format!("{} bytes are missing", heard.missing)),
            Ok(heard) => people.ledger.count(|counts| {
                counts.lines += heard.lines;
                counts.told_missing += heard.missing;
            }),
            Err(why) => wrong(why),
        }
    }
    if is_well {
        if marks.ended.iter().map(|(code, _)| *code).collect::<Vec<_>>() != [0] {
            wrong(format!("its agent has not ended well: {marks:?}"));
        }
        return Ok(Went::Well { handed_over: handed_over(&events) });
    }
    let error = error.unwrap_or_default();
    if status == "failed" && error.starts_with("needs `") {
        if !marks.started.is_empty() {
            wrong("its agent was started all the same".to_owned());
        }
        return Ok(Went::InVain);
    }
    let is_excused = match error {
        _ if status != "failed" => false,
        "the supervisor was killed" => excuse.supervisor,
        _ if error == format!("the script ended with exit code {UNWRITTEN}") => {
            (excuse.git || excuse.disk) && marks.ended.iter().any(|(code, _)| *code == UNWRITTEN)
        }
        _ => excuse.supervisor || excuse.git || excuse.disk,
    };
    if !is_excused {
        wrong(format!("nothing was done that excuses this end, but {excuse:?}"));
    }
    Ok(Went::Failed { has_work: task["branch"].is_string() })
}

/// From a task's first event to its end, once more where the server ended in the middle of it: such an answer has no
/// length.
fn events(people: &People<'_>, id: &str) -> Result<String, Failure> {
    let mut events = String::new();
    for _ in 0..TRIES {
        events = people.text(&format!("/api/v1/tasks/{id}/events"))?;
        if ends(&events) > 0 {
            break;
        }
        people.pause("an answer to its end")?;
    }
    Ok(events)
}

fn ends(events: &str) -> usize {
    events.lines().filter(|line| *line == "event: end").count()
}

/// Whether the last word of its completion action is that it was done.
fn handed_over(events: &str) -> bool {
    let field = |event: &str, name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    let completions = events.split("\n\n").filter(|event| field(event, "event: ").as_deref() == Some("completion"));
    let last = completions.last().and_then(|event| field(event, "data: ")).unwrap_or_default();
    serde_json::from_str::<Value>(&last).is_ok_and(|data| data["success"] == true)
}

#[cfg(test)]
mod tests {
    use super::handed_over;

    #[test]
    fn the_last_word_of_a_completion_counts() {
        let event =
            |success| format!("event: completion\nid: 1:2\ndata: {{\"success\":{success},\"message\":\"m\"}}\n\n");
        assert!(!handed_over("event: end\nid: 1:2\ndata: {\"success\":true}\n\n"));
        assert!(handed_over(&(event("false") + &event("true"))));
        assert!(!handed_over(&(event("true") + &event("false"))));
    }
}
