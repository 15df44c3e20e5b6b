//! Where agents keep what is their own: settings, login, conversations. Inside a fence they may write there.

use alloc::string::String;
use alloc::vec::Vec;

/// A folder or a file of an agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Own {
    /// The variable that names the folder, where it is set.
    pub variable: &'static str,
    /// The folder where it is not, from the user's home folder.
    pub usual: &'static str,
    /// The file or folder in there; empty for the folder itself.
    pub name: &'static str,
    /// Whether it is a file: one that is not there is not made.
    pub is_file: bool,
}

impl Own {
    const fn folder(variable: &'static str, usual: &'static str) -> Self {
        Self { variable, usual, name: "", is_file: false }
    }
}

/// What Claude Code writes to.
pub(super) fn claude() -> Vec<Own> {
    let file = Own { variable: "CLAUDE_CONFIG_DIR", usual: "", name: ".claude.json", is_file: true };
    Vec::from([Own::folder("CLAUDE_CONFIG_DIR", ".claude"), file])
}

/// What an agent of the Agent Client Protocol writes to, by the words that start it. One that is not known is named by the
/// user, where it is to write to folders of its own.
pub(super) fn by_command(program: &[String]) -> Vec<Own> {
    // The name in a word of the command line, the variable that names its one folder, and that folder. A folder
    // without a dot is one below each of the user's folders for settings, data and state.
    const KNOWN: [(&str, &str, &str); 13] = [
        ("auggie", "", ".augment"),
        ("codex", "CODEX_HOME", ".codex"),
        ("copilot", "", ".copilot"),
        ("cursor", "", ".cursor"),
        ("gemini", "", ".gemini"),
        ("goose", "", "goose"),
        ("iflow", "", ".iflow"),
        ("kimi", "", ".kimi"),
        ("kiro", "", ".kiro"),
        ("opencode", "", "opencode"),
        ("qoder", "", ".qoder"),
        ("qwen", "", ".qwen"),
        ("vibe", "VIBE_HOME", ".vibe"),
    ];
    let is_named = |name: &str| {
        let last = |word: &String| word.rsplit('/').next().is_some_and(|last| last.contains(name));
        program.iter().any(last)
    };
    let mut own = if is_named("claude") { claude() } else { Vec::new() };
    for (_, variable, folder) in KNOWN.into_iter().filter(|(name, ..)| is_named(name)) {
        if folder.starts_with('.') {
            own.push(Own::folder(variable, folder));
        } else {
            let below = |(variable, usual)| Own { variable, usual, name: folder, is_file: false };
            own.extend(USERS.map(below));
        }
    }
    own
}

/// Where programs keep things of a user by the rules of desktops, and the variables that say otherwise.
const USERS: [(&str, &str); 3] =
    [("XDG_CONFIG_HOME", ".config"), ("XDG_DATA_HOME", ".local/share"), ("XDG_STATE_HOME", ".local/state")];

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn of(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        by_command(&words).into_iter().map(|own| if own.name.is_empty() { own.usual } else { own.name }).collect()
    }

    /// Protects an agent from losing its login because its folder is not known.
    #[test]
    fn an_agent_is_known_by_its_command_line() {
        assert_eq!(of(&["/opt/bin/claude-agent-acp"]), [".claude", ".claude.json"]);
        assert_eq!(of(&["npx", "-y", "@zed-industries/codex-acp"]), [".codex"]);
        assert_eq!(of(&["opencode", "acp"]), ["opencode"; 3]);
        assert_eq!(of(&["/home/gemini/bin/agent"]), [""; 0], "a folder on the way is no agent");
    }
}
