//! What waits to be written, and what may leave only after that.

use std::collections::BTreeMap;

use makima_core::protocol::{DaemonCommand, Place};
use tokio::sync::watch;
use uuid::Uuid;

use crate::hub::{Effect, Event, QuestionId, Record, Reply, SessionId, Tell};
use crate::store::{BLOCK, Batch, Block, Head};

/// What leaves the process once what came before it is on disk.
#[derive(Debug)]
pub(super) enum Release {
    Send { session: SessionId, command: Box<DaemonCommand> },
    Numbered { session: SessionId, seq: u64, command: Box<DaemonCommand> },
    Tell { session: SessionId, tell: Tell },
    Close { session: SessionId },
}

/// A client's question that was answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) question: QuestionId,
    pub(super) reply: Reply,
}

impl Release {
    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Send { session, .. }
            | Self::Numbered { session, .. }
            | Self::Tell { session, .. }
            | Self::Close { session } => *session,
        }
    }
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
    pub(super) answered: Vec<Answered>,
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
    answered: Vec<Answered>,
    /// One answer for many messages: what each session is told was applied, and what of each task's output is here.
    acks: BTreeMap<SessionId, u64>,
    got: BTreeMap<(SessionId, Uuid), u64>,
    /// Where each task's output stands in the daemon's log.
    placed: BTreeMap<Uuid, Option<u64>>,
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
            answered: Vec::new(),
            acks: BTreeMap::new(),
            got: BTreeMap::new(),
            placed: BTreeMap::new(),
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
        let unwritten = self.records.is_empty() && self.output.is_empty() && self.placed.is_empty();
        unwritten && self.answered.is_empty() && self.releases.is_empty() && self.acks.is_empty() && self.got.is_empty()
    }

    pub(super) fn push(&mut self, effect: Effect) {
        match effect {
            Effect::Send { session, command } => self.releases.push(Release::Send { session, command }),
            Effect::Numbered { session, seq, command } => {
                self.releases.push(Release::Numbered { session, seq, command });
            }
            Effect::Tell { session, tell: Tell::Ack(n) } => {
                self.acks.insert(session, n);
            }
            Effect::Tell { session, tell: Tell::Got(place) } => {
                self.got.insert((session, place.task), place.off);
            }
            Effect::Tell { session, tell } => self.releases.push(Release::Tell { session, tell }),
            Effect::Record(Record::Placed { task, at }) => {
                self.placed.insert(task, at);
            }
            Effect::Answered { question, reply } => self.answered.push(Answered { question, reply }),
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
        let mut records = full.records;
        records.extend(full.placed.into_iter().map(|(task, at)| Record::Placed { task, at }));
        // Before what may be an answer to a ping: that says that all is answered.
        let acks = full.acks.into_iter().map(|(session, n)| Release::Tell { session, tell: Tell::Ack(n) });
        let got = full.got.into_iter().map(|((session, task), off)| {
            let tell = Tell::Got(Place { task, off });
            Release::Tell { session, tell }
        });
        let releases = acks.chain(got).chain(full.releases).collect();
        let (answered, heads, fate) = (full.answered, full.heads, full.fate);
        Some(Round { batch: Batch { records, output }, releases, answered, heads, fate })
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
        Record::Words { words, .. } => words.command.write().len(),
        Record::Daemon { .. }
        | Record::Hold { .. }
        | Record::Told { .. }
        | Record::Assigned { .. }
        | Record::Interrupt { .. }
        | Record::Branch { .. }
        | Record::Epoch { .. }
        | Record::Ordered { .. }
        | Record::Acked { .. }
        | Record::Applied { .. }
        | Record::Placed { .. } => 0,
    };
    text.saturating_add(ANY)
}
