//! The socket below a WebSocket, with what is on its way out.
//!
//! Frames are laid straight into one buffer: no message is built, and nothing is allocated for a line. What
//! tungstenite has to say by itself (answers to pings, its part of a farewell) goes through the same buffer.
//! Both lay whole frames only, so that neither can cut one of the other's apart.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use reqwest::Upgraded;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

/// What is gathered before the kernel is bothered.
const GATHERED: usize = 64 << 10;

/// A buffer that has grown beyond this is given back once it is empty.
const KEPT: usize = 4 * GATHERED;

/// Masks that are drawn in one go.
const MASKS: usize = 256;

/// A socket on which frames are sent.
#[derive(Debug)]
pub(crate) struct Outward {
    socket: Upgraded,
    /// Whole frames, of the first of which a part may be written.
    gathered: BytesMut,
    written: u64,
    masks: Vec<[u8; 4]>,
}

impl Outward {
    pub(crate) fn new(socket: Upgraded) -> Self {
        Self { socket, gathered: BytesMut::new(), written: 0, masks: Vec::new() }
    }

    /// How many bytes the kernel has taken.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Whether one more frame may be gathered.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gathered.len() >= GATHERED {
            ready!(self.poll_some(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Gathers a frame.
    pub(crate) fn frame(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), WsError> {
        let mask = self.mask()?;
        let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
        let length = payload.len() as u64;
        self.gathered.reserve(header.len(length) + payload.len());
        header.format(length, &mut Laid(&mut self.gathered))?;
        let start = self.gathered.len();
        self.gathered.extend_from_slice(payload);
        apply(mask, self.gathered.get_mut(start..).unwrap_or_default());
        Ok(())
    }

    /// A mask that nobody can foresee: what an agent writes must not look like something else to a proxy.
    fn mask(&mut self) -> io::Result<[u8; 4]> {
        if let Some(mask) = self.masks.pop() {
            return Ok(mask);
        }
        let mut chance = [0; 4 * MASKS];
        getrandom::fill(&mut chance).map_err(io::Error::other)?;
        self.masks.extend_from_slice(chance.as_chunks().0);
        self.masks.pop().ok_or_else(|| io::Error::other("no random bytes"))
    }

    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.gathered))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.gathered.advance(count);
        self.written += count as u64;
        if self.gathered.is_empty() && self.gathered.capacity() > KEPT {
            self.gathered = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Masks a payload; sixteen bytes at a time, which compilers turn into vector instructions.
fn apply(mask: [u8; 4], payload: &mut [u8]) {
    let four = u128::from(u32::from_ne_bytes(mask));
    let mask16 = four << 96 | four << 64 | four << 32 | four;
    let (blocks, rest) = payload.as_chunks_mut::<16>();
    for block in blocks {
        *block = (u128::from_ne_bytes(*block) ^ mask16).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Writes into the buffer; it has room.
struct Laid<'a>(&'a mut BytesMut);

impl io::Write for Laid<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Outward {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Outward {
    /// For tungstenite, which hands over whole frames and has them taken whole.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(cx))?;
        self.gathered.extend_from_slice(frames);
        Poll::Ready(Ok(frames.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            ready!(self.poll_some(cx))?;
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::apply;

    /// Protects every byte of every frame: the mask goes on where the last sixteen left off.
    #[test]
    fn masks_reach_every_byte() {
        for length in 0..70 {
            let plain: Vec<u8> = (0..length).collect();
            let mask = [0xa5, 0x01, 0x00, 0xff];
            let expected: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            let mut payload = plain.clone();
            apply(mask, &mut payload);
            assert_eq!(payload, expected);
        }
    }
}
