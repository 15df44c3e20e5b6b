//! The executor with real git and real processes.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the one answer that it expects")]

mod attach;
mod bound;
mod commits;
mod contracts;
mod copies;
mod failing;
mod follows;
mod forge;
mod froms;
mod holds;
mod hostile;
mod hostilities;
mod intos;
mod kinds;
mod lives;
mod matrix;
mod merges;
mod merges_hostile;
mod output;
mod prepares;
mod processes;
mod prs;
mod puts;
mod reaches;
mod records;
mod setups;
mod starts;
mod strange;
mod strangers;
mod support;
mod targets;
mod trashes;
