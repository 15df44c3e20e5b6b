//! News for the user: the command and the address of `[notify]` are told when a task needs a person, and when one ends.
//! Told once, in order, and not waited for: who cannot be told is said in the log.

use std::process::Stdio;
use std::time::Duration;

use makima_core::notice::Notice;
use makima_transports::{Options, client_builder, endpoint};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::report::Failure;

/// The longest that one of them may take to be told.
const TELL: Duration = Duration::from_secs(10);

/// The longest that what is not told yet is waited for when the daemon ends.
const LAST: Duration = Duration::from_secs(15);

/// News that wait, at most. Beyond that they are dropped, which is said.
const WAITING: usize = 256;

/// `[notify]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyFile {
    /// A command line. It gets the news as JSON on its standard input, and in variables.
    #[serde(default)]
    pub command: Vec<String>,
    /// An address to which the news are posted as JSON.
    pub webhook: Option<String>,
    /// What it is told of; everything where nothing stands here.
    pub on: Option<Vec<Kind>>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A task needs a person.
    NeedsPerson,
    /// One has ended well.
    Done,
    /// One has ended badly.
    Failed,
    /// One was ended.
    Interrupted,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NeedsPerson, Self::Done, Self::Failed, Self::Interrupted];

    const fn name(self) -> &'static str {
        match self {
            Self::NeedsPerson => "needs-person",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    fn of_end(status: &str) -> Self {
        match status {
            "done" => Self::Done,
            "interrupted" => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

/// One of them, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Item {
    event: Kind,
    task: String,
    name: String,
    message: String,
    machine: String,
}

/// Where news are taken.
#[derive(Debug)]
pub struct News {
    on: Option<Vec<Kind>>,
    machine: String,
    items: mpsc::Sender<Item>,
}

/// Whoever tells them.
#[derive(Debug)]
pub struct Teller(JoinHandle<()>);

impl News {
    /// Begins to tell news as the configuration has it; none where nobody is to be told.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn begin(file: &NotifyFile, machine: &str) -> Result<Option<(Self, Teller)>, Failure> {
        if file.command.is_empty() && file.webhook.is_none() {
            return Ok(None);
        }
        let webhook = file.webhook.as_deref().map(Webhook::new).transpose();
        let webhook = webhook.map_err(|why| Failure::unusable(format!("notify.webhook in config.toml: {why}")))?;
        let (items, mut waiting) = mpsc::channel(WAITING);
        let command = file.command.clone();
        let teller = tokio::spawn(async move {
            while let Some(item) = waiting.recv().await {
                tell(&item, &command, webhook.as_ref()).await;
            }
        });
        Ok(Some((Self { on: file.on.clone(), machine: machine.to_owned(), items }, Teller(teller))))
    }

    /// Takes a notice, if it is one of these. `plain` is how a text reads without secrets.
    pub(crate) fn take(&self, notice: &Notice, plain: impl Fn(&str) -> String) {
        let (event, task, name, message) = if let Notice::Needs { task, name, what: Some(what) } = notice {
            (Kind::NeedsPerson, task, name, what.clone())
        } else if let Notice::Ended { task, name, status, error } = notice {
            (Kind::of_end(status), task, name, error.clone().unwrap_or_default())
        } else {
            return;
        };
        if self.on.as_ref().is_some_and(|on| !on.contains(&event)) {
            return;
        }
        let (task, machine) = (task.to_string(), self.machine.clone());
        let item = Item { event, task, name: plain(name), message: plain(&message), machine };
        if self.items.try_send(item).is_err() {
            tracing::warn!("too many news wait to be told: this one is not");
        }
    }
}

impl Teller {
    /// Nothing more comes: waits until all is told, and not for ever.
    pub async fn end(self) {
        if timeout(LAST, self.0).await.is_err() {
            tracing::warn!("news of tasks could not be told in time");
        }
    }
}

async fn tell(item: &Item, command: &[String], webhook: Option<&Webhook>) {
    // Texts only: this can always be written.
    let body = serde_json::to_string(item).unwrap_or_default();
    let (by_command, by_webhook) =
        tokio::join!(async { if command.is_empty() { Ok(()) } else { run(item, command, &body).await } }, async {
            match webhook {
                Some(webhook) => webhook.post(body.clone()).await,
                None => Ok(()),
            }
        });
    for (who, told) in [("notify.command", by_command), ("notify.webhook", by_webhook)] {
        if let Err(why) = told {
            tracing::warn!("{who}: task {} ({}) was not told: {why}", item.task, item.event.name());
        }
    }
}

/// Runs the user's command.
async fn run(item: &Item, command: &[String], body: &str) -> Result<(), String> {
    let [program, args @ ..] = command else { return Ok(()) };
    let mut call = Command::new(program);
    call.args(args).current_dir("/").kill_on_drop(true);
    call.env("MAKIMA_EVENT", item.event.name()).env("MAKIMA_TASK_ID", &item.task);
    call.env("MAKIMA_TASK_NAME", &item.name).env("MAKIMA_MESSAGE", &item.message);
    call.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = call.spawn().map_err(|failure| format!("`{program}` cannot be run: {failure}"))?;
    let told = async {
        if let Some(mut stdin) = child.stdin.take() {
            // Who does not want to read it has the variables.
            let _ = stdin.write_all(body.as_bytes()).await;
        }
        child.wait().await
    };
    match timeout(TELL, told).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("`{program}` ended with {status}")),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("`{program}` did not end within {} s, and is killed", TELL.as_secs())),
    }
}

/// Where they are posted to.
#[derive(Debug)]
struct Webhook {
    client: Client,
    url: String,
}

impl Webhook {
    fn new(url: &str) -> Result<Self, String> {
        let server = endpoint(url).map_err(|why| why.to_string())?;
        let builder = client_builder(&server, &Options::default()).map_err(|why| why.to_string())?;
        let client = builder.timeout(TELL).build().map_err(|why| why.to_string())?;
        Ok(Self { client, url: url.to_owned() })
    }

    async fn post(&self, body: String) -> Result<(), String> {
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        // Not the address: it may bear a key.
        let response = request.send().await.map_err(|failure| failure.without_url().to_string())?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }
}
