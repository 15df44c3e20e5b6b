//! `makima doctor`: whether everything is in order here, and what to do where it is not. Nothing is changed.

mod agents;
mod machine;
mod place;
mod server;

use std::future::Future;
use std::time::Duration;

use console::style;
use makima_core::policy::counted;
use serde::Serialize;

use super::args::DoctorArgs;
use super::configuration::is_set;
use super::print;
use crate::config::{self, ConfigFile};
use crate::report::{FAILED, Failure};

/// For one group of checks. They are made side by side, so this bounds all of it.
const PATIENCE: Duration = Duration::from_secs(25);

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// In order.
    Ok,
    /// It works, and a person should know.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    check: &'static str,
    state: State,
    detail: String,
    help: Option<String>,
}

impl Check {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, state: State::Ok, detail: detail.into(), help: None }
    }

    fn warn(check: &'static str, detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check, state: State::Warn, detail: detail.into(), help: Some(help.into()) }
    }

    fn fail(check: &'static str, detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check, state: State::Fail, detail: detail.into(), help: Some(help.into()) }
    }

    /// What a failure of the command line says.
    fn of(check: &'static str, failure: Failure) -> Self {
        Self { check, state: State::Fail, detail: failure.message, help: failure.hint }
    }
}

pub(super) async fn doctor(args: DoctorArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let (file, read) = match ConfigFile::read(&home) {
        Ok(file) => (file, Check::ok("configuration", place::configuration(&home))),
        // What can be looked at without it is looked at all the same.
        Err(failure) => (ConfigFile::default(), Check::of("configuration", failure)),
    };
    let portable = file.portable || is_set("MAKIMA_PORTABLE");
    let (place, for_journal) = (home.clone(), home.clone());
    let for_sandbox = file.clone();
    let (git, system, place, journal, server, agents, sandbox) = tokio::join!(
        within("git", async { vec![machine::git(&file).await] }),
        within("processes", blocking("processes", move || machine::processes(portable))),
        within("home", blocking("home", move || place::place(&place))),
        within("journal", blocking("journal", move || vec![place::journal(&for_journal)])),
        within("server", server::server(&home, &args.server, &file)),
        within("agents", agents::agents(&file)),
        within("sandbox", blocking("sandbox", move || vec![machine::sandbox(&for_sandbox)])),
    );
    let checks: Vec<Check> = [git, place, vec![read], journal, system, sandbox, agents, server].concat();
    tell(&checks, args.json)
}

/// These checks, or that they took too long.
async fn within(check: &'static str, checks: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    tokio::time::timeout(PATIENCE, checks).await.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        vec![Check::fail(check, format!("no answer within {seconds} s"), "is the disk or the machine overloaded?")]
    })
}

/// Checks that wait for the disk.
async fn blocking(check: &'static str, look: impl FnOnce() -> Vec<Check> + Send + 'static) -> Vec<Check> {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|error| vec![Check::fail(check, error.to_string(), "this is a bug of makima's")])
}

fn tell(checks: &[Check], as_json: bool) -> Result<(), Failure> {
    let count = |state| checks.iter().filter(|check| check.state == state).count() as u64;
    let (wrong, doubtful) = (count(State::Fail), count(State::Warn));
    if as_json {
        print::json(&checks);
    } else {
        checks.iter().for_each(|check| print::line(&shown(check)));
        print::line(&match (wrong, doubtful) {
            (0, 0) => "everything is in order".to_owned(),
            (0, doubtful) => format!("nothing is wrong; {}", counted(doubtful, "warning")),
            (1, doubtful) => format!("1 thing is wrong; {}", counted(doubtful, "warning")),
            (wrong, doubtful) => format!("{wrong} things are wrong; {}", counted(doubtful, "warning")),
        });
    }
    if wrong == 0 { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

/// Mark, name, what was found; below it what to do.
fn shown(check: &Check) -> String {
    let mark = match check.state {
        State::Ok => style("ok  ").green(),
        State::Warn => style("warn").yellow(),
        State::Fail => style("FAIL").red().bold(),
    };
    // Errors of configurations point at their place with lines of their own.
    let lines = |text: &str| text.lines().map(print::tame).collect::<Vec<_>>().join("\n                    ");
    let help = check.help.as_ref().map_or_else(String::new, |help| format!("\n                    → {}", lines(help)));
    format!("{mark}  {:13} {}{help}", check.check, lines(&check.detail))
}
