//! What stands between the daemon and an agent: the process that becomes it. It makes a session of its own,
//! joins the task's control group, waits for its orders and turns into the agent.
//!
//! It is a program and not code between fork and exec, because that would need `unsafe` and would copy the
//! daemon's page tables for every agent. It waits, because joining a group takes the kernel ten milliseconds
//! and more: that is done while the worktree is being made.
//!
//! ```text
//! makima __launch REPORT CGROUP [DESCRIPTORS]
//! ```
//! `REPORT` is a FIFO: closed without a word once the agent runs (it is not handed on to it), else it bears
//! the reason. `CGROUP` is a control group's folder, or `-`. `DESCRIPTORS` is how many the agent may have open,
//! where that is not what the daemon may. The orders come on standard input, in front of
//! what is for the agent. If that ends before they are there, the daemon is gone, and so is the launcher.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use rustix::fs::{Mode, OFlags};

use crate::descriptors;

/// The word that asks for the launcher.
pub(crate) const WORD: &str = "__launch";

/// The exit status that says that it could not even tell what is wrong.
pub(crate) const MISUSED: i32 = 2;

/// No group is to be joined.
pub(crate) const NO_GROUP: &str = "-";

/// More than any system takes as arguments and environment.
const ORDERS_MAX: u32 = 16 << 20;

/// What is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    pub(crate) folder: PathBuf,
    /// Never empty.
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
}

/// Runs the launcher if that is what the arguments ask for. Returns only if it did and failed: with the exit
/// status; for any other arguments, at once, with none.
pub fn intercept(args: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != WORD {
        return None;
    }
    let (Some(report), Some(group)) = (args.next(), args.next()) else { return Some(MISUSED) };
    let Ok(mut report) = open_report(Path::new(&report)) else { return Some(MISUSED) };
    if let Some(limit) = args.next().and_then(|limit| limit.to_str()?.parse().ok()) {
        descriptors::give_back(limit);
    }
    let why = match seat(&group) {
        Ok(Some(orders)) => carry_out(&orders),
        Ok(None) => return Some(0),
        Err(why) => why,
    };
    // Nobody is left to tell if this fails; the status says it then.
    let _ = report.write_all(why.as_bytes());
    Some(127)
}

/// The FIFO's end. It is closed when the agent's program begins, which tells of that. The daemon holds the other
/// end before it starts us: where nobody does, the daemon is gone, and waiting for it would be for ever.
fn open_report(path: &Path) -> io::Result<std::fs::File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Goes where the agent is to be, and waits for orders. None if there will be none.
fn seat(group: &OsStr) -> Result<Option<Orders>, String> {
    rustix::process::setsid().map_err(|failure| format!("it cannot have a session of its own: {failure}"))?;
    if group != NO_GROUP {
        // Not fatal: the tree has other marks to be found by.
        let _ = fs::write(Path::new(group).join("cgroup.procs"), "0");
    }
    // Not std's standard input, which would take more than the orders.
    let mut input =
        fs::File::open("/dev/stdin").map_err(|failure| format!("it cannot be told what to do: {failure}"))?;
    Orders::read(&mut input).map_err(|failure| format!("what it was told cannot be understood: {failure}"))
}

/// Becomes the agent. Returns only if that failed, with the reason.
fn carry_out(orders: &Orders) -> String {
    let Some((program, args)) = orders.argv.split_first() else { return "its command line is empty".to_owned() };
    let mut command = Command::new(program);
    command.args(args).current_dir(&orders.folder).env_clear().envs(orders.env.iter().map(|(n, v)| (n, v)));
    let failure = command.exec();
    let program = Path::new(program).display();
    if failure.kind() == io::ErrorKind::NotFound {
        format!("`{program}` was not found; is it installed, and on the PATH?")
    } else if failure.kind() == io::ErrorKind::PermissionDenied {
        format!("`{program}` is not a program that may be run")
    } else {
        format!("`{program}` cannot be run: {failure}")
    }
}

impl Orders {
    /// As bytes: their length, then fields that end with a zero byte, as none can hold one.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, String> {
        let count = self.argv.len().to_string();
        let mut fields = vec![self.folder.as_os_str(), OsStr::new(&count)];
        fields.extend(self.argv.iter().map(OsString::as_os_str));
        fields.extend(self.env.iter().flat_map(|(name, value)| [name.as_os_str(), value.as_os_str()]));
        if fields.iter().any(|field| field.as_bytes().contains(&0)) {
            return Err("a zero byte stands in its command line or its environment".to_owned());
        }
        let text: Vec<u8> = fields.iter().flat_map(|field| [field.as_bytes(), b"\0"]).flatten().copied().collect();
        let length = u32::try_from(text.len()).ok().filter(|length| *length <= ORDERS_MAX);
        let length = length.ok_or("its command line and its environment are too long")?;
        Ok([&length.to_le_bytes()[..], &text].concat())
    }

    fn read(from: &mut impl io::Read) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Err(failure) if failure.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let length = u32::from_le_bytes(length);
        if length > ORDERS_MAX {
            return Err(io::Error::other("it is too long"));
        }
        let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
        from.by_ref().read_exact(&mut text)?;
        Self::parse(&text).map(Some).ok_or_else(|| io::Error::other("a part is missing"))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b"\0")?;
        let mut fields = text.split(|byte| *byte == 0).map(|field| OsStr::from_bytes(field).to_owned());
        let folder = PathBuf::from(fields.next()?);
        let count = fields.next()?.to_str()?.parse().ok()?;
        let argv: Vec<OsString> = fields.by_ref().take(count).collect();
        let mut env = Vec::new();
        while let Some(name) = fields.next() {
            env.push((name, fields.next()?));
        }
        (argv.len() == count && count > 0).then_some(Self { folder, argv, env })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects a machine from processes that wait for a daemon which was killed while it started them.
    #[test]
    fn without_a_daemon_nobody_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a FIFO");
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let words = ["makima".into(), WORD.into(), path.into_os_string(), NO_GROUP.into()];
            tell.send(intercept(words))
        });
        assert_eq!(told.recv_timeout(std::time::Duration::from_secs(10)), Ok(Some(MISUSED)));
    }

    #[test]
    fn orders_are_read_as_they_were_written() {
        let env = vec![("A".into(), String::new().into()), ("B".into(), "x=y".into())];
        let orders = Orders { folder: "/tmp".into(), argv: vec!["sh".into(), "".into()], env };
        let mut bytes = orders.bytes().expect("bytes");
        bytes.extend_from_slice(b"for the agent");
        let mut from = bytes.as_slice();
        assert_eq!(Orders::read(&mut from).expect("orders"), Some(orders));
        assert_eq!(from, b"for the agent");
        assert_eq!(Orders::read(&mut &b""[..]).expect("an end"), None);
        assert!(Orders::read(&mut &b"\x05\0\0\0abc"[..]).is_err());
        assert!(Orders { argv: vec!["a\0b".into()], ..Orders::default() }.bytes().is_err());
    }
}
