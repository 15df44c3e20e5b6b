//! Folders that people name; among them the repositories that the user has given to `makima run`, which may be written to
//! on a server's word from then on.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// A path as people write it, `~` for their home folder. None if that is not known.
pub(crate) fn expand(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => home.map(|home| home.join(rest)),
        Err(_) => Some(path.to_path_buf()),
    }
}

/// The file in the home that remembers the repositories of `makima run`: a path a line. A daemon that runs
/// reads it anew each time, since another process may have added to it.
fn file(home: &Path) -> PathBuf {
    home.join("allowed-roots")
}

/// Allows a folder for good: the user has named it.
///
/// # Errors
/// Where it cannot be written down.
pub fn allow(home: &Path, root: &Path) -> io::Result<()> {
    let root = root.canonicalize()?;
    if allowed(home).contains(&root) {
        return Ok(());
    }
    let mut line = root.into_os_string().into_encoded_bytes();
    if line.contains(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path with a newline cannot be allowed"));
    }
    line.push(b'\n');
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    // One write: two processes that do this at once do not mix their lines.
    options.open(file(home))?.write_all(&line)
}

/// What the user has allowed by that.
#[must_use]
pub fn allowed(home: &Path) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = fs::read(file(home)).unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| PathBuf::from(std::ffi::OsString::from_vec(line.to_vec()))).collect()
}
