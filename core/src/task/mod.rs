//! One task: from the command that asks for it to the one end that it gets.

mod spec;

pub use spec::{Action, Completion, End, EndStatus, Spec, Status};
