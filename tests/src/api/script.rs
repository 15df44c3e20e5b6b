//! What is answered, in which order, and how it goes wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Request;

/// Characters of a delta, where nothing else is said.
const CHUNK: usize = 24;

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// By a reset.
    Reset,
    /// By an orderly close, with the answer unfinished.
    Close,
}

/// All that a server answers.
#[derive(Clone)]
pub struct Script {
    pub(super) turns: Vec<Turn>,
    pub(super) fallback: Turn,
    pub(super) side: Turn,
    pub(super) key: Option<String>,
    pub(super) count_tokens: Option<u64>,
    pub(super) variables: BTreeMap<String, String>,
}

/// One answer.
#[derive(Clone)]
pub struct Turn {
    pub(super) thinking: String,
    pub(super) text: String,
    /// Name and input.
    pub(super) tools: Vec<(String, Value)>,
    /// Characters of a delta.
    pub(super) chunk: usize,
    /// Before each delta.
    pub(super) delay: Duration,
    /// Before the headers.
    pub(super) first_delay: Duration,
    pub(super) error: Option<HttpError>,
    /// After so many deltas.
    pub(super) fault: Option<(usize, Fault)>,
    pub(super) stop_reason: Option<String>,
    pub(super) usage: Map<String, Value>,
    /// Requests that it answers; 0: without end.
    pub(super) repeat: usize,
    conditions: Vec<Arc<Condition>>,
}

/// Whether a turn may answer a request.
type Condition = dyn Fn(&Request) -> bool + Send + Sync;

/// An answer that is none.
#[derive(Clone, Debug)]
pub(super) struct HttpError {
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) headers: Vec<(String, String)>,
}

/// How an answer breaks.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// An `error` event, of this type.
    Error(String),
    /// The connection ends.
    Cut(Cut),
    /// Nothing more is sent, and the connection stays.
    Hang,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            turns: Vec::new(),
            fallback: Turn::text("(the script has no more turns)"),
            side: Turn::text(r#"{"title": "A title"}"#),
            key: None,
            count_tokens: None,
            variables: BTreeMap::new(),
        }
    }
}

impl Script {
    /// One without turns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next turn. A main request is answered by the first that is not used up and whose conditions it meets.
    #[must_use]
    pub fn turn(mut self, turn: Turn) -> Self {
        self.turns.push(turn);
        self
    }

    /// What answers main requests that no turn is left for.
    #[must_use]
    pub fn fallback(mut self, turn: Turn) -> Self {
        self.fallback = turn;
        self
    }

    /// What answers side requests: titles, summaries, probes.
    #[must_use]
    pub fn side(mut self, turn: Turn) -> Self {
        self.side = turn;
        self
    }

    /// The only key that is let in, be it in `x-api-key` or a bearer token; others get a 401.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// What every count of tokens comes to; else it follows from the request's length.
    #[must_use]
    pub fn count_tokens(mut self, count: u64) -> Self {
        self.count_tokens = Some(count);
        self
    }

    /// What `{name}` in texts and tool inputs stands for. `{cwd}` is this only where a request does not tell its own.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            thinking: String::new(),
            text: String::new(),
            tools: Vec::new(),
            chunk: CHUNK,
            delay: Duration::ZERO,
            first_delay: Duration::ZERO,
            error: None,
            fault: None,
            stop_reason: None,
            usage: Map::new(),
            repeat: 1,
            conditions: Vec::new(),
        }
    }
}

impl Turn {
    /// An answer in words.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// A call of one tool, without words.
    #[must_use]
    pub fn call(name: &str, input: Value) -> Self {
        Self::default().tool(name, input)
    }

    /// An HTTP error of the type that belongs to the status.
    #[must_use]
    pub fn error(status: u16, message: &str) -> Self {
        let (kind, message) = (error_type(status).to_owned(), message.to_owned());
        Self { error: Some(HttpError { status, kind, message, headers: Vec::new() }), ..Self::default() }
    }

    /// The type of the HTTP error, where it is another one. For a turn that is one.
    #[must_use]
    pub fn error_type(mut self, kind: &str) -> Self {
        if let Some(error) = &mut self.error {
            kind.clone_into(&mut error.kind);
        }
        self
    }

    /// A header of the HTTP error, such as `retry-after`. For a turn that is one.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(error) = &mut self.error {
            error.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Thinking, before the words.
    #[must_use]
    pub fn thinking(mut self, thinking: &str) -> Self {
        thinking.clone_into(&mut self.thinking);
        self
    }

    /// One more call of a tool, behind the words.
    #[must_use]
    pub fn tool(mut self, name: &str, input: Value) -> Self {
        self.tools.push((name.to_owned(), input));
        self
    }

    /// Characters of each delta of a streamed answer.
    #[must_use]
    pub fn chunk(mut self, characters: usize) -> Self {
        self.chunk = characters.max(1);
        self
    }

    /// The pause before each delta.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The pause before the headers.
    #[must_use]
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// An `error` event of this type after so many deltas. An answer that is not streamed has no events, and is well.
    #[must_use]
    pub fn stream_error(mut self, after: usize, kind: &str) -> Self {
        self.fault = Some((after, Fault::Error(kind.to_owned())));
        self
    }

    /// The connection is cut after so many deltas, and a moment in which the client can read them; 0: before the headers.
    /// That of an answer that is not streamed is always cut there.
    #[must_use]
    pub fn cut(mut self, after: usize, how: Cut) -> Self {
        self.fault = Some((after, Fault::Cut(how)));
        self
    }

    /// After so many deltas nothing more is sent, until the client closes the connection. An answer that is not streamed
    /// does not begin.
    #[must_use]
    pub fn hang(mut self, after: usize) -> Self {
        self.fault = Some((after, Fault::Hang));
        self
    }

    /// Why the answer ends. Else: `tool_use` with tools, and `end_turn` without.
    #[must_use]
    pub fn stop_reason(mut self, reason: &str) -> Self {
        self.stop_reason = Some(reason.to_owned());
        self
    }

    /// A number of the usage, such as `output_tokens`.
    #[must_use]
    pub fn usage(mut self, field: &str, tokens: u64) -> Self {
        self.usage.insert(field.to_owned(), tokens.into());
        self
    }

    /// Requests that this turn answers, instead of one; 0: without end.
    #[must_use]
    pub fn repeat(mut self, times: usize) -> Self {
        self.repeat = times;
        self
    }

    /// Only for a request whose newest words or tool results contain this: see [`Request::newest_text`].
    #[must_use]
    pub fn when(self, part: &str) -> Self {
        let part = part.to_owned();
        self.when_request(move |request| request.newest_text().contains(&part))
    }

    /// Only for a request of a conversation in which the user has said this at any time: an agent is known by it in each
    /// of its requests, also where the newest words are those of a tool.
    #[must_use]
    pub fn when_ever(self, part: &str) -> Self {
        let part = part.to_owned();
        self.when_request(move |request| request.user_texts().iter().any(|text| text.contains(&part)))
    }

    /// Only for a request that is like this. It is asked while the server is locked: it must not look at the `Api`.
    #[must_use]
    pub fn when_request(mut self, condition: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// Whether it may answer this request.
    pub(super) fn suits(&self, request: &Request) -> bool {
        self.conditions.iter().all(|condition| condition(request))
    }
}

/// The type of error that the API gives with a status.
pub(super) fn error_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}
