//! The simulated world, and the engines that search it.
//!
//! The whole system in one process and one thread: the real core, a model of the server, of the link and of
//! the machine with its processes, git and disk. Everything that can happen is an [`world::Act`]; a run is a
//! list of them, and the same list gives the same run.
//!
//! Beside it, in [`real`], what the programs stand on that break the real binary.

pub mod api;
pub mod boundaries;
pub mod cells;
pub mod contracts;
pub mod exhaust;
pub mod fleet;
pub mod guided;
pub mod invariants;
pub mod mutants;
pub mod real;
pub mod refine;
pub mod regressions;
pub mod shrink;
pub mod swarm;
pub mod world;
#[cfg(feature = "zoo")]
pub mod zoo;
