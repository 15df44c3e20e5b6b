//! Under construction.
pub mod executor;
pub mod home;
pub mod launcher;
