//! Runs that a fuzzer makes up: any bytes are one, and a change of a byte is a change of one act. So whatever sees which
//! bytes lead to new places of the code (`fuzz/fuzz_targets/world.rs`) can go on from there.
//!
//! Three bytes say what the world is like, and each byte behind them is for itself. With its highest bit it is seven bits
//! of a number; without it is an act, which takes the number that stands before it, or 0. What happens often in a run
//! that gets somewhere has more bytes than one.

use crate::shrink::shrink;
use crate::swarm::Run;
use crate::world::{Act, Refusal, Speech, TaskKind, Temper};

/// The first byte's bit for a server that takes the wire literally.
const LITERAL: u8 = 1;

/// The bit that says that agents tell how they get on.
const TALKS: u8 = 8;

/// The bit that says that they ask people.
const ASKS: u8 = 16;

/// The first byte's other bits, from the second on.
const SPEECHES: [Speech; 4] = [Speech::Two, Speech::One, Speech::Stripped, Speech::Two];

/// The bit of a byte that is part of a number.
const NUMBER: u8 = 0x80;

/// The acts that say all by themselves, each with how many bytes it has, from [`ALONE_FROM`] on.
const ALONE: [(u8, Act); 24] = [
    (8, Act::Deliver),
    (8, Act::Answer),
    (4, Act::Accept),
    (4, Act::Flush),
    (4, Act::Sync),
    (4, Act::Advance),
    (1, Act::Refuse(Refusal::Unreachable)),
    (1, Act::Refuse(Refusal::Proxy)),
    (1, Act::Refuse(Refusal::Key)),
    (1, Act::Refuse(Refusal::Busy)),
    (1, Act::Reject { key: false }),
    (1, Act::Reject { key: true }),
    (1, Act::Cut { told: false }),
    (1, Act::Cut { told: true }),
    (1, Act::Stale),
    (1, Act::Sleep),
    (1, Act::Clock { back: false }),
    (1, Act::Clock { back: true }),
    (1, Act::Months),
    (1, Act::Stop { forced: false }),
    (1, Act::Stop { forced: true }),
    (1, Act::Rotate),
    (1, Act::Trouble),
    (1, Act::Complain),
];

const ALONE_FROM: u8 = 72;

/// The run that bytes stand for. There are none that stand for no run, and a beginning of them stands for a beginning of
/// it.
#[must_use]
pub fn decode(bytes: &[u8]) -> Run {
    let (head, acts) = bytes.split_at(bytes.len().min(3));
    let [what, low, high] = [0, 1, 2].map(|at| head.get(at).copied().unwrap_or_default());
    let mut run = Run {
        literal: what & LITERAL != 0,
        speech: SPEECHES[usize::from(what >> 1) % SPEECHES.len()],
        seed: u64::from(u16::from_le_bytes([low, high])),
        searched: false,
        talks: what & TALKS != 0,
        asks: what & ASKS != 0,
        acts: Vec::new(),
    };
    let mut number = 0;
    for byte in acts {
        if byte & NUMBER != 0 {
            number = (number << 7) | u32::from(byte & !NUMBER);
        } else {
            run.acts.push(act(*byte, number));
            number = 0;
        }
    }
    run
}

/// Bytes that stand for a run. Of its seed 16 bits are kept.
#[must_use]
pub fn encode(run: &Run) -> Vec<u8> {
    let speech = SPEECHES.iter().position(|speech| *speech == run.speech).unwrap_or_default() as u8;
    let [low, high] = (run.seed as u16).to_le_bytes();
    let what = (u8::from(run.talks) * TALKS) | (u8::from(run.asks) * ASKS) | (speech << 1) | u8::from(run.literal);
    let mut bytes = vec![what, low, high];
    for act in &run.acts {
        let (byte, number) = bytes_of(*act);
        let digits = (0..5).rev().map(|digit| number >> (7 * digit)).skip_while(|rest| *rest == 0);
        bytes.extend(digits.map(|rest| NUMBER | rest as u8));
        bytes.push(byte);
    }
    bytes
}

/// The act of a byte, of which there are 128, and a number, of which it takes as many bits as it needs.
fn act(byte: u8, number: u32) -> Act {
    let [low, middle, high, _] = number.to_le_bytes();
    let task = byte % 8;
    match byte {
        0..8 => Act::Spawn { task, kind: TaskKind { continues: middle & 1 != 0, ..kind(low) } },
        8..16 => Act::Write { task, stderr: low & 1 != 0, newline: low & 2 == 0 },
        16..24 => Act::Exit { task, code: low },
        24..32 => Act::Other { task, which: low },
        32..40 => Act::Interrupt { task, graceful: low & 1 == 0 },
        40..48 => Act::Message { task },
        48..64 => Act::Perform { nth: (low << 4) | (byte % 16), fails: false },
        64..72 => Act::Perform { nth: (low << 3) | task, fails: true },
        122 | 123 => Act::Pass(low),
        124 => Act::Rubbish,
        125 => Act::Outage { done: low, kept: middle, journal: high },
        126.. => Act::Kill { done: low, journal: middle, other: byte == 127 },
        ALONE_FROM.. => {
            let mut all = ALONE.iter().flat_map(|(bytes, act)| (0..*bytes).map(|_| *act));
            all.nth(usize::from(byte - ALONE_FROM)).unwrap_or(Act::Advance)
        }
    }
}

/// The first byte that stands for an act, and its number.
fn bytes_of(act: Act) -> (u8, u32) {
    let number = |bytes: [u8; 3]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    match act {
        Act::Spawn { task, kind } => (task, number([number_of(kind), u8::from(kind.continues), 0])),
        Act::Write { task, stderr, newline } => (8 + task, u32::from(stderr) | (u32::from(!newline) << 1)),
        Act::Exit { task, code } => (16 + task, code.into()),
        Act::Other { task, which } => (24 + task, which.into()),
        Act::Interrupt { task, graceful } => (32 + task, u32::from(!graceful)),
        Act::Message { task } => (40 + task, 0),
        Act::Perform { nth, fails: false } => (48 + nth % 16, u32::from(nth >> 4)),
        Act::Perform { nth, fails: true } => (64 + nth % 8, u32::from(nth >> 3)),
        Act::Pass(ms) => (122, ms.into()),
        Act::Rubbish => (124, 0),
        Act::Outage { done, kept, journal } => (125, number([done, kept, journal])),
        Act::Kill { done, journal, other } => (126 + u8::from(other), number([done, journal, 0])),
        Act::Complain
        | Act::Accept
        | Act::Refuse(_)
        | Act::Reject { .. }
        | Act::Deliver
        | Act::Answer
        | Act::Flush
        | Act::Cut { .. }
        | Act::Stale
        | Act::Advance
        | Act::Sleep
        | Act::Clock { .. }
        | Act::Months
        | Act::Stop { .. }
        | Act::Sync
        | Act::Trouble
        | Act::Rotate => {
            let before = ALONE.iter().take_while(|(_, alone)| *alone != act).map(|(bytes, _)| bytes);
            (ALONE_FROM + before.sum::<u8>(), 0)
        }
    }
}

/// Of 0 the plainest kind of task.
fn kind(bits: u8) -> TaskKind {
    let has = |bit: u8| (bits >> bit) & 1 != 0;
    TaskKind {
        local: !has(0),
        branch: !has(1),
        changes: !has(2),
        subtask: has(3),
        orchestrator: has(4),
        checks: has(5),
        continues: false,
        temper: [Temper::Mild, Temper::Firm, Temper::Stubborn, Temper::Mild][usize::from(bits >> 6)],
    }
}

fn number_of(kind: TaskKind) -> u8 {
    let TaskKind { local, branch, changes, subtask, orchestrator, checks, continues: _, temper } = kind;
    let bits = [!local, !branch, !changes, subtask, orchestrator, checks];
    let bits = (0..).zip(bits).map(|(at, bit)| u8::from(bit) << at).sum::<u8>();
    bits | ((temper as u8) << 6)
}

/// Runs the run that bytes stand for.
///
/// # Errors
/// What did not hold, and a short run in which it does not, as it is kept in `regressions/world/`.
pub fn run(bytes: &[u8]) -> Result<(), String> {
    let run = decode(bytes);
    let Err(why) = run.try_run() else { return Ok(()) };
    let (short, why_short) = shrink(&run);
    let line = serde_json::to_string(&short).unwrap_or_else(|error| format!("(it cannot be written: {error})"));
    Err(format!("{why}\nshortened from {} to {} acts: {why_short}\n{line}", run.acts.len(), short.acts.len()))
}
