//! `makima run --tasks`: the tasks of a file, all followed to their ends; whatever becomes of the server meanwhile.

mod file;
mod follow;
mod view;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use file::fuzz;

use std::path::Path;
use std::time::Duration;

use makima_core::input::Stop;
use makima_core::protocol::SpawnTask;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use uuid::Uuid;

use super::args::{OnComplete, RunArgs};
use super::follow::Manner;
use super::host::Host;
use super::repo::Repo;
use super::run::fits;
use super::signals::{Asked, Signals};
use super::work::{AGAIN, ALONE, LAST_WORDS, LONGEST_PAUSE, LOOK, PAUSE, RECOVERIES, ended, leave};
use crate::config::{self, ConfigFile};
use crate::events::{Completion, Event};
use crate::home::is_held;
use crate::report::{FAILED, Failure, INTERRUPTED};
use crate::rest::{Rest, RestError, Task};
use crate::roots;
use file::Planned;
use follow::{Followers, Heard};
use view::View;

/// One task of the file.
#[derive(Debug)]
struct Job {
    task: SpawnTask,
    after: Vec<Uuid>,
    repo: Repo,
    /// The newest of its events that was seen.
    last: Option<String>,
    /// How the completion action went.
    completion: Option<Completion>,
    end: Option<Box<Task>>,
}

/// Runs the tasks of a file.
///
/// # Errors
/// The file or a repository cannot be used: then nothing was started. Or a task failed, or a person wanted the end.
pub(super) async fn run(args: &RunArgs, path: &Path) -> Result<(), Failure> {
    let home = config::home_path()?;
    // Nobody is asked: several may have a question at once.
    let manner = if args.json { Manner::Json } else { Manner::Plain };
    let mut file = ConfigFile::read(&home)?;
    file.portable |= args.portable;
    file.overrule(args.agent.flags())?;
    file.settle_permissions(false)?;
    config::agent(&file)?;
    let jobs = jobs(args, path)?;
    let names = jobs.iter().map(|job| job.task.task_name.clone()).collect();
    let mut batch = Batch {
        home: &home,
        file: &file,
        jobs,
        view: View::new(manner, names),
        signals: Signals::new()?,
        asked: 0,
        unheard: None,
        lost: false,
    };
    let mut host = None;
    let result = batch.run(&mut host).await;
    batch.view.end();
    let told = match result {
        Ok(()) => batch.conclude(),
        Err(failure) => Err(failure),
    };
    if let Some(Host::Owner(owner)) = host {
        leave(*owner, &mut batch.signals, batch.lost).await;
    }
    told
}

/// What the file names, with the repositories looked at: all of it, before anything is started.
fn jobs(args: &RunArgs, path: &Path) -> Result<Vec<Job>, Failure> {
    let planned = file::read(path)?;
    let ids: Vec<Uuid> = planned.iter().map(|_| Uuid::now_v7()).collect();
    planned.into_iter().zip(&ids).map(|(planned, id)| job(args, path, planned, *id, &ids)).collect()
}

fn job(args: &RunArgs, path: &Path, planned: Planned, id: Uuid, ids: &[Uuid]) -> Result<Job, Failure> {
    let Planned { name, plan, repo, base, on_complete, orchestrate, after, line } = planned;
    let placed = |failure: Failure| {
        let message = format!("{}, line {line}: `{name}`: {}", path.display(), failure.message);
        Failure { message, ..failure }
    };
    let repo = Repo::find(repo.as_deref().or(args.repo.as_deref()), base.as_deref()).map_err(placed)?;
    let usual = if repo.local.is_some() { OnComplete::Branch } else { OnComplete::None };
    let action = on_complete.or(args.on_complete).unwrap_or(usual);
    fits(action, &repo).map_err(placed)?;
    let task = SpawnTask {
        task_name: name,
        is_orchestrator: orchestrate,
        repo_url: Some(repo.url.clone()),
        base_branch: repo.base.clone(),
        completion_action: Some(action.as_str().to_string()),
        target_branch: if action == OnComplete::Pr { repo.branch() } else { None },
        ..SpawnTask::new(id, plan)
    };
    let after = after.iter().filter_map(|at| ids.get(*at).copied()).collect();
    Ok(Job { task, after, repo, last: None, completion: None, end: None })
}

struct Batch<'a> {
    home: &'a Path,
    file: &'a ConfigFile,
    jobs: Vec<Job>,
    view: View,
    signals: Signals,
    /// How often a person has asked for the end.
    asked: u32,
    /// The server did not take it when it was asked for the end of these; gracefully or not.
    unheard: Option<(bool, Vec<usize>)>,
    /// The server is gone for good.
    lost: bool,
}

/// How following came to its end.
enum Followed {
    /// All tasks have ended.
    Ended,
    /// Our daemon has ended, and nobody tells how the tasks did.
    Untold,
    /// The server or the daemon went away; whether anything was heard before.
    Lost { why: String, heard: bool },
}

impl Batch<'_> {
    async fn run(&mut self, host: &mut Option<Host>) -> Result<(), Failure> {
        let mut tries = 0;
        while tries < RECOVERIES {
            let host = self.host(host).await?;
            match self.create(host.rest()).await {
                Ok(()) => match self.follow(host).await {
                    Followed::Ended => return Ok(()),
                    Followed::Untold => {
                        self.lost = true;
                        let code = if self.asked > 0 { INTERRUPTED } else { FAILED };
                        return Err(Failure::failed("the tasks were ended, but their ends could not be told")
                            .with_code(code)
                            .hint(format!("is there room on the disk of {}?", self.home.display())));
                    }
                    Followed::Lost { why, heard } => {
                        tries = if heard { 0 } else { tries };
                        self.view.note(&format!("{why}; looking for it again"));
                    }
                },
                Err(RestError::Away { .. }) => {}
                Err(error) => {
                    // Half of a file is not what was asked for.
                    self.abandon(host.rest()).await;
                    return Err(error.into());
                }
            }
            tokio::select! {
                () = sleep(LONGEST_PAUSE.min(PAUSE * (1 << tries.min(10)))) => tries += 1,
                _ = self.signals.next() => {
                    self.lost = true;
                    return Err(Failure::silent(INTERRUPTED));
                }
            }
        }
        self.lost = true;
        Err(Failure::failed("the server went away and does not come back")
            .hint("the tasks go on if their daemon runs: see `makima task list`"))
    }

    /// Who does the work: whoever did before, if that is us; else whoever is found.
    async fn host<'h>(&mut self, host: &'h mut Option<Host>) -> Result<&'h mut Host, Failure> {
        if !matches!(host, Some(Host::Owner(_))) {
            let found = tokio::select! {
                found = Host::find(self.home, self.file) => found?,
                _ = self.signals.next() => {
                    self.view.note("nothing is followed any more");
                    return Err(Failure::silent(INTERRUPTED));
                }
            };
            *host = Some(found);
            for local in self.jobs.iter().filter_map(|job| job.repo.local.as_ref()) {
                roots::allow(self.home, local).map_err(|error| Failure::unusable(error.to_string()))?;
            }
        }
        host.as_mut().ok_or_else(|| Failure::unusable("nobody does the work"))
    }

    /// Asks for every task, those first that others come after. Twice is as good as once.
    async fn create(&self, rest: &Rest) -> Result<(), RestError> {
        for job in self.jobs.iter().filter(|job| job.end.is_none()) {
            rest.create(&job.task, &job.after).await?;
        }
        Ok(())
    }

    async fn abandon(&self, rest: &Rest) {
        for job in self.jobs.iter().rev() {
            // Most of them are not known there.
            let _ = rest.interrupt(job.task.task_id, true).await;
        }
    }

    async fn follow(&mut self, host: &mut Host) -> Followed {
        let rest = host.rest().clone();
        let open = self.jobs.iter().enumerate().filter(|(_, job)| job.end.is_none());
        let (followers, mut heard) =
            Followers::start(&rest, open.map(|(at, job)| (at, job.task.task_id, job.last.clone())));
        let followed = self.hear(host, &rest, &mut heard).await;
        followers.end();
        followed
    }

    async fn hear(&mut self, host: &mut Host, rest: &Rest, events: &mut mpsc::Receiver<Heard>) -> Followed {
        let (mut again, mut until, mut heard) = (interval(AGAIN), None, false);
        let (mut look, mut alone, is_guest) = (interval(LOOK), 0, matches!(host, Host::Guest(_)));
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.jobs.iter().any(|job| job.end.is_none()) {
            let next = tokio::select! {
                next = events.recv() => next,
                asked = self.signals.next() => {
                    self.asked(asked, host).await;
                    continue;
                }
                _ = again.tick(), if self.unheard.is_some() => {
                    self.interrupt(rest).await;
                    continue;
                }
                () = ended(host), if until.is_none() => {
                    until = Some(Instant::now() + LAST_WORDS);
                    continue;
                }
                _ = look.tick(), if is_guest => {
                    alone = if is_held(self.home) { 0 } else { alone + 1 };
                    if alone < ALONE {
                        continue;
                    }
                    return Followed::Lost { why: "the daemon that worked on it has ended".to_owned(), heard };
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return Followed::Untold,
            };
            match next {
                Some(Heard::Event { at, last, event }) => {
                    heard = true;
                    self.take(at, last, *event);
                    if self.view.is_unread() && self.asked == 0 {
                        self.view.note("nobody reads the output any more");
                        self.asked(Asked::Interrupt, host).await;
                    }
                }
                Some(Heard::Lost(why)) => return Followed::Lost { why, heard },
                None => return Followed::Lost { why: "the server ended the streams".to_owned(), heard },
            }
        }
        Followed::Ended
    }

    fn take(&mut self, at: usize, last: Option<String>, event: Event) {
        self.view.show(at, &event);
        let Some(job) = self.jobs.get_mut(at) else { return };
        job.last = last;
        match event {
            Event::Completion(completion) => job.completion = Some(completion),
            Event::End(task) => job.end = Some(task),
            Event::Output(_) | Event::Status(_) | Event::Progress(_) => {}
        }
    }

    /// A person wants all of it to end. The first time the agents are asked, the second time killed.
    async fn asked(&mut self, asked: Asked, host: &Host) {
        self.asked = self.asked.saturating_add(1);
        let graceful = self.asked == 1;
        if let (Asked::Terminate, Host::Owner(owner)) = (asked, host) {
            self.view.note("ending all that runs here: what has been done is committed");
            // By this way alone: asked for by another as well, the agents would be killed.
            return owner.stop(if graceful { Stop::Graceful } else { Stop::Forced });
        }
        self.view.note(if graceful {
            "interrupting the tasks; what they have done is committed. Ctrl-C again kills them"
        } else {
            "killing the tasks; what they have done is committed"
        });
        let open = self.jobs.iter().enumerate().filter(|(_, job)| job.end.is_none()).map(|(at, _)| at);
        // The last ones first: nothing is to begin because something before it has ended.
        self.unheard = Some((graceful, open.rev().collect()));
        self.interrupt(host.rest()).await;
    }

    /// Has the server tell the daemons. A task that has just ended says so by itself.
    async fn interrupt(&mut self, rest: &Rest) {
        let Some((graceful, open)) = self.unheard.take() else { return };
        let mut left = Vec::new();
        for at in open {
            let Some(job) = self.jobs.get(at) else { continue };
            let answer = rest.interrupt(job.task.task_id, graceful).await;
            if answer.is_err_and(|error| error.is_troubled()) {
                left.push(at);
            }
        }
        self.unheard = (!left.is_empty()).then_some((graceful, left));
    }

    /// Tells how it all ended.
    fn conclude(&self) -> Result<(), Failure> {
        let ends: Vec<_> =
            self.jobs.iter().filter_map(|job| Some((job.end.as_deref()?, job.completion.as_ref()))).collect();
        self.view.summary(&ends);
        let bad = ends.iter().filter(|(task, completion)| {
            task.success != Some(true) || completion.is_some_and(|completion| !completion.success)
        });
        match (bad.count(), self.asked) {
            (_, 1..) => Err(Failure::silent(INTERRUPTED)),
            (0, 0) => Ok(()),
            (_, 0) if self.view.manner() == Manner::Json => Err(Failure::silent(FAILED)),
            (bad, 0) => Err(Failure::failed(format!("{bad} of {} tasks did not end well", self.jobs.len()))),
        }
    }
}

/// Between two attempts to take up a stream that was cut.
const REST: Duration = Duration::from_millis(200);
