//! A task's output as it is asked for: at once where it is there, else as soon as it is. Two go through it at once, each at
//! a pace of its own: the server's, and the one at which the agent is listened to.

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
    readers: [Mutex<Reader>; 2],
}

impl Log {
    /// Of the log in this folder.
    pub(super) fn new(folder: Folder, secrets: Secrets, shared: Arc<Shared>) -> Self {
        let reader = || Mutex::new(Reader::new(folder.clone(), secrets.clone()));
        Self { shared, readers: [reader(), reader()] }
    }

    /// By whoever stands there, else by the one that is further behind: the other has the newest, and is asked for that
    /// next. Blocks.
    fn next(&self, from: u64) -> io::Result<Option<Chunk>> {
        let [one, other] = self.readers.each_ref().map(|reader| reader.lock().unwrap_or_else(PoisonError::into_inner));
        let mut reader = if one.suits(from) >= other.suits(from) { one } else { other };
        reader.next(from, &self.shared)
    }

    /// Lets go of the file until it is read again. Blocks.
    pub(super) fn rest(&self) {
        for reader in &self.readers {
            reader.lock().unwrap_or_else(PoisonError::into_inner).rest();
        }
    }

    /// The next chunk without blocking. None where that cannot be.
    pub(super) fn at_once(&self, from: u64) -> Option<io::Result<Option<Chunk>>> {
        let mut readers = self.readers.iter().filter_map(|reader| reader.try_lock().ok());
        let mut reader = readers.find(|reader| reader.has_at_hand(from, &self.shared))?;
        Some(reader.next(from, &self.shared))
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
