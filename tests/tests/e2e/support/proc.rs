//! A process of the tested program: started with nothing of this test's environment, waited for within bounds.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::binary::makima;
use super::place::Place;
use super::{SOON, until};

/// A call that has not been made yet.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(super) words: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) folder: PathBuf,
    stdin: Vec<u8>,
    mount: Option<String>,
    script: Option<String>,
    nobody: bool,
}

const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

/// Whether this user may become another one, who can run the tested program.
pub(crate) fn becomes_nobody() -> bool {
    Command::new("setpriv").args(NOBODY).arg(makima()).arg("version").output().is_ok_and(|it| it.status.success())
}

/// Whether file systems can be mounted for one process.
pub(crate) fn mounts() -> bool {
    Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output()
        .is_ok_and(|it| it.status.success())
}

impl Call {
    pub(super) fn new(place: &Place) -> Self {
        let call = Self {
            words: Vec::new(),
            env: Vec::new(),
            folder: place.user(),
            stdin: Vec::new(),
            mount: None,
            script: None,
            nobody: false,
        };
        let call = match std::env::var_os("MAKIMA_PORTABLE") {
            Some(chosen) => call.env("MAKIMA_PORTABLE", chosen),
            None => call,
        };
        call.env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", place.user())
            .env("MAKIMA_HOME", place.home())
            // Scripts of tests say in files of the place what they do.
            .env("MAKIMA_SANDBOX", "off")
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("GIT_AUTHOR_NAME", "Ada Author")
            .env("GIT_AUTHOR_EMAIL", "ada@example.com")
            .env("GIT_COMMITTER_NAME", "Cora Committer")
            .env("GIT_COMMITTER_EMAIL", "cora@example.com")
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn at(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = folder.as_ref().to_owned();
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_owned();
        self
    }

    /// After this shell command, which mounts something for this process and its children only.
    pub(crate) fn under(mut self, mount: &str) -> Self {
        self.mount = Some(mount.to_owned());
        self
    }

    /// By a shell that does this first.
    pub(crate) fn after(mut self, script: &str) -> Self {
        self.script = Some(script.to_owned());
        self
    }

    /// By a user who may not read everything.
    pub(crate) fn by_nobody(mut self) -> Self {
        self.nobody = true;
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Proc {
        let mut command = match &self.mount {
            None if self.nobody => {
                let mut command = Command::new("setpriv");
                command.args(NOBODY).arg(makima());
                command
            }
            Some(mount) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")]).arg(makima());
                command
            }
            None => match &self.script {
                Some(script) => {
                    let mut command = Command::new("sh");
                    command.args(["-c", &format!("{script} && exec \"$0\" \"$@\"")]).arg(makima());
                    command
                }
                None => Command::new(makima()),
            },
        };
        command.args(&self.words).current_dir(&self.folder).env_clear().envs(self.env);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("makima can be started");
        let mut stdin = child.stdin.take().expect("a stdin");
        let text = self.stdin;
        // Whoever does not read it has no use for it.
        std::thread::spawn(move || stdin.write_all(&text));
        let out = Collected::of(child.stdout.take().expect("a stdout"));
        let err = Collected::of(child.stderr.take().expect("a stderr"));
        let pid = Pid::from_child(&child);
        Proc { words: self.words, child: Some(child), pid, out, err }
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub(crate) fn done(self) -> Done {
        self.start().wait(Duration::from_secs(60))
    }
}

/// What comes out of a pipe.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                into.lock().expect("nobody panics with it").extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("nobody panics with it")).into_owned()
    }

    /// All of it. Bounded: a process that was left behind may hold the pipe.
    fn whole(&mut self) -> Vec<u8> {
        let end = Instant::now() + Duration::from_secs(5);
        if let Some(reader) = self.reader.take() {
            while !reader.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        std::mem::take(&mut self.bytes.lock().expect("nobody panics with it"))
    }
}

/// One that was started. What is still there when this goes is asked to end, then killed.
pub(crate) struct Proc {
    words: Vec<OsString>,
    child: Option<Child>,
    pid: Pid,
    out: Collected,
    err: Collected,
}

impl Proc {
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub(crate) fn out(&self) -> String {
        self.out.text()
    }

    pub(crate) fn err(&self) -> String {
        self.err.text()
    }

    /// Waits until it has said this on stdout.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        until(&format!("{text:?} on stdout"), SOON, || self.out().contains(text).then_some(()));
    }

    /// Waits until it has said this on stderr.
    #[track_caller]
    pub(crate) fn notes(&self, text: &str) {
        until(&format!("{text:?} on stderr"), SOON, || self.err().contains(text).then_some(()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // One that has just ended needs no signal.
        let _ = kill_process(self.pid, signal);
    }

    /// As a person does it.
    pub(crate) fn ctrl_c(&self) {
        self.signal(Signal::INT);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("it can be waited for").is_none())
    }

    /// Waits for its end, no longer than this.
    #[track_caller]
    pub(crate) fn wait(mut self, limit: Duration) -> Done {
        let mut child = self.child.take().expect("it was started");
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                break status;
            }
            if Instant::now() > end {
                self.child = Some(child);
                panic!("it does not end within {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Done { words: std::mem::take(&mut self.words), status, out: self.out.whole(), err: self.err.whole() }
    }

    /// Kills it, and nothing else.
    pub(crate) fn kill(self) -> Done {
        self.signal(Signal::KILL);
        self.wait(SOON)
    }

    /// Asks it to end, as a service manager does.
    #[track_caller]
    pub(crate) fn terminate(self) -> Done {
        self.signal(Signal::TERM);
        self.wait(SOON)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if std::thread::panicking() {
            eprintln!("--- makima {:?}\n--- stdout:\n{}--- stderr:\n{}", self.words, shown(&self.out()), self.err());
        }
        let is_there = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_none());
        if is_there(&mut child) {
            // Not once it has been waited for: its number may be another's by then.
            self.signal(Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(15);
        while is_there(&mut child) {
            if Instant::now() > end {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One that has ended. Shows what it said where its test fails.
pub(crate) struct Done {
    words: Vec<OsString>,
    status: ExitStatus,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Done {
    /// Asserts its exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.status);
        self
    }

    /// Asserts that its stderr has these texts.
    #[track_caller]
    pub(crate) fn noted(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err().contains(text), "{text:?} is to stand on stderr");
        }
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.out
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }

    /// Its stdout as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("stdout is no JSON: {error}"))
    }

    /// What stands on stderr behind this word at the beginning of a line.
    #[track_caller]
    pub(crate) fn fact(&self, name: &str) -> String {
        let err = self.err();
        let found = err.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no line of stderr begins with {name:?}")).trim().to_owned()
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- makima {:?}: {}\n--- stdout:\n{}--- stderr:\n{}",
                self.words,
                self.status,
                shown(&self.out()),
                self.err()
            );
        }
    }
}

/// The beginning of what may be very long.
fn shown(text: &str) -> String {
    text.chars().take(20_000).collect()
}
