//! What may happen in a search: the named alphabets, and the acts that are possible in a state.

use crate::world::{Act, Speech, TaskKind, World, task_id};

/// What may happen, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What it is called.
    pub name: &'static str,
    /// Which versions of the wire there are.
    pub speech: Speech,
    /// Tasks that the server asks for.
    pub tasks: u8,
    /// Times that it interrupts one of them.
    pub interrupts: u8,
    /// Times that the daemon is killed.
    pub crashes: u8,
    /// Times that the connection breaks, and the daemon is told.
    pub cuts: u8,
    /// Times that the daemon waits for something while a connection stands.
    pub waits: u8,
}

const NOTHING: Bounds =
    Bounds { name: "", speech: Speech::Two, tasks: 1, interrupts: 0, crashes: 0, cuts: 0, waits: 0 };

/// Every search that has a name. The last two are larger: they may end before they are complete.
pub const NAMED: [Bounds; 10] = [
    Bounds { name: "quiet", ..NOTHING },
    Bounds { name: "quiet-1", speech: Speech::One, ..NOTHING },
    Bounds { name: "interrupt", interrupts: 1, ..NOTHING },
    Bounds { name: "cut", cuts: 1, ..NOTHING },
    Bounds { name: "crash", crashes: 1, ..NOTHING },
    Bounds { name: "two", tasks: 2, ..NOTHING },
    Bounds { name: "cut-crash", crashes: 1, cuts: 1, ..NOTHING },
    Bounds { name: "interrupt-crash", interrupts: 1, crashes: 1, ..NOTHING },
    Bounds { name: "one", interrupts: 1, crashes: 1, cuts: 1, ..NOTHING },
    Bounds { name: "two-crash", tasks: 2, crashes: 1, ..NOTHING },
];

/// The tasks of a search: such as have everything that a task can have on this machine, and end when they are asked.
const KIND: TaskKind = TaskKind::PLAIN;

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Left {
    asked: u8,
    tasks: u8,
    interrupts: u8,
    crashes: u8,
    cuts: u8,
    waits: u8,
}

impl Left {
    /// Everything that may happen.
    #[must_use]
    pub const fn all(bounds: &Bounds) -> Self {
        let Bounds { tasks, interrupts, crashes, cuts, waits, .. } = *bounds;
        Self { asked: 0, tasks, interrupts, crashes, cuts, waits }
    }

    /// What is left when this has happened. `waited`: it was a wait that counts.
    #[must_use]
    pub(super) fn after(mut self, act: Act, waited: bool) -> Self {
        self.asked += u8::from(matches!(act, Act::Spawn { .. }));
        self.tasks -= u8::from(matches!(act, Act::Spawn { .. }));
        self.interrupts -= u8::from(matches!(act, Act::Interrupt { .. }));
        self.crashes -= u8::from(matches!(act, Act::Kill { .. }));
        self.cuts -= u8::from(matches!(act, Act::Cut { .. }));
        self.waits -= u8::from(waited);
        self
    }

    /// Whether the daemon may still be killed.
    pub(super) const fn may_crash(&self) -> bool {
        self.crashes > 0
    }

    /// Whether the connection may still break.
    pub(super) const fn may_lose(&self) -> bool {
        self.crashes > 0 || self.cuts > 0
    }

    /// What people and agents may do, and what may go wrong.
    ///
    /// `kept`: where a crash is decided on, which loses all but so many records of the journal.
    pub(super) fn choices(&self, world: &World, kept: Option<usize>) -> Vec<Act> {
        let mut acts = Vec::new();
        let ready = world.machine.ready().count();
        acts.extend((!world.is_flushed()).then_some(Act::Sync));
        acts.extend(world.is_connecting().then_some(Act::Accept));
        acts.push(Act::Answer);
        for (nth, id) in world.machine.ready().enumerate() {
            acts.push(Act::Perform { nth: nth as u8, fails: false });
            if world.machine.may_be_too_late(id) {
                acts.push(Act::Perform { nth: nth as u8, fails: true });
            }
        }
        let running = (0..self.asked).filter(|task| world.machine.ending().contains(&task_id(*task)));
        acts.extend(running.map(|task| Act::Exit { task, code: 0 }));
        if self.tasks > 0 {
            // Which of two that are alike comes first makes no difference.
            acts.push(Act::Spawn { task: self.asked, kind: KIND });
        }
        if self.interrupts > 0 {
            let each = (0..self.asked).flat_map(|task| [true, false].map(|graceful| (task, graceful)));
            acts.extend(each.map(|(task, graceful)| Act::Interrupt { task, graceful }));
        }
        if self.cuts > 0 {
            acts.push(Act::Cut { told: true });
        }
        if self.crashes > 0 {
            let loose = world.loose_records();
            acts.extend(crashes(ready, kept.unwrap_or(loose), loose));
        }
        acts
    }

    /// Whether time may go on where nothing else does. While no connection stands it has to.
    pub(super) fn may_wait(&self, world: &World) -> bool {
        self.waits > 0 || !world.is_linked()
    }
}

/// Whether it is something that goes on by itself.
pub(super) const fn goes_on(act: Act) -> bool {
    matches!(act, Act::Sync | Act::Accept | Act::Answer | Act::Perform { .. })
}

/// Whether it happens in a healed world: whatever goes on, and in the end the agents go.
pub(super) const fn heals(act: Act) -> bool {
    goes_on(act) || matches!(act, Act::Exit { .. })
}

/// The daemon is killed, and any of what is under way was done. Of so many records of the journal that are not there for
/// good, so many are kept.
fn crashes(ready: usize, kept: usize, loose: usize) -> impl Iterator<Item = Act> {
    assert!(
        ready <= 8 && loose <= usize::from(u8::MAX),
        "{ready} effects and {loose} records are too many for one act"
    );
    let journal = (kept * usize::from(u8::MAX)).div_ceil(loose.max(1)) as u8;
    (0..1_u16 << ready).map(move |done| Act::Kill { done: done as u8, journal, other: false })
}
