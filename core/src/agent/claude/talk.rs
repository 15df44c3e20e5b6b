//! A talk with Claude Code: what is said to it, and what what it says means for its task.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::asked::{self, Asked};
use super::behind::Behind;
use super::read::{Block, Ended, Line, MessageState, Question, Reply, Retry, Turn, line};
use super::write::{Request, message, refuse, request};
use crate::agent::talk::{Heard, Progress};
use crate::agent::{Answer, Policy, Result, TOO_LONG, head};
use crate::cost;
use crate::limits;
use crate::policy::{counted, cut};
use crate::time::Millis;

/// Where a talk stands. Nothing in it depends on how many turns there are for how many messages: messages are joined, or
/// folded into the turn that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Talk {
    stage: Stage,
    /// It is at work on a turn.
    turn: bool,
    /// So many tools are in use.
    tools: usize,
    /// What runs behind the conversation.
    behind: Behind,
    /// How the last turn went.
    last: Option<Result>,
    /// What the program calls that by which a reply of this turn failed.
    fault: Option<String>,
    /// What it has cost so far, in millionths of a dollar.
    cost: Option<u64>,
    /// Which model people were told that it is.
    model: String,
    /// Questions are people's to answer.
    asks: bool,
    /// Those that wait for an answer.
    asked: Asked,
    /// Until when its user may use no more of the model, in seconds since 1970.
    limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Stage {
    /// It has not said yet that it is ready.
    #[default]
    Opening,
    /// It takes messages.
    Open,
    /// It was asked to break off its turn.
    Breaking,
    /// It was asked to end.
    Closing,
}

/// What our requests are called. Each is made once. The answer to this one is the first that is heard of the program.
pub const INITIALIZE: &str = "makima-initialize";
const INTERRUPT: &str = "makima-interrupt";
const END: &str = "makima-end";

impl Talk {
    /// What it has cost so far, in millionths of a dollar.
    pub(crate) const fn cost(&self) -> Option<u64> {
        self.cost
    }

    /// With an agent under such rules, before a word was said.
    pub(crate) fn new(policy: Policy) -> Self {
        Self { asks: policy == Policy::Ask, ..Self::default() }
    }

    /// It says nothing before it was spoken to; the answer to this tells that it is ready.
    pub(crate) fn opening() -> String {
        request(INITIALIZE, Request::Initialize)
    }

    /// A user's message. Its name makes it be taken up once, however often it is said.
    pub(crate) fn message(text: &str, name: Uuid) -> String {
        message(&guarded(text), &name.to_string())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// How the last turn went, where none runs and nothing runs behind the conversation: that would begin another.
    pub(crate) fn done(&self) -> Option<Result> {
        let runs = self.behind.runs() && !bug!(BackgroundForgotten);
        let returns = self.behind.returns() && !bug!(NobodyReturns);
        let turn = self.turn && !bug!(ResultAllTheSame);
        self.last.clone().filter(|_| self.is_open() && !turn && !runs && !returns)
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_open() && !self.turn
    }

    pub(crate) fn awaits_its_model(&self) -> bool {
        self.stage == Stage::Opening || self.turn && self.tools == 0
    }

    pub(crate) fn has_background(&self) -> bool {
        self.is_at_rest() && self.behind.runs()
    }

    pub(crate) fn returns(&self) -> bool {
        self.is_at_rest() && self.behind.returns()
    }

    pub(crate) fn forget_background(&mut self) {
        self.behind.forget();
    }

    /// Its turn is broken off first, so that what it has said so far stays in the conversation.
    pub(crate) fn break_off(&mut self) -> String {
        if self.is_open() && self.turn {
            self.stage = Stage::Breaking;
            return request(INTERRUPT, Request::Interrupt { with_queued: true });
        }
        self.close()
    }

    pub(crate) fn close(&mut self) -> String {
        self.stage = Stage::Closing;
        request(END, Request::End)
    }

    /// An end in the middle of a turn, or before there was one, is none that it wanted.
    pub(crate) fn ended(&self, how: &str, said: &str) -> Result {
        let said = said.trim();
        let why = || if said.is_empty() { how.to_string() } else { format!("{how}: {said}") };
        self.done().unwrap_or_else(|| Result::Failure(why()))
    }

    pub(crate) fn hear(&mut self, text: &str) -> Vec<Heard> {
        match line(text) {
            Line::Turn(turn) => self.begun(turn),
            Line::Reply(reply) => self.replied(reply),
            Line::Ended(ended) => self.turn_over(&ended),
            Line::TakenUp { message } => of_message(&message, Progress::Seen),
            Line::Message { message, state } => self.message_is(&message, state),
            Line::Retry(retry) => again(&retry),
            Line::Asks(question) => self.asks(question),
            Line::Answered { request, error, .. } => self.answered(&request, error),
            Line::Background { running } => {
                self.behind.are(running);
                Vec::new()
            }
            Line::JobBegun { job, tool, behind } => {
                self.behind.begun(job, tool, behind);
                Vec::new()
            }
            Line::JobEnded { job } => {
                self.behind.ended(&job);
                Vec::new()
            }
            Line::Denied { tool, why } => tell(format!("{tool} was denied: {why}")),
            Line::OtherModel { model, .. } => tell(format!("{model} answers from here on")),
            Line::Unreadable(why) => Vec::from([Heard::Unreadable(why)]),
            Line::Tools(ends) => {
                self.tools = self.tools.saturating_sub(ends.len());
                self.behind.tools_ended(&ends);
                self.asked.tools_ended(&ends);
                Vec::new()
            }
            Line::Wants { request, what } => Vec::from([
                Heard::Say(refuse(&request, &format!("`{what}` is not offered"))),
                Heard::Tell(cut(&format!("Claude Code wants `{what}`, which is not offered"), limits::REASON)),
            ]),
            Line::AsksNoMore { request } => {
                self.asked.withdraw(&request);
                Vec::new()
            }
            Line::Limit { until } => {
                self.limit = until;
                Vec::new()
            }
            Line::Reset | Line::Other(_) => Vec::new(),
        }
    }

    /// What is said about a line of which only the head can be read, where it waits for an answer.
    pub(crate) fn hear_head(&self, text: &str) -> Option<String> {
        let field = |name| head::field(text, name, "request");
        let asks = field("type")?.as_str()? == "control_request" && self.stage != Stage::Closing;
        Some(refuse(field("request_id")?.as_str()?, TOO_LONG)).filter(|_| asks)
    }

    fn asks(&mut self, question: Question) -> Vec<Heard> {
        let waits = self.asks && self.asked.has_room();
        if waits { Vec::from([Heard::Asks(self.asked.ask(question))]) } else { asked::denied(&question) }
    }

    /// What it has asked and waits for, for people.
    pub(crate) fn question(&self) -> Option<String> {
        self.asked.first()
    }

    /// A person answers.
    ///
    /// # Errors
    /// It waits for no such answer.
    pub(crate) fn answer(&mut self, answer: &Answer) -> core::result::Result<Vec<Heard>, String> {
        self.asked.answer(answer.question, &answer.verdict)
    }

    /// Nobody is there who could answer that.
    pub(crate) fn nobody_answers(&mut self, question: u64) -> Vec<Heard> {
        self.asked.take(question).as_ref().map(asked::denied).unwrap_or_default()
    }

    /// Nor anything else that it has asked.
    pub(crate) fn nobody_answers_any(&mut self) -> Vec<Heard> {
        self.asked.take_all().iter().flat_map(asked::denied).collect()
    }

    fn begun(&mut self, turn: Turn) -> Vec<Heard> {
        (self.turn, self.tools, self.fault) = (true, 0, None);
        self.behind.returned();
        self.is_ready();
        let mut heard = Vec::new();
        if self.model != turn.model {
            let version = turn.version.map(|version| format!(" {version}")).unwrap_or_default();
            heard.extend(tell(format!("Claude Code{version}, {}", turn.model)));
            self.model = turn.model;
        }
        heard.extend(turn.broken_servers.iter().flat_map(|name| tell(format!("the tool server {name} does not work"))));
        heard
    }

    fn replied(&mut self, reply: Reply) -> Vec<Heard> {
        let tools = reply.blocks.iter().filter(|block| matches!(block, Block::Tool { .. })).count();
        self.tools = self.tools.saturating_add(tools);
        self.fault = reply.failed.or(self.fault.take());
        let deeper = if reply.inside.is_some() { "> " } else { "" };
        reply.blocks.into_iter().filter_map(|block| told(block, deeper)).flat_map(tell).collect()
    }

    fn turn_over(&mut self, ended: &Ended) -> Vec<Heard> {
        self.turn = false;
        self.asked.turn_over();
        self.cost = ended.cost.or(self.cost);
        let mut heard = tell(self.sum(ended));
        let error = ended.error();
        let fault = self.fault.take();
        match (&error, self.limit.take_if(|_| error.is_some())) {
            (Some(_), Some(until)) => heard.push(Heard::Limit { until: Millis(until.saturating_mul(1_000)) }),
            (Some(why), None) if is_trouble(ended, fault.as_deref()) => heard.push(Heard::Trouble(why.clone())),
            (Some(_) | None, _) => {}
        }
        self.last = Some(error.map_or(Result::Success, Result::Failure));
        heard.push(Heard::TurnOver { well: ended.success });
        if self.stage == Stage::Breaking {
            heard.push(Heard::Say(self.close()));
        }
        heard
    }

    /// What a turn came to.
    fn sum(&self, ended: &Ended) -> String {
        let [read, written] = ended.tokens;
        let broken_off = ended.reason.as_ref().is_some_and(|reason| reason.starts_with("aborted"));
        let mut text = match ended.error() {
            _ if broken_off => "turn broken off".to_string(),
            Some(why) => format!("turn failed: {why}"),
            None => "turn over".to_string(),
        };
        text.push_str(&format!(" ({read} tokens read, {written} written"));
        text.push_str(&self.cost.map_or_else(|| ")".to_string(), cost::told));
        text
    }

    fn message_is(&mut self, message: &str, state: MessageState) -> Vec<Heard> {
        match state {
            MessageState::Queued => Vec::new(),
            MessageState::Started => {
                // Its turn begins before the line that says so.
                self.turn = true;
                of_message(message, Progress::Seen)
            }
            MessageState::Completed => of_message(message, Progress::Over),
            MessageState::Cancelled => of_message(message, Progress::Dropped),
        }
    }

    fn answered(&mut self, request: &str, error: Option<String>) -> Vec<Heard> {
        let mut heard = Vec::new();
        if request == INITIALIZE {
            self.is_ready();
        }
        // By an earlier life of the daemon, of which nothing else is known.
        if request == END && self.stage != Stage::Closing {
            let last = self.last.clone().filter(|_| !self.turn);
            let unknown = || Result::Failure("it was asked to end before its work was done".to_string());
            self.stage = Stage::Closing;
            heard.push(Heard::Settled(last.unwrap_or_else(unknown)));
        }
        // There was no turn any more that could be broken off, and so no end of one.
        if request == INTERRUPT && self.stage == Stage::Breaking && !self.turn {
            heard.push(Heard::Say(self.close()));
        }
        if let Some(why) = error {
            heard.extend(tell(format!("Claude Code does not do what it was asked ({request}): {why}")));
        }
        heard
    }

    fn is_ready(&mut self) {
        if self.stage == Stage::Opening {
            self.stage = Stage::Open;
        }
    }
}

/// A text that begins with a slash would be a command to the program: one that forgets the conversation, say.
fn guarded(text: &str) -> String {
    if text.starts_with('/') { format!(" {text}") } else { text.to_string() }
}

fn tell(what: String) -> Vec<Heard> {
    Vec::from([Heard::Tell(cut(&what, limits::REASON))])
}

fn of_message(name: &str, state: Progress) -> Vec<Heard> {
    Uuid::parse_str(name).ok().map(|name| Heard::Message { name, state }).into_iter().collect()
}

/// What people read of a part of a reply: its text, or which tool is used for what.
fn told(block: Block, deeper: &str) -> Option<String> {
    match block {
        Block::Text(text) if text.trim().is_empty() => None,
        Block::Text(text) => Some(format!("agent: {deeper}{}", text.trim())),
        Block::Tool { name, about, .. } if about.is_empty() => Some(format!("tool: {deeper}{name}")),
        Block::Tool { name, about, .. } => Some(format!("tool: {deeper}{name}: {about}")),
        Block::Other => None,
    }
}

/// The model could not be reached. Who is not let in will not be later: the program would try for minutes.
fn again(retry: &Retry) -> Vec<Heard> {
    match retry.status {
        Some(status @ (401 | 403)) => {
            let why = format!("the model's API does not let the agent in (it answered {status})");
            Vec::from([Heard::Settled(Result::Failure(why))])
        }
        status => {
            let what = match status {
                Some(status) => format!("the model's API answered {status}"),
                None => "the model's API was not reached".to_string(),
            };
            let seconds = retry.after.0.div_ceil(1_000);
            let when = counted(seconds, "second");
            tell(format!("{what}; tried again in {when} (attempt {} of {})", retry.attempt, retry.most))
        }
    }
}

/// Whether a turn failed by what may pass: the API was too busy, or was not reached.
fn is_trouble(ended: &Ended, fault: Option<&str>) -> bool {
    // Older versions say of a model that was not reached only this, in place of a reply.
    const FAULTS: [&str; 3] = ["server_error", "rate_limit", "overloaded"];
    match ended.status {
        Some(status) => status == 429 || status >= 500,
        None => ended.reason.as_deref() == Some("api_error") || fault.is_some_and(|fault| FAULTS.contains(&fault)),
    }
}

/// Millionths of a dollar, for people.
#[must_use]
pub fn dollars(millionths: u64) -> String {
    let cents = millionths.div_ceil(100);
    format!("${}.{:04}", cents / 10_000, cents % 10_000)
}
