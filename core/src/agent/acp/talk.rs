//! A talk with an agent that speaks the protocol: what is said to it, and what what it says means for its task.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::permit::{Permit, choice, described, permit};
use super::read::{Answer, Line, Question, Tool, line};
use super::write::{INVALID, NOT_OFFERED, Request, answer, cancel, refuse, request};
use crate::agent::talk::{Heard, Progress};
use crate::agent::{Permissions, Result, TOO_LONG, TOOLS, Tools, Verdict, head};
use crate::cost;
use crate::limits;
use crate::needs;
use crate::policy::cut;

/// Where a talk stands. One message at a time: the protocol knows no way to say something while a turn runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Talk {
    /// The worktree.
    folder: String,
    permissions: Permissions,
    stage: Stage,
    /// How many lines were said until it was open.
    setup: u64,
    /// So many were said in a life of the daemon of which nothing is known.
    before: u64,
    /// What is heard was said in such a life: nothing of it is acted upon that may be done with.
    past: bool,
    /// A session of before, which it is to go on with.
    earlier: Option<String>,
    session: Option<String>,
    /// The message of the turn that runs.
    turn: Option<Uuid>,
    /// It has said something in that.
    heeded: bool,
    /// What it says and has not come to an end of.
    text: String,
    /// Tools that are in use.
    tools: BTreeMap<String, Tool>,
    /// How the last turn went.
    last: Option<Result>,
    cost: Option<u64>,
    /// Its session is a new one.
    #[serde(default)]
    anew: bool,
    /// The program that offers it tools to lead subtasks by.
    #[serde(default)]
    tools_of: Option<Tools>,
    /// What it has asked and waits for, with its number.
    asked: Vec<(u64, Question)>,
    /// How often it has asked.
    count: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Stage {
    /// It was asked what it can do.
    #[default]
    Initializing,
    /// It was asked for a session.
    Beginning,
    /// It was asked to work so that it asks.
    Settling,
    /// It takes messages.
    Open,
    /// It was asked to break off its turn.
    Breaking,
    /// It is to end.
    Closing,
}

/// What our requests are called; a prompt bears the name of its message.
pub const INITIALIZE: &str = "makima-initialize";
/// That for a session.
pub const SESSION: &str = "makima-session";
/// That for a way to work in.
pub const MODE: &str = "makima-mode";

/// The way to work in which it asks before it does something, as all that were seen call it.
const ASKS: &str = "default";

impl Talk {
    /// What it has cost so far, in millionths of a dollar.
    pub(crate) const fn cost(&self) -> Option<u64> {
        self.cost
    }

    /// With an agent in that worktree, before a word was said. `earlier`: a session of before that it is to go on with.
    pub(crate) fn new(
        folder: String,
        mut permissions: Permissions,
        earlier: Option<String>,
        tools: Option<Tools>,
    ) -> Self {
        // What it was given to work with it may use.
        permissions.allow.extend(tools.iter().map(|_| format!("mcp__{TOOLS}__*")));
        Self { folder, permissions, earlier, tools_of: tools, setup: 1, ..Self::default() }
    }

    pub(crate) fn opening() -> String {
        request(INITIALIZE, Request::Initialize)
    }

    /// Of this talk nothing is known but that so many lines were said to the agent.
    pub(crate) const fn was_begun(&mut self, lines: u64) {
        (self.before, self.past) = (lines, true);
    }

    /// How many lines were said before the first message, once that is known.
    pub(crate) fn setup(&self) -> Option<u64> {
        (self.stage >= Stage::Open).then_some(self.setup)
    }

    /// All that was said before has been heard: what of it still waits for an answer is answered now.
    pub(crate) fn is_present(&mut self) -> Vec<Heard> {
        self.past = false;
        mem::take(&mut self.asked).into_iter().flat_map(|(_, question)| self.asks(question)).collect()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// A user's message. It begins a turn.
    pub(crate) fn message(&mut self, text: &str, name: Uuid) -> String {
        (self.turn, self.heeded) = (Some(name), false);
        let session = self.session.as_deref().unwrap_or_default();
        request(&name.to_string(), Request::Prompt { session, text })
    }

    pub(crate) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// How the last turn went, where none runs.
    pub(crate) fn done(&self) -> Option<Result> {
        self.last.clone().filter(|_| self.is_open() && self.turn.is_none())
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_open() && self.turn.is_none()
    }

    pub(crate) fn awaits_its_model(&self) -> bool {
        self.stage < Stage::Open || self.turn.is_some() && self.tools.is_empty() && self.asked.is_empty()
    }

    /// What is said to have its turn broken off; nothing where none runs. What it has asked is answered with that: it may
    /// wait for each answer before it ends its turn.
    pub(crate) fn break_off(&mut self) -> Vec<String> {
        let session = self.session.as_deref().filter(|_| self.is_open() && self.turn.is_some());
        let Some(line) = session.map(cancel) else {
            self.stage = Stage::Closing;
            return Vec::new();
        };
        self.stage = Stage::Breaking;
        let asked = mem::take(&mut self.asked);
        let called_off = asked.iter().map(|(_, question)| answer(&question.request, None));
        [line].into_iter().chain(called_off).collect()
    }

    /// Whether its session is a new one, in which nothing was said before.
    pub(crate) const fn is_anew(&self) -> bool {
        self.anew
    }

    /// The protocol has no word for an end.
    pub(crate) const fn close(&mut self) {
        self.stage = Stage::Closing;
    }

    /// An end in the middle of a turn, or before there was one, is none that it wanted.
    pub(crate) fn ended(&self, how: &str, said: &str) -> Result {
        let said = said.trim();
        let why = || if said.is_empty() { how.to_string() } else { format!("{how}: {said}") };
        self.done().unwrap_or_else(|| Result::Failure(why()))
    }

    /// What it has asked and waits for, for people.
    pub(crate) fn question(&self) -> Option<String> {
        let (number, question) = self.asked.first().filter(|_| !self.past)?;
        let more = self.asked.len().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Some(format!("{}{number}: {}{more}", needs::QUESTION, described(&question.tool)))
    }

    /// A person answers.
    ///
    /// # Errors
    /// It waits for no such answer.
    pub(crate) fn answer(&mut self, number: u64, verdict: &Verdict) -> core::result::Result<Vec<Heard>, String> {
        let at = self.asked.iter().position(|(open, _)| *open == number);
        let at = at.ok_or_else(|| format!("question {number} waits for no answer"))?;
        let (allow, how) = match verdict {
            Verdict::Allow => (true, "allowed".to_string()),
            Verdict::Deny(None) => (false, "denied".to_string()),
            Verdict::Deny(Some(why)) => (false, format!("denied: {why}")),
            Verdict::Choose(_) => return Err(format!("{}{number} {}", needs::QUESTION, needs::WANTS_A_VERDICT)),
        };
        let (_, question) = self.asked.remove(at);
        Ok(Vec::from([decided(&question, allow), Heard::Tell(format!("question {number}: {how}"))]))
    }

    /// Nobody is there who could answer that.
    pub(crate) fn nobody_answers(&mut self, number: u64) -> Vec<Heard> {
        let Some(at) = self.asked.iter().position(|(open, _)| *open == number) else { return Vec::new() };
        let (_, question) = self.asked.remove(at);
        denied(&question)
    }

    /// Nor anything else that it has asked.
    pub(crate) fn nobody_answers_any(&mut self) -> Vec<Heard> {
        mem::take(&mut self.asked).iter().flat_map(|(_, question)| denied(question)).collect()
    }

    pub(crate) fn hear(&mut self, text: &str) -> Vec<Heard> {
        let line = line(text);
        // Another part of what it says comes to no end of that.
        let goes_on = matches!(line, Line::Text(_));
        let mut heard = if goes_on { Vec::new() } else { self.told() };
        heard.extend(match line {
            Line::Answered { request, answer } => self.answered(&request, answer),
            Line::Asks(question) => self.asks(question),
            Line::Wants { .. } if self.past => Vec::new(),
            Line::Wants { request, method } => Vec::from([
                Heard::Say(refuse(&request, NOT_OFFERED, &format!("`{method}` is not offered"))),
                Heard::Tell(cut(&format!("the agent wants `{method}`, which is not offered"), limits::REASON)),
            ]),
            Line::Text(part) => {
                self.text.push_str(&part);
                if self.text.len() > limits::AGENT_LINE { self.told() } else { self.heeds() }
            }
            Line::Tool(tool) => self.tool(tool),
            Line::Cost(cost) => {
                self.cost = Some(cost);
                Vec::new()
            }
            Line::Other(_) => Vec::new(),
            Line::Unreadable(why) => Vec::from([Heard::Unreadable(why)]),
        });
        heard
    }

    /// What is said about a line of which only the head can be read, where it waits for an answer.
    pub(crate) fn hear_head(&self, text: &str) -> Option<String> {
        let field = |name| head::field(text, name, "params");
        let asks = field("method").is_some() && !self.past;
        Some(refuse(&field("id")?.to_string(), INVALID, TOO_LONG)).filter(|_| asks)
    }

    /// What it has said so far, for people.
    fn told(&mut self) -> Vec<Heard> {
        let text = mem::take(&mut self.text);
        let text = text.trim();
        // What comes before it is open was said in a session of before.
        if text.is_empty() || self.stage < Stage::Open { Vec::new() } else { tell(format!("agent: {text}")) }
    }

    /// It works on the message of the turn.
    fn heeds(&mut self) -> Vec<Heard> {
        let name = self.turn.filter(|_| !mem::replace(&mut self.heeded, true));
        name.map(|name| Heard::Message { name, state: Progress::Seen }).into_iter().collect()
    }

    fn tool(&mut self, news: Tool) -> Vec<Heard> {
        if self.stage < Stage::Open {
            return Vec::new();
        }
        let mut heard = self.heeds();
        let known = self.tools.remove(&news.id);
        let is_over = matches!(news.status.as_deref(), Some("completed" | "failed"));
        if is_over {
            self.asked.retain(|(_, question)| question.tool.id != news.id);
        }
        let (id, failed) = (news.id.clone(), news.status.as_deref() == Some("failed"));
        let before = known.unwrap_or_default();
        let tool = Tool { title: news.title.or(before.title), kind: news.kind.or(before.kind), ..news };
        if is_over {
            let what = described(&tool);
            heard.extend(tell(if failed { format!("tool: {what}: failed") } else { format!("tool: {what}") }));
        } else {
            // What it changes nobody needs any more.
            self.tools.insert(id, Tool { changes: Vec::new(), paths: Vec::new(), ..tool });
        }
        heard
    }

    fn asks(&mut self, question: Question) -> Vec<Heard> {
        if self.stage > Stage::Open {
            return Vec::from([Heard::Say(answer(&question.request, None))]);
        }
        let known = self.tools.get(&question.tool.id).cloned().unwrap_or_default();
        let tool = question.tool;
        let tool = Tool { title: tool.title.or(known.title), kind: tool.kind.or(known.kind), ..tool };
        let question = Question { tool, ..question };
        let permit = if self.past { Permit::Ask } else { permit(&self.permissions, &question.tool, &self.folder) };
        match permit {
            Permit::Allow => Vec::from([decided(&question, true)]),
            Permit::Deny => denied(&question),
            Permit::Ask if self.asked.len() >= limits::QUESTIONS => denied(&question),
            Permit::Ask => {
                self.count = self.count.saturating_add(1);
                self.asked.push((self.count, question));
                if self.past { Vec::new() } else { Vec::from([Heard::Asks(self.count)]) }
            }
        }
    }

    fn answered(&mut self, name: &str, answer: core::result::Result<Answer, String>) -> Vec<Heard> {
        match (name, self.stage, answer) {
            (INITIALIZE, Stage::Initializing, Ok(answer)) => self.initialized(answer),
            (SESSION, Stage::Beginning, Ok(answer)) => self.has_a_session(answer),
            // The earlier session is not there any more: another one it is.
            (SESSION, Stage::Beginning, Err(why)) if self.earlier.take().is_some() => {
                let mut heard = tell(format!("the agent does not go on with its session of before: {why}"));
                heard.extend(self.begin_a_session());
                heard
            }
            (MODE, Stage::Settling, answer) => {
                self.stage = Stage::Open;
                answer
                    .err()
                    .map(|why| tell(format!("the agent does not work as it was asked to: {why}")))
                    .unwrap_or_default()
            }
            (INITIALIZE | SESSION, _, Err(why)) => {
                Vec::from([Heard::Settled(Result::Failure(format!("the agent does not begin: {why}")))])
            }
            (name, _, answer) => match Uuid::parse_str(name) {
                Ok(message) => self.turn_over(message, answer),
                Err(_) => Vec::new(),
            },
        }
    }

    fn initialized(&mut self, answer: Answer) -> Vec<Heard> {
        if answer.version != Some(1) {
            let version = answer.version.map_or_else(|| "none".to_string(), |version| version.to_string());
            let why = format!("the agent speaks version {version} of the Agent Client Protocol, and not 1");
            return Vec::from([Heard::Settled(Result::Failure(why))]);
        }
        let mut heard = answer.agent.map(tell).unwrap_or_default();
        if !answer.loads && self.earlier.take().is_some() {
            heard.extend(tell("the agent cannot go on with a session of before: it begins another".to_string()));
        }
        self.stage = Stage::Beginning;
        heard.extend(self.begin_a_session());
        heard
    }

    fn begin_a_session(&mut self) -> Vec<Heard> {
        let folder = &self.folder;
        let wanted = match &self.earlier {
            Some(session) => Request::Load { session, folder, tools: self.tools_of.as_ref() },
            None => Request::New { folder, tools: self.tools_of.as_ref() },
        };
        let line = request(SESSION, wanted);
        self.set_up(line)
    }

    fn has_a_session(&mut self, answer: Answer) -> Vec<Heard> {
        self.anew = self.earlier.is_none();
        self.session = answer.session.or_else(|| self.earlier.take());
        let asks = answer.modes.filter(|modes| modes.current != ASKS && modes.all.iter().any(|mode| mode == ASKS));
        match (&self.session, asks) {
            (None, _) => Vec::from([Heard::Settled(Result::Failure("the agent names no session".to_string()))]),
            (Some(_), None) => {
                self.stage = Stage::Open;
                Vec::new()
            }
            (Some(session), Some(_)) => {
                self.stage = Stage::Settling;
                let line = request(MODE, Request::Mode { session, mode: ASKS });
                self.set_up(line)
            }
        }
    }

    /// The next line of those that come before the first message, unless it was said before.
    fn set_up(&mut self, line: String) -> Vec<Heard> {
        self.setup = self.setup.saturating_add(1);
        if self.setup <= self.before { Vec::new() } else { Vec::from([Heard::Say(line)]) }
    }

    fn turn_over(&mut self, message: Uuid, answer: core::result::Result<Answer, String>) -> Vec<Heard> {
        (self.turn, self.heeded) = (None, false);
        self.tools.clear();
        self.asked.clear();
        let (sum, result) = match answer {
            Ok(Answer { stop, tokens, .. }) => {
                let stop = stop.unwrap_or_default();
                let result = match stop.as_str() {
                    "end_turn" => Result::Success,
                    "cancelled" => Result::Failure("its turn was broken off".to_string()),
                    "" => Result::Failure("the agent does not say how its turn went".to_string()),
                    other => Result::Failure(format!("its turn ended by {other}")),
                };
                let sum = match &result {
                    Result::Success => "turn over".to_string(),
                    Result::Failure(_) if stop == "cancelled" => "turn broken off".to_string(),
                    Result::Failure(why) => format!("turn failed: {why}"),
                };
                let [read, written] = tokens;
                let end = self.cost.map_or_else(|| ")".to_string(), cost::told);
                (format!("{sum} ({read} tokens read, {written} written{end}"), result)
            }
            Err(why) => (format!("turn failed: {why}"), Result::Failure(why)),
        };
        let mut heard = tell(sum);
        heard.push(Heard::Message { name: message, state: Progress::Over });
        heard.push(Heard::TurnOver { well: result == Result::Success });
        self.last = Some(result);
        if self.stage == Stage::Breaking {
            self.stage = Stage::Closing;
            heard.push(Heard::Through);
        }
        heard
    }
}

impl PartialOrd for Stage {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some((*self as u8).cmp(&(*other as u8)))
    }
}

fn tell(what: String) -> Vec<Heard> {
    Vec::from([Heard::Tell(cut(&what, limits::REASON))])
}

fn decided(question: &Question, allow: bool) -> Heard {
    Heard::Say(answer(&question.request, choice(question, allow)))
}

fn denied(question: &Question) -> Vec<Heard> {
    let what = format!("denied, as its permissions are: {}", described(&question.tool));
    let mut heard = Vec::from([decided(question, false)]);
    heard.extend(tell(what));
    heard
}
