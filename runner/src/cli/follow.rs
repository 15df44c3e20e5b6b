//! Shows a task while it runs: live on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use console::{Term, style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::print;
use super::render::Renderer;
use makima_core::agent::OF_THE_AGENT;
use makima_core::needs;

use crate::events::{Completion, Event};
use crate::rest::Task;

/// How a task is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// For people.
    Plain,
    /// The agent's output and nothing else, but for what goes wrong.
    Raw,
    /// A line of JSON for each event.
    Json,
}

impl Manner {
    pub(super) const fn of(json: bool, raw: bool) -> Self {
        match (json, raw) {
            (true, _) => Self::Json,
            (false, true) => Self::Raw,
            (false, false) => Self::Plain,
        }
    }
}

/// Bytes of a line that are held back until it is whole.
const TAIL: usize = 16 << 10;

/// Statuses of a task that has ended.
const ENDS: [&str; 3] = ["done", "failed", "interrupted"];

/// Shows one task.
pub(super) struct View {
    manner: Manner,
    renderer: Renderer,
    bar: Option<ProgressBar>,
    begun: Instant,
    status: String,
    /// The output so far ended in the middle of a line.
    open_line: bool,
    /// That line, where the status line would wipe it from the screen: it is shown when it is whole, and as a part
    /// of the status line until then.
    tail: Option<String>,
    /// Whoever read stdout has left.
    pub(super) unread: bool,
    /// The newest step that says what the work came to.
    pub(super) committed: Option<String>,
    /// It was said that there is nothing to commit.
    pub(super) unchanged: bool,
    /// How the completion action went.
    pub(super) completion: Option<Completion>,
}

impl View {
    pub(super) fn new(manner: Manner, name: &str) -> Self {
        let live = manner == Manner::Plain && std::io::stderr().is_terminal();
        let bar = live.then(|| bar(name));
        Self {
            manner,
            renderer: Renderer::new(manner != Manner::Plain),
            bar,
            begun: Instant::now(),
            status: String::new(),
            open_line: false,
            tail: (live && std::io::stdout().is_terminal()).then(String::new),
            unread: false,
            committed: None,
            unchanged: false,
            completion: None,
        }
    }

    /// Shows one event.
    pub(super) fn show(&mut self, event: &Event) {
        if let Event::Progress(summary) = event
            && summary.starts_with("committed ")
        {
            self.committed = Some(summary.clone());
        }
        if matches!(event, Event::Progress(summary) if summary == "no changes") {
            self.unchanged = true;
        }
        if let Event::Completion(completion) = event {
            self.completion = Some(completion.clone());
        }
        match (self.manner, event) {
            // Made of strings and numbers: it can always be written.
            (Manner::Json, event) => {
                let line = serde_json::to_string(&Line::from(event)).unwrap_or_default();
                self.print(&format!("{line}\n"));
            }
            (Manner::Raw, Event::Output(text)) => self.output(text),
            (Manner::Plain, Event::Output(text)) => {
                let text = self.renderer.take(text);
                self.output(&text);
            }
            (Manner::Raw, _) => {}
            (Manner::Plain, Event::Status(status)) => self.status(status),
            // What is shown of its output already.
            (Manner::Plain, Event::Progress(summary)) if self.bar.is_none() && is_of_the_agent(summary) => {}
            // What waits for a person is not to vanish from the status line.
            (Manner::Plain, Event::Progress(summary)) if needs::read(summary).is_some_and(|what| what.is_some()) => {
                let line = style(print::tame(summary)).yellow().for_stderr().to_string();
                self.note(&line);
            }
            (Manner::Plain, Event::Progress(summary)) => self.step(summary),
            (Manner::Plain, Event::Completion(_) | Event::End(_)) => {}
        }
    }

    fn output(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let Some(tail) = &mut self.tail else {
            self.open_line = !text.ends_with('\n');
            return self.print(text);
        };
        tail.push_str(text);
        let whole = if tail.len() > TAIL { tail.len() } else { tail.rfind('\n').map_or(0, |at| at + 1) };
        let rest = tail.split_off(whole);
        let lines = std::mem::replace(tail, rest);
        if let Some(bar) = &self.bar {
            bar.set_message(message(&self.status, tail));
        }
        if !lines.is_empty() {
            self.print(&lines);
        }
    }

    fn print(&mut self, text: &str) {
        if self.unread {
            return;
        }
        self.unread = !match &self.bar {
            Some(bar) => bar.suspend(|| print::is_read(text)),
            None => print::is_read(text),
        };
    }

    fn status(&mut self, status: &str) {
        self.status = print::tame(status);
        match &self.bar {
            Some(bar) => bar.set_message(self.status.clone()),
            // How it ended is told with all that belongs to it.
            None if ENDS.contains(&status) => {}
            None => self.note(&format!("{} {}", self.elapsed(), self.status)),
        }
    }

    fn step(&mut self, summary: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(message(&self.status, summary)),
            None => self.note(&format!("{} {}", self.elapsed(), print::tame(summary))),
        }
    }

    /// Somebody is about to type something, or has: meanwhile no status line is drawn over it.
    pub(super) fn hush(&self, hushed: bool) {
        let Some(bar) = &self.bar else { return };
        if hushed {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            // It ends in the middle of one.
            let _ = Term::stderr().clear_line();
        } else {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// A line to stderr, not into the middle of the agent's.
    pub(super) fn note(&mut self, text: &str) {
        if self.manner == Manner::Json {
            return print::note(text);
        }
        let both = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let line = if both && std::mem::take(&mut self.open_line) { format!("\n{text}") } else { text.to_string() };
        match &self.bar {
            Some(bar) => bar.suspend(|| print::note(&line)),
            None => print::note(&line),
        }
    }

    /// The status line goes; what was printed stays.
    pub(super) fn end(&mut self) {
        let rest = self.renderer.rest();
        self.output(&rest);
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(tail) = self.tail.take().filter(|tail| !tail.is_empty()) {
            self.open_line = true;
            self.print(&tail);
        }
        if std::mem::take(&mut self.open_line) && std::io::stdout().is_terminal() && self.manner != Manner::Json {
            self.print("\n");
        }
    }

    pub(super) fn elapsed(&self) -> String {
        let text = format!("[{:>6.1}s]", self.begun.elapsed().as_secs_f64());
        style(text).dim().for_stderr().to_string()
    }

    pub(super) const fn manner(&self) -> Manner {
        self.manner
    }
}

/// Whether a step tells of something that the agent itself has said.
fn is_of_the_agent(summary: &str) -> bool {
    OF_THE_AGENT.iter().any(|begin| summary.starts_with(begin))
}

/// What stands in the status line.
fn message(status: &str, more: &str) -> String {
    if more.is_empty() { status.to_string() } else { format!("{status} · {}", print::tame(more)) }
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_prefix(print::tame(name));
    // The template is a constant: it can be read.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:.bold} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// An event as a line of JSON. The fields keep their order.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Line<'a> {
    Output { text: &'a str },
    Status { status: &'a str },
    Progress { summary: &'a str },
    Completion { success: bool, message: &'a str, pr_url: Option<&'a str> },
    End { task: &'a Task },
}

impl<'a> From<&'a Event> for Line<'a> {
    fn from(event: &'a Event) -> Self {
        match event {
            Event::Output(text) => Self::Output { text },
            Event::Status(status) => Self::Status { status },
            Event::Progress(summary) => Self::Progress { summary },
            Event::Completion(Completion { success, message, pr_url }) => {
                Self::Completion { success: *success, message, pr_url: pr_url.as_deref() }
            }
            Event::End(task) => Self::End { task },
        }
    }
}
