//! `makima run`: a plan, run by an agent in a worktree of a repository, followed to its end.

use std::io::Read as _;
use std::path::Path;

use console::style;
use makima_core::policy::task_name;
use makima_core::protocol::SpawnTask;
use uuid::Uuid;

use super::args::{OnComplete, RunArgs};
use super::asker::is_somebody_there;
use super::batch;
use super::follow::{Manner, View};
use super::host::Host;
use super::print;
use super::repo::Repo;
use super::work::{Order, Work};
use crate::config::{self, ConfigFile, Flags};
use crate::events::Completion;
use crate::report::{FAILED, Failure, INTERRUPTED};
use crate::rest::Task;

pub(super) async fn run(args: RunArgs) -> Result<(), Failure> {
    if let Some(path) = &args.tasks {
        return batch::run(&args, path).await;
    }
    let home = config::home_path()?;
    let manner = Manner::of(args.json, args.raw);
    let file = settings(&home, args.agent.flags(), args.portable, manner)?;
    config::agent(&file)?;
    let plan = read_plan(&args.plan, args.plan_file.as_deref())?;
    let repo = Repo::find(args.repo.as_deref(), args.base.as_deref())?;
    let local = repo.local.is_some();
    let action = args.on_complete.unwrap_or(if local { OnComplete::Branch } else { OnComplete::None });
    fits(action, &repo)?;
    let task = SpawnTask {
        task_name: task_name(args.name.as_deref().unwrap_or_default(), &plan),
        is_orchestrator: args.orchestrate,
        repo_url: Some(repo.url.clone()),
        base_branch: repo.base.clone(),
        completion_action: Some(action.as_str().to_string()),
        target_branch: if action == OnComplete::Pr { repo.branch() } else { None },
        ..SpawnTask::new(Uuid::now_v7(), plan)
    };
    let mut work = Work::new(&home, &file, Some(&repo), Order::New(task), manner)?;
    let mut host = None;
    let result = match work.run(&mut host).await {
        Ok(task) => conclude(&work, &task, Some(&repo), &home, action),
        Err(failure) => Err(failure),
    };
    if let Some(Host::Owner(owner)) = host {
        work.leave(*owner).await;
    }
    result
}

/// The settings in the home, behind what was written on the command line; whoever sits at a terminal and sees all of it can
/// be asked.
pub(super) fn settings(home: &Path, flags: Flags<'_>, portable: bool, manner: Manner) -> Result<ConfigFile, Failure> {
    let mut file = ConfigFile::read(home)?;
    file.portable |= portable;
    file.overrule(flags)?;
    file.settle_permissions(manner == Manner::Plain && is_somebody_there())?;
    Ok(file)
}

/// Whether the work can go where it is to go.
pub(super) fn fits(action: OnComplete, repo: &Repo) -> Result<(), Failure> {
    if matches!(action, OnComplete::Branch | OnComplete::Merge) && repo.local.is_none() {
        let action = action.as_str();
        return Err(Failure::unusable(format!("--on-complete {action} needs a repository on this machine"))
            .hint("use --on-complete none: the work is kept here, and at the end it is told where"));
    }
    if action == OnComplete::Branch { repo.takes_branches() } else { Ok(()) }
}

/// Tells how it ended, and what to do now.
pub(super) fn conclude(
    work: &Work<'_>,
    task: &Task,
    repo: Option<&Repo>,
    home: &Path,
    action: OnComplete,
) -> Result<(), Failure> {
    let view = &work.view;
    let success = task.success == Some(true);
    if view.manner() == Manner::Plain {
        let elapsed = view.elapsed();
        let status = print::tame(&task.status);
        let shown = if success { style(status).green() } else { style(status).red() };
        print::note(&format!("{elapsed} {}", shown.bold().for_stderr()));
        match &view.completion {
            Some(Completion { success: true, message, pr_url })
                if matches!(action, OnComplete::Merge | OnComplete::Pr) =>
            {
                print::note(&print::tame(message));
                pr_url.iter().for_each(|url| print::note(&print::tame(url)));
            }
            Some(_) | None => tell_work(view, task, repo, home),
        }
    }
    let error = task.error.as_deref().unwrap_or("the task failed");
    match (success, work.is_asked()) {
        (_, true) => Err(Failure::silent(INTERRUPTED)),
        (true, false) if view.completion.as_ref().is_some_and(|completion| !completion.success) => {
            let why = view.completion.as_ref().map(|completion| print::tame(&completion.message)).unwrap_or_default();
            Err(Failure::failed(format!("the work is done, but was not delivered: {why}")))
        }
        (true, false) => Ok(()),
        (false, false) if view.manner() == Manner::Json => Err(Failure::silent(FAILED)),
        (false, false) => Err(Failure::failed(print::tame(error))),
    }
}

/// Branch, files and lines changed, how to look at it, how to merge it.
fn tell_work(view: &View, task: &Task, repo: Option<&Repo>, home: &Path) {
    let worktree = home.join("worktrees").join(task.id.to_string());
    let Some(committed) = &view.committed else {
        if view.unchanged {
            print::note("no changes");
        } else if worktree.exists() {
            print::note(&format!("nothing was committed; what there is lies in {}", shown(&worktree)));
        }
        return;
    };
    let here = repo.and_then(|repo| Some((repo, repo.local.as_ref()?)));
    match (&task.branch, &view.completion, here) {
        (Some(branch), Some(Completion { success: true, .. }), Some((repo, local))) => {
            let branch = print::tame(branch);
            let at = if Path::new(".").canonicalize().ok().as_ref() == Some(local) {
                String::new()
            } else {
                format!("-C {} ", shown(local))
            };
            print::note(&format!("branch   {}", style(&branch).bold().for_stderr()));
            if let Some(stat) = repo.shortstat(&branch) {
                print::note(&format!("changes  {stat}"));
            }
            if repo.bare {
                print::note(&format!("look     git {at}log -p {branch}"));
                print::note(&format!("take     git fetch {} {branch}", shown(local)));
            } else {
                print::note(&format!("look     git {at}log -p ..{branch}"));
                print::note(&format!("merge    git {at}merge {branch}"));
            }
        }
        _ => {
            print::note(&print::tame(committed));
            print::note(&format!("look     git -C {} log -p", shown(&worktree)));
            print::note(&format!("take     git fetch {} HEAD", shown(&worktree)));
        }
    }
}

/// A path in a command that people copy.
fn shown(path: &Path) -> String {
    print::word(&print::tame(&path.to_string_lossy()))
}

/// The plan from the command line, from stdin or from a file.
pub(super) fn read_plan(words: &[String], file: Option<&Path>) -> Result<String, Failure> {
    let plan = match (file, words) {
        (Some(file), _) => std::fs::read_to_string(file)
            .map_err(|error| Failure::unusable(format!("the plan in {} cannot be read: {error}", file.display())))?,
        (None, [dash]) if dash == "-" => {
            let mut plan = String::new();
            std::io::stdin()
                .read_to_string(&mut plan)
                .map_err(|error| Failure::unusable(format!("the plan on stdin cannot be read: {error}")))?;
            plan
        }
        (None, words) => words.join(" "),
    };
    if plan.trim().is_empty() {
        return Err(Failure::unusable("the plan is empty").hint("write what the agent is to do"));
    }
    Ok(plan)
}
