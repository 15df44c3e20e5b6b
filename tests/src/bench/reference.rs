//! What the daemon is measured against: the plainest good ways to do a part of what it does.

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use futures_util::SinkExt as _;
use makima_core::protocol::{Authenticate, DaemonCommand, DaemonDirectories, DaemonMessage};
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio_tungstenite::tungstenite::{self, Message};
use uuid::Uuid;

use super::{Failure, agents};

/// The word that asks for [`feed`].
pub(crate) const FEED: &str = "__feed";
/// The word that asks for [`hello`].
pub(crate) const HELLO: &str = "__hello";

/// What is read of a pipe in one go.
const READ: usize = 64 * 1024;

#[derive(Serialize)]
#[serde(tag = "type", rename = "taskOutput", rename_all = "camelCase")]
struct TaskOutput<'a> {
    task_id: Uuid,
    output: &'a str,
    is_partial: bool,
}

/// `__feed URL AGENT…`: an agent's lines to a WebSocket, with nothing in between: one string by `serde_json`
/// and one `feed` a line, one `flush` a read of the pipe.
pub(crate) fn feed(words: Vec<String>) -> Result<(), Failure> {
    let mut words = words.into_iter();
    let url = words.next().ok_or("no URL")?;
    let mut agent = Command::new(std::env::current_exe()?)
        .arg(agents::WORD)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = agent.stdout.take().ok_or("no pipe")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut socket, _) = tokio_tungstenite::client_async(&url, stream).await?;
        let mut pipe = pipe::Receiver::from_owned_fd(out.into())?;
        let mut buffer = vec![0; READ];
        let mut begun = String::new();
        loop {
            let count = pipe.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            let text = std::str::from_utf8(buffer.get(..count).unwrap_or_default())?;
            for line in text.split_inclusive('\n') {
                let Some(line) = line.strip_suffix('\n') else {
                    begun.push_str(line);
                    continue;
                };
                let whole = if begun.is_empty() {
                    line
                } else {
                    begun.push_str(line);
                    &begun
                };
                let output = TaskOutput { task_id: Uuid::from_u128(1), output: whole, is_partial: false };
                socket.feed(Message::text(serde_json::to_string(&output)?)).await?;
                begun.clear();
            }
            socket.flush().await?;
        }
        Ok::<(), Failure>(socket.close(None).await?)
    })?;
    agent.wait()?;
    // The sink has the last word.
    Ok(())
}

/// `__hello URL`: a session as a daemon opens it, and nothing else.
pub(crate) fn hello(words: Vec<String>) -> Result<(), Failure> {
    let url = words.first().ok_or("no URL")?;
    let address = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
    let (mut socket, _) = tungstenite::client(url, TcpStream::connect(address)?)?;
    let say = Authenticate {
        api_key: "key".to_owned(),
        machine_id: "machine".to_owned(),
        hostname: "host".to_owned(),
        max_concurrent_tasks: 1,
    };
    socket.send(Message::text(DaemonMessage::from(say).write()))?;
    DaemonCommand::read(socket.read()?.to_text()?).map_err(|why| why.to_string())?;
    let [working_directory, home_directory, worktrees_directory] = ["/", "/", "/"].map(str::to_owned);
    let say = DaemonDirectories { working_directory, home_directory, worktrees_directory };
    socket.send(Message::text(DaemonMessage::from(say).write()))?;
    // Stays, as a daemon does, until it is ended.
    let _ = io::stdin().read(&mut [0]);
    Ok(())
}
