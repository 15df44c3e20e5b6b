use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::*;
use crate::agent::{Agent, Claude, Conversation, GoingOn};
use crate::policy::BranchName;
use crate::task::Action;

const TASK: TaskId = TaskId(Uuid::from_u128(7));

const fn id(n: u64) -> EffectId {
    EffectId { incarnation: 1, n }
}

fn push(mailbox: &mut Mailbox, text: &str) -> bool {
    mailbox.push(text.to_string(), TASK, Origin::At(Millis(1)))
}

/// A task of an agent that tells what it takes up.
fn spec() -> Spec {
    Spec {
        id: TASK,
        name: "name".to_string(),
        plan: "the plan".to_string(),
        repository: None,
        credentials: None,
        base: None,
        continues: None,
        conversation: None,
        copy: Vec::new(),
        branch: BranchName::of("name", TASK),
        parent: None,
        depth: 0,
        orchestrator: false,
        agent: Agent::Claude(Claude::default()),
        allowance: crate::allowance::Allowance::default(),
        action: Action::None,
        target: None,
        into: None,
    }
}

/// What a letter says.
fn words(what: &What) -> String {
    match what {
        What::Own(line) => line.clone(),
        What::Plan { .. } => "the plan".to_string(),
        What::Word(Utterance { text, .. }) | What::Message { text, .. } => text.clone(),
    }
}

/// Sends all that may go, by effects that are numbered from `first` on: what is sent, with its numbers.
fn sent_of(mailbox: &mut Mailbox, messages: bool, first: u64) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    // Bounded, so that a mailbox that never runs dry fails here.
    for effect in (first..).take(10) {
        let send = |n, what: &What| {
            sent.push((n, words(what)));
            id(effect)
        };
        if !mailbox.send(messages, send) {
            return sent;
        }
    }
    panic!("there is always more: {sent:?}")
}

fn sent(mailbox: &mut Mailbox, first: u64) -> Vec<(u64, String)> {
    sent_of(mailbox, true, first)
}

fn said(n: u64, text: &str) -> (u64, String) {
    (n, text.to_string())
}

/// Protects a message from being sent twice, under another number, or not at all.
#[test]
fn what_is_not_known_to_have_arrived_is_sent_again_under_its_number() {
    let mut mailbox = Mailbox::default();
    for text in ["one", "two", "three"] {
        assert!(push(&mut mailbox, text));
    }
    assert_eq!(sent(&mut mailbox, 1), [said(1, "one"), said(2, "two"), said(3, "three")]);
    assert!(!mailbox.has_waiting());
    assert_eq!(mailbox.answered(id(2), true), Answered::Message(2));
    assert_eq!(mailbox.answered(id(2), true), Answered::No, "it is no message's any more");
    assert_eq!(mailbox.answered(id(9), true), Answered::No, "it never was");
    assert_eq!(mailbox.messages(), 2);
    mailbox.unsend();
    assert!(mailbox.has_waiting());
    assert!(push(&mut mailbox, "four"));
    assert_eq!(sent(&mut mailbox, 4), [said(1, "one"), said(3, "three"), said(4, "four")]);
}

/// Protects what is on its way from being taken for what waits.
#[test]
fn only_what_waits_is_thrown_away() {
    let mut mailbox = Mailbox::default();
    let full = "x".repeat(limits::MESSAGE_BYTES - 3);
    assert!(push(&mut mailbox, "one"));
    assert_eq!(sent(&mut mailbox, 1).len(), 1);
    assert!(push(&mut mailbox, &full) && push(&mut mailbox, ""));
    mailbox.say("own".to_string());
    assert_eq!((mailbox.close(&spec()), mailbox.messages(), mailbox.has_waiting()), (2, 1, false));
    assert!(sent(&mut mailbox, 2).is_empty(), "nor does a line of ours stay");
    assert!(!push(&mut mailbox, &"x".repeat(limits::MESSAGE_BYTES - 2)), "what is on its way takes up room");
    assert!(push(&mut mailbox, &full), "what was thrown away does not");
}

/// Protects the daemon's memory; and a task from a box that is full for good.
#[test]
fn messages_are_bounded_in_number_and_in_size() {
    let mut mailbox = Mailbox::default();
    assert!((0..limits::MESSAGES).all(|_| push(&mut mailbox, "")));
    assert!(!push(&mut mailbox, ""), "one too many");
    assert_eq!(mailbox.messages(), limits::MESSAGES);
    let mut mailbox = Mailbox::default();
    assert!(push(&mut mailbox, &"x".repeat(limits::MESSAGE_BYTES)) && !push(&mut mailbox, "x"), "one byte too many");
    assert_eq!(sent(&mut mailbox, 1).len(), 1);
    assert_eq!(mailbox.answered(id(1), true), Answered::Message(1));
    assert!(push(&mut mailbox, &"x".repeat(limits::MESSAGE_BYTES)), "there is room again");
}

/// Protects an agent from hearing its plan before it is ready, or anything before its plan; and a line of ours from waiting
/// behind messages.
#[test]
fn a_talk_begins_with_its_opening_then_comes_the_plan_then_lines_of_ours_then_messages() {
    let mut mailbox = Mailbox::default();
    assert!(push(&mut mailbox, "early"));
    mailbox.open("opening".to_string(), &spec(), &Prepared::default());
    assert!(push(&mut mailbox, "late"));
    mailbox.say("own".to_string());
    assert_eq!(sent_of(&mut mailbox, false, 1), [said(1, "opening"), said(2, "own")]);
    assert_eq!(mailbox.answered(id(1), true), Answered::Own);
    mailbox.say("other".to_string());
    assert_eq!(sent(&mut mailbox, 3), [said(3, "other"), said(4, "the plan"), said(5, "early"), said(6, "late")]);
}

/// Protects a message from being taken for answered, or being lost, between the pipe and the agent's attention.
#[test]
fn a_message_of_an_agent_that_tells_stays_until_that_is_done_with_it() {
    let mut mailbox = Mailbox::default();
    mailbox.open("opening".to_string(), &spec(), &Prepared::default());
    assert!(push(&mut mailbox, "a") && push(&mut mailbox, "b"));
    let mut names = Vec::new();
    while mailbox.send(true, |n, what| {
        names.extend(what.name());
        id(n)
    }) {}
    let [plan, a, b] = names[..] else { panic!("{names:?}") };
    assert!(plan != a && a != b && plan != b);
    // What the agent says may be heard before the answer that it was handed over.
    assert_eq!(mailbox.is_at(plan, Progress::Seen), None, "it is no message of a user's");
    assert_eq!(mailbox.answered(id(2), true), Answered::No);
    assert_eq!(mailbox.answered(id(3), true), Answered::Message(1));
    assert_eq!(mailbox.answered(id(4), false), Answered::Message(2), "it never got there");
    assert!(mailbox.is_unseen() && mailbox.is_busy());
    mailbox.turn_over();
    assert_eq!(mailbox.messages(), 2, "the plan is done with; a message that nobody has seen is not");
    assert_eq!(mailbox.is_at(a, Progress::Seen), Some(1));
    assert_eq!(mailbox.is_at(a, Progress::Seen), None, "no news");
    assert_eq!((mailbox.is_unseen(), mailbox.is_busy(), mailbox.messages()), (false, true, 2));
    assert_eq!(mailbox.is_at(a, Progress::Over), None, "no news either, but it goes");
    assert_eq!((mailbox.is_busy(), mailbox.has_under_way()), (false, false), "nobody waits for what did not get there");
    assert_eq!(mailbox.close(&spec()), 0, "which was said");
    assert!(mailbox.left().iter().any(|left| left.name == b), "whoever goes on says it");
}

/// Protects what an agent put away unread, or never said a word of, from being lost at its end.
#[test]
fn what_an_agent_did_not_take_up_is_left_and_told() {
    let mut mailbox = Mailbox::default();
    mailbox.open("opening".to_string(), &spec(), &Prepared::default());
    assert!(["a", "b", "c"].iter().all(|text| push(&mut mailbox, text)));
    let mut names = Vec::new();
    while mailbox.send(true, |n, what| {
        names.extend(what.name());
        id(n)
    }) {}
    let [plan, a, _, c] = names[..] else { panic!("{names:?}") };
    assert!((1..=4).all(|n| mailbox.answered(id(n), true) != Answered::No), "the last is on its way still");
    assert_eq!(mailbox.is_at(plan, Progress::Seen), None);
    assert_eq!(mailbox.is_at(a, Progress::Dropped), Some(1), "it is told that nobody took it up");
    assert_eq!(mailbox.is_at(c, Progress::Dropped), Some(3));
    assert_eq!(mailbox.is_at(plan, Progress::Dropped), None, "that was taken up, and broken off");
    assert_eq!(mailbox.close(&spec()), 1, "the agent had it, and said nothing of it");
    let left: Vec<&str> = mailbox.left().iter().map(|said| said.text.as_str()).collect();
    assert_eq!(left, ["the plan", "a", "b", "c"], "what stands in the conversation by then is not said again");
}

/// Protects a task from an agent that never says what it takes up.
#[test]
fn what_an_agent_does_not_tell_of_is_taken_for_seen() {
    let mut mailbox = Mailbox::default();
    mailbox.open("opening".to_string(), &spec(), &Prepared::default());
    assert!(push(&mut mailbox, "a") && push(&mut mailbox, "b"));
    assert!((1..=3).all(|n| mailbox.send(true, |_, _| id(n))));
    assert!((1..=3).all(|n| mailbox.answered(id(n), true) != Answered::No));
    assert_eq!(mailbox.take_for_seen(), 1, "the other still waits");
    assert_eq!((mailbox.is_unseen(), mailbox.messages()), (false, 1));
}

/// Protects a message from being taken for one that was handed over in a life of the daemon of which nothing is known.
#[test]
fn what_was_handed_over_before_keeps_its_numbers() {
    let mut mailbox = Mailbox::default();
    mailbox.open("opening".to_string(), &spec(), &Prepared::default());
    mailbox.handed(9);
    mailbox.begun_before(FIRST, 9);
    assert!(push(&mut mailbox, "new"));
    // What is done with an opening that was handed over is known to whoever hands over.
    assert_eq!(sent(&mut mailbox, 1), [said(1, "opening"), said(10, "new")]);
    assert!(mailbox.is_unseen(), "the plan is with the agent");
    mailbox.handed(3);
    mailbox.say("own".to_string());
    assert_eq!(sent(&mut mailbox, 4), [said(11, "own")]);
    let mut begun = Mailbox::default();
    begun.open("opening".to_string(), &spec(), &Prepared::default());
    begun.handed(1);
    begun.begun_before(FIRST, 1);
    assert_eq!(sent(&mut begun, 1), [said(1, "opening"), said(2, "the plan")]);
}

/// Protects what was left of another task's conversation: it goes before the plan, is told once, and is left again where it
/// is not done with.
#[test]
fn what_was_left_of_a_conversation_comes_first() {
    let left = Vec::from([Utterance { name: Uuid::from_u128(1), text: "before".to_string() }]);
    let (id, session) = (TaskId(Uuid::from_u128(9)), None);
    let conversation = Conversation { id, session, how: GoingOn::Resumes, plan: None, left };
    let spec = Spec { conversation: Some(conversation), ..spec() };
    let mut mailbox = Mailbox::default();
    mailbox.open("opening".to_string(), &spec, &Prepared::default());
    assert!(push(&mut mailbox, "new"));
    let all = [said(1, "opening"), said(2, "before"), said(3, "the plan"), said(4, "new")];
    assert_eq!(sent(&mut mailbox, 1), all);
    assert_eq!(mailbox.is_at(Uuid::from_u128(1), Progress::Over), None, "it is no message of this task's");
    assert!(!mailbox.is_heeded(), "no turn is over");
    assert_eq!(mailbox.close(&spec), 0, "the message is on its way");
    let left: Vec<&str> = mailbox.left().iter().map(|said| said.text.as_str()).collect();
    assert_eq!(left, ["the plan", "new"]);
    // Of a life of which nothing is known the words before the plan were handed over before it.
    let mut found = Mailbox::default();
    found.open("opening".to_string(), &spec, &Prepared::default());
    found.handed(2);
    found.begun_before(FIRST, 2);
    assert_eq!(sent(&mut found, 1), [said(1, "opening"), said(3, "the plan")]);
    // What stands in the conversation is not said again.
    let mut recalled = Mailbox::default();
    let prepared = Prepared { recalled: Some(Vec::from([Uuid::from_u128(1)])), ..Prepared::default() };
    recalled.open("opening".to_string(), &spec, &prepared);
    assert_eq!(sent(&mut recalled, 1), [said(1, "opening"), said(2, "the plan")]);
    // An agent that was never told anything has its plan left.
    let mut never = Mailbox::default();
    assert!(push(&mut never, "early"));
    assert_eq!(never.close(&spec), 1, "it came too late for this agent");
    let left: Vec<&str> = never.left().iter().map(|said| said.text.as_str()).collect();
    assert_eq!(left, ["the plan", "early"]);
}

/// Protects a message from being taken by its agent for another that it knows.
#[test]
fn no_two_messages_have_the_same_name() {
    let mut names: Vec<Uuid> = Vec::new();
    for task in [TASK, TaskId(Uuid::from_u128(8))] {
        for (at, text, nth) in [(0, "", 0), (1, "a", 0), (1, "b", 0), (2, "a", 0), (2, "a", 1)] {
            names.push(name_of(task, Origin::At(Millis(at)), text, nth));
            names.push(name_of(task, Origin::Numbered((at, 1)), text, nth));
        }
    }
    let mut mailbox = Mailbox::default();
    assert!((0..3).all(|_| push(&mut mailbox, "the same")));
    names.extend(mailbox.letters.iter().filter_map(|letter| letter.what.name()));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 23);
    assert!(names.iter().all(|name| name.get_version_num() == 8));
}
