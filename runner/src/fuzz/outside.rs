//! What comes over the network.

use makima_core::agent::claude::{self, Line, Verdict};
use makima_core::agent::{Answer, Utterance, acp};
use makima_core::forge::{Kind, Next, Opening, Project, Tool, Wanted};
use makima_core::id::TaskId;
use makima_core::limits;
use makima_core::needs;
use makima_core::policy::{BranchName, InnerPath, RepositoryUrl, revision, split_credentials, task_name};
use makima_core::protocol::{DaemonCommand, DaemonMessage, Frame, Unreadable, envelope};
use reqwest::StatusCode;

use crate::events::{Blocks, EVENT_MAX};
use crate::rest;

/// Commands and messages: what is read is written so that the same is read again.
pub(super) fn wire(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match DaemonCommand::read(text) {
        Ok(command) => {
            let written = command.write();
            assert!(!written.contains('\n'), "{written}");
            assert_eq!(DaemonCommand::read(&written).as_ref(), Ok(&command), "{written}");
        }
        Err(why) => is_bounded(&why, text),
    }
    match DaemonMessage::read(text) {
        Ok(message) => {
            let written = message.write();
            assert!(!written.contains('\n'), "{written}");
            assert_eq!(DaemonMessage::read(&written).as_ref(), Ok(&message), "{written}");
        }
        Err(why) => is_bounded(&why, text),
    }
}

/// What cannot be read is told in a few words, and with a place that is there.
fn is_bounded(why: &Unreadable, text: &str) {
    assert!(why.column <= text.len(), "{why:?}");
    assert!(why.message_type.as_ref().is_none_or(|kind| kind.chars().count() <= limits::TYPE_SHOWN.max(64)), "{why:?}");
}

/// Frames of version 2: what is written of one that was read is read as the same one, and a message in an envelope is
/// taken out of it as it was.
pub(super) fn frames(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut frame = match Frame::read(text) {
        Ok(frame) => frame,
        Err(why) => return is_bounded(&why, text),
    };
    let written = frame.write();
    assert!(written.len() <= text.len().saturating_mul(2).saturating_add(256), "{} of {}", written.len(), text.len());
    let again = Frame::read(&written);
    assert_eq!(again.map(|again| again.write()), Ok(written));
    if let Some(body) = frame.body.map(serde_json::value::RawValue::get) {
        wire(body.as_bytes());
        let laid_in = envelope(frame.seq, body, frame.meta);
        let read =
            Frame::read(&laid_in).map(|frame| (frame.seq, frame.body.map(|body| body.get().to_owned()), frame.meta));
        assert_eq!(read, Ok((frame.seq, Some(body.to_owned()), frame.meta)), "{laid_in}");
    }
    for said in frame.said() {
        let written = Frame::from(said.clone()).write();
        let again = Frame::read(&written).map(|mut frame| frame.said().collect::<Vec<_>>());
        assert_eq!(again, Ok(vec![said]), "{written}");
    }
}

/// Names become a name of ours or a refusal: never an option of git's, nor what it would take for a helper.
pub(super) fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(url) = RepositoryUrl::read(text) {
        assert!(!url.as_str().starts_with('-'), "{url:?}");
        // `helper::address`, as git finds it: there may be two colons in paths and in addresses of version 6, too.
        let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let helper = url.as_str().trim_start_matches(is_of_a_name).starts_with("::");
        assert!(matches!(url, RepositoryUrl::Local(_)) || !helper, "{url:?}");
    }
    if let Some((_, clean)) = split_credentials(text) {
        assert!(clean.len() <= text.len(), "{clean}");
    }
    if let Ok(name) = revision(text) {
        assert!(!name.starts_with('-'), "{name}");
    }
    if let Ok(path) = InnerPath::read(text) {
        let mut parts = path.as_str().split('/');
        assert!(!path.as_str().starts_with('/') && !parts.any(|part| part == ".."), "{path:?}");
    }
    let name = task_name(text, text);
    assert!(!name.is_empty() && !name.chars().any(char::is_control), "{name:?}");
    let id = TaskId(uuid::Uuid::default());
    let branch = BranchName::of(&name, id);
    assert_eq!(BranchName::task_of(branch.as_str()), Some(id));
    assert!(revision(branch.as_str()).is_ok(), "{branch:?}");
    let _ = BranchName::task_of(text);
    if let Ok(endpoint) = makima_transports::endpoint(text) {
        // What is connected to is read as the same again.
        assert_eq!(makima_transports::endpoint(endpoint.as_str()).as_ref(), Ok(&endpoint), "{endpoint}");
    }
    if let Some(project) = Project::read(text) {
        assert!(!project.path.split('/').any(|part| part == ".."), "{project:?}");
    }
}

/// Lines of agents that speak the Agent Client Protocol: something is read of any, and what is said back is one line.
pub(super) fn acp(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines() {
        let said = match acp::line(line) {
            acp::Line::Asks(question) => {
                vec![acp::answer(&question.request, question.choices.first().map(|choice| choice.id.as_str()))]
            }
            acp::Line::Wants { request, method } => vec![acp::refuse(&request, acp::NOT_OFFERED, &method)],
            acp::Line::Answered { request, .. } => vec![acp::request(&request, acp::Request::Initialize)],
            acp::Line::Text(_)
            | acp::Line::Tool(_)
            | acp::Line::Cost(_)
            | acp::Line::Other(_)
            | acp::Line::Unreadable(_) => Vec::new(),
        };
        for said in said {
            assert!(said.ends_with('\n') && said.matches('\n').count() == 1, "{said:?}");
            assert!(serde_json::from_str::<serde_json::Value>(&said).is_ok(), "{said:?}");
        }
    }
}

/// What people answer and what is told of what they are needed for; and what stands in a conversation.
pub(super) fn said(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(answer) = Answer::read(text) {
        assert_eq!(Answer::read(&answer.write()), Some(answer));
    }
    if let Some(what) = needs::read(text) {
        assert_eq!(needs::told(what), text);
        let _ = what.map(|what| (needs::question(what), needs::is_choice(what)));
    }
    let left = [1, 2].map(|n| Utterance { name: uuid::Uuid::from_u128(n), text: "text".to_owned() });
    let mut known = std::collections::BTreeSet::new();
    text.lines().for_each(|line| claude::recall(line, &left, &mut known));
    assert!(known.len() <= left.len());
}

/// What an agent says, a line at a time: something is read of each, and what is said back is one line, in which a tool's input
/// is what it was.
pub(super) fn claude(data: &[u8]) {
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let is_line = |text: &str| {
        assert!(text.ends_with('\n') && text.lines().count() == 1 && !text.contains('\r'), "{text}");
        assert!(value(text).is_some(), "{text}");
    };
    for text in String::from_utf8_lossy(data).lines().take(1_000) {
        is_line(&claude::message(text, text));
        is_line(&claude::answer(text, Verdict::With { input: text }));
        if let Some(input) = claude::answers(text, [(text, text)]) {
            assert!(value(&input).is_some_and(|input| input["questions"].is_array() && input["answers"].is_object()));
        }
        let heard = claude::line(text);
        if let Line::Wants { request, what } = &heard {
            is_line(&claude::refuse(request, what));
        }
        let Line::Asks(question) = heard else { continue };
        let said = claude::answer(&question.request, Verdict::With { input: &question.input });
        is_line(&said);
        let input = value(&said).map(|said| said["response"]["response"]["updatedInput"].clone());
        let asked = value(&question.input).filter(serde_json::Value::is_object);
        assert!(asked.is_none() || input == asked, "{said}");
    }
}

/// The answers of a forge's interface and of its own program: a few calls and there is an end, and what is shown is a
/// page's address or a few words.
pub(super) fn forge(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let body = String::from_utf8_lossy(rest);
    for kind in [Kind::GitHub, Kind::GitLab] {
        let project = Project::read("https://example.org/team/app");
        let wanted = Wanted { branch: "makima/x".into(), base: "main".into(), title: "x".into(), body: String::new() };
        let Some(project) = project else { return };
        let (mut opening, mut call) = Opening::begin(kind, project, wanted);
        let statuses = [200, 201, 301, 401, 403, 404, 409, 422, 429, 500];
        let mut number = usize::from(*first);
        for round in 0.. {
            assert!(round < 32, "it goes on and on");
            assert!(call.url.starts_with("https://example.org/"), "{}", call.url);
            let status = statuses.get(number % statuses.len()).copied().unwrap_or(200);
            number = number.wrapping_mul(5).wrapping_add(1);
            let patience = (number % 3 == 0).then_some(number as u64);
            match opening.answered(status, patience, &body) {
                Next::Call(next) => call = next,
                Next::Later(seconds, next) => {
                    assert!(seconds <= 60, "{seconds}");
                    call = next;
                }
                Next::Open { url, .. } => {
                    is_page(&url);
                    break;
                }
                Next::Refused(why) => {
                    assert!(why.len() < 4_000, "{} bytes", why.len());
                    break;
                }
            }
        }
        for page in [Tool(kind).found(&body), Tool(kind).made(&body)].into_iter().flatten() {
            is_page(&page);
        }
    }
    assert!(rest::said(StatusCode::BAD_GATEWAY, &body).len() <= body.len().max(100));
}

fn is_page(url: &str) {
    let web = url.starts_with("https://") || url.starts_with("http://");
    assert!(web && url.len() < 2_000 && !url.chars().any(|c| c.is_control() || c.is_whitespace()), "{url}");
}

/// A server's stream of events: however it is cut into pieces the same comes of it, and no more is kept than an event is
/// long.
pub(super) fn events(data: &[u8]) {
    let whole = blocks(data, data.len().max(1));
    for piece in [1, 7, 1_000] {
        // Byte by byte is for short ones.
        if data.len() / piece <= 1 << 15 {
            assert!(blocks(data, piece) == whole, "in pieces of {piece}");
        }
    }
}

/// The blocks that a stream gives in pieces of this length; none where too much has come without an end.
fn blocks(data: &[u8], piece: usize) -> Option<Vec<crate::events::Block>> {
    let mut blocks = Blocks::default();
    let mut found = Vec::new();
    for piece in data.chunks(piece) {
        blocks.add(piece).ok()?;
        while let Some(block) = blocks.next() {
            let _ = block.event();
            found.push(block);
        }
        assert!(blocks.kept() <= EVENT_MAX, "{} bytes", blocks.kept());
    }
    Some(found)
}
