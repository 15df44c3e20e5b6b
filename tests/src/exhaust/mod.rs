//! Every run over a small alphabet: where the swarm tries some of very many, this tries all of few.
//!
//! Breadth first over the states of the world, each looked at once: what it is known by stands in [`canon`], what may
//! happen in [`bounds`]. Some things are not a choice, which is a bound and no proof: the transport hands on what it has
//! at once; a frame reaches the server at once, or is lost with all behind it when the connection breaks; time goes on only
//! where nothing else can; an effect is never late, and none fails; of what one act writes to the journal all is lost or
//! none.
//!
//! Everything that must always hold is checked in every state. That every state comes to rest once nothing goes wrong
//! any more is checked by letting the world settle in those states of which no successor was looked at that healing
//! leads to; of the others it is known by that successor, and at the end it is seen to that no circle is among them.

pub mod bounds;
pub mod canon;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use makima_core::time::Now;

use self::bounds::{Bounds, Left};
use crate::swarm::{self, Run};
use crate::world::{Act, World};

/// Something that must hold in every state, beside what the world checks.
pub type Watch<'a> = &'a dyn Fn(&World) -> Result<(), String>;

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// No longer than this.
    pub time: Duration,
    /// No more states than this wait to be looked at: each takes some ten kibibytes.
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

/// How a state was got to first.
#[derive(Clone, Copy)]
struct Step {
    from: u32,
    act: Act,
    /// So many frames reached the server behind it.
    delivered: u8,
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

/// A crash that is decided on: it will lose what the journal gets from here on. Until then the journal is not flushed, else
/// it would be another crash. Decided at the first record that is lost, and not when the daemon is killed: so a state need not
/// be known by all that could be lost in it, but by what will be.
#[derive(Clone, Copy, Debug)]
pub struct Doom {
    /// What the daemon's state is known by, to which the crash leads back.
    state: u64,
    /// When it was in it.
    at: Now,
    /// Records that are not there for good, and are kept all the same.
    kept: usize,
}

/// A state that waits to be looked at.
struct Node {
    at: u32,
    depth: usize,
    world: World,
    left: Left,
    doom: Option<Doom>,
    /// A break of the connection is decided on, by a cut or a crash: what is on its way to the server will not get there.
    jammed: bool,
}

impl Node {
    /// What may happen now.
    fn choices(&self) -> Vec<Act> {
        let mut acts = self.left.choices(&self.world, self.doom.map(|doom| doom.kept));
        if self.doom.is_some() {
            acts.retain(|act| *act != Act::Sync);
        }
        acts
    }

    /// What there is when this has happened, but for the world.
    fn after(&self, act: Act, waited: bool) -> Next {
        let killed = matches!(act, Act::Kill { .. });
        Next {
            depth: self.depth + 1,
            left: self.left.after(act, waited),
            doom: self.doom.filter(|_| !killed),
            jammed: self.jammed && !killed && !matches!(act, Act::Cut { .. }),
        }
    }

    /// What a crash is to lead back to that loses what an act wrote, if one may be decided on.
    fn may_be_doomed(&self, act: Act, after: &World) -> Option<Doom> {
        let (kept, at) = (self.world.loose_records(), self.world.now());
        let may = self.doom.is_none() && self.left.may_crash() && !matches!(act, Act::Kill { .. });
        (may && after.loose_records() > kept).then(|| Doom { state: canon::mark(&self.world.daemon, at), at, kept })
    }
}

/// What there is beside the world when something has happened.
struct Next {
    depth: usize,
    left: Left,
    doom: Option<Doom>,
    jammed: bool,
}

impl Next {
    const fn with(&self, world: World, doom: Option<Doom>, jammed: bool) -> Node {
        Node { at: 0, depth: self.depth, world, left: self.left, doom, jammed }
    }
}

/// A search under way.
pub struct Search<'a> {
    bounds: Bounds,
    watch: Option<Watch<'a>>,
    known: BTreeMap<u64, u32>,
    /// How each state was got to, but for the first.
    steps: Vec<Step>,
    rests: Vec<Rest>,
    waiting: VecDeque<Node>,
    found: Found,
}

impl<'a> Search<'a> {
    /// A search that has not begun.
    #[must_use]
    pub fn new(bounds: Bounds, watch: Option<Watch<'a>>) -> Self {
        let (known, waiting) = (BTreeMap::new(), VecDeque::new());
        Self { bounds, watch, known, steps: Vec::new(), rests: Vec::new(), waiting, found: Found::default() }
    }

    /// Looks at all states, or at as many as can be reached.
    ///
    /// # Errors
    /// The first that was found in which something does not hold.
    pub fn run(mut self, reach: Reach) -> Result<Found, Failure> {
        let begun = Instant::now();
        let mut world = self.start(Vec::new()).world();
        // Of what is written down before anything happens nothing is lost.
        world.apply(Act::Rotate);
        let left = Left::all(&self.bounds);
        self.meet(Node { at: 0, depth: 0, world, left, doom: None, jammed: false }, None)?;
        while let Some(node) = self.waiting.pop_front() {
            self.found.depth = node.depth;
            if begun.elapsed() > reach.time || self.waiting.len() > reach.waiting {
                self.waiting.push_front(node);
                break;
            }
            self.look(&node)?;
        }
        self.found.complete = self.waiting.is_empty();
        // What nobody will look at any more comes to rest as well, as far as there is time to see.
        while begun.elapsed() < reach.time * 5 / 4
            && let Some(node) = self.waiting.pop_front()
        {
            self.settle(&node)?;
        }
        self.found.unsettled = self.waiting.len();
        self.found.states = self.rests.len();
        self.no_circles()?;
        Ok(self.found)
    }

    const fn start(&self, acts: Vec<Act>) -> Run {
        // An odd seed: a disk without a bound.
        Run { literal: false, speech: self.bounds.speech, seed: 1, acts }
    }

    /// Goes on from a state in every way that there is.
    fn look(&mut self, node: &Node) -> Result<(), Failure> {
        let (mut heals, mut stands_still) = (None, node.world.is_flushed());
        for act in node.choices() {
            if let Some(to) = self.go(node, act, false)? {
                stands_still &= !bounds::goes_on(act);
                heals = heals.or_else(|| bounds::heals(act).then_some(to));
            }
        }
        if stands_still && node.left.may_wait(&node.world) {
            let to = self.go(node, Act::Advance, node.world.is_linked())?;
            heals = heals.or(to);
        }
        match heals.filter(|_| !node.world.is_settled()) {
            // Where a crash is decided on, the same world without that comes to rest.
            _ if node.doom.is_some() || node.jammed => self.rests[node.at as usize] = Rest::Seen,
            Some(to) => self.rests[node.at as usize] = Rest::By(to),
            None => self.settle(node)?,
        }
        Ok(())
    }

    /// Lets something happen in a state. Gives the state that it leads to, where it is possible.
    fn go(&mut self, node: &Node, act: Act, waited: bool) -> Result<Option<u32>, Failure> {
        let mut world = node.world.clone();
        let went = swarm::caught(|| {
            let went = world.apply(act);
            world.apply(Act::Flush);
            went
        });
        let step = Step { from: node.at, act, delivered: 0 };
        match went {
            Ok(false) => return Ok(None),
            Ok(true) => world.let_go_of_the_past(),
            Err(why) => return Err(self.failure(Some(step), why)),
        }
        let next = node.after(act, waited);
        if let Some(doom) = node.may_be_doomed(act, &world) {
            self.spread(&Next { doom: Some(doom), ..next }, world.clone(), step)?;
        }
        self.spread(&next, world, step).map(Some)
    }

    /// Lets what is on its way to the server get there: at once, or not at all, from one frame on.
    fn spread(&mut self, next: &Next, mut world: World, mut step: Step) -> Result<u32, Failure> {
        loop {
            let before = next.left.may_lose().then(|| world.clone());
            match swarm::caught(|| !next.jammed && world.apply(Act::Deliver)) {
                Ok(false) => break,
                Ok(true) => {}
                Err(why) => return Err(self.failure(Some(Step { delivered: u8::MAX, ..step }), why)),
            }
            if let Some(before) = before {
                self.meet(next.with(before, next.doom, true), step)?;
            }
            step.delivered += 1;
        }
        let (doom, jammed) = (next.doom, next.jammed);
        self.meet(next.with(world, doom, jammed), step)
    }

    /// A state was reached: it is looked at later, if it is a new one.
    fn meet(&mut self, mut node: Node, step: impl Into<Option<Step>>) -> Result<u32, Failure> {
        let step = step.into();
        self.found.transitions += u64::from(step.is_some());
        let new = u32::try_from(self.rests.len()).expect("more states than there is room for");
        let at =
            *self.known.entry(canon::print(&node.world, &(node.left, node.jammed), node.doom.as_ref())).or_insert(new);
        if at == new {
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

    /// Sees that the world comes to rest from here.
    fn settle(&mut self, node: &Node) -> Result<(), Failure> {
        let mut world = node.world.clone();
        self.found.settled += 1;
        self.rests[node.at as usize] = Rest::Seen;
        swarm::caught(|| world.settle()).map_err(|why| self.failure(self.step_to(node.at), why))
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
