//! `makima task continue`: a task that goes on where another is, followed to its end.

use uuid::Uuid;

use super::args::{ContinueArgs, OnComplete, ServerArgs, TaskName};
use super::follow::Manner;
use super::host::Host;
use super::repo::Repo;
use super::run::{conclude, read_plan, settings};
use super::signals::Signals;
use super::task::{connect, resolve};
use super::work::{Order, Work, leave};
use crate::config;
use crate::report::Failure;
use crate::rest::{Rest, Task};

pub(super) async fn go_on(args: ContinueArgs, server: &ServerArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let manner = Manner::of(args.json, args.raw);
    let file = settings(&home, args.agent.flags(), args.portable, manner)?;
    let message = if args.message.is_empty() { None } else { Some(read_plan(&args.message, None)?) };
    let host = if server.server.is_some() {
        Host::Elsewhere(connect(server).await?)
    } else {
        config::agent(&file)?;
        Host::find(&home, &file).await?
    };
    let old = match find(host.rest(), &args.id).await {
        Ok(old) => old,
        Err(failure) => {
            if let Host::Owner(owner) = host {
                leave(*owner, &mut Signals::new()?, false).await;
            }
            return Err(failure);
        }
    };
    // What cannot be looked at here is not told of.
    let repo = old.repo_url.as_deref().and_then(|url| Repo::find(Some(url), None).ok());
    let order = Order::GoOn { id: Uuid::now_v7(), with: old.id, name: old.name.clone(), message };
    let mut host = Some(host);
    let mut work = Work::new(&home, &file, repo.as_ref(), order, manner)?;
    let result = match work.run(&mut host).await {
        Ok(task) => {
            let action = OnComplete::read(old.completion_action.as_deref());
            conclude(&work, &task, repo.as_ref(), &home, action)
        }
        Err(failure) => Err(failure),
    };
    if let Some(Host::Owner(owner)) = host {
        work.leave(*owner).await;
    }
    result
}

async fn find(rest: &Rest, name: &TaskName) -> Result<Task, Failure> {
    Ok(rest.task(resolve(rest, name).await?).await?)
}
