//! What git knows of the user: asked once, at the start.

use std::path::Path;

use super::Unfit;
use super::cancel::Cancel;
use super::git::{Call, Git};
use super::settings::Settings;

/// The oldest git that knows all that is asked of it.
const OLDEST: (u32, u32) = (2, 41);

/// Who commits, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    /// `GIT_AUTHOR_*` and `GIT_COMMITTER_*`.
    pub(super) identity: Vec<(String, String)>,
    /// Whether commits are signed.
    pub(super) signs: bool,
    /// Whether the identity is the user's and not ours.
    is_known: bool,
    own_ssh: bool,
    needs_system: bool,
}

/// Opens the door to git and asks it about the user. Blocks; for the start only.
pub(super) fn meet(settings: &Settings) -> Result<(Git, User), Unfit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Unfit::Runtime)?;
    runtime.block_on(async {
        // The machine's configuration is let in to see whether it is needed.
        let git = Git::new(&settings.git, &settings.environment, false, true);
        check_version(&git).await?;
        let user = User::read(&git, settings).await;
        Ok((Git::new(&settings.git, &settings.environment, !user.own_ssh, user.needs_system), user))
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
    let git = Git::new(&settings.git, &settings.environment, false, true);
    let version = check_version(&git).await?;
    let user = User::read(&git, settings).await;
    let value = |name: &str| user.identity.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value);
    let author = format!("{} <{}>", value("GIT_AUTHOR_NAME"), value("GIT_AUTHOR_EMAIL"));
    Ok(Acquaintance { version, author, is_known: user.is_known })
}

async fn check_version(git: &Git) -> Result<String, Unfit> {
    let answer = git.run(&Cancel::default(), Call::at(Path::new("/"), "version")).await;
    let answer = answer.map_err(|why| Unfit::NoGit(why.to_string()))?;
    let said = answer.line().unwrap_or_default();
    match version(&said) {
        Some(version) if version >= OLDEST => Ok(said),
        Some(_) | None => Err(Unfit::OldGit { said, oldest: format!("{}.{}", OLDEST.0, OLDEST.1) }),
    }
}

fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl User {
    async fn read(git: &Git, settings: &Settings) -> Self {
        let call = Call::at(Path::new("/"), "config").args(["--list", "-z", "--show-scope"]);
        // A user without any configuration is one, too.
        let answer = git.run(&Cancel::default(), call).await.map(|answer| answer.out).unwrap_or_default();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let mut user = Self::default();
        let (mut name, mut email) = (None, None);
        let mut fields = text.split('\0');
        while let (Some(scope), Some(entry)) = (fields.next(), fields.next()) {
            // A key without a value is on.
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            match (scope, key) {
                ("global", "user.name") => name = Some(value.to_owned()),
                ("global", "user.email") => email = Some(value.to_owned()),
                ("global", "commit.gpgsign") => user.signs = is_on(value),
                ("global", "core.sshcommand") => user.own_ssh = true,
                ("system", "safe.directory") => user.needs_system = true,
                _ => {}
            }
        }
        let configured = name.zip(email);
        let given = |what: &str| settings.variable(what).is_some_and(|given| !given.is_empty());
        user.is_known = configured.is_some() || (given("GIT_AUTHOR_NAME") && given("GIT_AUTHOR_EMAIL"));
        user.identity = identity(settings, configured);
        user
    }
}

fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1")
}

/// The environment decides, then the configuration, else it is us.
fn identity(settings: &Settings, configured: Option<(String, String)>) -> Vec<(String, String)> {
    let (name, email) = configured.unwrap_or_else(|| ("makima".to_owned(), "makima@localhost".to_owned()));
    let mut identity = Vec::new();
    for role in ["AUTHOR", "COMMITTER"] {
        for (what, value) in [("NAME", &name), ("EMAIL", &email)] {
            let variable = format!("GIT_{role}_{what}");
            let given = settings.variable(&variable).filter(|given| !given.is_empty());
            let value = given.map_or_else(|| value.clone(), str::to_owned);
            identity.push((variable, value));
        }
    }
    identity
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
