//! What a person types at the terminal, a line at a time, and only what is typed while somebody waits for it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, mpsc};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read};
use rustix::termios::{QueueSelector, tcflush};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Bytes that are read at once.
const PIECE: usize = 4096;

/// The keyboard of a terminal. Nothing is read ahead: what nobody waits for stays with the terminal, which can be told to
/// forget it.
pub(super) struct Keyboard {
    terminal: Arc<OwnedFd>,
    /// Has it looked whether something is typed. Waiting for that cannot be called off, so a thread of its own does it, and
    /// reads nothing.
    look: mpsc::Sender<()>,
    /// Something is.
    typed: UnboundedReceiver<()>,
    /// That was asked, and is not answered.
    looks: bool,
    /// A line that has not ended.
    begun: Vec<u8>,
}

impl Keyboard {
    /// That of this process. What was typed so far is forgotten. None where there is none.
    pub(super) fn here() -> Option<Self> {
        let terminal = Arc::new(fcntl_dupfd_cloexec(std::io::stdin(), 3).ok()?);
        let (look, asked) = mpsc::channel();
        let (tell, typed) = unbounded_channel();
        let watched = Arc::clone(&terminal);
        let watch = move || {
            while asked.recv().is_ok() {
                is_typed(&watched, None);
                if tell.send(()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("keyboard".to_owned()).spawn(watch).ok()?;
        let mut keyboard = Self { terminal, look, typed, looks: false, begun: Vec::new() };
        keyboard.forget();
        Some(keyboard)
    }

    /// Forgets what was typed so far.
    pub(super) fn forget(&mut self) {
        self.begun.clear();
        // Where it is no terminal any more, nobody types there.
        let _ = tcflush(&*self.terminal, QueueSelector::IFlush);
    }

    /// The next line; none for ever where nobody types any more. Safe to be dropped half-way.
    pub(super) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                return String::from_utf8_lossy(&line).into_owned();
            }
            if !is_typed(&self.terminal, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                if !std::mem::replace(&mut self.looks, true) && self.look.send(()).is_err() {
                    break;
                }
                if self.typed.recv().await.is_none() {
                    break;
                }
                self.looks = false;
                continue;
            }
            let mut bytes = [0; PIECE];
            match read(&*self.terminal, &mut bytes) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Its end, or no terminal any more.
                Ok(0) | Err(_) => break,
                Ok(count) => self.begun.extend(bytes.iter().take(count)),
            }
        }
        std::future::pending().await
    }
}

/// Whether reading gives something at once, as soon as it does or this time is over.
fn is_typed(terminal: &OwnedFd, limit: Option<&Timespec>) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(terminal.as_fd(), PollFlags::IN)];
    poll(&mut asked, limit).is_ok_and(|ready| ready > 0)
}
