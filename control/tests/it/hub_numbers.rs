//! Version 2 over the pure hub: daemons that write down what they must, links that are cut at any place, a store that
//! loses what it has not written; beside a ledger of what was kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use makima_control::hub::{
    Answer, DaemonState, Effect, Event, Hub, Input, Numbers, Ordered, Record, Said, SessionId, Snapshot, TaskState,
    Tell,
};
use makima_core::effect::Way;
use makima_core::protocol::{DaemonCommand, DaemonMessage, Hello, Meta, Place, Wire};
use makima_core::time::Millis;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use crate::common::{complete, output, progress};
use crate::hub::{spawn, task};

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
    ]
}

/// The byte of every task's output at this place.
fn stream(from: u64, to: u64) -> String {
    (from..to).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect()
}

/// A task as its daemon knows it.
#[derive(Clone, Debug, Default)]
struct Job {
    log: u64,
    sent: u64,
    got: u64,
    ended: bool,
    gentle: u32,
}

/// A daemon: all of it is on its disk, but for the link.
#[derive(Debug, Default)]
struct Daemon {
    epoch: u64,
    last: u64,
    outbox: BTreeMap<u64, DaemonMessage>,
    /// The server's numbers.
    of: u64,
    applied: u64,
    jobs: BTreeMap<Uuid, Job>,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    session: SessionId,
    up: VecDeque<Said>,
    down: VecDeque<Down>,
    live: bool,
    /// What was said, to be said again.
    said: Vec<Said>,
}

#[derive(Clone, Debug)]
enum Down {
    Numbered(u64, Box<DaemonCommand>),
    Tell(Tell),
}

impl Daemon {
    fn say(&mut self, said: Said) {
        if let Some(link) = &mut self.link
            && link.live
        {
            link.up.push_back(said.clone());
            link.said.push(said);
        }
    }

    fn number(&mut self, message: DaemonMessage) {
        self.last += 1;
        self.outbox.insert(self.last, message.clone());
        self.say(Said { seq: Some(self.last), body: Some(message), ..Said::default() });
    }

    /// Sends a task's output from where it was sent to.
    fn output(&mut self, id: Uuid) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        while job.sent < job.log {
            let (off, end) = (job.sent, (job.sent + 7).min(job.log));
            job.sent = end;
            let meta = Meta { off: Some(off), end: Some(end), len: None };
            let said = Said { body: Some(output(id, &stream(off, end), true)), meta, ..Said::default() };
            if let Some(link) = self.link.as_mut().filter(|link| link.live) {
                link.up.push_back(said.clone());
                link.said.push(said);
            }
        }
    }

    fn hear(&mut self, down: Down) {
        match down {
            Down::Numbered(seq, command) => self.command(seq, *command),
            Down::Tell(Tell::Hello(hello)) => self.greeted(&hello),
            Down::Tell(Tell::Ack(n)) => self.outbox = self.outbox.split_off(&(n + 1)),
            Down::Tell(Tell::Got(place)) => {
                if let Some(job) = self.jobs.get_mut(&place.task) {
                    job.got = job.got.max(place.off);
                }
            }
            Down::Tell(Tell::Rewind(place)) => {
                if let Some(job) = self.jobs.get_mut(&place.task) {
                    job.sent = place.off;
                    // One that has lost its log runs the task anew.
                    job.log = job.log.max(place.off);
                }
                self.output(place.task);
            }
            Down::Tell(Tell::Pong(_)) => {}
        }
    }

    fn command(&mut self, seq: u64, command: DaemonCommand) {
        assert!(seq <= self.applied + 1, "{seq} after {}", self.applied);
        if seq == self.applied + 1 {
            self.applied = seq;
            if let DaemonCommand::SpawnTask(body) = command {
                let known = self.jobs.insert(body.task_id, Job::default());
                assert!(known.is_none(), "a command came twice");
            } else if let DaemonCommand::InterruptTask(body) = command {
                let job = self.jobs.get_mut(&body.task_id);
                if let Some(job) = job.filter(|_| body.graceful) {
                    job.gentle += 1;
                    assert_eq!(job.gentle, 1, "a gentle one came twice");
                }
            } else {
                panic!("{} was never asked for", command.kind());
            }
        }
        let ack = Some(self.applied);
        self.say(Said { ack, ..Said::default() });
    }

    fn greeted(&mut self, hello: &Hello) {
        if hello.epoch != self.of {
            (self.of, self.applied) = (hello.epoch, 0);
        }
        let applied = if hello.of == self.epoch { hello.applied } else { 0 };
        assert!(applied <= self.last);
        self.outbox = self.outbox.split_off(&(applied + 1));
        let places = self.jobs.iter().filter(|(_, job)| !job.ended || !self.outbox.is_empty());
        let tasks = places.map(|(task, job)| Place { task: *task, off: job.log }).collect();
        let ours = Hello { epoch: self.epoch, of: self.of, applied: self.applied, tasks };
        self.link.as_mut().unwrap().live = true;
        self.say(Said { hello: Some(ours), ..Said::default() });
        for (seq, message) in self.outbox.clone() {
            self.say(Said { seq: Some(seq), body: Some(message), ..Said::default() });
        }
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            let job = self.jobs.get_mut(&id).unwrap();
            let place = hello.tasks.iter().find(|place| place.task == id);
            // As the server says, or from where this side knows it to be: both are right.
            let place = place.map_or(job.got, |place| place.off);
            job.sent = if self.last.is_multiple_of(2) { place } else { job.got }.min(job.log);
            self.output(id);
        }
    }
}

/// What a store has: it believes nothing that breaks a promise.
#[derive(Clone, Default)]
struct Ledger {
    daemons: BTreeMap<Uuid, DaemonState>,
    tasks: BTreeMap<Uuid, TaskState>,
    text: BTreeMap<Uuid, String>,
    steps: Vec<String>,
    ended: BTreeSet<Uuid>,
}

impl Ledger {
    fn record(&mut self, record: Record) {
        match record {
            Record::Daemon { id, machine, hostname, max_tasks, seen } => {
                let numbers = self.daemons.get(&id).map(|old| old.numbers.clone()).unwrap_or_default();
                self.daemons.insert(id, DaemonState { id, machine, hostname, max_tasks, seen, numbers });
            }
            Record::Task { seq, name, spawn, .. } => {
                let (id, status) = (spawn.task_id, "pending".to_owned());
                let (events, bytes, log_at, ordered) = (0, 0, 0, Ordered::default());
                let (daemon, interrupt, branch_known, spawn) = (None, None, false, Some(spawn));
                let task = TaskState {
                    id,
                    seq,
                    name,
                    status,
                    daemon,
                    interrupt,
                    branch_known,
                    events,
                    bytes,
                    log_at,
                    ordered,
                    spawn,
                };
                self.tasks.insert(id, task);
            }
            Record::Assigned { task, daemon } => self.tasks.get_mut(&task).unwrap().daemon = Some(daemon),
            Record::Interrupt { task, forced } => self.tasks.get_mut(&task).unwrap().interrupt = Some(forced),
            Record::Branch { .. } => {}
            Record::Epoch { daemon, epoch } => {
                let numbers = &mut self.daemons.get_mut(&daemon).unwrap().numbers;
                assert!(epoch > numbers.epoch);
                *numbers = Numbers { epoch, last: 0, orders: BTreeMap::new(), ..*numbers };
                let of = self.tasks.values_mut().filter(|task| task.daemon == Some(daemon));
                of.for_each(|task| task.ordered = Ordered::default());
            }
            Record::Ordered { daemon, n, order } => {
                let numbers = &mut self.daemons.get_mut(&daemon).unwrap().numbers;
                assert_eq!(n, numbers.last + 1);
                numbers.last = n;
                numbers.orders.insert(n, order);
                self.tasks.get_mut(&order.task).unwrap().ordered.0 |= order.what.bit();
            }
            Record::Acked { daemon, n } => {
                let numbers = &mut self.daemons.get_mut(&daemon).unwrap().numbers;
                numbers.orders = numbers.orders.split_off(&(n + 1));
            }
            Record::Applied { daemon, epoch, n } => {
                let numbers = &mut self.daemons.get_mut(&daemon).unwrap().numbers;
                assert!((epoch == numbers.theirs && n == numbers.applied + 1) || n == 0);
                (numbers.theirs, numbers.applied) = (epoch, n);
            }
            Record::Placed { task, at } => self.tasks.get_mut(&task).unwrap().log_at = at,
            Record::Event { task, n, event, .. } => {
                assert!(!self.ended.contains(&task));
                let kept = self.tasks.get_mut(&task).unwrap();
                assert_eq!(kept.events + 1, n);
                kept.events = n;
                if let Event::Progress { summary } = event {
                    assert!(!self.steps.contains(&summary), "{summary} twice");
                    self.steps.push(summary);
                } else if let Event::End(_) = event {
                    kept.spawn = None;
                    self.ended.insert(task);
                }
            }
        }
    }

    fn output(&mut self, task: Uuid, offset: u64, text: &str) {
        let all = self.text.entry(task).or_default();
        assert_eq!(all.len() as u64, offset);
        all.push_str(text);
        self.tasks.get_mut(&task).unwrap().bytes = all.len() as u64;
        // Neither a hole nor a double, whatever came.
        assert_eq!(*all, stream(0, all.len() as u64));
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { daemons: self.daemons.values().cloned().collect(), tasks: self.tasks.values().cloned().collect() }
    }
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
}

impl Run {
    fn new() -> Self {
        let daemons = [1, 2].map(|epoch| Daemon { epoch, ..Daemon::default() });
        let (hub, ledger) = (Hub::default(), Ledger::default());
        Self { hub, ledger, pending: Vec::new(), daemons, sessions: 0, now: 1_000, steps: 0, due: BTreeSet::new() }
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
                wrong @ (Answer::OutOfOrder | Answer::Known | Answer::NoSuchTask | Answer::Ended) => {
                    panic!("{wrong:?}")
                }
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
                self.hub = Hub::restore(self.ledger.snapshot());
                self.hub.check().unwrap();
                self.daemons.iter_mut().for_each(|daemon| daemon.link = None);
            }
            Act::Wipe(who) => {
                self.cut(who);
                let epoch = self.daemons[who].epoch + 2;
                let lost = std::mem::replace(&mut self.daemons[who], Daemon { epoch, ..Daemon::default() });
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
            Act::Create(n) => drop(self.step(Input::Create { spawn: Box::new(spawn(n)) })),
            Act::Interrupt(n, graceful) => drop(self.step(Input::Interrupt { task: task(n), graceful })),
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

    /// Protects the promises of version 2, whatever is cut, lost, killed or said again: no command twice and none
    /// lost, every message applied once, no hole in the output and nothing twice.
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
        for daemon in &run.daemons {
            prop_assert!(daemon.outbox.is_empty());
        }
        let all: BTreeMap<Uuid, &Job> = run.daemons.iter().flat_map(|daemon| &daemon.jobs).map(|(id, job)| (*id, job)).collect();
        for kept in run.ledger.tasks.values().filter(|kept| kept.daemon.is_some() && !run.ledger.ended.contains(&kept.id)) {
            let job = all.get(&kept.id);
            prop_assert!(job.is_some(), "a command was lost");
            let text = run.ledger.text.get(&kept.id).map_or(0, String::len) as u64;
            prop_assert!(text >= job.unwrap().log, "output was lost");
            prop_assert!(kept.interrupt != Some(false) || job.unwrap().gentle == 1, "an interruption was lost");
        }
    }
}
