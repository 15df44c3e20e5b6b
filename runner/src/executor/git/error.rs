//! Why git did not do what it was to do, in words for people.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::ANSWER_MAX;

/// Why a git command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(in crate::executor) enum GitError {
    #[error("git cannot be run as `{}`: {reason}", program.display())]
    NotRun { program: PathBuf, reason: io::Error },
    #[error("{}", in_words(verb, said, *code))]
    Refused { verb: String, code: Option<i32>, said: String },
    #[error("git {verb} was not done after {} s and was ended", limit.as_secs())]
    TooLong { verb: String, limit: Duration },
    #[error("git {verb} answered more than {ANSWER_MAX} bytes")]
    TooMuch { verb: String },
    #[error("it was cancelled")]
    Cancelled,
}

impl GitError {
    /// What git said, to be looked into for what it cannot say by its exit status.
    pub(in crate::executor) fn said(&self) -> &str {
        match self {
            Self::Refused { said, .. } => said,
            Self::NotRun { .. } | Self::TooLong { .. } | Self::TooMuch { .. } | Self::Cancelled => "",
        }
    }
}

/// What git said, without its decoration: the fatal lines if there are any, else all but hints.
fn in_words(verb: &str, said: &str, code: Option<i32>) -> String {
    let worth = |line: &&str| !line.is_empty() && !line.starts_with("hint:") && !line.starts_with("Cloning into");
    let lines: Vec<&str> = said.lines().map(str::trim).filter(worth).collect();
    // What ssh says is the reason, of which git has only seen that there was one.
    let marks = ["fatal:", "error:", "remote:", "ERROR:", "ssh:", "Host key verification failed"];
    let grave = |line: &&&str| marks.iter().any(|mark| line.starts_with(mark)) || line.contains("Permission denied (");
    let mut chosen: Vec<&str> = lines.iter().filter(grave).copied().collect();
    if chosen.is_empty() {
        chosen = lines;
    }
    let text: Vec<&str> = chosen
        .into_iter()
        .map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: ").trim_end_matches('.'))
        .collect();
    // What `inspecting` asked for.
    let (found, dangerous): (Vec<&str>, _) =
        text.into_iter().partition(|line| !line.starts_with("fsck error") && !line.starts_with("index-pack failed"));
    let (text, is_dangerous) = (found, !dangerous.is_empty());
    match (text.is_empty(), code) {
        (false, _) => {
            let taken = if is_dangerous { "what git holds to be dangerous is not taken over: " } else { "" };
            format!("git {verb}: {taken}{}", makima_core::policy::shorten(&text.join("; "), 600))
        }
        (true, Some(code)) => format!("git {verb} ended with status {code} and no word"),
        (true, None) => format!("git {verb} was killed"),
    }
}
