//! Failures in words that a person understands, without secrets: no URL, no header, no key is in them.

use std::error::Error as StdError;
use std::io;

use makima_core::input::LinkCause;
use rustls::CertificateError;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};

use crate::client::ClientError;

/// Characters kept of what the far side says.
const SHOWN: usize = 200;

/// The far side's text for people: one line, printable, short.
pub(crate) fn shown(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN).collect()
}

/// Why there is no HTTP answer. Where there is a connection it is the connection that broke.
pub(crate) fn no_answer(error: &reqwest::Error, to: &str) -> LinkCause {
    let words = innermost(error);
    if error.is_connect() || error.is_builder() {
        LinkCause::Unreachable(words)
    } else {
        LinkCause::Broken(format!("the connection ended during {to}: {words}"))
    }
}

/// Why nothing could be asked at all.
pub(crate) fn no_client(error: &ClientError) -> LinkCause {
    LinkCause::Unreachable(match error {
        ClientError::NoNamedRoots => error.to_string(),
        ClientError::Builder(inner) => format!("{error}: {}", innermost(inner)),
    })
}

/// Why a WebSocket ended, other than by a close.
pub(crate) fn broken(error: &WsError) -> LinkCause {
    LinkCause::Broken(match error {
        WsError::Io(error) => io_words(error),
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            format!("a message of {size} bytes, of which at most {max_size} are taken")
        }
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) | WsError::ConnectionClosed => {
            "the connection ended without a close".to_owned()
        }
        WsError::Protocol(error) => format!("what came is no WebSocket: {error}"),
        WsError::Utf8(_) => "what came is no WebSocket: a text that is not UTF-8".to_owned(),
        WsError::WriteBufferFull(_) => "a message too large to be sent".to_owned(),
        WsError::Capacity(CapacityError::TooManyHeaders)
        | WsError::AlreadyClosed
        | WsError::Tls(_)
        | WsError::AttackAttempt
        | WsError::Url(_)
        | WsError::Http(_)
        | WsError::HttpFormat(_) => error.to_string(),
    })
}

/// The innermost of an error's sources says what happened; those around it say what was tried.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut words = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_words(tls);
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io_words(io);
        }
        // reqwest puts the URL into its own words, and whatever stands in that.
        if !error.is::<reqwest::Error>() {
            words = error.to_string();
        }
        next = error.source();
    }
    shown(&words)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a list of others that grows: what is not named has words of its own"
)]
fn io_words(error: &io::Error) -> String {
    // An `io::Error` hides the error that it was made of from `source`.
    if let Some(inner) = error.get_ref() {
        return innermost(inner);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => shown(&error.to_string()),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a list of others that grows: what is not named has words of its own"
)]
fn tls_words(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return format!("TLS: {}", shown(&error.to_string()));
    };
    let why = match certificate {
        CertificateError::UnknownIssuer => "its issuer is not known here".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: is the clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::BadSignature => "its signature is wrong".to_owned(),
        other => shown(&other.to_string()),
    };
    format!("certificate not trusted: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects logs and terminals from what a server may answer.
    #[test]
    fn what_is_shown_is_one_short_printable_line() {
        assert_eq!(shown(" a\r\n\tb\u{1b}[31mc\0 "), "a b [31mc");
        assert_eq!(shown(&"\u{e9}".repeat(500)).chars().count(), 200);
    }

    /// Protects the reason: it lies inside what `source` does not show.
    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let words = io_words(&io::Error::other(io::Error::other(tls)));
        assert_eq!(words, "certificate not trusted: its issuer is not known here");
    }
}
