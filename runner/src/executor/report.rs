//! How it is known that an agent's program has begun, or why it has not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode};
use tokio::net::unix::pipe;
use tokio::process::Child;

use crate::supervise::MISUSED;

/// The longest that an agent's program may take to be found and begun.
const BEGIN: Duration = Duration::from_secs(10);

/// A FIFO on which the launcher tells why it could not become the agent. That it ends without a word means
/// that the agent runs.
pub(super) struct Report {
    pub(super) path: PathBuf,
    end: pipe::Receiver,
}

impl Report {
    pub(super) fn open(folder: &Path) -> std::io::Result<Self> {
        let path = folder.join(".launch");
        super::record::forgiving(fs_err::remove_file(&path))?;
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let end = pipe::OpenOptions::new().open_receiver(&path)?;
        Ok(Self { path, end })
    }

    pub(super) async fn wait(&mut self, child: &mut Child) -> Result<(), String> {
        let mut said = Vec::new();
        let ended = tokio::select! {
            () = read_all(&mut self.end, &mut said) => None,
            status = child.wait() => Some(status),
            () = tokio::time::sleep(BEGIN) => {
                return Err(format!("the agent's program did not begin within {} s", BEGIN.as_secs()));
            }
        };
        if let Some(status) = ended {
            // It has begun and ended already; or it has told why not and ended. Then what it told is there, and
            // the runtime may not have heard of it yet.
            let mut buffer = [0_u8; 1024];
            while let Ok(count @ 1..) = rustix::io::read(&self.end, &mut buffer) {
                said.extend(buffer.iter().take(count));
            }
            if said.is_empty() && status.is_ok_and(|status| status.code() == Some(MISUSED)) && !self.was_opened() {
                return Err("the supervisor could not do its work".to_owned());
            }
        }
        if said.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
    }

    /// Whether the launcher ever came so far as to open its end. Then this end has been hung up.
    fn was_opened(&self) -> bool {
        let mut asked = [PollFd::new(&self.end, PollFlags::IN)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&none)).is_ok_and(|count| count > 0)
    }
}

/// Blocks.
impl Drop for Report {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.path);
    }
}

/// Reads to the end. Only once somebody has opened the other end is there one.
async fn read_all(from: &mut pipe::Receiver, said: &mut Vec<u8>) {
    let mut buffer = [0_u8; 1024];
    while from.readable().await.is_ok() {
        match from.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => said.extend(buffer.iter().take(count)),
            Err(failure) if failure.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
}
