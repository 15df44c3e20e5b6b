//! Who is answered at all.
//!
//! A web page that somebody has open can make that browser call any port of this machine: by a name of its
//! own that leads here, or straight. The first is told by the `Host` header, the second by `Origin`. The
//! token is asked for besides; loopback is shared by everybody who has an account here.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::ApiError;
use super::scope::Caller;
use crate::app::App;
use crate::config::Token;

/// Every answer: nothing here is to be kept, or taken for something else.
pub(super) async fn plain(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The right host, and no foreign page.
pub(super) async fn caller(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let right = right_host(&request, &app.hosts).and_then(|host| right_origin(request.headers(), &host));
    match right {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The right token, or the key of a task: who asks goes along with the request.
pub(super) async fn token(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let caller = if shows_token(request.headers(), &app.token) {
        Some(Caller::Person)
    } else {
        let key = shown(request.headers()).and_then(|key| std::str::from_utf8(key).ok());
        key.and_then(|key| app.engine.task_of_key(key)).map(Caller::Task)
    };
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let message = "this needs the server's token, or the key of a task that is under way: Authorization: Bearer …";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message).into_response()
}

/// Whether the right token is there.
pub(super) fn shows_token(headers: &HeaderMap, right: &Token) -> bool {
    shown(headers).is_some_and(|token| right.matches(token))
}

/// What is shown as a token.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// The host that the caller meant, if that is us. With its port, for comparing origins.
fn right_host(request: &Request, hosts: &[String]) -> Result<String, ApiError> {
    let wrong = || {
        let message = "this server is not known by the name in the Host header";
        ApiError::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message)
    };
    let mut named = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else { return Err(wrong()) };
    let host: Authority = host.to_str().ok().and_then(|host| host.parse().ok()).ok_or_else(wrong)?;
    // An absolute target in the request line counts as much as the header.
    for authority in [Some(&host), request.uri().authority()].into_iter().flatten() {
        if authority.as_str().contains('@') || !is_ours(authority.host(), hosts) {
            return Err(wrong());
        }
    }
    Ok(host.as_str().to_ascii_lowercase())
}

fn is_ours(name: &str, hosts: &[String]) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || literal.is_some_and(|name| name.parse() == Ok(Ipv6Addr::LOCALHOST))
        || hosts.iter().any(|host| {
            let bare = literal.unwrap_or(name);
            host.eq_ignore_ascii_case(name) || host.eq_ignore_ascii_case(bare)
        })
}

/// A browser says which page a call comes from. No page but one of this very server may call.
fn right_origin(headers: &HeaderMap, host: &str) -> Result<(), ApiError> {
    let ours = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().map(str::to_ascii_lowercase);
        let origin = origin.as_deref().and_then(|origin| origin.strip_prefix("http://"));
        origin.is_some_and(|origin| without_default_port(origin) == without_default_port(host))
    };
    if headers.get_all(header::ORIGIN).iter().all(ours) {
        return Ok(());
    }
    let message = "this server answers no other site's pages";
    Err(ApiError::new(StatusCode::FORBIDDEN, "wrong_origin", message))
}

fn without_default_port(authority: &str) -> &str {
    authority.strip_suffix(":80").unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    /// Protects against names that only look like the loopback, or lead there by somebody else's DNS.
    #[test]
    fn only_our_names_are_ours() {
        let hosts = ["build.example".to_owned(), "fd00::7".to_owned()];
        for ours in
            ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.9.8.7", "[::1]", "BUILD.example", "[fd00::7]"]
        {
            assert!(is_ours(ours, &hosts), "{ours}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "0.0.0.0",
            "10.0.0.1",
            "[::2]",
            "[::]",
            "127.1",
            "0x7f000001",
            "build.example.evil",
        ] {
            assert!(!is_ours(foreign, &hosts), "{foreign}");
        }
    }
}
