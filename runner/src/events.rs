//! A task's event stream, read as it comes and taken up again where it was cut.

use reqwest::Response;
use serde::Deserialize;

use crate::rest::Task;

/// One event of a task.
#[derive(Clone, Debug)]
pub enum Event {
    /// More of the agent's output.
    Output(String),
    /// The status changed.
    Status(String),
    /// A step, for people.
    Progress(String),
    /// How the completion action went.
    Completion(Completion),
    /// The task has ended.
    End(Box<Task>),
}

/// How a completion action went.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    /// Whether it was done.
    pub success: bool,
    /// For people.
    pub message: String,
    /// Where to look at the pull request, if there is one.
    #[serde(default)]
    pub pr_url: Option<String>,
}

/// A stream of server-sent events.
#[derive(Debug)]
pub struct Events {
    response: Response,
    buffer: Vec<u8>,
    /// The id of the newest event that was read: where another stream goes on.
    pub last: Option<String>,
}

/// What one block of the stream holds.
#[derive(Debug, Default)]
struct Block {
    id: Option<String>,
    name: String,
    data: String,
}

impl Events {
    /// Reads the events of a response, which go on behind `last`.
    #[must_use]
    pub const fn new(response: Response, last: Option<String>) -> Self {
        Self { response, buffer: Vec::new(), last }
    }

    /// The next event; none where the stream was cut.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Event>, reqwest::Error> {
        loop {
            while let Some(block) = self.take_block() {
                if let Some(id) = block.id {
                    self.last = Some(id);
                }
                if let Some(event) = event(&block.name, &block.data) {
                    return Ok(Some(event));
                }
            }
            match self.response.chunk().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// The first whole block of the buffer: what stands before an empty line.
    fn take_block(&mut self) -> Option<Block> {
        let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let text: Vec<u8> = self.buffer.drain(..end.saturating_add(2)).collect();
        let mut block = Block::default();
        for line in String::from_utf8_lossy(&text).lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => block.id = Some(value.to_string()),
                "event" => block.name = value.to_string(),
                "data" => block.data.push_str(value),
                _ => {}
            }
        }
        Some(block)
    }
}

#[derive(Deserialize)]
struct OutputData {
    text: String,
}

#[derive(Deserialize)]
struct StatusData {
    to: String,
}

#[derive(Deserialize)]
struct ProgressData {
    summary: String,
}

/// Reads one event. What a newer server says beyond these is left out.
fn event(name: &str, data: &str) -> Option<Event> {
    match name {
        "output" => serde_json::from_str(data).ok().map(|OutputData { text }| Event::Output(text)),
        "status" => serde_json::from_str(data).ok().map(|StatusData { to }| Event::Status(to)),
        "progress" => serde_json::from_str(data).ok().map(|ProgressData { summary }| Event::Progress(summary)),
        "completion" => serde_json::from_str(data).ok().map(Event::Completion),
        "end" => serde_json::from_str(data).ok().map(|task| Event::End(Box::new(task))),
        _ => None,
    }
}
