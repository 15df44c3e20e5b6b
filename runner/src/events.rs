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

/// The longest event, in bytes: output comes in pieces that are far shorter.
pub(crate) const EVENT_MAX: usize = 16 << 20;

/// An event that has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// A stream of server-sent events.
#[derive(Debug)]
pub struct Events {
    response: Response,
    blocks: Blocks,
    /// The id of the newest event that was read: where another stream goes on.
    pub last: Option<String>,
}

/// What one block of the stream holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: Option<String>,
    name: String,
    data: String,
}

/// What has come of the stream and was not read yet.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    buffer: Vec<u8>,
    /// So many bytes of it are blocks that were read.
    read: usize,
    /// In so many bytes of it no block ends that was not read: they need not be looked at again.
    looked: usize,
}

impl Events {
    /// Reads the events of a response, which go on behind `last`.
    #[must_use]
    pub fn new(response: Response, last: Option<String>) -> Self {
        Self { response, blocks: Blocks::default(), last }
    }

    /// The next event; none where the stream was cut.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Event>, reqwest::Error> {
        loop {
            while let Some(block) = self.blocks.next() {
                let event = block.event();
                self.last = block.id.or(self.last.take());
                if let Some(event) = event {
                    return Ok(Some(event));
                }
            }
            match self.response.chunk().await? {
                // One that says no end is cut off, like a stream that was cut.
                Some(bytes) if self.blocks.add(&bytes).is_err() => return Ok(None),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

impl Blocks {
    /// More has come. All that was whole has to be read before.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.buffer.drain(..self.read);
        self.looked = self.looked.saturating_sub(self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
        // What is whole among the new bytes is taken at once.
        if self.looked > EVENT_MAX { Err(TooLong) } else { Ok(()) }
    }

    /// How much of it is kept, in bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn kept(&self) -> usize {
        self.buffer.len().saturating_sub(self.read)
    }

    /// The first whole block: what stands before an empty line.
    pub(crate) fn next(&mut self) -> Option<Block> {
        let rest = self.buffer.get(self.looked..).unwrap_or_default();
        let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") else {
            // The last byte may be the first half of an end.
            self.looked = self.looked.max(self.buffer.len().saturating_sub(1));
            return None;
        };
        let end = self.looked.saturating_add(end).saturating_add(2);
        let text = String::from_utf8_lossy(self.buffer.get(self.read..end).unwrap_or_default());
        let mut block = Block::default();
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => block.id = Some(value.to_string()),
                "event" => block.name = value.to_string(),
                "data" => block.data.push_str(value),
                _ => {}
            }
        }
        (self.read, self.looked) = (end, end);
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

impl Block {
    /// Reads the event. What a newer server says beyond these is left out.
    pub(crate) fn event(&self) -> Option<Event> {
        let data = self.data.as_str();
        match self.name.as_str() {
            "output" => serde_json::from_str(data).ok().map(|OutputData { text }| Event::Output(text)),
            "status" => serde_json::from_str(data).ok().map(|StatusData { to }| Event::Status(to)),
            "progress" => serde_json::from_str(data).ok().map(|ProgressData { summary }| Event::Progress(summary)),
            "completion" => serde_json::from_str(data).ok().map(Event::Completion),
            "end" => serde_json::from_str(data).ok().map(|task| Event::End(Box::new(task))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects memory from a server that says no end, and events that are as long as the longest from being cut.
    #[test]
    fn an_event_without_an_end_is_not_kept_for_ever() {
        let mut blocks = Blocks::default();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..16 {
            assert_eq!(blocks.add(&piece), Ok(()));
            assert_eq!(blocks.next(), None);
        }
        assert_eq!((blocks.add(b"\n\n"), blocks.next().is_some(), blocks.kept()), (Ok(()), true, 0));
        let taken = (0..100).take_while(|_| blocks.add(&piece).is_ok() && blocks.next().is_none()).count();
        assert!(taken <= 18, "{taken} MiB");
    }
}
