//! A server of the tests' own: it answers as it is told, and remembers what it was asked.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The method and the path behind `/api/v1`, with its query.
    pub(crate) what: String,
    /// Who asked.
    pub(crate) authorization: String,
    /// What came along; null where that is no JSON.
    pub(crate) body: Value,
}

/// The server. It goes with the runtime that it was started on.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    /// Where it is.
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// One that answers each request by a status and a text; by status 0 not at all.
    pub(crate) async fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let fake = Self { address, asked: Arc::default() };
        let (asked, answer) = (Arc::clone(&fake.asked), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                let service = service_fn(move |request| {
                    let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                    async move {
                        let request = read(request).await;
                        asked.lock().expect("no test panics here").push(request.clone());
                        let (status, text) = answer(&request);
                        if status == 0 {
                            return poll_fn(|_| std::task::Poll::Pending).await;
                        }
                        Response::builder().status(status).body(text)
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        fake
    }

    /// Everything that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics here").clone()
    }

    /// What it was asked last.
    pub(crate) fn last(&self) -> Asked {
        self.asked().pop().expect("it was asked something")
    }

    /// Where it is, for the environment.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let path = request.uri().to_string();
    let what = format!("{} {}", request.method(), path.strip_prefix("/api/v1").unwrap_or(&path));
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let authorization = header.unwrap_or_default().to_owned();
    let (mut body, mut bytes) = (request.into_body(), Vec::new());
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        bytes.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
    }
    Asked { what, authorization, body: serde_json::from_slice(&bytes).unwrap_or_default() }
}
