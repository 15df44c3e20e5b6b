//! What daemons were given, by their journals: nothing that the simulated world could not have given.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::refine::{Segment, Walked, walk};

/// The segments of the journal in a home, oldest first.
fn files(home: &Path) -> Vec<PathBuf> {
    let Ok(all) = std::fs::read_dir(home.join("journal")) else { return Vec::new() };
    let mut files: Vec<PathBuf> = all.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-")));
    files.sort();
    files
}

/// Walks through the journal in a home, which `makima` is called for. Each segment is exported by itself: one whose output
/// is gone, or that is damaged, is walked as far as it goes.
///
/// # Errors
/// What the world could not have given, or where it would not have gone.
pub fn walked(home: &Path, makima: impl Fn() -> Command) -> Result<Walked, String> {
    let files = files(home);
    let read = |file: &PathBuf| {
        let mut command = makima();
        command.args(["journal", "export"]).arg(file).args(["--out", "-"]).stdin(Stdio::null());
        Segment::read(&String::from_utf8_lossy(&command.output().ok()?.stdout))
    };
    let segments: Vec<Segment> = files.iter().filter_map(read).collect();
    let walked = walk(segments).map_err(|broken| format!("the journal in {}: {broken}", home.display()))?;
    let beyond = walked.cells.beyond_reviewed();
    if beyond.is_empty() { Ok(walked) } else { Err(format!("a daemon went where the world does not: {beyond:#?}")) }
}
