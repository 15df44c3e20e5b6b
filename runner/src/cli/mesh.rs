//! `makima mesh`: what an agent that leads others does by scripts.

mod wait;

use serde_json::json;
use uuid::Uuid;

use makima_core::protocol::{BranchList, MergeCompleteCheck, MergeStatusResponse};

use super::args::{AskManner, MeshCommand, MeshMerge, SpawnArgs, SubtaskArgs};
use super::render::Renderer;
use super::run::read_plan;
use super::{merge, print, say, show};
use crate::mesh::{Merge, MergeAnswer, Mesh, MeshError, Subtask, Tail};
use crate::report::Failure;

pub(super) async fn mesh(command: MeshCommand) -> Result<(), Failure> {
    let mesh = Mesh::of_environment(|name| std::env::var(name).ok())?;
    match command {
        MeshCommand::Spawn(args) => spawn(&mesh, args).await,
        MeshCommand::List { json } => list(&mesh, json).await,
        MeshCommand::Status(args) => status(&mesh, &args).await,
        MeshCommand::Output { id, last, raw, json } => output(&mesh, &id, last, raw, json).await,
        MeshCommand::Message { id, message, json } => {
            let message = say::words(&message)?;
            let id = mesh.resolve(&id).await?;
            done(mesh.message(id, &message).await, json, "the agent is told")
        }
        MeshCommand::Pause(args) => {
            let id = mesh.resolve(&args.id).await?;
            done(mesh.hold(id, true).await, args.json, "the subtask is told to stand still")
        }
        MeshCommand::Resume(args) => {
            let id = mesh.resolve(&args.id).await?;
            done(mesh.hold(id, false).await, args.json, "the subtask is told to go on")
        }
        MeshCommand::Interrupt { subtask, force } => {
            let id = mesh.resolve(&subtask.id).await?;
            done(mesh.interrupt(id, !force).await, subtask.json, "the subtask is told to end")
        }
        MeshCommand::Wait(args) => wait::wait(&mesh, &args).await,
        MeshCommand::Branches(manner) => {
            let answer = ask::<BranchList>(&mesh, Merge::Branches, manner).await?;
            merge::tell_branches(&answer);
            Ok(())
        }
        MeshCommand::Merge { step } => merge_step(&mesh, step).await,
    }
}

/// What was told to a subtask is told; what comes of it is seen later.
fn done(answer: Result<String, MeshError>, json: bool, note: &str) -> Result<(), Failure> {
    let answer = answer?;
    if json {
        print::line(&answer);
    } else {
        print::note(note);
    }
    Ok(())
}

async fn spawn(mesh: &Mesh, args: SpawnArgs) -> Result<(), Failure> {
    let subtask = Subtask {
        task_id: Uuid::now_v7(),
        task_name: args.name,
        plan: read_plan(&args.plan, None)?,
        after: mesh.resolve_all(&args.after).await?,
        base_branch: args.base,
        copy_files: args.copies,
        is_orchestrator: args.leads,
    };
    let id = mesh.spawn(&subtask).await?;
    if args.json {
        print::json(&json!({ "id": id }));
    } else {
        print::line(&id.to_string());
    }
    Ok(())
}

async fn list(mesh: &Mesh, json: bool) -> Result<(), Failure> {
    let answer = mesh.list().await?;
    if json {
        print::line(&answer.text);
    } else {
        show::table(&answer.body);
    }
    Ok(())
}

async fn status(mesh: &Mesh, args: &SubtaskArgs) -> Result<(), Failure> {
    let answer = mesh.status(mesh.resolve(&args.id).await?).await?;
    if args.json {
        print::line(&answer.text);
    } else {
        show::details(&answer.body);
    }
    Ok(())
}

async fn output(mesh: &Mesh, name: &str, last: Option<usize>, raw: bool, json: bool) -> Result<(), Failure> {
    let id = mesh.resolve(name).await?;
    let mut renderer = Renderer::new(raw);
    if last.is_none() && !json {
        mesh.output(id, |text| print::out(&renderer.take(text))).await?;
        print::out(&renderer.rest());
        return Ok(());
    }
    let mut tail = Tail::new(last.unwrap_or(usize::MAX), WHOLE);
    mesh.output(id, |text| tail.take(&renderer.take(text))).await?;
    tail.take(&renderer.rest());
    let (text, cut) = tail.end();
    if json {
        print::json(&json!({ "id": id, "output": text, "cut": cut }));
    } else {
        print::out(&text);
    }
    Ok(())
}

/// The most output that is held at once, in bytes.
const WHOLE: usize = 16 << 20;

async fn ask<T: MergeAnswer>(mesh: &Mesh, step: Merge<'_>, manner: AskManner) -> Result<merge::Answer<T>, Failure> {
    let answer = mesh.merge::<T>(step, manner.patience).await?;
    if manner.json {
        print::line(&answer.text);
    }
    Ok(merge::Answer { body: answer.body, shown: manner.json })
}

async fn merge_step(mesh: &Mesh, step: MeshMerge) -> Result<(), Failure> {
    match step {
        MeshMerge::Start { branch, manner } => {
            let branch = mesh.branch(&branch, manner.patience).await?;
            merge::tell_step(&ask(mesh, Merge::Start(&branch), manner).await?)?;
            if !manner.json {
                print::note("commit it, if there is something to commit: makima mesh merge commit");
            }
            Ok(())
        }
        MeshMerge::Status(manner) => {
            merge::tell_status(&ask::<MergeStatusResponse>(mesh, Merge::Status, manner).await?);
            Ok(())
        }
        MeshMerge::Resolve { file, side, manner } => {
            merge::tell_step(&ask(mesh, Merge::Resolve(&file, side.as_str()), manner).await?)
        }
        MeshMerge::Commit { message, manner } => {
            merge::tell_step(&ask(mesh, Merge::Commit(message.as_deref()), manner).await?)
        }
        MeshMerge::Abort(manner) => merge::tell_step(&ask(mesh, Merge::Abort, manner).await?),
        MeshMerge::Skip { id, reason, manner } => {
            let id = mesh.resolve(&id).await?;
            merge::tell_step(&ask(mesh, Merge::Skip(id, &reason), manner).await?)
        }
        MeshMerge::Check(manner) => merge::tell_check(&ask::<MergeCompleteCheck>(mesh, Merge::Check, manner).await?),
    }
}
