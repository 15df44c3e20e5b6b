//! Where a daemon says how it stands: a socket in its home that only its user may open, and, if that is wished, its
//! metrics on a port of this machine. The words are HTTP: `curl --unix-socket` will do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Duration, sleep, timeout};

use super::Asker;
use super::metrics;
use super::status::{Identity, Status};
use crate::near::Near;

/// Its name in the home.
const SOCKET: &str = "daemon.sock";

/// Who may be listened to at once; the next waits.
const AT_ONCE: usize = 16;

/// For one who asks to say what.
const QUESTION_TIME: Duration = Duration::from_secs(2);

/// For the answer to one who asks in this program.
const OUR_PATIENCE: Duration = Duration::from_secs(5);

/// For one who asks to have the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that a question may have.
const QUESTION: usize = 8 * 1_024;

/// Bytes of an answer that are read.
const ANSWER: u64 = 8 << 20;

/// Between two tries to take on somebody where the system refuses.
const AGAIN: Duration = Duration::from_millis(500);

/// What questions are answered from.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The driver.
    pub asker: Asker,
    /// The daemon's home.
    pub home: PathBuf,
    /// Who the daemon is.
    pub who: Identity,
}

/// Makes the socket in a home.
///
/// # Errors
/// As the system has it.
pub fn bind(home: &Path) -> io::Result<UnixListener> {
    let path = home.join(SOCKET);
    match fs::remove_file(&path) {
        Err(failure) if failure.kind() != io::ErrorKind::NotFound => return Err(failure),
        Ok(()) | Err(_) => {}
    }
    let near = Near::to(home, SOCKET)?;
    let listener = UnixListener::bind(near.path())?;
    fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes it away.
pub fn remove(home: &Path) {
    let _ = fs::remove_file(home.join(SOCKET));
}

/// Answers on the socket of the home for as long as it is let.
pub async fn serve_home(listener: UnixListener, desk: Desk) {
    let desk = Arc::new(desk);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    converse(stream, &desk, true).await;
                    drop(place);
                });
            }
            // Out of descriptors, most likely: what is asked can wait.
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// Answers for metrics on a port for as long as it is let.
pub async fn serve_port(listener: TcpListener, desk: Desk) {
    let desk = Arc::new(desk);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    converse(stream, &desk, false).await;
                    drop(place);
                });
            }
            Err(_) => sleep(AGAIN).await,
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, desk: &Desk, is_local: bool) {
    let service = service_fn(async |request| Ok::<_, std::convert::Infallible>(answer(&request, desk, is_local).await));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(QUESTION_TIME).keep_alive(false).max_buf_size(QUESTION);
    // Whoever does not ask properly gets nothing.
    let _ = timeout(PATIENCE, http.serve_connection(TokioIo::new(stream), service)).await;
}

async fn answer(request: &Request<Incoming>, desk: &Desk, is_local: bool) -> Response<String> {
    if !is_local && !names_this_machine(request) {
        return said(StatusCode::FORBIDDEN, "text/plain", "not under this name\n".to_owned());
    }
    let path = request.uri().path();
    let is_there = path == "/metrics" || (is_local && path == "/status");
    if !is_there {
        return said(StatusCode::NOT_FOUND, "text/plain", "there are /status and /metrics\n".to_owned());
    }
    if request.method() != Method::GET {
        return said(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
    }
    let Some(told) = desk.asker.standing().await else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the daemon does not answer\n".to_owned());
    };
    let Desk { home, who, .. } = desk.clone();
    let is_status = path == "/status";
    // Files are looked at: not on the thread that everything runs on.
    let text = tokio::task::spawn_blocking(move || {
        if is_status {
            serde_json::to_string(&Status::told(&home, &who, *told)).unwrap_or_default()
        } else {
            metrics::page(&home, &who, &told)
        }
    });
    match text.await {
        Ok(text) if is_status => said(StatusCode::OK, "application/json", text),
        Ok(text) => said(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(_) => said(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "it could not be put together\n".to_owned()),
    }
}

/// A page of somebody's that makes a name of its own lead to this machine must not read this.
fn names_this_machine(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else { return true };
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok()
}

fn said(status: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// Listens for whoever collects metrics.
///
/// # Errors
/// The address is taken, or is none of this machine's.
pub fn bind_port(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Asks the daemon of a home.
///
/// # Errors
/// There is none, or it does not answer well in time.
pub async fn get(home: &Path, path: &str) -> io::Result<String> {
    let asked = async {
        let near = Near::to(home, SOCKET)?;
        let mut stream = UnixStream::connect(near.path()).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(io::Error::other(body.trim().to_owned())),
        }
    };
    timeout(OUR_PATIENCE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
