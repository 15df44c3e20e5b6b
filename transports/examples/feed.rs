//! What a line of output costs between a queue and a socket, beside the plainest good way with the same
//! library: one string by `serde_json` and one `feed` a line, one `flush` per 64 KiB of lines.
//!
//! `cargo run --release -p makima-transports --example feed [LINES]`
//!
//! Both send the same lines in turn, in one run, to a sink in a process of its own that walks the frames'
//! headers and does nothing else. CPU time is this process's alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use makima_core::effect::Piece;
use makima_core::id::Epoch;
use makima_transports::{LinkEvent, Outgoing, endpoint, open};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

const ROUNDS: usize = 7;
const BLOCK: usize = 64 << 10;
const LINE: usize = 200;
/// Blocks that are given to the link before the first of them is flushed.
const WINDOW: u64 = 4;
const TASK: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

type Failure = Box<dyn std::error::Error>;

#[derive(Serialize)]
#[serde(tag = "type", rename = "taskOutput", rename_all = "camelCase")]
struct TaskOutput<'a> {
    task_id: Uuid,
    output: &'a str,
    is_partial: bool,
}

/// What one way of sending took for one line.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn main() -> Result<(), Failure> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("sink") {
        return sink();
    }
    let lines = argument.map_or(Ok(1_000_000), |lines| lines.parse::<usize>())?;
    let mut child = Command::new(std::env::current_exe()?).arg("sink").stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut address)?;
    let measured = measure(address.trim().parse()?, lines);
    child.kill()?;
    child.wait()?;
    measured
}

fn measure(sink: SocketAddr, lines: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let plain: String = ('a'..='z').cycle().take(LINE).collect();
    let json = r#"{"type":"assistant","message":{"role":"assistant","content":[{"type":"text","text":"a\nb"}]}}"#;
    println!("{lines} lines of {LINE} B, median of {ROUNDS} rounds in turn, us per line\n");
    println!("lines  way        wall    CPU");
    for (name, line) in [("plain", plain), ("json", format!("{json:<LINE$}"))] {
        let block = format!("{line}\n").repeat(BLOCK / (LINE + 1));
        let (mut reference, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            reference.push(runtime.block_on(tung_feed(sink, &block, lines))?);
            ours.push(runtime.block_on(link(sink, &block, lines))?);
        }
        let (reference, ours) = (median(&reference), median(&ours));
        println!("{name:5}  tung-feed  {:.3}  {:.3}", reference.wall, reference.cpu);
        println!("{name:5}  link       {:.3}  {:.3}", ours.wall, ours.cpu);
        println!("{name:5}  ratio      {:.2}   {:.2}", ours.wall / reference.wall, ours.cpu / reference.cpu);
    }
    Ok(())
}

async fn tung_feed(sink: SocketAddr, block: &str, lines: usize) -> Result<Cost, Failure> {
    let stream = tokio::net::TcpStream::connect(sink).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{sink}/x"), stream).await?;
    let clock = Clock::start();
    let mut left = lines;
    while left > 0 {
        for line in block.lines().take(left) {
            let text = serde_json::to_string(&TaskOutput { task_id: TASK, output: line, is_partial: false })?;
            socket.feed(Message::text(text)).await?;
            left -= 1;
        }
        socket.flush().await?;
    }
    let cost = clock.cost(lines);
    socket.close(None).await?;
    Ok(cost)
}

async fn link(sink: SocketAddr, block: &str, lines: usize) -> Result<Cost, Failure> {
    let (events, mut happened) = mpsc::channel(16);
    let link = open(endpoint(&format!("ws://{sink}/x"))?, Epoch(1), events);
    expect(&mut happened, |event| matches!(event, LinkEvent::Up)).await?;
    let clock = Clock::start();
    let (mut left, mut n) = (lines, 0_u64);
    while left > 0 {
        let pieces = pieces(block, left)?;
        left -= pieces.len();
        n += 1;
        link.send(Outgoing::Output { n, task: TASK, text: block.to_owned(), pieces });
        if n % WINDOW == 0 || left == 0 {
            expect(&mut happened, |event| *event == LinkEvent::Flushed(n)).await?;
        }
    }
    let cost = clock.cost(lines);
    drop(link);
    expect(&mut happened, |event| matches!(event, LinkEvent::Down(_))).await?;
    Ok(cost)
}

async fn expect(
    happened: &mut mpsc::Receiver<(Epoch, LinkEvent)>,
    wanted: impl Fn(&LinkEvent) -> bool,
) -> Result<(), Failure> {
    loop {
        match happened.recv().await {
            Some((_, event)) if wanted(&event) => return Ok(()),
            Some((_, LinkEvent::Flushed(_))) => {}
            other => return Err(format!("not expected: {other:?}").into()),
        }
    }
}

fn pieces(block: &str, most: usize) -> Result<Vec<Piece>, Failure> {
    let mut start = 0;
    let mut pieces = Vec::with_capacity(block.len() / (LINE + 1));
    for line in block.lines().take(most) {
        let end = start + u32::try_from(line.len())?;
        pieces.push(Piece { start, end, partial: false });
        start = end + 1;
    }
    Ok(pieces)
}

struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu() }
    }

    fn cost(&self, lines: usize) -> Cost {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / lines as f64;
        Cost { wall: each(self.wall.elapsed()), cpu: each(cpu() - self.cpu) }
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Cost { wall: middle(|cost| cost.wall), cpu: middle(|cost| cost.cpu) }
}

/// The cheapest server there can be: it answers the handshake, then looks at nothing but frames' headers.
fn sink() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        walk(stream)?;
    }
}

fn walk(mut stream: TcpStream) -> Result<(), Failure> {
    let mut reader = BufReader::with_capacity(256 << 10, stream.try_clone()?);
    let mut key = String::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-key") => key = value.trim().to_owned(),
            Some(_) => {}
            None if header == "\r\n" => break,
            None => {}
        }
    }
    let accept = derive_accept_key(key.as_bytes());
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    write!(stream, "{answer}Sec-WebSocket-Accept: {accept}\r\n\r\n")?;
    while let Some((opcode, length)) = frame_header(&mut reader)? {
        skip(&mut reader, length)?;
        if opcode == 8 {
            return Ok(stream.write_all(&[0x88, 0])?);
        }
    }
    Ok(())
}

fn skip(reader: &mut impl BufRead, mut length: u64) -> Result<(), Failure> {
    while length > 0 {
        let there = usize::try_from(length)?.min(reader.fill_buf()?.len());
        if there == 0 {
            return Err("the connection ended inside a frame".into());
        }
        reader.consume(there);
        length -= there as u64;
    }
    Ok(())
}

fn frame_header(reader: &mut impl Read) -> Result<Option<(u8, u64)>, Failure> {
    let mut head = [0; 2];
    if reader.read_exact(&mut head).is_err() {
        return Ok(None);
    }
    let length = match head[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            reader.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        }
        short => u64::from(short),
    };
    // The mask's four bytes lie between.
    Ok(Some((head[0] & 0x0f, length + 4)))
}
