//! A server whose every byte the test decides, and a link to it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use makima_core::id::Epoch;
use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use makima_transports::{
    Endpoint, LinkEvent, LinkHandle, Options, Outgoing, Proxies, Timeouts, WebSocket, endpoint, open_on,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// No wait of a test is longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const EPOCH: Epoch = Epoch(7);

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("took too long")
}

/// Serves one connection on loopback.
pub(crate) async fn serve<F, O>(server: impl FnOnce(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinHandle<O>)
where
    F: Future<Output = O> + Send,
    O: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        server(stream).await
    });
    (address, task)
}

/// Serves one connection on which the handshake went well.
pub(crate) async fn serve_upgraded<F, O>(
    server: impl FnOnce(Peer<TcpStream>) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<O>)
where
    F: Future<Output = O> + Send,
    O: Send + 'static,
{
    serve(async move |stream| server(Peer::accept(stream).await).await).await
}

/// The head of an HTTP request.
pub(crate) async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = request.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The far side of a WebSocket, frame by frame.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) async fn accept(stream: S) -> Self {
        Self::accept_with(stream, "").await
    }

    /// The same, with more headers in the answer.
    pub(crate) async fn accept_with(mut stream: S, headers: &str) -> Self {
        let request = request(&mut stream).await;
        let accept = derive_accept_key(header(&request, "Sec-WebSocket-Key").unwrap().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\
             {headers}Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        Self { stream }
    }

    /// Sends the beginning of a frame, and of its payload what is given.
    pub(crate) async fn send_head(&mut self, first: u8, length: usize, payload: &[u8]) {
        let mut head = vec![first, 127];
        head.extend((length as u64).to_be_bytes());
        self.stream.write_all(&head).await.unwrap();
        self.stream.write_all(payload).await.unwrap();
    }

    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        match u8::try_from(payload.len()) {
            Ok(length @ ..126) => {
                self.stream.write_all(&[&[0x80 | opcode, length], payload].concat()).await.unwrap();
            }
            Ok(_) | Err(_) => self.send_head(0x80 | opcode, payload.len(), payload).await,
        }
    }

    /// The next frame: its opcode and its payload without the mask.
    pub(crate) async fn receive(&mut self) -> (u8, Vec<u8>) {
        let first = self.stream.read_u8().await.unwrap();
        let second = self.stream.read_u8().await.unwrap();
        assert_eq!((first & 0xf0, second & 0x80), (0x80, 0x80), "one frame a message, masked");
        let length = match second & 0x7f {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut mask = [0; 4];
        self.stream.read_exact(&mut mask).await.unwrap();
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        (first & 0x0f, payload)
    }

    pub(crate) async fn receive_text(&mut self) -> String {
        let (opcode, payload) = self.receive().await;
        assert_eq!(opcode, TEXT);
        String::from_utf8(payload).unwrap()
    }

    /// Waits until the other end has closed its socket.
    pub(crate) async fn gone(mut self) {
        let _ = tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await;
    }
}

/// A link and what happens on it.
pub(crate) struct Link {
    pub(crate) handle: LinkHandle,
    pub(crate) events: Events,
}

pub(crate) struct Events {
    happened: mpsc::Receiver<(Epoch, LinkEvent)>,
}

/// Short where a test waits for one of them, else as they are.
pub(crate) fn short() -> Timeouts {
    Timeouts { handshake: Duration::from_millis(300), ..Timeouts::default() }
}

pub(crate) fn options(timeouts: Timeouts) -> Options {
    Options { timeouts, proxies: Proxies::Never, ..Options::default() }
}

pub(crate) fn at(address: SocketAddr) -> Endpoint {
    endpoint(&format!("ws://{address}/x")).unwrap()
}

impl Link {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::open_with(at(address), options(Timeouts::default()), 16)
    }

    pub(crate) fn open_with(endpoint: Endpoint, options: Options, capacity: usize) -> Self {
        let (events, happened) = mpsc::channel(capacity);
        let timeouts = options.timeouts;
        let handle = open_on(WebSocket::new(endpoint, options), timeouts, EPOCH, events);
        Self { handle, events: Events { happened } }
    }

    pub(crate) async fn up(address: SocketAddr) -> Self {
        let mut link = Self::open(address);
        assert_eq!(link.events.next().await, LinkEvent::Up(Wire::One));
        link
    }

    pub(crate) fn message(&self, n: u64, text: &str) {
        self.handle.send(Outgoing::Message { n, text: text.to_owned() });
    }
}

impl Events {
    pub(crate) fn new(happened: mpsc::Receiver<(Epoch, LinkEvent)>) -> Self {
        Self { happened }
    }

    pub(crate) async fn next(&mut self) -> LinkEvent {
        let (epoch, event) = within(self.happened.recv()).await.expect("an event");
        assert_eq!(epoch, EPOCH);
        event
    }

    /// The next event that is not about flushing.
    pub(crate) async fn received(&mut self) -> LinkEvent {
        let mut event = self.next().await;
        while matches!(event, LinkEvent::Flushed(_)) {
            event = self.next().await;
        }
        event
    }

    pub(crate) async fn flushed(&mut self, n: u64) {
        let mut flushed = 0;
        while flushed < n {
            let event = self.next().await;
            let LinkEvent::Flushed(more) = event else { panic!("{event:?}") };
            assert!(flushed < more);
            flushed = more;
        }
        assert_eq!(flushed, n);
    }

    /// How it ends: `Down`, and nothing afterwards.
    pub(crate) async fn down(&mut self) -> LinkCause {
        let LinkEvent::Down(cause) = self.received().await else { panic!("not down") };
        assert_eq!(within(self.happened.recv()).await, None);
        cause
    }

    pub(crate) fn is_quiet(&mut self) -> bool {
        self.happened.try_recv().is_err()
    }
}

pub(crate) fn broken(cause: LinkCause) -> String {
    let LinkCause::Broken(text) = cause else { panic!("{cause:?}") };
    text
}

pub(crate) fn unreachable(cause: LinkCause) -> String {
    let LinkCause::Unreachable(text) = cause else { panic!("{cause:?}") };
    text
}
