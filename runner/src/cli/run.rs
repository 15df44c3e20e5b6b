//! `makima run`: a plan, run by an agent in a worktree of a repository, followed to its end.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use console::style;
use makima_core::input::Stop;
use makima_core::policy::{counted, task_name};
use makima_core::protocol::SpawnTask;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::args::{OnComplete, RunArgs};
use super::follow::{Manner, View};
use super::host::{Host, Owner};
use super::print;
use super::repo::Repo;
use super::signals::{Asked, Signals};
use crate::config::{self, ConfigFile};
use crate::edge;
use crate::events::{Event, Events};
use crate::report::{FAILED, Failure, INTERRUPTED};
use crate::rest::{RestError, Task};
use crate::roots;

/// Times that a server which went away is looked for again.
const RECOVERIES: u32 = 20;

/// Between the last look at whether anybody is left to be served and the end.
const LINGER: Duration = Duration::from_millis(50);

pub(super) async fn run(args: RunArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let file = ConfigFile::read(&home)?;
    config::agent(args.agent.as_deref(), &file)?;
    let plan = read_plan(&args.plan, args.plan_file.as_deref())?;
    let repo = Repo::find(args.repo.as_deref(), args.base.as_deref())?;
    let local = repo.local.is_some();
    let action = args.on_complete.unwrap_or(if local { OnComplete::Branch } else { OnComplete::None });
    if action == OnComplete::Branch {
        if !local {
            return Err(Failure::unusable("--on-complete branch needs a repository on this machine")
                .hint("use --on-complete none: the work is kept, and `makima task show` tells where"));
        }
        repo.takes_branches()?;
    }
    let task = SpawnTask {
        task_name: task_name(args.name.as_deref().unwrap_or_default(), &plan),
        repo_url: Some(repo.url.clone()),
        base_branch: repo.base.clone(),
        completion_action: Some(action.as_str().to_string()),
        ..top_level(plan)
    };
    let manner = match (args.json, args.raw) {
        (true, _) => Manner::Json,
        (_, true) => Manner::Raw,
        _ => Manner::Plain,
    };
    let mut follower = Follower { home: &home, file: &file, task, signals: Signals::new()?, asked: 0, last: None };
    follower.run(&repo, manner).await
}

/// Follows one task to its end, whoever does the work.
struct Follower<'a> {
    home: &'a Path,
    file: &'a ConfigFile,
    task: SpawnTask,
    signals: Signals,
    /// How often a person has asked for the end.
    asked: u32,
    /// The newest event that was seen.
    last: Option<String>,
}

/// How following came to its end.
enum Followed {
    /// The task has ended.
    Ended(Box<Task>),
    /// The server went away.
    Lost(String),
}

impl Follower<'_> {
    async fn run(&mut self, repo: &Repo, manner: Manner) -> Result<(), Failure> {
        let mut given = false;
        let mut view = None;
        for _ in 0..RECOVERIES {
            let host = Host::find(self.home, self.file).await?;
            if let Some(local) = &repo.local {
                roots::allow(self.home, local).map_err(|error| Failure::unusable(error.to_string()))?;
            }
            match host.rest().create(&self.task).await {
                Ok(()) => {}
                // Its server is about to end: another look finds another, or none.
                Err(RestError::Away { .. }) => {
                    sleep(LINGER).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let view = view.get_or_insert_with(|| View::new(manner, &self.task.task_name));
            if !given {
                given = true;
                self.introduce(repo, view);
            }
            match self.follow(&host, view).await {
                Followed::Ended(task) => {
                    view.end();
                    let result = conclude(view, &task, repo, self.home, self.asked > 0);
                    if let Host::Owner(owner) = host {
                        self.serve_the_others(*owner).await;
                    }
                    return result;
                }
                Followed::Lost(why) => view.note(&format!("{why}; looking for it again")),
            }
        }
        Err(Failure::failed("the server went away and does not come back")
            .hint(format!("the task goes on if its daemon runs: makima task show {}", self.task.task_id)))
    }

    fn introduce(&self, repo: &Repo, view: &mut View) {
        if view.manner() == Manner::Raw {
            return;
        }
        let base = repo.base.as_deref().map(|base| format!(" at {}", base.get(..10).unwrap_or(base)));
        let name = print::tame(&self.task.task_name);
        view.note(&format!(
            "{} on {}{}",
            style(name).bold().for_stderr(),
            print::tame(&edge::shown(&repo.url)),
            base.unwrap_or_default()
        ));
        view.note(&format!("task {}", self.task.task_id));
        if repo.uncommitted > 0 {
            let files = counted(repo.uncommitted as u64, "file");
            view.note(&format!("{files} with uncommitted changes: left out, and left as they are"));
        }
    }

    async fn follow(&mut self, host: &Host, view: &mut View) -> Followed {
        let id = self.task.task_id;
        let response = match host.rest().events(id, self.last.as_deref()).await {
            Ok(response) => response,
            Err(error) => return Followed::Lost(error.to_string()),
        };
        let mut events = Events::new(response, self.last.take());
        let followed = loop {
            let next = tokio::select! {
                next = events.next() => next,
                asked = self.signals.next() => {
                    self.interrupt(asked, host, view).await;
                    continue;
                }
            };
            match next {
                Ok(Some(event)) => {
                    view.show(&event);
                    if let Event::End(task) = event {
                        break Followed::Ended(task);
                    }
                    if view.unread && self.asked == 0 {
                        view.note("nobody reads the output any more");
                        self.interrupt(Asked::Interrupt, host, view).await;
                    }
                }
                Ok(None) => break Followed::Lost("the server ended the stream".to_string()),
                Err(error) => break Followed::Lost(host.rest().away(&error).to_string()),
            }
        };
        self.last = events.last;
        followed
    }

    /// A person wants it to end: this task, and no other. The first time it is asked, the second time killed.
    async fn interrupt(&mut self, asked: Asked, host: &Host, view: &mut View) {
        self.asked = self.asked.saturating_add(1);
        let graceful = self.asked == 1;
        if let (Asked::Terminate, Host::Owner(owner)) = (asked, host) {
            view.note("ending: what has been done is committed");
            owner.stop(if graceful { Stop::Graceful } else { Stop::Forced });
        }
        view.note(if graceful {
            "interrupting the task; what it has done is committed. Ctrl-C again kills it"
        } else {
            "killing the task; what it has done is committed"
        });
        // A task that has just ended says so by itself.
        let _ = host.rest().interrupt(self.task.task_id, graceful).await;
    }

    /// Others may have given their plans to this process: it stays until the last of them is served.
    async fn serve_the_others(&mut self, owner: Owner) {
        if let Some(mut activity) = owner.activity() {
            let mut told = false;
            let mut asked = 0;
            loop {
                let (tasks, followers) = {
                    let now = activity.borrow_and_update();
                    (now.unfinished, now.followers)
                };
                if tasks == 0 && followers == 0 {
                    // Somebody may be between two requests.
                    if timeout(LINGER, activity.changed()).await.is_err() {
                        break;
                    }
                    continue;
                }
                if !told && tasks > 0 {
                    told = true;
                    let others =
                        if tasks == 1 { "1 other task is".to_string() } else { format!("{tasks} other tasks are") };
                    print::note(&format!("{others} still under way here; waiting"));
                }
                tokio::select! {
                    changed = activity.changed() => if changed.is_err() { break },
                    _ = self.signals.next() => {
                        asked += 1;
                        if asked == 1 {
                            print::note("Ctrl-C again interrupts the other tasks too");
                        } else {
                            owner.stop(if asked == 2 { Stop::Graceful } else { Stop::Forced });
                        }
                    }
                }
            }
        }
        owner.end().await;
    }
}

/// Tells how it ended, and what to do now.
fn conclude(view: &View, task: &Task, repo: &Repo, home: &Path, interrupted: bool) -> Result<(), Failure> {
    let success = task.success == Some(true);
    if view.manner() == Manner::Plain {
        let elapsed = view.elapsed();
        let status = print::tame(&task.status);
        let shown = if success { style(status).green() } else { style(status).red() };
        print::note(&format!("{elapsed} {}", shown.bold().for_stderr()));
        tell_work(view, task, repo, home);
    }
    let error = task.error.as_deref().unwrap_or("the task failed");
    match (success, interrupted) {
        (_, true) => Err(Failure::silent(INTERRUPTED)),
        (true, false) if view.completion.as_ref().is_some_and(|(done, _)| !done) => {
            let why = view.completion.as_ref().map(|(_, why)| print::tame(why)).unwrap_or_default();
            Err(Failure::failed(format!("the work is done, but the branch was not delivered: {why}")))
        }
        (true, false) => Ok(()),
        (false, false) if view.manner() == Manner::Json => Err(Failure::silent(FAILED)),
        (false, false) => Err(Failure::failed(print::tame(error))),
    }
}

/// Branch, files and lines changed, how to look at it, how to merge it.
fn tell_work(view: &View, task: &Task, repo: &Repo, home: &Path) {
    let worktree = home.join("worktrees").join(task.id.to_string());
    let Some(committed) = &view.committed else {
        if view.unchanged {
            print::note("no changes");
        } else if worktree.exists() {
            print::note(&format!("nothing was committed; what there is lies in {}", shown(&worktree)));
        }
        return;
    };
    match (&task.branch, &view.completion, &repo.local) {
        (Some(branch), Some((true, _)), Some(local)) => {
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
            print::note(&format!("look     git {at}log -p ..{branch}"));
            print::note(&format!("merge    git {at}merge {branch}"));
        }
        _ => {
            print::note(&print::tame(committed));
            print::note(&format!("look     git -C {} log -p", shown(&worktree)));
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

/// A new task at the top for this plan, and nothing more said of it.
pub(super) fn top_level(plan: String) -> SpawnTask {
    SpawnTask {
        task_id: Uuid::now_v7(),
        task_name: String::new(),
        plan,
        repo_url: None,
        base_branch: None,
        target_branch: None,
        parent_task_id: None,
        depth: 0,
        is_orchestrator: false,
        target_repo_path: None,
        completion_action: None,
        continue_from_task_id: None,
        copy_files: None,
    }
}
