//! What goes wrong on the command line, told so that a person can act on it: what, where, what to do.

use std::fmt;

/// Why a command did not do what it was to do, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What went wrong. Empty where it has been said already.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// It was started and failed.
pub const FAILED: u8 = 1;

/// The command, the configuration or the repository cannot be used as given: nothing was started.
pub const UNUSABLE: u8 = 2;

/// `--once`: the server refused the key.
pub const KEY_REFUSED: u8 = 3;

/// No daemon runs on this home.
pub const NOT_RUNNING: u8 = 3;

/// The server was not reached.
pub const NOT_REACHED: u8 = 4;

/// Interrupted by a person; the work is committed.
pub const INTERRUPTED: u8 = 130;

impl Failure {
    /// It was started and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into(), hint: None }
    }

    /// Nothing was started.
    pub fn unusable(message: impl Into<String>) -> Self {
        Self { code: UNUSABLE, message: message.into(), hint: None }
    }

    /// Everything has been said; only the exit code is left.
    #[must_use]
    pub const fn silent(code: u8) -> Self {
        Self { code, message: String::new(), hint: None }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
