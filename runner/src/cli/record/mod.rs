//! `makima protocol record`: what a server says to a daemon, written down. It takes on no work.

mod mask;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use makima_core::effect::Way;
use makima_core::id::{Epoch, SecretId};
use makima_core::input::LinkCause;
use makima_core::policy::counted;
use makima_core::protocol::{Authenticate, DaemonCommand, DaemonMessage, Heartbeat, TaskComplete, Wire};
use makima_transports::{LinkEvent, LinkHandle, Options, Outgoing, open_with};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::args::RecordArgs;
use super::daemon::choose;
use super::print;
use super::session::{EVENTS, in_words};
use super::signals::Signals;
use crate::config::{self, ConfigFile};
use crate::executor::Secrets;
use crate::report::{FAILED, Failure, KEY_REFUSED, NOT_REACHED};
use crate::service;

/// For a server to let us in.
const AUTHENTICATE: Duration = Duration::from_secs(10);

/// Between two heartbeats, and two pings.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// For the end of a session that we end.
const FAREWELL: Duration = Duration::from_secs(3);

/// One frame, as it is written down.
#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since the recording began.
    t: u128,
    /// `in` is from the server, `out` to it.
    dir: &'a str,
    frame: &'a Value,
}

/// The recording.
struct Recorder {
    to: Box<dyn Write>,
    place: String,
    secrets: Secrets,
    begun: Instant,
    /// How many of each kind went which way.
    counts: BTreeMap<(&'static str, String), u64>,
    unreadable: u64,
}

impl Recorder {
    fn open(out: Option<&Path>, secrets: Secrets) -> Result<Self, Failure> {
        let place = out.map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
        let to: Box<dyn Write> = match out {
            Some(path) => Box::new(crate::home::private_file().open(path).map_err(|error| {
                Failure::unusable(format!("{place}: {error}")).hint("name a file that you can write to")
            })?),
            None => Box::new(io::stdout()),
        };
        let (counts, begun) = (BTreeMap::new(), Instant::now());
        Ok(Self { to, place, secrets, begun, counts, unreadable: 0 })
    }

    /// Writes a frame down, at once: what is not there yet would be missing after a kill.
    fn write(&mut self, dir: &'static str, kind: &str, text: &str) -> Result<(), Failure> {
        let frame = mask::masked(text, &self.secrets);
        let t = self.begun.elapsed().as_millis();
        let mut line = serde_json::to_vec(&Line { t, dir, frame: &frame }).unwrap_or_default();
        line.push(b'\n');
        *self.counts.entry((dir, kind.to_owned())).or_default() += 1;
        let written = self.to.write_all(&line).and_then(|()| self.to.flush());
        written.map_err(|error| {
            Failure::failed(format!("{}: {error}", self.place)).hint("make room, or name another file")
        })
    }

    fn send(&mut self, link: &LinkHandle, n: u64, message: &DaemonMessage) -> Result<(), Failure> {
        let text = message.write();
        self.write("out", message.kind(), &text)?;
        link.send(Outgoing::Message { n, text });
        Ok(())
    }

    /// What came, and what it says if it can be read.
    fn receive(&mut self, text: &str) -> Result<Option<DaemonCommand>, Failure> {
        let read = DaemonCommand::read(text);
        self.unreadable += u64::from(read.is_err());
        let kind = read.as_ref().map_or("unreadable", DaemonCommand::kind);
        self.write("in", kind, text)?;
        Ok(read.ok())
    }

    /// So many of each kind, for people.
    fn summary(&self) -> String {
        let of = |way: &str| {
            let counts = self.counts.iter().filter(|((dir, _), _)| *dir == way);
            let all: Vec<String> = counts.map(|((_, kind), n)| format!("{kind} {n}")).collect();
            if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
        };
        let unreadable = match self.unreadable {
            0 => String::new(),
            n => format!("; {} could not be read", counted(n, "frame")),
        };
        format!("in: {}; out: {}{unreadable}", of("in"), of("out"))
    }
}

pub(super) async fn record(args: RecordArgs) -> Result<(), Failure> {
    let home = config::home_path()?;
    let file = ConfigFile::read(&home)?;
    let chosen = choose(&home, Some(&args.url), args.api_key_file.as_deref(), &file).await?;
    let endpoint = service::server_endpoint(&chosen.url, args.insecure)?;
    let secrets = service::known_secrets(&file)?;
    secrets.set(SecretId::DaemonKey, chosen.key.clone());
    let mut recorder = Recorder::open(args.out.as_deref().filter(|path| *path != Path::new("-")), secrets)?;
    let mut signals = Signals::new()?;
    // What every server speaks: envelopes would ask for answers that only a daemon can give.
    let options = Options { wire: Wire::One, ..Options::default() };
    let (to, events) = mpsc::channel(EVENTS);
    let link = open_with(endpoint, options, Way::WebSocket, Epoch(1), to);
    let limit = args.seconds.map(|seconds| recorder.begun + Duration::from_secs(seconds));
    let mut session = Session { link, events, key: chosen.key, sent: 0, is_open: false };
    let ended = tokio::select! {
        ended = session.run(&mut recorder, &file) => ended,
        _ = signals.next() => Ok(()),
        () = until(limit) => Ok(()),
    };
    let was_open = session.is_open;
    session.end(&mut recorder).await;
    print::note(&recorder.summary());
    ended?;
    match was_open {
        true => Ok(()),
        false => Err(Failure::failed("it ended before the server had let us in").with_code(NOT_REACHED)),
    }
}

/// That moment; where there is none, never.
async fn until(limit: Option<Instant>) {
    match limit {
        Some(limit) => sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

/// A session with the server.
struct Session {
    link: LinkHandle,
    events: mpsc::Receiver<(Epoch, LinkEvent)>,
    key: String,
    sent: u64,
    is_open: bool,
}

impl Session {
    fn next(&mut self) -> u64 {
        self.sent = self.sent.saturating_add(1);
        self.sent
    }

    /// Until the server ends it.
    async fn run(&mut self, recorder: &mut Recorder, file: &ConfigFile) -> Result<(), Failure> {
        let mut beats = interval(HEARTBEAT);
        let patience = sleep(AUTHENTICATE);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some((_, LinkEvent::Down(cause))) => return self.down(&cause, recorder),
                    Some((_, event)) => self.event(event, recorder, file)?,
                    None => return Ok(()),
                },
                () = &mut patience, if !self.is_open => {
                    let seconds = AUTHENTICATE.as_secs();
                    let what = format!("the server did not answer `authenticate` within {seconds} s");
                    return Err(Failure::failed(what).with_code(NOT_REACHED));
                }
                _ = beats.tick(), if self.is_open => {
                    let n = self.next();
                    recorder.send(&self.link, n, &Heartbeat { active_tasks: Vec::new() }.into())?;
                    let n = self.next();
                    self.link.send(Outgoing::Ping { n });
                }
            }
        }
    }

    fn event(&mut self, event: LinkEvent, recorder: &mut Recorder, file: &ConfigFile) -> Result<(), Failure> {
        match event {
            LinkEvent::Up(_) => {
                let n = self.next();
                let authenticate = Authenticate {
                    api_key: self.key.clone(),
                    // None that the server knows: a daemon of this machine keeps its session.
                    machine_id: Uuid::now_v7().to_string(),
                    hostname: "makima recorder".to_owned(),
                    max_concurrent_tasks: 1,
                };
                recorder.send(&self.link, n, &authenticate.into())
            }
            LinkEvent::Frame(text) => {
                let command = recorder.receive(&text)?;
                command.map_or(Ok(()), |command| self.command(command, recorder, file))
            }
            LinkEvent::Binary(length) => recorder.receive(&format!("a binary frame of {length} bytes")).map(drop),
            LinkEvent::Flushed(_) | LinkEvent::Pong(_) | LinkEvent::Down(_) => Ok(()),
        }
    }

    fn command(&mut self, command: DaemonCommand, recorder: &mut Recorder, file: &ConfigFile) -> Result<(), Failure> {
        if let DaemonCommand::Authenticated(_) = &command {
            self.is_open = true;
            print::note(&format!("recording to {}; Ctrl-C ends it", recorder.place));
        } else if let DaemonCommand::SpawnTask(spawn) = &command {
            // A server that waits for its end would wait for ever.
            let error = Some("this is a recorder".to_owned());
            let n = self.next();
            let end = TaskComplete { task_id: spawn.task_id, success: false, error };
            return recorder.send(&self.link, n, &end.into());
        } else if let DaemonCommand::ServerError(error) = &command
            && !self.is_open
        {
            let said = recorder.secrets.masked(&format!("{} (`{}`)", error.message, error.code));
            let is_refusal = file.compat().refuses_key(&error.code);
            let code = if is_refusal { KEY_REFUSED } else { FAILED };
            let failure = Failure::failed(format!("the server does not let us in: {}", print::tame(&said)));
            let hint = "set MAKIMA_API_KEY, or name a file that holds the key with --api-key-file";
            return Err(if is_refusal { failure.hint(hint) } else { failure }.with_code(code));
        }
        Ok(())
    }

    /// It is over. That is in order once it was open.
    fn down(&self, cause: &LinkCause, recorder: &Recorder) -> Result<(), Failure> {
        let words = print::tame(&recorder.secrets.masked(&in_words(cause)));
        if self.is_open {
            print::note(&format!("the session is over: {words}"));
            return Ok(());
        }
        let code = match cause {
            LinkCause::Refused { status: 401 | 403, by_server: true, .. } => KEY_REFUSED,
            LinkCause::Refused { .. }
            | LinkCause::Unreachable(_)
            | LinkCause::Gone
            | LinkCause::Closed(_)
            | LinkCause::Broken(_) => NOT_REACHED,
        };
        Err(Failure::failed(format!("the server is not reached: {words}")).with_code(code))
    }

    /// Closes it in good order. What the server still says is written down, and answered no more.
    async fn end(mut self, recorder: &mut Recorder) {
        self.link.send(Outgoing::Close);
        let last = async {
            while let Some((_, event)) = self.events.recv().await {
                match event {
                    LinkEvent::Frame(text) => drop(recorder.receive(&text)),
                    LinkEvent::Down(_) => return,
                    LinkEvent::Up(_) | LinkEvent::Binary(_) | LinkEvent::Flushed(_) | LinkEvent::Pong(_) => {}
                }
            }
        };
        // A server that does not say goodbye is left all the same.
        let _ = timeout(FAREWELL, last).await;
    }
}
