//! The cheapest server there can be. It speaks the wire where it must; of a flood of output it looks at the
//! frames' heads only.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use makima_core::protocol::{Authenticated, DaemonCommand, DaemonMessage};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

use super::Failure;
use super::agents::TIME;
use super::process::{PATIENCE, now};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Where connections come in.
pub(crate) struct Sink {
    listener: TcpListener,
    address: SocketAddr,
}

/// One connection.
pub(crate) struct Session {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// When it came in.
    pub(crate) accepted: u64,
    /// Pings that were answered.
    pub(crate) pongs: u64,
}

/// A frame's head.
struct Head {
    opcode: u8,
    mask: [u8; 4],
    length: usize,
}

/// Lines of output, as they came in.
pub(crate) struct Arrived {
    /// How many there were.
    pub(crate) count: u64,
    /// Bytes of the log that were marked as missing.
    pub(crate) cut: u64,
    /// The one behind them.
    pub(crate) last: String,
}

/// A flood of lines, as it came in.
pub(crate) struct Flood {
    /// When the first was written.
    pub(crate) from: u64,
    /// When the last was there.
    pub(crate) to: u64,
}

impl Sink {
    pub(crate) fn open() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/bench", self.address)
    }

    /// The next connection, its handshake answered.
    pub(crate) fn accept(&self) -> Result<Session, Failure> {
        let (stream, _) = self.listener.accept()?;
        let accepted = now();
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(256 << 10, stream.try_clone()?);
        let mut session = Session { stream, reader, accepted, pongs: 0 };
        session.shake_hands()?;
        Ok(session)
    }
}

impl Session {
    fn shake_hands(&mut self) -> Result<(), Failure> {
        let mut key = String::new();
        loop {
            let mut header = String::new();
            self.reader.read_line(&mut header)?;
            match header.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-key") => {
                    value.trim().clone_into(&mut key)
                }
                None if header.trim().is_empty() => break,
                Some(_) | None => {}
            }
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        let accept = derive_accept_key(key.as_bytes());
        Ok(write!(self.stream, "{answer}Sec-WebSocket-Accept: {accept}\r\n\r\n")?)
    }

    /// Lets the daemon in.
    pub(crate) fn authenticate(&mut self) -> Result<(), Failure> {
        match self.message()? {
            DaemonMessage::Authenticate(_) => self.send(&Authenticated { daemon_id: Uuid::from_u128(1) }.into()),
            other => Err(format!("`{}` came first", other.kind()).into()),
        }
    }

    pub(crate) fn send(&mut self, command: &DaemonCommand) -> Result<(), Failure> {
        let text = command.write();
        self.write(TEXT, text.as_bytes())
    }

    /// The next message.
    pub(crate) fn message(&mut self) -> Result<DaemonMessage, Failure> {
        loop {
            let head = self.head()?;
            if head.opcode == TEXT {
                return self.read(&head);
            }
            self.other(&head)?;
        }
    }

    fn read(&mut self, head: &Head) -> Result<DaemonMessage, Failure> {
        let text = String::from_utf8(self.payload(head)?)?;
        DaemonMessage::read(&text).map_err(|why| why.to_string().into())
    }

    /// The first message of which something can be made; those before it are passed over.
    pub(crate) fn until<T>(&mut self, mut make: impl FnMut(DaemonMessage) -> Option<T>) -> Result<T, Failure> {
        loop {
            if let Some(made) = make(self.message()?) {
                return Ok(made);
            }
        }
    }

    /// Waits until one more ping has been answered: everything before that has arrived, and the daemon is told so.
    pub(crate) fn until_pong(&mut self) -> Result<(), Failure> {
        let before = self.pongs;
        while self.pongs == before {
            let head = self.head()?;
            if head.opcode == TEXT { self.skip(head.length)? } else { self.other(&head)? }
        }
        Ok(())
    }

    /// Cuts the connection off.
    pub(crate) fn cut(&self) -> Result<(), Failure> {
        Ok(self.stream.shutdown(std::net::Shutdown::Both)?)
    }

    /// Takes lines of output until one that is shorter, and not a piece of another.
    pub(crate) fn count(&mut self, length: usize) -> Result<Arrived, Failure> {
        let (mut count, mut cut) = (0, 0);
        loop {
            let head = self.head()?;
            if head.opcode != TEXT {
                self.other(&head)?;
            } else if head.length == length {
                self.skip(head.length)?;
                count += 1;
            } else {
                match self.read(&head)? {
                    DaemonMessage::TaskOutput(line) if line.is_partial => {}
                    DaemonMessage::TaskOutput(line) if line.output.ends_with(|end: char| end.is_ascii_digit()) => {
                        return Ok(Arrived { count, cut, last: line.output });
                    }
                    DaemonMessage::TaskOutput(line) if line.output.starts_with("[makima: ") => {
                        let bytes = line.output.split(' ').nth(1).and_then(|bytes| bytes.parse::<u64>().ok());
                        cut += bytes.ok_or("a cut that does not say how much is missing")?;
                    }
                    DaemonMessage::TaskOutput(_) => count += 1,
                    DaemonMessage::TaskComplete(_) => return Err("the last line is missing".into()),
                    _ => {}
                }
            }
        }
    }

    /// Takes `count` lines of output. A message of `length` bytes is a whole line, and only the first of these is
    /// looked into; others may be pieces of lines, where the agent was held up in the middle of one.
    pub(crate) fn flood(&mut self, count: u64, length: usize) -> Result<Flood, Failure> {
        let mut from = None;
        let mut left = count;
        while left > 0 {
            let head = self.head()?;
            if head.opcode != TEXT {
                self.other(&head)?;
            } else if head.length == length && from.is_some() {
                self.skip(head.length)?;
                left -= 1;
            } else {
                match self.read(&head)? {
                    DaemonMessage::TaskOutput(piece) => {
                        from = from.or_else(|| piece.output.get(..TIME)?.parse().ok());
                        left -= u64::from(!piece.is_partial);
                    }
                    DaemonMessage::TaskComplete(_) => return Err("lines are missing".into()),
                    _ => {}
                }
            }
        }
        Ok(Flood { from: from.ok_or("the first line bears no time")?, to: now() })
    }

    /// Reads until the other side has closed.
    pub(crate) fn drain(&mut self) {
        while let Ok(head) = self.head() {
            if self.other(&head).is_err() {
                return;
            }
        }
    }

    /// A frame that is no text is answered where it has to be.
    fn other(&mut self, head: &Head) -> Result<(), Failure> {
        match head.opcode {
            PING => {
                let payload = self.payload(head)?;
                self.write(PONG, &payload)?;
                self.pongs += 1;
                Ok(())
            }
            CLOSE => {
                self.skip(head.length)?;
                self.write(CLOSE, &[])?;
                Err("the connection was closed".into())
            }
            _ => self.skip(head.length),
        }
    }

    fn head(&mut self) -> Result<Head, Failure> {
        let [first, second] = self.bytes()?;
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.bytes()?)),
            127 => u64::from_be_bytes(self.bytes()?),
            short => u64::from(short),
        };
        Ok(Head { opcode: first & 0x0f, mask: self.bytes()?, length: usize::try_from(length)? })
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn payload(&mut self, head: &Head) -> Result<Vec<u8>, Failure> {
        let mut payload = vec![0; head.length];
        self.reader.read_exact(&mut payload)?;
        for (byte, mask) in payload.iter_mut().zip(head.mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(payload)
    }

    fn skip(&mut self, mut length: usize) -> Result<(), Failure> {
        while length > 0 {
            let there = length.min(self.reader.fill_buf()?.len());
            if there == 0 {
                return Err("the connection ended inside a frame".into());
            }
            self.reader.consume(there);
            length -= there;
        }
        Ok(())
    }

    fn write(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Failure> {
        let mut frame = vec![0x80 | opcode];
        match u8::try_from(payload.len()) {
            Ok(short) if short < 126 => frame.push(short),
            Ok(_) | Err(_) => {
                frame.push(126);
                frame.extend(u16::try_from(payload.len())?.to_be_bytes());
            }
        }
        frame.extend(payload);
        Ok(self.stream.write_all(&frame)?)
    }
}
