//! The control server from outside: its pure hub, and a whole one on a port of its own.

mod commands;
mod common;
mod cuts;
mod follow;
mod guard;
mod hub;
mod hub_mesh;
mod hub_numbers;
mod hub_properties;
mod hub_questions;
mod mesh;
mod numbers_model;
mod polling;
mod rate;
mod rest;
mod restart;
mod secrets;
mod socket;
mod store_failure;
mod wire2;
