//! What waits to be written, and what may leave only after that.

use std::collections::BTreeMap;

use makima_core::protocol::DaemonCommand;
use tokio::sync::watch;
use uuid::Uuid;

use crate::hub::{Effect, Event, Record, SessionId};
use crate::store::{BLOCK, Batch, Block, Head};

/// What leaves the process once what came before it is on disk.
#[derive(Debug)]
pub(super) enum Release {
    Send { session: SessionId, command: Box<DaemonCommand> },
    Close { session: SessionId },
}

/// Whether a batch is on disk: none as long as that is open.
type Fate = Option<bool>;

/// Waits for everything up to some moment to be on disk.
#[derive(Debug)]
pub(crate) struct Ticket(Option<watch::Receiver<Fate>>);

impl Ticket {
    /// True once it is on disk, false if it never will be.
    pub(crate) async fn kept(self) -> bool {
        let Some(mut fate) = self.0 else { return true };
        // A batch that was dropped was not written.
        fate.wait_for(Option::is_some).await.is_ok_and(|fate| *fate == Some(true))
    }
}

/// One round of the writer.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) batch: Batch,
    pub(super) releases: Vec<Release>,
    /// How far each task's followers may read once the batch is on disk.
    pub(super) heads: BTreeMap<Uuid, Head>,
    pub(super) fate: watch::Sender<Fate>,
}

/// Gathers effects between two rounds of the writer.
///
/// Output is joined into blocks per task, so that a flood of lines becomes a few rows. Its order among the
/// other records does not matter: all of a round is one transaction.
#[derive(Debug)]
pub(super) struct Queue {
    records: Vec<Record>,
    output: BTreeMap<Uuid, Vec<Block>>,
    releases: Vec<Release>,
    heads: BTreeMap<Uuid, Head>,
    bytes: usize,
    fate: watch::Sender<Fate>,
    /// The round that the writer has in hand.
    in_hand: Option<watch::Receiver<Fate>>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            records: Vec::new(),
            output: BTreeMap::new(),
            releases: Vec::new(),
            heads: BTreeMap::new(),
            bytes: 0,
            fate: watch::Sender::new(None),
            in_hand: None,
        }
    }

    /// About how much memory waits here.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.output.is_empty() && self.releases.is_empty()
    }

    pub(super) fn push(&mut self, effect: Effect) {
        match effect {
            Effect::Send { session, command } => self.releases.push(Release::Send { session, command }),
            Effect::Close { session } => self.releases.push(Release::Close { session }),
            Effect::Output { task, offset, text } => {
                self.bytes = self.bytes.saturating_add(text.len());
                self.push_output(Block { task, start: offset, text });
            }
            Effect::Record(record) => {
                if let Record::Event { task, n, offset, .. } = &record {
                    self.raise(*task, Head { events: *n, bytes: *offset });
                }
                self.bytes = self.bytes.saturating_add(weight(&record));
                self.records.push(record);
            }
        }
    }

    fn push_output(&mut self, block: Block) {
        self.raise(block.task, Head { events: 0, bytes: block.end() });
        let blocks = self.output.entry(block.task).or_default();
        match blocks.last_mut() {
            Some(last) if last.end() == block.start && last.text.len().saturating_add(block.text.len()) <= BLOCK => {
                last.text.push_str(&block.text);
            }
            Some(_) | None => blocks.push(block),
        }
    }

    fn raise(&mut self, task: Uuid, head: Head) {
        let old = self.heads.entry(task).or_default();
        *old = old.max(head);
    }

    /// For everything that was pushed so far.
    pub(super) fn ticket(&self) -> Ticket {
        if self.is_empty() { Ticket(self.in_hand.clone()) } else { Ticket(Some(self.fate.subscribe())) }
    }

    /// Everything that waits, for the writer.
    pub(super) fn take(&mut self) -> Option<Round> {
        if self.is_empty() {
            return None;
        }
        let full = std::mem::replace(self, Self::new());
        self.in_hand = Some(full.fate.subscribe());
        let output = full.output.into_values().flatten().collect();
        Some(Round {
            batch: Batch { records: full.records, output },
            releases: full.releases,
            heads: full.heads,
            fate: full.fate,
        })
    }
}

/// About how much memory a record takes.
fn weight(record: &Record) -> usize {
    const ANY: usize = 200;
    let text = match record {
        Record::Task { spawn, .. } => spawn.plan.len(),
        Record::Event { event, .. } => match event {
            Event::Status { .. } => 0,
            Event::Progress { summary } => summary.len(),
            Event::Completion { message, .. } => message.len(),
            Event::End(end) => end.error.as_ref().map_or(0, String::len),
        },
        Record::Daemon { .. } | Record::Assigned { .. } | Record::Interrupt { .. } | Record::Branch { .. } => 0,
    };
    text.saturating_add(ANY)
}
