//! A task's output as it is asked for: at once where it is there, else as soon as it is.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use makima_core::input::Chunk;

use super::blocking;
use super::cancel::Cancel;
use super::log::Shared;
use super::mask::Secrets;
use super::reader::Reader;
use super::record::Folder;

/// A log and who reads it.
pub(super) struct Log {
    pub(super) shared: Arc<Shared>,
    reader: Mutex<Reader>,
}

impl Log {
    /// Of the log in this folder.
    pub(super) fn new(folder: Folder, secrets: Secrets, shared: Arc<Shared>) -> Self {
        Self { shared, reader: Mutex::new(Reader::new(folder, secrets)) }
    }

    /// Blocks.
    fn next(&self, from: u64) -> io::Result<Option<Chunk>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).next(from, &self.shared)
    }

    /// Lets go of the file until it is read again. Blocks.
    pub(super) fn rest(&self) {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).rest();
    }

    /// The next chunk without blocking. None where that cannot be.
    pub(super) fn at_once(&self, from: u64) -> Option<io::Result<Option<Chunk>>> {
        let mut reader = self.reader.try_lock().ok()?;
        reader.has_at_hand(from, &self.shared).then(|| reader.next(from, &self.shared))
    }

    /// The next chunk as soon as there is one; one of no length where that is called off.
    pub(super) async fn wait(self: &Arc<Self>, from: u64, cancel: &Cancel) -> Result<Chunk, String> {
        let nothing = Chunk { from, to: from, ..Chunk::default() };
        loop {
            let grown = self.shared.grown();
            tokio::pin!(grown);
            grown.as_mut().enable();
            let next = match self.at_once(from) {
                Some(next) => next,
                None => {
                    let log = Arc::clone(self);
                    tokio::select! {
                        biased;
                        next = blocking(move || log.next(from)) => next?,
                        () = cancel.set() => return Ok(nothing),
                    }
                }
            };
            if let Some(chunk) = next.map_err(|failure| format!("its output cannot be read: {failure}"))? {
                return Ok(chunk);
            }
            tokio::select! {
                () = grown => {}
                () = cancel.set() => return Ok(nothing),
            }
        }
    }
}
