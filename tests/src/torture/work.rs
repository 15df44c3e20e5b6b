//! One graph, from its first task to the hour in which its work stands in the user's branch: what fails is begun again,
//! what has ended well is merged while the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use makima_tests::real::{Failure, Lines, Marks};
use serde_json::{Value, json};
use uuid::Uuid;

use super::check::{self, Attempt, Went};
use super::graph::{End, Graph, Job};
use super::merging::Merging;
use super::people::{People, Wanted};
use super::user::Branches;

/// So often nothing is tried without there being something wrong.
const ATTEMPTS: usize = 40;

/// From one word that it is over to the next.
const OVER: Duration = Duration::from_secs(5);

/// A graph under way.
pub(crate) struct Work<'a> {
    people: People<'a>,
    graph: &'a Graph,
    boss: Attempt,
    /// Those before it, which did not get as far as beginning.
    before: Vec<String>,
    jobs: Vec<State>,
    /// How the files stand that each writes in its own way.
    choices: BTreeMap<String, String>,
    /// Words that the orchestrator was told, and those of which nobody knows whether it was.
    told: Vec<u64>,
    unsure: BTreeSet<u64>,
}

/// How one of its jobs stands.
#[derive(Default)]
struct State {
    attempts: Vec<Attempt>,
    /// The newest attempt has ended well.
    is_done: bool,
    /// What was to become of its work has.
    is_settled: bool,
}

impl State {
    fn newest(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
}

/// What is to be found in the user's branch, in the words of the repository's own check.
pub(crate) fn expected(work: &Work<'_>) -> String {
    let merged = work.graph.jobs.iter().filter(|job| matches!(job.end, End::Merged { .. } | End::HandedOver));
    let jobs: String = merged.map(Job::expected).collect();
    jobs + &work.choices.iter().map(|(file, token)| format!("choice {file} {token}\n")).collect::<String>()
}

impl<'a> Work<'a> {
    /// Asks for its tasks.
    pub(crate) fn begin(people: People<'a>, graph: &'a Graph) -> Result<Self, Failure> {
        let jobs = graph.jobs.iter().map(|_| State::default()).collect();
        let (choices, told, unsure) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        let (boss, before) = begin_boss(&people, graph)?;
        people.ledger.knows(&boss.id);
        let mut work = Self { people, graph, boss, before, jobs, choices, told, unsure };
        for n in 0..graph.jobs.len() {
            work.attempt(n, None)?;
        }
        Ok(work)
    }

    /// Brings it to its end.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        loop {
            self.look()?;
            let next = self.jobs.iter().position(|state| state.is_done && !state.is_settled);
            match next {
                Some(next) => self.settle(next)?,
                None if self.jobs.iter().all(|state| state.is_settled) => break,
                None => self.people.pause(&self.open())?,
            }
        }
        self.merging().is_complete()?;
        self.end_boss()?;
        self.people.ledger.count(|counts| counts.graphs += 1);
        Ok(())
    }

    /// The jobs that are not settled.
    fn open(&self) -> String {
        let open = self.jobs.iter().filter(|state| !state.is_settled).filter_map(State::newest);
        format!("the ends of {:?}", open.map(|attempt| &attempt.id).collect::<Vec<_>>())
    }

    fn merging(&self) -> Merging<'_> {
        Merging { people: self.people, boss: &self.boss.id }
    }

    /// Asks for the next attempt at a job, going on from that one if there is one.
    fn attempt(&mut self, n: usize, from: Option<String>) -> Result<(), Failure> {
        let (Some(job), Some(state)) = (self.graph.jobs.get(n), self.jobs.get(n)) else { return Ok(()) };
        let count = state.attempts.len();
        if count >= ATTEMPTS {
            return Err(format!("job {} has failed {count} times", job.name).into());
        }
        let newest = |n: &usize| Some(self.jobs.get(*n)?.newest()?.id.as_str());
        let attempt = Attempt { id: id(self.graph.number, n + 1, count), begun: Instant::now() };
        self.people.spawn(&Wanted {
            id: &attempt.id,
            name: &format!("Job {}", job.name),
            plan: job.script(&self.people.marks()),
            parent: job.end.is_of_a_subtask().then_some(self.boss.id.as_str()),
            action: match job.end {
                End::Merged { .. } | End::Skipped => "none",
                End::HandedOver => "merge",
                End::Branch => "branch",
            },
            after: job.after.iter().filter_map(newest).collect(),
            goes_on: from.as_deref().or_else(|| job.goes_on.as_ref().and_then(newest)),
            is_orchestrator: false,
        })?;
        self.people.ledger.count(|counts| counts.again += u64::from(count > 0));
        if let Some(state) = self.jobs.get_mut(n) {
            state.attempts.push(attempt);
        }
        Ok(())
    }

    /// Sees to what has ended, and begins again what has not ended well.
    fn look(&mut self) -> Result<(), Failure> {
        let tasks = self.people.tasks()?;
        let ended: BTreeMap<&str, &Value> = tasks
            .iter()
            .filter(|task| !task["endedAt"].is_null())
            .filter_map(|it| Some((it["id"].as_str()?, it)))
            .collect();
        for n in 0..self.jobs.len() {
            let Some((job, state)) = self.graph.jobs.get(n).zip(self.jobs.get(n)) else { continue };
            let Some(attempt) = state.newest().filter(|_| !state.is_done).cloned() else { continue };
            let Some(task) = ended.get(attempt.id.as_str()) else { continue };
            // Nobody begins anything where there is no room for it.
            if task["success"] != true && self.people.ledger.is_full() {
                continue;
            }
            let went = check::ended(&self.people, &attempt, Some(&job.lines), task)?;
            self.people.ledger.note(&format!("{} ended: {went:?}, {}", attempt.id, task["error"]));
            self.went(n, &attempt, &went)?;
        }
        Ok(())
    }

    fn went(&mut self, n: usize, attempt: &Attempt, went: &Went) -> Result<(), Failure> {
        let Some(job) = self.graph.jobs.get(n) else { return Ok(()) };
        let count = self.people.ledger;
        match went {
            Went::Well { handed_over } => {
                count.count(|counts| counts.done += 1);
                if !job.end.is_of_a_subtask() && !handed_over {
                    self.people.hand_over(&attempt.id, if job.end == End::Branch { "branch" } else { "merge" })?;
                }
                if let Some(state) = self.jobs.get_mut(n) {
                    (state.is_done, state.is_settled) = (true, !job.end.is_of_a_subtask());
                }
                return Ok(());
            }
            Went::Failed { .. } => count.count(|counts| counts.failed += 1),
            Went::InVain => count.count(|counts| counts.in_vain += 1),
        }
        // One in vain was given to no daemon.
        if job.end.is_of_a_subtask() && *went != Went::InVain {
            self.merging().skip(&attempt.id, "it failed, and is begun again")?;
        }
        // Every other time it begins anew: what it would go on from may be what it fails by.
        let tries = self.jobs.get(n).map_or(0, |state| state.attempts.len());
        let from = (*went == Went::Failed { has_work: true } && tries % 2 == 1).then(|| attempt.id.clone());
        self.attempt(n, from)
    }

    /// Does with the work of a subtask what is to become of it, and tells the orchestrator.
    fn settle(&mut self, n: usize) -> Result<(), Failure> {
        let (Some(job), Some(state)) = (self.graph.jobs.get(n), self.jobs.get(n)) else { return Ok(()) };
        let Some(id) = state.newest().map(|attempt| attempt.id.clone()) else { return Ok(()) };
        match job.end {
            End::Merged { taken_back } => {
                let others = self.merging().merge(&id, taken_back)?;
                let choice = job.choice.as_ref().filter(|file| !others.contains(&format!("choice/{file}")));
                self.choices.extend(choice.map(|file| (file.clone(), job.lines.token.clone())));
            }
            End::Skipped | End::HandedOver | End::Branch => self.merging().skip(&id, "it is of no use")?,
        }
        if let Some(state) = self.jobs.get_mut(n) {
            state.is_settled = true;
        }
        self.tell(n as u64)
    }

    /// Tells the orchestrator a number.
    fn tell(&mut self, number: u64) -> Result<(), Failure> {
        let path = format!("/api/v1/tasks/{}/messages", self.boss.id);
        match self.people.once("POST", &path, &json!({ "message": number.to_string() }))? {
            Some((202, _)) => self.told.push(number),
            Some(_) => {}
            None => {
                self.unsure.insert(number);
            }
        }
        Ok(())
    }

    /// The orchestrator ends, and its work is handed over.
    fn end_boss(&self) -> Result<(), Failure> {
        let path = format!("/api/v1/tasks/{}", self.boss.id);
        let mut told: Option<Instant> = None;
        let task = loop {
            let task = self.people.ask("GET", &path, &Value::Null)?;
            if !task["endedAt"].is_null() {
                break task;
            }
            if told.is_none_or(|at| at.elapsed() > OVER) {
                self.people.once("POST", &format!("{path}/messages"), &json!({ "message": "over" }))?;
                told = Some(Instant::now());
            }
            self.people.pause("the orchestrator's end")?;
        };
        let went = check::ended(&self.people, &self.boss, None, &task)?;
        self.people.ledger.note(&format!("{} ended: {went:?}, {}", self.boss.id, task["error"]));
        if went != (Went::Well { handed_over: true }) {
            self.people.hand_over(&self.boss.id, "merge")?;
        }
        let output = self.people.text(&format!("{path}/output"))?;
        let is_lost = self.people.ledger.excuse(&self.boss.id, self.boss.begun);
        if !is_lost.supervisor
            && !is_lost.disk
            && let Err(why) = self.heard(&output)
        {
            self.people.ledger.wrong(format!("task {}, the orchestrator: {why}: {output:?}", self.boss.id));
        }
        self.people.ledger.count(|counts| {
            counts.messages += self.told.len() as u64;
            match went {
                Went::Well { .. } => counts.done += 1,
                Went::Failed { .. } | Went::InVain => counts.failed += 1,
            }
        });
        Ok(())
    }

    /// What the orchestrator was told it says: each once, in order.
    fn heard(&self, output: &str) -> Result<(), String> {
        let (mut told, mut unsure) = (self.told.iter(), self.unsure.clone());
        let lines = Lines::plain(0, &self.graph.token);
        for (at, line) in output.lines().enumerate() {
            let own = lines.line('o', at as u64 + 1);
            let number = line.strip_prefix(&own).and_then(|word| word.trim().parse::<u64>().ok());
            let number = number.ok_or_else(|| format!("{line:?} is not its line {}", at + 1))?;
            if unsure.remove(&number) {
                continue;
            }
            let next = told.next();
            if next != Some(&number) {
                return Err(format!("{number} came, and {next:?} was told"));
            }
        }
        told.next().map_or(Ok(()), |missing| Err(format!("{missing} never came")))
    }

    /// The branches that the user is to have of it, and whose work they hold; and those that may be there as well, as of
    /// one that failed the branch is handed over where there is one.
    pub(crate) fn branches(&self) -> Result<Branches, Failure> {
        let mut branches = Branches::default();
        for (job, state) in self.graph.jobs.iter().zip(&self.jobs).filter(|(job, _)| job.end == End::Branch) {
            for attempt in &state.attempts {
                let task = self.people.ask("GET", &format!("/api/v1/tasks/{}", attempt.id), &Value::Null)?;
                match (task["branch"].as_str().map(str::to_owned), task["success"] == true) {
                    (Some(branch), true) => branches.wanted.push((branch, job.name.clone())),
                    (Some(branch), false) => branches.allowed.push(branch),
                    (None, true) => return Err(format!("it is done and has no branch: {task}").into()),
                    (None, false) => {}
                }
            }
        }
        Ok(branches)
    }

    /// All tasks that were asked for.
    pub(crate) fn ids(&self) -> Vec<String> {
        let all = self.jobs.iter().flat_map(|state| &state.attempts);
        let all = std::iter::once(&self.boss).chain(all).map(|attempt| attempt.id.clone());
        all.chain(self.before.iter().cloned()).collect()
    }
}

/// An orchestrator that has begun, also where it has ended since: its subtasks begin at what it has. And those before it,
/// which never came so far.
fn begin_boss(people: &People<'_>, graph: &Graph) -> Result<(Attempt, Vec<String>), Failure> {
    let mut before = Vec::new();
    loop {
        let boss = Attempt { id: id(graph.number, 0, before.len()), begun: Instant::now() };
        people.spawn(&Wanted {
            id: &boss.id,
            name: &format!("Graph {}", graph.number),
            plan: graph.orchestrator(&people.marks()),
            parent: None,
            action: "merge",
            after: Vec::new(),
            goes_on: None,
            is_orchestrator: true,
        })?;
        let task = loop {
            let task = people.ask("GET", &format!("/api/v1/tasks/{}", boss.id), &Value::Null)?;
            if !["pending", "preparing"].contains(&task["status"].as_str().unwrap_or_default()) {
                break task;
            }
            people.pause("the orchestrator's beginning")?;
        };
        if task["endedAt"].is_null() || !Marks::read(&people.marks(), &boss.id)?.started.is_empty() {
            return Ok((boss, before));
        }
        let went = check::ended(people, &boss, None, &task)?;
        people.ledger.note(&format!("{} ended before it began: {went:?}, {}", boss.id, task["error"]));
        people.ledger.count(|counts| counts.failed += 1);
        before.push(boss.id);
        while people.ledger.is_full() {
            people.pause("room on the disk")?;
        }
    }
}

/// The id of an attempt.
fn id(graph: usize, job: usize, attempt: usize) -> String {
    let number = (graph as u128) << 32 | (job as u128) << 16 | attempt as u128;
    Uuid::from_u128(0x6e69_6768_0000_4000_8000_0000_0000_0000 | number).to_string()
}
