//! Printing: results to stdout, everything else to stderr. A reader who leaves is no error.

use std::io::{self, Write as _};

use console::style;

use crate::report::Failure;

/// The exit code of a program whose reader has left, as a shell shows it.
pub(super) const NO_READER: u8 = 141;

/// Prints a text to stdout as it is. Says whether anybody reads it.
#[must_use]
pub(super) fn is_read(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// Prints a text to stdout as it is. Where nobody reads it any more, the program ends: only for what has
/// nothing to bring to its end.
pub(super) fn out(text: &str) {
    if !is_read(text) {
        // As any filter does when its reader leaves.
        std::process::exit(NO_READER.into());
    }
}

/// Prints a line to stdout.
pub(super) fn line(text: &str) {
    out(&format!("{text}\n"));
}

/// Prints a line to stderr. Where that is closed there is nobody to tell.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

pub(super) fn error(failure: &Failure) {
    note(&format!("{} {failure}", style("error:").red().bold().for_stderr()));
}

/// One JSON value on a line of its own.
pub(super) fn json(value: &impl serde::Serialize) {
    // Made of strings, numbers and lists: it can always be written.
    line(&serde_json::to_string(value).unwrap_or_default());
}

/// Text from elsewhere, safe to show on a terminal: control characters but tabs are replaced.
pub(super) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A word for a shell: as it is where that is safe, else in quotes.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::word;

    /// Protects people who copy a command that makima has shown them.
    #[test]
    fn a_shell_takes_a_word_for_one_word() {
        assert_eq!(word("/srv/app-1.0"), "/srv/app-1.0");
        assert_eq!(word("/my place"), "'/my place'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("$(id)"), "'$(id)'");
        assert_eq!(word("~/x"), "'~/x'");
        assert_eq!(word(""), "''");
    }
}
