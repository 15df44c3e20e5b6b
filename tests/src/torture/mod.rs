//! The night: a real daemon, a real server, real supervisors, git and agents; graphs of tasks one after the other, and a
//! fault every few seconds; at its end everything has to be there, once.

mod check;
mod disk;
mod graph;
mod ledger;
mod merging;
mod night;
mod output;
mod people;
mod plan;
mod report;
mod user;
mod work;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use makima_tests::real::{Failure, Fleet, portable, wait_for};

pub(crate) use disk::{Disks, enter, remove};
use graph::Graph;
use ledger::Ledger;
use night::Night;
use people::People;
use plan::{Kind, Plan};
pub(crate) use report::Counts;
use user::{Branches, Desk};
use work::Work;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Options {
    /// For how long faults come, and graphs are begun.
    pub(crate) time: Duration,
    /// Tasks of a graph, its orchestrator among them.
    pub(crate) tasks: usize,
    pub(crate) seed: u64,
    /// Where it happens: a folder that is not there yet.
    pub(crate) root: PathBuf,
    /// The binary, and one of another build.
    pub(crate) builds: [PathBuf; 2],
    /// File systems can be mounted.
    pub(crate) disks: bool,
}

/// What is to be found of the graphs that are over.
#[derive(Default)]
struct Over {
    expected: String,
    branches: Branches,
    ids: BTreeSet<String>,
}

/// Runs it. Gives its numbers, and what is wrong.
///
/// # Errors
/// It could not be begun.
pub(crate) fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<(Counts, Vec<String>), Failure> {
    fs::create_dir_all(&options.root)?;
    let root = options.root.canonicalize()?;
    let disks = options.disks.then(|| Disks::mount(&root, options.time.as_secs() / 60)).transpose()?;
    fs::create_dir_all(root.join("desk"))?;
    let desk = Desk::lay_out(&root.join("desk"))?;
    let ledger = Ledger::open(&root)?;
    let fleet = Fleet::start(&root, options.builds.clone())?;
    let people = People { api: fleet.api, ledger: &ledger, root: &root };
    let mut night = Night::new(fleet, &ledger, disks.as_ref(), progress);
    let until = Instant::now() + options.time;
    let over = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let over = work(people, options, until, &desk);
            over.map_err(|why| ledger.wrong(why.to_string())).unwrap_or_default()
        });
        if let Err(why) = through(&mut night, &ledger, options, until, || work.is_finished()) {
            ledger.wrong(format!("the night cannot go on: {why}"));
            ledger.ends();
        }
        work.join()
    });
    match over {
        Ok(over) => at_the_end(&mut night, &ledger, &desk, &root, &over)?,
        Err(_) => ledger.wrong("who asks for tasks has panicked".to_owned()),
    }
    if let Some(disks) = &disks {
        ledger.note(&format!("taken at the end: {:?}", disks.taken()));
    }
    Ok((ledger.counts(), ledger.all_wrong()))
}

/// Fault after fault, and then nothing until all graphs are over.
fn through(
    night: &mut Night<'_>,
    ledger: &Ledger,
    options: &Options,
    until: Instant,
    is_over: impl Fn() -> bool,
) -> Result<(), Failure> {
    let can_be = |kind: &Kind| {
        // Whose supervisor was killed is not always ended in the portable way.
        (options.disks || !kind.is_of_a_disk()) && (*kind != Kind::Supervisor || !portable())
    };
    for mut fault in Plan::of(options.seed) {
        fault.kinds.retain(can_be);
        if Instant::now() >= until || is_over() {
            break;
        }
        night.suffer(&fault)?;
    }
    ledger.calms();
    while !is_over() {
        night.nap(Duration::from_millis(200))?;
    }
    Ok(())
}

/// Graph after graph, until it is time.
fn work(people: People<'_>, options: &Options, until: Instant, desk: &Desk) -> Result<Over, Failure> {
    let mut over = Over::default();
    for number in 0.. {
        if number > 0 && Instant::now() >= until {
            break;
        }
        let graph = Graph::draw(options.seed, number, options.tasks);
        people.ledger.note(&format!("graph {number}: {:#?}", graph.jobs));
        let mut work = Work::begin(people, &graph)?;
        work.finish()?;
        over.expected += &work::expected(&work);
        over.branches.add(work.branches()?);
        over.ids.extend(work.ids());
        desk.test(&people.root.join("tested"), &over.expected)?;
        people.ledger.note(&format!("graph {number} is over"));
    }
    Ok(over)
}

/// Whether everything is as it has to be, once everybody has come to rest.
fn at_the_end(night: &mut Night<'_>, ledger: &Ledger, desk: &Desk, root: &Path, over: &Over) -> Result<(), Failure> {
    let fleet = &mut night.fleet;
    if wait_for("the last processes", || fleet.others().ok().filter(Vec::is_empty)).is_err() {
        for left in fleet.others()? {
            ledger.wrong(format!("left running: {} {}", left.pid, left.command));
        }
    }
    for what in fleet.proxy.told_in_several_ways() {
        ledger.wrong(what);
    }
    let tasks = fleet.api.tasks()?;
    let known: BTreeSet<String> = tasks.iter().filter_map(|task| task["id"].as_str()).map(str::to_owned).collect();
    if known != over.ids {
        ledger.wrong(format!("tasks: {:?}", known.symmetric_difference(&over.ids).collect::<Vec<_>>()));
    }
    for task in tasks.iter().filter(|task| task["endedAt"].is_null()) {
        ledger.wrong(format!("it has not ended: {task}"));
    }
    if let Err(why) = fleet.end() {
        ledger.wrong(why.to_string());
    }
    if let Err(why) = fleet.journal() {
        ledger.wrong(why);
    }
    for what in desk.wrong(&over.branches)?.into_iter().chain(desk.fsck(&root.join("makima/repos"))?) {
        ledger.wrong(what);
    }
    Ok(())
}
