//! The one HTTP stack: everything that connects to a server is built here, so that certificates, proxies and
//! time limits are the same for all of it.

use std::time::Duration;

use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy, redirect, retry};
use rustls::pki_types::CertificateDer;
use tokio::task::{JoinError, spawn_blocking};

use crate::cause;
use crate::endpoint::Endpoint;

/// How long the kernel tries to get bytes through before it gives a connection up.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(45);

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which version of the wire a WebSocket asks for; the server's answer decides. Long-poll is always version 2.
    pub wire: Wire,
    /// Whom to trust.
    pub roots: Roots,
    /// By way of whom.
    pub proxies: Proxies,
    /// For how long.
    pub timeouts: Timeouts,
}

impl Default for Options {
    fn default() -> Self {
        let (roots, proxies, timeouts) = Default::default();
        Self { wire: Wire::Two, roots, proxies, timeouts }
    }
}

/// The authorities whose certificates are trusted.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// The system's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Mozilla's, which are built in,
    /// where the system has none at all.
    #[default]
    System,
    /// These and no others.
    Only(Vec<CertificateDer<'static>>),
}

/// Proxies. Never used for this machine itself.
#[derive(Clone, Default)]
pub enum Proxies {
    /// Those that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name.
    #[default]
    Environment,
    /// None.
    Never,
    /// This one, by its URL.
    Only(String),
}

impl std::fmt::Debug for Proxies {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::Never => "Never",
            Self::Only(_) => "Only(..)",
        })
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection, TLS included.
    pub connect: Duration,
    /// Until the handshake is answered, connecting included.
    pub handshake: Duration,
    /// A write that makes no progress.
    pub stall: Duration,
    /// An orderly end.
    pub close: Duration,
    /// Long-poll: for which the server is asked to hold a poll while it has nothing to say. Whole seconds.
    pub hold: Duration,
    /// Long-poll: until a poll is answered, longer than it is held.
    pub poll: Duration,
    /// Long-poll: until a push is answered, sending it included.
    pub push: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(8),
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(15),
            close: Duration::from_secs(2),
            hold: Duration::from_secs(25),
            poll: Duration::from_secs(35),
            push: Duration::from_secs(60),
        }
    }
}

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The environment names certificates, but none could be read. They are not replaced by others: whoever
    /// named them wants no others.
    #[error("no certificate could be read from where SSL_CERT_FILE and SSL_CERT_DIR point")]
    NoNamedRoots,
    /// The proxy's URL, or something else that was given, is no good.
    #[error("the HTTP client could not be set up")]
    Builder(#[from] reqwest::Error),
}

/// Makes aws-lc-rs this process's cryptography. The first thing that `main` does; again, it does nothing.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only where another thread was faster.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

/// An HTTP/1.1 client that trusts and goes by `options`, follows no redirect and tries nothing twice. It may
/// read certificates from the disk.
///
/// # Errors
/// Where certificates that were asked for cannot be read, or the proxy's URL cannot.
pub fn client_builder(endpoint: &Endpoint, options: &Options) -> Result<ClientBuilder, ClientError> {
    Ok(any_http(endpoint, options)?.http1_only())
}

/// A client for one connection: they are rare, and certificates on the disk may be others next time.
pub(crate) async fn client(
    endpoint: &Endpoint,
    options: &Options,
    finish: impl FnOnce(ClientBuilder) -> ClientBuilder + Send + 'static,
) -> Result<Client, LinkCause> {
    let reads_disk = reads_certificates(endpoint);
    let (endpoint, options) = (endpoint.clone(), options.clone());
    let build = move || Ok(finish(any_http(&endpoint, &options)?).build()?);
    let built: Result<Client, ClientError> = if reads_disk {
        let failed = |error: JoinError| LinkCause::Unreachable(error.to_string());
        spawn_blocking(build).await.map_err(failed)?
    } else {
        build()
    };
    built.map_err(|error| cause::no_client(&error))
}

/// The same, of the newest version of HTTP that both ends know.
fn any_http(endpoint: &Endpoint, options: &Options) -> Result<ClientBuilder, ClientError> {
    install_crypto();
    let mut builder = ClientBuilder::new()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .tcp_nodelay(true)
        .connect_timeout(options.timeouts.connect)
        .user_agent(concat!("makima/", env!("CARGO_PKG_VERSION")));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    {
        builder = builder.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if let Some((name, addresses)) = endpoint.local_name() {
        builder = builder.resolve_to_addrs(name, &addresses);
    }
    trust(proxy(builder, endpoint, options)?, endpoint, options)
}

fn proxy(builder: ClientBuilder, endpoint: &Endpoint, options: &Options) -> Result<ClientBuilder, ClientError> {
    if endpoint.is_loopback() {
        return Ok(builder.no_proxy());
    }
    Ok(match &options.proxies {
        Proxies::Environment => builder,
        Proxies::Never => builder.no_proxy(),
        Proxies::Only(url) => builder.proxy(Proxy::all(url)?.no_proxy(NoProxy::from_env())),
    })
}

/// Whether anything on the way may speak TLS, and be it a proxy. Where nothing does, the store is not read:
/// that costs milliseconds and megabytes.
fn reads_certificates(endpoint: &Endpoint) -> bool {
    endpoint.is_encrypted() || !endpoint.is_loopback()
}

fn trust(builder: ClientBuilder, endpoint: &Endpoint, options: &Options) -> Result<ClientBuilder, ClientError> {
    if !reads_certificates(endpoint) {
        return Ok(builder.tls_certs_only([]));
    }
    let only = match &options.roots {
        Roots::Only(certificates) => certificates.as_slice(),
        Roots::System if has_system_roots()? => return Ok(builder),
        Roots::System => {
            tracing::warn!("this system has no certificates: those that are built in are used");
            webpki_root_certs::TLS_SERVER_ROOT_CERTS
        }
    };
    let only = only.iter().map(|certificate| Certificate::from_der(certificate));
    Ok(builder.tls_certs_only(only.collect::<Result<Vec<_>, _>>()?))
}

fn has_system_roots() -> Result<bool, ClientError> {
    let found = !rustls_native_certs::load_native_certs().certs.is_empty();
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    if named && !found { Err(ClientError::NoNamedRoots) } else { Ok(found) }
}
