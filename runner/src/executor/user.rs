//! What git knows of the user: asked at the start, and again of a repository on this machine that work came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use makima_core::id::TaskId;
use makima_core::policy::RepositoryUrl;

use super::cancel::Cancel;
use super::git::{Answer, Call, Git, GitError};
use super::record::Folder;
use super::settings::Settings;
use super::source::Source;
use super::{Hands, Unfit, blocking};

/// The oldest git that knows all that is asked of it.
const OLDEST: (u32, u32) = (2, 41);

/// How often git is asked at the start.
const ASKED: u8 = 3;

/// Who commits, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    /// `GIT_AUTHOR_*` and `GIT_COMMITTER_*`.
    pub(super) identity: Vec<(String, String)>,
    /// Whether commits are signed.
    pub(super) signs: bool,
    /// How they are signed: settings of git's.
    pub(super) how: Vec<(String, String)>,
    /// What the configuration says, by its keys.
    said: BTreeMap<String, String>,
    /// What the environment says.
    given: BTreeMap<String, String>,
    /// The user has a way of their own to reach servers.
    own: Own,
}

/// What the user has set that we set otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// How ssh is run.
    pub(super) ssh: bool,
    /// When a server is too slow.
    pub(super) pace: bool,
    /// The machine's configuration says which repositories may be opened.
    pub(super) system: bool,
}

/// Opens the door to git and asks it about the user. Blocks; for the start only.
pub(super) fn meet(settings: &Settings) -> Result<(Git, User), Unfit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Unfit::Runtime)?;
    runtime.block_on(async {
        // The machine's configuration is let in to see whether it is needed.
        let git = Git::asking(settings);
        check_version(&git).await?;
        let user = User::read(&git, settings).await?;
        Ok((Git::new(settings, user.own), user))
    })
}

/// The git of this machine and its user, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquaintance {
    /// What git says of its version.
    pub version: String,
    /// As whom work is committed: `Name <address>`.
    pub author: String,
    /// Whether somebody has said so: else it is this program's own name.
    pub is_known: bool,
}

/// Asks git for its version and for the user's identity.
///
/// # Errors
/// There is none that is new enough.
pub async fn acquaint(settings: &Settings) -> Result<Acquaintance, Unfit> {
    let git = Git::asking(settings);
    let version = check_version(&git).await?;
    let user = User::read(&git, settings).await?;
    let value = |name: &str| user.identity.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value);
    let author = format!("{} <{}>", value("GIT_AUTHOR_NAME"), value("GIT_AUTHOR_EMAIL"));
    Ok(Acquaintance { version, author, is_known: user.is_known() })
}

async fn check_version(git: &Git) -> Result<String, Unfit> {
    let answer = asked(git, || Call::at(Path::new("/"), "version")).await;
    let answer = answer.map_err(|why| Unfit::NoGit(why.to_string()))?;
    let said = answer.line().unwrap_or_default();
    match version(&said) {
        Some(version) if version >= OLDEST => Ok(said),
        Some(_) | None => Err(Unfit::OldGit { said, oldest: format!("{}.{}", OLDEST.0, OLDEST.1) }),
    }
}

/// Asks once more where git was killed, as on a machine without memory: what it says holds for all of the daemon's life.
async fn asked(git: &Git, call: impl Fn() -> Call) -> Result<Answer, GitError> {
    for _ in 1..ASKED {
        match git.run(&Cancel::default(), call()).await {
            Err(GitError::Refused { code: None, .. }) => {}
            answer => return answer,
        }
    }
    git.run(&Cancel::default(), call()).await
}

fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The user as a repository on this machine knows them, asked before it is known that the task is of that.
#[derive(Debug)]
pub(super) struct Ahead {
    local: PathBuf,
    user: User,
}

impl Ahead {
    /// Asks the repository that this names, if it is one on this machine and can be asked.
    pub(super) async fn ask(hands: &Hands, named: Option<&RepositoryUrl>, cancel: &Cancel) -> Option<Self> {
        let (url, home) = (named?.clone(), hands.settings.variable("HOME").map(str::to_owned));
        let local = blocking(move || Source::find(&url, home.as_deref(), None).ok()?.local).await.ok()??;
        let user = said_by(hands, cancel, Call::at(&local, "config")).await.ok()?;
        Some(Self { local, user })
    }
}

/// The user as the task's repository knows them, where that is one on this machine.
pub(super) async fn of_task<'a>(hands: &'a Hands, task: TaskId, cancel: &Cancel) -> Cow<'a, User> {
    asked_ahead(hands, task, None, cancel).await
}

/// The same, where it was perhaps asked before.
pub(super) async fn asked_ahead<'a>(
    hands: &'a Hands,
    task: TaskId,
    ahead: Option<Ahead>,
    cancel: &Cancel,
) -> Cow<'a, User> {
    let folder = Folder::of(&hands.home, task);
    let local = blocking(move || folder.standing().ok().flatten()?.prepared.local.map(PathBuf::from)).await;
    match (local, ahead) {
        (Ok(Some(local)), Some(ahead)) if local == ahead.local => Cow::Owned(ahead.user),
        (Ok(Some(local)), _) => of(hands, cancel, Call::at(&local, "config")).await,
        (Ok(None) | Err(_), _) => Cow::Borrowed(&hands.user),
    }
}

/// The user as a repository on this machine knows them. `config` is a call in it. What it says is taken as it is
/// written: of programs it names none that is run.
pub(super) async fn of<'a>(hands: &'a Hands, cancel: &Cancel, config: Call) -> Cow<'a, User> {
    match said_by(hands, cancel, config).await {
        Ok(user) => Cow::Owned(user),
        Err(why) => {
            // It may be gone by now, or have gone bad.
            tracing::debug!("who commits is not asked of the repository that the work came from: {why}");
            Cow::Borrowed(&hands.user)
        }
    }
}

async fn said_by(hands: &Hands, cancel: &Cancel, config: Call) -> Result<User, GitError> {
    let answer = hands.git.run(cancel, config.args(LIST)).await?;
    Ok(hands.user.as_said_by(&answer.out))
}

/// How a configuration is asked for what it says.
pub(super) const LIST: [&str; 3] = ["--list", "-z", "--show-scope"];

/// What of a configuration says who commits, and how.
const KEYS: &[&str] = &[
    "user.name",
    "user.email",
    "author.name",
    "author.email",
    "committer.name",
    "committer.email",
    SIGNS,
    "user.signingkey",
    "gpg.format",
];

/// What names a program that signs: only the user's own configuration and the machine's say which.
const PROGRAMS: &[&str] =
    &["gpg.program", "gpg.openpgp.program", "gpg.x509.program", "gpg.ssh.program", "gpg.ssh.defaultkeycommand"];

/// Whether commits are signed.
const SIGNS: &str = "commit.gpgsign";

/// Where a repository's own settings are.
const IN_REPOSITORIES: &[&str] = &["local", "worktree"];

/// What is said to git when it signs.
const SIGNING: &[&str] = &["user.signingkey", "gpg.format"];

impl User {
    async fn read(git: &Git, settings: &Settings) -> Result<Self, Unfit> {
        let said = match asked(git, || Call::at(Path::new("/"), "config").args(LIST)).await {
            Ok(answer) => answer.out,
            Err(why @ GitError::Refused { code: None, .. }) => return Err(Unfit::NoGit(why.to_string())),
            // A user without any configuration is one, too.
            Err(_) => Vec::new(),
        };
        let given = ["AUTHOR", "COMMITTER"].iter().flat_map(|role| [variable(role, "NAME"), variable(role, "EMAIL")]);
        let given = given.filter_map(|name| Some((settings.variable(&name)?.to_owned(), name)));
        let given = given.filter(|(value, _)| !value.is_empty()).map(|(value, name)| (name, value)).collect();
        let mut user = Self { given, ..Self::default() };
        for entry in entries(&said) {
            match (entry.scope, entry.key) {
                ("global", "core.sshcommand") => user.own.ssh = true,
                ("global", "http.lowspeedlimit" | "http.lowspeedtime") => user.own.pace = true,
                ("system", "safe.directory") => user.own.system = true,
                _ => {}
            }
        }
        Ok(user.as_said_by(&said))
    }

    /// The same user, where git says this, too. Of a repository that names a program to sign by, which is not run, nothing
    /// else about signing counts either: what it means is signed by that program.
    pub(super) fn as_said_by(&self, listed: &[u8]) -> Self {
        let mut user = self.clone();
        let is_its_own = |entry: Entry<'_>| IN_REPOSITORIES.contains(&entry.scope) && PROGRAMS.contains(&entry.key);
        let has_a_program = entries(listed).any(is_its_own);
        let is_left_alone = |key: &str| has_a_program && (key == SIGNS || SIGNING.contains(&key));
        for Entry { scope, key, value } in entries(listed) {
            let is_the_users = matches!(scope, "system" | "global");
            let is_the_repositorys = IN_REPOSITORIES.contains(&scope) && !is_left_alone(key);
            let counts =
                is_the_users && PROGRAMS.contains(&key) || (is_the_users || is_the_repositorys) && KEYS.contains(&key);
            if counts {
                user.said.insert(key.to_owned(), value.to_owned());
            }
        }
        user.signs = user.said.get(SIGNS).is_some_and(|value| is_on(value));
        let how =
            SIGNING.iter().chain(PROGRAMS).filter_map(|key| Some(((*key).to_owned(), user.said.get(*key)?.clone())));
        user.how = how.collect();
        user.identity = user.identities();
        user
    }

    /// The environment decides, then the configuration, else it is us.
    fn identities(&self) -> Vec<(String, String)> {
        let mut identity = Vec::new();
        for role in ["AUTHOR", "COMMITTER"] {
            let own = ["NAME", "EMAIL"].map(|what| self.configured(role, what));
            // A name alone, or an address alone, is nobody.
            let [name, email] = match own {
                [Some(name), Some(email)] => [name, email],
                _ => ["makima", "makima@localhost"],
            };
            for (what, value) in [("NAME", name), ("EMAIL", email)] {
                let variable = variable(role, what);
                let value = self.given.get(&variable).map_or(value, String::as_str).to_owned();
                identity.push((variable, value));
            }
        }
        identity
    }

    fn configured(&self, role: &str, what: &str) -> Option<&str> {
        let [role, what] = [role, what].map(str::to_ascii_lowercase);
        let said = |section: &str| self.said.get(&format!("{section}.{what}")).filter(|value| !value.is_empty());
        said(&role).or_else(|| said("user")).map(String::as_str)
    }

    /// Whether the identity is the user's and not ours.
    fn is_known(&self) -> bool {
        let has =
            |what| self.given.contains_key(&variable("AUTHOR", what)) || self.configured("AUTHOR", what).is_some();
        has("NAME") && has("EMAIL")
    }
}

fn variable(role: &str, what: &str) -> String {
    format!("GIT_{role}_{what}")
}

/// One line of a configuration.
struct Entry<'a> {
    scope: &'a str,
    key: &'a str,
    value: &'a str,
}

/// What `git config --list -z --show-scope` tells, in order: what comes later wins. What is no text says nothing.
fn entries(listed: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut fields = listed.split(|byte| *byte == 0);
    std::iter::from_fn(move || Some((fields.next()?, fields.next()?))).filter_map(|(scope, entry)| {
        let entry = str::from_utf8(entry).ok()?;
        // A key without a value is on.
        let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        Some(Entry { scope: str::from_utf8(scope).ok()?, key, value })
    })
}

fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1")
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read_with_what_distributions_add() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("git version 2.41.0.windows.1"), Some((2, 41)));
        assert_eq!(version("hub version 1"), None);
    }
}
