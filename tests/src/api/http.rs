//! As much of HTTP/1.1 as a client of the API speaks, on a connection that can also be cut.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, recv, sockopt::set_socket_linger};
use serde_json::Value;

use super::Cut;

/// Bytes of a line.
const LINE: usize = 64 << 10;

/// Lines of a head.
const LINES: usize = 256;

/// Bytes of a body: more than any agent sends.
const BODY: usize = 64 << 20;

/// For the next request, and for the rest of one. Clients keep connections that they do not use.
const IDLE: Duration = Duration::from_secs(900);

/// For a client that does not read.
const WRITE: Duration = Duration::from_secs(60);

/// A request without its body.
pub(super) struct Head {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// Names are in lower case.
    fields: Vec<(String, String)>,
    is_old: bool,
}

/// A client's connection.
pub(super) struct Connection {
    /// Nobody else holds it for long: it is reset by closing it.
    stream: Arc<TcpStream>,
    /// What was read and is not used yet.
    read: Vec<u8>,
}

impl Head {
    /// A header's value.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Whether another request may follow.
    pub(super) fn keeps_alive(&self) -> bool {
        let connection = self.field("connection").unwrap_or_default().to_ascii_lowercase();
        if self.is_old { connection.contains("keep-alive") } else { !connection.contains("close") }
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }
}

impl Connection {
    pub(super) fn new(stream: Arc<TcpStream>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(WRITE))?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// The next request.
    pub(super) fn request(&mut self) -> io::Result<(Head, Vec<u8>)> {
        let first = self.line()?;
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Err(wrong("no request"));
        };
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let fields = self.fields()?;
        let head = Head { method: method.to_owned(), path, fields, is_old: version == "HTTP/1.0" };
        if head.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = if head.is_chunked() {
            self.chunks()?
        } else {
            let length = head.field("content-length").unwrap_or("0");
            self.exactly(length.parse().map_err(|_| wrong("a length that is no number"))?)?
        };
        Ok((head, body))
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    /// A whole answer; without a body where there is no value.
    pub(super) fn answer(&self, status: u16, body: Option<&Value>, headers: &[(String, String)]) -> io::Result<()> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = [("content-length".to_owned(), body.len().to_string())];
        let kind = [("content-type".to_owned(), "application/json".to_owned())];
        let head = head(status, kind.iter().chain(&length).chain(headers));
        self.write((head + &body).as_bytes())
    }

    /// The head of an answer that comes in chunks.
    pub(super) fn begin(&self, id: &str) -> io::Result<()> {
        let fields = [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache"),
            ("transfer-encoding", "chunked"),
            ("request-id", id),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.write(head(200, &fields).as_bytes())
    }

    /// A chunk of an answer; the empty one is the last.
    pub(super) fn chunk(&self, text: &str) -> io::Result<()> {
        self.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
    }

    /// False once the client has closed its end.
    pub(super) fn has_client(&self) -> bool {
        let mut byte = [0];
        match recv(&*self.stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, count)) => count > 0,
            Err(why) => why == rustix::io::Errno::AGAIN || why == rustix::io::Errno::INTR,
        }
    }

    /// Ends it like that. What the client has not read yet may be lost with a reset.
    pub(super) fn cut(self, how: Cut) {
        // Where the client has gone already, there is nothing left to cut.
        let _ = match how {
            Cut::Reset => set_socket_linger(&*self.stream, Some(Duration::ZERO)).map_err(io::Error::from),
            Cut::Close => self.stream.shutdown(Shutdown::Both),
        };
    }

    /// Header fields, up to the empty line.
    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        for _ in 0..LINES {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| wrong("no header"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Err(wrong("a head without end"))
    }

    /// A body in chunks.
    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| wrong("a chunk without a size"))?;
            if size == 0 {
                self.fields()?;
                return Ok(body);
            }
            if body.len().saturating_add(size) > BODY {
                return Err(wrong("a body that is too long"));
            }
            body.extend(self.exactly(size)?);
            self.line()?;
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.read.len() > LINE {
                return Err(wrong("a line that is too long"));
            }
            self.fill()?;
        }
    }

    /// So many bytes.
    fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if count > BODY {
            return Err(wrong("a body that is too long"));
        }
        while self.read.len() < count {
            self.fill()?;
        }
        let rest = self.read.split_off(count);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        let count = (&*self.stream).read(&mut bytes)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read.extend(bytes.iter().take(count));
        Ok(())
    }
}

fn head<'a>(status: u16, fields: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let fields: String = fields.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} {}\r\n{fields}\r\n", reason(status))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        _ => "Other",
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
