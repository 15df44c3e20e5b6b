//! The real binary with real git, real processes and real sockets: what a person who runs it relies on.
//!
//! `MAKIMA_BIN` names another binary than the one beside this test, `MAKIMA_E2E_MEGABYTES` how much a talkative
//! plan prints, `MAKIMA_KILLS` how often a daemon is killed, and `MAKIMA_E2E_SEED` at which moments.

mod asking;
mod bad_homes;
mod bad_plans;
mod bad_repos;
mod bad_servers;
mod batches;
mod bounds;
mod commands;
mod configuration;
mod daemon;
mod doctor;
mod faults;
mod foreign;
mod handing;
mod helps;
mod homes;
mod journal;
mod kill_loop;
mod kills;
mod leading;
mod limits;
mod logs;
mod manager;
mod news;
mod numbers;
mod portable;
mod protocol;
mod recorder;
mod repositories;
mod rest;
mod run;
mod sandbox;
mod schema;
mod secrets;
mod secrets_nowhere;
mod service;
mod standing;
mod steering;
mod stops;
mod strangers;
mod support;
mod table;
mod terminal;
mod together;
mod upgrades;
mod ways;
mod worktrees;
