//! The runs that are kept: lists of acts by which something was found once. They outlive changes of the generator.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The runs of this folder of `tests/`, each with the file that it is kept in, in the order of the names.
///
/// # Errors
/// The folder is empty, or a file of it cannot be read or is no run: for people.
pub fn all<R: DeserializeOwned>(folder: &str) -> Result<Vec<(PathBuf, R)>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if paths.is_empty() {
        return Err(format!("{}: no runs are kept", folder.display()));
    }
    paths.sort();
    paths.into_iter().map(|path| read(&path).map(|run| (path, run))).collect()
}

/// One of them.
///
/// # Errors
/// It cannot be read, or is no run: for people.
pub fn read<R: DeserializeOwned>(path: &Path) -> Result<R, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| said(&error))?;
    serde_json::from_str(&text).map_err(|error| said(&error))
}

/// Keeps one.
///
/// # Errors
/// It cannot be written: for people.
pub fn write(path: &Path, run: &impl Serialize) -> Result<(), String> {
    let line = serde_json::to_string(run).map_err(|error| error.to_string())?;
    std::fs::write(path, line + "\n").map_err(|error| format!("{}: {error}", path.display()))
}
