//! Version 2 over the pure hub: daemons that write down what they must, links that are cut at any place, a store that
//! loses what it has not written; beside a ledger of what was kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use makima_control::hub::{Answer, Effect, Hub, Input, QuestionId, Reply, SessionId};
use makima_core::effect::Way;
use makima_core::protocol::{DaemonMessage, MergeStart, SendMessage, Wire};
use makima_core::time::Millis;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use crate::common::{complete, progress};
use crate::hub::{spawn, task};
use crate::numbers_model::{Daemon, Down, Job, Ledger, Link};

#[derive(Clone, Debug)]
enum Act {
    Connect(usize, bool),
    Cut(usize),
    ToServer(usize, usize),
    ToDaemon(usize, usize),
    /// What was sent before is sent again, from so far back.
    Again(usize, usize),
    Commit,
    ServerDies,
    /// The daemon loses all that it knew.
    Wipe(usize),
    Work(usize, u8, u8),
    /// A task's output is sent from some other place than the one that it had come to.
    Jump(usize, u8, u64),
    Create(u128),
    Interrupt(u128, bool),
    Hold(u128, bool),
    Tell(u128),
    Ask(u128),
}

fn act() -> impl Strategy<Value = Act> {
    let (who, who_too) = (0..2_usize, 0..2_usize);
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, polls)| Act::Connect(who, polls)),
        2 => who.clone().prop_map(Act::Cut),
        8 => (who.clone(), 1..6_usize).prop_map(|(who, n)| Act::ToServer(who, n)),
        8 => (who.clone(), 1..6_usize).prop_map(|(who, n)| Act::ToDaemon(who, n)),
        2 => (who.clone(), 1..5_usize).prop_map(|(who, n)| Act::Again(who, n)),
        6 => Just(Act::Commit),
        1 => Just(Act::ServerDies),
        1 => who.clone().prop_map(Act::Wipe),
        16 => (who, any::<u8>(), any::<u8>()).prop_map(|(who, task, what)| Act::Work(who, task, what)),
        5 => (who_too, any::<u8>(), 0..300_u64).prop_map(|(who, task, place)| Act::Jump(who, task, place)),
        3 => (0..13_u128).prop_map(Act::Create),
        2 => (0..13_u128, any::<bool>()).prop_map(|(task, graceful)| Act::Interrupt(task, graceful)),
        3 => (0..13_u128, any::<bool>()).prop_map(|(task, paused)| Act::Hold(task, paused)),
        5 => (0..13_u128).prop_map(Act::Tell),
        5 => (0..13_u128).prop_map(Act::Ask),
    ]
}

struct Run {
    hub: Hub,
    ledger: Ledger,
    /// What is not on disk yet.
    pending: Vec<Effect>,
    daemons: [Daemon; 2],
    sessions: u64,
    now: u64,
    steps: u64,
    /// Steps that cannot have been lost with a daemon.
    due: BTreeSet<String>,
    /// Messages that are to reach an agent, in order.
    told: Vec<(Uuid, String)>,
    /// Tasks that a daemon has lost, with what it was told of them.
    wiped: BTreeSet<Uuid>,
    questions: BTreeMap<QuestionId, (Uuid, String)>,
}

impl Run {
    fn new() -> Self {
        let daemons = [1, 2].map(|epoch| Daemon { epoch, ..Daemon::default() });
        let (hub, ledger) = (Hub::default(), Ledger::default());
        let (due, wiped, told, questions) = (BTreeSet::new(), BTreeSet::new(), Vec::new(), BTreeMap::new());
        Self {
            hub,
            ledger,
            pending: Vec::new(),
            daemons,
            sessions: 0,
            now: 1_000,
            steps: 0,
            due,
            told,
            wiped,
            questions,
        }
    }

    fn step(&mut self, input: Input) -> Answer {
        self.now += 1;
        let answer = self.hub.step(Millis(self.now), input, &mut self.pending);
        self.hub.check().unwrap();
        answer
    }

    /// The store has what waits; what waited for that leaves.
    fn commit(&mut self) {
        for effect in std::mem::take(&mut self.pending) {
            match effect {
                Effect::Record(record) => self.ledger.record(record),
                Effect::Output { task, offset, text } => self.ledger.output(task, offset, &text),
                Effect::Numbered { session, seq, command } => self.pass(session, Down::Numbered(seq, command)),
                Effect::Tell { session, tell } => self.pass(session, Down::Tell(tell)),
                Effect::Send { command, .. } => assert_eq!(command.kind(), "authenticated"),
                // The daemon has given that one up.
                Effect::Close { .. } => {}
                Effect::Answered { question, reply } => self.answered(question, reply),
            }
        }
    }

    fn pass(&mut self, to: SessionId, down: Down) {
        let links = self.daemons.iter_mut().filter_map(|daemon| daemon.link.as_mut());
        if let Some(link) = links.into_iter().find(|link| link.session == to) {
            link.down.push_back(down);
        }
    }

    fn connect(&mut self, who: usize, polls: bool) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        // The server may learn of the end of the link before only by this.
        self.daemons[who].link =
            Some(Link { session, up: VecDeque::new(), down: VecDeque::new(), live: false, said: Vec::new() });
        let way = if polls { Way::LongPoll } else { Way::WebSocket };
        self.step(Input::Connected {
            session,
            fresh: Uuid::from_u128(u128::from(self.sessions)),
            machine: format!("m{who}"),
            hostname: String::new(),
            max_tasks: 4,
            wire: Wire::Two,
            way,
        });
    }

    fn cut(&mut self, who: usize) {
        if let Some(link) = self.daemons[who].link.take() {
            self.step(Input::Gone { session: link.session });
        }
    }

    /// Says whether anything moved.
    fn up(&mut self, who: usize, most: usize) -> bool {
        for n in 0..most {
            let Some(link) = &mut self.daemons[who].link else { return n > 0 };
            let (session, Some(said)) = (link.session, link.up.pop_front()) else { return n > 0 };
            match self.step(Input::Said { session, said: Box::new(said) }) {
                Answer::Done | Answer::Ignored => {}
                Answer::Over | Answer::Renumbered => self.cut(who),
                wrong @ (Answer::OutOfOrder
                | Answer::Known
                | Answer::NoSuchTask
                | Answer::Ended
                | Answer::NotEnded
                | Answer::Unassigned
                | Answer::Away(_)
                | Answer::Full
                | Answer::NoSuchNeed(_)
                | Answer::NeedsItself
                | Answer::TooDeep
                | Answer::TooManySubtasks
                | Answer::OverBudget) => panic!("{wrong:?}"),
            }
        }
        true
    }

    fn down(&mut self, who: usize, most: usize) -> bool {
        for n in 0..most {
            let link = self.daemons[who].link.as_mut();
            let Some(down) = link.and_then(|link| link.down.pop_front()) else { return n > 0 };
            self.daemons[who].hear(down);
        }
        true
    }

    fn work(&mut self, who: usize, task: u8, what: u8) {
        let daemon = &mut self.daemons[who];
        let live: Vec<Uuid> = daemon.jobs.iter().filter(|(_, job)| !job.ended).map(|(id, _)| *id).collect();
        let Some(id) = live.get(usize::from(task) % live.len().max(1)).copied() else { return };
        let job = daemon.jobs.get_mut(&id).unwrap();
        match what {
            0..100 => {
                self.steps += 1;
                let step = format!("step {}", self.steps);
                self.due.insert(step.clone());
                daemon.number(progress(id, &step));
            }
            100..220 => {
                job.log += u64::from(what - 90);
                daemon.output(id);
            }
            // Held until the output is known to be there.
            _ if job.got >= job.log => {
                job.ended = true;
                daemon.number(complete(id, None));
            }
            _ => {}
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Connect(who, polls) => self.connect(who, polls),
            Act::Cut(who) => self.cut(who),
            Act::ToServer(who, most) => drop(self.up(who, most)),
            Act::ToDaemon(who, most) => drop(self.down(who, most)),
            Act::Again(who, back) => {
                if let Some(link) = &mut self.daemons[who].link
                    && let Some(said) = link.said.len().checked_sub(back).and_then(|at| link.said.get(at))
                    && said.hello.is_none()
                {
                    link.up.push_back(said.clone());
                }
            }
            Act::Commit => self.commit(),
            Act::ServerDies => {
                self.pending.clear();
                self.questions.clear();
                self.hub = Hub::restore(self.ledger.snapshot());
                self.hub.check().unwrap();
                self.daemons.iter_mut().for_each(|daemon| daemon.link = None);
            }
            Act::Wipe(who) => {
                self.cut(who);
                let epoch = self.daemons[who].epoch + 2;
                let lost = std::mem::replace(&mut self.daemons[who], Daemon { epoch, ..Daemon::default() });
                self.wiped.extend(lost.jobs.keys());
                for message in lost.outbox.into_values() {
                    if let DaemonMessage::TaskProgress(body) = message {
                        self.due.remove(&body.summary);
                    }
                }
            }
            Act::Work(who, task, what) => self.work(who, task, what),
            Act::Jump(who, task, place) => {
                let daemon = &mut self.daemons[who];
                let count = daemon.jobs.len().max(1);
                if let Some((id, job)) = daemon.jobs.iter_mut().nth(usize::from(task) % count) {
                    let id = *id;
                    job.sent = place % (job.log + 1);
                    daemon.output(id);
                }
            }
            Act::Create(n) => drop(self.step(Input::Create { spawn: Box::new(spawn(n)), after: Vec::new() })),
            Act::Interrupt(n, graceful) => drop(self.step(Input::Interrupt { task: task(n), graceful })),
            Act::Hold(n, paused) => drop(self.step(Input::Hold { task: task(n), paused })),
            Act::Tell(n) => self.tell(task(n)),
            Act::Ask(n) => self.ask(task(n)),
        }
    }

    fn ask(&mut self, id: Uuid) {
        self.steps += 1;
        let (question, branch) = (QuestionId(self.steps), format!("b{}", self.steps));
        let command = Box::new(MergeStart { task_id: id, source_branch: branch.clone() }.into());
        if self.step(Input::Ask { task: id, question, command }) == Answer::Done {
            self.questions.insert(question, (id, branch));
        }
    }

    fn answered(&mut self, question: QuestionId, reply: Reply) {
        let (_, branch) = self.questions.remove(&question).expect("one that is open");
        if let Reply::Heard(message) = reply {
            let DaemonMessage::MergeResult(body) = *message else { panic!("{message:?}") };
            assert_eq!(body.message, branch, "another's answer");
        }
    }

    /// A message that a client was told is taken: it is on disk then.
    fn tell(&mut self, id: Uuid) {
        self.steps += 1;
        let message = format!("message {}", self.steps);
        let command = Box::new(SendMessage { task_id: id, message: message.clone() }.into());
        if self.step(Input::Tell { task: id, command }) == Answer::Done {
            self.commit();
            self.told.push((id, message));
        }
    }

    /// Everything works again, for as long as there is anything to do.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.commit();
            let mut moved = false;
            for who in 0..2 {
                if self.daemons[who].link.is_none() {
                    self.connect(who, false);
                    moved = true;
                }
                moved |= self.up(who, 1_000) | self.down(who, 1_000);
            }
            if !moved && self.pending.is_empty() {
                return;
            }
        }
        panic!("no end of it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Protects the promises of version 2, whatever is cut, lost, killed or said again: no command and no message twice and
    /// none lost, the last wish told last, a question answered by its own answer, every message applied once, no hole in the output and nothing twice.
    #[test]
    fn any_sequence_of_faults_keeps_the_promises(acts in vec(act(), 0..200)) {
        let mut run = Run::new();
        (10..13).for_each(|n| run.act(Act::Create(n)));
        run.settle();
        for act in acts {
            run.act(act);
        }
        run.settle();
        let steps: BTreeSet<String> = run.ledger.steps.iter().cloned().collect();
        for step in run.due.difference(&steps) {
            prop_assert!(false, "{} was lost", step);
        }
        prop_assert!(run.questions.is_empty(), "{:?} wait for ever", run.questions);
        for daemon in &run.daemons {
            let times = daemon.merged.iter().collect::<BTreeSet<_>>().len();
            prop_assert_eq!(times, daemon.merged.len(), "merged twice");
            prop_assert!(daemon.outbox.is_empty());
        }
        let all: BTreeMap<Uuid, &Job> = run.daemons.iter().flat_map(|daemon| &daemon.jobs).map(|(id, job)| (*id, job)).collect();
        for kept in run.ledger.tasks.values().filter(|kept| kept.daemon.is_some() && !run.ledger.ended.contains(&kept.id)) {
            let job = all.get(&kept.id);
            prop_assert!(job.is_some(), "a command was lost");
            let text = run.ledger.text.get(&kept.id).map_or(0, String::len) as u64;
            prop_assert!(text >= job.unwrap().log, "output was lost");
            prop_assert!(kept.interrupt != Some(false) || job.unwrap().gentle == 1, "an interruption was lost");
            prop_assert!(kept.interrupt.is_some() || job.unwrap().holds == (kept.hold == Some(true)), "the last wish");
            prop_assert!(kept.words.is_empty(), "a message waits for nothing");
            let told: Vec<&String> = run.told.iter().filter(|(id, _)| *id == kept.id).map(|(_, text)| text).collect();
            let heard: Vec<&String> = job.unwrap().heard.iter().collect();
            if run.wiped.contains(&kept.id) || run.ledger.doubtful.contains(&kept.id) {
                // What is lost with a daemon is lost; what comes, comes in order.
                let mut rest = told.iter();
                prop_assert!(heard.iter().all(|text| rest.any(|other| other == text)));
            } else {
                prop_assert_eq!(told, heard, "each message once, in order");
            }
        }
    }
}
