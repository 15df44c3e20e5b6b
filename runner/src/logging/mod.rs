//! The program's own log: lines to stderr or to a file, by a thread of their own. Whoever has something to say never
//! waits for a disk or a reader, and nothing that happens to the log happens to anybody else.

mod file;

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use self::file::{Bounds, File};
use crate::executor::Secrets;

/// Lines that may wait to be written.
const WAITING: usize = 1_024;

/// Bytes of one line; what is longer is cut.
const LINE: usize = 8 * 1_024;

/// For the last lines to be written when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a reader that takes no more, of a stderr that does not wait, is given.
const FULL: Duration = Duration::from_secs(1);

/// Lines that nobody will ever read, since the start.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines that were written, since the start.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// What must not stand in it.
static SECRETS: OnceLock<Secrets> = OnceLock::new();

/// Where the log goes.
#[derive(Debug)]
pub enum Target {
    /// To stderr, with colours or without.
    Stderr {
        /// Whether a terminal shows it.
        colours: bool,
    },
    /// To a file that is rotated.
    File(File),
}

/// How many lines were written, and how many were lost: too many waited, or they could not be written.
#[must_use]
pub fn counts() -> (u64, u64) {
    (WRITTEN.load(Ordering::Relaxed), DROPPED.load(Ordering::Relaxed))
}

/// Masks from now on what is known there, in every line.
pub fn mask(secrets: &Secrets) {
    // One process has one daemon: the first word counts.
    let _ = SECRETS.set(secrets.clone());
}

/// The log of this process. Ends it properly when it is dropped.
#[derive(Debug)]
pub struct Log(Option<SyncSender<Entry>>);

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before it has been written once this is dropped.
    Flush(#[expect(dead_code, reason = "dropping it is what it is for")] Sender<()>),
}

/// Starts the log. Where its thread cannot be had there is none, which is no reason not to work.
#[must_use]
pub fn start(target: Target, filter: EnvFilter) -> Log {
    let (queue, entries) = sync_channel(WAITING);
    let colours = matches!(target, Target::Stderr { colours: true });
    let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        let mut out: Box<dyn Write> = match target {
            Target::Stderr { .. } => Box::new(Stderr),
            Target::File(file) => Box::new(file),
        };
        write_all(&entries, out.as_mut());
    });
    if writer.is_err() {
        return Log(None);
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Queue(queue.clone()))
        .with_ansi(colours)
        .with_target(false)
        // What cannot be written is counted; saying so where nobody listens would end the program.
        .log_internal_errors(false);
    // Fails only where there is one already.
    let _ = log.try_init();
    Log(Some(queue))
}

impl Log {
    /// Waits until everything that was said has been written, within bounds.
    pub fn flush(&self) {
        let Some(queue) = &self.0 else { return };
        let (mark, passed) = channel();
        let end = Instant::now() + LAST_WORDS;
        let mut entry = Entry::Flush(mark);
        while let Err(TrySendError::Full(back)) = queue.try_send(entry) {
            if Instant::now() >= end {
                return;
            }
            entry = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = passed.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Where lines are put.
#[derive(Clone, Debug)]
struct Queue(SyncSender<Entry>);

/// One line on its way into the queue.
#[derive(Debug)]
struct Line<'a> {
    bytes: Vec<u8>,
    queue: &'a Queue,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { bytes: Vec::new(), queue: self }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return;
        }
        if bytes.last() != Some(&b'\n') {
            bytes.extend_from_slice("…\n".as_bytes());
        }
        if self.queue.0.try_send(Entry::Line(bytes)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes what comes until nobody is left who could say anything.
fn write_all(entries: &Receiver<Entry>, out: &mut dyn Write) {
    let mut told = 0;
    for entry in entries {
        tell_lost(&mut told, out);
        if let Entry::Line(line) = entry {
            write(&masked(line), out);
        }
    }
}

fn masked(line: Vec<u8>) -> Vec<u8> {
    let Some(secrets) = SECRETS.get() else { return line };
    secrets.masked(&String::from_utf8_lossy(&line)).into_bytes()
}

fn write(line: &[u8], out: &mut dyn Write) {
    let count = if out.write_all(line).is_ok() { &WRITTEN } else { &DROPPED };
    count.fetch_add(1, Ordering::Relaxed);
}

/// Says how many lines were lost since that was last said, as soon as it can be said.
fn tell_lost(told: &mut u64, out: &mut dyn Write) {
    let lost = DROPPED.load(Ordering::Relaxed);
    let since = lost.saturating_sub(*told);
    if since > 0 && out.write_all(format!("{since} lines of the log were lost before this one\n").as_bytes()).is_ok() {
        *told = lost;
    }
}

/// The stderr of this process. Somebody may have made it one that does not wait.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = Instant::now() + FULL;
        loop {
            match io::stderr().lock().write(bytes) {
                Err(full) if full.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {}
                written => return written,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which lines are wanted: as `given`, else what is usual. Gives back what was given where that cannot be read.
#[must_use]
pub fn filter(given: Option<&str>, usual: &str) -> (EnvFilter, Option<String>) {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return (EnvFilter::new(usual), None) };
    match EnvFilter::try_new(text) {
        Ok(filter) => (filter, None),
        Err(_) => (EnvFilter::new(usual), Some(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects a secret that whoever wrote the line did not know to be one.
    #[test]
    fn no_line_goes_out_unmasked() {
        let secrets = Secrets::default();
        secrets.add("correct-horse-battery");
        mask(&secrets);
        let (to, entries) = sync_channel(2);
        let line = b"git: https://me:correct-horse-battery@host was refused\n".to_vec();
        to.send(Entry::Line(line)).expect("somebody listens");
        drop(to);
        let mut out = Vec::new();
        write_all(&entries, &mut out);
        let said = String::from_utf8(out).expect("text");
        assert!(said.contains("was refused") && !said.contains("correct-horse"), "{said}");
    }
}
