//! The kill loop: a real daemon, a real server, real supervisors, git and agents; the daemon is killed again and again, at
//! any moment, half of the time with its link cut, sometimes into another build; and nothing may be lost or doubled.

mod agents;
mod check;
mod output;
mod plan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use check::Asked;
use makima_tests::real::{Failure, Fleet, Line, git, wait_for};
use output::Heard;
use plan::{Kill, Plan};

/// For all tasks to end once nothing is killed any more.
const REST: Duration = Duration::from_secs(180);

/// More faults than this say nothing new.
const FAULTS: usize = 20;

/// A daemon that lives no longer than this was killed while it started.
const STARTING: Duration = Duration::from_millis(80);

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) kills: usize,
    pub(crate) agents: usize,
    pub(crate) seed: u64,
    /// Where it happens: a folder that is not there yet.
    pub(crate) root: PathBuf,
    /// The binary, and one of another build.
    pub(crate) builds: [PathBuf; 2],
    /// A line that comes again is a fault: so it is where the wire says what has arrived.
    pub(crate) exactly_once: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) kills: usize,
    starting: usize,
    cut: usize,
    silent: usize,
    builds: usize,
    servers: usize,
    tasks: usize,
    ended: usize,
    most: usize,
    heard: Heard,
    /// Steps of the journal that were walked through.
    walked: u64,
    pub(crate) faults: Vec<String>,
    seconds: f64,
}

/// Runs it.
///
/// # Errors
/// It could not be run to its end; what is wrong with the tasks stands in the report instead.
pub(crate) fn run(options: &Options, mut progress: impl FnMut(&Report)) -> Result<Report, Failure> {
    let plan = Plan::draw(options.seed, options.kills, options.agents);
    std::fs::create_dir_all(&options.root)?;
    let root = options.root.canonicalize()?;
    repository(&root.join("repository"))?;
    let fleet = Fleet::start(&root, options.builds.clone())?;
    let mut run = Run {
        fleet,
        asked: Vec::new(),
        left: plan.agents,
        report: Report::default(),
        began: Instant::now(),
        well_at: None,
    };
    for kill in &plan.kills {
        // In quick succession there is no time for anything else.
        if kill.after > STARTING {
            run.look()?;
            progress(&run.report);
            run.ask_for(kill.agents)?;
        }
        run.kill(kill)?;
        if run.report.faults.len() >= FAULTS {
            return Ok(run.report);
        }
    }
    run.come_to_rest(&mut progress)?;
    if options.exactly_once && run.report.heard.again > 0 {
        run.report.faults.push(format!("{} lines came twice", run.report.heard.again));
    }
    Ok(run.report)
}

struct Run {
    fleet: Fleet,
    asked: Vec<Asked>,
    /// Agents that nobody has asked for yet.
    left: Vec<agents::Agent>,
    report: Report,
    began: Instant,
    /// When the line is well again.
    well_at: Option<Instant>,
}

impl Run {
    /// So many agents are to be there.
    fn ask_for(&mut self, agents: usize) -> Result<(), Failure> {
        while self.asked.len() - self.report.ended < agents && self.ask()? {}
        self.report.most = self.report.most.max(self.asked.len() - self.report.ended);
        Ok(())
    }

    /// One kill, as it was planned.
    fn kill(&mut self, kill: &Kill) -> Result<(), Failure> {
        let due = self.fleet.started + kill.after;
        if let Some(cut) = kill.cut {
            self.sleep_until(due.checked_sub(cut.before).unwrap_or(due));
            self.fleet.proxy.is(if cut.silent { Line::Silent } else { Line::Cut });
            self.well_at = None;
            self.report.cut += 1;
            self.report.silent += usize::from(cut.silent);
        }
        self.sleep_until(due);
        let lived = self.fleet.started.elapsed();
        self.fleet.kill_daemon()?;
        if kill.server {
            self.fleet.kill_server()?;
            self.fleet.next_server(false)?;
            self.report.servers += 1;
        }
        self.fleet.next_daemon(kill.other)?;
        if let Some(cut) = kill.cut {
            self.well_at = Some(Instant::now() + cut.after);
        }
        self.report.kills += 1;
        self.report.starting += usize::from(lived <= STARTING);
        self.report.builds += usize::from(kill.other);
        Ok(())
    }

    /// Waits, and makes the line well when it is time for that.
    fn sleep_until(&mut self, until: Instant) {
        if let Some(at) = self.well_at.take_if(|at| *at <= until) {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            self.fleet.proxy.is(Line::Well);
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }

    /// Asks for the next task, if there is one.
    fn ask(&mut self) -> Result<bool, Failure> {
        let Some(agent) = self.left.pop() else { return Ok(false) };
        let id =
            uuid::Uuid::from_u128(0x6b69_6c6c_0000_4000_8000_0000_0000_0000 + self.asked.len() as u128).to_string();
        let plan = agent.script(&self.fleet.root.join("marks"));
        self.fleet.api.spawn(&id, &plan, &self.fleet.root.join("repository"))?;
        self.asked.push(Asked { id, agent, is_checked: false });
        self.report.tasks += 1;
        Ok(true)
    }

    /// Checks what has ended.
    fn look(&mut self) -> Result<(), Failure> {
        let tasks = self.fleet.api.tasks()?;
        let ended: BTreeMap<&str, _> = tasks
            .iter()
            .filter(|task| !task["endedAt"].is_null())
            .filter_map(|task| Some((task["id"].as_str()?, task)))
            .collect();
        for asked in self.asked.iter_mut().filter(|asked| !asked.is_checked) {
            let Some(task) = ended.get(asked.id.as_str()) else { continue };
            let heard = check::ended(&self.fleet, asked, task, &mut self.report.faults)?;
            asked.is_checked = true;
            self.report.ended += 1;
            self.report.heard.lines += heard.lines;
            self.report.heard.again += heard.again;
            self.report.heard.torn += heard.torn;
        }
        self.report.seconds = self.began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Nothing is killed any more: every task has to end, and nothing may be left.
    fn come_to_rest(&mut self, progress: &mut impl FnMut(&Report)) -> Result<(), Failure> {
        self.fleet.proxy.is(Line::Well);
        while self.ask()? {}
        let until = Instant::now() + REST;
        while self.report.ended < self.asked.len() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(200));
            self.look()?;
            progress(&self.report);
        }
        let never = self.asked.iter().filter(|asked| !asked.is_checked);
        self.report.faults.extend(never.map(|asked| format!("task {}: it did not end", asked.id)));
        let quiet = wait_for("the last processes", || self.fleet.others().ok().filter(Vec::is_empty));
        if quiet.is_err() {
            let left = self.fleet.others()?.into_iter();
            self.report.faults.extend(left.map(|it| format!("left running: {} {}", it.pid, it.command)));
        }
        self.report.faults.extend(self.fleet.proxy.told_in_several_ways());
        self.fleet.end()?;
        match self.fleet.journal() {
            Ok(walked) => self.report.walked = walked.steps,
            Err(why) => self.report.faults.push(why),
        }
        git(&self.fleet.root.join("repository"), &["fsck", "--strict"])?;
        Ok(())
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kills, starting, cut, silent, builds, servers, tasks, ended, most, heard, walked, faults, seconds } =
            self;
        let Heard { lines, again, torn } = heard;
        write!(
            f,
            "{kills} kills ({starting} while it started, {cut} with the link cut, {silent} of these silently, \
             {builds} into another build, {servers} of the server too); {ended} of {tasks} tasks ended, {most} at once; \
             {lines} lines, and {again} that came again, {torn} in part; {walked} steps walked; {} faults; {seconds:.0} s",
            faults.len()
        )
    }
}

/// The repository that the agents work on.
fn repository(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir(path)?;
    git(path, &["init", "--quiet", "--initial-branch=main"])?;
    for n in 0..20 {
        std::fs::write(path.join(format!("file-{n}")), format!("{n}\n"))?;
    }
    git(path, &["add", "--all"])?;
    git(path, &["-c", "user.name=S", "-c", "user.email=s@example.com", "commit", "--quiet", "-m", "Begin"])?;
    Ok(())
}
