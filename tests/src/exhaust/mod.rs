//! Every run over a small alphabet: where the swarm tries some of very many, this tries all of few.
//!
//! Breadth first over the states of the world, each looked at once: what it is known by stands in [`canon`], what may
//! happen in [`bounds`]. Some things are not a choice, which is a bound and no proof: the transport hands on what it has
//! at once; a frame reaches the server at once, or is lost with all behind it when the connection breaks; time goes on only
//! where nothing else can; an effect is never late, and none fails; of what one act writes to the journal all is lost or
//! none; the server tells the newest of its acknowledgements only.
//!
//! Everything that must always hold is checked in every state. That every state comes to rest once nothing goes wrong
//! any more is checked by letting the world settle in those states of which no successor was looked at that healing
//! leads to; of the others it is known by that successor, and at the end it is seen to that no circle is among them.

pub mod bounds;
pub mod canon;
mod look;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{iter, thread};

use self::bounds::{Bounds, Left};
use self::look::{Eye, Heals, Looked, Node, Reached, Step};
use crate::swarm::Run;
use crate::world::{Act, World};

/// Something that must hold in every state, beside what the world checks.
pub type Watch<'a> = &'a dyn Fn(&World) -> Result<(), String>;

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// No longer than this.
    pub time: Duration,
    /// No more states than this wait to be looked at: each takes some sixty kibibytes, of which the most is the journal that a crash may lose.
    pub waiting: usize,
}

/// What came of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The most acts that it takes to get to a state, without those that are no choice.
    pub depth: usize,
    /// States.
    pub states: usize,
    /// Ways from one to another, or to the same.
    pub transitions: u64,
    /// States in which the world was let come to rest.
    pub settled: u64,
    /// States that nobody looked at, nor saw come to rest.
    pub unsettled: usize,
    /// Whether there are no more.
    pub complete: bool,
}

/// What does not hold, and how to get there.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The way there.
    pub run: Run,
    /// In the words of the check that found it.
    pub why: String,
}

/// Where healing leads from a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nobody has looked.
    Unknown,
    /// To rest: it was tried.
    Seen,
    /// To another state.
    By(u32),
}

/// So many states are looked at before what came of it is put together.
const WAVE: usize = 1_024;

/// A search under way.
pub struct Search<'a> {
    bounds: Bounds,
    watch: Option<Watch<'a>>,
    /// The states by what they are known by.
    known: BTreeMap<u64, u32>,
    /// How each state was got to, but for the first.
    steps: Vec<Step>,
    rests: Vec<Rest>,
    waiting: VecDeque<Node>,
    found: Found,
    eye: Eye,
    /// Where each state leads, if somebody doubts that those are alike that are taken for the same.
    onward: Vec<u64>,
}

impl<'a> Search<'a> {
    /// A search that has not begun.
    #[must_use]
    pub fn new(bounds: Bounds, watch: Option<Watch<'a>>) -> Self {
        let (known, waiting) = (BTreeMap::new(), VecDeque::new());
        let found = Found::default();
        Self {
            bounds,
            watch,
            known,
            steps: Vec::new(),
            rests: Vec::new(),
            waiting,
            found,
            eye: Eye::default(),
            onward: Vec::new(),
        }
    }

    /// The same, and it is seen to that states which are taken for the same lead to the same: all that [`canon`] leaves out.
    /// It takes some three times as long.
    #[must_use]
    pub fn doubting(self) -> Self {
        Self { eye: Eye { doubts: true, ..self.eye }, ..self }
    }

    /// The same, and states that differ only in fields of this name are taken for the same: to see that doubt finds it out.
    #[must_use]
    pub fn blind_to(self, field: &'static str) -> Self {
        Self { eye: Eye { blind: Some(field), ..self.eye }, ..self }
    }

    /// Looks at all states, or at as many as can be reached. On all cores; what is found, and in which order, does not depend
    /// on how many there are.
    ///
    /// # Errors
    /// The first that was found in which something does not hold.
    pub fn run(mut self, reach: Reach) -> Result<Found, Failure> {
        let (begun, eye) = (Instant::now(), self.eye);
        let mut world = self.start(Vec::new()).world();
        // Of what is written down before anything happens nothing is lost.
        world.apply(Act::Rotate);
        let first = Reached::new(Node::first(world, Left::all(&self.bounds)), None, eye);
        self.meet(first)?;
        while !self.waiting.is_empty() && begun.elapsed() < reach.time && self.waiting.len() <= reach.waiting {
            for (node, looked) in self.wave(|node, known| node.look(known, eye)) {
                self.found.depth = node.depth;
                self.take(&node, looked)?;
            }
        }
        self.found.complete = self.waiting.is_empty();
        // What nobody will look at any more comes to rest as well, as far as there is time to see.
        while !self.waiting.is_empty() && begun.elapsed() < reach.time * 5 / 4 {
            for (node, settled) in self.wave(|node, _| node.settle()) {
                self.rested(&node, settled)?;
            }
        }
        self.found.unsettled = self.waiting.len();
        self.found.states = self.rests.len();
        self.no_circles()?;
        Ok(self.found)
    }

    const fn start(&self, acts: Vec<Act>) -> Run {
        // An odd seed: a disk without a bound.
        Run { literal: false, speech: self.bounds.speech, seed: 1, searched: true, talks: false, asks: false, acts }
    }

    /// Has something done with each of the states that wait longest, on all cores. Gives what came of it in their order.
    fn wave<T: Send>(&mut self, does: impl Fn(&Node, &BTreeMap<u64, u32>) -> T + Sync) -> Vec<(Node, T)> {
        let nodes: Vec<Node> = self.waiting.drain(..self.waiting.len().min(WAVE)).collect();
        let (known, todo) = (&self.known, Mutex::new(nodes.into_iter().enumerate()));
        let next = || todo.lock().expect("nobody panics with it").next();
        let worker = || -> Vec<_> { iter::from_fn(next).map(|(nth, node)| (nth, does(&node, known), node)).collect() };
        let mut done: Vec<(usize, T, Node)> = thread::scope(|scope| {
            let workers: Vec<_> = (0..cores()).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("what panics is caught")).collect()
        });
        done.sort_unstable_by_key(|(nth, ..)| *nth);
        done.into_iter().map(|(_, came, node)| (node, came)).collect()
    }

    /// Takes in what came of looking at a state.
    fn take(&mut self, node: &Node, Looked { reached, heals, failed }: Looked) -> Result<(), Failure> {
        let places: Vec<u32> = reached.into_iter().map(|reached| self.meet(reached)).collect::<Result<_, _>>()?;
        if let Some((step, why)) = failed {
            return Err(self.failure(Some(step), why));
        }
        match heals {
            Heals::Elsewhere => self.rests[node.at as usize] = Rest::Seen,
            Heals::To(nth) => self.rests[node.at as usize] = Rest::By(places[nth]),
            Heals::Here(settled) => self.rested(node, settled)?,
        }
        Ok(())
    }

    /// A state was reached: it is looked at later, if it is a new one.
    fn meet(&mut self, Reached { print, step, node, onward }: Reached) -> Result<u32, Failure> {
        self.found.transitions += u64::from(step.is_some());
        let new = u32::try_from(self.rests.len()).expect("more states than there is room for");
        let at = *self.known.entry(print).or_insert(new);
        self.compare(at, onward).map_err(|why| self.failure(step, why))?;
        if at == new {
            let mut node = node.expect("what is not known yet is kept");
            self.rests.push(Rest::Unknown);
            self.steps.extend(step);
            if let Some(Err(why)) = self.watch.map(|watch| watch(&node.world)) {
                return Err(self.failure(step, why));
            }
            node.at = at;
            self.waiting.push_back(node);
        }
        Ok(at)
    }

    /// Sees that a state leads where the first did that it was taken for.
    fn compare(&mut self, at: u32, onward: Option<u64>) -> Result<(), String> {
        let Some(onward) = onward else { return Ok(()) };
        match self.onward.get(at as usize) {
            None => self.onward.push(onward),
            Some(first) if *first == onward => {}
            Some(_) => return Err("another state that is taken for the same leads elsewhere".to_string()),
        }
        Ok(())
    }

    /// The world was let come to rest from here.
    fn rested(&mut self, node: &Node, settled: Result<(), String>) -> Result<(), Failure> {
        self.found.settled += 1;
        self.rests[node.at as usize] = Rest::Seen;
        settled.map_err(|why| self.failure(self.step_to(node.at), why))
    }

    /// Sees that nobody goes round for ever on the way to rest.
    fn no_circles(&self) -> Result<(), Failure> {
        let mut met = vec![None; self.rests.len()];
        for first in 0..self.rests.len() {
            let mut at = first;
            while met[at].is_none() {
                met[at] = Some(first);
                if let Rest::By(next) = self.rests[at] {
                    at = next as usize;
                    if met[at] == Some(first) {
                        let why = "healing leads round in a circle from here".to_string();
                        return Err(self.failure(self.step_to(at as u32), why));
                    }
                }
            }
        }
        Ok(())
    }

    fn step_to(&self, at: u32) -> Option<Step> {
        (at as usize).checked_sub(1).map(|before| self.steps[before])
    }

    /// The run that ends with this step.
    fn failure(&self, last: Option<Step>, why: String) -> Failure {
        let mut acts = Vec::new();
        let mut next = last;
        while let Some(step) = next {
            acts.extend((0..step.delivered).map(|_| Act::Deliver));
            acts.extend([Act::Flush, step.act]);
            next = self.step_to(step.from);
        }
        acts.reverse();
        Failure { run: self.start(acts), why }
    }
}

/// How many states can be looked at at once.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
