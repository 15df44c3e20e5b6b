//! The whole of version 2 at once: the daemon's own transports, this server with its file, and between them a line that
//! is cut wherever it pleases, while the server is killed now and then.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use makima_control::hub::{Said, SessionId, Tell};
use makima_core::effect::Way;
use makima_core::id::Epoch;
use makima_core::protocol::{DaemonCommand, Hello, Place};
use makima_transports::{LinkEvent, LinkHandle, Outgoing, endpoint, open};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::common::{TOKEN, World, authenticate, complete, progress, soon};
use crate::numbers_model::{Daemon, Down, Link, stream};
use crate::wire2::body;

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// What stands between: each connection dies after so many bytes in either direction, never where there are none.
#[derive(Clone)]
struct Line {
    server: Arc<Mutex<SocketAddr>>,
    bytes: Arc<Mutex<Option<u64>>>,
}

async fn line(line: Line) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((daemon, _)) = listener.accept().await {
            let (server, bytes) = (*line.server.lock().unwrap(), *line.bytes.lock().unwrap());
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(server).await else { return };
                carry(daemon, server, bytes).await;
            });
        }
    });
    address
}

async fn carry(mut daemon: TcpStream, mut server: TcpStream, bytes: Option<u64>) {
    let mut left = bytes.unwrap_or(u64::MAX);
    let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
    while left > 0 {
        let most = |n: usize, left: u64| n.min(usize::try_from(left).unwrap_or(usize::MAX));
        let moved = tokio::select! {
            Ok(n @ 1..) = daemon.read(&mut up) => {
                let n = most(n, left);
                server.write_all(&up[..n]).await.map(|()| n)
            }
            Ok(n @ 1..) = server.read(&mut down) => {
                let n = most(n, left);
                daemon.write_all(&down[..n]).await.map(|()| n)
            }
            else => return,
        };
        let Ok(n) = moved else { return };
        left -= n as u64;
    }
}

/// A frame as a daemon sends it.
fn frame(said: Said) -> Value {
    let mut frame = said.body.as_ref().map_or(json!({}), body);
    if let Some(seq) = said.seq {
        frame["seq"] = seq.into();
    }
    if let Some(ack) = said.ack {
        frame["ack"] = ack.into();
    }
    if said.meta.off.is_some() {
        frame["meta"] = serde_json::to_value(said.meta).unwrap();
    }
    if let Some(hello) = said.hello {
        frame["hello"] = serde_json::to_value(hello).unwrap();
    }
    frame
}

/// What a daemon makes of a frame.
fn heard(text: &str) -> Option<Down> {
    let frame: Value = serde_json::from_str(text).unwrap();
    let place = |name: &str| serde_json::from_value::<Place>(frame[name].clone()).ok();
    if let Some(seq) = frame["seq"].as_u64() {
        return Some(Down::Numbered(seq, Box::new(DaemonCommand::read(&frame["body"].to_string()).unwrap())));
    }
    if let Ok(hello) = serde_json::from_value::<Hello>(frame["hello"].clone()) {
        return Some(Down::Tell(Tell::Hello(hello)));
    }
    let tell = frame["ack"].as_u64().map(Tell::Ack);
    tell.or(place("got").map(Tell::Got)).or(place("rewind").map(Tell::Rewind)).map(Down::Tell)
}

struct Rig {
    daemon: Daemon,
    line: SocketAddr,
    sessions: u32,
    n: u64,
    steps: Vec<(Uuid, String)>,
}

impl Rig {
    /// Works over one connection until that is gone, the time is up, or there is nothing more to do.
    async fn session(&mut self, chance: &mut Chance, way: Way, long: Duration, works: bool) {
        self.sessions += 1;
        let (sender, mut events) = mpsc::channel(64);
        let server = endpoint(&format!("http://{}", self.line)).unwrap();
        let link = open(server, way, Epoch(self.sessions), sender);
        let session = SessionId(self.sessions.into());
        let (up, down) = Default::default();
        self.daemon.link = Some(Link { session, up, down, live: false, said: Vec::new() });
        let until = Instant::now() + long;
        while Instant::now() < until {
            match timeout(Duration::from_millis(5), events.recv()).await {
                Ok(Some((_, LinkEvent::Up(_)))) => self.send(&link, body(&authenticate("a", TOKEN))),
                Ok(Some((_, LinkEvent::Frame(text)))) => {
                    if let Some(down) = heard(&text) {
                        self.daemon.hear(down);
                    }
                }
                Ok(Some((_, LinkEvent::Down(_)))) | Ok(None) => break,
                Ok(Some(_)) => {}
                Err(_) if !works && self.is_done() => break,
                Err(_) => {}
            }
            if works {
                self.work(chance);
            }
            while let Some(said) = self.daemon.link.as_mut().and_then(|link| link.up.pop_front()) {
                self.send(&link, frame(said));
            }
        }
        self.daemon.link = None;
    }

    fn send(&mut self, link: &LinkHandle, frame: Value) {
        self.n += 1;
        link.send(Outgoing::Message { n: self.n, text: frame.to_string() });
    }

    fn work(&mut self, chance: &mut Chance) {
        let ids: Vec<Uuid> = self.daemon.jobs.keys().copied().collect();
        let Some(id) = ids.get(usize::try_from(chance.below(ids.len().max(1) as u64)).unwrap()).copied() else {
            return;
        };
        if chance.below(2) == 0 {
            let step = format!("step {}", self.steps.len());
            self.steps.push((id, step.clone()));
            self.daemon.number(progress(id, &step));
        } else {
            self.daemon.jobs.get_mut(&id).unwrap().log += chance.below(200) + 1;
            self.daemon.output(id);
        }
    }

    fn is_done(&self) -> bool {
        let told = self.daemon.jobs.values().all(|job| job.got == job.log);
        self.daemon.outbox.is_empty() && told
    }
}

/// Protects the promises of version 2 where everything is real: every step once and in order, the output whole, every
/// task ended, by whichever way and whatever was cut.
#[tokio::test]
async fn whatever_is_cut_nothing_is_lost_or_doubled() {
    let seeds = std::env::var("MAKIMA_CUTS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(2);
    for seed in 0..seeds {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let mut world = World::new().await;
    let mut chance = Chance(seed);
    let (server, bytes) = (Arc::new(Mutex::new(world.server().address())), Arc::new(Mutex::new(None)));
    let line = line(Line { server: Arc::clone(&server), bytes: Arc::clone(&bytes) }).await;
    let daemon = Daemon { epoch: 9, ..Daemon::default() };
    let mut rig = Rig { daemon, line, sessions: 0, n: 0, steps: Vec::new() };
    let mut tasks = Vec::new();
    for round in 0..60 {
        if round % 15 == 0 {
            tasks.push(world.create("x").await);
        }
        if round % 20 == 19 {
            world.kill().await;
            *server.lock().unwrap() = world.server().address();
        }
        let way = if chance.below(2) == 0 { Way::WebSocket } else { Way::LongPoll };
        *bytes.lock().unwrap() = Some(chance.below(12_000) + 300);
        let long = Duration::from_millis(chance.below(150) + 20);
        rig.session(&mut chance, way, long, true).await;
    }
    *bytes.lock().unwrap() = None;
    rig.session(&mut chance, Way::LongPoll, Duration::from_secs(20), false).await;
    assert!(rig.is_done(), "seed {seed}: something is not acknowledged: {:?}", rig.daemon);
    assert_eq!(rig.daemon.jobs.len(), tasks.len(), "a command was lost");
    assert!(rig.steps.len() > 20, "too little was done: {}", rig.steps.len());
    for id in &tasks {
        rig.daemon.number(complete(*id, None));
    }
    rig.session(&mut chance, Way::WebSocket, Duration::from_secs(20), false).await;
    for id in tasks {
        let log = rig.daemon.jobs[&id].log;
        // The end of a task ends a line that was begun.
        let rest = if log > 0 { "\n" } else { "" };
        assert!(world.output(id).await == stream(0, log) + rest, "seed {seed}: another text");
        let events = soon("events", world.get(&format!("/api/v1/tasks/{id}/events")).send()).await.unwrap();
        let events = events.text().await.unwrap();
        let kept: Vec<&str> = events.lines().filter_map(|line| line.split(r#""summary":""#).nth(1)).collect();
        let kept: Vec<&str> = kept.iter().filter_map(|rest| rest.split('"').next()).collect();
        let said: Vec<&str> = rig.steps.iter().filter(|(of, _)| *of == id).map(|(_, step)| step.as_str()).collect();
        assert_eq!(kept, said);
        assert_eq!(world.task(id).await["success"], true);
    }
    assert_eq!(world.server().counters().unreadable, 0);
}
