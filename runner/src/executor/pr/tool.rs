//! A forge's own program, where the user has it and is logged in by it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use makima_core::forge::{Kind, Project, TOKENS, Tool, Wanted};
use makima_core::policy::{NETWORK_VARIABLES, shorten};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::{Job, Opened};

/// The longest that one call of it may take.
const CALL: Duration = Duration::from_secs(60);
/// What is taken of what it says, in bytes.
const SAID: u64 = 1 << 20;

/// The variables of the user's that it gets, beside those by which it reaches the network, and a token that is meant for
/// this forge.
const VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "GH_CONFIG_DIR",
    "GH_HOST",
    "GLAB_CONFIG_DIR",
    "GITLAB_HOST",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

const FIXED: &[(&str, &str)] = &[
    ("LC_ALL", "C"),
    ("NO_COLOR", "1"),
    ("NO_PROMPT", "1"),
    ("GH_PROMPT_DISABLED", "1"),
    ("GH_NO_UPDATE_NOTIFIER", "1"),
    ("GLAB_CHECK_UPDATE", "false"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("BROWSER", "false"),
];

/// Has it open one. None where there is no such program, or it is not logged in there.
pub(super) async fn open(
    job: &Job<'_>,
    kind: Kind,
    project: &Project,
    wanted: &Wanted,
) -> Option<Result<Opened, String>> {
    let tool = Tool(kind);
    let program = find(tool.name(), job.hands.settings.variable("PATH")?)?;
    let runner = Runner { job, project, program, kind };
    if !runner.run(tool.knows(&project.host)).await.ok()?.well {
        return None;
    }
    let find = || runner.run(tool.find(project, &wanted.branch));
    match find().await {
        Ok(said) if said.well => {
            if let Some(url) = tool.found(&said.out) {
                return Some(Ok(Opened { url, found: true }));
            }
        }
        // It cannot do that; what remains is the interface itself.
        Ok(_) | Err(_) => return None,
    }
    let made = match runner.run(tool.make(project, wanted)).await {
        Ok(made) => made,
        Err(why) => return Some(Err(why)),
    };
    if made.well
        && let Some(url) = tool.made(&made.out)
    {
        return Some(Ok(Opened { url, found: false }));
    }
    // Somebody was faster, or its answer was lost.
    if let Ok(said) = find().await
        && let Some(url) = tool.found(&said.out)
    {
        return Some(Ok(Opened { url, found: !made.well }));
    }
    Some(Err(format!("{}: {}", tool.name(), shorten(&made.err, 600))))
}

/// A program in the folders of a search path. Those that are relative are nobody's.
fn find(name: &str, path: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let runs = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(runs)
}

struct Runner<'a> {
    job: &'a Job<'a>,
    project: &'a Project,
    program: PathBuf,
    kind: Kind,
}

/// What it said.
struct Said {
    well: bool,
    out: String,
    err: String,
}

impl Runner<'_> {
    async fn run(&self, args: Vec<String>) -> Result<Said, String> {
        let shown = self.program.display();
        let mut child = self.command(&args).spawn().map_err(|failure| format!("{shown} cannot be run: {failure}"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let talk = async {
            let (out, err, status) = tokio::join!(read(stdout), read(stderr), child.wait());
            Said { well: status.is_ok_and(|status| status.success()), out, err }
        };
        let why = tokio::select! {
            said = talk => return Ok(said),
            () = tokio::time::sleep(CALL) => format!("{shown} was not done after {} s and was ended", CALL.as_secs()),
            () = self.job.cancel.set() => "it was cancelled".to_owned(),
        };
        if let Some(group) = group {
            // It has not been waited for: its id is nobody else's.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait().await;
        Err(why)
    }

    fn command(&self, args: &[String]) -> Command {
        let settings = &self.job.hands.settings;
        let tokens = self.job.remote.forges.variables(self.kind, &self.project.host);
        let passes = |name: &str| {
            let plain = VARIABLES.contains(&name) || NETWORK_VARIABLES.contains(&name);
            (plain && !TOKENS.contains(&name)) || tokens.contains(&name)
        };
        let given = settings.environment.iter().filter(|(name, _)| passes(name)).cloned();
        let mut command = Command::new(&self.program);
        // In no repository, so that none has a say.
        command.args(args).current_dir(Path::new("/")).env_clear().envs(given).envs(FIXED.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        command
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        let _ = (&mut from).take(SAID).read_to_end(&mut bytes).await;
        // Who writes more is not kept from going on.
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
