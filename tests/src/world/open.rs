//! A world laid open for a search that has to know when two of them are the same.

use std::fmt::Write as _;

use makima_core::time::Now;

use super::sightings::Sightings;
use super::{Act, Far, Speech, World};

/// What can go on by itself, in the order in which a healed world lets it.
pub const GOES_ON: [Act; 6] =
    [Act::Sync, Act::Accept, Act::Flush, Act::Deliver, Act::Answer, Act::Perform { nth: 0, fails: false }];

impl World {
    /// Writes down all that what can still happen follows from, but for what a crash would leave of the journal's records.
    /// What is left out only tells what has happened: it is named here, so that whoever adds something to the world has to
    /// say which it is.
    pub fn lay_open(&self, text: &mut String) {
        let Self {
            daemon,
            machine,
            server,
            net,
            journal,
            now: _,
            incarnation,
            kinds,
            exit,
            // Only that no effect is given twice.
            given: _,
            interrupted,
            messages,
            steps: _,
            recording: _,
            segments: _,
            transcript: _,
            seen: _,
            resumed,
            answered,
            unsure,
            left,
            watch: _,
        } = self;
        net.lay_open(text);
        journal.lay_open(text);
        let rest = (daemon, server, incarnation, kinds, exit, interrupted, messages, resumed, answered, (unsure, left));
        write!(text, "{rest:?}").expect("a string takes everything");
        machine.lay_open(text);
    }

    /// Which versions of the wire there are.
    #[must_use]
    pub const fn speech(&self) -> Speech {
        self.server.speech
    }

    /// Whether an attempt to connect is under way.
    #[must_use]
    pub const fn is_connecting(&self) -> bool {
        self.net.is_asked()
    }

    /// Whether something is on its way to the server, and will get there.
    #[must_use]
    pub fn carries(&self) -> bool {
        self.net.carries()
    }

    /// What acknowledgements are on their way to the daemon, in order. None where no session of version 2 stands, in which
    /// both have said how they stand.
    #[must_use]
    pub fn acknowledging(&self) -> Option<Vec<u64>> {
        self.server.acknowledging().filter(|_| self.is_linked())
    }

    /// Lets go of what only tells what has happened, and of records that a state stands for: nothing that can still
    /// happen changes.
    pub fn let_go_of_the_past(&mut self) {
        self.seen = Sightings::default();
        self.machine.seen = Sightings::default();
        self.server.seen = Sightings::default();
        self.journal.shorten(&self.daemon);
    }

    /// How many records of the journal a crash could lose.
    #[must_use]
    pub fn loose_records(&self) -> usize {
        self.journal.loose()
    }

    /// Whether nothing waits for the journal.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.journal.is_synced()
    }
}

impl<F: Far> World<F> {
    /// The clocks as they stand.
    #[must_use]
    pub const fn now(&self) -> Now {
        self.now
    }

    /// Whether the journal cannot be written.
    #[must_use]
    pub const fn is_in_trouble(&self) -> bool {
        self.journal.is_in_trouble()
    }

    /// Whether a connection stands, or seems to, and carries what it is given.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        !self.net.open().is_empty()
    }
}
