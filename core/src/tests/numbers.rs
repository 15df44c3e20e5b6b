//! The numbers of version 2 of the wire, of ours and of the server's.

use alloc::vec::Vec;

use super::bench::{OTHER, TASK};
use crate::numbers::{Inbox, Numbers, Turn};
use crate::protocol::Hello;
use crate::rng::Rng;

fn hello(of: u64, applied: u64) -> Hello {
    Hello { of, applied, ..Hello::default() }
}

/// A series with three numbers that were given: a task's, nobody's, another task's.
fn three() -> Numbers {
    let mut numbers = Numbers::default();
    numbers.renumber(&mut Rng::new(1));
    for owner in [Some(TASK), None, Some(OTHER)] {
        numbers.given(owner);
    }
    numbers
}

/// Protects a message from being lost or said for ever: what is applied is its owner's no more, what is not waits.
#[test]
fn numbers_are_applied_in_order_and_each_once() {
    let mut numbers = three();
    assert_eq!(numbers.next(), 4);
    assert_eq!(numbers.waiting().collect::<Vec<_>>(), [(1, Some(TASK)), (2, None), (3, Some(OTHER))]);
    assert_eq!(numbers.applied(4), None, "it was never given");
    assert_eq!(numbers.applied(2).expect("they were given"), [Some(TASK), None]);
    assert_eq!(numbers.waiting().collect::<Vec<_>>(), [(3, Some(OTHER))]);
    assert_eq!(numbers.applied(1).expect("it was given"), [], "it was applied before");
    assert_eq!(numbers.next(), 4, "numbers go on");
    assert_eq!(numbers.applied(3).expect("it was given"), [Some(OTHER)]);
    assert_eq!((numbers.waiting().count(), numbers.next()), (0, 4));
}

/// Protects a server from messages whose numbers mean something else to it.
#[test]
fn a_series_goes_on_where_the_server_stands_within_it() {
    let mut numbers = three();
    let epoch = numbers.epoch();
    assert!((1..=1 << 48).contains(&epoch), "every reader of JSON can hold it: {epoch}");
    numbers.applied(1);
    let goes_on = |of, applied| numbers.go_on(&hello(of, applied));
    assert!(goes_on(epoch, 1) && goes_on(epoch, 3));
    assert!(!goes_on(epoch, 0), "it has forgotten what it had applied");
    assert!(!goes_on(epoch, 4), "it has applied what was never said");
    assert!(!goes_on(epoch + 1, 1), "it knows another series");
    assert!(!Numbers::default().go_on(&hello(0, 0)), "there is none");
}

#[test]
fn a_series_that_begins_anew_has_another_name_and_no_numbers() {
    let mut numbers = three();
    let before = numbers.epoch();
    // The same seed gives the name of before: that one is passed over.
    numbers.renumber(&mut Rng::new(1));
    assert!(numbers.epoch() != before && numbers.epoch() != 0);
    assert_eq!((numbers.next(), numbers.waiting().count()), (1, 0));
    assert!(numbers.epoch() > 1 << 24, "names are drawn from many: two daemons have the same never");
    numbers.drop_series();
    assert_eq!(numbers, Numbers::default());
    assert_eq!(numbers.epoch(), 0);
}

/// Protects a command from being applied twice or out of order.
#[test]
fn only_the_next_number_is_applied() {
    let mut inbox = Inbox::default();
    assert!(inbox.greeted(7));
    assert_eq!(inbox.take(2), Turn::Gap);
    assert_eq!(inbox.acknowledge(), None, "nothing was applied");
    assert_eq!(inbox.take(1), Turn::Next);
    assert_eq!(inbox.take(2), Turn::Next);
    assert_eq!((inbox.acknowledge(), inbox.acknowledge()), (Some(2), None), "it is said once");
    assert_eq!(inbox.take(1), Turn::Again);
    assert_eq!(inbox.stand(), (7, 2));
    assert_eq!(inbox.acknowledge(), Some(2), "who says it again has not heard");
    assert_eq!(inbox.take(3), Turn::Next);
    assert_eq!(inbox.stand(), (7, 3));
    assert_eq!(inbox.take(5), Turn::Gap);
}

/// Protects the commands of a server that has begun anew from being taken for those of before.
#[test]
fn another_series_of_the_servers_begins_at_one() {
    let mut inbox = Inbox::default();
    assert!(inbox.greeted(7));
    inbox.take(1);
    assert!(!inbox.greeted(7), "it is the same");
    assert_eq!((inbox.stand(), inbox.acknowledge()), ((7, 1), Some(1)));
    inbox.take(2);
    inbox.journal(true);
    assert!(inbox.greeted(8));
    assert_eq!(inbox.stand(), (8, 0));
    assert!(inbox.is_in_trouble(), "the disk is what it was");
    assert_eq!(inbox.take(1), Turn::Next);
    assert_eq!(inbox.acknowledge(), None);
}

/// Protects the server from being told that something is applied which a crash would undo.
#[test]
fn nothing_is_acknowledged_while_the_journal_is_in_trouble() {
    let mut inbox = Inbox::default();
    inbox.greeted(7);
    inbox.take(1);
    assert_eq!(inbox.acknowledge(), Some(1));
    assert!(!inbox.is_in_trouble());
    inbox.journal(true);
    assert!(inbox.is_in_trouble());
    assert_eq!(inbox.acknowledge(), None);
    inbox.journal(false);
    assert!(!inbox.is_in_trouble());
    assert_eq!(inbox.acknowledge(), Some(1), "what was held back on the way is said again");
    inbox.journal(false);
    assert_eq!(inbox.acknowledge(), None);
}
