//! What must hold of the executor's readers: see `crate::fuzz`.

mod git;
mod log;
mod records;

pub(crate) use git::{git, processes, refs};
pub(crate) use log::log;
pub(crate) use records::records;
