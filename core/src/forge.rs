//! Forges: whose repository a URL names there, who may be shown which token, and which calls open a request to merge a
//! branch. What is done with each call is the executor's; what its answer means is said here.

mod call;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use call::{Call, Method, Next, Opening, Tool, Wanted};
use serde::{Deserialize, Serialize};

/// What a forge is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// github.com, or a GitHub of one's own.
    GitHub,
    /// gitlab.com, or a GitLab of one's own.
    GitLab,
}

/// A repository on a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Where its pages and its interface are: `https://host[:port]`.
    pub origin: String,
    /// The forge, as it is called: with a port only where its pages have one.
    pub host: String,
    /// The repository on it, without slashes around it and without `.git`.
    pub path: String,
}

impl Project {
    /// Reads the URL of a remote: https, ssh or scp-like, without credentials; http to this machine alone. None where it
    /// names no repository of a forge.
    #[must_use]
    pub fn read(url: &str) -> Option<Self> {
        let (scheme, authority, path) = match url.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_once('/')?;
                (scheme.to_ascii_lowercase(), authority, path)
            }
            // git's own rule: a colon before the first slash makes it `host:path`.
            None => {
                let (authority, path) = url.split_once(':').filter(|(host, _)| !host.contains('/'))?;
                ("ssh".to_string(), authority, path)
            }
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
        let (origin, host) = match scheme.as_str() {
            "https" => (format!("https://{host}"), host),
            "http" if is_loopback(&host) => (format!("http://{host}"), host),
            // The port is that of ssh, and no other.
            "ssh" => {
                let host = bare(&host).to_string();
                (format!("https://{host}"), host)
            }
            _ => return None,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let odd = |part: &&str| {
            part.is_empty()
                || matches!(*part, "." | "..")
                || !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+".contains(&byte))
        };
        let plain =
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
        if !plain || host.starts_with('-') || parts.len() < 2 || parts.iter().any(odd) {
            return None;
        }
        Some(Self { origin, host, path: path.to_string() })
    }

    /// The page on which a person opens the request.
    #[must_use]
    pub fn page(&self, kind: Option<Kind>, branch: &str, base: Option<&str>) -> String {
        let Self { origin, path, .. } = self;
        let branch = escaped(branch, b"/");
        match kind {
            Some(Kind::GitHub) => {
                let base = base.map(|base| format!("{}...", escaped(base, b"/"))).unwrap_or_default();
                format!("{origin}/{path}/compare/{base}{branch}?expand=1")
            }
            Some(Kind::GitLab) => {
                let base = base.map(|base| format!("&merge_request%5Btarget_branch%5D={}", escaped(base, b"/")));
                let base = base.unwrap_or_default();
                format!("{origin}/{path}/-/merge_requests/new?merge_request%5Bsource_branch%5D={branch}{base}")
            }
            None => format!("{origin}/{path}"),
        }
    }
}

/// A host without its port.
fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// Whether a host is this machine, by its name alone.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    matches!(bare(host), "localhost" | "127.0.0.1" | "[::1]")
}

/// Forges, as the user's configuration and environment tell of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forges {
    /// Which kind each host is that the configuration names.
    pub named: Vec<(String, Kind)>,
    /// The environment's `GH_HOST`.
    pub github: Option<String>,
    /// The environment's `GITLAB_HOST`, which may be a URL.
    pub gitlab: Option<String>,
}

impl Forges {
    /// What the forge at a host is: as the user says, else as its name says.
    #[must_use]
    pub fn kind(&self, host: &str) -> Option<Kind> {
        if let Some((_, kind)) = self.named.iter().find(|(named, _)| named.eq_ignore_ascii_case(host)) {
            return Some(*kind);
        }
        let label = bare(host).split('.').next().unwrap_or_default();
        match label {
            _ if self.is_own(Kind::GitHub, host) => Some(Kind::GitHub),
            _ if self.is_own(Kind::GitLab, host) => Some(Kind::GitLab),
            "github" => Some(Kind::GitHub),
            "gitlab" => Some(Kind::GitLab),
            _ => None,
        }
    }

    /// Whether the environment names this host as the user's own of a kind.
    fn is_own(&self, kind: Kind, host: &str) -> bool {
        let named = match kind {
            Kind::GitHub => &self.github,
            Kind::GitLab => &self.gitlab,
        };
        let plain = |named: &String| {
            let named = named.split_once("://").map_or(named.as_str(), |(_, rest)| rest);
            named.trim_end_matches('/').eq_ignore_ascii_case(host)
        };
        named.as_ref().is_some_and(plain)
    }

    /// The variables whose values this host may be shown. A token goes to whom it was made for: to a host that the user
    /// has named, or to the one that everybody means. A server that names any other gets none.
    #[must_use]
    pub fn variables(&self, kind: Kind, host: &str) -> &'static [&'static str] {
        let named = self.named.iter().any(|(named, of)| named.eq_ignore_ascii_case(host) && *of == kind);
        let own = named || self.is_own(kind, host);
        match kind {
            Kind::GitHub if host == "github.com" => &["GH_TOKEN", "GITHUB_TOKEN"],
            Kind::GitHub if own => &["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"],
            Kind::GitLab if own || (host == "gitlab.com" && self.gitlab.is_none()) => {
                &["GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN"]
            }
            Kind::GitHub | Kind::GitLab => &[],
        }
    }
}

/// All variables that hold a token for a forge.
pub const TOKENS: &[&str] = &[
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GH_ENTERPRISE_TOKEN",
    "GITHUB_ENTERPRISE_TOKEN",
    "GITLAB_TOKEN",
    "GITLAB_ACCESS_TOKEN",
    "OAUTH_TOKEN",
];

/// As it stands in a URL; bytes of `but` stay as they are.
fn escaped(text: &str, but: &[u8]) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || but.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
