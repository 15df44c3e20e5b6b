//! A server of long-poll whose every answer the test decides, and the requests that it gets.

use std::net::SocketAddr;

use makima_core::effect::Way;
use makima_transports::{Endpoint, LinkEvent, Options, Outgoing, Timeouts, endpoint, open_with};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::support::{EPOCH, Events, Link, header, options, request, within};

pub(crate) const KEY: &str = "k3y";

/// One request, which waits for its answer. Dropped, its connection is cut.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
    /// Over which connection it came.
    pub(crate) connection: usize,
    answer: oneshot::Sender<Vec<u8>>,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// An answer byte for byte. If it does not say how long it is, the connection ends with it.
    pub(crate) fn raw(self, bytes: impl Into<Vec<u8>>) {
        let _ = self.answer.send(bytes.into());
    }

    pub(crate) fn answer(self, status: u16, headers: &str, body: &str) {
        self.raw(format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()));
    }

    pub(crate) fn say(self, body: Value) {
        self.answer(200, "Content-Type: application/json\r\nMakima-Wire: 2\r\n", &body.to_string());
    }

    /// A poll's answer.
    pub(crate) fn commands(self, commands: Value) {
        self.say(json!({"commands": commands, "more": false}));
    }
}

/// Where requests come in, by what they ask for.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    session: mpsc::UnboundedReceiver<Asked>,
    poll: mpsc::UnboundedReceiver<Asked>,
    push: mpsc::UnboundedReceiver<Asked>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (senders, [session, poll, push]) = channels();
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                connection += 1;
                tokio::spawn(serve(stream, connection, senders.clone()));
            }
        });
        Self { address, session, poll, push }
    }

    pub(crate) async fn session(&mut self) -> Asked {
        within(self.session.recv()).await.unwrap()
    }

    pub(crate) async fn poll(&mut self) -> Asked {
        within(self.poll.recv()).await.unwrap()
    }

    pub(crate) async fn push(&mut self) -> Asked {
        within(self.push.recv()).await.unwrap()
    }

    /// Whichever comes first; true for a push.
    pub(crate) async fn push_or_poll(&mut self) -> (bool, Asked) {
        tokio::select! {
            Some(push) = self.push.recv() => (true, push),
            Some(poll) = self.poll.recv() => (false, poll),
        }
    }

    /// Whether no push has come.
    pub(crate) fn no_push(&mut self) -> bool {
        self.push.try_recv().is_err()
    }

    pub(crate) fn no_poll(&mut self) -> bool {
        self.poll.try_recv().is_err()
    }

    /// A link to it with an open session, and the poll that it holds.
    pub(crate) async fn link(&mut self, timeouts: Timeouts) -> (Link, Asked) {
        let mut link = link(at(self.address), options(timeouts));
        authenticate(&mut link).await;
        self.session().await.say(opened());
        greeted(&mut link.events).await;
        let poll = self.poll().await;
        (link, poll)
    }
}

type Senders = [mpsc::UnboundedSender<Asked>; 3];

fn channels() -> (Senders, [mpsc::UnboundedReceiver<Asked>; 3]) {
    let [(a, x), (b, y), (c, z)] = [(); 3].map(|()| mpsc::unbounded_channel());
    ([a, b, c], [x, y, z])
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, connection: usize, [session, poll, push]: Senders) {
    loop {
        // Between two requests the other end may leave.
        let mut first = [0];
        if !matches!(stream.read(&mut first).await, Ok(1)) {
            return;
        }
        let mut rest = std::io::Cursor::new(first);
        let head = request(&mut tokio::io::join(AsyncReadExt::chain(&mut rest, &mut stream), tokio::io::sink())).await;
        let length = header(&head, "Content-Length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let (answer, answered) = oneshot::channel();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let asked = Asked { head, body: String::from_utf8(body).unwrap(), connection, answer };
        match path.rsplit('/').next() {
            Some("session") => session.send(asked).unwrap(),
            Some("poll") => poll.send(asked).unwrap(),
            Some("push") => push.send(asked).unwrap(),
            other => panic!("{other:?}"),
        }
        let Ok(bytes) = answered.await else { return };
        let whole = String::from_utf8_lossy(&bytes).contains("Content-Length: ");
        if stream.write_all(&bytes).await.is_err() || !whole {
            return;
        }
    }
}

pub(crate) fn at(address: SocketAddr) -> Endpoint {
    endpoint(&format!("ws://{address}/x")).unwrap()
}

pub(crate) fn link(endpoint: Endpoint, options: Options) -> Link {
    let (events, happened) = mpsc::channel(64);
    let handle = open_with(endpoint, options, Way::LongPoll, EPOCH, events);
    Link { handle, events: Events::new(happened) }
}

/// What the core says first.
pub(crate) async fn authenticate(link: &mut Link) {
    assert_eq!(link.events.next().await, LinkEvent::Up(makima_core::protocol::Wire::Two));
    link.message(1, &format!(r#"{{"body":{}}}"#, hello_body()));
}

pub(crate) fn hello_body() -> String {
    format!(r#"{{"type":"authenticate","apiKey":"{KEY}","machineId":"m","hostname":"h","maxConcurrentTasks":4}}"#)
}

pub(crate) fn opened() -> Value {
    json!({
        "session": "s-1",
        "daemonId": "0193e5a0-0000-7000-8000-000000000001",
        "hello": {"epoch": 5, "of": 0, "applied": 0, "tasks": []},
    })
}

/// What the core hears first.
pub(crate) async fn greeted(events: &mut Events) {
    assert_eq!(events.next().await, LinkEvent::Flushed(1));
    let authenticated =
        r#"{"body":{"type":"authenticated","daemonId":"0193e5a0-0000-7000-8000-000000000001"}}"#.to_owned();
    assert_eq!(events.next().await, LinkEvent::Frame(authenticated));
    let LinkEvent::Frame(hello) = events.next().await else { panic!("no hello") };
    let hello: Value = serde_json::from_str(&hello).unwrap();
    assert_eq!(hello, json!({"hello": opened()["hello"]}));
}

/// Has a frame sent.
pub(crate) fn send(link: &Link, n: u64, frame: &Value) {
    link.handle.send(Outgoing::Message { n, text: frame.to_string() });
}
