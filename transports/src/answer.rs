//! What an HTTP answer that is not the one that was hoped for says, and who gave it.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use makima_core::input::LinkCause;
use makima_core::protocol::{WIRE_HEADER, WIRE_VERSION, Wire};
use makima_core::time::Millis;
use reqwest::Response;
use tokio::time::timeout;

use crate::cause;

/// By this an answer is known as one of a makima server, whatever else is in it.
pub(crate) const MAKIMA_WIRE: HeaderName = HeaderName::from_static(WIRE_HEADER);

/// Bytes read of an answer that is not what was asked for.
const BODY: usize = 16 << 10;

/// How long such an answer's body may take. What has come by then has to do.
const BODY_TIME: Duration = Duration::from_secs(2);

/// No server can have us wait for longer.
const LONGEST_WAIT: Millis = Millis::seconds(300);

/// What the far side agreed to speak.
pub(crate) fn wire(headers: &HeaderMap) -> Wire {
    let two = headers.get(MAKIMA_WIRE).is_some_and(|value| value.as_bytes().trim_ascii() == WIRE_VERSION.as_bytes());
    if two { Wire::Two } else { Wire::One }
}

/// The answer as a cause.
pub(crate) async fn refused(mut response: Response) -> LinkCause {
    let body = beginning(&mut response).await;
    refusal(response.status(), response.headers(), &body)
}

/// The same, of an answer whose body has been read.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LinkCause {
    LinkCause::Refused {
        status: status.as_u16(),
        by_server: by_server(headers, body),
        html: is_html(headers, body),
        retry_after: headers.get(RETRY_AFTER).and_then(|value| wait(value, SystemTime::now())),
        detail: cause::shown(&String::from_utf8_lossy(body.get(..BODY).unwrap_or(body))),
    }
}

/// As much of a body as is wanted of an answer that is shown and nothing more.
pub(crate) async fn beginning(response: &mut Response) -> Vec<u8> {
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

/// Whether this is a page for people: proxies and gates on the way answer with one.
pub(crate) fn is_html(headers: &HeaderMap, body: &[u8]) -> bool {
    let begins = |word: &str| {
        let body = body.trim_ascii_start();
        body.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    let says = ["text/html", "application/xhtml+xml"].contains(&media_type(headers).as_str());
    (says && !body.is_empty()) || begins("<!doctype html") || begins("<html")
}

/// Whether this is an answer of the server itself.
fn by_server(headers: &HeaderMap, body: &[u8]) -> bool {
    let media_type = media_type(headers);
    let says_json = media_type == "application/json" || media_type.ends_with("+json");
    let is_json = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body).is_ok();
    headers.contains_key(MAKIMA_WIRE) || is_json || (says_json && !body.is_empty())
}

fn media_type(headers: &HeaderMap) -> String {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// `Retry-After`: seconds or a date.
fn wait(value: &HeaderValue, now: SystemTime) -> Option<Millis> {
    let value = value.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Millis::seconds(seconds),
        // A number too large for any counter is still one.
        Err(_) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => LONGEST_WAIT,
        Err(_) => {
            let left = httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default();
            Millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects servers that ask for time, and the daemon from those that ask for too much.
    #[test]
    fn both_forms_of_retry_after() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            (" 7 ", Some(7_000)),
            ("86400", Some(300_000)),
            ("99999999999999999999999", Some(300_000)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30_000)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Sun, 06 Nov 2044 08:49:00 GMT", Some(300_000)),
            ("", None),
            ("-1", None),
            ("soon", None),
        ] {
            let found = wait(&HeaderValue::from_str(value).unwrap(), now);
            assert_eq!(found.map(|wait| wait.0), expected, "{value}");
        }
    }
}
