//! Opening a request to merge a task's work: the branch is pushed, then a forge is asked. Which calls that takes and what
//! their answers mean is the core's (`forge`); here they are made.

mod push;
mod rest;
mod token;
mod tool;

use std::sync::Arc;

use makima_core::effect::Delivery;
use makima_core::forge::{Forges, Kind, Opening, Project, Wanted, is_loopback};
use makima_core::id::TaskId;
use makima_core::policy::{RepositoryUrl, split_credentials};

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use self::push::fuzz;
use super::bare::Bare;
use super::cancel::Cancel;
use super::deliver::Delivered;
use super::git::Call;
use super::reach::{Denied, Reach};
use super::source::Login;
use super::{Hands, blocking, branch, refs};

/// Pushes the work of `task` and sees that a request is open for it. Done twice it is as if done once.
pub(super) async fn open(
    hands: &Arc<Hands>,
    task: TaskId,
    wanted: &Delivery,
    commit: &str,
    cancel: &Cancel,
) -> Result<Delivered, String> {
    let bare = hands.bare(branch::bare_of(hands, task)?);
    let kept = format!("; the work is kept in {}", bare.path.display());
    let remote = Remote::of(hands, wanted, cancel).await.map_err(|why| why + &kept)?;
    let job = Job { hands, task, wanted, commit, cancel, bare, remote };
    let base = job.push().await.map_err(|why| why + &kept)?;
    job.ask(base).await
}

/// Where it is pushed to.
struct Remote {
    /// As git takes it. No credentials stand in it.
    url: String,
    /// What stood in it.
    login: Option<Login>,
    /// What it is on a forge.
    project: Option<Project>,
    kind: Option<Kind>,
    forges: Forges,
    /// The one that the configuration has for it.
    token: Option<String>,
}

struct Job<'a> {
    hands: &'a Arc<Hands>,
    task: TaskId,
    wanted: &'a Delivery,
    commit: &'a str,
    cancel: &'a Cancel,
    bare: Bare,
    remote: Remote,
}

impl Remote {
    async fn of(hands: &Arc<Hands>, wanted: &Delivery, cancel: &Cancel) -> Result<Self, String> {
        let (url, credentials) = match (&wanted.target, &wanted.repository) {
            (Some(target), _) => (origin_of(hands, target, cancel).await?, None),
            (None, Some(url)) => (url.as_str().to_owned(), wanted.credentials.and_then(|id| hands.secret(id))),
            (None, None) => return Err("no repository was named".to_owned()),
        };
        let (url, credentials) = match split_credentials(&url) {
            Some((url, found)) => (url, Some(found)),
            None => (url, credentials),
        };
        if let Some(found) = &credentials {
            // A name alone is a token, too.
            hands.settings.secrets.add(found.split_once(':').map_or(found.as_str(), |(_, password)| password));
        }
        let project = Project::read(&url);
        if !is_to_this_machine(&url) {
            match RepositoryUrl::read(&url).map_err(|why| why.to_string())? {
                RepositoryUrl::Remote(_) => {}
                RepositoryUrl::Local(path) => {
                    return Err(format!("`{path}` is a folder on this machine; a pull request needs a forge"));
                }
            }
        }
        let login = credentials.and_then(|found| Login::read(&url, &found));
        let variable = |name: &str| hands.settings.variable(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let forges = Forges {
            named: hands.settings.forges.iter().map(|forge| (forge.host.clone(), forge.kind)).collect(),
            github: variable("GH_HOST"),
            gitlab: variable("GITLAB_HOST"),
        };
        let kind = project.as_ref().and_then(|project| forges.kind(&project.host));
        let token = match &project {
            Some(project) => token::of_file(hands, &project.host).await?,
            None => None,
        };
        Ok(Self { url, login, project, kind, forges, token })
    }

    /// A call that may have to go there.
    fn reach(&self, call: Call) -> Call {
        // Without encryption nothing is sent to anybody but this machine.
        let call = if is_to_this_machine(&self.url) { call.env("GIT_ALLOW_PROTOCOL", "http") } else { call };
        match &self.login {
            Some(login) => login.alone(call),
            None => call,
        }
    }
}

fn is_to_this_machine(url: &str) -> bool {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    host.is_some_and(is_loopback)
}

/// Where a repository of the user's pushes to.
async fn origin_of(hands: &Arc<Hands>, target: &str, cancel: &Cancel) -> Result<String, String> {
    let place = {
        let (hands, target) = (Arc::clone(hands), target.to_owned());
        blocking(move || {
            let reach = Reach::of(&hands);
            let place = reach.open(&target)?;
            reach.open_repository(&place).map(|_| place)
        })
    };
    let place = place.await?.map_err(Denied::into_words)?;
    let call = Call::held(&place, "remote").args(["get-url", "--push"]).fine(&[0, 2]).names(["origin"]);
    let said = hands.git.run(cancel, call).await.map_err(|why| why.to_string())?;
    said.line().ok_or_else(|| format!("{} has no remote `origin` to push to", place.path().display()))
}

impl Job<'_> {
    /// Sees that a request is open. `base` is what it is to be merged into.
    async fn ask(&self, base: Option<String>) -> Result<Delivered, String> {
        let (branch, url) = (self.wanted.branch.as_str(), &self.remote.url);
        let pushed = format!("branch `{branch}` is pushed to {url}");
        let Some(project) = &self.remote.project else {
            return Ok(told(format!("{pushed}; it is no forge that is known, so no pull request is opened")));
        };
        let page = project.page(self.remote.kind, branch, base.as_deref());
        let Some(kind) = self.remote.kind else {
            let host = &project.host;
            let how = format!(
                "to have pull requests opened there, name its kind in config.toml: [forge] \"{host}\" = \"github\""
            );
            return Ok(told(format!("{pushed}; what {host} is is not known, so the rest is yours: {page} ({how})")));
        };
        let Some(base) = base else {
            return Err(format!("{pushed}, but that has no default branch: name the one to merge into; {page}"));
        };
        let wanted = self.said(base);
        let done = match tool::open(self, kind, project, &wanted).await {
            Some(done) => done,
            None => match token::find(self, kind, project).await {
                Some(token) => {
                    let (opening, call) = Opening::begin(kind, project.clone(), wanted);
                    rest::open(self, opening, call, &token).await
                }
                None => {
                    return Ok(told(format!(
                        "{pushed}; nobody is logged in at {}, so open it here: {page}",
                        project.host
                    )));
                }
            },
        };
        match done {
            Ok(Opened { url, found: true }) => {
                Ok(Delivered { message: format!("{pushed}; it is open already"), url: Some(url) })
            }
            Ok(Opened { url, found: false }) => {
                Ok(Delivered { message: format!("{pushed}; it is opened"), url: Some(url) })
            }
            Err(why) => Err(format!("{pushed}, but no pull request was opened: {why}; to open it yourself: {page}")),
        }
    }

    fn said(&self, base: String) -> Wanted {
        let text = &self.wanted.text;
        let body = text.trailers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        Wanted { branch: self.wanted.branch.as_str().to_owned(), base, title: text.subject.clone(), body }
    }

    /// What was pushed there last.
    async fn last_pushed(&self) -> Option<String> {
        refs::find(&self.bare.path, &self.pushed_name()).await
    }

    fn pushed_name(&self) -> String {
        format!("{}pushed/{}", super::bare::OURS, self.task)
    }
}

/// A request that is open.
struct Opened {
    url: String,
    /// It was there before.
    found: bool,
}

fn told(message: String) -> Delivered {
    Delivered { message, url: None }
}
