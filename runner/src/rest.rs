//! The people's side of a control server: its REST interface.

use std::time::Duration;

use makima_core::protocol::SpawnTask;
use makima_transports::{Endpoint, Options, client_builder};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use crate::report::{Failure, NOT_REACHED};

/// For an answer to a request that is not a stream.
const ANSWER: Duration = Duration::from_secs(30);

/// The longest answer that is read whole, in bytes: a list of very many tasks.
const WHOLE: usize = 64 << 20;

/// For a server to say what it is.
const INFO: Duration = Duration::from_secs(5);

/// A control server, as people see it.
#[derive(Clone, Debug)]
pub struct Rest {
    client: Client,
    origin: String,
    key: String,
}

/// A task, as the server tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Its id.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// Its status.
    pub status: String,
    /// Whether it ended well; none while it has not ended.
    pub success: Option<bool>,
    /// Why not.
    pub error: Option<String>,
    /// The branch of its work, once there is one.
    pub branch: Option<String>,
    /// When it was asked for.
    pub created_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// What it begins after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Uuid>,
    /// The repository that it is for, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    /// What is done with its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_action: Option<String>,
    /// The task that it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_from_task_id: Option<Uuid>,
    /// The task whose subtask it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_task_id: Option<Uuid>,
    /// What it needs a person for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_person: Option<String>,
}

/// What a server says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Info {
    /// `makima` where it is an embedded one.
    pub server: String,
    /// Its version.
    pub version: String,
}

/// What a task's daemon is asked.
#[derive(Clone, Debug)]
pub enum Question<'a> {
    /// What changes nothing, by its path behind `/tasks/ID/`.
    Look(&'a str),
    /// What does, and what goes with it.
    Do(&'a str, serde_json::Value),
}

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The server was not reached, or went away in the middle.
    #[error("the server at {origin} is not reached: {why}")]
    Away {
        /// Where it should be.
        origin: String,
        /// Why not.
        why: String,
        /// Whether the question may have come through.
        asked: bool,
    },
    /// It answered that it will not.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// Its answer is not that of a makima server.
    #[error("the server at {origin} gave an answer that is not understood: {why}")]
    Strange {
        /// Where it is.
        origin: String,
        /// What was wrong with it.
        why: String,
    },
}

impl RestError {
    /// Whether the server is not itself just now: another time it may do what was asked.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Strange { .. } => false,
        }
    }
}

impl From<RestError> for Failure {
    fn from(error: RestError) -> Self {
        match &error {
            RestError::Away { .. } => Self::unusable(error.to_string())
                .with_code(NOT_REACHED)
                .hint("is it running? start one with `makima serve`, or name another with --server"),
            RestError::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                Self::unusable("the server refuses the key").hint("set MAKIMA_API_KEY or use --api-key-file")
            }
            RestError::Refused { .. } | RestError::Strange { .. } => Self::unusable(error.to_string()),
        }
    }
}

impl Rest {
    /// The server whose endpoint for daemons this is.
    ///
    /// # Errors
    /// Where no client can be set up: certificates that cannot be read.
    pub fn new(server: &Endpoint, key: impl Into<String>) -> Result<Self, Failure> {
        let built = client_builder(server, &Options::default()).map_err(|error| error.to_string());
        let client = built.and_then(|builder| builder.build().map_err(|error| error.to_string()));
        let client = client.map_err(Failure::unusable)?;
        Ok(Self { client, origin: server.origin(), key: key.into() })
    }

    /// Where it is.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/api/v1{path}", self.origin)).bearer_auth(&self.key)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, RestError> {
        let response = request.send().await.map_err(|error| self.away(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.whole(response).await.unwrap_or_default();
        Err(RestError::Refused { status, message: said(status, &body) })
    }

    /// A request whose answer has to be there in time.
    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).timeout(ANSWER)
    }

    async fn text(&self, request: RequestBuilder) -> Result<String, RestError> {
        let response = self.send(request).await?;
        self.whole(response).await
    }

    /// All that it says. Who answers there may be anybody, and go on without an end.
    async fn whole(&self, mut response: Response) -> Result<String, RestError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.away(&error))? {
            if body.len().saturating_add(chunk.len()) > WHOLE {
                let why = format!("it is longer than {} MiB", WHOLE >> 20);
                return Err(RestError::Strange { origin: self.origin.clone(), why });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, RestError> {
        serde_json::from_str(&self.text(request).await?)
            .map_err(|error| RestError::Strange { origin: self.origin.clone(), why: error.to_string() })
    }

    /// What the server answers to a question, as it stands.
    ///
    /// # Errors
    /// It is not reached, or will not.
    pub async fn raw(&self, path: &str) -> Result<String, RestError> {
        self.text(self.ask(Method::GET, path)).await
    }

    /// It is not there, in words without the machinery.
    pub(crate) fn away(&self, error: &reqwest::Error) -> RestError {
        let mut why: &dyn std::error::Error = error;
        while let Some(source) = why.source() {
            why = source;
        }
        RestError::Away { origin: self.origin.clone(), why: why.to_string(), asked: !error.is_connect() }
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// It is not reached, refuses the key, or is none of ours.
    pub async fn info(&self) -> Result<Info, RestError> {
        self.json(self.request(Method::GET, "/info").timeout(INFO)).await
    }

    /// Asks for a task, to begin when these others have ended well. The same one twice is as good as once.
    ///
    /// # Errors
    /// It is not reached, or will not.
    pub async fn create(&self, task: &SpawnTask, after: &[Uuid]) -> Result<(), RestError> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(flatten)]
            task: &'a SpawnTask,
            #[serde(skip_serializing_if = "<[Uuid]>::is_empty")]
            after: &'a [Uuid],
        }
        self.send(self.ask(Method::POST, "/tasks").json(&Body { task, after })).await.map(drop)
    }

    /// Asks for a task that goes on where another is, with this message, or with none. The same one twice is as good as once.
    ///
    /// # Errors
    /// It is not reached, knows no such task, or will not.
    pub async fn go_on(&self, with: Uuid, task: Uuid, message: Option<&str>) -> Result<(), RestError> {
        let body = serde_json::json!({ "taskId": task, "message": message });
        self.send(self.ask(Method::POST, &format!("/tasks/{with}/continue")).json(&body)).await.map(drop)
    }

    /// One task.
    ///
    /// # Errors
    /// It is not reached, or knows no such task.
    pub async fn task(&self, id: Uuid) -> Result<Task, RestError> {
        self.json(self.ask(Method::GET, &format!("/tasks/{id}"))).await
    }

    /// A list, as the server gives it: `/tasks` or `/daemons`.
    ///
    /// # Errors
    /// It is not reached, or will not.
    pub async fn list<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, RestError> {
        self.json(self.ask(Method::GET, path)).await
    }

    /// Ends a task.
    ///
    /// # Errors
    /// It is not reached, knows no such task, or that has ended.
    pub async fn interrupt(&self, id: Uuid, graceful: bool) -> Result<(), RestError> {
        let body = serde_json::json!({ "graceful": graceful });
        self.send(self.ask(Method::POST, &format!("/tasks/{id}/interrupt")).json(&body)).await.map(drop)
    }

    /// What the server answers to a question for which it waits up to so long itself.
    ///
    /// # Errors
    /// It is not reached or does not answer in time, or will not.
    pub(crate) async fn look<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<T, RestError> {
        self.json(self.request(Method::GET, path).timeout(ANSWER.saturating_add(wait))).await
    }

    /// Hands it something, and gives what it answers.
    ///
    /// # Errors
    /// It is not reached, or will not.
    pub(crate) async fn hand<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, RestError> {
        self.json(self.ask(Method::POST, path).json(body)).await
    }

    /// Says something to a task, or asks it: what stands behind `/tasks/ID/` in the path, and what goes with it. Gives
    /// what the server answers.
    ///
    /// # Errors
    /// It is not reached, or will not.
    pub async fn say(&self, id: Uuid, what: &str, body: &impl Serialize) -> Result<String, RestError> {
        self.text(self.ask(Method::POST, &format!("/tasks/{id}/{what}")).json(body)).await
    }

    /// Asks a task's daemon by way of the server, and waits so many seconds for its answer. None where it has not
    /// answered by then, and goes on with what it was asked for.
    ///
    /// # Errors
    /// It is not reached, or will not; or the daemon is not there.
    pub async fn question(&self, id: Uuid, question: Question<'_>, wait: u64) -> Result<Option<String>, RestError> {
        let (method, what, body) = match question {
            Question::Look(what) => (Method::GET, what, None),
            Question::Do(what, body) => (Method::POST, what, Some(body)),
        };
        let path = format!("/tasks/{id}/{what}?wait={wait}");
        let request = self.request(method, &path).timeout(ANSWER.saturating_add(Duration::from_secs(wait)));
        let response = self.send(match body {
            Some(body) => request.json(&body),
            None => request,
        });
        let response = response.await?;
        let answered = response.status() != StatusCode::ACCEPTED;
        let text = self.whole(response).await?;
        Ok(answered.then_some(text))
    }

    /// A task's output from this byte on, as far as it has come.
    ///
    /// # Errors
    /// It is not reached, or knows no such task.
    pub async fn output(&self, id: Uuid, from: u64) -> Result<Response, RestError> {
        self.send(self.request(Method::GET, &format!("/tasks/{id}/output?from={from}"))).await
    }

    /// The same from its beginning, as text, a piece at a time.
    ///
    /// # Errors
    /// It is not reached or goes away meanwhile, or knows no such task.
    pub async fn read_output(&self, id: Uuid, mut take: impl FnMut(&str)) -> Result<(), RestError> {
        let mut output = self.soon(self.output(id, 0)).await?;
        let mut held = Vec::new();
        // Whoever takes it may read it in peace: only the server has to be quick.
        while let Some(bytes) = self.soon(async { output.chunk().await.map_err(|error| self.away(&error)) }).await? {
            // The server sends text; only a chunk of the transfer can cut a character in two.
            held.extend_from_slice(&bytes);
            let whole = std::str::from_utf8(&held).map_or_else(|error| error.valid_up_to(), str::len);
            let text: Vec<u8> = held.drain(..whole).collect();
            take(&String::from_utf8_lossy(&text));
        }
        Ok(())
    }

    /// A task's events behind the one of this id.
    ///
    /// # Errors
    /// It is not reached, or knows no such task.
    pub async fn events(&self, id: Uuid, last: Option<&str>) -> Result<Response, RestError> {
        let mut request = self.request(Method::GET, &format!("/tasks/{id}/events"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        // The answer begins at once; how long it goes on is the task's matter.
        self.soon(self.send(request)).await
    }

    /// What has to come soon, though not all that follows it.
    async fn soon<T>(&self, answer: impl Future<Output = Result<T, RestError>>) -> Result<T, RestError> {
        match timeout(ANSWER, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = "it does not answer".to_string();
                Err(RestError::Away { origin: self.origin.clone(), why, asked: true })
            }
        }
    }
}

/// What the server said went wrong: its own words where it has some.
pub(crate) fn said(status: StatusCode, body: &str) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: Words,
    }
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    serde_json::from_str::<Body>(body)
        .map_or_else(|_| format!("the server answered {status}"), |body| body.error.message)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers one request without an end. Gives how much it could say.
    async fn endless(listener: TcpListener, status: &str) -> usize {
        let (mut stream, _) = listener.accept().await.expect("somebody asks");
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.is_ok_and(|count| count > 0), "a request");
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("they listen");
        let (piece, mut written) = (vec![b' '; 1 << 20], 0);
        while written < 4 * WHOLE && stream.write_all(&piece).await.is_ok() {
            written += piece.len();
        }
        written
    }

    /// Protects the memory of whoever asks a server that is none of ours.
    #[tokio::test]
    async fn an_answer_without_an_end_is_left() {
        for status in ["200 OK", "500 No"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let endpoint = makima_transports::endpoint(&format!("http://{address}")).expect("a URL");
            let rest = Rest::new(&endpoint, "key").expect("a client");
            let (answer, written) = tokio::join!(rest.task(Uuid::nil()), endless(listener, status));
            let error = answer.expect_err("no answer of ours").to_string();
            let told = if status.starts_with('2') { "longer than 64 MiB" } else { "the server answered 500" };
            assert!(error.contains(told), "{error}");
            assert!(written < 2 * WHOLE, "{written} bytes were read");
        }
    }
}
