//! `makima task`: tasks at a control server.

use makima_core::policy::RepositoryUrl;
use makima_core::protocol::SpawnTask;
use uuid::Uuid;

use super::args::{AtServer, CreateArgs, OnComplete, ServerArgs, TaskArgs, TaskCommand, TaskName};
use super::daemon::choose;
use super::follow::{Manner, View};
use super::go_on::go_on;
use super::render::Renderer;
use super::run::read_plan;
use super::{merge, print, say, show};
use crate::config::{self, ConfigFile};
use crate::events::{Completion, Event, Events};
use crate::report::{FAILED, Failure};
use crate::rest::{Rest, Task};
use crate::service;

/// Tasks that are listed where an id's beginning does not say which.
const SHOWN: usize = 10;

pub(super) async fn task(args: TaskArgs) -> Result<(), Failure> {
    let command = match args.command {
        TaskCommand::AtServer(command) => command,
        TaskCommand::Continue(how) => return go_on(how, &args.server).await,
    };
    let rest = connect(&args.server).await?;
    match command {
        AtServer::Create(args) => create(&rest, args).await,
        AtServer::List { json } => list(&rest, json).await,
        AtServer::Show { id, json } => one(&rest, resolve(&rest, &id).await?, json).await,
        AtServer::Logs { id, follow, raw } => logs(&rest, resolve(&rest, &id).await?, follow, Renderer::new(raw)).await,
        AtServer::Interrupt { id, force } => interrupt(&rest, resolve(&rest, &id).await?, force).await,
        AtServer::Pause(args) => say::hold(&rest, &args, true).await,
        AtServer::Resume(args) => say::hold(&rest, &args, false).await,
        AtServer::Send(args) => say::send(&rest, &args).await,
        AtServer::Answer(args) => say::answer(&rest, &args).await,
        AtServer::Retry(args) => merge::retry(&rest, args).await,
        AtServer::Clone(args) => merge::clone(&rest, args).await,
        AtServer::Branches(args) => merge::branches(&rest, &args).await,
        AtServer::Merge(args) => merge::merge(&rest, args.command).await,
    }
}

/// The task that a person means: by its id, or by as much of it as no other task's begins with.
pub(super) async fn resolve(rest: &Rest, name: &TaskName) -> Result<Uuid, Failure> {
    if let Ok(id) = Uuid::try_parse(&name.0) {
        return Ok(id);
    }
    let tasks: Vec<Task> = rest.list("/tasks").await?;
    let found: Vec<&Task> = tasks.iter().filter(|task| task.id.to_string().starts_with(&name.0)).collect();
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => Err(Failure::unusable(format!("no task's id begins with `{}`", name.0))
            .hint("`makima task list` shows all of them")),
        several => {
            let line =
                |task: &&Task| format!("  {}  {:11}  {}", task.id, print::tame(&task.status), print::tame(&task.name));
            let mut lines: Vec<String> = several.iter().take(SHOWN).map(line).collect();
            if several.len() > SHOWN {
                lines.push(format!("  … and {} more", several.len().saturating_sub(SHOWN)));
            }
            let count = several.len();
            Err(Failure::unusable(format!("the ids of {count} tasks begin with `{}`:\n{}", name.0, lines.join("\n")))
                .hint("write more of it"))
        }
    }
}

/// The server that people mean: as a daemon would choose it.
pub(super) async fn connect(args: &ServerArgs) -> Result<Rest, Failure> {
    let home = config::home_path()?;
    let file = ConfigFile::read(&home)?;
    let chosen = choose(&home, args.server.as_deref(), args.api_key_file.as_deref(), &file).await?;
    Rest::new(&service::server_endpoint(&chosen.url, args.insecure)?, chosen.key)
}

async fn create(rest: &Rest, args: CreateArgs) -> Result<(), Failure> {
    let task = SpawnTask {
        task_name: args.name.unwrap_or_default(),
        is_orchestrator: args.orchestrate,
        repo_url: args.repo.map(absolute),
        base_branch: args.base,
        completion_action: args.on_complete.map(OnComplete::as_str).map(ToString::to_string),
        ..SpawnTask::new(Uuid::now_v7(), read_plan(&args.plan, None)?)
    };
    let id = task.task_id;
    let mut after = Vec::new();
    for name in &args.after {
        after.push(resolve(rest, name).await?);
    }
    rest.create(&task, &after).await?;
    if !args.wait {
        return if args.json { print_json(&serde_json::json!({ "id": id })) } else { print_line(&id.to_string()) };
    }
    let (ended, undelivered) = wait(rest, id, None).await?;
    if args.json {
        print::line(&rest.raw(&format!("/tasks/{id}")).await?);
    } else {
        print::line(&id.to_string());
    }
    match (ended.success, undelivered, ended.error) {
        (Some(true), None, _) => Ok(()),
        (Some(true), Some(why), _) => Err(Failure::failed(print::tame(&why))),
        (_, _, error) => Err(Failure::failed(print::tame(&error.unwrap_or_else(|| "the task failed".to_string())))),
    }
}

/// A path is meant from here; a daemon stands elsewhere. What git would take for a host's name is none.
fn absolute(repo: String) -> String {
    match RepositoryUrl::read(&repo) {
        Ok(RepositoryUrl::Local(path)) if !path.starts_with(['/', '~']) => {
            let found = std::fs::canonicalize(&path).ok();
            found.and_then(|path| Some(path.to_str()?.to_string())).unwrap_or(repo)
        }
        Ok(_) | Err(_) => repo,
    }
}

fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print::json(value);
    Ok(())
}

fn print_line(text: &str) -> Result<(), Failure> {
    print::line(text);
    Ok(())
}

async fn list(rest: &Rest, json: bool) -> Result<(), Failure> {
    if json {
        return print_line(&rest.raw("/tasks").await?);
    }
    let tasks: Vec<Task> = rest.list("/tasks").await?;
    show::table(&tasks);
    Ok(())
}

async fn one(rest: &Rest, id: Uuid, json: bool) -> Result<(), Failure> {
    if json {
        return print_line(&rest.raw(&format!("/tasks/{id}")).await?);
    }
    show::details(&rest.task(id).await?);
    Ok(())
}

async fn logs(rest: &Rest, id: Uuid, follow: bool, mut renderer: Renderer) -> Result<(), Failure> {
    if follow {
        return wait(rest, id, Some(renderer)).await.map(drop);
    }
    rest.read_output(id, |text| print::out(&renderer.take(text))).await?;
    print::out(&renderer.rest());
    Ok(())
}

/// Follows a task to its end; shows its output as it is wanted, if it is. Says why its work was not delivered, if so.
async fn wait(rest: &Rest, id: Uuid, mut output: Option<Renderer>) -> Result<(Task, Option<String>), Failure> {
    let mut view = View::new(Manner::Raw, "");
    let mut undelivered = None;
    let mut events = Events::new(rest.events(id, None).await?, None);
    loop {
        match events.next().await.map_err(|error| rest.away(&error))? {
            Some(Event::End(task)) => {
                output.iter_mut().for_each(|renderer| view.show(&Event::Output(renderer.rest())));
                return Ok((*task, undelivered));
            }
            Some(Event::Completion(Completion { success, message, pr_url })) => {
                pr_url.iter().for_each(|url| print::note(&print::tame(url)));
                undelivered = (!success).then(|| format!("the work is done, but was not delivered: {message}"));
            }
            Some(Event::Output(text)) => {
                output.iter_mut().for_each(|renderer| view.show(&Event::Output(renderer.take(&text))));
                if view.unread {
                    return Err(Failure::silent(print::NO_READER));
                }
            }
            Some(_) => {}
            None => {
                let last = events.last.take();
                let response = rest.events(id, last.as_deref()).await?;
                events = Events::new(response, last);
            }
        }
    }
}

async fn interrupt(rest: &Rest, id: Uuid, force: bool) -> Result<(), Failure> {
    rest.interrupt(id, !force).await.map_err(|error| Failure::from(error).with_code(FAILED))?;
    print::note("the task is told to end; `makima task show` tells when it has");
    Ok(())
}
