//! Servers that are none of ours: whatever a test wants them to say.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept};

/// One daemon's connection, as the server has it.
pub(crate) type Peer = WebSocket<TcpStream>;

/// A WebSocket server that treats every connection in the same way.
pub(crate) struct FakeServer {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Value>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// Does this with every connection, once the first message has come; the connection ends when it returns.
    pub(crate) fn start(treat: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (heard, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (first, stop) = (Arc::clone(&heard), Arc::clone(&over));
        let treat = Arc::new(treat);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a bound");
                let (treat, first) = (Arc::clone(&treat), Arc::clone(&first));
                std::thread::spawn(move || {
                    // Whoever only looks whether anybody is here makes no handshake.
                    let Ok(mut peer) = accept(stream) else { return };
                    if let Ok(Message::Text(text)) = peer.read() {
                        let message = serde_json::from_str(&text).expect("daemons write JSON");
                        first.lock().expect("nobody panics with it").push(message);
                        treat(&mut peer);
                    }
                });
            }
        });
        Self { address, heard, over, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/daemons", self.address)
    }

    /// The first message of every connection.
    pub(crate) fn heard(&self) -> Vec<Value> {
        self.heard.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes it, if it waits for somebody.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes the daemon in and listens to it until it leaves.
pub(crate) fn authenticated(peer: &mut Peer) {
    let welcome = r#"{"type":"authenticated","daemonId":"0190a0e0-0000-7000-8000-000000000001"}"#;
    let _ = peer.send(Message::text(welcome));
    while peer.read().is_ok() {}
}
