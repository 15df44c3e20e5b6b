//! Rules about names that come from outside: what they may be, and what becomes of them.
//!
//! Nothing that a server, a repository or an agent says becomes an option, a shell word or a transport
//! helper. The part that needs a file system (links, what lies where) is the executor's.

mod place;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use place::{Grounds, Place};

use crate::id::TaskId;
use crate::limits;

/// Why a name was refused. For people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RepositoryUrl {
    /// A path on this machine. May begin with `~/`.
    Local(String),
    /// Somewhere else: `https:`, `ssh:` or `user@host:path`. Without credentials.
    Remote(String),
}

impl RepositoryUrl {
    /// Reads what a server or a person wrote.
    ///
    /// # Errors
    /// Another transport than https, ssh, scp-like and local ones; what git could take for an option.
    pub fn read(text: &str) -> Result<Self, Refused> {
        let shown = || {
            let bare = split_credentials(text).map(|(bare, _)| bare);
            shorten(bare.as_deref().unwrap_or(text), limits::NAME_SHOWN)
        };
        if text.chars().any(char::is_control) {
            return Err(Refused("the repository's URL has a control character in it".to_string()));
        }
        if text.starts_with('-') {
            return Err(Refused(format!("`{}` cannot be a repository: it begins with a dash", shown())));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Self::Local(path.to_string()))
            } else {
                Err(Refused(format!("`{}` names a host; a file URL has three slashes", shown())))
            };
        }
        if names_a_helper(text) {
            return Err(Refused(format!(
                "`{}` asks for a transport helper; https, ssh and local paths are allowed",
                shown()
            )));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let is_ssh = scheme.eq_ignore_ascii_case("ssh");
            let authority = authority(rest);
            let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
            if !is_ssh && !scheme.eq_ignore_ascii_case("https")
                || [host, authority].iter().any(|name| name.starts_with('-'))
                || host.is_empty()
            {
                return Err(Refused(format!(
                    "`{}` cannot be a repository: https, ssh and local paths are allowed",
                    shown()
                )));
            }
            if is_ssh && user.contains(':') {
                return Err(Refused(format!(
                    "`{}` bears a password, and ssh takes none from a URL: use a key, or https",
                    shown()
                )));
            }
            return Ok(Self::Remote(text.to_string()));
        }
        // git's own rule: a colon before the first slash makes it `host:path`.
        let head = text.split('/').next().unwrap_or_default();
        if let Some((host, path)) = head.split_once(':') {
            let bare = host.rsplit_once('@').map_or(host, |(_, host)| host);
            if bare.starts_with('[') {
                return Err(Refused(format!("`{}` is not understood: write `ssh://user@[address]/path`", shown())));
            }
            return if bare.is_empty() || bare.starts_with('-') || path.starts_with(':') {
                Err(Refused(format!("`{}` names no host", shown())))
            } else {
                Ok(Self::Remote(text.to_string()))
            };
        }
        Ok(Self::Local(text.to_string()))
    }

    /// As git takes it, and as it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Local(text) | Self::Remote(text) => text,
        }
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether git would look for a program of this name: `NAME::rest`. Other colons are those of an address or a path.
fn names_a_helper(text: &str) -> bool {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.trim_start_matches(is_of_a_name).starts_with("::")
}

/// The part of a URL that names user and host, of what stands behind `://`.
fn authority(rest: &str) -> &str {
    rest.split('/').next().unwrap_or_default()
}

/// A URL without its credentials, and those; none where it bears none. For the web that is all before the `@`. Anywhere
/// else, as for ssh, what stands before a colon there is a name and stays, and so does the colon: no password is taken from
/// such a URL, which is refused by that colon. It must not be shown or kept with a password in it then.
#[must_use]
pub fn split_credentials(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let authority = authority(rest);
    let (credentials, host) = authority.rsplit_once('@')?;
    let path = rest.get(authority.len()..).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") {
        return Some((format!("{scheme}://{host}{path}"), credentials.to_string()));
    }
    let (user, _) = credentials.split_once(':').filter(|(_, password)| !password.is_empty())?;
    Some((format!("{scheme}://{user}:@{host}{path}"), credentials.to_string()))
}

/// Reads a branch, a tag or a full commit id.
///
/// # Errors
/// What git would refuse as a name, and what it could take for an option or for more than a name.
pub fn revision(text: &str) -> Result<String, Refused> {
    const FORBIDDEN: &[char] = &[' ', '~', '^', ':', '?', '*', '[', '\\'];
    let bad = text.is_empty()
        || text.starts_with(['-', '/', '.'])
        || text.ends_with(['/', '.'])
        || text == "@"
        || text.chars().any(|c| c.is_control() || FORBIDDEN.contains(&c))
        || ["..", "//", "@{", "/.", ".lock/"].iter().any(|part| text.contains(part))
        || text.ends_with(".lock");
    if bad {
        return Err(Refused(format!(
            "`{}` cannot be the name of a branch, a tag or a commit",
            shorten(text, limits::NAME_SHOWN)
        )));
    }
    Ok(text.to_string())
}

/// A path inside of a worktree: relative, without `.` and `..`, and not into a `.git`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InnerPath(String);

impl InnerPath {
    /// Reads what a server wrote. A slash at its end, and `./` before it, mean nothing.
    ///
    /// # Errors
    /// What leads out of the worktree, or into its repository.
    pub fn read(text: &str) -> Result<Self, Refused> {
        let shown = || shorten(text, limits::NAME_SHOWN);
        if text.starts_with('/') || text.contains('\0') {
            return Err(Refused(format!("`{}` is no path inside of a worktree", shown())));
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.is_empty() || parts.contains(&"..") {
            return Err(Refused(format!("`{}` is no path inside of a worktree", shown())));
        }
        if parts.iter().any(|part| is_git_folder(part)) {
            return Err(Refused(format!("`{}` leads into a repository's own folder", shown())));
        }
        Ok(Self(parts.join("/")))
    }

    /// Its parts, joined by slashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether some file system or other takes this name for `.git`.
#[must_use]
pub fn is_git_folder(name: &str) -> bool {
    // What some file systems pass over when they compare names.
    let bare: String = name
        .chars()
        .filter(
            |c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'),
        )
        .collect();
    let bare = bare.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    let bare = bare.split(':').next().unwrap_or_default();
    bare == ".git" || bare == "git~1"
}

/// The branch of a task's work: `makima/<slug of the name>-<task id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BranchName(String);

impl BranchName {
    /// The branch of the task `id` that people call `name`.
    #[must_use]
    pub fn of(name: &str, id: TaskId) -> Self {
        let mut slug = String::new();
        for c in name.chars() {
            if slug.len() >= limits::SLUG {
                break;
            }
            match c.to_ascii_lowercase() {
                c @ ('a'..='z' | '0'..='9') => slug.push(c),
                _ if slug.is_empty() || slug.ends_with('-') => {}
                _ => slug.push('-'),
            }
        }
        let slug = slug.trim_end_matches('-');
        let slug = if slug.is_empty() { "task" } else { slug };
        Self(format!("{PREFIX}{slug}-{id}"))
    }

    /// The name, without `refs/heads/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The task that a branch bears in its name, if it bears one.
    #[must_use]
    pub fn task_of(branch: &str) -> Option<TaskId> {
        let rest = branch.strip_prefix(PREFIX)?;
        let id = rest.get(rest.len().checked_sub(36)?..)?;
        Uuid::try_parse(id).ok().map(TaskId)
    }
}

/// How every task's branch begins.
pub const PREFIX: &str = "makima/";

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a commit of ours says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitText {
    /// One line of at most 72 characters.
    pub subject: String,
    /// Name and value of each trailer.
    pub trailers: Vec<(&'static str, String)>,
}

impl CommitText {
    /// The text for the work of the task `id` that people call `name`.
    #[must_use]
    pub fn of(name: &str, id: TaskId, parent: Option<TaskId>) -> Self {
        let mut trailers = Vec::from([("Makima-Task", id.to_string())]);
        trailers.extend(parent.map(|parent| ("Makima-Parent", parent.to_string())));
        Self { subject: shorten(name, limits::SUBJECT), trailers }
    }

    /// The whole message. `note` is put behind the subject in brackets, within the same length.
    #[must_use]
    pub fn message(&self, note: Option<&str>) -> String {
        let mut text = match note {
            Some(note) => {
                let note = shorten(note, limits::SUBJECT / 2);
                let room = limits::SUBJECT.saturating_sub(note.chars().count().saturating_add(3));
                format!("{} ({note})", shorten(&self.subject, room))
            }
            None => self.subject.clone(),
        };
        text.push_str("\n\n");
        for (name, value) in &self.trailers {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text
    }
}

/// What a commit says that merges a branch, into another one where that is told: one line as of any commit, and below
/// it all of that line where it had to be cut.
#[must_use]
pub fn merge_message(branch: &str, into: Option<&str>) -> String {
    let into = into.map(|into| format!(" into {into}")).unwrap_or_default();
    let whole = one_line(&format!("Merge branch '{branch}'{into}"));
    let subject = shorten(&whole, limits::SUBJECT);
    if subject == whole { subject } else { format!("{subject}\n\n{whole}") }
}

/// What people call a task: the name that it was given, else the first words of its plan.
#[must_use]
pub fn task_name(given: &str, plan: &str) -> String {
    let given = one_line(given);
    if !given.is_empty() {
        return shorten(&given, limits::NAME);
    }
    let words: Vec<&str> =
        plan.split_whitespace().filter(|word| !word.starts_with("#!")).take(limits::NAME_WORDS).collect();
    let name = shorten(&one_line(&words.join(" ")), limits::SUBJECT);
    if name.is_empty() { "task".to_string() } else { name }
}

/// Control characters and runs of white space become one space each.
fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `max` characters in one line; what was cut shows as an ellipsis.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    let text = one_line(text);
    if text.chars().count() <= max {
        return text;
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// The variables by which the network is reached: proxies, certificates, the SSH agent.
pub const NETWORK_VARIABLES: &[&str] = &[
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// Whether an agent gets this variable of the daemon's environment.
#[must_use]
pub fn passes(variable: &str) -> bool {
    const NAMES: &[&str] =
        &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
    const PREFIXES: &[&str] = &["LC_", "XDG_"];
    NAMES.iter().chain(NETWORK_VARIABLES).any(|name| *name == variable)
        || PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}

/// Whether the value of a variable with this name is a secret wherever it shows up.
#[must_use]
pub fn is_secret(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|end| upper.ends_with(end))
}

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// At most `max` characters of a text of several lines; what was cut shows as an ellipsis.
#[must_use]
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_string(),
    }
}

/// How many there are of what, for people: "1 file", "2 files".
#[must_use]
pub fn counted(n: impl Into<u64>, what: &str) -> String {
    match n.into() {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}
