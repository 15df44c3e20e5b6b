//! Questions in version 1, which has no number to pair an answer with: daemons that do commands in order and say again
//! what they are not sure to have delivered, links that lose what is on them at any moment, a server that is started
//! anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use makima_control::hub::{
    Answer, DaemonState, Effect, Hub, Input, Numbers, Ordered, QuestionId, Reply, SessionId, Snapshot, TaskState,
};
use makima_core::effect::Way;
use makima_core::protocol::{
    BranchInfo, BranchList, CloneWorktree, CloneWorktreeResult, DaemonCommand, DaemonMessage, Heartbeat, ListBranches,
    MergeResult, MergeStart, MergeStatus, MergeStatusResponse, Wire,
};
use makima_core::time::Millis;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use crate::hub::{spawn, task};

const DAEMON: Uuid = Uuid::from_u128(7);

#[derive(Clone, Debug)]
enum Act {
    Ask(u8),
    /// So many commands reach the daemon.
    Down(usize),
    /// The daemon does the next command.
    Work,
    /// So many messages reach the server.
    Up(usize),
    /// The daemon learns that all it said has arrived.
    Delivered,
    Beat,
    Cut,
    Connect,
    ServerDies,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..4_u8).prop_map(Act::Ask),
        6 => (1..4_usize).prop_map(Act::Down),
        6 => Just(Act::Work),
        6 => (1..4_usize).prop_map(Act::Up),
        2 => Just(Act::Delivered),
        2 => Just(Act::Beat),
        2 => Just(Act::Cut),
        3 => Just(Act::Connect),
        1 => Just(Act::ServerDies),
    ]
}

/// A daemon of version 1 with one task.
#[derive(Default)]
struct Daemon {
    /// Commands that it has taken and not done.
    errands: VecDeque<DaemonCommand>,
    /// What it is not sure to have delivered, in order; how many of them are on the link.
    outbox: VecDeque<DaemonMessage>,
    sent: usize,
    done: BTreeMap<String, u32>,
    steps: u64,
}

impl Daemon {
    fn work(&mut self) {
        let Some(command) = self.errands.pop_front() else { return };
        self.steps += 1;
        let task_id = task(1);
        let answer: DaemonMessage = if let DaemonCommand::MergeStart(body) = command {
            *self.done.entry(body.source_branch.clone()).or_default() += 1;
            let message = body.source_branch;
            MergeResult { task_id, success: true, message, commit_sha: None, conflicts: None }.into()
        } else if let DaemonCommand::CloneWorktree(body) = command {
            *self.done.entry(body.target_dir.clone()).or_default() += 1;
            let target_dir = Some(body.target_dir);
            CloneWorktreeResult { task_id, success: true, message: String::new(), target_dir }.into()
        } else if let DaemonCommand::MergeStatus(_) = command {
            MergeStatusResponse { task_id, in_progress: false, source_branch: None, conflicted_files: Vec::new() }
                .into()
        } else if let DaemonCommand::ListBranches(_) = command {
            // So that it shows when it was looked.
            let (name, none) = (self.steps.to_string(), String::new);
            let branch =
                BranchInfo { name, task_id: None, is_merged: false, last_commit: none(), last_commit_message: none() };
            BranchList { task_id, branches: vec![branch] }.into()
        } else {
            return;
        };
        self.outbox.push_back(answer);
    }
}

/// What is on the link.
enum Up {
    Message(DaemonMessage),
    Ping,
}

struct Run {
    hub: Hub,
    daemon: Daemon,
    session: u64,
    open: bool,
    /// All of before was sent in this session, and a ping behind it.
    begun: bool,
    down: VecDeque<DaemonCommand>,
    up: VecDeque<Up>,
    questions: BTreeMap<QuestionId, (DaemonCommand, u64)>,
    answered: BTreeSet<QuestionId>,
    forgotten: BTreeSet<QuestionId>,
    next: u64,
    now: u64,
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            hub: Hub::default(),
            daemon: Daemon::default(),
            session: 0,
            open: false,
            begun: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
            questions: BTreeMap::new(),
            answered: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            next: 0,
            now: 1_000,
        };
        run.connect();
        run.step(Input::Create { spawn: Box::new(spawn(1)), after: Vec::new() });
        run
    }

    fn step(&mut self, input: Input) -> Answer {
        let mut out = Vec::new();
        self.now += 1;
        let answer = self.hub.step(Millis(self.now), input, &mut out);
        self.hub.check().unwrap();
        for effect in out {
            if let Effect::Send { session, command } = effect {
                assert_eq!((session.0, self.open), (self.session, true));
                self.down.push_back(*command);
            } else if let Effect::Answered { question, reply } = effect {
                self.answered(question, reply);
            }
        }
        answer
    }

    fn answered(&mut self, question: QuestionId, reply: Reply) {
        assert!(!self.forgotten.contains(&question), "asked of the server before this one");
        assert!(self.answered.insert(question), "answered twice");
        let (asked, since) = &self.questions[&question];
        match (asked, reply) {
            (DaemonCommand::MergeStart(asked), Reply::Heard(message)) => {
                let DaemonMessage::MergeResult(body) = *message else { panic!("{message:?}") };
                assert_eq!(body.message, asked.source_branch, "another's answer");
                assert_eq!(self.daemon.done[&asked.source_branch], 1);
            }
            (DaemonCommand::CloneWorktree(asked), Reply::Heard(message)) => {
                let DaemonMessage::CloneWorktreeResult(body) = *message else { panic!("{message:?}") };
                assert_eq!(body.target_dir.as_ref(), Some(&asked.target_dir), "another's answer");
                assert_eq!(self.daemon.done[&asked.target_dir], 1);
            }
            (DaemonCommand::ListBranches(_), Reply::Heard(message)) => {
                let DaemonMessage::BranchList(body) = *message else { panic!("{message:?}") };
                let step: u64 = body.branches[0].name.parse().unwrap();
                assert!(step > *since, "an answer of before the question");
            }
            (DaemonCommand::MergeStatus(_), Reply::Heard(message)) => {
                assert_eq!(message.kind(), "mergeStatusResponse");
            }
            (asked, Reply::Unknown) => assert!(["mergeStart", "cloneWorktree"].contains(&asked.kind())),
            (asked, Reply::Heard(_)) => panic!("{} was never asked", asked.kind()),
        }
    }

    fn ask(&mut self, what: u8) {
        self.next += 1;
        let (task_id, name, question) = (task(1), format!("b{}", self.next), QuestionId(self.next));
        let command: DaemonCommand = match what {
            0 => MergeStart { task_id, source_branch: name }.into(),
            1 => CloneWorktree { task_id, target_dir: name }.into(),
            2 => MergeStatus { task_id }.into(),
            _ => ListBranches { task_id }.into(),
        };
        self.questions.insert(question, (command.clone(), self.daemon.steps));
        if self.step(Input::Ask { task: task_id, question, command: Box::new(command) }) != Answer::Done {
            self.questions.remove(&question);
        }
    }

    fn connect(&mut self) {
        self.cut();
        self.session += 1;
        (self.open, self.begun, self.daemon.sent) = (true, false, 0);
        self.step(Input::Connected {
            session: SessionId(self.session),
            fresh: DAEMON,
            machine: "m".to_owned(),
            hostname: String::new(),
            max_tasks: 4,
            wire: Wire::One,
            way: Way::WebSocket,
        });
    }

    fn cut(&mut self) {
        self.down.clear();
        self.up.clear();
        if std::mem::take(&mut self.open) {
            self.step(Input::Gone { session: SessionId(self.session) });
        }
    }

    fn beat(&mut self) {
        self.up.push_back(Up::Message(Heartbeat { active_tasks: Vec::new() }.into()));
    }

    /// Everything that waits goes on the link; at first a heartbeat before it, and behind it a ping.
    fn send(&mut self) {
        let begins = !std::mem::replace(&mut self.begun, true);
        if begins {
            self.beat();
        }
        let waiting = self.daemon.outbox.iter().skip(self.daemon.sent);
        self.up.extend(waiting.cloned().map(Up::Message));
        self.daemon.sent = self.daemon.outbox.len();
        if begins {
            self.up.push_back(Up::Ping);
        }
    }

    fn up(&mut self, most: usize) -> bool {
        if !self.open {
            return false;
        }
        self.send();
        for n in 0..most {
            let Some(up) = self.up.pop_front() else { return n > 0 };
            let session = SessionId(self.session);
            self.step(match up {
                Up::Message(message) => Input::Message { session, message },
                Up::Ping => Input::Pinged { session },
            });
        }
        true
    }

    fn down(&mut self, most: usize) -> bool {
        for n in 0..most {
            let Some(command) = self.down.pop_front() else { return n > 0 };
            self.daemon.errands.push_back(command);
        }
        true
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Ask(what) => self.ask(what),
            Act::Down(most) => drop(self.down(most)),
            Act::Work => self.daemon.work(),
            Act::Up(most) => drop(self.up(most)),
            Act::Delivered if self.up.is_empty() && self.open => {
                self.daemon.outbox.drain(..self.daemon.sent);
                self.daemon.sent = 0;
            }
            Act::Delivered => {}
            Act::Beat if self.open && self.begun => self.beat(),
            Act::Beat => {}
            Act::Cut => self.cut(),
            Act::Connect => self.connect(),
            Act::ServerDies => {
                // Until another is there a daemon does what it has to, but perhaps for the last of it.
                while self.daemon.errands.len() > 1 {
                    self.daemon.work();
                }
                self.down.clear();
                self.up.clear();
                self.open = false;
                self.forgotten.extend(self.questions.keys().filter(|id| !self.answered.contains(id)).copied());
                self.hub = restarted();
            }
        }
    }
}

/// A server that knows of the task, and of no question.
fn restarted() -> Hub {
    let daemon = DaemonState {
        id: DAEMON,
        machine: "m".to_owned(),
        hostname: String::new(),
        max_tasks: 4,
        seen: Millis(1),
        numbers: Numbers::default(),
    };
    let task = TaskState {
        id: task(1),
        seq: 0,
        name: "Task 1".to_owned(),
        status: "running".to_owned(),
        parent: None,
        cost: 0,
        committed: None,
        talks: false,
        daemon: Some(DAEMON),
        interrupt: None,
        branch_known: false,
        events: 0,
        bytes: 0,
        log_at: None,
        line_begun: false,
        ordered: Ordered::default(),
        hold: None,
        words: Vec::new(),
        after: Vec::new(),
        spawn: Some(Box::new(spawn(1))),
    };
    Hub::restore(Snapshot { daemons: vec![daemon], tasks: vec![task] })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Protects whoever asks from the answer to another question, from one that was given before theirs, from a merge or
    /// a copy that is done twice, and from waiting for ever once the daemon is there.
    #[test]
    fn every_question_gets_its_own_answer(acts in vec(act(), 0..150)) {
        let mut run = Run::new();
        for act in acts {
            run.act(act);
        }
        run.connect();
        for _ in 0..1_000 {
            let moved = run.up(1_000) | run.down(1_000);
            if !moved && run.daemon.errands.is_empty() && run.up.is_empty() {
                break;
            }
            while !run.daemon.errands.is_empty() {
                run.daemon.work();
            }
        }
        for question in run.questions.keys().filter(|question| !run.forgotten.contains(question)) {
            prop_assert!(run.answered.contains(question), "{:?} waits for ever", run.questions[question]);
        }
        prop_assert!(run.daemon.done.values().all(|times| *times == 1));
    }
}
