//! What a process says: kept up to a bound, or handed on.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

/// What a process says, or the beginning of it.
pub(super) struct Bounded {
    pub(super) bytes: Vec<u8>,
    max: usize,
    /// There was more.
    pub(super) cut: bool,
    /// Where it goes instead.
    to: Option<mpsc::Sender<Vec<u8>>>,
}

impl Bounded {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max, cut: false, to: None }
    }

    /// The same, of which all goes there instead, if there is such.
    pub(super) fn to(self, to: Option<mpsc::Sender<Vec<u8>>>) -> Self {
        Self { to, ..self }
    }

    /// Reads to the end; what is beyond the bound is read and dropped, so that the writer is never blocked.
    pub(super) async fn fill(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0_u8; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if let Some(to) = &self.to {
                // Who has heard enough is gone.
                let _ = to.send(buffer.get(..count).unwrap_or_default().to_vec()).await;
                continue;
            }
            let room = self.max.saturating_sub(self.bytes.len());
            self.cut |= count > room;
            self.bytes.extend(buffer.iter().take(count.min(room)));
        }
    }
}
