//! Where a task's work starts from: a repository on this machine or elsewhere, and what it has to offer.

use std::path::{Path, PathBuf};

use makima_core::policy::RepositoryUrl;
use percent_encoding::percent_decode_str;

use super::cancel::Cancel;
use super::git::{ASK, Call, Git, GitError};
use super::refs::{self, Refs};
use crate::roots;

/// A repository that is only read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// As git takes it. No credentials stand in it.
    pub(super) address: String,
    /// Where it is, if on this machine.
    pub(super) local: Option<PathBuf>,
    /// What lets us in.
    pub(super) login: Option<Login>,
}

/// A name and a password for one server.
#[derive(Clone)]
pub(super) struct Login {
    /// `https://host[:port]`.
    origin: String,
    user: String,
    password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.origin)
    }
}

/// What a repository has to offer.
#[derive(Clone, Debug, Default)]
pub(super) struct Tips {
    /// Its branches and tags.
    pub(super) refs: Refs,
    /// The branch that `HEAD` names.
    pub(super) default: Option<String>,
    /// The commit that `HEAD` is at.
    pub(super) head: Option<String>,
}

/// Its answer to a request for a password. What it answers stands in its environment and nowhere else.
const HELPER: &str =
    r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$MAKIMA_LOGIN" "$MAKIMA_PASSWORD"; }; f"#;

impl Source {
    /// Finds what a URL names. A local path must be a repository.
    pub(super) fn find(url: &RepositoryUrl, home: Option<&str>, credentials: Option<&str>) -> Result<Self, String> {
        match url {
            RepositoryUrl::Local(path) => {
                let found = repository_at(path, home)?;
                let address = found.to_str().ok_or_else(|| format!("the path of `{path}` is no UTF-8"))?;
                Ok(Self { address: address.to_owned(), local: Some(found), login: None })
            }
            RepositoryUrl::Remote(address) => {
                let login = credentials.and_then(|credentials| Login::read(address, credentials));
                Ok(Self { address: address.clone(), local: None, login })
            }
        }
    }

    /// A call that may have to log in.
    pub(super) fn with_login(&self, call: Call) -> Call {
        match &self.login {
            Some(login) => login.alone(call),
            None => call,
        }
    }

    /// Asks for its branches and tags.
    pub(super) async fn tips(&self, git: &Git, cancel: &Cancel) -> Result<Tips, GitError> {
        match &self.local {
            Some(path) => local_tips(path, git, cancel).await,
            None => self.remote_tips(git, cancel).await,
        }
    }

    async fn remote_tips(&self, git: &Git, cancel: &Cancel) -> Result<Tips, GitError> {
        // Not run in any repository, so that no configuration of one can redirect it.
        let call = Call::at(Path::new("/"), "ls-remote").args(["--symref", "--quiet"]).limit(ASK);
        let call = call.names([self.address.as_str(), "HEAD", "refs/heads/*", "refs/tags/*"]);
        Ok(Tips::told(&git.run(cancel, self.with_login(call)).await?.out))
    }
}

impl Tips {
    /// What `ls-remote --symref` tells, in the far side's own words.
    pub(super) fn told(said: &[u8]) -> Self {
        let mut tips = Self::default();
        for line in String::from_utf8_lossy(said).lines() {
            let Some((value, name)) = line.split_once('\t') else { continue };
            match value.strip_prefix("ref: ") {
                Some(target) if name == "HEAD" => tips.default = Some(target.to_owned()),
                None if name == "HEAD" => tips.head = Some(value.to_owned()),
                None => tips.take(value, name),
                Some(_) => {}
            }
        }
        tips
    }

    /// What `for-each-ref` lists: `<oid> <mark> <name>`.
    pub(super) fn listed(said: &[u8]) -> Self {
        let mut tips = Self::default();
        for line in String::from_utf8_lossy(said).lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(oid), Some(mark), Some(name)) = (words.next(), words.next(), words.next()) else { continue };
            // A mark that is a space shows as an empty word.
            let name = if mark == "*" { name } else { name.trim_start() };
            tips.take(oid, name);
            if mark == "*" {
                tips.default = Some(name.to_owned());
                tips.head = Some(oid.to_owned());
            }
        }
        tips
    }

    /// Whether there is nothing at all to start from.
    pub(super) fn is_empty(&self) -> bool {
        self.refs.is_empty() && self.head.is_none()
    }

    fn take(&mut self, oid: &str, name: &str) {
        let wanted = name.starts_with("refs/heads/") || name.starts_with("refs/tags/");
        if wanted && refs::is_oid(oid) && !name.ends_with("^{}") {
            self.refs.insert(name.to_owned(), oid.to_owned());
        }
    }
}

/// One process where `ls-remote` would take three.
async fn local_tips(path: &Path, git: &Git, cancel: &Cancel) -> Result<Tips, GitError> {
    let call = Call::at(path, "for-each-ref").arg("--format=%(objectname) %(HEAD) %(refname)");
    let answer = git.run(cancel, call.names(["refs/heads", "refs/tags"])).await?;
    let mut tips = Tips::listed(&answer.out);
    if tips.head.is_none() {
        let call = Call::at(path, "rev-parse").args(["--verify", "--quiet"]).fine(&[0, 1]);
        tips.head = git.run(cancel, call.names(["HEAD^{commit}"])).await?.line();
    }
    Ok(tips)
}

impl Login {
    /// For a server: `https://host[:port]`.
    pub(super) fn new(origin: &str, user: &str, password: &str) -> Self {
        Self { origin: origin.to_owned(), user: user.to_owned(), password: password.to_owned() }
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// A call that logs in by this and by nothing else.
    pub(super) fn alone(&self, call: Call) -> Call {
        // The empty one makes git forget the user's own helpers: none of them is to store this password.
        self.beside(call.setting("credential.helper", ""))
    }

    /// A call that may log in by this, where the user's own helpers know nothing.
    pub(super) fn beside(&self, call: Call) -> Call {
        call.setting(format!("credential.{}.helper", self.origin), HELPER)
            .env("MAKIMA_LOGIN", &self.user)
            .env("MAKIMA_PASSWORD", &self.password)
    }

    /// Reads the part of an https URL that stood before the `@`. Anything else has no use for a password.
    pub(super) fn read(address: &str, credentials: &str) -> Option<Self> {
        let (scheme, rest) = address.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let host = rest.split(['/', '?', '#']).next()?;
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let plain = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
        let (user, password) = (plain(user)?, plain(password)?);
        // A line of its own would say something else to git.
        if user.contains(['\n', '\0']) || password.contains(['\n', '\0']) {
            return None;
        }
        Some(Self { origin: format!("https://{host}"), user, password })
    }
}

/// Reads what stood before the `@` of a URL: see `crate::fuzz`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(credentials: &str) {
    for address in ["https://host/x", "https://else@host:8080?x", credentials] {
        let Some(login) = Login::read(address, credentials) else { continue };
        assert!(!login.user.contains(['\n', '\0']) && !login.password.contains(['\n', '\0']), "another line for git");
        assert!(login.origin.starts_with("https://") && !login.origin.contains('@'), "{}", login.origin);
    }
}

fn absolute(path: &str, home: Option<&str>) -> Result<PathBuf, String> {
    let expanded = roots::expand(Path::new(path), home.map(Path::new));
    let path = expanded.ok_or_else(|| format!("`{path}` cannot be found: HOME is not set"))?;
    if path.is_absolute() { Ok(path) } else { Err(format!("`{}` is no absolute path", path.display())) }
}

/// The repository that people mean by a path: a worktree's folder, a `.git` or a bare one.
pub(super) fn repository_at(path: &str, home: Option<&str>) -> Result<PathBuf, String> {
    let expanded = absolute(path, home)?;
    let found = fs_err::canonicalize(&expanded).map_err(|failure| {
        if failure.kind() == std::io::ErrorKind::NotFound {
            format!("`{path}` does not exist")
        } else {
            format!("`{path}` cannot be looked at: {failure}")
        }
    })?;
    let bare = |path: &Path| path.join("HEAD").exists() && path.join("objects").exists() && path.join("refs").exists();
    if found.join(".git").exists() || bare(&found) {
        Ok(found)
    } else {
        Err(format!("`{path}` is not a git repository"))
    }
}
