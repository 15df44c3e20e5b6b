//! A forge on this machine: git's own server behind HTTP, and as much of GitHub's and GitLab's interfaces as a request to
//! merge a branch takes.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What goes wrong with a call of the interface.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status and body instead, and nothing is done.
    Answer(u16, &'static str),
    /// It is done, and the connection goes away before the answer.
    Lost,
    /// It is never answered.
    Silence,
    /// This status, and a wish to be left alone for so many seconds.
    Patience(u16, u64),
}

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    open: Vec<Value>,
    faults: VecDeque<Fault>,
    /// What lets one in; none lets in anybody.
    token: Option<String>,
    git_is_silent: bool,
    /// After so many bytes of an answer of git's the connection is gone.
    git_drops: Option<usize>,
    /// In the middle of a pack nothing more comes.
    git_stalls: bool,
    /// Instead of a pack the connection goes away.
    git_drops_packs: bool,
}

#[derive(Clone)]
pub(crate) struct Forge {
    pub(crate) host: String,
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Forge {
    /// Serves the repositories in a folder.
    pub(crate) async fn new(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let forge = Self { host, root: root.to_path_buf(), state: Arc::default() };
        let serving = forge.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let forge = serving.clone();
                tokio::spawn(async move { forge.serve(stream).await });
            }
        });
        forge
    }

    pub(crate) fn needs(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.to_owned());
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.state.lock().unwrap().faults.push_back(fault);
    }

    pub(crate) fn is_silent(&self) {
        self.state.lock().unwrap().git_is_silent = true;
    }

    /// What git answers breaks off after so many bytes; or does not any more.
    pub(crate) fn drops(&self, after: Option<usize>) {
        self.state.lock().unwrap().git_drops = after;
    }

    /// What git answers stops in the middle of a pack, and the connection stays; or does not any more.
    pub(crate) fn stalls(&self, stalls: bool) {
        self.state.lock().unwrap().git_stalls = stalls;
    }

    /// Where git would answer with a pack, the connection goes away; or does not any more.
    pub(crate) fn drops_packs(&self, drops: bool) {
        self.state.lock().unwrap().git_drops_packs = drops;
    }

    /// The requests that are open.
    pub(crate) fn open(&self) -> Vec<Value> {
        self.state.lock().unwrap().open.clone()
    }

    /// Those that were are no more.
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().open.clear();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    async fn serve(self, mut stream: TcpStream) {
        let Some((head, body)) = request(&mut stream).await else { return };
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let header = |name: &str| headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());
        let authorization = header("authorization");
        let is_api = path.starts_with("/api/");
        let text = if is_api { String::from_utf8_lossy(&body).into_owned() } else { String::new() };
        let asked =
            Asked { method: method.clone(), path: path.clone(), authorization: authorization.clone(), body: text };
        let (token, fault, silent) = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(asked.clone());
            let fault = if is_api { state.faults.pop_front() } else { None };
            (state.token.clone(), fault, state.git_is_silent && !is_api)
        };
        if silent || matches!(fault, Some(Fault::Silence)) {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        let lets_in =
            token.is_none_or(|token| match authorization.as_deref().and_then(|found| found.split_once(' ')) {
                Some(("Bearer", given)) => given == token,
                Some(("Basic", given)) => {
                    let given = base64::engine::general_purpose::STANDARD.decode(given).unwrap_or_default();
                    String::from_utf8_lossy(&given).split_once(':').is_some_and(|(_, password)| password == token)
                }
                Some(_) | None => false,
            });
        let answer = match (is_api, lets_in) {
            (true, false) => said(401, "application/json", br#"{"message":"Bad credentials"}"#, ""),
            (true, true) => match fault {
                Some(Fault::Answer(status, body)) => said(status, "application/json", body.as_bytes(), ""),
                Some(Fault::Patience(status, after)) => {
                    said(status, "application/json", b"{}", &format!("Retry-After: {after}\r\n"))
                }
                Some(Fault::Lost) => {
                    self.interface(&asked);
                    return;
                }
                Some(Fault::Silence) | None => self.interface(&asked),
            },
            (false, false) => said(401, "text/plain", b"who are you?", "WWW-Authenticate: Basic realm=\"forge\"\r\n"),
            (false, true) => self.git(&method, &path, &header, body).await,
        };
        let (stalls, drops_packs) = {
            let state = self.state.lock().unwrap();
            (state.git_stalls, state.git_drops_packs)
        };
        let pack = answer.windows(4).position(|four| four == b"PACK");
        if pack.is_some() && drops_packs {
            return;
        }
        if let Some(pack) = pack.filter(|_| stalls) {
            let _ = stream.write_all(&answer[..pack + 40]).await;
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        let drops = self.state.lock().unwrap().git_drops.filter(|_| !is_api).unwrap_or(answer.len());
        let _ = stream.write_all(&answer[..drops.min(answer.len())]).await;
        let _ = stream.shutdown().await;
    }

    fn interface(&self, asked: &Asked) -> Vec<u8> {
        let is_github = asked.path.starts_with("/api/v3/repos/o/r/pulls");
        let is_gitlab = asked.path.starts_with("/api/v4/projects/o%2Fr/merge_requests");
        let json = |status, value: &Value| said(status, "application/json", value.to_string().as_bytes(), "");
        if !is_github && !is_gitlab {
            return json(404, &json!({ "message": "Not Found" }));
        }
        let mut state = self.state.lock().unwrap();
        if asked.method == "GET" {
            return json(200, &Value::Array(state.open.clone()));
        }
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let branch = body.get("head").or(body.get("source_branch")).unwrap().clone();
        let base = body.get("base").or(body.get("target_branch")).unwrap().clone();
        let same = |one: &&Value| one.get("source_branch") == Some(&branch);
        if state.open.iter().find(same).is_some() {
            let github = json!({ "message": "Validation Failed", "errors": [{ "message": "A pull request already exists for o:x." }] });
            let gitlab = json!({ "message": ["Another open merge request already exists for this source branch: !1"] });
            return if is_github { json(422, &github) } else { json(409, &gitlab) };
        }
        let page = format!("http://{}/o/r/{}", self.host, state.open.len() + 1);
        let one = json!({
            "head": { "ref": branch }, "html_url": page, "web_url": page, "source_branch": branch, "base": base,
            "title": body.get("title"),
        });
        state.open.push(one.clone());
        json(201, &one)
    }

    /// As a web server has it run.
    async fn git(&self, method: &str, path: &str, header: &impl Fn(&str) -> Option<String>, body: Vec<u8>) -> Vec<u8> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut command = tokio::process::Command::new("git");
        command.arg("http-backend").env("GIT_PROJECT_ROOT", &self.root).env("GIT_HTTP_EXPORT_ALL", "1");
        command.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
        command.env("CONTENT_TYPE", header("content-type").unwrap_or_default()).env("REMOTE_USER", "ada");
        command.env("CONTENT_LENGTH", body.len().to_string()).env("REMOTE_ADDR", "127.0.0.1");
        command.env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default());
        command.env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default());
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feed = async move {
            let _ = stdin.write_all(&body).await;
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        let output = output.unwrap().stdout;
        let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default();
        let head = String::from_utf8_lossy(&output[..end]).into_owned();
        let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
        let rest = &output[end + 4..];
        let head =
            format!("HTTP/1.1 {status}\r\n{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", rest.len());
        [head.as_bytes(), rest].concat()
    }
}

fn said(status: u16, kind: &str, body: &[u8], more: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} So\r\nContent-Type: {kind}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// One request, as git and reqwest send them.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut more = async |bytes: &mut Vec<u8>| stream.read_buf(bytes).await.ok().filter(|count| *count > 0);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        more(&mut bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut body = bytes.split_off(end + 4);
    let lower = head.to_ascii_lowercase();
    assert!(!lower.contains("transfer-encoding: chunked"), "tests push little");
    let length =
        lower.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|n| n.trim().parse().ok());
    while body.len() < length.unwrap_or(0) {
        more(&mut body).await?;
    }
    Some((head, body))
}
