//! The way from one machine to the server that all of them share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use makima_core::effect::{Effect, Work};
use makima_core::id::{Epoch, TaskId};
use makima_core::protocol::Wire;

use crate::world::{Far, Frame, Machine, Reply, Speech, World};

/// A connection, by its number on this line: a daemon's next life counts its own anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way(u64);

/// Something that happened on the way, and that the server comes to know.
#[derive(Clone, Debug)]
pub(super) enum News {
    Up(Way, Wire),
    Gone(Way),
    Heard(Way, Frame),
}

/// The server, as one daemon sees it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Which versions of the wire there are.
    pub(super) speech: Speech,
    /// The server is not told of connections that break: it finds out when the next one comes.
    silent: bool,
    /// Connections so far.
    count: u64,
    /// Those that stand, as far as this side knows.
    open: BTreeMap<Epoch, Way>,
    pub(super) news: VecDeque<News>,
    /// Frames on their way to the daemon.
    replies: BTreeMap<Way, VecDeque<Reply>>,
    /// Tasks whose end the server has written down.
    pub(super) ended: BTreeSet<TaskId>,
}

impl Line {
    pub(super) fn new(speech: Speech, silent: bool) -> Self {
        Self {
            speech,
            silent,
            count: 0,
            open: BTreeMap::new(),
            news: VecDeque::new(),
            replies: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    /// The server says something over a connection, if that still stands.
    pub(super) fn say(&mut self, way: Way, reply: Reply) {
        if let Some(replies) = self.replies.get_mut(&way) {
            replies.push_back(reply);
        }
    }

    /// What the daemon calls a connection, if that still stands.
    pub(super) fn epoch(&self, way: Way) -> Option<Epoch> {
        self.open.iter().find(|(_, open)| **open == way).map(|(epoch, _)| *epoch)
    }

    /// Nothing is on its way between the two.
    pub(super) fn is_quiet(&self) -> bool {
        self.news.is_empty() && self.replies.values().all(VecDeque::is_empty)
    }

    /// The server knows no connection any more.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.news.clear();
        self.replies.clear();
    }

    fn close(&mut self, way: Way) {
        self.replies.remove(&way);
        if !self.silent {
            self.news.push_back(News::Gone(way));
        }
    }
}

impl Far for Line {
    fn speech(&self) -> Speech {
        self.speech
    }

    fn connected(&mut self, epoch: Epoch, wire: Wire) {
        self.count += 1;
        let way = Way(self.count);
        self.open.insert(epoch, way);
        self.replies.insert(way, VecDeque::new());
        self.news.push_back(News::Up(way, wire));
    }

    fn disconnected(&mut self, epoch: Epoch) {
        if let Some(way) = self.open.remove(&epoch) {
            self.close(way);
        }
    }

    fn hear(&mut self, epoch: Epoch, frame: &Frame, _: &Machine) {
        if let Some(way) = self.open.get(&epoch) {
            self.news.push_back(News::Heard(*way, frame.clone()));
        }
    }

    fn next(&mut self, epoch: Epoch) -> Option<Reply> {
        self.replies.get_mut(self.open.get(&epoch)?)?.pop_front()
    }

    fn doubt(&mut self) {}

    fn daemon_killed(&mut self) {
        for way in std::mem::take(&mut self.open).into_values() {
            self.close(way);
        }
    }

    fn check_effect(world: &mut World<Self>, effect: &Effect) {
        if let Effect::Work { task, work: Work::Discard | Work::Spare | Work::Purge | Work::Forget, .. } = effect {
            assert!(world.server.ended.contains(task), "{task} goes, and the server does not know its end");
        }
    }
}
