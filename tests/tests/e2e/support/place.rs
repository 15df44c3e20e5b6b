//! A test's own folders, and the guard that looks whether anything of it is left running.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use makima_tests::real::journals::walked;
use makima_tests::refine::Walked;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::binary::makima;
use super::proc::Call;
use super::repo::Repo;

/// For the last processes to be gone when a test is over.
const GRACE: Duration = Duration::from_secs(5);

/// Everything that one test has. Its folder's path is the mark of its processes: it stands in `HOME`, which
/// agents get too, and in the folder that they work in.
pub(crate) struct Place {
    all: TempDir,
    home: PathBuf,
    /// Beside the home: what lies here agents may touch, in a sandbox too, where the test says so.
    root: PathBuf,
    /// Whether the test itself changes records in the home.
    forged: AtomicBool,
}

impl Place {
    pub(crate) fn new() -> Self {
        // Where it has to be built, that is not what a test measures.
        makima();
        let memory = Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        builder.prefix("makima-e2e-");
        let all = builder.tempdir_in(memory).or_else(|_| builder.tempdir()).expect("there is room for a folder");
        let (home, root) = (all.path().join("makima"), all.path().join("w"));
        let place = Self { all, home, root, forged: AtomicBool::new(false) };
        fs::create_dir_all(place.user()).expect("a folder for the user");
        place
    }

    /// With a home whose path is longer than a socket's may be.
    pub(crate) fn deep() -> Self {
        let mut place = Self::new();
        place.home = place.all.path().join("deep".repeat(25)).join("makima");
        place
    }

    /// The home, and what lies beside it.
    pub(crate) fn all(&self) -> &Path {
        self.all.path()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `MAKIMA_HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.home.clone()
    }

    /// `HOME`.
    pub(crate) fn user(&self) -> PathBuf {
        self.root().join("user")
    }

    /// A folder or a file beside those.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Says that the test changes records in the home: a daemon then finds what none has written.
    pub(crate) fn forges(&self) {
        self.forged.store(true, Ordering::Relaxed);
    }

    /// What a walk through the journal of this place's daemons has seen.
    ///
    /// # Panics
    /// A step is none that the simulated world could have taken.
    pub(crate) fn walked(&self) -> Walked {
        let call = || {
            let mut command = Command::new(makima());
            command.env_clear().env("HOME", self.user()).env("MAKIMA_HOME", self.home());
            command
        };
        walked(&self.home(), call).unwrap_or_else(|why| panic!("{why}"))
    }

    /// A repository with one commit on `main`, in the user's own folder.
    pub(crate) fn repo(&self) -> Repo {
        Repo::with_a_commit(&self.user().join("repo"))
    }

    /// Writes `config.toml`.
    pub(crate) fn configure(&self, text: &str) {
        fs::create_dir_all(self.home()).expect("a home");
        fs::write(self.home().join("config.toml"), text).expect("a configuration");
    }

    /// A program that goes before the machine's own, for who has `programs` in the path.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::create_dir_all(self.path("bin")).expect("a folder");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it may be run");
    }

    /// A path with the place's own programs.
    pub(crate) fn programs(&self) -> String {
        format!("{}:{}", self.path("bin").display(), std::env::var("PATH").expect("a path"))
    }

    /// A call of makima, to be made in this place.
    pub(crate) fn makima<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Call {
        Call::new(self).args(words)
    }

    /// `makima run --agent shell …` in a repository.
    pub(crate) fn run(&self, repo: &Repo, words: &[&str]) -> Call {
        self.makima(["run", "--agent", "shell"]).args(words).at(repo.path())
    }

    /// What the guard would find: for tests that ask earlier.
    pub(crate) fn running(&self) -> Vec<(i32, String)> {
        processes_with(self.all.path().as_os_str())
    }

    /// Fails where anything of this test still runs after a moment.
    #[track_caller]
    pub(crate) fn assert_nothing_runs(&self) {
        let left = self.left();
        assert!(left.is_empty(), "left running: {left:#?}");
    }

    fn left(&self) -> Vec<(i32, String)> {
        let end = Instant::now() + GRACE;
        loop {
            let left = self.running();
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.left();
        for (pid, _) in &left {
            if let Some(pid) = Pid::from_raw(*pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("--- left running, and killed now: {left:#?}");
        } else {
            assert!(left.is_empty(), "left running: {left:#?}");
            if self.forged.load(Ordering::Relaxed) {
                return;
            }
            let Walked { steps, lives, .. } = self.walked();
            eprintln!("the journal: {steps} steps of {lives} lives walked through");
        }
    }
}

/// Processes with this text in their environment, their command line or the path that they work in; zombies
/// have none of these.
pub(crate) fn processes_with(text: &OsStr) -> Vec<(i32, String)> {
    let text = text.as_encoded_bytes();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc can be read").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        let folder = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let marked = [read("environ"), command.clone(), folder.into_os_string().into_encoded_bytes()];
        if pid != own && marked.iter().any(|bytes| bytes.windows(text.len()).any(|part| part == text)) {
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

/// How many processes that can still do something a group has.
pub(super) fn group(leader: i32) -> usize {
    let all = fs::read_dir("/proc").expect("/proc can be read").flatten();
    let stat = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let member = |stat: &String| {
        let words = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>()).unwrap_or_default();
        words.first() != Some(&"Z") && words.get(2).and_then(|group| group.parse().ok()) == Some(leader)
    };
    stat.filter(member).count()
}
