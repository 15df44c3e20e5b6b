//! A namespace of processes for one test, in which it says which number the next process gets.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{fs, io};

use super::binary::makima;

/// Says in there that it is there.
const INSIDE: &str = "MAKIMA_E2E_APART";

/// The number that was given out last.
const LAST: &str = "/proc/sys/kernel/ns_last_pid";

/// Runs the test of this name once more, as root of namespaces of its own for processes and mounts; true in there.
/// Where this user may make none it is left out, unless `MAKIMA_E2E_NAMESPACES` asks for it.
#[track_caller]
pub(crate) fn apart(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    // The shell stays, and reaps what has lost its parent: a number is free only then.
    let shell = ["sh", "-c", "echo 2 > /proc/sys/kernel/ns_last_pid || exit 99; \"$0\" \"$@\"; exit $?"];
    let flags: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let mut command = Command::new("unshare");
    command.args(flags).args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(shell);
    command.arg(std::env::current_exe().expect("the test knows its own file"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    let made = command.env(INSIDE, "1").env("MAKIMA_BIN", makima()).output();
    let (code, said) = match &made {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            (output.status.code(), said.into_owned())
        }
        Err(failure) => (None, failure.to_string()),
    };
    let none = made.is_err() || code == Some(99) || said.starts_with("unshare:");
    if none && std::env::var_os("MAKIMA_E2E_NAMESPACES").is_none() {
        eprintln!("skipped: no namespaces can be made here: {said}");
        return false;
    }
    assert!(code == Some(0) && said.contains("1 passed"), "{said}");
    false
}

/// A process that has done nothing: it writes down each signal that it gets, and leads a session, or a group only,
/// with a process in it.
pub(crate) struct Innocent {
    child: Child,
    notes: PathBuf,
}

impl Innocent {
    /// The process with this number, which has to be free.
    #[track_caller]
    pub(crate) fn numbered(pid: i32, leads_session: bool, notes: &Path) -> Self {
        let script = "for s in HUP INT QUIT TERM USR1 USR2 CONT TSTP; do trap \"echo $s >> $0\" $s; done; \
                      sleep 1000 & : > $0; while :; do wait; sleep 0.05; done";
        let wanted = u32::try_from(pid).expect("a number");
        for _ in 0..1_000 {
            // Whatever else is started meanwhile may get it, and gives it back.
            fs::write(LAST, (pid - 1).to_string()).expect("the next number can be said");
            let mut command = Command::new("setsid");
            command.args(["sh", "-c", script]);
            if !leads_session {
                command = Command::new("sh");
                command.args(["-c", script]).process_group(0);
            }
            command.arg(notes).current_dir("/").env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().expect("it can be started");
            let innocent = Self { child, notes: notes.to_path_buf() };
            if innocent.child.id() == wanted {
                super::until("it stands ready", super::SOON, || notes.exists().then_some(()));
                return innocent;
            }
            drop(innocent);
            let _ = fs::remove_file(notes);
        }
        panic!("the number {pid} is not given out");
    }

    /// Asserts that nobody has signalled it.
    #[track_caller]
    pub(crate) fn is_unharmed(&mut self) {
        let ended = self.child.try_wait().expect("it can be waited for");
        assert!(ended.is_none(), "process {} was ended: {ended:?}", self.child.id());
        assert_eq!(fs::read_to_string(&self.notes).expect("its notes"), "", "signals of process {}", self.child.id());
        let group = rustix::process::Pid::from_child(&self.child);
        let members = super::place::group(group.as_raw_nonzero().get());
        assert!(members >= 2, "its child was ended: {members}");
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        let _: io::Result<()> = rustix::process::kill_process_group(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::KILL,
        )
        .map_err(Into::into);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
