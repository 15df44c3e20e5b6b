//! Where an agent keeps a conversation, and what stands there. Older versions of Claude Code find one by its name only from the folder in which it
//! began; all of them take the path of its file.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use makima_core::agent::claude::{is_said, recall as recalls};
use makima_core::agent::{Conversation, GoingOn};
use makima_core::id::TaskId;
use uuid::Uuid;

/// Lines of a file that are longer are no messages of users.
const LINE: u64 = 16 << 20;

/// The file of a conversation that is called so, as the agent is told by these variables where it keeps them; its name where
/// no file is found. Blocks.
pub(super) fn find(conversation: TaskId, env: &[(OsString, OsString)]) -> OsString {
    let name = conversation.to_string();
    file(&name, env).map_or_else(|| name.into(), OsString::from)
}

/// The names of what was left of a conversation and stands in it all the same; none where it is not found, or cannot be read.
/// One in which nothing was said yet as its agent was killed is put aside, where it is to begin: it would be in the way. Blocks.
pub(super) fn recall(conversation: &Conversation, env: &[(OsString, OsString)]) -> Option<Vec<Uuid>> {
    let path = file(&conversation.id.to_string(), env)?;
    let mut lines = BufReader::new(File::open(&path).ok()?);
    let (mut known, mut line, mut any) = (BTreeSet::new(), Vec::new(), false);
    while lines.by_ref().take(LINE).read_until(b'\n', &mut line).ok()? > 0 {
        let text = String::from_utf8_lossy(&line);
        any = any || is_said(&text);
        recalls(&text, &conversation.left, &mut known);
        line.clear();
    }
    if !any && conversation.how == GoingOn::Begins {
        fs::rename(&path, path.with_extension("jsonl.unused")).ok()?;
        return None;
    }
    Some(known.into_iter().collect())
}

fn file(name: &str, env: &[(OsString, OsString)]) -> Option<PathBuf> {
    let said = |variable: &str| env.iter().rev().find(|(known, _)| known == OsStr::new(variable)).map(|(_, it)| it);
    let folder = said("CLAUDE_CONFIG_DIR").map(PathBuf::from);
    let folder = folder.or_else(|| said("HOME").map(|home| Path::new(home).join(".claude")))?;
    newest(&folder.join("projects"), name)
}

/// A folder for each folder in which an agent worked, a file for each conversation.
fn newest(projects: &Path, name: &str) -> Option<PathBuf> {
    let folders = fs::read_dir(projects).ok()?.filter_map(Result::ok);
    let files = folders.map(|folder| folder.path().join(format!("{name}.jsonl")));
    let changed = |path: PathBuf| {
        let facts = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some((facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), path))
    };
    files.filter_map(changed).max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use makima_core::agent::Utterance;

    use super::*;

    const TASK: TaskId = TaskId(uuid::Uuid::from_u128(7));

    fn variables(all: &[(&str, &Path)]) -> Vec<(OsString, OsString)> {
        all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    /// Protects a conversation from not being found in the folder of another task.
    #[test]
    fn the_file_is_found_wherever_the_agent_keeps_it() {
        let place = tempfile::tempdir().unwrap();
        let (home, own) = (place.path().join("home"), place.path().join("own"));
        let env = variables(&[("HOME", &home)]);
        assert_eq!(find(TASK, &env), OsString::from(TASK.to_string()), "there is none");
        assert_eq!(find(TASK, &[]), OsString::from(TASK.to_string()), "nor is it known where they are");
        let file = |folder: &Path, project: &str| {
            let project = folder.join("projects").join(project);
            fs::create_dir_all(&project).unwrap();
            let file = project.join(format!("{TASK}.jsonl"));
            fs::write(&file, "{}").unwrap();
            file
        };
        let old = file(&home.join(".claude"), "-w-1");
        fs::create_dir_all(home.join(".claude/projects/-w-2")).unwrap();
        assert_eq!(find(TASK, &env), OsString::from(&old));
        let newer = file(&home.join(".claude"), "-w-3");
        let past = SystemTime::now() - std::time::Duration::from_secs(60);
        fs::File::options().write(true).open(&old).unwrap().set_modified(past).unwrap();
        assert_eq!(find(TASK, &env), OsString::from(newer));
        let own_file = file(&own, "-w-1");
        let env =
            variables(&[("CLAUDE_CONFIG_DIR", &place.path().join("no")), ("HOME", &home), ("CLAUDE_CONFIG_DIR", &own)]);
        assert_eq!(find(TASK, &env), OsString::from(own_file), "the last word counts");
    }

    /// Protects what was said from being said again, whatever else stands in the file.
    #[test]
    fn what_stands_in_the_file_is_recalled() {
        let place = tempfile::tempdir().unwrap();
        let env = variables(&[("CLAUDE_CONFIG_DIR", place.path())]);
        let said = |n: u128| Utterance { name: Uuid::from_u128(n), text: format!("text {n}") };
        let conversation =
            Conversation { id: TASK, session: None, how: GoingOn::Resumes, plan: None, left: vec![said(1), said(2)] };
        assert_eq!(recall(&conversation, &env), None, "there is none");
        let project = place.path().join("projects/-w");
        fs::create_dir_all(&project).unwrap();
        let line = |n: u128| {
            let name = Uuid::from_u128(n);
            format!("{{\"type\":\"user\",\"uuid\":\"{name}\",\"message\":{{\"content\":\"text {n}\"}}}}\n")
        };
        let mut bytes = b"\xff no text\n".to_vec();
        bytes.extend(format!("{}\n", "x".repeat(20 << 20)).into_bytes());
        bytes.extend(line(2).into_bytes());
        bytes.extend(line(3).into_bytes());
        bytes.extend(b"{ cut");
        fs::write(project.join(format!("{TASK}.jsonl")), bytes).unwrap();
        assert_eq!(recall(&conversation, &env), Some(vec![Uuid::from_u128(2)]));
    }

    /// Protects a task from a conversation in which nothing was said before its agent was killed: it can neither be gone on with
    /// nor begun while its file is there.
    #[test]
    fn one_in_which_nothing_was_said_is_put_aside_where_it_is_to_begin() {
        let place = tempfile::tempdir().unwrap();
        let env = variables(&[("CLAUDE_CONFIG_DIR", place.path())]);
        let project = place.path().join("projects/-w");
        fs::create_dir_all(&project).unwrap();
        let path = project.join(format!("{TASK}.jsonl"));
        let of = |how| Conversation { id: TASK, session: None, how, plan: None, left: Vec::new() };
        for nothing in ["", "{\"type\":\"queue-operation\",\"content\":\"hi\"}\n{\"type\":\"user\",\"cut"] {
            fs::write(&path, nothing).unwrap();
            assert_eq!(recall(&of(GoingOn::Forks), &env), Some(vec![]), "somebody is at it");
            assert_eq!(recall(&of(GoingOn::Begins), &env), None);
            assert!(!path.exists());
        }
        fs::write(&path, "{\"type\":\"user\",\"message\":{}}\n").unwrap();
        assert_eq!(recall(&of(GoingOn::Begins), &env), Some(vec![]));
        assert!(path.exists());
    }
}
