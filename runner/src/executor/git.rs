//! The one door to git. Whatever is asked of git goes through [`Git::run`].
//!
//! Nothing that a server, a repository or an agent says becomes an option or is run: the environment is
//! cleared, the configuration that could name a program is overruled, names stand behind
//! `--end-of-options`, transports are listed. The user's own configuration stays in force: identity,
//! credential helpers, proxies, signing.

mod error;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use makima_core::policy::NETWORK_VARIABLES;
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

pub(super) use self::error::GitError;
use super::cancel::Cancel;
use super::fence::Fence;
use super::heard::Bounded;
use super::reach::Held;
use super::settings::Settings;
use super::user::Own;
use crate::sandbox::Walls;

/// The longest that a local step may take.
pub(super) const LOCAL: Duration = Duration::from_secs(120);
/// The longest that asking a server for its branches may take.
pub(super) const ASK: Duration = Duration::from_secs(60);
/// The longest that bringing or writing a repository's content may take.
pub(super) const BRING: Duration = Duration::from_secs(60 * 60);
/// How often ssh asks a server that says nothing whether it is there, in the time that it is given.
const ALIVE: u64 = 4;
/// The longest that git may go on after it was asked to end.
const GRACE: Duration = Duration::from_secs(2);
/// The longest that its pipes are read after its own end: a helper that it left behind may hold them.
const DRAIN: Duration = Duration::from_millis(500);
/// What is kept of its error messages.
const SAID_MAX: usize = 16 * 1024;
/// What is taken of its answers; more is a failure.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// The variables of the user's that git gets, beside those by which it reaches the network.
const VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "GNUPGHOME",
    "GIT_CONFIG_GLOBAL",
    "GIT_SSL_CAPATH",
    "GIT_SSH_COMMAND",
    "GIT_SSH",
];

const FIXED: &[(&str, &str)] = &[
    ("LANG", "C"),
    ("LC_ALL", "C"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("SSH_ASKPASS", ""),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_ALLOW_PROTOCOL", "file:https:ssh"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("GIT_EDITOR", "false"),
    ("GIT_MERGE_AUTOEDIT", "no"),
];

/// What overrules the user's configuration and a repository's. Beside what could run a program, these are what
/// our work cannot be done under: references that are no files, an index in two parts, files that are refused
/// for their line ends, changes that are not looked for.
const SETTINGS: &[(&str, &str)] = &[
    ("init.defaultRefFormat", "files"),
    // Where a remote has another one, its own is taken.
    ("init.defaultObjectFormat", "sha1"),
    ("clone.rejectShallow", "false"),
    // Which repository is meant was said by its path, and nothing above it is looked at.
    ("safe.bareRepository", "all"),
    ("core.safecrlf", "false"),
    ("core.splitIndex", "false"),
    ("fetch.prune", "false"),
    ("fetch.pruneTags", "false"),
    ("fetch.all", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.pager", "cat"),
    ("core.askPass", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("protocol.ext.allow", "never"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("transfer.bundleURI", "false"),
    ("i18n.commitEncoding", "UTF-8"),
    ("color.ui", "false"),
    ("advice.objectNameWarning", "false"),
    ("advice.addEmbeddedRepo", "false"),
];

/// The same about files in folders of ours. What those of a user's checkout are like, and can be like where it lies, its
/// own configuration says.
const OURS: &[(&str, &str)] = &[
    ("core.fileMode", "true"),
    ("core.symlinks", "true"),
    #[cfg(not(target_os = "macos"))]
    ("core.ignoreCase", "false"),
    ("core.trustctime", "true"),
    ("core.checkStat", "default"),
];

/// What is wrong with old commits of many a repository, and harms nobody.
const HARMLESS: &[&str] = &[
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badFilemode",
    "badName",
    "badTagName",
    "badTimezone",
    "extraHeaderEntry",
    "missingAuthor",
    "missingCommitter",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingTaggerEntry",
    "multipleAuthors",
    "nulInCommit",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// What git answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) out: Vec<u8>,
    pub(super) code: i32,
}

impl Answer {
    /// Its first line, if it has one.
    pub(super) fn line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.out);
        text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
    }
}

/// One call of git.
#[derive(Debug)]
pub(super) struct Call {
    verb: String,
    args: Vec<OsString>,
    dir: PathBuf,
    /// The folder itself, where it is one that was found and is held.
    held: Option<Held>,
    /// Where it may write, if not everywhere.
    fence: Option<Fence>,
    /// How far it reaches, where it works on what an agent has in its hands.
    walls: Walls,
    env: Vec<(OsString, OsString)>,
    settings: Vec<(String, String)>,
    theirs: bool,
    input: Vec<u8>,
    to: Option<mpsc::Sender<Vec<u8>>>,
    limit: Duration,
    fine: &'static [i32],
}

impl Call {
    /// `git <verb>` in a folder that is the repository, or its worktree; nothing above it is looked at.
    pub(super) fn at(dir: &Path, verb: &str) -> Self {
        let mut call = Self {
            verb: verb.to_owned(),
            args: Vec::new(),
            dir: dir.to_path_buf(),
            held: None,
            fence: None,
            walls: Walls::default(),
            env: Vec::new(),
            settings: Vec::new(),
            theirs: false,
            input: Vec::new(),
            to: None,
            limit: LOCAL,
            fine: &[0],
        };
        if let Some(above) = dir.parent() {
            call = call.env("GIT_CEILING_DIRECTORIES", above);
        }
        call
    }

    /// The same in a folder that was found and is held, wherever its path leads by now.
    pub(super) fn held(folder: &Held, verb: &str) -> Self {
        Self::at(folder.path(), verb).inside(folder)
    }

    /// Runs in this folder, whatever it is run on.
    pub(super) fn inside(mut self, folder: &Held) -> Self {
        self.held = Some(folder.clone());
        self
    }

    /// May write to these folders and to those of ours, and nowhere else. Not for what runs programs of the user's.
    pub(super) fn fenced<'a>(mut self, folders: impl IntoIterator<Item = &'a Held>, ours: &[&Path]) -> Self {
        self.fence = Some(Fence::around(folders, ours));
        self
    }

    /// Works on what an agent has in its hands.
    pub(super) fn walled(mut self, walls: &Walls) -> Self {
        self.walls = walls.clone();
        self
    }

    /// Runs programs of the user's, which reach as far as they have to.
    pub(super) fn free(mut self) -> Self {
        self.walls = Walls::default();
        self
    }

    /// The same, on a repository of the daemon's own.
    pub(super) fn on(git_dir: &Path, verb: &str) -> Self {
        Self::at(git_dir, verb).env("GIT_DIR", git_dir)
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(super) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Everything behind this is a name, whatever it looks like.
    pub(super) fn names<A: AsRef<OsStr>>(self, names: impl IntoIterator<Item = A>) -> Self {
        self.arg("--end-of-options").args(names)
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub(super) fn envs(mut self, pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(pairs.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    pub(super) fn setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// On a checkout of the user's: see [`OURS`].
    pub(super) fn theirs(mut self) -> Self {
        self.theirs = true;
        self
    }

    /// A fetch of what an agent has made: objects that git itself holds to be dangerous (`..` or `.git` in a tree,
    /// submodules that name programs) stay where they are, so that nobody is handed them. How names and dates are
    /// written need please nobody.
    pub(super) fn inspecting(self) -> Self {
        let ignore = |call: Self, id: &&str| call.setting(format!("fetch.fsck.{id}"), "ignore");
        HARMLESS.iter().fold(self.setting("fetch.fsckObjects", "true"), ignore)
    }

    pub(super) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// What it answers goes there, however much it is, and not into the answer.
    pub(super) fn to(mut self, to: mpsc::Sender<Vec<u8>>) -> Self {
        self.to = Some(to);
        self
    }

    pub(super) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Exit statuses that are answers and not failures.
    pub(super) fn fine(mut self, codes: &'static [i32]) -> Self {
        self.fine = codes;
        self
    }
}

/// The door.
#[derive(Debug)]
pub(super) struct Git {
    program: PathBuf,
    env: Vec<(OsString, OsString)>,
    /// When a server is given up that says nothing.
    pace: Vec<(&'static str, String)>,
}

impl Git {
    /// One to ask it about its user by, which lets the machine's own configuration in.
    pub(super) fn asking(settings: &Settings) -> Self {
        Self::new(settings, Own { ssh: true, pace: true, system: true })
    }

    /// A door for the user whose settings these are. The machine's own configuration is let in where it is what allows a
    /// repository to be opened.
    pub(super) fn new(settings: &Settings, own: Own) -> Self {
        let environment = &settings.environment;
        let passes = |name: &str| VARIABLES.iter().chain(NETWORK_VARIABLES).any(|passes| *passes == name);
        let given = environment.iter().filter(|(name, _)| passes(name));
        let mut env: Vec<(OsString, OsString)> = given.map(|(name, value)| (name.into(), value.into())).collect();
        env.extend(FIXED.iter().map(|(name, value)| (name.into(), value.into())));
        let own_ssh = env.iter().any(|(name, _)| name == "GIT_SSH_COMMAND" || name == "GIT_SSH");
        let silence = settings.silence_max.as_secs().max(1);
        if !own.ssh && !own_ssh {
            let (alive, times) = (silence.div_ceil(ALIVE), ALIVE);
            let ssh = format!(
                "ssh -o BatchMode=yes -o ConnectTimeout={silence} -o ServerAliveInterval={alive} -o ServerAliveCountMax={times}"
            );
            env.push(("GIT_SSH_COMMAND".into(), ssh.into()));
        }
        if !own.system {
            env.push(("GIT_CONFIG_NOSYSTEM".into(), "1".into()));
        }
        // A server that only thinks says so every few seconds.
        let pace =
            [("http.lowSpeedLimit", 1), ("http.lowSpeedTime", silence)].map(|(key, value)| (key, value.to_string()));
        let pace = if own.pace { Vec::new() } else { pace.into() };
        Self { program: settings.git.clone(), env, pace }
    }

    /// Runs git and waits for it: to its end, its limit or a cancellation, whichever comes first.
    pub(super) async fn run(&self, cancel: &Cancel, call: Call) -> Result<Answer, GitError> {
        if cancel.is_set() {
            return Err(GitError::Cancelled);
        }
        let not_run = |reason| GitError::NotRun { program: self.program.clone(), reason };
        let mut child = self.spawn(&call).map_err(not_run)?;
        let Call { verb, input, limit, fine, to, .. } = call;
        let stdin = child.stdin.take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A git that has ended does not want it; its status says why.
                let _ = stdin.write_all(&input).await;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut out, mut said) = (Bounded::new(ANSWER_MAX).to(to), Bounded::new(SAID_MAX));
        let ended = {
            let talk = async { tokio::join!(feed, out.fill(stdout), said.fill(stderr)) };
            tokio::pin!(talk);
            let wait = async {
                // The answer may be larger than a pipe: it is read while git runs.
                tokio::select! {
                    status = child.wait() => {
                        let _ = tokio::time::timeout(DRAIN, &mut talk).await;
                        status
                    }
                    _ = &mut talk => child.wait().await,
                }
            };
            tokio::select! {
                status = wait => Ok(status),
                () = tokio::time::sleep(limit) => Err(GitError::TooLong { verb: verb.clone(), limit }),
                () = cancel.set() => Err(GitError::Cancelled),
            }
        };
        let status = match ended {
            Ok(status) => status.map_err(|reason| GitError::NotRun { program: self.program.clone(), reason })?,
            Err(why) => {
                end_group(&mut child).await;
                return Err(why);
            }
        };
        let said = String::from_utf8_lossy(&said.bytes).into_owned();
        if out.cut {
            return Err(GitError::TooMuch { verb });
        }
        match status.code() {
            Some(code) if fine.contains(&code) => Ok(Answer { out: out.bytes, code }),
            code => Err(GitError::Refused { verb, code, said }),
        }
    }

    fn spawn(&self, call: &Call) -> io::Result<Child> {
        let mut command = self.command(call)?;
        match &call.fence {
            Some(fence) => fence.spawn(&mut command),
            None => call.walls.spawn(&mut command),
        }
    }

    /// The program by its path: only then the standard library starts it without a copy of this whole process, and no
    /// `PATH` that begins with `.` finds what an agent has put there.
    fn found(&self) -> PathBuf {
        let path = self.env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_os_str());
        let named = self.program.components().count() > 1;
        let folders = path.filter(|_| !named).map(std::env::split_paths).into_iter().flatten();
        let mut places = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(&self.program));
        let is_program = |place: &PathBuf| place.is_file() && access(place, Access::EXEC_OK).is_ok();
        places.find(is_program).unwrap_or_else(|| self.program.clone())
    }

    fn command(&self, call: &Call) -> io::Result<Command> {
        let mut command = Command::new(self.found());
        let door = call.held.as_ref().map(Held::door).transpose()?;
        command.arg(&call.verb).args(&call.args).current_dir(door.as_ref().unwrap_or(&call.dir));
        command.env_clear().envs(self.env.iter().cloned()).envs(call.env.iter().cloned());
        let ours = if call.theirs { &[] } else { OURS };
        let own = call.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let pace = self.pace.iter().map(|(key, value)| (*key, value.as_str()));
        let settings = SETTINGS.iter().chain(ours).copied().chain(pace).chain(own);
        let mut count = 0_usize;
        for (key, value) in settings {
            command.env(format!("GIT_CONFIG_KEY_{count}"), key).env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command.stdin(if call.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        Ok(command)
    }
}

/// Asks git and its helpers to end, which takes their lock files away; then makes them.
async fn end_group(child: &mut Child) {
    // Until it has been waited for, its id cannot be anybody else's.
    let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else { return };
    let _ = kill_process_group(group, Signal::TERM);
    let until = tokio::time::Instant::now() + GRACE;
    while !has_ended(group) && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait().await;
}

/// Whether a child of ours has ended. It stays to be waited for.
fn has_ended(child: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(child), look), Ok(None))
}
