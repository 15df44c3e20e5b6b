//! A server in a folder of its own, a client for it, and a daemon that does what the test says.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use makima_control::hub::{Record, Snapshot, TaskState};
use makima_control::store::Store;
use makima_control::{Bounds, Config, Listen, Server, Token};
use makima_core::protocol::{
    Authenticate, DaemonCommand, DaemonMessage, TaskComplete, TaskOutput, TaskProgress, TaskStatusChange,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use uuid::Uuid;

pub(crate) const TOKEN: &str = "correct horse battery staple";

/// No test waits for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Asks again and again until the answer is yes.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut yes: impl FnMut() -> F) {
    soon(what, async {
        while !yes().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// In memory where there is such a place, unless a real disk is asked for: `MAKIMA_TEST_FOLDER=/var/tmp`.
pub(crate) fn folder() -> TempDir {
    if let Some(folder) = std::env::var_os("MAKIMA_TEST_FOLDER") {
        return tempfile::tempdir_in(folder).unwrap();
    }
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) server: Option<Server>,
    pub(crate) http: reqwest::Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut world = Self { folder: folder(), server: None, http: client() };
        world.start().await;
        world
    }

    pub(crate) async fn with_store(store: Arc<dyn Store>) -> Self {
        let folder = folder();
        let config = config(folder.path().join("unused"));
        let server = soon("start", Server::start_with(config, store)).await.unwrap();
        Self { folder, server: Some(server), http: client() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("control.db")
    }

    /// One whose tasks may ask for so much.
    pub(crate) async fn bounded(bounds: Bounds) -> Self {
        let folder = folder();
        let config = Config { bounds, ..config(folder.path().join("control.db")) };
        let server = soon("start", Server::start(config)).await.unwrap();
        Self { folder, server: Some(server), http: client() }
    }

    pub(crate) async fn start(&mut self) {
        let server = soon("start", Server::start(config(self.data()))).await.unwrap();
        self.server = Some(server);
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            soon("shutdown", server.shutdown()).await;
        }
    }

    /// Drops the server where it stands, and starts another on its file.
    pub(crate) async fn kill(&mut self) {
        drop(self.server.take());
        // What was dropped lets go of its file when its tasks have ended.
        soon("the lock", async {
            while let Err(error) = makima_control::store::Sqlite::open(&self.data()).await {
                assert!(error.to_string().contains("in use"), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        self.start().await;
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server().address())
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(self.url(path)).bearer_auth(TOKEN)
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = soon(path, self.get(path).send()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(self.url(path)).bearer_auth(TOKEN).json(&body);
        let response = soon(path, request.send()).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn create(&self, plan: &str) -> Uuid {
        let (status, body) = self.post("/api/v1/tasks", json!({ "plan": plan })).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) async fn task(&self, id: Uuid) -> Value {
        self.json(&format!("/api/v1/tasks/{id}")).await
    }

    pub(crate) async fn output(&self, id: Uuid) -> String {
        soon("output", async {
            let response = self.get(&format!("/api/v1/tasks/{id}/output")).send().await.unwrap();
            response.text().await.unwrap()
        })
        .await
    }

    /// A daemon that has been let in.
    pub(crate) async fn daemon(&self, machine: &str) -> Daemon {
        let mut daemon = Daemon::connect(self).await;
        daemon.say(authenticate(machine, TOKEN)).await;
        let DaemonCommand::Authenticated(body) = daemon.command().await else { panic!("not let in") };
        daemon.id = body.daemon_id;
        daemon
    }
}

pub(crate) fn config(data: PathBuf) -> Config {
    Config {
        listen: Listen::Address(([127, 0, 0, 1], 0).into()),
        data,
        token: Token::new(TOKEN),
        hosts: vec!["makima.example".to_owned()],
        version: "1.2.3".to_owned(),
        bounds: Bounds::default(),
    }
}

fn client() -> reqwest::Client {
    // Somebody else may have installed one; either will do, nothing here is encrypted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

pub(crate) fn authenticate(machine: &str, key: &str) -> DaemonMessage {
    Authenticate {
        api_key: key.to_owned(),
        machine_id: machine.to_owned(),
        hostname: format!("{machine}.example"),
        max_concurrent_tasks: 4,
    }
    .into()
}

pub(crate) fn output(task_id: Uuid, output: &str, is_partial: bool) -> DaemonMessage {
    TaskOutput { task_id, output: output.to_owned(), is_partial }.into()
}

pub(crate) fn status(task_id: Uuid, old: &str, new: &str) -> DaemonMessage {
    TaskStatusChange { task_id, old_status: old.to_owned(), new_status: new.to_owned() }.into()
}

pub(crate) fn progress(task_id: Uuid, summary: &str) -> DaemonMessage {
    TaskProgress { task_id, summary: summary.to_owned() }.into()
}

pub(crate) fn complete(task_id: Uuid, error: Option<&str>) -> DaemonMessage {
    TaskComplete { task_id, success: error.is_none(), error: error.map(str::to_owned) }.into()
}

/// A daemon's end of a connection, in the test's hands.
pub(crate) struct Daemon {
    pub(crate) id: Uuid,
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Daemon {
    pub(crate) async fn connect(world: &World) -> Self {
        Self::knock(world, &[]).await.unwrap()
    }

    /// The handshake with these headers; an error is the status of the refusal.
    pub(crate) async fn knock(world: &World, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let address = world.server().address();
        let mut request = format!("ws://{address}/api/v1/mesh/daemons/connect").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = soon("connection", TcpStream::connect(address)).await.unwrap();
        match soon("handshake", tokio_tungstenite::client_async(request, stream)).await {
            Ok((socket, _)) => Ok(Self { id: Uuid::nil(), socket }),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn say(&mut self, message: DaemonMessage) {
        self.raw(Message::text(message.write())).await;
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        soon("sending", self.socket.send(message)).await.unwrap();
    }

    /// The next command.
    pub(crate) async fn command(&mut self) -> DaemonCommand {
        self.maybe_command().await.expect("the session is over")
    }

    /// The next command; none when the session is over.
    pub(crate) async fn maybe_command(&mut self) -> Option<DaemonCommand> {
        loop {
            match soon("a command", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(DaemonCommand::read(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
            }
        }
    }

    /// The task that the next command spawns.
    pub(crate) async fn spawned(&mut self) -> Uuid {
        let command = self.command().await;
        let DaemonCommand::SpawnTask(body) = &command else { panic!("{} where a task was due", command.kind()) };
        body.task_id
    }

    /// The code of the error that the session ends with.
    pub(crate) async fn refused(&mut self) -> String {
        let Some(DaemonCommand::ServerError(body)) = self.maybe_command().await else { panic!("no error came") };
        assert!(self.maybe_command().await.is_none(), "the session goes on");
        body.code
    }

    /// Waits until all that was said is stored, as a daemon finds it out: by a ping. False if the session ended.
    pub(crate) async fn stored(&mut self) -> bool {
        let mark = Uuid::now_v7().as_bytes().to_vec();
        if soon("sending", self.socket.send(Message::Ping(mark.clone().into()))).await.is_err() {
            return false;
        }
        loop {
            match soon("a pong", self.socket.next()).await {
                Some(Ok(Message::Pong(data))) if data == mark => return true,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                Some(Ok(_)) => {}
            }
        }
    }
}

/// A task of which nothing is recorded but that it came.
pub(crate) fn made(record: Record) -> TaskState {
    let mut kept = Snapshot::default();
    kept.keep(record);
    kept.tasks.pop().expect("the record of a task")
}
