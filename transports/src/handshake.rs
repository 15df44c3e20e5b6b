//! From a URL to a socket on which WebSocket frames may be sent.

use std::time::Duration;

use http::StatusCode;
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use makima_core::input::LinkCause;
use reqwest::{Client, Response, Upgraded};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::cause;
use crate::client::{ClientError, Options, client_builder, reads_certificates};
use crate::endpoint::Endpoint;

/// By this an answer is known as one of a makima server, whatever else is in it.
const MAKIMA_WIRE: HeaderName = HeaderName::from_static("makima-wire");

/// Bytes read of an answer that is no upgrade.
const BODY: usize = 16 << 10;

/// How long such an answer's body may take. What has come by then has to do.
const BODY_TIME: Duration = Duration::from_secs(2);

/// Asks for a WebSocket and checks the answer.
pub(crate) async fn upgrade(endpoint: &Endpoint, options: &Options) -> Result<Upgraded, LinkCause> {
    let limit = options.timeouts.handshake;
    match timeout(limit, ask(endpoint, options)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(LinkCause::Broken(format!("no answer to the handshake within {} s", limit.as_secs_f32()))),
    }
}

async fn ask(endpoint: &Endpoint, options: &Options) -> Result<Upgraded, LinkCause> {
    let client = client(endpoint, options).await?;
    let key = generate_key();
    let request = client
        .get(endpoint.url().clone())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let response = request.send().await.map_err(|error| cause::no_answer(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(response).await);
    }
    check(response.headers(), &key)?;
    response.upgrade().await.map_err(|error| cause::no_answer(&error))
}

/// A client for one handshake: connections are rare, and certificates on the disk may be others next time.
async fn client(endpoint: &Endpoint, options: &Options) -> Result<Client, LinkCause> {
    let reads_disk = reads_certificates(endpoint);
    let (endpoint, options) = (endpoint.clone(), options.clone());
    let build = move || Ok(client_builder(&endpoint, &options)?.build()?);
    let built: Result<Client, ClientError> = if reads_disk {
        let failed = |error: JoinError| LinkCause::Unreachable(error.to_string());
        spawn_blocking(build).await.map_err(failed)?
    } else {
        build()
    };
    built.map_err(|error| cause::no_client(&error))
}

fn check(headers: &HeaderMap, key: &str) -> Result<(), LinkCause> {
    let has_word = |name: HeaderName, word: &str| {
        let values = headers.get_all(name);
        let mut words = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        words.any(|found| found.trim().eq_ignore_ascii_case(word))
    };
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes());
    let wrong = if !has_word(UPGRADE, "websocket") || !has_word(CONNECTION, "upgrade") {
        "no Upgrade to websocket"
    } else if accept != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        "a Sec-WebSocket-Accept that does not fit"
    } else if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) || headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        "a subprotocol or an extension that nobody asked for"
    } else {
        return Ok(());
    };
    Err(LinkCause::Broken(format!("what answered the handshake is no WebSocket server: {wrong}")))
}

async fn refused(mut response: Response) -> LinkCause {
    let body = body(&mut response).await;
    LinkCause::Refused {
        status: response.status().as_u16(),
        by_server: by_server(response.headers(), &body),
        detail: cause::shown(&String::from_utf8_lossy(&body)),
    }
}

async fn body(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while body.len() < BODY
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
    };
    // A body that breaks off or drips is shown as far as it came.
    let _ = timeout(BODY_TIME, read).await;
    body.truncate(BODY);
    body
}

/// Whether this is an answer of the server itself: proxies and gates on the way answer in HTML.
fn by_server(headers: &HeaderMap, body: &[u8]) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_json = media_type == "application/json" || media_type.ends_with("+json");
    let is_json = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body).is_ok();
    headers.contains_key(MAKIMA_WIRE) || is_json || (says_json && !body.is_empty())
}
