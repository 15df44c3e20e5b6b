//! The output log of a task: what its agent wrote, in the order in which it was read.
//!
//! A file of records, each
//! ```text
//! stream  u8        0 standard output, 1 standard error
//! time    u32 le    milliseconds since the agent was started
//! length  u32 le    of the bytes
//! bytes
//! ```
//! One writer, which appends whole records only; never two streams in a record. A position in the log is an
//! offset in the file: in front of a record, or among the bytes of one, never inside its head. What the writer has taken
//! out of a log that became too long is written down beside it: see `gone`.
//!
//! Architecture invariant: no text goes from an agent to the core but through this file, and none leaves it
//! unmasked.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fs_err as fs;
use makima_core::input::Stream;
use tokio::sync::Notify;

use super::gone::marks;
use super::record::Folder;

/// The length of a record's head.
pub(crate) const HEAD: usize = 9;
/// The most that a record holds, and about the most that a chunk does.
pub(crate) const RECORD_MAX: usize = 64 * 1024;
/// How much of what was written last is sure to be in memory.
pub(super) const AT_HAND: u64 = 1024 * 1024;

/// The head of a record.
pub(crate) fn head(stream: Stream, time: u32, length: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let (kind, rest) = head.split_at_mut(1);
    kind.fill(match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    });
    let (at, long) = rest.split_at_mut(4);
    at.copy_from_slice(&time.to_le_bytes());
    long.copy_from_slice(&length.to_le_bytes());
    head
}

pub(super) fn read_head(bytes: &[u8]) -> Option<(Stream, u32)> {
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    let [kind, _, _, _, _, length @ ..] = head;
    let stream = match kind {
        0 => Stream::Stdout,
        1 => Stream::Stderr,
        _ => return None,
    };
    // Nobody writes an empty one; a power cut leaves zeros, which look like many.
    Some((stream, u32::from_le_bytes(*length))).filter(|(_, length)| *length > 0)
}

/// What writer and readers of a log share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How far it is written.
    length: AtomicU64,
    closed: AtomicBool,
    grown: Notify,
}

impl Shared {
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn grow(&self, length: u64) {
        self.length.store(length, Ordering::Release);
        self.grown.notify_waiters();
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.grown.notify_waiters();
    }

    /// Ready once it is closed.
    pub(super) async fn closed(&self) {
        loop {
            let grown = self.grown();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if self.is_closed() {
                return;
            }
            grown.await;
        }
    }

    /// Told when it has grown or was closed. To be enabled before looking.
    pub(super) fn grown(&self) -> tokio::sync::futures::Notified<'_> {
        self.grown.notified()
    }
}

/// A log that somebody may still write to, as far as it is written.
pub(super) fn measure(path: &Path) -> io::Result<Shared> {
    let shared = Shared::default();
    match fs::metadata(path) {
        Ok(data) => shared.grow(data.len()),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
        Err(failure) => return Err(failure),
    }
    Ok(shared)
}

/// A log that nobody writes to any more: what a crash has torn off its end is cut.
pub(super) fn settle(folder: &Folder) -> io::Result<Shared> {
    let shared = Shared::default();
    shared.close();
    let path = folder.log();
    match fs::OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => {
            let length = file.metadata()?.len();
            // Behind what is gone stands a record, as behind a mark.
            let mut known: Vec<u64> = marks(folder)?.iter().map(|mark| mark.at).collect();
            known.extend(folder.gone()?.ranges().iter().map(|gone| gone.end));
            let known = known.into_iter().filter(|at| *at <= length).max();
            let whole = walk(file.file(), known.unwrap_or_default()..length, |_, _| true)?;
            if whole < length {
                tracing::warn!(
                    "{}: the last {} bytes are no whole record; they are cut",
                    path.display(),
                    length - whole
                );
                file.set_len(whole)?;
            }
            shared.grow(whole);
        }
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
        Err(failure) => return Err(failure),
    }
    Ok(shared)
}

/// Goes over the heads of a stretch of a log that begins with one. Calls `met` with each whole record's stream and the
/// place of its bytes, until that wants no more. Returns where the last one ends.
pub(super) fn walk(
    file: &File,
    stretch: Range<u64>,
    mut met: impl FnMut(Stream, Range<u64>) -> bool,
) -> io::Result<u64> {
    let mut at = stretch.start;
    let mut window = vec![0_u8; 16 * 1024];
    let mut held = 0..0_u64;
    while at.saturating_add(HEAD as u64) <= stretch.end {
        if at < held.start || at + HEAD as u64 > held.end {
            let count = read_some(file, &mut window, at)?;
            held = at..at + count as u64;
        }
        let place = usize::try_from(at - held.start).unwrap_or(usize::MAX);
        let Some((stream, long)) = window.get(place..).and_then(read_head) else { break };
        let start = at + HEAD as u64;
        let end = start + u64::from(long);
        if end > stretch.end {
            break;
        }
        at = end;
        if !met(stream, start..end) {
            break;
        }
    }
    Ok(at)
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_some(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(count)
}
