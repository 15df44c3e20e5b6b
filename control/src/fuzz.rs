//! What must hold of every request, whoever sends it. For fuzzers only: in no build for people.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::Token;
use crate::engine::Engine;
use crate::http::router;
use crate::hub::Bounds;
use crate::store::Sqlite;

/// The key of the server that is asked.
const TOKEN: &str = "key";

/// Stands in a request for the session that was opened last.
const SESSION: &str = "$SESSION";

/// No more requests are taken from one input.
const REQUESTS: usize = 16;

/// Who waits for longer than this waits for something that will not happen here, and goes away.
const PATIENCE: Duration = Duration::from_millis(20);

/// The largest answer to any of them.
const ANSWER: usize = 64 * 1024 * 1024;

/// Requests, one after the other, to a server of their own, which keeps its records in this folder. They are parted by NUL
/// bytes; each is a line with a method and a target, and its body. Whatever they ask for, they are answered, and the server
/// is there for the next.
///
/// # Panics
/// Something does not hold.
pub fn requests(data: &[u8], place: &Path) {
    let asked: Vec<Asked<'_>> = data.split(|byte| *byte == 0).filter_map(Asked::read).take(REQUESTS).collect();
    if asked.is_empty() {
        return;
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { unreachable!("there is no runtime") };
    runtime.block_on(async {
        let server = Asking::begin(&place.join("control.db")).await;
        server.answers(&asked).await;
        server.end().await;
    });
}

/// One request.
struct Asked<'a> {
    method: Method,
    target: &'a str,
    body: &'a [u8],
}

impl<'a> Asked<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        let (line, body) = data.split_at_checked(end)?;
        let (method, target) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        Some(Self { method: method.parse().ok()?, target, body: body.get(1..).unwrap_or_default() })
    }

    fn with(&self, session: &str) -> Option<Request> {
        let target = self.target.replace(SESSION, session);
        let uri: Uri = target.parse().ok().filter(|uri: &Uri| uri.path().starts_with('/'))?;
        let body = match std::str::from_utf8(self.body) {
            Ok(text) => Body::from(text.replace(SESSION, session)),
            Err(_) => Body::from(self.body.to_vec()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer key"));
        Some(request)
    }
}

/// A server with nothing between it and its requests.
struct Asking {
    app: Arc<App>,
    service: TowerToHyperService<Router>,
    stop: CancellationToken,
    writer: JoinHandle<()>,
}

impl Asking {
    async fn begin(data: &Path) -> Self {
        let store = Sqlite::open(data).await.unwrap_or_else(|error| unreachable!("no store: {error}"));
        let engine = Engine::start(Arc::new(store)).await.unwrap_or_else(|error| unreachable!("no engine: {error}"));
        let app = Arc::new(App::new(engine, Token::new(TOKEN), Vec::new(), "0".to_owned(), Bounds::default()));
        let stop = CancellationToken::new();
        let writer = {
            let (app, stop) = (Arc::clone(&app), stop.clone());
            tokio::spawn(async move { app.engine.write(stop).await })
        };
        let service = TowerToHyperService::new(router(Arc::clone(&app)));
        Self { app, service, stop, writer }
    }

    async fn answers(&self, asked: &[Asked<'_>]) {
        let mut session = SESSION.to_owned();
        for asked in asked {
            let Some(request) = asked.with(&session) else { continue };
            let Some((status, answer)) = self.ask(request).await else { continue };
            let what = format!("{} {} was answered {status}", asked.method, asked.target);
            assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{what}");
            let json: Option<Value> = serde_json::from_slice(&answer).ok();
            let text = |name: &str| json.as_ref().and_then(|json| json.pointer(name)?.as_str());
            if status.is_client_error() || status.is_server_error() {
                let told = [text("/error/code"), text("/error/message")];
                // Nothing is said in words to who asks for the head only.
                let told = told.iter().all(|text| text.is_some_and(|text| !text.is_empty()));
                assert!(told || asked.method == Method::HEAD, "{what}, and it is not said why");
            }
            if let Some(opened) = text("/session") {
                opened.clone_into(&mut session);
            }
        }
        let info = Asked { method: Method::GET, target: "/api/v1/info", body: b"" };
        let answer = match info.with("") {
            Some(request) => self.ask(request).await,
            None => None,
        };
        assert_eq!(answer.map(|(status, _)| status), Some(StatusCode::OK), "it does not answer any more");
        assert_eq!(self.app.engine.counters().store_errors, 0, "something could not be stored");
    }

    /// The answer, if there is one yet that has an end.
    async fn ask(&self, request: Request) -> Option<(StatusCode, Bytes)> {
        let whole = async {
            let Ok(response) = self.service.call(request).await;
            let status = response.status();
            let body = to_bytes(response.into_body(), ANSWER).await;
            assert!(body.is_ok(), "an answer of more than {ANSWER} bytes");
            (status, body.unwrap_or_default())
        };
        timeout(PATIENCE, whole).await.ok()
    }

    async fn end(self) {
        self.app.stop.cancel();
        self.app.engine.end();
        self.stop.cancel();
        let _ = self.writer.await;
        self.app.engine.store().close().await;
    }
}
