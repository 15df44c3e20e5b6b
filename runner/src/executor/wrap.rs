//! What a user has put before the command line of agents: a container, another machine. What comes before and after an agent goes the
//! same way.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use makima_core::id::TaskId;

use super::Hands;
use super::record::Folder;

/// The folders of a task that such a command line can name, and a fence lets its processes work in.
pub(super) struct Places<'a> {
    pub(super) worktree: &'a Path,
    pub(super) temporary: &'a Path,
    pub(super) folder: &'a Folder,
}

/// An agent's command line, and the commands that are run before it, behind what the user has put before them.
pub(super) fn wrapped(
    hands: &Hands,
    task: TaskId,
    places: &Places<'_>,
    argv: Vec<OsString>,
    setup: &[String],
) -> Result<(Vec<OsString>, Vec<OsString>), String> {
    let commands = setup.iter().map(OsString::from).collect();
    if hands.settings.wrap.is_empty() {
        return Ok((argv, commands));
    }
    let standing = Folder::of(&hands.home, task).standing().map_err(|why| why.to_string())?;
    let plan = places.folder.plan();
    let bare = standing.map(|standing| standing.bare).unwrap_or_default();
    let known =
        [("{worktree}", places.worktree), ("{repository}", &bare), ("{tmp}", places.temporary), ("{plan}", &plan)];
    let before: Vec<OsString> = hands.settings.wrap.iter().map(|word| filled(word, &known)).collect();
    let line = |command: &String| {
        let words = before.iter().map(OsString::as_os_str).chain([OsStr::new("sh"), OsStr::new("-c")]);
        let words: Vec<OsString> = words.chain([OsStr::new(command)]).map(quoted).collect();
        words.join(OsStr::new(" "))
    };
    let commands = setup.iter().map(line).collect();
    Ok((before.iter().cloned().chain(argv).collect(), commands))
}

/// A word with the folders in it that it names.
fn filled(word: &str, known: &[(&str, &Path)]) -> OsString {
    let mut text = OsString::new();
    let mut rest = word;
    while !rest.is_empty() {
        match known.iter().find_map(|(name, path)| Some((rest.strip_prefix(name)?, path))) {
            Some((behind, path)) => {
                text.push(path);
                rest = behind;
            }
            None => {
                let next = rest.char_indices().skip(1).find(|(_, c)| *c == '{').map_or(rest.len(), |(at, _)| at);
                let (plain, behind) = rest.split_at(next);
                text.push(plain);
                rest = behind;
            }
        }
    }
    text
}

/// As one word of a shell.
fn quoted(word: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => bytes.extend(b"'\\''"),
            byte => bytes.push(*byte),
        }
    }
    bytes.push(b'\'');
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects a container from being given another folder than the task's.
    #[test]
    fn folders_are_filled_in_by_name_and_nothing_else_is() {
        let known = [("{worktree}", Path::new("/w {tmp}")), ("{tmp}", Path::new("/t"))];
        let filled = |word| filled(word, &known);
        assert_eq!(filled("{worktree}:{worktree}:rw"), "/w {tmp}:/w {tmp}:rw");
        assert_eq!(filled("--mount=src={tmp},{other}{"), "--mount=src=/t,{other}{");
        assert_eq!(filled("plain"), "plain");
        assert_eq!(filled(""), "");
    }

    #[test]
    fn a_word_stays_one_word_of_a_shell() {
        assert_eq!(quoted(OsStr::new("it's $x")), r"'it'\''s $x'");
    }
}
