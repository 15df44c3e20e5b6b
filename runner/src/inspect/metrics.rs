//! What was counted and how things stand, as Prometheus reads it.

use std::fmt::{Display, Write as _};
use std::path::Path;

use makima_core::Counters;
use rustix::process::{Resource, getrlimit};

use super::Told;
use super::disk::Disk;
use super::status::Identity;
use crate::executor::proc_memory;

/// The type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All of it, as a page of Prometheus' text format.
#[must_use]
pub fn page(home: &Path, who: &Identity, told: &Told) -> String {
    let mut page = Page::default();
    page.one("makima_start_time_seconds", "gauge", "When the daemon started, in Unix time.", seconds(who.since));
    let version = crate::service::VERSION;
    page.family("makima_build_info", "gauge", "The program's version.", [(label("version", version), 1_u64)]);
    of_the_core(&mut page, told);
    of_the_driver(&mut page, told);
    of_the_process(&mut page, home);
    page.0
}

fn of_the_core(page: &mut Page, told: &Told) {
    let report = &told.report;
    page.one("makima_link_up", "gauge", "Whether the session with the server is open.", u64::from(report.link.live));
    let help = "Attempts to connect that failed since the last good session.";
    page.one("makima_link_failures", "gauge", help, report.link.failures);
    let statuses = report.statuses.iter().map(|(status, count)| (label("status", status), *count as u64));
    page.family("makima_tasks", "gauge", "Tasks that the daemon knows, by status.", statuses);
    page.one("makima_tasks_unended", "gauge", "Tasks that have not ended.", report.unended);
    page.one("makima_tasks_untold", "gauge", "Tasks whose end the server is not known to know.", report.untold);
    page.one("makima_slots", "gauge", "Tasks that may run at once.", report.max_tasks);
    page.one("makima_slots_busy", "gauge", "Tasks that hold a slot.", report.busy);
    let help = "Reports to the server that are not known to have got there.";
    page.one("makima_outbox_reports", "gauge", help, report.outbox);
    for ((name, count), help) in report.counters.all().into_iter().zip(Counters::help()) {
        page.one(&format!("makima_{name}_total"), "counter", help.trim(), count);
    }
}

fn of_the_driver(page: &mut Page, told: &Told) {
    let (meters, journal) = (&told.meters, &told.journal);
    page.one("makima_steps_total", "counter", "Steps of the core.", meters.steps);
    let help = "Whether the server's newest word on the key was a refusal.";
    page.one("makima_link_key_is_refused", "gauge", help, u64::from(meters.key_refused));
    let answers = meters.answers.iter();
    let answers = answers
        .map(|((work, outcome), count)| (format!("{},{}", label("work", work), label("outcome", outcome)), *count));
    page.family("makima_work_total", "counter", "Work that the executor has answered, by outcome.", answers);
    let took = meters.took.iter().map(|(work, took)| (label("work", work), took.as_secs_f64()));
    let help = "How long work took, all of a kind together.";
    page.family("makima_work_seconds_total", "counter", help, took);
    page.one("makima_journal_flushes_total", "counter", "Flushes of the journal.", journal.flushes);
    page.one("makima_journal_flushed_record", "gauge", "The newest record that outlasts anything.", journal.flushed);
    let trouble = u64::from(journal.trouble.is_some());
    page.one("makima_journal_is_stuck", "gauge", "Whether the journal cannot be written.", trouble);
    page.one("makima_journal_held_effects", "gauge", "Effects that wait for the journal.", told.held);
    let (written, dropped) = crate::logging::counts();
    page.one("makima_log_lines_total", "counter", "Lines written to the daemon's log.", written);
    page.one("makima_log_lines_dropped_total", "counter", "Lines of the daemon's log that were lost.", dropped);
}

fn of_the_process(page: &mut Page, home: &Path) {
    let disk = Disk::of(home);
    if let Some(free) = disk.free_bytes {
        page.one("makima_disk_free_bytes", "gauge", "Bytes that are free where the home lies.", free);
    }
    page.one("makima_journal_bytes", "gauge", "Bytes of the journal on the disk.", disk.journal_bytes);
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The one that this is read with is one of them.
        page.one("process_open_fds", "gauge", "Descriptors that are open.", open.count().saturating_sub(1));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.one("process_max_fds", "gauge", "Descriptors that may be open.", most);
    }
    if let Some(bytes) = proc_memory("self") {
        page.one("process_resident_memory_bytes", "gauge", "Memory that is in use.", bytes);
    }
}

fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

/// A label as it stands between the braces.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("{name}=\"{value}\"")
}

/// A page that is being written.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help, [(String::new(), value)]);
    }

    /// All values of one name, with their labels.
    fn family<T: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, T)>,
    ) {
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_help_text_of_its_own() {
        let (names, help) = (Counters::default().all(), Counters::help());
        assert_eq!(names.len(), help.len());
        for ((name, _), help) in names.iter().zip(help) {
            assert!(help.trim().len() > 10 && help.trim().ends_with('.'), "{name}: {help:?}");
        }
    }

    #[test]
    fn what_means_something_to_prometheus_is_escaped() {
        let mut page = Page::default();
        page.family("x", "gauge", "a \\ b\nc", [(label("l", "\"\\\n"), 1)]);
        assert_eq!(page.0, "# HELP x a \\\\ b\\nc\n# TYPE x gauge\nx{l=\"\\\"\\\\\\n\"} 1\n");
    }
}
