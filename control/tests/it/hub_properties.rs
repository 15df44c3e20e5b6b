//! The hub under any sequence of inputs, restarts among them, beside a ledger of what it recorded.

use std::collections::{BTreeMap, BTreeSet};

use makima_control::hub::{
    Bounds, DaemonState, Effect, Event, Hub, Input, Kin, Numbers, QuestionId, Record, SessionId, Snapshot, TaskState,
};
use makima_core::effect::Way;
use makima_core::protocol::{
    CompletionActionResult, DaemonCommand, DaemonMessage, Heartbeat, ListBranches, MergeResult, MergeStart,
    MergeStatus, MergeStatusResponse, RegisterToolKey, RetryCompletionAction, RevokeToolKey, SendMessage, SpawnTask,
    Wire,
};
use makima_core::time::Millis;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use crate::common::{complete, made, output, progress, status};
use crate::hub::{spawn, task};

#[derive(Clone, Debug)]
enum Act {
    Connect { machine: u8, max: i32 },
    Gone { session: u64 },
    Say { session: u64, task: u128, what: u8 },
    Create { task: u128, parent: Option<u128>, continues: Option<u128>, after: Vec<u128> },
    Delegate { task: u128, parent: u128, after: Vec<u128> },
    Interrupt { task: u128, graceful: bool },
    Hold { task: u128, paused: bool },
    Tell { task: u128 },
    Ask { task: u128, what: u8 },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let near = 0..12_u64;
    prop_oneof![
        3 => (0..3_u8, -1..5_i32).prop_map(|(machine, max)| Act::Connect { machine, max }),
        1 => near.clone().prop_map(|session| Act::Gone { session }),
        8 => (near, 0..7_u128, 0..12_u8).prop_map(|(session, task, what)| Act::Say { session, task, what }),
        4 => (0..7_u128, any::<Option<bool>>(), any::<Option<bool>>(), vec(0..7_u128, 0..3)).prop_map(|(task, parent, continues, after)| {
            let other = |relative: Option<bool>| relative.map(|before| if before { task.saturating_sub(1) } else { task + 1 });
            Act::Create { task, parent: other(parent), continues: other(continues), after }
        }),
        2 => (0..7_u128, 0..7_u128, vec(0..7_u128, 0..2)).prop_map(|(task, parent, after)| Act::Delegate { task, parent, after }),
        2 => (0..7_u128, any::<bool>()).prop_map(|(task, graceful)| Act::Interrupt { task, graceful }),
        2 => (0..7_u128, any::<bool>()).prop_map(|(task, paused)| Act::Hold { task, paused }),
        3 => (0..7_u128).prop_map(|task| Act::Tell { task }),
        3 => (0..7_u128, 0..4_u8).prop_map(|(task, what)| Act::Ask { task, what }),
        1 => Just(Act::Restart),
    ]
}

fn say(what: u8, id: Uuid) -> DaemonMessage {
    match what {
        0 => complete(id, None),
        1 => complete(id, Some("no")),
        2 => status(id, "pending", "running"),
        3 => status(id, "running", "failed"),
        4 => output(id, "line", false),
        5 => progress(id, "step"),
        6 => Heartbeat { active_tasks: vec![id] }.into(),
        7 => MergeStatusResponse { task_id: id, in_progress: false, source_branch: None, conflicted_files: Vec::new() }
            .into(),
        8 => {
            MergeResult { task_id: id, success: true, message: String::new(), commit_sha: None, conflicts: None }.into()
        }
        9 => CompletionActionResult { task_id: id, success: true, message: String::new(), pr_url: None }.into(),
        10 => RegisterToolKey { task_id: id, key: id.to_string() }.into(),
        _ => RevokeToolKey { task_id: id }.into(),
    }
}

fn ask(what: u8, task_id: Uuid) -> DaemonCommand {
    match what {
        0 => MergeStart { task_id, source_branch: "b".to_owned() }.into(),
        1 => MergeStatus { task_id }.into(),
        2 => ListBranches { task_id }.into(),
        _ => RetryCompletionAction {
            task_id,
            task_name: String::new(),
            action: "branch".to_owned(),
            target_repo_path: String::new(),
            target_branch: None,
        }
        .into(),
    }
}

/// Whose agent is told what, if this is told once: no two of them say the same.
fn worded(command: &DaemonCommand) -> Option<(Uuid, String)> {
    if let DaemonCommand::SendMessage(body) = command {
        return Some((body.task_id, body.message.clone()));
    }
    let DaemonCommand::InjectSiblingContext(body) = command else { return None };
    Some((body.task_id, format!("{} of {}", body.task_id, body.sibling_task_id)))
}

/// What a store would have, and what daemons were told. It believes nothing that breaks a promise.
#[derive(Default)]
struct Ledger {
    daemons: BTreeMap<Uuid, DaemonState>,
    tasks: BTreeMap<Uuid, TaskState>,
    ended: BTreeSet<Uuid>,
    sessions: BTreeMap<u64, Uuid>,
    told: BTreeMap<Uuid, BTreeSet<u64>>,
    /// Tasks that have ended well.
    done: BTreeSet<Uuid>,
    /// The newest wish that each session was told of each task.
    held: BTreeMap<(Uuid, u64), bool>,
    /// Messages that were told, and those of which it was written down that they are about to be.
    said: BTreeSet<String>,
    leaving: BTreeSet<String>,
    asked: BTreeSet<QuestionId>,
    answered: BTreeSet<QuestionId>,
}

impl Ledger {
    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Close { session } => {
                self.sessions.remove(&session.0);
            }
            Effect::Send { session, command } => self.sent(session.0, *command),
            Effect::Numbered { .. } | Effect::Tell { .. } => panic!("none of these speaks version 2"),
            Effect::Answered { question, .. } => {
                assert!(self.asked.contains(&question), "nobody asked");
                assert!(self.answered.insert(question), "answered twice");
            }
            Effect::Record(record) => self.record(record),
            Effect::Output { task, offset, text } => {
                let kept = self.live(task);
                assert_eq!(kept.bytes, offset);
                kept.bytes += text.len() as u64;
            }
        }
    }

    fn sent(&mut self, session: u64, command: DaemonCommand) {
        if let DaemonCommand::Authenticated(body) = command {
            self.sessions.insert(session, body.daemon_id);
        } else if let DaemonCommand::SpawnTask(body) = command {
            let kept = &self.tasks[&body.task_id];
            assert_eq!(kept.daemon, self.sessions.get(&session).copied(), "sent to a daemon that has it not");
            assert!(!self.ended.contains(&body.task_id), "started after its end");
            assert!(kept.after.iter().all(|need| self.done.contains(need)), "started before its time");
            self.told.entry(body.task_id).or_default().insert(session);
        } else if let DaemonCommand::InterruptTask(body) = command {
            assert!(self.told[&body.task_id].contains(&session), "interrupted before it was sent");
        } else if let DaemonCommand::PauseTask(body) = command {
            self.held.insert((body.task_id, session), true);
        } else if let DaemonCommand::ResumeTask(body) = command {
            self.held.insert((body.task_id, session), false);
        } else if let Some((task, words)) = worded(&command) {
            assert!(self.told[&task].contains(&session), "told before it was sent");
            assert!(self.leaving.remove(&words), "not written down before");
            assert!(self.said.insert(words), "told twice");
        } else if let DaemonCommand::MergeStart(body) = &command {
            assert_eq!(self.tasks[&body.task_id].daemon, self.sessions.get(&session).copied());
        } else {
            let kinds = ["mergeStatus", "retryCompletionAction", "listBranches"];
            assert!(kinds.contains(&command.kind()), "{} was never asked for", command.kind());
        }
    }

    fn record(&mut self, record: Record) {
        match record {
            Record::Daemon { id, machine, hostname, max_tasks, seen } => {
                self.daemons
                    .insert(id, DaemonState { id, machine, hostname, max_tasks, seen, numbers: Numbers::default() });
            }
            record @ Record::Task { .. } => {
                let state = made(record);
                assert!(self.tasks.insert(state.id, state).is_none(), "made twice");
            }
            Record::Assigned { task, daemon } => {
                let before = self.tasks.get_mut(&task).unwrap().daemon.replace(daemon);
                assert_eq!(before, None, "given away twice");
            }
            Record::Interrupt { task, forced } => self.live(task).interrupt = Some(forced),
            Record::Hold { task, paused } => self.live(task).hold = paused,
            Record::Words { task, words } => self.live(task).words.push(words),
            Record::Told { n } => {
                let of = self.tasks.values_mut().find(|kept| kept.words.first().is_some_and(|words| words.n == n));
                let words = of.expect("the oldest of its task").words.remove(0);
                let (_, words) = worded(&words.command).expect("a message");
                assert!(self.leaving.insert(words));
            }
            Record::Branch { task, .. } => self.tasks.get_mut(&task).unwrap().branch_known = true,
            Record::Placed { task, at: None } => self.live(task).log_at = None,
            Record::Epoch { .. }
            | Record::Ordered { .. }
            | Record::Acked { .. }
            | Record::Applied { .. }
            | Record::Placed { at: Some(_), .. } => panic!("none of these speaks version 2"),
            Record::Event { task, n, offset, event, .. } => {
                let kept = self.live(task);
                assert_eq!((kept.events + 1, kept.bytes), (n, offset));
                kept.events = n;
                if let Event::Status { to, .. } = &event {
                    kept.status.clone_from(to);
                }
                if let Event::End(end) = event {
                    kept.status.clone_from(&end.status);
                    kept.spawn = None;
                    kept.words.clear();
                    self.ended.insert(task);
                    if end.success {
                        self.done.insert(task);
                    } else {
                        self.spared(task);
                    }
                }
            }
        }
    }

    /// What needs a task that failed must not have begun.
    fn spared(&self, failed: Uuid) {
        let needs = self.tasks.values().filter(|kept| kept.after.contains(&failed));
        needs.for_each(|kept| assert_eq!(kept.daemon, None, "begun in vain"));
    }

    /// Everything but a branch is only ever recorded for a task that has not ended.
    fn live(&mut self, task: Uuid) -> &mut TaskState {
        assert!(!self.ended.contains(&task), "something after the end");
        self.tasks.get_mut(&task).unwrap()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { daemons: self.daemons.values().cloned().collect(), tasks: self.tasks.values().cloned().collect() }
    }
}

struct Run {
    hub: Hub,
    ledger: Ledger,
    next: u64,
    messages: u64,
}

impl Run {
    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.hub.step(Millis(1), input, &mut out);
        for effect in out {
            self.ledger.take(effect);
        }
        self.hub.check().unwrap();
        let unfinished = self.ledger.tasks.len() - self.ledger.ended.len();
        assert_eq!(self.hub.unfinished(), unfinished);
    }

    fn connect(&mut self, machine: u8, max_tasks: i32) {
        self.next += 1;
        let (session, fresh) = (SessionId(self.next), Uuid::from_u128(self.next.into()));
        let machine = format!("m{machine}");
        let (wire, way) = (Wire::One, Way::WebSocket);
        self.step(Input::Connected { session, fresh, machine, hostname: String::new(), max_tasks, wire, way });
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Connect { machine, max } => self.connect(machine, max),
            Act::Gone { session } => {
                let session = self.recent(session);
                self.ledger.sessions.remove(&session.0);
                self.step(Input::Gone { session });
            }
            Act::Say { session, task: n, what } => {
                let session = self.recent(session);
                self.step(Input::Message { session, message: say(what, task(n)) });
            }
            Act::Create { task: n, parent, continues, after } => {
                let (parent_task_id, continue_from_task_id) = (parent.map(task), continues.map(task));
                let spawn = SpawnTask { parent_task_id, continue_from_task_id, ..spawn(n) };
                self.step(Input::Create { spawn: Box::new(spawn), after: after.into_iter().map(task).collect() });
            }
            Act::Delegate { task: n, parent, after } => {
                let after = after.into_iter().map(task).collect();
                let bounds = Bounds { max_subtasks: 2, ..Bounds::default() };
                let (parent, before) = (task(parent), self.hub.clone());
                self.step(Input::Delegate { parent, spawn: Box::new(spawn(n)), after, bounds });
                if before.kin(task(n), task(n)) == Kin::Neither && self.hub.kin(task(n), task(n)) == Kin::Itself {
                    assert!(!before.has_ended(parent) && before.below(parent).len() < 2, "more than it may");
                    assert_eq!(self.hub.kin(task(n), parent), Kin::Below);
                }
            }
            Act::Interrupt { task: n, graceful } => self.step(Input::Interrupt { task: task(n), graceful }),
            Act::Hold { task: n, paused } => self.step(Input::Hold { task: task(n), paused }),
            Act::Tell { task: n } => {
                self.messages += 1;
                let message = format!("message {}", self.messages);
                let command = Box::new(SendMessage { task_id: task(n), message }.into());
                self.step(Input::Tell { task: task(n), command });
            }
            Act::Ask { task: n, what } => {
                self.messages += 1;
                let (task, question) = (task(n), QuestionId(self.messages));
                self.ledger.asked.insert(question);
                self.step(Input::Ask { task, question, command: Box::new(ask(what, task)) });
            }
            Act::Restart => {
                self.hub = Hub::restore(self.ledger.snapshot());
                self.ledger.sessions.clear();
                self.hub.check().unwrap();
            }
        }
    }

    /// Counted back from the newest, so that most of what is said comes over one that is open.
    fn recent(&self, back: u64) -> SessionId {
        SessionId(self.next.saturating_sub(back / 3))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Protects the promises about tasks: made once, given to one daemon for good, ended at most once and
    /// nothing after that, numbered without a gap, restored from the records alone; and once every machine is
    /// there, every unfinished task has been sent to the one that has it, but those that wait for others, with the last wish
    /// that it stand still or go on. A message is told once at most, and is when its daemon is there; a question is
    /// answered once at most.
    #[test]
    fn any_sequence_keeps_the_promises(acts in vec(act(), 0..120)) {
        let mut run = Run { hub: Hub::default(), ledger: Ledger::default(), next: 0, messages: 0 };
        for act in acts {
            run.act(act);
        }
        for machine in 0..3 {
            run.connect(machine, 4);
        }
        let sessions = run.ledger.sessions.clone();
        for kept in run.ledger.tasks.values().filter(|kept| kept.spawn.is_some()) {
            if kept.daemon.is_none() {
                prop_assert!(!kept.after.iter().all(|need| run.ledger.done.contains(need)), "nothing is waited for");
                prop_assert!(!kept.after.iter().any(|need| run.ledger.ended.contains(need) && !run.ledger.done.contains(need)), "waits in vain");
                continue;
            }
            prop_assert!(kept.words.is_empty(), "not told");
            let newest = sessions.iter().find(|(_, id)| Some(**id) == kept.daemon).map(|(session, _)| *session);
            if kept.interrupt.is_none() {
                let held = newest.and_then(|session| run.ledger.held.get(&(kept.id, session)).copied());
                prop_assert_eq!(held, kept.hold, "the last wish");
            }
            let told = &run.ledger.told[&kept.id];
            prop_assert!(sessions.iter().any(|(session, id)| Some(*id) == kept.daemon && told.contains(session)));
        }
    }
}
