//! What must hold of what git says of merges: see `crate::fuzz`.

use super::files::{changes, names, stage_line};
use super::list::Found;
use super::look::path_of;
use super::settle::entry_of;
use super::squash::{History, results};
use super::start::Merged;
use crate::executor::refs;

/// Reads it in every way that it is read here.
pub(in crate::executor) fn fuzz(said: &[u8]) {
    let most = said.len();
    let found = changes(said);
    assert!(found.iter().map(|change| change.path.len()).sum::<usize>() <= most);
    assert!(names(said).iter().map(Vec::len).sum::<usize>() <= most);
    assert!(results(said).len() <= most);
    if let Some(merged) = Merged::read(said) {
        assert!(refs::is_oid(&merged.tree));
        for (path, stages) in &merged.stages {
            for (stage, entry) in stages {
                let line = stage_line(entry, *stage, path);
                let line = line.strip_suffix(b"\0").unwrap_or(&line);
                assert_eq!(path_of(line).as_ref(), Some(path));
                assert_eq!(entry_of(line, path, &stage.to_string()).as_ref(), Some(entry));
            }
        }
    }
    let text = String::from_utf8_lossy(said);
    for found in text.lines().filter_map(Found::read) {
        assert!(!found.name.starts_with("refs/"), "{found:?}");
    }
    let at = "1".repeat(40);
    let history = History::read(&text, &at);
    for line in text.lines().take(4) {
        let tip = line.split(' ').next().unwrap_or_default();
        let _ = (history.has(tip), history.roots(tip));
    }
    let _ = history.going_on();
}
