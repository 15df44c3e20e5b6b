//! What a forge is shown of the user's: never in an argument, a file or a message.

use std::path::Path;
use std::time::Duration;

use makima_core::forge::{Kind, Project};

use super::super::foreign::{self, SMALL};
use super::super::git::Call;
use super::super::source::Login;
use super::super::{Hands, blocking};
use super::Job;

/// The longest that the user's own helpers are asked.
const ASK: Duration = Duration::from_secs(20);

/// The token that the configuration or the environment has for the remote, as git logs in by it.
pub(super) fn known(job: &Job<'_>) -> Option<Login> {
    let (project, kind) = (job.remote.project.as_ref()?, job.remote.kind?);
    let token = variable(job, kind, project)?;
    let user = match kind {
        Kind::GitHub => "x-access-token",
        Kind::GitLab => "oauth2",
    };
    Some(Login::new(&project.origin, user, &token))
}

/// A token for a forge: the configuration's, the environment's, what stood in the URL, what the user's credential helpers know.
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

/// The token that the configuration has for a host.
pub(super) async fn of_file(hands: &Hands, host: &str) -> Result<Option<String>, String> {
    let named = hands.settings.forges.iter().find(|forge| forge.host.eq_ignore_ascii_case(host));
    let Some(file) = named.and_then(|forge| forge.token_file.clone()) else { return Ok(None) };
    let (shown, read) = (file.display().to_string(), blocking(move || foreign::text(&file, SMALL)).await?);
    let text = read.map_err(|failure| format!("the token for {host} in {shown} cannot be read: {failure}"))?;
    let token = text.trim().to_owned();
    hands.settings.secrets.add(&token);
    if is_plain(&token) {
        Ok(Some(token))
    } else {
        Err(format!("{shown} holds no token for {host}: one line is wanted"))
    }
}

/// The configuration's, else the environment's.
fn variable(job: &Job<'_>, kind: Kind, project: &Project) -> Option<String> {
    if let Some(token) = &job.remote.token {
        return Some(token.clone());
    }
    let names = job.remote.forges.variables(kind, &project.host);
    let token = names.iter().find_map(|name| job.hands.settings.variable(name).filter(|value| !value.is_empty()))?;
    job.hands.settings.secrets.add(token);
    Some(token.to_owned()).filter(|token| is_plain(token))
}

/// Whether it can stand in a header, and means nothing else there.
fn is_plain(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}
