//! What a forge is shown of the user's: never in an argument, a file or a message.

use std::path::Path;
use std::time::Duration;

use makima_core::forge::{Kind, Project};

use super::super::git::Call;
use super::super::source::Login;
use super::Job;

/// The longest that the user's own helpers are asked.
const ASK: Duration = Duration::from_secs(20);

/// The token that the environment has for the remote, as git logs in by it.
pub(super) fn of_environment(job: &Job<'_>) -> Option<Login> {
    let (project, kind) = (job.remote.project.as_ref()?, job.remote.kind?);
    let token = variable(job, kind, project)?;
    let user = match kind {
        Kind::GitHub => "x-access-token",
        Kind::GitLab => "oauth2",
    };
    Some(Login::new(&project.origin, user, &token))
}

/// A token for a forge: the environment's, what stood in the URL, what the user's credential helpers know.
pub(super) async fn find(job: &Job<'_>, kind: Kind, project: &Project) -> Option<String> {
    if let Some(token) = variable(job, kind, project) {
        return Some(token);
    }
    if let Some(login) = &job.remote.login {
        return Some(login.password().to_owned()).filter(|password| is_plain(password));
    }
    let (protocol, host) = project.origin.split_once("://")?;
    let call = Call::at(Path::new("/"), "credential").arg("fill").setting("credential.interactive", "false");
    let call = call.input(format!("protocol={protocol}\nhost={host}\npath={}.git\n\n", project.path)).limit(ASK);
    let answer = job.hands.git.run(job.cancel, call).await.ok()?;
    let said = String::from_utf8(answer.out).ok()?;
    let token = said.lines().find_map(|line| line.strip_prefix("password="))?.to_owned();
    job.hands.settings.secrets.add(&token);
    Some(token).filter(|token| is_plain(token))
}

fn variable(job: &Job<'_>, kind: Kind, project: &Project) -> Option<String> {
    let names = job.remote.forges.variables(kind, &project.host);
    let token = names.iter().find_map(|name| job.hands.settings.variable(name).filter(|value| !value.is_empty()))?;
    job.hands.settings.secrets.add(token);
    Some(token.to_owned()).filter(|token| is_plain(token))
}

/// Whether it can stand in a header, and means nothing else there.
fn is_plain(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}
