//! From a URL to a socket on which WebSocket frames may be sent.

use http::StatusCode;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use makima_core::input::LinkCause;
use makima_core::protocol::{WIRE_VERSION, Wire};
use reqwest::{ClientBuilder, Upgraded};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::client::{Options, client};
use crate::endpoint::Endpoint;
use crate::{answer, cause};

/// Asks for a WebSocket and for version 2, and checks the answer. A header that a server does not know harms nobody,
/// unlike a subprotocol, which has to be answered.
pub(crate) async fn upgrade(endpoint: &Endpoint, options: &Options) -> Result<(Upgraded, Wire), LinkCause> {
    let limit = options.timeouts.handshake;
    match timeout(limit, ask(endpoint, options)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(LinkCause::Broken(format!("no answer to the handshake within {} s", limit.as_secs_f32()))),
    }
}

async fn ask(endpoint: &Endpoint, options: &Options) -> Result<(Upgraded, Wire), LinkCause> {
    let client = client(endpoint, options, ClientBuilder::http1_only).await?;
    let key = generate_key();
    let mut request = client
        .get(endpoint.url().clone())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    if options.wire == Wire::Two {
        request = request.header(answer::MAKIMA_WIRE, WIRE_VERSION);
    }
    let no_answer = |error: reqwest::Error| cause::no_answer(&error, "the handshake");
    let response = request.send().await.map_err(no_answer)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(answer::refused(response).await);
    }
    check(response.headers(), &key)?;
    // Nobody is to speak what we did not ask for.
    let wire = answer::wire(response.headers()).min(options.wire);
    Ok((response.upgrade().await.map_err(no_answer)?, wire))
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
