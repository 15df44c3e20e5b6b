//! Long-poll over HTTP/2, against a server of another library.

use bytes::Bytes;
use makima_transports::{LinkEvent, Options, Proxies, Roots, endpoint};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::requests::{KEY, authenticate, greeted, link, opened, send};
use crate::support::within;
use crate::tls::Authority;

type Request = (String, Value, usize, h2::server::SendResponse<Bytes>);

/// Serves any number of connections; gives out their requests.
async fn serve(acceptor: TlsAcceptor) -> (u16, mpsc::UnboundedReceiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (requests, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut connection = 0;
        while let Ok((stream, _)) = listener.accept().await {
            connection += 1;
            let (acceptor, requests) = (acceptor.clone(), requests.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                let mut served = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = served.accept().await {
                    let requests = requests.clone();
                    tokio::spawn(async move {
                        assert_eq!(request.headers()["makima-wire"], "2");
                        assert_eq!(request.headers()["authorization"], format!("Bearer {KEY}"));
                        let path = request.uri().path().to_owned();
                        let mut stream = request.into_body();
                        let mut body = Vec::new();
                        while let Some(data) = stream.data().await {
                            let data = data.unwrap();
                            stream.flow_control().release_capacity(data.len()).unwrap();
                            body.extend_from_slice(&data);
                        }
                        let body = serde_json::from_slice(&body).unwrap();
                        let _ = requests.send((path, body, connection, respond));
                    });
                }
            });
        }
    });
    (port, asked)
}

fn answer(mut respond: h2::server::SendResponse<Bytes>, body: &Value) {
    let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    stream.send_data(body.to_string().into(), true).unwrap();
}

/// Protects the choice of the version, and the two connections: requests could share one, and must not.
#[tokio::test]
async fn a_session_over_http_2() {
    let authority = Authority::new("ours");
    let (port, mut asked) = serve(authority.acceptor_for(&[b"h2", b"http/1.1"])).await;
    let roots = Roots::Only(vec![authority.root()]);
    let options = Options { roots, proxies: Proxies::Never, ..Options::default() };
    let mut link = link(endpoint(&format!("wss://localhost:{port}/x")).unwrap(), options);
    authenticate(&mut link).await;
    let (path, _, pushes, respond) = within(asked.recv()).await.unwrap();
    assert_eq!(path, "/x/session");
    answer(respond, &opened());
    greeted(&mut link.events).await;
    let (path, _, polls, held) = within(asked.recv()).await.unwrap();
    assert_eq!(path, "/x/poll");
    assert_ne!(polls, pushes);
    for n in 2..5 {
        // More than one window of the protocol's.
        send(&link, n, &json!({"seq": n, "body": {"text": "x".repeat(900 << 10)}}));
        let (path, body, connection, respond) = within(asked.recv()).await.unwrap();
        assert_eq!((path.as_str(), connection), ("/x/push", pushes));
        assert_eq!(body["frames"][0]["seq"], n);
        answer(respond, &json!({"ack": n}));
        assert_eq!(link.events.next().await, LinkEvent::Flushed(n));
        assert_eq!(link.events.next().await, LinkEvent::Frame(format!(r#"{{"ack":{n}}}"#)));
    }
    answer(held, &json!({"commands": [{"seq": 1}], "more": false}));
    assert_eq!(link.events.next().await, LinkEvent::Frame(r#"{"seq":1}"#.to_owned()));
    let (path, _, connection, _held) = within(asked.recv()).await.unwrap();
    assert_eq!((path.as_str(), connection), ("/x/poll", polls));
}
