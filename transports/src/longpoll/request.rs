//! One request and its answer, both bounded in size and time.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, StatusCode};
use makima_core::input::LinkCause;
use makima_core::protocol::WIRE_VERSION;
use reqwest::{Client, ClientBuilder, Response, Url};
use serde::Deserialize;
use tokio::time::timeout;

use crate::client::{Options, client};
use crate::endpoint::Endpoint;
use crate::{MAX_MESSAGE, answer, cause};

/// A connection on which nothing was sent for this long is not used again. Servers close such ones after a while, some
/// after five seconds, and a request that meets that on its way is lost, and the link with it.
const IDLE: Duration = Duration::from_secs(4);

/// Whoever makes one kind of request, over connections of its own.
pub(super) struct Caller {
    client: Client,
    url: Url,
    /// For people: what is asked for.
    what: &'static str,
    bearer: Option<HeaderValue>,
}

/// One for each kind.
pub(super) struct Callers {
    pub(super) session: Caller,
    pub(super) poll: Caller,
    pub(super) push: Caller,
}

/// An answer that came whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Callers {
    pub(super) async fn new(endpoint: &Endpoint, options: &Options) -> Result<Self, LinkCause> {
        let finish = |builder: ClientBuilder| builder.pool_idle_timeout(IDLE).pool_max_idle_per_host(1);
        // The session's connection goes on as that of the pushes.
        let (push, poll) = (client(endpoint, options, finish).await?, client(endpoint, options, finish).await?);
        let caller = |client: &Client, name, what| Caller {
            client: client.clone(),
            url: endpoint.below(name),
            what,
            bearer: None,
        };
        Ok(Self {
            session: caller(&push, "session", "opening the session"),
            push: caller(&push, "push", "a push"),
            poll: caller(&poll, "poll", "a poll"),
        })
    }

    /// The key that every request shows from now on. False if no header can hold it.
    pub(super) fn show(&mut self, key: &str) -> bool {
        let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {key}")) else { return false };
        bearer.set_sensitive(true);
        for caller in [&mut self.session, &mut self.poll, &mut self.push] {
            caller.bearer = Some(bearer.clone());
        }
        true
    }
}

impl Caller {
    /// Asks, and takes the answer whatever it is, if it comes whole and within this time.
    pub(super) async fn post(&self, body: String, limit: Duration) -> Result<Answer, LinkCause> {
        match timeout(limit, self.ask(body)).await {
            Ok(answer) => answer,
            Err(_) => Err(LinkCause::Broken(format!("no answer to {} within {} s", self.what, limit.as_secs_f32()))),
        }
    }

    async fn ask(&self, body: String) -> Result<Answer, LinkCause> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(answer::MAKIMA_WIRE, WIRE_VERSION)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        let mut response = request.send().await.map_err(|error| cause::no_answer(&error, self.what))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = if status == StatusCode::OK {
            self.body(&mut response).await?
        } else {
            answer::beginning(&mut response).await
        };
        Ok(Answer { status, headers, body })
    }

    async fn body(&self, response: &mut Response) -> Result<Vec<u8>, LinkCause> {
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|error| cause::no_answer(&error, self.what))?;
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len().saturating_add(chunk.len()) > MAX_MESSAGE {
                let what = self.what;
                return Err(LinkCause::Broken(format!("an answer to {what} of more than {MAX_MESSAGE} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
    }
}

impl Answer {
    /// What a session's request is answered with, if this is that.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, LinkCause> {
        let page = answer::is_html(&self.headers, &self.body);
        match self.status {
            // A page that says so is none of the server's: nothing is known about the session.
            StatusCode::NOT_FOUND | StatusCode::GONE if !page => Err(LinkCause::Gone),
            StatusCode::OK if !page => self.json(),
            _ => Err(self.refusal()),
        }
    }

    /// The body as JSON of this form.
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, LinkCause> {
        serde_json::from_slice(&self.body).map_err(|_| self.refusal())
    }

    /// It is not what was asked for.
    pub(super) fn refusal(&self) -> LinkCause {
        answer::refusal(self.status, &self.headers, &self.body)
    }
}
