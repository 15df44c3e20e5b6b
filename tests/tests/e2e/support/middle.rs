//! What stands between a daemon and its server in other people's networks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What it does to a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Lets it through.
    Open,
    /// Answers its handshake with this status and a page for people.
    Page(u16),
    /// Lets its handshake through, and holds back what the server says after that.
    Buffers,
    /// Takes the header out of its handshake by which both ends agree on version 2 of the wire.
    Strips,
    /// Ends any connection on which nothing was said for so long.
    CutsIdle(Duration),
}

/// A proxy on a loopback port of its own.
#[derive(Debug)]
pub(crate) struct Middle {
    address: String,
    manner: Arc<Mutex<Manner>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    websockets: Arc<AtomicUsize>,
    polls: Arc<AtomicUsize>,
    /// What was asked of it last.
    asked: Arc<Mutex<String>>,
}

impl Middle {
    /// Between whoever connects and `origin` (`http://host:port`).
    pub(crate) fn before(origin: &str, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let to = origin.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let middle = Self {
            address,
            manner: Arc::new(Mutex::new(manner)),
            open: Arc::default(),
            websockets: Arc::default(),
            polls: Arc::default(),
            asked: Arc::default(),
        };
        let (manner, open) = (Arc::clone(&middle.manner), Arc::clone(&middle.open));
        let counts = (Arc::clone(&middle.websockets), Arc::clone(&middle.polls));
        let asked = Arc::clone(&middle.asked);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (to, open, counts, asked) = (to.clone(), Arc::clone(&open), counts.clone(), Arc::clone(&asked));
                let manner = *manner.lock().unwrap_or_else(PoisonError::into_inner);
                thread::spawn(move || {
                    let mut client = client;
                    let Some(head) = request(&mut client) else { return };
                    asked.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&head);
                    serve(client, head, &to, manner, &open, &counts);
                });
            }
        });
        middle
    }

    /// Where it is, as an origin.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it is another one: what is open is cut.
    pub(crate) fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
        self.cut();
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The head of the request that it was asked last.
    pub(crate) fn asked(&self) -> String {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many WebSockets went through, and how many connections for requests of long-poll.
    pub(crate) fn passed(&self) -> (usize, usize) {
        (self.websockets.load(Ordering::SeqCst), self.polls.load(Ordering::SeqCst))
    }
}

fn serve(
    mut client: TcpStream,
    mut head: String,
    to: &str,
    manner: Manner,
    open: &Mutex<Vec<TcpStream>>,
    counts: &(Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let is_websocket = head.to_ascii_lowercase().contains("upgrade: websocket");
    if let (Manner::Page(status), true) = (manner, is_websocket) {
        let page = "<!doctype html><title>Not here</title>";
        let _ = write!(
            client,
            "HTTP/1.1 {status} Blocked\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
            page.len()
        );
        return;
    }
    if manner == Manner::Strips && is_websocket {
        let lines = head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("makima-wire"));
        head = lines.collect();
    }
    let Ok(mut server) = TcpStream::connect(to) else { return };
    if server.write_all(head.as_bytes()).is_err() {
        return;
    }
    let count = if is_websocket { &counts.0 } else { &counts.1 };
    count.fetch_add(1, Ordering::SeqCst);
    let idle = if let Manner::CutsIdle(long) = manner { Some(long) } else { None };
    let holds = manner == Manner::Buffers && is_websocket;
    let pairs = (client.try_clone(), server.try_clone());
    let (Ok(client_out), Ok(server_out)) = pairs else { return };
    for stream in [&client, &server] {
        if let Ok(stream) = stream.try_clone() {
            open.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
    }
    let up = thread::spawn(move || copy(client, server_out, idle, false));
    copy(server, client_out, idle, holds);
    let _ = up.join();
}

/// The head of a request, up to the empty line.
fn request(client: &mut TcpStream) -> Option<String> {
    client.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 64 * 1024 {
        if client.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    client.set_read_timeout(None).ok()?;
    String::from_utf8(head).ok()
}

/// Until one side has had enough. `holds`: of what comes, only the first goes on.
fn copy(mut from: TcpStream, mut to: TcpStream, idle: Option<Duration>, holds: bool) {
    let _ = from.set_read_timeout(idle);
    let mut buffer = [0; 16 * 1024];
    let mut first = true;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if (first || !holds) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
        first = false;
    }
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
