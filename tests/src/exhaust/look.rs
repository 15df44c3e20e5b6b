//! What comes next in one state: everything that can happen is tried on a copy of its world.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use makima_core::time::Now;

use super::bounds::{self, Left};
use super::canon;
use crate::swarm;
use crate::world::{Act, World};

/// How a state was got to first.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) from: u32,
    pub(super) act: Act,
    /// So many frames reached the server behind it.
    pub(super) delivered: u8,
}

/// A crash that is decided on: it will lose what the journal gets from here on. Until then the journal is not flushed, else
/// it would be another crash. Decided at the first record that is lost, and not when the daemon is killed: so a state need not
/// be known by all that could be lost in it, but by what will be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doom {
    /// What the daemon's state is known by, to which the crash leads back.
    pub(super) state: u64,
    /// When it was in it.
    pub(super) at: Now,
    /// Records that are not there for good, and are kept all the same.
    kept: usize,
}

/// A state that waits to be looked at.
pub(super) struct Node {
    pub(super) at: u32,
    pub(super) depth: usize,
    pub(super) world: Box<World>,
    left: Left,
    doom: Option<Doom>,
    /// A break of the connection is decided on, by a cut or a crash: what is on its way to the server will not get there.
    jammed: bool,
}

/// How states are told apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Eye {
    /// Of each state that is come to it is said where that leads, whether it is taken for a known one or not.
    pub(super) doubts: bool,
    /// A field that is left out of what a state is known by, to see that this is found out.
    pub(super) blind: Option<&'static str>,
}

/// A state that was come to.
pub(super) struct Reached {
    /// What it is known by.
    pub(super) print: u64,
    /// How, if it is not the first.
    pub(super) step: Option<Step>,
    /// None where it was known already.
    pub(super) node: Option<Node>,
    /// What all that it leads to is known by, where somebody doubts that those are alike that are taken for the same.
    pub(super) onward: Option<u64>,
}

/// Where healing leads from a state that was looked at.
pub(super) enum Heals {
    /// The same world, without what is decided on, is seen to somewhere else.
    Elsewhere,
    /// To that one of those that were come to.
    To(usize),
    /// To none of them: whether it comes to rest was tried.
    Here(Result<(), String>),
}

/// What came of looking at a state.
pub(super) struct Looked {
    pub(super) reached: Vec<Reached>,
    pub(super) heals: Heals,
    /// What did not hold on the way to another, and which: nothing was tried after it.
    pub(super) failed: Option<(Step, String)>,
}

impl Reached {
    pub(super) fn new(node: Node, step: Option<Step>, eye: Eye) -> Self {
        let print = canon::print(&node.world, &node.left, node.jammed, node.doom.as_ref(), eye.blind);
        let onward = eye.doubts.then(|| node.onward(eye));
        Self { print, step, node: Some(node), onward }
    }
}

impl Node {
    /// The one that everything begins with.
    pub(super) fn first(world: World, left: Left) -> Self {
        Self { at: 0, depth: 0, world: Box::new(world), left, doom: None, jammed: false }
    }

    /// Goes on from here in every way that there is.
    pub(super) fn look(&self, known: &BTreeMap<u64, u32>, eye: Eye) -> Looked {
        let mut looking = Looking { node: self, eye, reached: Vec::new() };
        let tried = looking.everything();
        let mut reached = looking.reached;
        for reached in reached.iter_mut().filter(|reached| known.contains_key(&reached.print)) {
            reached.node = None;
        }
        match tried {
            Ok(heals) => Looked { reached, heals: self.heals(heals), failed: None },
            Err(failed) => Looked { reached, heals: Heals::Elsewhere, failed: Some(failed) },
        }
    }

    /// What all that it leads to is known by.
    fn onward(&self, eye: Eye) -> u64 {
        let eye = Eye { doubts: false, ..eye };
        let mut looking = Looking { node: self, eye, reached: Vec::new() };
        // What fails is told of when the state is looked at itself.
        let whole = looking.everything().is_ok();
        let prints: BTreeSet<u64> = looking.reached.iter().map(|reached| reached.print).collect();
        let mut hasher = DefaultHasher::new();
        (whole, prints).hash(&mut hasher);
        hasher.finish()
    }

    /// Where healing leads, if it leads to this one of those that were come to or to none.
    fn heals(&self, to: Option<usize>) -> Heals {
        match to.filter(|_| !self.world.is_settled()) {
            // Where a crash is decided on, the same world without that comes to rest.
            _ if self.doom.is_some() || self.jammed => Heals::Elsewhere,
            Some(to) => Heals::To(to),
            None => Heals::Here(self.settle()),
        }
    }

    /// Lets the world come to rest from here.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn settle(&self) -> Result<(), String> {
        let mut world = self.world.clone();
        swarm::caught(|| world.settle())
    }

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
        (may && after.loose_records() > kept).then(|| Doom {
            state: canon::mark(&self.world.daemon, at, self.world.speech()),
            at,
            kept,
        })
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
    const fn with(&self, world: Box<World>, doom: Option<Doom>, jammed: bool) -> Node {
        Node { at: 0, depth: self.depth, world, left: self.left, doom, jammed }
    }
}

/// A state that is being looked at.
struct Looking<'a> {
    node: &'a Node,
    eye: Eye,
    reached: Vec<Reached>,
}

impl Looking<'_> {
    /// Tries everything. Says to which state healing leads, if to one of them.
    fn everything(&mut self) -> Result<Option<usize>, (Step, String)> {
        let node = self.node;
        let (mut heals, mut stands_still) = (None, node.world.is_flushed());
        for act in node.choices() {
            if let Some(to) = self.go(act, false)? {
                stands_still &= !bounds::goes_on(act);
                heals = heals.or_else(|| bounds::heals(act).then_some(to));
            }
        }
        if stands_still && node.left.may_wait(&node.world) {
            let to = self.go(Act::Advance, node.world.is_linked())?;
            heals = heals.or(to);
        }
        Ok(heals)
    }

    /// Lets something happen. Gives the place of the state that it leads to, where it is possible.
    fn go(&mut self, act: Act, waited: bool) -> Result<Option<usize>, (Step, String)> {
        let mut world = self.node.world.clone();
        let went = swarm::caught(|| {
            let went = world.apply(act);
            world.apply(Act::Flush);
            went
        });
        let step = Step { from: self.node.at, act, delivered: 0 };
        match went {
            Ok(false) => return Ok(None),
            Ok(true) => world.let_go_of_the_past(),
            Err(why) => return Err((step, why)),
        }
        let next = self.node.after(act, waited);
        if let Some(doom) = self.node.may_be_doomed(act, &world) {
            self.spread(&Next { doom: Some(doom), ..next }, world.clone(), step)?;
        }
        self.spread(&next, world, step).map(Some)
    }

    /// Lets what is on its way to the server get there: at once, or not at all, from one frame on.
    fn spread(&mut self, next: &Next, mut world: Box<World>, mut step: Step) -> Result<usize, (Step, String)> {
        while !next.jammed && world.carries() {
            let before = next.left.may_lose().then(|| world.clone());
            match swarm::caught(|| world.apply(Act::Deliver)) {
                Ok(went) => assert!(went, "a frame that is on its way gets there"),
                Err(why) => return Err((Step { delivered: u8::MAX, ..step }, why)),
            }
            if let Some(before) = before {
                self.come_to(next.with(before, next.doom, true), step);
            }
            step.delivered += 1;
        }
        let (doom, jammed) = (next.doom, next.jammed);
        Ok(self.come_to(next.with(world, doom, jammed), step))
    }

    fn come_to(&mut self, node: Node, step: Step) -> usize {
        self.reached.push(Reached::new(node, Some(step), self.eye));
        self.reached.len() - 1
    }
}
