//! The hub under any sequence of inputs, restarts among them, beside a ledger of what it recorded.

use std::collections::{BTreeMap, BTreeSet};

use makima_control::hub::{
    DaemonState, Effect, Event, Hub, Input, Numbers, Ordered, Record, SessionId, Snapshot, TaskState,
};
use makima_core::effect::Way;
use makima_core::protocol::{DaemonCommand, DaemonMessage, Heartbeat, RevokeToolKey, SpawnTask, Wire};
use makima_core::time::Millis;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use crate::common::{complete, output, progress, status};
use crate::hub::{spawn, task};

#[derive(Clone, Debug)]
enum Act {
    Connect { machine: u8, max: i32 },
    Gone { session: u64 },
    Say { session: u64, task: u128, what: u8 },
    Create { task: u128, parent: Option<u128>, continues: Option<u128> },
    Interrupt { task: u128, graceful: bool },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let near = 0..12_u64;
    prop_oneof![
        3 => (0..3_u8, -1..5_i32).prop_map(|(machine, max)| Act::Connect { machine, max }),
        1 => near.clone().prop_map(|session| Act::Gone { session }),
        8 => (near, 0..7_u128, 0..8_u8).prop_map(|(session, task, what)| Act::Say { session, task, what }),
        4 => (0..7_u128, any::<Option<bool>>(), any::<Option<bool>>()).prop_map(|(task, parent, continues)| {
            let other = |relative: Option<bool>| relative.map(|before| if before { task.saturating_sub(1) } else { task + 1 });
            Act::Create { task, parent: other(parent), continues: other(continues) }
        }),
        2 => (0..7_u128, any::<bool>()).prop_map(|(task, graceful)| Act::Interrupt { task, graceful }),
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
        _ => RevokeToolKey { task_id: id }.into(),
    }
}

/// What a store would have, and what daemons were told. It believes nothing that breaks a promise.
#[derive(Default)]
struct Ledger {
    daemons: BTreeMap<Uuid, DaemonState>,
    tasks: BTreeMap<Uuid, TaskState>,
    ended: BTreeSet<Uuid>,
    sessions: BTreeMap<u64, Uuid>,
    told: BTreeMap<Uuid, BTreeSet<u64>>,
}

impl Ledger {
    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Close { session } => {
                self.sessions.remove(&session.0);
            }
            Effect::Send { session, command } => self.sent(session.0, *command),
            Effect::Numbered { .. } | Effect::Tell { .. } => panic!("none of these speaks version 2"),
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
            self.told.entry(body.task_id).or_default().insert(session);
        } else if let DaemonCommand::InterruptTask(body) = command {
            assert!(self.told[&body.task_id].contains(&session), "interrupted before it was sent");
        } else {
            panic!("{} was never asked for", command.kind())
        }
    }

    fn record(&mut self, record: Record) {
        match record {
            Record::Daemon { id, machine, hostname, max_tasks, seen } => {
                self.daemons
                    .insert(id, DaemonState { id, machine, hostname, max_tasks, seen, numbers: Numbers::default() });
            }
            Record::Task { seq, name, spawn, .. } => {
                let state = TaskState {
                    id: spawn.task_id,
                    seq,
                    name,
                    status: "pending".to_owned(),
                    daemon: None,
                    interrupt: None,
                    branch_known: false,
                    events: 0,
                    bytes: 0,
                    log_at: Some(0),
                    line_begun: false,
                    ordered: Ordered::default(),
                    spawn: Some(spawn),
                };
                assert!(self.tasks.insert(state.id, state).is_none(), "made twice");
            }
            Record::Assigned { task, daemon } => {
                let before = self.tasks.get_mut(&task).unwrap().daemon.replace(daemon);
                assert_eq!(before, None, "given away twice");
            }
            Record::Interrupt { task, forced } => self.live(task).interrupt = Some(forced),
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
                    kept.status = end.status;
                    kept.spawn = None;
                    self.ended.insert(task);
                }
            }
        }
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
            Act::Create { task: n, parent, continues } => {
                let (parent_task_id, continue_from_task_id) = (parent.map(task), continues.map(task));
                let spawn = SpawnTask { parent_task_id, continue_from_task_id, ..spawn(n) };
                self.step(Input::Create { spawn: Box::new(spawn) });
            }
            Act::Interrupt { task: n, graceful } => self.step(Input::Interrupt { task: task(n), graceful }),
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
    /// there, every unfinished task has been sent to the one that has it.
    #[test]
    fn any_sequence_keeps_the_promises(acts in vec(act(), 0..120)) {
        let mut run = Run { hub: Hub::default(), ledger: Ledger::default(), next: 0 };
        for act in acts {
            run.act(act);
        }
        for machine in 0..3 {
            run.connect(machine, 4);
        }
        let sessions = run.ledger.sessions.clone();
        for kept in run.ledger.tasks.values().filter(|kept| kept.spawn.is_some()) {
            let told = &run.ledger.told[&kept.id];
            prop_assert!(sessions.iter().any(|(session, id)| Some(*id) == kept.daemon && told.contains(session)));
        }
    }
}
