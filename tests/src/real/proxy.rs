//! The line between daemon and server: it can be cut, go silent, and be well again. It looks at what the daemon says of
//! ends, as that is the one thing that it must not say in two ways.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::sniff::Sniffer;

/// For the other side of a connection that is made.
const CONNECT: Duration = Duration::from_secs(5);

/// How the line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Everything gets through.
    Well,
    /// Connections end at once.
    Cut,
    /// Connections stay, and nothing gets through.
    Silent,
}

/// The line.
pub struct Proxy {
    /// Where the daemon connects to.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    line: Mutex<Line>,
    /// Both ends of each connection, and whether it is one that nothing gets through any more.
    open: Mutex<Vec<Connection>>,
    /// How each task was told to have ended.
    ends: Mutex<BTreeMap<String, BTreeSet<String>>>,
    over: AtomicBool,
}

#[derive(Clone)]
struct Connection {
    ends: Arc<[TcpStream; 2]>,
    lost: Arc<AtomicBool>,
}

impl Proxy {
    /// A line to this address, which is well.
    ///
    /// # Errors
    /// No port can be had.
    pub fn open(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to,
            line: Mutex::new(Line::Well),
            open: Mutex::default(),
            ends: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                accepting.connect(stream);
            }
        });
        Ok(Self { address, shared })
    }

    /// From now on the line is like this. Connections outlive only that it goes silent, and do not outlive that.
    pub fn is(&self, line: Line) {
        let mut now = held(&self.shared.line);
        let mut open = held(&self.shared.open);
        if line == Line::Silent {
            open.iter().for_each(|connection| connection.lost.store(true, Ordering::SeqCst));
        } else if *now != line {
            open.drain(..).for_each(|connection| connection.end());
        }
        *now = line;
    }

    /// Of the ends that the daemon has told, those that it has told in several ways: one may be told again, but not as
    /// another one.
    #[must_use]
    pub fn told_in_several_ways(&self) -> Vec<String> {
        let ends = held(&self.shared.ends);
        let twice = ends.iter().filter(|(_, ways)| ways.len() > 1);
        twice.map(|(task, ways)| format!("task {task}: it ended in several ways: {ways:?}")).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
        held(&self.shared.open).drain(..).for_each(|connection| connection.end());
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, daemon: TcpStream) {
        let line = *held(&self.line);
        if line == Line::Cut {
            return;
        }
        let Ok(server) = TcpStream::connect_timeout(&self.to, CONNECT) else { return };
        for end in [&daemon, &server] {
            let _ = end.set_nodelay(true);
        }
        let lost = Arc::new(AtomicBool::new(line == Line::Silent));
        let connection = Connection { ends: Arc::new([daemon, server]), lost };
        {
            // The line may have changed meanwhile: whoever changes it holds both.
            let now = held(&self.line);
            if *now != line {
                return connection.end();
            }
            held(&self.open).push(connection.clone());
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let (shared, connection) = (Arc::clone(self), connection.clone());
            std::thread::spawn(move || shared.carry(&connection, from, to));
        }
    }

    fn carry(&self, connection: &Connection, from: usize, to: usize) {
        let (Some(mut reader), Some(mut writer)) = (connection.ends.get(from), connection.ends.get(to)) else { return };
        let mut sniffer = (from == 0).then(Sniffer::default);
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default();
            if let Some(sniffer) = &mut sniffer {
                for (task, how) in sniffer.ends(bytes) {
                    held(&self.ends).entry(task).or_default().insert(how);
                }
            }
            if !connection.lost.load(Ordering::SeqCst) && writer.write_all(bytes).is_err() {
                break;
            }
        }
        // Of a silent line nobody hears that the other side has gone.
        if !connection.lost.load(Ordering::SeqCst) {
            connection.end();
        }
        held(&self.open).retain(|open| !Arc::ptr_eq(&open.ends, &connection.ends) || open.is_lost());
    }
}

impl Connection {
    fn end(&self) {
        for end in self.ends.iter() {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
