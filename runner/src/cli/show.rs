//! Tasks as people read them.

use console::style;

use super::print;
use crate::rest::Task;

/// A line a task.
pub(super) fn table(tasks: &[Task]) {
    if tasks.is_empty() {
        return print::note("no tasks");
    }
    print::line(&format!("{:36}  {:11}  {:20}  NAME", "ID", "STATUS", "CREATED"));
    for task in tasks {
        let created = task.created_at.get(..19).unwrap_or(&task.created_at);
        let (status, name) = (print::tame(&task.status), print::tame(&task.name));
        print::line(&format!("{:36}  {status:11}  {created:20}  {name}", task.id));
        if let Some(what) = &task.needs_person {
            let line = format!("{:36}  needs a person: {}", "", print::tame(what));
            print::line(&style(line).yellow().to_string());
        }
    }
}

/// One task, a fact a line.
pub(super) fn details(task: &Task) {
    let fact = |name: &str, value: &str| print::line(&format!("{name:8} {}", print::tame(value)));
    fact("id", &task.id.to_string());
    fact("name", &task.name);
    fact("status", &task.status);
    if let Some(what) = &task.needs_person {
        fact("needs", &format!("a person: {what}"));
    }
    if let Some(error) = &task.error {
        fact("error", error);
    }
    if let Some(branch) = &task.branch {
        fact("branch", branch);
    }
    task.after.iter().for_each(|need| fact("after", &need.to_string()));
    fact("created", &task.created_at);
    if let Some(ended) = &task.ended_at {
        fact("ended", ended);
    }
}
