//! Reading files that an agent may have put anything in the place of: a pipe would be waited for, a device
//! would never end, a link leads anywhere.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, FileType};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{Mode, OFlags};

/// More bytes than a reference, a list of a few commits or of patterns has.
pub(super) const SMALL: u64 = 1 << 20;
/// More bytes than a list of all references has.
pub(super) const LIST: u64 = 256 << 20;
/// More bytes than an index has.
pub(super) const INDEX: u64 = 4 << 30;

/// How many folders of objects are followed from one to the next.
const LENDERS_MAX: usize = 64;

/// Whether a folder is there: itself, and not a link that an agent has put in its place, which may lead to any of the
/// user's.
pub(super) fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_dir())
}

/// Opens a file that is one, and has no more than so many bytes.
pub(super) fn open(path: &Path, most: u64) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let data = file.metadata()?;
    let refused = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    if !data.is_file() {
        return Err(refused("it is no file".to_owned()));
    }
    if data.len() > most {
        return Err(refused(format!("it has {} bytes, and {most} are the most", data.len())));
    }
    Ok(file)
}

/// Its content.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Some files of the kernel's are larger than they say.
    open(path, most)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Its content, which is text.
pub(super) fn text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text"))
}

/// Whether it is one that who opens it may have to wait for, or that never ends.
pub(super) fn holds_up(kind: FileType) -> bool {
    kind.is_fifo() || kind.is_char_device() || kind.is_block_device()
}

/// Whether git may be let loose on a folder of objects and on those that it borrows from in turn: nothing but
/// folders and files is in them. What lies in `ours` is known to be whole.
pub(super) fn can_be_lent(objects: &Path, ours: &Path) -> bool {
    let mut seen = BTreeSet::new();
    let mut left = vec![objects.to_path_buf()];
    while let Some(folder) = left.pop() {
        if folder.as_path() == ours || !seen.insert(folder.clone()) {
            continue;
        }
        if seen.len() > LENDERS_MAX || !has_only_files(&folder) {
            return false;
        }
        let Some(more) = borrowed_by(&folder) else { return false };
        left.extend(more);
    }
    true
}

fn has_only_files(objects: &Path) -> bool {
    // What is not there, git does not wait for either.
    let Ok(data) = fs::symlink_metadata(objects) else { return true };
    if !data.is_dir() {
        return false;
    }
    let mut folders = vec![objects.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }
    true
}

/// The folders that this one borrows from. None if that is not plain to see.
fn borrowed_by(objects: &Path) -> Option<Vec<PathBuf>> {
    let text = match read(&objects.join("info/alternates"), SMALL) {
        Ok(text) => text,
        Err(failure) if matches!(failure.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
        Err(_) => return None,
    };
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    // One that is relative is so to the folder of objects; one in quotes is spelled in a way of git's own.
    let path = |line: &[u8]| (!line.starts_with(b"\"")).then(|| objects.join(OsStr::from_bytes(line)));
    lines.map(path).collect()
}
