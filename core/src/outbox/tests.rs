//! Whatever is cut whenever: everything gets there, in order, and nothing but progress is thrown away.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use uuid::Uuid;

use super::{Outbox, Report};
use crate::id::TaskId;
use crate::limits;
use crate::protocol::{DaemonMessage, MergeResult, TaskProgress};
use crate::task::Status;

const TASK: TaskId = TaskId(Uuid::from_u128(7));

#[derive(Clone, Debug)]
enum Op {
    /// A report; whether it is progress.
    Push(bool),
    Send,
    /// The gate of the output moves on.
    Gate(u64),
    /// The barrier behind everything that was sent is passed.
    Deliver,
    /// The link breaks; of what is on the way so many still get there.
    Cut(usize),
    Connect,
}

/// An outbox, its link and its server.
#[derive(Default)]
struct Bench {
    outbox: Outbox,
    live: bool,
    gate: u64,
    frame: u64,
    /// What is on the way.
    wire: Vec<u64>,
    /// Numbers of reports in the order in which they were pushed: progress, place, number.
    pushed: Vec<(bool, u64, u64)>,
    /// Numbers as the server has seen them.
    seen: Vec<u64>,
    /// Progress that was pushed while it could not be sent, or was in doubt when the link broke.
    may_go: BTreeSet<u64>,
}

fn number(message: &DaemonMessage) -> u64 {
    let (DaemonMessage::TaskProgress(TaskProgress { summary: text, .. })
    | DaemonMessage::MergeResult(MergeResult { message: text, .. })) = message
    else {
        panic!("{message:?} was never pushed")
    };
    text.parse().expect("a number")
}

impl Bench {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Push(progress) => {
                let n = self.pushed.len() as u64;
                // Every third report waits for some output.
                let after = if !progress && n.is_multiple_of(3) { n } else { 0 };
                self.pushed.push((*progress, after, n));
                if !self.live {
                    self.may_go.extend(self.pushed.iter().filter(|(progress, ..)| *progress).map(|(.., n)| *n));
                    if *progress {
                        self.may_go.remove(&n);
                    }
                }
                let report =
                    if *progress { Report::Progress(n.to_string()) } else { Report::merge_refused(n.to_string()) };
                assert!(self.outbox.push(TASK, report, after, self.live));
            }
            Op::Send if self.live => {
                let next = self.frame + 1;
                if let Some(message) = self.outbox.send(self.gate, next, None) {
                    self.frame = next;
                    let n = number(&message.message);
                    assert!(self.pushed[n as usize].1 <= self.gate, "{n} was to wait for its output");
                    self.wire.push(n);
                }
            }
            Op::Gate(by) => self.gate += by,
            Op::Deliver if self.live => {
                self.seen.append(&mut self.wire);
                self.outbox.delivered(self.frame);
            }
            Op::Cut(arrive) if self.live => {
                self.seen.extend(self.wire.iter().take(*arrive));
                self.wire.clear();
                self.live = false;
                self.frame = 0;
                let older = self.pushed.iter().filter(|(progress, ..)| *progress).map(|(.., n)| *n);
                let newest = older.clone().max();
                self.may_go.extend(older.filter(|n| Some(*n) != newest));
                self.outbox.unsend();
            }
            Op::Connect => self.live = true,
            Op::Send | Op::Deliver | Op::Cut(_) => {}
        }
        self.outbox.check();
    }

    fn settle(&mut self) {
        self.apply(&Op::Connect);
        self.apply(&Op::Gate(u64::MAX - self.gate));
        for _ in 0..=self.pushed.len() {
            self.apply(&Op::Send);
        }
        self.apply(&Op::Deliver);
        assert!(self.outbox.is_empty() && !self.outbox.in_flight());
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => any::<bool>().prop_map(Op::Push),
        4 => Just(Op::Send),
        1 => (1_u64..4).prop_map(Op::Gate),
        1 => Just(Op::Deliver),
        1 => (0_usize..4).prop_map(Op::Cut),
        2 => Just(Op::Connect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_gets_there_in_order_whatever_is_cut(ops in prop::collection::vec(op(), 1..60)) {
        let mut bench = Bench::default();
        ops.iter().for_each(|op| bench.apply(op));
        bench.settle();
        let mut first = Vec::new();
        for n in &bench.seen {
            if !first.contains(n) {
                first.push(*n);
            }
        }
        prop_assert!(first.is_sorted(), "first seen out of order: {:?}", bench.seen);
        for (progress, _, n) in &bench.pushed {
            let excused = *progress && bench.may_go.contains(n);
            prop_assert!(excused || first.contains(n), "{n} never got there: {:?}", bench.seen);
        }
        // Of the progress that could not be sent, the newest is kept.
        let newest = bench.pushed.iter().filter(|(progress, ..)| *progress).map(|(.., n)| *n).max();
        prop_assert!(newest.is_none_or(|n| first.contains(&n)), "the newest progress is lost: {:?}", bench.seen);
    }
}

#[test]
fn statuses_and_ends_are_taken_however_many_wait() {
    let mut outbox = Outbox::default();
    for n in 0..limits::REPORTS {
        assert!(outbox.push(TASK, Report::merge_refused(format!("{n}")), 0, true));
    }
    let refused = || Report::merge_refused(String::new());
    assert!(!outbox.push(TASK, refused(), 0, true));
    assert!(!outbox.push(TASK, Report::Progress(String::new()), 0, true));
    assert!(!outbox.push(TASK, Report::Status { old: Status::Running, new: Status::Running }, 0, true));
    assert!(outbox.push(TASK, Report::Status { old: Status::Running, new: Status::Finishing }, 0, true));
    assert!(outbox.push(TASK, Report::Accepted, 0, true));
    assert!(outbox.push(TASK, Report::Complete { success: true, error: None }, 0, true));
    assert!(outbox.owes_end());
    let mut frame = 0;
    while outbox.send(0, frame + 1, None).is_some() {
        frame += 1;
    }
    assert_eq!(frame as usize, limits::REPORTS + 3);
    assert!(outbox.delivered(frame), "the end was told");
    assert!(outbox.push(TASK, refused(), 0, true), "there is room again");
}

#[test]
fn what_waits_for_output_holds_back_all_behind_it() {
    let mut outbox = Outbox::default();
    outbox.push(TASK, Report::Complete { success: true, error: None }, 10, true);
    outbox.push(TASK, Report::MergeStatus(None), 0, true);
    assert!(outbox.send(9, 1, None).is_none());
    assert_eq!(outbox.send(10, 1, None).expect("the end").message.kind(), "taskComplete");
    assert_eq!(outbox.send(10, 2, None).expect("the answer").message.kind(), "mergeStatusResponse");
    assert!(!outbox.delivered(0) && outbox.in_flight());
}

#[test]
fn what_is_forgotten_is_not_told() {
    let mut outbox = Outbox::default();
    let other = TaskId(Uuid::from_u128(8));
    outbox.push(TASK, Report::MergeStatus(None), 0, true);
    outbox.push(other, Report::Branches(Vec::new()), 0, true);
    outbox.forget(TASK);
    assert_eq!(outbox.send(0, 1, None).expect("the other's").message.kind(), "branchList");
    assert!(outbox.send(0, 2, None).is_none());
}
