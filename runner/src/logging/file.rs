//! A log file that is rotated by size: `name`, `name.1`, … up to a bound. It may be moved or removed under us, and its
//! disk may be full: what can be written is written, and the next line is tried like the first.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is looked at whether the file is still the one of that name.
const LOOK: Duration = Duration::from_secs(1);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one file.
    pub bytes: u64,
    /// Files, the one that is written to among them.
    pub files: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 10 << 20, files: 5 }
    }
}

/// The file that is written to, and those before it.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    bounds: Bounds,
    file: std::fs::File,
    written: u64,
    /// The last write ended in the middle of a line.
    is_torn: bool,
    looked: Instant,
}

impl File {
    /// Opens it at its end; makes it if need be, for nobody else to read.
    ///
    /// # Errors
    /// As the system has it, with the path.
    pub fn open(path: PathBuf, bounds: Bounds) -> io::Result<Self> {
        let (file, written) = open(&path)?;
        // What was there may have been cut off.
        Ok(Self { path, bounds, file, written, is_torn: false, looked: Instant::now() })
    }

    /// Whether the name leads to another file by now, or to none.
    fn is_gone(&self) -> bool {
        let Ok(ours) = self.file.metadata() else { return false };
        std::fs::metadata(&self.path).map_or(true, |named| (named.dev(), named.ino()) != (ours.dev(), ours.ino()))
    }

    /// Writes to the file of that name from now on. Where it cannot be had the old one has to do.
    fn renew(&mut self) {
        if let Ok((file, written)) = open(&self.path) {
            (self.file, self.written, self.is_torn) = (file, written, false);
        }
    }

    fn rotate(&mut self) {
        let kept = self.bounds.files.saturating_sub(1);
        for n in (1..kept).rev() {
            let _ = std::fs::rename(numbered(&self.path, n), numbered(&self.path, n.saturating_add(1)));
        }
        let moved = match kept {
            0 => std::fs::remove_file(&self.path),
            _ => std::fs::rename(&self.path, numbered(&self.path, 1)),
        };
        if moved.is_ok() {
            self.renew();
        }
    }
}

impl Write for File {
    /// A line is written whole or counts as not written.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if self.is_gone() {
                self.renew();
            }
        }
        let more = line.len() as u64;
        if self.written > 0 && self.written.saturating_add(more) > self.bounds.bytes {
            if self.is_gone() {
                // Somebody else has rotated it, or an earlier try of ours came half-way.
                self.renew();
            } else {
                self.rotate();
            }
        }
        if self.written > self.bounds.bytes.saturating_mul(2) {
            return Err(io::Error::other("the file cannot be rotated, and is full"));
        }
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        // Torn unless it comes to its end.
        self.is_torn = true;
        let mut left = line;
        while !left.is_empty() {
            let n = match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(again) if again.kind() == io::ErrorKind::Interrupted => continue,
                Err(failure) => {
                    self.is_torn = left.len() < line.len();
                    return Err(failure);
                }
            };
            self.written = self.written.saturating_add(n as u64);
            left = left.get(n..).unwrap_or_default();
        }
        self.is_torn = false;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(std::fs::File, u64)> {
    let mut options = std::fs::OpenOptions::new();
    // A pipe or a terminal under that name must not be waited for.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    options.append(true).create(true).mode(0o600).custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    let file = options.open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::fs::{read_to_string, remove_file, rename};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn so_many_files_of_such_a_size_and_the_newest_lines_in_order() {
        let folder = folder();
        let path = folder.path().join("log");
        let mut log = File::open(path.clone(), Bounds { bytes: 30, files: 3 }).expect("a file");
        for n in 10..40 {
            log.write_all(format!("line {n}\n").as_bytes()).expect("it is written");
        }
        let mut names: Vec<_> =
            folder.path().read_dir().expect("it is there").flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        let kept: String = [2, 1].map(|n| read_to_string(numbered(&path, n)).expect("text")).concat()
            + &read_to_string(&path).expect("text");
        let newest: String = (31..40).map(|n| format!("line {n}\n")).collect();
        assert!(kept.ends_with(&newest), "{kept}");
        for n in [1, 2] {
            assert!(numbered(&path, n).metadata().expect("it is there").len() <= 30);
        }
        assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn one_file_begins_anew() {
        let folder = folder();
        let path = folder.path().join("log");
        let mut log = File::open(path.clone(), Bounds { bytes: 10, files: 1 }).expect("a file");
        log.write_all(b"line 1\n").expect("it is written");
        log.write_all(b"line 2\n").expect("it is written");
        assert_eq!(read_to_string(&path).expect("text"), "line 2\n");
        assert_eq!(folder.path().read_dir().expect("it is there").count(), 1);
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_made_again() {
        let folder = folder();
        let path = folder.path().join("log");
        let mut log = File::open(path.clone(), Bounds::default()).expect("a file");
        let long_ago = Instant::now().checked_sub(LOOK).expect("the machine runs for longer");
        log.write_all(b"1\n").expect("it is written");
        rename(&path, folder.path().join("elsewhere")).expect("it is moved");
        log.looked = long_ago;
        log.write_all(b"2\n").expect("it is written");
        assert_eq!(read_to_string(&path).expect("text"), "2\n");
        remove_file(&path).expect("it is removed");
        log.looked = long_ago;
        log.write_all(b"3\n").expect("it is written");
        assert_eq!(read_to_string(&path).expect("text"), "3\n");
    }

    #[test]
    fn two_who_write_to_one_file_lose_nothing() {
        let folder = folder();
        let path = folder.path().join("log");
        let open = || File::open(path.clone(), Bounds { bytes: 1 << 12, files: 50 }).expect("a file");
        let (mut one, mut other) = (open(), open());
        for n in 0..200 {
            one.write_all(format!("one {n:>30}\n").as_bytes()).expect("it is written");
            other.write_all(format!("other {n:>30}\n").as_bytes()).expect("it is written");
        }
        let all = folder.path().read_dir().expect("it is there").flatten();
        let lines: usize = all.map(|entry| read_to_string(entry.path()).expect("text").lines().count()).sum();
        assert_eq!(lines, 400);
    }

    /// `/dev/full` takes nothing, as a full disk does.
    #[test]
    fn what_cannot_be_written_is_an_error_and_no_more() {
        let mut log = File::open("/dev/full".into(), Bounds::default()).expect("it is there");
        for _ in 0..3 {
            assert_eq!(log.write_all(b"line\n").expect_err("it is full").kind(), io::ErrorKind::StorageFull);
        }
        assert!(!log.is_torn);
    }

    #[test]
    fn a_file_in_no_folder_is_refused_at_the_start() {
        let refused = File::open("/no/such/folder/log".into(), Bounds::default()).expect_err("there is none");
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }
}
