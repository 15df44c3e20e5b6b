//! `makima task pause`, `resume` and `send`: what people say to a task that is under way.

use std::io::Read as _;

use serde::Serialize;
use serde_json::json;

use makima_core::agent::{self, Answer};

use super::args::{AnswerArgs, PlainArgs, SendArgs, Verdict};
use super::print;
use super::task::resolve;
use crate::report::{FAILED, Failure};
use crate::rest::{Rest, RestError};

pub(super) async fn hold(rest: &Rest, args: &PlainArgs, paused: bool) -> Result<(), Failure> {
    let (what, note) = if paused {
        ("pause", "the task is told to stand still; `makima task resume` lets it go on")
    } else {
        ("resume", "the task is told to go on")
    };
    let id = resolve(rest, &args.id).await?;
    said(rest.say(id, what, &json!({})).await, args.json, note)
}

pub(super) async fn send(rest: &Rest, args: &SendArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Body {
        message: String,
    }
    let message = words(&args.message)?;
    let id = resolve(rest, &args.id).await?;
    said(rest.say(id, "messages", &Body { message }).await, args.json, "the agent is told")
}

pub(super) async fn answer(rest: &Rest, args: &AnswerArgs) -> Result<(), Failure> {
    let verdict = match args.verdict {
        Verdict::Allow if !args.words.is_empty() => {
            return Err(
                Failure::unusable("`allow` takes no more words").hint("write `deny` with a reason, or `choose`")
            );
        }
        Verdict::Allow => agent::Verdict::Allow,
        Verdict::Deny => agent::Verdict::Deny((!args.words.is_empty()).then(|| args.words.join(" "))),
        Verdict::Choose => agent::Verdict::Choose(args.words.clone()),
    };
    let id = resolve(rest, &args.id).await?;
    let answer = Answer { question: args.question, verdict };
    said(
        rest.say(id, "answers", &answer).await,
        args.json,
        "the agent is told; `makima task show` says what it needs now",
    )
}

/// The message from the command line, or from stdin.
pub(super) fn words(words: &[String]) -> Result<String, Failure> {
    let message = match words {
        [dash] if dash == "-" => {
            let mut message = String::new();
            std::io::stdin()
                .read_to_string(&mut message)
                .map_err(|error| Failure::unusable(format!("the message on stdin cannot be read: {error}")))?;
            message
        }
        words => words.join(" "),
    };
    if message.trim().is_empty() {
        return Err(Failure::unusable("the message is empty").hint("write what the agent is to be told"));
    }
    Ok(message)
}

fn said(answer: Result<String, RestError>, json: bool, note: &str) -> Result<(), Failure> {
    let answer = answer.map_err(refused)?;
    if json {
        print::line(&answer);
    } else {
        print::note(note);
    }
    Ok(())
}

/// What the server will not do was begun and failed; where it is not reached, nothing was.
pub(super) fn refused(error: RestError) -> Failure {
    let failed = matches!(error, RestError::Refused { status, .. } if status != 401);
    let failure = Failure::from(error);
    if failed { failure.with_code(FAILED) } else { failure }
}
