//! An agent that tells how it gets on: it stands for Claude Code, and keeps to what was seen of that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use makima_core::agent::Utterance;
use makima_core::id::TaskId;
use makima_core::limits;
use makima_core::time::Millis;
use serde_json::Value;
use uuid::Uuid;

/// Such an agent. What it says next follows from what it was told and from how often it has spoken.
#[derive(Clone, Debug, Default)]
pub(super) struct Speaker {
    /// Lines of its standard input that it has not read.
    input: VecDeque<String>,
    /// Lines that it is about to say.
    output: VecDeque<String>,
    /// Messages that wait for the turn to end.
    queued: VecDeque<Uuid>,
    /// Messages of the turn that runs.
    turn: Option<Vec<Uuid>>,
    /// Messages that it was told, ever, and what they said, where that is a number of the world's.
    taken: BTreeMap<Uuid, Option<u64>>,
    /// Those of them that stand in the conversation.
    recorded: BTreeSet<Uuid>,
    /// The name of the conversation.
    conversation: Option<TaskId>,
    /// By how many it was gone on with.
    begun: u32,
    /// Something runs behind the conversation.
    background: bool,
    /// A question of its that is not answered.
    asks: Option<u32>,
    /// How its last turn went.
    last: Option<bool>,
    /// It was asked to end.
    leaving: bool,
    /// Messages that it never took up, as it was asked to end before.
    cut_off: usize,
    spoken: u32,
    /// When it spoke last, or was told something.
    since: Millis,
    /// It was once so slow that nobody has to wait for it.
    late: bool,
    /// It is of the version that tells of messages what becomes of them; else it only tells which it takes up.
    newer: bool,
    /// It takes what it is told, and never says anything of it.
    mute: bool,
    /// So many of its turns fail by what may pass, from now on.
    unlucky: u32,
    /// It asks whenever it can.
    curious: bool,
}

/// Of so many of these agents one is mute.
const MUTE: u32 = 16;

/// Of so many one is out of luck with its model, and another asks a lot.
const KINDS: u32 = 8;

impl Speaker {
    /// One of as many kinds as there are numbers.
    pub(super) fn new(conversation: TaskId, number: u32) -> Self {
        Self {
            conversation: Some(conversation),
            newer: number.is_multiple_of(2),
            mute: number % MUTE == 7,
            unlucky: if number % KINDS == 6 { 2 } else { 0 },
            curious: number % KINDS == 5,
            ..Self::default()
        }
    }

    /// Another goes on with what stands in its conversation: in that, or in a second one that branches off, which forgets the
    /// names of what was said.
    pub(super) fn goes_on(&self, branches_off: Option<TaskId>, number: u32) -> Self {
        let (conversation, before) = match branches_off {
            Some(name) => (name, BTreeMap::new()),
            None => {
                let stands_there = |(name, _): &(&Uuid, &Option<u64>)| self.recorded.contains(*name);
                let before = self.taken.iter().filter(stands_there).map(|(name, text)| (*name, *text)).collect();
                (self.conversation.expect("it has one"), before)
            }
        };
        let recorded = self.recorded.clone();
        Self { taken: before, recorded, begun: self.begun + 1, ..Self::new(conversation, number) }
    }

    /// Whether that is its conversation.
    pub(super) fn is_of(&self, conversation: TaskId) -> bool {
        self.conversation == Some(conversation)
    }

    /// By how many its conversation was gone on with before.
    pub(super) const fn begun(&self) -> u32 {
        self.begun
    }

    /// Whether anything of the conversation is written down.
    pub(super) fn has_a_transcript(&self) -> bool {
        !self.recorded.is_empty()
    }

    /// The names of those that stand in the conversation.
    pub(super) fn recall(&self, said: &[Utterance]) -> Vec<Uuid> {
        said.iter().map(|said| said.name).filter(|name| self.recorded.contains(name)).collect()
    }

    /// A line is written to its standard input.
    pub(super) fn told(&mut self, line: &str, now: Millis) {
        // What it has to say anyway it is no sooner with for that.
        if self.input.is_empty() && self.output.is_empty() {
            self.since = now;
        }
        self.late |= now.since(self.since) >= limits::RETURNS;
        self.input.push_back(line.to_string());
    }

    /// What it said was not heard for so long.
    pub(super) fn waited(&mut self, span: Millis) {
        self.late |= span >= limits::RETURNS;
    }

    /// Whether it has something to read.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether it was asked to end, and has read that.
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether it was asked to end, be it that it has not read that yet.
    pub(super) fn is_asked_to_end(&self) -> bool {
        self.leaving || self.input.iter().any(|line| line.contains("end_session"))
    }

    /// Whether it has done its work by its own account, and left nothing out that it was told before it was asked to end.
    pub(super) fn is_done(&self) -> bool {
        self.late || self.last == Some(true) && self.turn.is_none() && self.cut_off == 0
    }

    /// Whether it has said that it has done its work, has nothing more to do, and was never so slow that nobody waits for it.
    pub(super) fn has_said_all(&self) -> bool {
        let nothing = self.input.is_empty() && self.output.is_empty() && self.queued.is_empty();
        self.is_done() && nothing && !self.background && !self.late
    }

    /// The next line, but for its type; none where it waits to be told something. `ends`: its turn ends as soon as it can.
    pub(super) fn speak(&mut self, ends: bool, now: Millis) -> Option<String> {
        let line = self.next(ends)?;
        self.late |= now.since(self.since) >= limits::RETURNS;
        self.since = now;
        Some(line)
    }

    fn next(&mut self, ends: bool) -> Option<String> {
        while self.output.is_empty() {
            if let Some(line) = self.input.pop_front().filter(|_| !self.leaving) {
                self.read(&line);
                continue;
            }
            if self.leaving || self.asks.is_some() {
                return None;
            }
            match (self.turn.is_some(), self.queued.is_empty()) {
                (true, _) => {
                    self.spoken += 1;
                    self.work(ends);
                }
                (false, false) => self.begin(),
                (false, true) if self.background => self.return_to_it(),
                (false, true) => return None,
            }
        }
        self.output.pop_front()
    }

    fn say(&mut self, line: String) {
        self.output.push_back(line);
    }

    fn read(&mut self, line: &str) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?} would end its session"));
        let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
        match (text("/type").as_str(), text("/request/subtype").as_str()) {
            ("user", _) => self.message(&text("/uuid"), &text("/message/content")),
            ("control_response", _) => {
                let answered = text("/response/request_id");
                self.asks.take_if(|question| answered == format!("q{question}"));
            }
            ("control_request", asked) => {
                let name = text("/request_id");
                self.say(format!(
                    r#""type":"control_response","response":{{"subtype":"success","request_id":"{name}"}}"#
                ));
                match asked {
                    "interrupt" => self.interrupted(),
                    "end_session" => {
                        self.cut_off = self.queued.len();
                        if self.turn.is_some() {
                            self.over(false, "aborted_streaming");
                        }
                        self.leaving = true;
                    }
                    _ => {}
                }
            }
            _ => panic!("{line} is nothing that it is told"),
        }
    }

    fn message(&mut self, name: &str, text: &str) {
        let name = Uuid::parse_str(name).expect("every message has a name");
        if self.mute {
            return;
        }
        if self.taken.contains_key(&name) {
            // What it has not done with yet it is not told twice, and says nothing of that.
            let under_way = self.queued.contains(&name) || self.turn.as_ref().is_some_and(|turn| turn.contains(&name));
            if !under_way {
                self.of_message(name, "completed");
            }
            return;
        }
        assert!(!self.recorded.contains(&name), "what stands in the conversation is said again");
        let number: Option<u64> = text.parse().ok();
        if let Some(number) = number {
            let twice = self.taken.values().any(|known| *known == Some(number));
            assert!(!twice, "message {number} is told twice, under two names");
        }
        self.taken.insert(name, number);
        self.queued.push_back(name);
        self.of_message(name, "queued");
    }

    fn of_message(&mut self, name: Uuid, state: &str) {
        if self.newer {
            self.say(format!(r#""type":"command_lifecycle","command_uuid":"{name}","state":"{state}""#));
        }
    }

    fn take_up(&mut self) -> Vec<Uuid> {
        let names: Vec<Uuid> = self.queued.drain(..).collect();
        self.recorded.extend(&names);
        for name in &names {
            self.of_message(*name, "started");
            self.say(format!(
                r#""type":"user","uuid":"{name}","isReplay":true,"message":{{"role":"user","content":"-"}}"#
            ));
        }
        names
    }

    fn begin(&mut self) {
        let names = self.take_up();
        self.turn = Some(names);
        self.introduce();
    }

    fn introduce(&mut self) {
        self.say(
            r#""type":"system","subtype":"init","session_id":"s","model":"m","claude_code_version":"2""#.to_string(),
        );
    }

    /// What runs behind the conversation has ended, and that begins a turn of which nobody asked.
    fn return_to_it(&mut self) {
        self.background = false;
        self.say(if self.newer {
            r#""type":"system","subtype":"background_tasks_changed","tasks":[]"#.to_string()
        } else {
            r#""type":"system","subtype":"task_notification","task_id":"b""#.to_string()
        });
        self.turn = Some(Vec::new());
        self.introduce();
    }

    fn work(&mut self, ends: bool) {
        let reply = |block: &str| format!(r#""type":"assistant","message":{{"content":[{block}]}}"#);
        if self.unlucky > 0 {
            self.unlucky -= 1;
            return self.over(false, "api_error");
        }
        match self.spoken % 16 {
            1 | 4 if self.curious => self.ask(),
            2 if !ends => {
                self.background = true;
                let job = r#""type":"system","subtype":"task_started","task_id":"b","tool_use_id":"u""#;
                if self.newer {
                    let jobs = r#""type":"system","subtype":"background_tasks_changed","tasks":[{"task_id":"b"}]"#;
                    self.say(jobs.to_string());
                    self.say(format!(r#"{job},"is_backgrounded":true"#));
                } else {
                    self.say(job.to_string());
                }
                self.say(
                    r#""type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"u","content":"-"}]}"#
                        .to_string(),
                );
            }
            3 if !ends => self.say(
                r#""type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":500,"error_status":529"#
                    .to_string(),
            ),
            5 if !ends => self.ask(),
            7 if !ends => {
                self.say(reply(r#"{"type":"tool_use","id":"t","name":"Bash","input":{"command":"date"}}"#));
                self.say(
                    r#""type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"-"}]}"#
                        .to_string(),
                );
                // What it was told meanwhile is folded into the turn.
                let names = self.take_up();
                self.turn.iter_mut().for_each(|turn| turn.extend(&names));
            }
            11 => self.over(false, "api_error"),
            1 | 4 | 6 | 9 | 12 | 14 if !ends => self.say(reply(r#"{"type":"text","text":"words"}"#)),
            _ => self.over(true, "completed"),
        }
    }

    fn ask(&mut self) {
        let request = r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"date"}}"#;
        let name = self.spoken;
        self.asks = Some(name);
        self.say(format!(r#""type":"control_request","request_id":"q{name}","request":{request}"#));
    }

    /// The turn is over.
    fn over(&mut self, well: bool, reason: &str) {
        let kind = if reason == "aborted_streaming" { "error_during_execution" } else { "success" };
        let failed = !well;
        let cost = r#""total_cost_usd":0.25,"usage":{"input_tokens":1,"output_tokens":2}"#;
        self.say(format!(
            r#""type":"result","subtype":"{kind}","is_error":{failed},"terminal_reason":"{reason}","result":"-",{cost}"#
        ));
        self.last = Some(well);
        for name in self.turn.take().unwrap_or_default() {
            self.of_message(name, "completed");
        }
    }

    fn interrupted(&mut self) {
        self.asks = None;
        if self.turn.is_some() {
            self.over(false, "aborted_streaming");
        }
        let queued: Vec<Uuid> = self.queued.drain(..).collect();
        for name in queued {
            self.of_message(name, "cancelled");
        }
    }
}
