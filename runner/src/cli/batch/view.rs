//! Shows many tasks while they run: a line each on a terminal, plain lines elsewhere; a table at the end.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::follow::{Line, Manner};
use crate::cli::print;
use crate::events::{Completion, Event};
use crate::rest::Task;

/// Bytes of a line that are held back until it is whole.
const TAIL: usize = 16 << 10;

/// Characters of a name that a column has room for.
const COLUMN: usize = 32;

/// Tasks that have a line of their own on a terminal; what others do is told in lines that stay.
const BARS: usize = 40;

/// One task, as it is shown.
struct Shown {
    name: String,
    bar: Option<ProgressBar>,
    status: String,
    /// Output that has not come to the end of its line.
    tail: String,
    since: Option<Instant>,
    lasted: Duration,
}

/// Shows them.
pub(super) struct View {
    manner: Manner,
    bars: Option<MultiProgress>,
    begun: Instant,
    tasks: Vec<Shown>,
    unread: bool,
}

/// An event of a task as a line of JSON.
#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    #[serde(flatten)]
    line: Line<'a>,
}

impl View {
    pub(super) fn new(manner: Manner, names: Vec<String>) -> Self {
        let live = manner == Manner::Plain && std::io::stderr().is_terminal() && names.len() <= BARS;
        let bars = live.then(MultiProgress::new);
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().min(COLUMN);
        let shown = |name: String| Shown {
            bar: bars.as_ref().map(|bars| bars.add(bar(&name, width))),
            name,
            status: "pending".to_owned(),
            tail: String::new(),
            since: None,
            lasted: Duration::ZERO,
        };
        let tasks = names.into_iter().map(shown).collect();
        Self { manner, bars, begun: Instant::now(), tasks, unread: false }
    }

    pub(super) const fn manner(&self) -> Manner {
        self.manner
    }

    /// Whether whoever read stdout has left.
    pub(super) const fn is_unread(&self) -> bool {
        self.unread
    }

    /// Shows one event of the task at this place.
    pub(super) fn show(&mut self, at: usize, event: &Event) {
        let Some(task) = self.tasks.get_mut(at) else { return };
        if let Event::Status(status) = event {
            task.turned(status);
        }
        if self.manner == Manner::Json {
            // Made of strings and numbers: it can always be written.
            let line = serde_json::to_string(&Named { name: &task.name, line: Line::from(event) });
            return self.print(&format!("{}\n", line.unwrap_or_default()));
        }
        let name = print::tame(&task.name);
        match event {
            Event::Output(text) => {
                let lines = task.lines(text, false);
                self.print(&lines);
            }
            Event::Status(status) => self.step(at, &name, &print::tame(status), None),
            Event::Progress(summary) => {
                let status = task.status.clone();
                self.step(at, &name, &status, Some(summary));
            }
            Event::Completion(Completion { success: false, message, .. }) => {
                self.note(&format!("{name}: not delivered: {}", print::tame(message)))
            }
            Event::Completion(Completion { success: true, .. }) => {}
            Event::End(end) => {
                let lines = task.lines("", true);
                if let Some(bar) = task.bar.take() {
                    bar.finish_and_clear();
                }
                self.print(&lines);
                let why = end.error.as_deref().map(|error| format!(": {}", print::tame(error))).unwrap_or_default();
                self.note(&format!("{} {name} {}{why}", self.elapsed(), coloured(end)));
            }
        }
    }

    fn step(&self, at: usize, name: &str, status: &str, summary: Option<&str>) {
        let more = summary.map(print::tame);
        match self.tasks.get(at).and_then(|task| task.bar.as_ref()) {
            Some(bar) => bar.set_message(more.map_or_else(|| status.to_owned(), |more| format!("{status} · {more}"))),
            // How it ended is told with all that belongs to it.
            None if more.is_none() && matches!(status, "done" | "failed" | "interrupted") => {}
            None => self.note(&format!("{} {name} {}", self.elapsed(), more.as_deref().unwrap_or(status))),
        }
    }

    /// A line to stderr.
    pub(super) fn note(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| print::note(text)),
            None => print::note(text),
        }
    }

    fn print(&mut self, text: &str) {
        if self.unread || text.is_empty() {
            return;
        }
        self.unread = !match &self.bars {
            Some(bars) => bars.suspend(|| print::is_read(text)),
            None => print::is_read(text),
        };
    }

    /// The status lines go; what was printed stays.
    pub(super) fn end(&mut self) {
        for at in 0..self.tasks.len() {
            let Some(task) = self.tasks.get_mut(at) else { continue };
            let lines = task.lines("", true);
            if let Some(bar) = task.bar.take() {
                bar.finish_and_clear();
            }
            self.print(&lines);
        }
        self.bars = None;
    }

    /// How each task ended, and whether its work was delivered: as a table, or as a line of JSON.
    pub(super) fn summary(&self, ends: &[(&Task, Option<&Completion>)]) {
        if self.manner == Manner::Json {
            let tasks: Vec<&Task> = ends.iter().map(|(task, _)| *task).collect();
            return print::json(&serde_json::json!({ "type": "summary", "tasks": tasks }));
        }
        let width = ends.iter().map(|(task, _)| task.name.chars().count()).max().unwrap_or_default().clamp(4, COLUMN);
        print::note(&format!("\n{:width$}  {:11}  {:>8}  RESULT", "TASK", "STATUS", "TIME"));
        for (task, completion) in ends {
            let lasted = self.tasks.iter().find(|shown| shown.name == task.name).map(|shown| shown.lasted);
            let lasted = lasted
                .filter(|lasted| !lasted.is_zero())
                .map_or_else(String::new, |lasted| format!("{:.1}s", lasted.as_secs_f64()));
            let result = match (completion, &task.error, &task.branch) {
                (Some(Completion { success: false, message, .. }), _, _) => format!("not delivered: {message}"),
                (Some(Completion { pr_url: Some(url), .. }), None, _) => url.clone(),
                (_, Some(error), _) => error.clone(),
                (_, None, Some(branch)) => branch.clone(),
                (_, None, None) => String::new(),
            };
            let name = makima_core::policy::shorten(&task.name, COLUMN);
            let (name, status) = (print::tame(&name), print::tame(&task.status));
            print::note(format!("{name:width$}  {status:11}  {lasted:>8}  {}", print::tame(&result)).trim_end());
        }
    }

    fn elapsed(&self) -> String {
        let text = format!("[{:>6.1}s]", self.begun.elapsed().as_secs_f64());
        style(text).dim().for_stderr().to_string()
    }
}

impl Shown {
    fn turned(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        if status == "preparing" {
            self.since = Some(Instant::now());
        }
        self.lasted = self.since.map(|since| since.elapsed()).unwrap_or_default();
    }

    /// The whole lines that there are by now, each with the task's name before it; at its end the rest, too.
    fn lines(&mut self, text: &str, end: bool) -> String {
        self.tail.push_str(text);
        let whole =
            if end || self.tail.len() > TAIL { self.tail.len() } else { self.tail.rfind('\n').map_or(0, |at| at + 1) };
        let rest = self.tail.split_off(whole);
        let lines = std::mem::replace(&mut self.tail, rest);
        lines.lines().map(|line| format!("{} | {line}\n", print::tame(&self.name))).collect()
    }
}

fn coloured(task: &Task) -> String {
    let status = print::tame(&task.status);
    let shown = if task.success == Some(true) { style(status).green() } else { style(status).red() };
    shown.bold().for_stderr().to_string()
}

fn bar(name: &str, width: usize) -> ProgressBar {
    let name = print::tame(&makima_core::policy::shorten(name, COLUMN));
    let bar = ProgressBar::new_spinner().with_prefix(format!("{name:width$}")).with_message("pending");
    // The template is a constant: it can be read.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:.bold} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
