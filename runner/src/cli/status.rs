//! `makima status`, `makima metrics` and `makima version`.

use console::style;

use super::args::{MetricsArgs, StatusArgs, VersionArgs};
use super::host::running;
use super::print;
use crate::config;
use crate::home::is_held;
use crate::inspect::socket;
use crate::inspect::status::{Link, Running, Status, Task};
use crate::report::{Failure, NOT_RUNNING};
use crate::service::VERSION;

pub(super) async fn status(args: &StatusArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let mut status = Status::ask(&home).await;
    status.server = running(&home).await.map(|file| file.url);
    if args.json {
        print::json(&status);
    } else {
        print::out(&shown(&status));
    }
    if status.daemon.is_some() { Ok(()) } else { Err(Failure::silent(NOT_RUNNING)) }
}

pub(super) async fn metrics(_: &MetricsArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    if !is_held(&home) {
        let what = format!("no daemon runs on {}", home.display());
        return Err(Failure::failed(what).with_code(NOT_RUNNING).hint("MAKIMA_HOME names another folder"));
    }
    let page = socket::get(&home, "/metrics").await;
    let page = page.map_err(|why| Failure::failed(format!("the daemon does not tell its metrics: {why}")))?;
    print::out(&page);
    Ok(())
}

/// A line a fact, aligned, then the tasks.
fn shown(status: &Status) -> String {
    let mut facts: Vec<(&str, String)> = vec![("home", status.home.clone())];
    match &status.daemon {
        Some(daemon) => of_the_daemon(&mut facts, daemon, status.link.as_ref()),
        None => facts.push(("daemon", style("does not run").yellow().to_string())),
    }
    if let Some(server) = &status.server {
        facts.push(("server", server.clone()));
    }
    if let Some(outbox @ 1..) = status.outbox {
        facts.push(("outbox", format!("{outbox} not known to be at the server")));
    }
    facts.push(("disk", on_disk(status)));
    if let Some(trouble) = status.journal.as_ref().and_then(|journal| journal.trouble.as_ref()) {
        facts.push(("journal", bad(&format!("cannot be written: {trouble}"))));
    }
    if let Some(dropped @ 1..) = status.log_lines_dropped {
        facts.push(("log", bad(&format!("{dropped} lines were lost"))));
    }
    let mut text: String = facts.into_iter().map(|(name, fact)| format!("{name:8} {fact}\n")).collect();
    if !status.tasks.is_empty() {
        text.push_str(&format!("\n{:36}  {:11}  {:>8}  {:>9}  NAME\n", "TASK", "STATUS", "PROCESS", "UNTOLD"));
        status.tasks.iter().for_each(|task| text.push_str(&line(task)));
    }
    if status.more_tasks > 0 {
        text.push_str(&format!("and {} more\n", status.more_tasks));
    }
    text
}

fn of_the_daemon(facts: &mut Vec<(&str, String)>, daemon: &Running, link: Option<&Link>) {
    let Running { pid, version, since, answers, stopping, busy, max_tasks, .. } = daemon;
    let since = since.map_or_else(String::new, |since| format!(", since {}", time(since)));
    facts.push(("daemon", format!("process {pid}, version {}{since}", print::tame(version))));
    if !answers {
        facts.push(("", bad("it does not answer; this is what it has written down")));
    }
    if *stopping {
        facts.push(("", style("it was told to end").yellow().to_string()));
    }
    let live = link.is_some_and(|link| link.live) || (link.is_none() && daemon.link == "connected");
    let state = if live { style(&daemon.link).green() } else { style(&daemon.link).yellow() };
    let mut words = format!("{state} to {}", print::tame(&daemon.server));
    if let Some(link) = link {
        words.push_str(&link.way.as_ref().map_or_else(String::new, |way| format!(" by {}", print::tame(way))));
        words.push_str(&link.since.map_or_else(String::new, |since| format!(", since {}", time(since))));
        if link.failures > 0 {
            words.push_str(&format!(", {} failed", link.failures));
        }
        if let Some(wait) = link.again_in {
            words.push_str(&format!(", next attempt within {} s", wait.div_ceil(1_000)));
        }
    }
    facts.push(("link", words));
    if link.is_some_and(|link| link.key_refused) {
        facts.push(("key", bad("the server refuses it")));
    }
    if let Some(trouble) = &daemon.trouble {
        facts.push(("trouble", bad(trouble)));
    }
    if *answers {
        facts.push(("slots", format!("{busy} of {max_tasks} in use")));
    }
}

fn on_disk(status: &Status) -> String {
    let disk = &status.disk;
    let free = disk.free_bytes.map_or_else(String::new, |free| format!("{} free, ", size(free)));
    format!("{free}journal {}, output of these tasks {}", size(disk.journal_bytes), size(disk.log_bytes))
}

fn line(task: &Task) -> String {
    let pid = task.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let (status, name) = (print::tame(&task.told.status), print::tame(&task.told.name));
    let waiting = match task.told.messages {
        0 => String::new(),
        waiting => format!("  ({waiting} messages wait for it)"),
    };
    let needs = task.told.needs.as_ref().map_or_else(String::new, |what| {
        let line = format!("{:36}  needs a person: {}", "", print::tame(what));
        style(line).yellow().to_string() + "\n"
    });
    format!("{:36}  {status:11}  {pid:>8}  {:>9}  {name}{waiting}\n{needs}", task.told.id, size(task.lag))
}

fn bad(text: &str) -> String {
    style(print::tame(text)).red().to_string()
}

/// The wall clock to the second, in UTC.
fn time(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| unix.to_string(), |time| format!("{time:.0}"))
}

pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, "B");
    for next in UNITS {
        if whole < 1_024 {
            break;
        }
        (whole, rest, unit) = (whole / 1_024, whole % 1_024, next);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{} {unit}", rest * 10 / 1_024) }
}

pub(super) fn version(args: &VersionArgs) -> Result<(), Failure> {
    if args.json {
        print::json(&serde_json::json!({ "version": VERSION }));
    } else {
        print::line(&format!("makima {VERSION}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_as_people_read_them() {
        let sizes = [0, 1_023, 1_024, 1_536, 10 << 20, (1 << 30) + (1 << 29), u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10.0 MiB", "1.5 GiB", "16777215.9 TiB"]);
    }
}
