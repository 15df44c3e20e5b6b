//! The calls by which a request to merge a branch is found, else opened.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::{Kind, Project, escaped};
use crate::policy::{cut, shorten};

/// Times that one call is made where the forge has trouble of its own.
const TRIES: u8 = 4;

/// Before the first of those; doubled with each. Seconds.
const PAUSE: u64 = 1;

/// Longer than this a forge that asks for patience is not waited for. Seconds.
const PATIENCE: u64 = 60;

/// Characters of what a forge said that are shown; the rest is cut.
const SAID: usize = 300;

/// What is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The branch, which the forge has.
    pub branch: String,
    /// The branch that it is to be merged into.
    pub base: String,
    /// In one line.
    pub title: String,
    /// What else there is to say.
    pub body: String,
}

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nothing changes.
    Get,
    /// Something does.
    Post,
}

/// A call of the forge's interface. It bears no token: that is put in at the last moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// How.
    pub method: Method,
    /// Where.
    pub url: String,
    /// What is sent along, as JSON.
    pub body: Option<String>,
}

/// What comes after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make this call.
    Call(Call),
    /// Wait for so many seconds, and make this one.
    Later(u64, Call),
    /// There is one: its page, and whether it was there before.
    Open {
        /// Its page.
        url: String,
        /// It was found and not made.
        found: bool,
    },
    /// There is none, and why.
    Refused(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Is there one?
    Find,
    /// Make one.
    Make,
    /// It is said that there is one: which?
    FindAgain,
}

/// The way to a request that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    kind: Kind,
    project: Project,
    wanted: Wanted,
    step: Step,
    tries: u8,
}

impl Opening {
    /// The way, and its first call.
    #[must_use]
    pub fn begin(kind: Kind, project: Project, wanted: Wanted) -> (Self, Call) {
        let opening = Self { kind, project, wanted, step: Step::Find, tries: 0 };
        let call = opening.call();
        (opening, call)
    }

    /// Where the interface is, for this repository.
    fn interface(&self) -> String {
        let Project { origin, host, path } = &self.project;
        match self.kind {
            Kind::GitHub if host == "github.com" => format!("https://api.github.com/repos/{path}"),
            Kind::GitHub => format!("{origin}/api/v3/repos/{path}"),
            Kind::GitLab => format!("{origin}/api/v4/projects/{}", escaped(path, b"")),
        }
    }

    fn call(&self) -> Call {
        let Wanted { branch, base, title, body } = &self.wanted;
        let owner = self.project.path.split('/').next().unwrap_or_default();
        let (find, make, what) = match self.kind {
            Kind::GitHub => (
                format!("pulls?state=open&head={}", escaped(&format!("{owner}:{branch}"), b"")),
                "pulls",
                json!({ "title": title, "head": branch, "base": base, "body": body }),
            ),
            Kind::GitLab => (
                format!("merge_requests?state=opened&source_branch={}", escaped(branch, b"")),
                "merge_requests",
                json!({ "title": title, "source_branch": branch, "target_branch": base, "description": body }),
            ),
        };
        let interface = self.interface();
        match self.step {
            Step::Find | Step::FindAgain => {
                Call { method: Method::Get, url: format!("{interface}/{find}"), body: None }
            }
            Step::Make => {
                Call { method: Method::Post, url: format!("{interface}/{make}"), body: Some(what.to_string()) }
            }
        }
    }

    /// The forge has answered. `patience` is how many seconds it asks to be left alone.
    pub fn answered(&mut self, status: u16, patience: Option<u64>, body: &str) -> Next {
        match (self.step, status) {
            (Step::Find | Step::FindAgain, 200) => match self.listed(body) {
                Ok(Some(url)) => Next::Open { url, found: true },
                Ok(None) if self.step == Step::Find => self.go_to(Step::Make),
                Ok(None) => Next::Refused(format!(
                    "{} says that there is one already for this branch, and shows none",
                    self.project.host
                )),
                Err(why) => Next::Refused(why),
            },
            (Step::Make, 200 | 201) => match self.page_of(body) {
                Some(url) => Next::Open { url, found: false },
                None => self.strange(),
            },
            // Somebody was faster, or our own call before was heard and its answer lost.
            (Step::Make, 409 | 422) if body.to_lowercase().contains("already exists") => self.go_to(Step::FindAgain),
            // One that is asked too often says so in either way.
            (_, 403) if patience.is_some() => self.troubled("answered 403", patience),
            (_, 429 | 500..=599) => self.troubled(&format!("answered {status}"), patience),
            (_, status) => Next::Refused(self.refusal(status, body)),
        }
    }

    /// The forge has not answered.
    pub fn failed(&mut self, why: &str) -> Next {
        self.troubled(why, None)
    }

    fn go_to(&mut self, step: Step) -> Next {
        self.step = step;
        self.tries = 0;
        Next::Call(self.call())
    }

    fn troubled(&mut self, why: &str, patience: Option<u64>) -> Next {
        self.tries = self.tries.saturating_add(1);
        let pause = patience.unwrap_or(PAUSE << self.tries.saturating_sub(1).min(6));
        if self.tries >= TRIES || pause > PATIENCE {
            return Next::Refused(format!("{} {}", self.project.host, shorten(why, SAID)));
        }
        Next::Later(pause, self.call())
    }

    fn refusal(&self, status: u16, body: &str) -> String {
        let host = &self.project.host;
        let hint = match status {
            401 => "; the token is not accepted",
            403 => "; the token may not do that",
            404 => "; there is no such repository for this token",
            300..=399 => "; the repository has moved: give the remote its new URL",
            _ => "",
        };
        match said(body) {
            Some(said) => format!("{host} answered {status}: {said}{hint}"),
            None => format!("{host} answered {status}{hint}"),
        }
    }

    fn strange(&self) -> Next {
        Next::Refused(format!("{} gave an answer that is not understood", self.project.host))
    }

    /// The open one for this branch in a list.
    fn listed(&self, body: &str) -> Result<Option<String>, String> {
        let list: Vec<Value> = serde_json::from_str(body)
            .map_err(|_| format!("{} gave an answer that is not understood: no list", self.project.host))?;
        let ours = |one: &&Value| {
            let branch = match self.kind {
                Kind::GitHub => one.pointer("/head/ref"),
                Kind::GitLab => one.get("source_branch"),
            };
            branch.and_then(Value::as_str) == Some(self.wanted.branch.as_str())
        };
        match list.iter().find(ours) {
            Some(one) => match self.page_in(one) {
                Some(page) => Ok(Some(page)),
                None => Err(format!("{} gave an answer that is not understood: no page", self.project.host)),
            },
            None => Ok(None),
        }
    }

    fn page_of(&self, body: &str) -> Option<String> {
        self.page_in(&serde_json::from_str(body).ok()?)
    }

    fn page_in(&self, one: &Value) -> Option<String> {
        let field = match self.kind {
            Kind::GitHub => "html_url",
            Kind::GitLab => "web_url",
        };
        one.get(field)?.as_str().and_then(page)
    }
}

/// The address of a page, if it is one that may be shown as such.
fn page(text: &str) -> Option<String> {
    let web = text.starts_with("https://") || text.starts_with("http://");
    let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    (web && plain && text.len() < 2_000).then(|| text.to_owned())
}

/// What a forge said went wrong, where it says so in its own way; what a proxy says is not shown.
fn said(body: &str) -> Option<String> {
    let value: Value = serde_json::from_str(body).ok()?;
    let mut words: Vec<String> = Vec::new();
    let mut take = |value: &Value| match value {
        Value::String(text) => words.push(text.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            words.push(cut(&value.to_string(), SAID));
        }
    };
    for field in ["message", "error", "error_description"] {
        value.get(field).into_iter().for_each(&mut take);
    }
    for error in value.get("errors").and_then(Value::as_array).into_iter().flatten() {
        error.get("message").into_iter().for_each(&mut take);
    }
    (!words.is_empty()).then(|| shorten(&words.join("; "), SAID))
}

/// A forge's own program on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool(pub Kind);

impl Tool {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::GitHub => "gh",
            Kind::GitLab => "glab",
        }
    }

    /// Asks it whether it is logged in there.
    #[must_use]
    pub fn knows(self, host: &str) -> Vec<String> {
        ["auth", "status", "--hostname", host].map(ToString::to_string).to_vec()
    }

    fn repository(self, project: &Project) -> String {
        match self.0 {
            Kind::GitHub => format!("--repo={}/{}", project.host, project.path),
            Kind::GitLab => format!("--repo={}/{}", project.origin, project.path),
        }
    }

    /// Asks it for what is open for a branch.
    #[must_use]
    pub fn find(self, project: &Project, branch: &str) -> Vec<String> {
        let repository = self.repository(project);
        let words: Vec<String> = match self.0 {
            Kind::GitHub => ["pr", "list", "--state=open", "--json=url"].map(ToString::to_string).to_vec(),
            Kind::GitLab => ["mr", "list", "--output=json"].map(ToString::to_string).to_vec(),
        };
        let branch = match self.0 {
            Kind::GitHub => format!("--head={branch}"),
            Kind::GitLab => format!("--source-branch={branch}"),
        };
        [words, Vec::from([repository, branch])].concat()
    }

    /// Has it open one. What is to be said of it stands behind an equals sign: it is never an option.
    #[must_use]
    pub fn make(self, project: &Project, wanted: &Wanted) -> Vec<String> {
        let Wanted { branch, base, title, body } = wanted;
        let repository = self.repository(project);
        match self.0 {
            Kind::GitHub => Vec::from([
                "pr".to_string(),
                "create".to_string(),
                repository,
                format!("--head={branch}"),
                format!("--base={base}"),
                format!("--title={title}"),
                format!("--body={body}"),
            ]),
            Kind::GitLab => Vec::from([
                "mr".to_string(),
                "create".to_string(),
                repository,
                format!("--source-branch={branch}"),
                format!("--target-branch={base}"),
                format!("--title={title}"),
                format!("--description={body}"),
                "--yes".to_string(),
            ]),
        }
    }

    /// The page of the first in the list that it gave.
    #[must_use]
    pub fn found(self, said: &str) -> Option<String> {
        let list: Vec<Value> = serde_json::from_str(said.trim()).ok()?;
        let field = match self.0 {
            Kind::GitHub => "url",
            Kind::GitLab => "web_url",
        };
        list.first()?.get(field)?.as_str().and_then(page)
    }

    /// The page of the one that it has made: the last address that it told.
    #[must_use]
    pub fn made(self, said: &str) -> Option<String> {
        said.split_whitespace().rev().find_map(page)
    }
}
