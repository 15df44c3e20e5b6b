//! Which subtask is meant: by its id, by as much of the id as no other's begins with, or by its name.

use uuid::Uuid;

use makima_core::policy;
use makima_core::protocol::BranchList;

use super::{Merge, Mesh, MeshError};
use crate::rest::Task;

/// Tasks that are listed where a name does not say which.
const SHOWN: usize = 10;

impl Mesh {
    /// The ids of the subtasks that are meant. The server is only asked where something else than ids is given.
    ///
    /// # Errors
    /// There is none of that name or several are, or the server is away.
    pub async fn resolve_all<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<Uuid>, MeshError> {
        let mut tasks = None;
        let mut ids = Vec::new();
        for name in names {
            let name = name.as_ref().trim();
            if let Ok(id) = Uuid::try_parse(name) {
                ids.push(id);
                continue;
            }
            if tasks.is_none() {
                tasks = Some(self.list().await?.body);
            }
            ids.push(find(tasks.as_deref().unwrap_or_default(), name).map_err(MeshError::Name)?);
        }
        Ok(ids)
    }

    /// The same for one.
    ///
    /// # Errors
    /// There is none of that name or several are, or the server is away.
    pub async fn resolve(&self, name: &str) -> Result<Uuid, MeshError> {
        match self.resolve_all(&[name]).await?.as_slice() {
            [id] => Ok(*id),
            _ => Err(MeshError::Name(format!("no subtask is called `{name}`"))),
        }
    }
}

impl Mesh {
    /// The branch that is meant: by its own name, or by its subtask's, of those that have one. What is neither is left as it is:
    /// the daemon says so.
    ///
    /// # Errors
    /// Several are called so, the server is away, or the daemon does not say in time which branches there are.
    pub async fn branch(&self, name: &str, wait: u64) -> Result<String, MeshError> {
        if name.starts_with(policy::PREFIX) {
            return Ok(name.to_owned());
        }
        let known = self.merge::<BranchList>(Merge::Branches, wait).await?.body.branches;
        if known.iter().any(|branch| branch.name == name) {
            return Ok(name.to_owned());
        }
        let branch = |task: &Task| known.iter().find(|branch| branch.task_id == Some(task.id));
        let mut tasks = self.list().await?.body;
        // Deeper down others may be called the same.
        tasks.retain(|task| branch(task).is_some());
        if matching(&tasks, name).is_empty() {
            return Ok(name.to_owned());
        }
        let id = find(&tasks, name).map_err(MeshError::Name)?;
        let of_it = known.into_iter().find(|branch| branch.task_id == Some(id));
        Ok(of_it.map_or_else(|| name.to_owned(), |branch| branch.name))
    }
}

/// Those of that name, else those whose ids begin so.
fn matching<'a>(tasks: &'a [Task], name: &str) -> Vec<&'a Task> {
    let named: Vec<&Task> = tasks.iter().filter(|task| task.name == name).collect();
    let begin = name.to_ascii_lowercase();
    if named.is_empty() { tasks.iter().filter(|task| task.id.to_string().starts_with(&begin)).collect() } else { named }
}

/// The one that is meant.
fn find(tasks: &[Task], name: &str) -> Result<Uuid, String> {
    if name.is_empty() {
        return Err("it is not said which subtask is meant: name it, or give its id".to_owned());
    }
    match matching(tasks, name).as_slice() {
        [one] => Ok(one.id),
        [] => Err(format!("no subtask is called `{name}`, and no subtask's id begins so")),
        several => {
            let mut lines: Vec<String> = several
                .iter()
                .take(SHOWN)
                .map(|task| format!("{} ({}, {})", task.id, task.name, task.status))
                .collect();
            if several.len() > SHOWN {
                lines.push(format!("and {} more", several.len().saturating_sub(SHOWN)));
            }
            Err(format!("`{name}` may be any of {}: {}; give the whole id", several.len(), lines.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, name: &str) -> Task {
        let text = format!(r#"{{"id":"{id}","name":"{name}","status":"done","createdAt":"2026-01-01T00:00:00.000Z"}}"#);
        serde_json::from_str(&text).expect("a task")
    }

    fn tasks() -> Vec<Task> {
        vec![
            task("019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11", "parser"),
            task("019f0c3b-7b1e-7c54-9d55-0a8a5d0a4f12", "tests"),
            task("019f0c3c-7b1e-7c54-9d55-0a8a5d0a4f13", "tests"),
            task("029f0c3c-7b1e-7c54-9d55-0a8a5d0a4f14", "019f0c3a"),
        ]
    }

    /// Protects subtasks from what is meant for another.
    #[test]
    fn one_that_could_be_several_is_none() {
        let several = find(&tasks(), "tests").expect_err("two are called so");
        assert!(several.contains("a4f12") && several.contains("a4f13"), "{several}");
        assert!(find(&tasks(), "019f").expect_err("three ids begin so").contains("any of 3"));
        assert!(find(&tasks(), "lexer").expect_err("there is none").contains("no subtask is called `lexer`"));
        assert!(find(&tasks(), "").is_err());
    }

    #[test]
    fn a_name_goes_before_the_beginning_of_an_id() {
        let ending = |name: &str| find(&tasks(), name).expect("one").to_string();
        assert!(ending("parser").ends_with("4f11"));
        assert!(ending("019F0C3B").ends_with("4f12"));
        assert!(ending("019f0c3a").ends_with("4f14"));
    }
}
