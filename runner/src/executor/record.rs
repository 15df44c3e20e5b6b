//! A task's own folder: what is written down of it, so that the next life of the daemon knows.
//!
//! ```text
//! spec.json      taken on: what was asked for
//! plan           what the agent is to do
//! credentials    what stood in its URL; gone once the server knows the end
//! key            by which its agent speaks to the server; gone with the end
//! prepared.json  its worktree stands
//! brought        what was brought into it and is no part of its work: paths that end with a zero byte
//! started.json   its agent was started, or was about to be
//! agent          which processes that became: its supervisor writes this
//! exit           how the agent ended: its supervisor writes this
//! socket         where the supervisor is spoken to, while it lives; it holds `supervisor.lock`
//! output.log     what it wrote: see `log`
//! output.gone    what that does not hold any more: see `gone`; `output.marks` are places in it
//! delivered      how far that was handed over: eight bytes, little-endian
//! skipped.json   subtasks that are meant not to be merged, and why
//! merge.json     a merge in its worktree that we began: see `merge`
//! writing.json   a branch of the user's that git is writing: see `locks`
//! into.json      a checkout of the user's that is following its branch: see `into`
//! index          what its repository's index was before that merge; `sparse`: which folders were wanted of it
//! harvest.json   what became of its work: see `harvest`
//! end.json       how it ended
//! closed         the server knows
//! git/           the repository that its work is committed through: see `commit`
//! tmp/           its TMPDIR
//! ```
//! Every record bears a version; one that cannot be read is left where it is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use makima_core::id::TaskId;
use makima_core::input::{ExitStatus, Leftover, Prepared, Stage};
use makima_core::task::{End, Spec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::brought::Lent;
use super::gone::Gone;
use super::harvest::Harvest;
use super::locks::Writing;
use super::merge::Begun;
use crate::home::{Home, make_private, write_atomic, write_whole};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize, Deserialize)]
struct Accepted {
    spec: Spec,
}

#[derive(Serialize, Deserialize)]
struct Ended {
    end: End,
}

#[derive(Serialize, Deserialize)]
struct Skipped {
    skipped: Vec<(TaskId, String)>,
}

/// A worktree that stands, and what the executor has to know of it beside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) prepared: Prepared,
    /// The bare repository that it borrows from.
    pub(super) bare: PathBuf,
}

/// An agent that was started, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The name of this start, which its supervisor and the daemon know each other by. Whoever knows it has the agent in
    /// hand: it is told to nobody else.
    pub(super) nonce: String,
    /// Stands in the environment of every process of the tree. Daemons of before took the name of the start for it.
    #[serde(default)]
    mark: Option<String>,
    /// When, in milliseconds since 1970. For people.
    pub(super) at: u64,
    /// In which run of the machine: process ids mean nothing in another.
    pub(super) boot: String,
    /// Its control group.
    pub(super) group: Option<PathBuf>,
}

impl Intent {
    /// A start that is made now.
    pub(super) fn new(nonce: &str, mark: &str, boot: String, group: Option<PathBuf>) -> Self {
        Self { nonce: nonce.to_owned(), mark: Some(mark.to_owned()), at: now(), boot, group }
    }

    /// What stands in the environment of every process of the tree.
    pub(super) fn mark(&self) -> &str {
        self.mark.as_deref().unwrap_or(&self.nonce)
    }
}

/// A checkout of the user's whose branch is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Following {
    pub(super) folder: PathBuf,
    /// The branch, by its full name.
    pub(super) branch: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// A process that cannot be taken for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// When it began, in the kernel's ticks since the machine started.
    pub(crate) start: u64,
}

/// What a supervisor has in hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The start that it belongs to.
    pub(crate) nonce: String,
    /// The supervisor itself.
    pub(crate) supervisor: Identity,
    /// Its agent; none while it is about to start that.
    pub(crate) agent: Option<Identity>,
}

/// How an agent ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// The start that it belongs to.
    pub(crate) nonce: String,
    /// How.
    pub(crate) status: ExitStatus,
}

/// Why a record is no use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not hold what belongs there.
    #[error("{}: {what}", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// The name of a task's output log.
pub(super) const LOG: &str = "output.log";

const GONE: &str = "output.gone";

const KEY: &str = "key";

/// The name of the list of what was brought into its worktree.
const LENT: &str = "brought";

/// The records of one task.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(super) fn of(home: &Home, task: TaskId) -> Self {
        Self(home.task(task))
    }

    /// The records in this folder.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn plan(&self) -> PathBuf {
        self.file("plan")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.file(LOG)
    }

    /// Its TMPDIR, made if it is not there.
    pub(crate) fn temporary(&self) -> io::Result<PathBuf> {
        let path = self.file("tmp");
        make_private(&path)?;
        Ok(path)
    }

    pub(super) fn accept(&self, spec: Spec, credentials: Option<&str>) -> io::Result<()> {
        make_private(&self.0)?;
        if let Some(tasks) = self.0.parent() {
            // A record lasts no longer than the folder that it lies in.
            fs::File::open(tasks)?.sync_all()?;
        }
        // The end of a task that was never taken on: it could be taken for this one's.
        for name in ["end.json", "closed"] {
            forgiving(fs::remove_file(self.file(name)))?;
        }
        if let Some(value) = credentials {
            write_atomic(&self.file("credentials"), value.as_bytes(), 0o600)?;
        }
        self.keep("spec.json", &Accepted { spec })
    }

    pub(super) fn credentials(&self) -> Option<String> {
        fs::read_to_string(self.file("credentials")).ok()
    }

    /// The key by which its agent speaks to the server.
    pub(super) fn key(&self) -> Option<String> {
        fs::read_to_string(self.file(KEY)).ok()
    }

    pub(super) fn keep_key(&self, key: &str) -> io::Result<()> {
        make_private(&self.0)?;
        write_atomic(&self.file(KEY), key.as_bytes(), 0o600)
    }

    pub(super) fn write_plan(&self, plan: &str) -> io::Result<()> {
        make_private(&self.0)?;
        write_whole(&self.plan(), plan.as_bytes(), 0o600)
    }

    /// Not flushed: a worktree is made anew if the machine goes down before its agent is started.
    pub(super) fn prepared(&self, standing: &Standing) -> io::Result<()> {
        write_whole(&self.file("prepared.json"), &bytes(standing)?, 0o600)
    }

    /// What was brought into its worktree. Before it is said that that stands, and no more lasting than that.
    pub(super) fn brought(&self, lent: &Lent) -> io::Result<()> {
        write_whole(&self.file(LENT), &lent.bytes(), 0o600)
    }

    /// Nothing, where nothing was written down.
    pub(super) fn lent(&self) -> io::Result<Lent> {
        match fs::read(self.file(LENT)) {
            Ok(bytes) => Ok(Lent::read(&bytes)),
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => Ok(Lent::default()),
            Err(failure) => Err(failure),
        }
    }

    pub(super) fn standing(&self) -> Result<Option<Standing>, RecordError> {
        read(&self.file("prepared.json"))
    }

    pub(super) fn start(&self, intent: &Intent) -> io::Result<()> {
        self.keep("started.json", intent)
    }

    pub(super) fn intent(&self) -> Result<Option<Intent>, RecordError> {
        read(&self.file("started.json"))
    }

    /// By the supervisor: it is about to start the agent, or has.
    pub(crate) fn holds(&self, held: &Held) -> io::Result<()> {
        self.keep("agent", held)
    }

    /// By the supervisor: it could not start it.
    pub(crate) fn holds_nothing(&self) {
        let _ = fs::remove_file(self.file("agent"));
    }

    pub(crate) fn held(&self) -> Result<Option<Held>, RecordError> {
        read(&self.file("agent"))
    }

    /// By the supervisor: the agent has ended.
    pub(crate) fn ends(&self, ending: &Ending) -> io::Result<()> {
        self.keep("exit", ending)
    }

    pub(super) fn ending(&self) -> Result<Option<Ending>, RecordError> {
        read(&self.file("exit"))
    }

    /// What its output log does not hold any more.
    pub(crate) fn gone(&self) -> io::Result<Gone> {
        read(&self.file(GONE)).map(Option::unwrap_or_default).map_err(|why| match why {
            RecordError::Io(failure) => failure,
            garbled @ RecordError::Garbled { .. } => io::Error::new(io::ErrorKind::InvalidData, garbled),
        })
    }

    /// By the supervisor: this is about to be taken out of the log.
    pub(crate) fn loses(&self, gone: &Gone) -> io::Result<()> {
        self.keep(GONE, gone)
    }

    pub(super) fn conclude(&self, end: End) -> io::Result<()> {
        make_private(&self.0)?;
        // The end says where the log ends. A log that a power cut made shorter would never get there.
        match fs::File::open(self.log()) {
            Ok(log) => log.sync_data()?,
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
            Err(failure) => return Err(failure),
        }
        self.keep("end.json", &Ended { end })?;
        // It is void from here on.
        forgiving(fs::remove_file(self.file(KEY)))
    }

    /// A plain overwrite: what is torn or lost of it is only sent once more.
    pub(super) fn delivered(&self, to: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.file("delivered"))?;
        file.file().write_all_at(&to.to_le_bytes(), 0)
    }

    pub(super) fn close(&self) -> io::Result<()> {
        make_private(&self.0)?;
        write_atomic(&self.file("closed"), b"", 0o600)?;
        // Until here its output was still read now and then, and they had to be known to be masked.
        forgiving(fs::remove_file(self.file("credentials")))
    }

    /// A subtask of its is not to be merged.
    pub(super) fn skip(&self, child: TaskId, why: &str) -> io::Result<()> {
        let mut skipped = self.skipped().map_err(io::Error::other)?;
        skipped.retain(|(id, _)| *id != child);
        skipped.push((child, why.to_owned()));
        self.keep("skipped.json", &Skipped { skipped })
    }

    /// How it ended, where that is known.
    pub(super) fn end(&self) -> Option<End> {
        read(&self.file("end.json")).ok().flatten().map(|Ended { end }| end)
    }

    /// What it was asked to do.
    pub(super) fn spec(&self) -> Option<Spec> {
        read(&self.file("spec.json")).ok().flatten().map(|Accepted { spec }| spec)
    }

    /// A merge is at this point.
    pub(super) fn merges(&self, begun: &Begun) -> io::Result<()> {
        self.keep("merge.json", begun)
    }

    /// The merge that we began last.
    pub(super) fn begun(&self) -> Result<Option<Begun>, RecordError> {
        read(&self.file("merge.json"))
    }

    /// That merge is no more.
    pub(super) fn merges_nothing(&self) -> io::Result<()> {
        forgiving(fs::remove_file(self.file("merge.json")))
    }

    /// Git is about to write a branch of the user's.
    pub(super) fn writes(&self, writing: &Writing) -> io::Result<()> {
        self.keep("writing.json", writing)
    }

    /// The branch of the user's that git may have been killed at.
    pub(super) fn writing(&self) -> Result<Option<Writing>, RecordError> {
        read(&self.file("writing.json"))
    }

    /// When that was written down.
    pub(super) fn writes_since(&self) -> io::Result<SystemTime> {
        fs::metadata(self.file("writing.json"))?.modified()
    }

    /// Git has come to its end there.
    pub(super) fn writes_nothing(&self) -> io::Result<()> {
        forgiving(fs::remove_file(self.file("writing.json")))
    }

    /// A checkout of the user's is about to follow its branch.
    pub(super) fn follows(&self, following: &Following) -> io::Result<()> {
        self.keep("into.json", following)
    }

    /// The checkout that may not have followed yet.
    pub(super) fn following(&self) -> Result<Option<Following>, RecordError> {
        read(&self.file("into.json"))
    }

    /// That became of its work.
    pub(super) fn harvests(&self, harvest: &Harvest) -> io::Result<()> {
        self.keep("harvest.json", harvest)
    }

    /// What became of its work, where it was about to be committed.
    pub(super) fn harvest(&self) -> Result<Option<Harvest>, RecordError> {
        read(&self.file("harvest.json"))
    }

    /// It has, or there is none.
    pub(super) fn followed(&self) -> io::Result<()> {
        forgiving(fs::remove_file(self.file("into.json")))
    }

    fn skipped(&self) -> Result<Vec<(TaskId, String)>, RecordError> {
        Ok(read(&self.file("skipped.json"))?.map(|Skipped { skipped }| skipped).unwrap_or_default())
    }

    fn keep(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        write_atomic(&self.file(name), &bytes(content)?, 0o600)
    }

    /// What this task was when the daemon was killed. None if it was never taken on.
    pub(super) fn leftover(&self) -> Result<Option<Leftover>, RecordError> {
        let Some(Accepted { spec }) = read(&self.file("spec.json"))? else { return Ok(None) };
        let stage = if let Some(Ended { end }) = read(&self.file("end.json"))? {
            Stage::Ended(end)
        } else if self.intent()?.is_some() {
            Stage::Started(self.standing()?.unwrap_or_default().prepared)
        } else {
            Stage::Accepted
        };
        let delivered = match fs::read(self.file("delivered")) {
            Ok(bytes) => bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => 0,
            Err(failure) => return Err(failure.into()),
        };
        let skipped = self.skipped()?;
        Ok(Some(Leftover { spec, stage, delivered, closed: self.file("closed").exists(), skipped }))
    }
}

fn bytes(content: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Record { version: VERSION, content })?)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(failure) => return Err(failure.into()),
    };
    let garbled = |what: String| RecordError::Garbled { path: path.to_path_buf(), what };
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(|failure| garbled(failure.to_string()))?;
    if version != VERSION {
        return Err(garbled(format!("it is of version {version}, and this program reads version {VERSION}")));
    }
    let record: Record<T> = serde_json::from_slice(&bytes).map_err(|failure| garbled(failure.to_string()))?;
    Ok(Some(record.content))
}

/// Milliseconds since 1970, for people.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What is not there need not be removed.
pub(crate) fn forgiving(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
