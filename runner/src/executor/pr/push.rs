//! Pushing a branch. What others have put there is never written over.

use std::path::Path;
use std::time::Duration;

use makima_core::policy::shorten;

use super::super::git::{ASK, Call, GitError};
use super::super::refs;
use super::Job;
use super::token;

/// The longest that a push may take: less than all of it may.
const PUSH: Duration = Duration::from_secs(200);

/// What a remote has of what matters here.
#[derive(Debug, Default)]
struct There {
    /// Where our branch is.
    branch: Option<String>,
    /// The name of its default branch.
    default: Option<String>,
    /// Whether it has the branch that the work was to start from.
    has_base: bool,
}

impl There {
    /// What `ls-remote --symref` tells of these branches, in the far side's own words.
    fn told(said: &[u8], branch: &str, base: Option<&str>) -> Self {
        let mut there = Self::default();
        for line in String::from_utf8_lossy(said).lines() {
            let Some((value, name)) = line.split_once('\t') else { continue };
            match value.strip_prefix("ref: refs/heads/") {
                Some(default) if name == "HEAD" => there.default = Some(default.to_owned()),
                None if name == branch => there.branch = Some(value.to_owned()).filter(|oid| refs::is_oid(oid)),
                None if Some(name) == base => there.has_base = true,
                Some(_) | None => {}
            }
        }
        there
    }
}

impl Job<'_> {
    /// Pushes the work, and says which branch of the remote's it is to be merged into.
    pub(super) async fn push(&self) -> Result<Option<String>, String> {
        let there = self.there().await.map_err(|why| self.rejected(&why))?;
        if there.branch.as_deref() != Some(self.commit) {
            self.put(there.branch.as_deref()).await.map_err(|why| self.rejected(&why))?;
        }
        let call = Call::on(&self.bare.path, "update-ref").names([self.pushed_name().as_str(), self.commit]);
        if let Err(why) = self.hands.git.run(self.cancel, call).await {
            tracing::warn!("what was pushed is not written down: {why}");
        }
        let named = self.wanted.into.as_ref();
        let base = self.wanted.base.as_ref().filter(|_| there.has_base);
        let base = named.or(base).map(|name| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned());
        Ok(base.or(there.default))
    }

    async fn there(&self) -> Result<There, GitError> {
        let branch = format!("refs/heads/{}", self.wanted.branch);
        let base = self.wanted.base.as_ref().map(|base| format!("refs/heads/{base}"));
        // Not run in any repository, so that no configuration of one can redirect it.
        let call = Call::at(Path::new("/"), "ls-remote").args(["--symref", "--quiet"]).limit(ASK);
        let names = [self.remote.url.as_str(), "HEAD", &branch].into_iter().chain(base.as_deref());
        let said = self.hands.git.run(self.cancel, self.logged_in(call.names(names))).await?;
        Ok(There::told(&said.out, &branch, base.as_deref()))
    }

    /// Puts the branch there. What is there already is only replaced where the work goes on from it, or where it is what
    /// we have put there ourselves.
    async fn put(&self, there: Option<&str>) -> Result<(), GitError> {
        let name = format!("refs/heads/{}", self.wanted.branch);
        let call = Call::on(&self.bare.path, "push").limit(PUSH);
        let call = call.args(["--quiet", "--no-verify", "--no-follow-tags", "--recurse-submodules=no"]);
        let ours = self.last_pushed().await.filter(|ours| there == Some(ours.as_str()));
        let call = match ours {
            Some(ours) => call.arg(format!("--force-with-lease={name}:{ours}")),
            None => call,
        };
        let call = call.names([self.remote.url.as_str(), &format!("{}:{name}", self.commit)]);
        self.hands.git.run(self.cancel, self.logged_in(call)).await.map(drop)
    }

    fn logged_in(&self, call: Call) -> Call {
        let call = self.remote.reach(call);
        match (&self.remote.login, token::known(self)) {
            (None, Some(login)) => login.beside(call),
            (Some(_), _) | (None, None) => call,
        }
    }

    /// Why it was not pushed: what the far side said, and what to make of it.
    fn rejected(&self, why: &GitError) -> String {
        let said = why.said();
        let branch = &self.wanted.branch;
        let url = &self.remote.url;
        if ["(fetch first)", "(non-fast-forward)", "(stale info)", "(needs force)"]
            .iter()
            .any(|sign| said.contains(sign))
        {
            return format!(
                "{url} has commits on `{branch}` that are not ours; they are left as they are, nothing was pushed"
            );
        }
        let worth = |line: &&str| {
            line.starts_with("! [") || line.strip_prefix("remote:").is_some_and(|rest| !rest.trim().is_empty())
        };
        let lines: Vec<&str> = said.lines().map(str::trim).filter(worth).collect();
        if said.contains("[remote rejected]") {
            return format!("{url} refuses `{branch}`: {}", shorten(&lines.join("; "), 600));
        }
        let unknown = [
            "could not read Username",
            "could not read Password",
            "Authentication failed",
            "terminal prompts disabled",
        ];
        if unknown.iter().any(|sign| said.contains(sign)) {
            return format!(
                "{url} lets nobody in that is known here; log in for git there (a credential helper, an SSH key), then try again: {why}"
            );
        }
        format!("nothing was pushed to {url}: {why}")
    }
}

/// Reads what a far side says of its branches: see `crate::fuzz`.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::executor) fn fuzz(said: &[u8]) {
    let there = There::told(said, "refs/heads/makima", Some("refs/heads/main"));
    assert!(there.branch.is_none_or(|oid| refs::is_oid(&oid)));
    assert!(there.default.is_none_or(|name| name.len() <= said.len().saturating_mul(3)));
}
