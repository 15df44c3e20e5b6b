//! Which URL names which server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;

/// Where a server listens for daemons when its URL does not say.
const DEFAULT_PATH: &str = "/api/v1/mesh/daemons/connect";

/// A server, and where on it daemons connect. Bears no credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
}

/// A URL that names no server. Shows nothing of the URL but its scheme: the rest may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It cannot be read.
    #[error("the server's URL cannot be read ({0}): it looks like wss://makima.example.org")]
    Malformed(String),
    /// It is no URL of a web server.
    #[error("the server's URL begins with `{0}:`, but only http, https, ws and wss are known")]
    Scheme(String),
    /// It bears a user name or a password.
    #[error("the server's URL holds a user name or a password: the key is configured by itself, never in the URL")]
    Credentials,
}

/// Reads a server's URL. With a path it is used as it is; without one, the usual path is appended.
///
/// # Errors
/// Where it is no URL, not of the web, or bears credentials.
pub fn endpoint(url: &str) -> Result<Endpoint, EndpointError> {
    let mut url = Url::parse(url.trim()).map_err(|error| EndpointError::Malformed(error.to_string()))?;
    let scheme = match url.scheme() {
        "http" | "ws" => "http",
        "https" | "wss" => "https",
        other => return Err(EndpointError::Scheme(other.to_owned())),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EndpointError::Credentials);
    }
    // Both are schemes of the web, so one can always take the other's place.
    if url.set_scheme(scheme).is_err() {
        return Err(EndpointError::Scheme(url.scheme().to_owned()));
    }
    if url.path() == "/" {
        url.set_path(DEFAULT_PATH);
    }
    url.set_fragment(None);
    Ok(Endpoint { url })
}

impl Endpoint {
    /// The whole URL, as `http` or `https`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The server alone: scheme, host and port, as `http` or `https`, without a slash at its end.
    #[must_use]
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Whether it is on this machine, so that nobody on the way can listen. A name is taken for this machine
    /// only where [`open`](crate::open) does not ask anybody what it stands for.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.local_name().is_some() || self.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Whether what is sent is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The URL of one of long-poll's requests: that of the WebSocket with this name behind it.
    pub(crate) fn below(&self, name: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{name}", self.url.path().trim_end_matches('/')));
        url
    }

    /// A name of this machine with its addresses. Resolvers do not all keep `localhost` at home, and a key
    /// may go to it unencrypted.
    pub(crate) fn local_name(&self) -> Option<(&str, [SocketAddr; 2])> {
        let name = self.url.domain()?;
        let bare = name.strip_suffix('.').unwrap_or(name);
        let local = bare == "localhost" || bare.ends_with(".localhost");
        let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        // Port 0 stands for the URL's.
        local.then(|| (name, addresses.map(|ip| SocketAddr::new(ip, 0))))
    }

    fn ip(&self) -> Option<IpAddr> {
        let host = self.url.host_str()?;
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

impl fmt::Display for Endpoint {
    /// Without the query, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.url.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the rule by which a server's URL becomes the address that is connected to.
    #[test]
    fn urls_and_where_they_lead() {
        for (given, leads_to, origin) in [
            ("http://h", "http://h/api/v1/mesh/daemons/connect", "http://h"),
            ("ws://h", "http://h/api/v1/mesh/daemons/connect", "http://h"),
            ("wss://h/", "https://h/api/v1/mesh/daemons/connect", "https://h"),
            ("https://h:443", "https://h/api/v1/mesh/daemons/connect", "https://h"),
            ("ws://h:80", "http://h/api/v1/mesh/daemons/connect", "http://h"),
            ("wss://h:8443/x/y", "https://h:8443/x/y", "https://h:8443"),
            ("HTTP://H.Example/x/", "http://h.example/x/", "http://h.example"),
            ("http://h?a=b", "http://h/api/v1/mesh/daemons/connect?a=b", "http://h"),
            ("http://h/x?a=b#c", "http://h/x?a=b", "http://h"),
            (" http://[::1]:9 ", "http://[::1]:9/api/v1/mesh/daemons/connect", "http://[::1]:9"),
        ] {
            let endpoint = endpoint(given).unwrap();
            assert_eq!((endpoint.as_str(), endpoint.origin().as_str()), (leads_to, origin), "{given}");
        }
    }

    /// Protects the addresses of long-poll.
    #[test]
    fn what_lies_below_a_url() {
        for (given, below) in [
            ("ws://h", "http://h/api/v1/mesh/daemons/connect/poll"),
            ("wss://h/x/?a=b", "https://h/x/poll?a=b"),
            ("https://h/x", "https://h/x/poll"),
        ] {
            assert_eq!(endpoint(given).unwrap().below("poll").as_str(), below);
        }
    }

    /// Protects people from a typing error that would look like a server that is down, and secrets from the
    /// log.
    #[test]
    fn urls_that_lead_nowhere() {
        for (given, kind) in [
            ("", EndpointError::Malformed("relative URL without a base".to_owned())),
            ("127.0.0.1:8080", EndpointError::Malformed("relative URL without a base".to_owned())),
            ("http://", EndpointError::Malformed("empty host".to_owned())),
            ("localhost:8080", EndpointError::Scheme("localhost".to_owned())),
            ("ftp://h", EndpointError::Scheme("ftp".to_owned())),
            ("http://user@h", EndpointError::Credentials),
            ("wss://:hunter2@h/x", EndpointError::Credentials),
        ] {
            let error = endpoint(given).unwrap_err();
            assert_eq!(error, kind, "{given}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    /// Protects the key: unencrypted it may go to this machine only.
    #[test]
    fn what_is_loopback_and_what_is_encrypted() {
        for (given, loopback, encrypted) in [
            ("ws://127.0.0.1", true, false),
            ("ws://127.8.9.1:1", true, false),
            ("ws://127.1", true, false),
            ("wss://[::1]", true, true),
            ("http://[::ffff:127.0.0.1]", true, false),
            ("http://localhost", true, false),
            ("https://LOCALHOST.:1", true, true),
            ("http://a.localhost", true, false),
            ("http://0.0.0.0", false, false),
            ("http://10.0.0.1", false, false),
            ("http://notlocalhost", false, false),
            ("http://localhost.example.org", false, false),
            ("http://127.0.0.1.example.org", false, false),
            ("https://[::2]", false, true),
        ] {
            let endpoint = endpoint(given).unwrap();
            assert_eq!((endpoint.is_loopback(), endpoint.is_encrypted()), (loopback, encrypted), "{given}");
        }
    }

    /// Protects secrets that stand in a query.
    #[test]
    fn what_is_shown_has_no_query() {
        let endpoint = endpoint("wss://h/x?token=hunter2").unwrap();
        assert_eq!(format!("{endpoint} {endpoint:?}"), "https://h/x Endpoint(https://h/x)");
    }
}
