//! `makima serve` and `makima daemon` on one home, as a fleet has them.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::http::{follow, request};
use super::middle::{Manner, Middle};
use super::place::Place;
use super::proc::{Call, Proc};
use super::repo::Repo;
use super::{SOON, until};

/// A server, and a daemon under it.
pub(crate) struct Fleet {
    pub(crate) serve: Proc,
    pub(crate) daemon: Proc,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Fleet {
    pub(crate) fn start(place: &Place) -> Self {
        Self::with(place, Self::usual(place))
    }

    /// The same; the daemon is called like this.
    pub(crate) fn with(place: &Place, daemon: Call) -> Self {
        let (serve, url, token) = Self::server(place, &[], None);
        Self { serve, daemon: Self::connected(daemon), url, token }
    }

    /// The same; the daemon is under this shell command, which mounts something for it.
    pub(crate) fn under(place: &Place, mount: &str) -> Self {
        let (serve, url, token) = Self::server(place, &[], None);
        Self { serve, daemon: Self::daemon_under(place, mount), url, token }
    }

    /// The same, with the server under it.
    pub(crate) fn with_server_under(place: &Place, mount: &str) -> Self {
        let (serve, url, token) = Self::server(place, &[], Some(mount));
        Self { serve, daemon: Self::daemon(place), url, token }
    }

    pub(crate) fn daemon_under(place: &Place, mount: &str) -> Proc {
        Self::connected(Self::usual(place).under(mount))
    }

    /// The same, with something between the two.
    pub(crate) fn behind(place: &Place, manner: Manner) -> (Self, Middle) {
        let (serve, url, token) = Self::server(place, &[], None);
        let middle = Middle::before(&url, manner);
        let words = ["daemon", "--agent", "shell", "--server", &middle.url()];
        let daemon = place.makima(words).env("MAKIMA_API_KEY", &token).start();
        (Self { serve, daemon, url, token }, middle)
    }

    /// The same; the server has a name that only a proxy knows, and the proxy is named by the environment.
    pub(crate) fn by_way_of(place: &Place, manner: Manner) -> (Self, Middle) {
        const NAME: &str = "makima.test";
        let (serve, url, token) = Self::server(place, &["--host", NAME], None);
        let middle = Middle::before(&url, manner);
        let words = ["daemon", "--agent", "shell", "--insecure", "--server", &format!("http://{NAME}")];
        let daemon = place.makima(words).env("MAKIMA_API_KEY", &token);
        let daemon = daemon.env("HTTP_PROXY", middle.url().replace("://", "://me:hunter2@")).start();
        (Self { serve, daemon, url, token }, middle)
    }

    fn server(place: &Place, more: &[&str], mount: Option<&str>) -> (Proc, String, String) {
        let words = ["serve", "--listen", "127.0.0.1:0"].iter().chain(more);
        let mut serve = place.makima(words);
        if let Some(mount) = mount {
            serve = serve.under(mount);
        }
        let serve = serve.start();
        serve.notes("makima serves on");
        let text = std::fs::read_to_string(place.home().join("server.json")).expect("it says where it is");
        let file: Value = serde_json::from_str(&text).expect("JSON");
        let field = |name: &str| file[name].as_str().expect("a text").to_owned();
        (serve, field("url"), field("token"))
    }

    /// Another daemon, once the first is gone.
    pub(crate) fn daemon(place: &Place) -> Proc {
        Self::connected(Self::usual(place))
    }

    fn usual(place: &Place) -> Call {
        place.makima(["daemon", "--agent", "shell"])
    }

    /// A daemon that is called like this, once it has a session.
    pub(crate) fn connected(daemon: Call) -> Proc {
        let daemon = daemon.start();
        daemon.notes("connected to the server");
        daemon
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        request(&self.url, &self.token, "GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, String) {
        request(&self.url, &self.token, "POST", path, &body.to_string())
    }

    /// Asks for a task with the fields of `spawnTask`, and returns its id.
    #[track_caller]
    pub(crate) fn spawn(&self, fields: Value) -> String {
        let (status, body) = self.post("/api/v1/tasks", &fields);
        assert_eq!(status, 201, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Asks for a plan on a repository, its branch to be delivered there.
    #[track_caller]
    pub(crate) fn plan(&self, repo: &Repo, plan: &str) -> String {
        self.spawn(json!({ "plan": plan, "repoUrl": repo.path(), "completionAction": "branch" }))
    }

    pub(crate) fn task(&self, id: &str) -> Value {
        let (status, body) = self.get(&format!("/api/v1/tasks/{id}"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub(crate) fn output(&self, id: &str) -> String {
        self.get(&format!("/api/v1/tasks/{id}/output")).1
    }

    /// A task's events behind the one of this id, until what came is enough or there are no more.
    pub(crate) fn events(&self, id: &str, last: Option<&str>, enough: impl Fn(&str) -> bool) -> String {
        follow(&self.url, &self.token, &format!("/api/v1/tasks/{id}/events"), last, enough)
    }

    /// The server is killed, and there is another in its place.
    pub(crate) fn another_server(&mut self, place: &Place) {
        self.serve.signal(Signal::KILL);
        until("it is gone", SOON, || (!self.serve.is_running()).then_some(()));
        let address = self.url.strip_prefix("http://").expect("a plain URL");
        self.serve = place.makima(["serve", "--listen", address]).start();
        self.serve.notes("makima serves on");
    }

    /// Waits until a task has written this.
    #[track_caller]
    pub(crate) fn writes(&self, id: &str, text: &str) {
        until(&format!("{text:?} in the output"), SOON, || self.output(id).contains(text).then_some(()));
    }

    /// Waits for a task's end.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str) -> Value {
        until(&format!("the end of {id}; it is {}", self.task(id)), SOON, || {
            Some(self.task(id)).filter(|task| !task["endedAt"].is_null())
        })
    }

    /// Ends both.
    pub(crate) fn end(self) {
        self.daemon.terminate().code(0);
        self.serve.signal(Signal::TERM);
        self.serve.wait(SOON).code(0);
    }
}
