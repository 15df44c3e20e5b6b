//! Whatever is cut whenever: everything gets there, in order, and nothing but progress is thrown away.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use uuid::Uuid;

use super::{Outbox, Report, Sending};
use crate::id::{SecretId, TaskId};
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
    #![proptest_config(crate::tests::cases(1_000))]

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
        if frame.is_multiple_of(100) {
            assert!(!outbox.delivered(frame), "that was no end");
        }
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

/// Protects the answer to what was asked behind a task's end, where the server is known to know that end.
#[test]
fn behind_an_end_that_the_server_knows_of_answers_are_told() {
    let asked_since = |told_before: bool| {
        let mut outbox = Outbox::default();
        outbox.push(TASK, Report::Accepted, 0, true);
        outbox.push(OTHER, Report::Accepted, 0, true);
        if !told_before {
            outbox.push(TASK, end("why"), 0, true);
        }
        outbox.push(TASK, Report::Branches(Vec::new()), 0, true);
        outbox
    };
    let kinds = |mut outbox: Outbox| (1..).map_while(|n| sent(&mut outbox, n)).collect::<Vec<_>>();
    let mut outbox = asked_since(false);
    outbox.end_is_known(TASK, false);
    assert_eq!(kinds(outbox), ["taskProgress", "branchList"], "the other's, and the answer");
    let mut outbox = asked_since(true);
    outbox.end_is_known(TASK, true);
    assert_eq!(kinds(outbox).len(), 3, "the end was told before any of them");
    let mut outbox = asked_since(true);
    outbox.end_is_known(TASK, false);
    assert_eq!(kinds(outbox), ["taskProgress"], "the end is behind all of them");
}

const OTHER: TaskId = TaskId(Uuid::from_u128(8));

/// Sends the next as this frame, under the number that is the same: its kind.
fn sent(outbox: &mut Outbox, n: u64) -> Option<&'static str> {
    let sending = outbox.send(0, n, Some(n));
    outbox.check();
    sending.map(|sending| sending.message.kind())
}

fn end(why: &str) -> Report {
    Report::Complete { success: false, error: Some(why.to_string()) }
}

/// Protects an agent from being started without the key that it speaks to the server by, and numbers from changing places.
#[test]
fn a_key_goes_before_all_that_has_no_number_and_is_told_once() {
    let (key, another) = (SecretId::ToolKey(TASK), SecretId::ToolKey(OTHER));
    let mut outbox = Outbox::default();
    outbox.push(TASK, Report::RevokeKey, 0, true);
    assert_eq!(sent(&mut outbox, 1), Some("revokeToolKey"));
    outbox.push(TASK, Report::Accepted, 0, true);
    assert!(!outbox.owes_key());
    outbox.push_key(TASK, key);
    outbox.push_key(TASK, key);
    outbox.check();
    assert!(outbox.owes_key());
    assert_eq!(outbox.len(), 3);
    let sending = outbox.send(0, 2, Some(2)).expect("the key");
    assert_eq!((sending.message.kind(), sending.secret), ("registerToolKey", Some(key)));
    assert_eq!(outbox.send(0, 3, Some(3)).and_then(|sending| sending.secret), None);
    outbox.push_key(TASK, key);
    assert_eq!(outbox.len(), 4, "it was sent, and is wanted once more");
    assert_eq!(outbox.unsend(), 3);
    outbox.push_key(TASK, another);
    outbox.check();
    assert_eq!(outbox.send_again(2, 1).and_then(|sending| sending.secret), Some(key));
    assert!(outbox.send_again(9, 2).is_none());
}

/// Protects what is numbered from being lost, and what is applied from being said again.
#[test]
fn what_has_a_number_is_kept_until_it_is_applied() {
    let mut outbox = Outbox::default();
    for report in [Report::Progress("one".into()), Report::Progress("two".into()), end("why")] {
        outbox.push(TASK, report, 0, true);
    }
    assert_eq!(
        [1, 2, 3].map(|n| sent(&mut outbox, n)),
        [Some("taskProgress"), Some("taskProgress"), Some("taskComplete")]
    );
    assert_eq!(outbox.unsend(), 3);
    assert_eq!(outbox.len(), 3, "progress with a number is not left out");
    assert!(!outbox.in_flight());
    assert!(!outbox.applied(1), "that was no end");
    assert_eq!(outbox.len(), 2);
    assert_eq!(text(outbox.send_again(2, 1)), Some("two".to_string()));
    outbox.forget(TASK);
    assert_eq!(outbox.len(), 2, "what has a number is said");
    assert!(!outbox.owes_end(), "but it is past");
    assert_eq!(text(outbox.send_again(3, 2)), Some(super::PAST.to_string()));
    outbox.renumber();
    assert!(outbox.send_again(3, 3).is_none());
    outbox.forget(TASK);
    assert!(outbox.is_empty());
    outbox.push(TASK, end("why"), 0, true);
    assert_eq!(sent(&mut outbox, 4), Some("taskComplete"));
    assert!(!outbox.applied(3) && outbox.owes_end());
    assert!(outbox.applied(4), "the end was told");
}

fn text(sending: Option<Sending>) -> Option<String> {
    let message = sending?.message;
    let DaemonMessage::TaskProgress(it) = *message else { panic!("{message:?} is no progress") };
    Some(it.summary)
}

/// Protects a server from being flooded after an outage.
#[test]
fn of_progress_that_cannot_be_sent_the_newest_is_kept() {
    let mut outbox = Outbox::default();
    for text in ["one", "two", "three"] {
        outbox.push(TASK, Report::Progress(text.into()), 0, false);
        assert_eq!(outbox.len(), 1);
    }
    assert_eq!(text(outbox.send(0, 1, None)), Some("three".to_string()));
    outbox.push(TASK, Report::Progress("four".into()), 0, true);
    outbox.push(TASK, Report::Accepted, 0, true);
    assert_eq!((outbox.unsend(), outbox.len()), (1, 2));
    assert_eq!(text(outbox.send(0, 1, None)), Some("four".to_string()));
}

/// Protects a task that a server tells again from being told another end than the one that is on its way.
#[test]
fn an_end_of_an_earlier_session_is_under_way_while_it_is_sent_again() {
    let mut outbox = Outbox::default();
    outbox.push(TASK, end("why"), 0, true);
    assert_eq!(sent(&mut outbox, 1), Some("taskComplete"));
    assert_eq!(outbox.end_under_way(TASK), None, "it is of this session");
    outbox.unsend();
    assert_eq!(outbox.end_under_way(TASK), None, "it is not sent");
    assert_eq!(sent(&mut outbox, 2), Some("taskComplete"));
    assert_eq!((outbox.end_under_way(TASK), outbox.end_under_way(OTHER)), (Some("why"), None));
}

/// Protects a server from old news, and from the same twice.
#[test]
fn where_things_lie_is_told_as_it_is_now_and_once() {
    let lies = |home: &str| Report::Directories { working: "w".into(), home: home.into(), worktrees: "t".into() };
    let none = TaskId(Uuid::nil());
    let mut outbox = Outbox::default();
    outbox.replace_directories(lies("a"), none);
    assert_eq!(outbox.len(), 1);
    outbox.push(TASK, Report::MergeStatus(None), 0, true);
    outbox.replace_directories(lies("b"), none);
    outbox.replace_directories(lies("b"), none);
    assert_eq!(outbox.len(), 2);
    assert_eq!([1, 2].map(|n| sent(&mut outbox, n)), [Some("mergeStatusResponse"), Some("daemonDirectories")]);
    outbox.replace_directories(lies("b"), none);
    assert_eq!(outbox.len(), 2, "it is on its way");
    outbox.replace_directories(lies("c"), none);
    assert_eq!(outbox.len(), 3);
}

#[test]
#[should_panic(expected = "a report was sent before an older one")]
fn an_outbox_out_of_order_is_seen() {
    let mut outbox = Outbox::default();
    outbox.push(TASK, Report::Accepted, 0, true);
    outbox.send(0, 1, None);
    outbox.push(TASK, Report::Accepted, 0, true);
    outbox.entries.swap(0, 1);
    outbox.check();
}
