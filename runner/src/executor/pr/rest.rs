//! A forge's interface, called as the core says. No redirect is followed: the token would go along.

use std::time::Duration;

use makima_core::forge::{Call, Method, Next, Opening};
use makima_transports::{Options, client_builder, endpoint};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response};

use super::super::blocking;
use super::{Job, Opened};

/// The longest that one call may take.
const CALL: Duration = Duration::from_secs(30);
/// The longest that all of them may take.
const ALL: Duration = Duration::from_secs(120);
/// What is taken of an answer, in bytes.
const ANSWER: usize = 4 << 20;

/// Makes the calls until one is open, or it is plain why not.
pub(super) async fn open(job: &Job<'_>, mut opening: Opening, first: Call, token: &str) -> Result<Opened, String> {
    let client = client(&first.url).await?;
    let walk = async {
        let mut next = Next::Call(first);
        loop {
            let call = match next {
                Next::Open { url, found } => return Ok(Opened { url, found }),
                Next::Refused(why) => return Err(why),
                Next::Call(call) => call,
                Next::Later(seconds, call) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    call
                }
            };
            next = match ask(&client, call, token).await {
                Ok((status, patience, body)) => opening.answered(status, patience, &body),
                Err(why) => opening.failed(&why),
            };
        }
    };
    tokio::select! {
        done = walk => done,
        () = tokio::time::sleep(ALL) => Err(format!("the forge was not done after {} s", ALL.as_secs())),
        () = job.cancel.set() => Err("it was cancelled".to_owned()),
    }
}

async fn client(url: &str) -> Result<Client, String> {
    let server = endpoint(url).map_err(|why| why.to_string())?;
    // Certificates are read from the disk.
    blocking(move || {
        let builder = client_builder(&server, &Options::default()).map_err(|why| why.to_string())?;
        builder.timeout(CALL).build().map_err(|why| why.to_string())
    })
    .await?
}

async fn ask(client: &Client, call: Call, token: &str) -> Result<(u16, Option<u64>, String), String> {
    let request = match call.method {
        Method::Get => client.get(&call.url),
        Method::Post => client.post(&call.url),
    };
    let request = request.bearer_auth(token).header(ACCEPT, "application/json");
    let request = match call.body {
        Some(body) => request.header(CONTENT_TYPE, "application/json").body(body),
        None => request,
    };
    let response = request.send().await.map_err(|failure| reason(&failure))?;
    let (status, patience) = (response.status().as_u16(), patience(response.headers()));
    Ok((status, patience, body(response).await?))
}

fn patience(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

async fn body(mut response: Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|failure| reason(&failure))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER {
            return Err(format!("answered more than {ANSWER} bytes"));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Why there was no answer, without the machinery.
fn reason(failure: &reqwest::Error) -> String {
    let mut why: &dyn std::error::Error = failure;
    while let Some(source) = why.source() {
        why = source;
    }
    format!("did not answer: {why}")
}
