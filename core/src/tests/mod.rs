//! The daemon as a whole, one step at a time: what it is told, and all that it does about it.

mod allowance;
mod bench;
mod ends;
mod errands;
mod going_on;
mod leading;
mod link;
mod lives;
mod numbers;
mod output;
mod pace;
mod people;
mod rest;
mod second;
mod steering;
mod talking;
mod turns;
mod ways;

pub(crate) use self::bench::cases;

/// Nothing is done.
const NOTHING: [&str; 0] = [];
