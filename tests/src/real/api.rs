//! The server's REST interface, by the oldest HTTP that there is.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, PATIENCE, wait_for};

/// What everybody shows here.
pub(super) const KEY: &str = "the-key-of-the-kill-loop";

/// Where the server answers.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    address: SocketAddr,
}

impl Api {
    /// The one at this address, now or later.
    #[must_use]
    pub const fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Asks for a task of this id. Done again until the server has it: it may be killed meanwhile.
    ///
    /// # Errors
    /// It does not take it.
    pub fn spawn(&self, id: &str, plan: &str, repository: &Path) -> Result<(), Failure> {
        let task = json!({ "taskId": id, "taskName": "Kill loop", "plan": plan, "repoUrl": repository,
                           "completionAction": "branch" });
        wait_for("the server to take a task", || {
            let (status, _) = self.request("POST", "/api/v1/tasks", &task.to_string(), PATIENCE).ok()?;
            matches!(status, 200 | 201).then_some(())
        })
    }

    /// What the server answers to a `GET`.
    ///
    /// # Errors
    /// It does not answer well.
    pub fn get(&self, path: &str) -> Result<String, Failure> {
        wait_for(&format!("the server to answer to {path}"), || {
            let (status, body) = self.request("GET", path, "", PATIENCE).ok()?;
            (status == 200).then_some(body)
        })
    }

    /// All tasks.
    ///
    /// # Errors
    /// The server does not tell.
    pub fn tasks(&self) -> Result<Vec<Value>, Failure> {
        Ok(serde_json::from_str(&self.get("/api/v1/tasks")?)?)
    }

    /// One request: its status and its body. The older version of HTTP knows no chunks: the body ends where the
    /// connection does.
    ///
    /// # Errors
    /// There is no whole answer, or a moment of silence was longer than `patience`.
    pub fn request(&self, method: &str, path: &str, body: &str, patience: Duration) -> Result<(u16, String), Failure> {
        let mut stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let (host, length) = (self.address, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8(answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a head")?;
        let whole = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if whole.is_some_and(|length| length != body.len()) {
            return Err("an answer that breaks off".into());
        }
        Ok((head.split(' ').nth(1).ok_or("an answer without a status")?.parse()?, body.to_owned()))
    }
}
