//! Encrypted, and by way of a proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use makima_transports::{Endpoint, LinkEvent, Options, Outgoing, Proxies, Roots, endpoint, install_crypto};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::support::{CLOSE, Link, Peer, request, serve, unreachable, within};

/// The name on the server's certificate. It exists nowhere.
const NAME: &str = "makima.test";

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        install_crypto();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.acceptor_for(&[])
    }

    /// One that offers these protocols.
    pub(crate) fn acceptor_for(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        let mut config = config.unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Serves one session by TLS: says something, echoes one message, closes when it is told to.
async fn serve_tls(authority: &Authority) -> SocketAddr {
    let acceptor = authority.acceptor();
    let (address, _server) = serve(async move |stream| {
        // Fails where the other end does not trust us.
        let Ok(stream) = acceptor.accept(stream).await else { return };
        let mut peer = Peer::accept(stream).await;
        let text = peer.receive_text().await;
        peer.send(1, text.as_bytes()).await;
        assert_eq!(peer.receive().await.0, CLOSE);
        peer.send(CLOSE, &[]).await;
        peer.gone().await;
    })
    .await;
    address
}

fn trusting(authority: &Authority, proxies: Proxies) -> Options {
    Options { roots: Roots::Only(vec![authority.root.clone()]), proxies, ..Options::default() }
}

async fn session(endpoint: Endpoint, options: Options) {
    let mut link = Link::open_with(endpoint, options, 16);
    assert_eq!(link.events.next().await, LinkEvent::Up(Wire::One));
    // More than one record of TLS.
    let text = "x".repeat(100_000);
    link.message(1, &text);
    assert_eq!(link.events.received().await, LinkEvent::Frame(text));
    link.handle.send(Outgoing::Close);
    assert_eq!(link.events.down().await, LinkCause::Closed("closed by this side".to_owned()));
}

/// Protects the way to a server with a certificate of one's own.
#[tokio::test]
async fn an_authority_that_is_named_is_trusted() {
    let authority = Authority::new("ours");
    let address = serve_tls(&authority).await;
    let endpoint = endpoint(&format!("wss://localhost:{}", address.port())).unwrap();
    session(endpoint, trusting(&authority, Proxies::Never)).await;
}

/// Protects the key from servers that only pretend.
#[tokio::test]
async fn others_are_not() {
    let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
    for (name, roots, why) in [
        ("localhost", Roots::Only(vec![known.root.clone()]), "its issuer is not known here"),
        ("localhost", Roots::System, "its issuer is not known here"),
        ("127.0.0.1", Roots::Only(vec![unknown.root.clone()]), "it is for another name"),
    ] {
        let address = serve_tls(&unknown).await;
        let endpoint = endpoint(&format!("wss://{name}:{}", address.port())).unwrap();
        let options = Options { roots, proxies: Proxies::Never, ..Options::default() };
        let text = unreachable(Link::open_with(endpoint, options, 16).events.down().await);
        assert_eq!(text, format!("certificate not trusted: {why}"));
    }
}

/// Protects the reason where somebody writes wss for a server that speaks plain HTTP.
#[tokio::test]
async fn a_server_without_tls() {
    let (address, _server) = serve(async |mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        Peer { stream }.gone().await;
    })
    .await;
    let endpoint = endpoint(&format!("wss://{address}")).unwrap();
    let options = trusting(&Authority::new("ours"), Proxies::Never);
    let text = unreachable(Link::open_with(endpoint, options, 16).events.down().await);
    assert!(text.starts_with("TLS: "), "{text}");
}

/// A proxy that connects to `server`, whatever it is asked for, and gives back what it was asked.
async fn proxy(server: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    serve(async move |mut stream| {
        let asked = request(&mut stream).await;
        let mut server = TcpStream::connect(server).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut server).await;
        asked
    })
    .await
}

/// Protects daemons behind a proxy: it is asked for a tunnel, and TLS goes to the server itself.
#[tokio::test]
async fn a_tunnel_through_a_proxy() {
    let authority = Authority::new("ours");
    let (proxy, asked) = proxy(serve_tls(&authority).await).await;
    let endpoint = endpoint(&format!("wss://{NAME}")).unwrap();
    session(endpoint, trusting(&authority, Proxies::Only(format!("http://user:pass@{proxy}")))).await;
    let asked = within(asked).await.unwrap();
    assert!(asked.starts_with("CONNECT makima.test:443 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("proxy-authorization: basic "), "{asked}");
}

/// Protects the reason, and the proxy's password.
#[tokio::test]
async fn a_proxy_that_refuses() {
    let (proxy, _server) = serve(async |mut stream| {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
        Peer { stream }.gone().await;
    })
    .await;
    let endpoint = endpoint(&format!("wss://{NAME}")).unwrap();
    let options = trusting(&Authority::new("ours"), Proxies::Only(format!("http://user:hunter2@{proxy}")));
    let text = unreachable(Link::open_with(endpoint, options, 16).events.down().await);
    assert!(text.contains("tunnel") && !text.contains("hunter2"), "{text}");
}

/// Protects what is local: it never leaves by way of a proxy.
#[tokio::test]
async fn a_proxy_is_not_used_for_this_machine() {
    let authority = Authority::new("ours");
    let address = serve_tls(&authority).await;
    let endpoint = endpoint(&format!("wss://localhost:{}", address.port())).unwrap();
    // Nobody listens there.
    session(endpoint, trusting(&authority, Proxies::Only("http://127.0.0.1:1".to_owned()))).await;
}
