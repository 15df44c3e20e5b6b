//! Reads the references of a repository from its files, which an agent may have written. No git runs for it: it
//! takes a fraction of the time, and what an agent has written into its repository's configuration has no say.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use fs_err as fs;

use super::blocking;
use super::foreign::{self, LIST, SMALL};

/// References by their full names. Of a name that is no text the rest is there: what it is at counts all the same.
pub(super) type Refs = BTreeMap<String, String>;

/// How deep folders of references are followed.
const DEPTH: usize = 16;

/// What `HEAD` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A reference, which need not be there.
    Symbolic(String),
    /// A commit.
    Detached(String),
    /// Nothing that can be understood.
    Broken,
}

/// Whether this is an object's full name.
pub(super) fn is_oid(text: &str) -> bool {
    (text.len() == 40 || text.len() == 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// All references of the repository at `git_dir`, symbolic ones left out.
pub(super) fn read(git_dir: &Path) -> io::Result<Refs> {
    let mut refs = packed(git_dir)?;
    loose(&git_dir.join("refs"), "refs", DEPTH, &mut refs)?;
    Ok(refs)
}

/// One reference. None if it is not there or cannot be understood.
pub(super) fn one(git_dir: &Path, name: &str) -> Option<String> {
    match foreign::text(&git_dir.join(name), SMALL) {
        Ok(text) => Some(text.trim().to_owned()).filter(|oid| is_oid(oid)),
        Err(_) => packed(git_dir).ok()?.remove(name),
    }
}

/// Those of these that are there. The list of all references is read once at most.
pub(super) fn some(git_dir: &Path, names: impl IntoIterator<Item = String>) -> Refs {
    let mut found = Refs::new();
    let mut listed: Option<Refs> = None;
    for name in names {
        let oid = match foreign::text(&git_dir.join(&name), SMALL) {
            Ok(text) => Some(text.trim().to_owned()).filter(|oid| is_oid(oid)),
            Err(_) => listed.get_or_insert_with(|| packed(git_dir).unwrap_or_default()).remove(&name),
        };
        found.extend(oid.map(|oid| (name, oid)));
    }
    found
}

/// One reference, off the runtime's thread: the list of all of them may be long.
pub(super) async fn find(git_dir: &Path, name: &str) -> Option<String> {
    let (git_dir, name) = (git_dir.to_path_buf(), name.to_owned());
    blocking(move || one(&git_dir, &name)).await.ok().flatten()
}

/// The commit that `HEAD` is at.
pub(super) fn at_head(git_dir: &Path) -> Option<String> {
    match head(git_dir) {
        Head::Symbolic(name) => one(git_dir, &name),
        Head::Detached(oid) => Some(oid),
        Head::Broken => None,
    }
}

/// The commits behind which a repository has no history.
pub(super) fn shallow(git_dir: &Path) -> Vec<String> {
    let text = foreign::text(&git_dir.join("shallow"), LIST).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| is_oid(line)).map(str::to_owned).collect()
}

/// What the file `HEAD` of the repository at `git_dir` says.
pub(super) fn head(git_dir: &Path) -> Head {
    let Ok(text) = foreign::text(&git_dir.join("HEAD"), SMALL) else { return Head::Broken };
    let text = text.trim();
    match text.strip_prefix("ref:").map(str::trim) {
        Some(name) if name.starts_with("refs/") && !name.split('/').any(|part| part == "..") => {
            Head::Symbolic(name.to_owned())
        }
        None if is_oid(text) => Head::Detached(text.to_owned()),
        Some(_) | None => Head::Broken,
    }
}

fn packed(git_dir: &Path) -> io::Result<Refs> {
    let bytes = match foreign::read(&git_dir.join("packed-refs"), LIST) {
        Ok(bytes) => bytes,
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(Refs::new()),
        Err(failure) => return Err(failure),
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| !line.starts_with(['#', '^']));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    Ok(pairs.filter(|(oid, _)| is_oid(oid)).map(|(oid, name)| (name.to_owned(), oid.to_owned())).collect())
}

fn loose(folder: &Path, name: &str, depth: usize, refs: &mut Refs) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) if depth > 0 => entries,
        Ok(_) => return Ok(()),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(failure) => return Err(failure),
    };
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let name = format!("{name}/{file_name}");
        if entry.file_type()?.is_dir() {
            loose(&entry.path(), &name, depth.saturating_sub(1), refs)?;
        } else if !file_name.ends_with(".lock") {
            let text = foreign::text(&entry.path(), SMALL).unwrap_or_default();
            let oid = text.trim();
            if is_oid(oid) {
                refs.insert(name, oid.to_owned());
            }
        }
    }
    Ok(())
}

/// A path as git takes it in a list of paths.
pub(super) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\""))
}

/// The text of a `packed-refs` file that holds these.
pub(super) fn pack<'a>(refs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<&str, &str> = refs.into_iter().collect();
    let mut text = String::from("# pack-refs with: sorted \n");
    for (name, oid) in sorted {
        text.push_str(oid);
        text.push(' ');
        text.push_str(name);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    /// Protects all references from one whose name is no text, and what that one is at from being overlooked.
    #[test]
    fn a_name_that_is_no_text_hides_nothing() {
        let place = tempfile::tempdir().expect("a folder");
        let (one, two, three) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        let packed = [format!("# pack-refs with: sorted \n{one} refs/heads/gr").as_bytes(), b"\xf6\xdfe\n"].concat();
        let packed = [&packed[..], format!("{two} refs/heads/main\n").as_bytes()].concat();
        fs::write(place.path().join("packed-refs"), packed).expect("a file");
        fs::create_dir_all(place.path().join("refs/heads")).expect("a folder");
        let odd = place.path().join("refs/heads").join(OsStr::from_bytes(b"\xff"));
        fs::write(odd, format!("{three}\n")).expect("a file");
        assert_eq!(self::one(place.path(), "refs/heads/main"), Some(two.clone()));
        let all: Vec<String> = read(place.path()).expect("references").into_values().collect();
        assert_eq!(all.len(), 3, "{all:?}");
        assert!([one, two, three].iter().all(|oid| all.contains(oid)), "{all:?}");
    }
}
