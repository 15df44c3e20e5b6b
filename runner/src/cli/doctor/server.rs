//! The server and the key: whether it is reached, in which ways, and whether it takes the key.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use makima_core::Compat;
use makima_core::effect::Way;
use makima_core::id::SecretId;
use makima_transports::Endpoint;

use super::Check;
use crate::cli::args::ServerArgs;
use crate::cli::daemon::choose;
use crate::cli::session::{Answer, ask};
use crate::config::ConfigFile;
use crate::executor::Secrets;
use crate::service::server_endpoint;

pub(super) async fn server(home: &Path, args: &ServerArgs, file: &ConfigFile) -> Vec<Check> {
    let named = args.server.is_some() || file.server.is_some();
    let chosen = match choose(home, args.server.as_deref(), args.api_key_file.as_deref(), file).await {
        Ok(chosen) => chosen,
        Err(failure) if named => return vec![Check::of("key", failure)],
        Err(_) => return vec![Check::ok("server", "none is named; `makima run` brings its own")],
    };
    let endpoint = match server_endpoint(&chosen.url, args.insecure) {
        Ok(endpoint) => endpoint,
        Err(failure) => return vec![Check::of("server", failure)],
    };
    let compat = file.compat();
    let socket = ask(&endpoint, Way::WebSocket, &chosen.key);
    let poll = ask(&endpoint, Way::LongPoll, &chosen.key);
    let (socket, poll) = tokio::join!(socket, poll);
    // What a server says of the key may hold it.
    let secrets = Secrets::default();
    secrets.set(SecretId::DaemonKey, chosen.key);
    let masked = |check: Check| Check { detail: secrets.masked(&check.detail), ..check };
    let server = Some(judge(&endpoint, &socket, &poll));
    let checks = [readable_by_others(args, file), server, key(&endpoint, &compat, [&socket, &poll])];
    checks.into_iter().flatten().map(masked).collect()
}

/// The file of a key is its owner's alone.
fn readable_by_others(args: &ServerArgs, file: &ConfigFile) -> Option<Check> {
    // The environment goes before the file of the configuration.
    let given = std::env::var("MAKIMA_API_KEY").is_ok_and(|key| !key.trim().is_empty());
    let path = args.api_key_file.as_ref().or_else(|| file.api_key_file.as_ref().filter(|_| !given))?;
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    let detail = format!("others may read {} (mode {mode:o})", path.display());
    (mode & 0o077 != 0).then(|| Check::warn("key file", detail, format!("chmod 600 {}", path.display())))
}

/// Whether the server is there, and which ways lead to it.
fn judge(endpoint: &Endpoint, socket: &Answer, poll: &Answer) -> Check {
    let secure = if endpoint.is_encrypted() { "by TLS" } else { "unencrypted" };
    let help = "is it running, and is the URL right? Do a proxy and the certificates fit (HTTPS_PROXY, SSL_CERT_FILE)?";
    match (socket.passes(), poll.passes()) {
        (true, true) => Check::ok("server", format!("{endpoint} answers {secure}, by WebSocket and by long-poll")),
        (true, false) => {
            let why = poll.words();
            Check::ok(
                "server",
                format!("{endpoint} answers {secure}, by WebSocket; no long-poll, which is not needed ({why})"),
            )
        }
        (false, true) => Check::warn(
            "server",
            format!("{endpoint} answers {secure}, by long-poll only; a WebSocket does not pass: {}", socket.words()),
            "it works; where a proxy on the way is yours, let it pass `Upgrade: websocket`",
        ),
        (false, false) if socket.words() == poll.words() => {
            Check::fail("server", format!("{endpoint} is not reached: {}", socket.words()), help)
        }
        (false, false) => {
            let (socket, poll) = (socket.words(), poll.words());
            Check::fail("server", format!("{endpoint}: by WebSocket: {socket}; by long-poll: {poll}"), help)
        }
    }
}

/// What the server makes of the key, from whichever way says so.
fn key(endpoint: &Endpoint, compat: &Compat, answers: [&Answer; 2]) -> Option<Check> {
    let server = endpoint.origin();
    let refusal = answers.iter().find_map(|answer| answer.refusal(compat));
    if let Some(words) = refusal {
        let help = "set MAKIMA_API_KEY or use --api-key-file with the key of this server";
        return Some(Check::fail("key", format!("{server} refuses it: {words}"), help));
    }
    let said = answers.iter().find(|answer| answer.is_of_the_session())?;
    Some(match said {
        Answer::Error { code, message } if !is_about_the_machine(code) => Check::warn(
            "key",
            format!("{server} answers `{code}`: {message}"),
            "the server's operator can tell what it means",
        ),
        Answer::Error { .. } | Answer::Welcome => Check::ok("key", format!("{server} takes it")),
        Answer::Link(_) | Answer::Silence => return None,
    })
}

/// We come as a machine without a name: a server that minds has looked at the key before.
fn is_about_the_machine(code: &str) -> bool {
    code.to_ascii_lowercase().contains("machine")
}
