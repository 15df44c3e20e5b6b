//! Tasks as people read them.

use std::collections::{BTreeMap, BTreeSet};

use console::style;
use uuid::Uuid;

use super::print;
use crate::rest::Task;

/// A line a task, subtasks below the task that leads them.
pub(super) fn table(tasks: &[Task]) {
    if tasks.is_empty() {
        return print::note("no tasks");
    }
    print::line(&format!("{:36}  {:11}  {:20}  NAME", "ID", "STATUS", "CREATED"));
    for (depth, task) in trees(tasks) {
        let created = task.created_at.get(..19).unwrap_or(&task.created_at);
        let (status, name) = (print::tame(&task.status), print::tame(&task.name));
        let name = if depth == 0 { name } else { format!("{}└ {name}", "  ".repeat(depth.saturating_sub(1))) };
        print::line(&format!("{:36}  {status:11}  {created:20}  {name}", task.id));
        if let Some(what) = &task.needs_person {
            let line = format!("{:36}  needs a person: {}", "", print::tame(what));
            print::line(&style(line).yellow().to_string());
        }
    }
}

/// Each task with how deep it stands, behind its parent. A tree stands where the first of its tasks would, so that one that needs
/// a person is still found at the top.
fn trees(tasks: &[Task]) -> Vec<(usize, &Task)> {
    let known: BTreeMap<Uuid, &Task> = tasks.iter().map(|task| (task.id, task)).collect();
    let parent = |task: &Task| task.parent_task_id.and_then(|parent| known.get(&parent).copied());
    let mut children: BTreeMap<Uuid, Vec<&Task>> = BTreeMap::new();
    for task in tasks {
        if let Some(parent) = parent(task) {
            children.entry(parent.id).or_default().push(task);
        }
    }
    let mut placed = BTreeSet::new();
    let mut lines = Vec::new();
    for task in tasks {
        // Who says what is whose child may say that two are each other's.
        let mut climbed = BTreeSet::new();
        let mut root = task;
        while let Some(above) = parent(root).filter(|_| climbed.insert(root.id)) {
            root = above;
        }
        let mut open = vec![(0_usize, root)];
        while let Some((depth, task)) = open.pop() {
            if placed.insert(task.id) {
                lines.push((depth, task));
                let below = children.get(&task.id).into_iter().flatten().rev();
                open.extend(below.map(|child| (depth.saturating_add(1), *child)));
            }
        }
    }
    lines
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
    if let Some(parent) = task.parent_task_id {
        fact("parent", &parent.to_string());
    }
    task.after.iter().for_each(|need| fact("after", &need.to_string()));
    fact("created", &task.created_at);
    if let Some(ended) = &task.ended_at {
        fact("ended", ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u128, parent: Option<u128>) -> Task {
        let parent = parent.map(Uuid::from_u128);
        let text = serde_json::json!({ "id": Uuid::from_u128(n), "name": "t", "status": "s", "createdAt": "", "parentTaskId": parent });
        serde_json::from_value(text).expect("a task")
    }

    fn told(tasks: &[Task]) -> Vec<(usize, u128)> {
        trees(tasks).into_iter().map(|(depth, task)| (depth, task.id.as_u128())).collect()
    }

    /// Protects who looks for what needs a person from having to look below what does not, and sees who leads whom.
    #[test]
    fn subtasks_stand_below_their_parent_and_a_tree_where_its_first_would() {
        let tasks =
            [task(5, Some(3)), task(1, None), task(2, Some(1)), task(3, Some(4)), task(4, None), task(6, Some(4))];
        assert_eq!(told(&tasks), [(0, 4), (1, 3), (2, 5), (1, 6), (0, 1), (1, 2)]);
    }

    /// Protects every task from being left out, whatever a server says of parents.
    #[test]
    fn each_task_is_told_once_whoever_is_said_to_be_its_parent() {
        let tasks = [task(1, Some(2)), task(2, Some(1)), task(3, Some(9)), task(4, Some(4)), task(5, Some(2))];
        let mut ids: Vec<u128> = told(&tasks).into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
    }
}
