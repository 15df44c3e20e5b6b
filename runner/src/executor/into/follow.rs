//! Having a checkout of the user's follow its branch: with all of its files, or with none.
//!
//! Git writes files as it goes, and where it cannot go on it leaves them so. Here what it has written is taken away again,
//! and what it has taken away is written again (`back`), for which room was set aside before anything was touched.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, openat};

use super::super::blocking;
use super::super::cancel::Cancel;
use super::super::git::{BRING, Call, GitError};
use super::super::locks;
use super::super::reach::{Held, Reach};
use super::super::record::Following;
use super::super::trouble::Trouble;
use super::change::{Change, Entry};
use super::turn::{LOOK, PATIENCE, is_locked};
use super::way::in_the_way;
use super::{Job, named};

/// What is written beside the files: a reference, an index, what lies in folders.
const BESIDE: u64 = 1 << 20;

/// Room on the disk that nobody else can take, in a file without a name: it is free again when this is let go, whatever
/// becomes of us. None where the file system cannot do that.
#[derive(Debug, Default)]
struct Room(Option<OwnedFd>);

impl Room {
    /// As much as this in the file system of a folder. Blocks.
    #[cfg(target_os = "linux")]
    fn take(folder: &Held, bytes: u64) -> io::Result<Self> {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let Ok(file) = openat(folder.handle(), ".", flags, Mode::from_raw_mode(0o600)) else {
            return Ok(Self::default());
        };
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(Self(Some(file))),
            Err(why @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) => Err(why.into()),
            Err(_) => Ok(Self::default()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn take(_: &Held, _: u64) -> io::Result<Self> {
        Ok(Self::default())
    }

    /// Gives back all but so much of it. Blocks.
    fn keep(&self, bytes: u64) {
        if let Some(file) = &self.0 {
            // What is not given back is only missing to what is about to be written, which says so.
            let _ = rustix::fs::ftruncate(file, bytes);
        }
    }
}

/// Files of the user's that are checked out.
#[derive(Clone, Debug)]
pub(super) struct Checkout {
    pub(super) folder: Held,
    /// The folder of git's that is its own.
    pub(super) git: PathBuf,
    /// The repository that it belongs to.
    pub(super) around: Vec<Held>,
}

impl Checkout {
    /// A call of git that looks at its files.
    pub(super) fn call(&self, verb: &str) -> Call {
        Call::held(&self.folder, verb).theirs()
    }
}

/// A checkout that can follow its branch, as far as anybody knows.
pub(super) struct Ready {
    checkout: Checkout,
    changes: Arc<[Change]>,
    following: Following,
    room: Room,
}

impl Job<'_> {
    /// Sees that a checkout can follow its branch, and writes down that it is going to. Nothing of it is changed yet.
    pub(super) async fn ready(&self, checkout: &Checkout, following: Following) -> Result<Ready, Trouble> {
        // Before git takes any lock there: one that is left by a git which was killed is known to be ours by this.
        self.folder.follows(&following)?;
        let Following { from, to, .. } = &following;
        let room = async {
            let changes = self.changes(checkout, from, to).await?;
            let blocked = blocks(checkout, &changes).await?;
            if !blocked.is_empty() {
                return Err(Trouble::Plain(format!("nothing was done: {}", in_words(checkout, &blocked))));
            }
            let room = self.reserve(checkout, &changes).await?;
            Ok((changes, room))
        };
        match tokio::join!(room, self.refuse_what_git_would(checkout, from, to)) {
            (Ok((changes, room)), Ok(())) => Ok(Ready { checkout: checkout.clone(), changes, following, room }),
            (Err(why), _) | (_, Err(why)) => {
                self.folder.followed()?;
                Err(why)
            }
        }
    }

    /// What git would refuse to write over, it refuses now.
    async fn refuse_what_git_would(&self, checkout: &Checkout, from: &str, to: &str) -> Result<(), Trouble> {
        let look = || self.files(checkout, "read-tree").args(["-m", "-u", "-n"]).names([from, to]);
        match self.unlocked(self.cancel, look).await {
            Ok(()) => return Ok(()),
            Err(why) if is_locked(&why) => return Err(why.into()),
            Err(_) => {}
        }
        // A file may have been written anew as it was. For that its content has to be looked at.
        let refresh = || self.files(checkout, "update-index").arg("--refresh").fine(&[0, 1]);
        self.unlocked(self.cancel, refresh).await?;
        Ok(self.unlocked(self.cancel, look).await?)
    }

    /// Sets room aside for the files that come, of which that for the files that go is kept.
    async fn reserve(&self, checkout: &Checkout, changes: &[Change]) -> Result<Room, Trouble> {
        let oids = |pick: fn(&Change) -> Option<&Entry>| -> Vec<&str> {
            let entries = changes.iter().filter_map(pick).filter(|entry| entry.has_content());
            entries.map(|entry| entry.oid.as_str()).collect()
        };
        let (old, new) = (oids(|change| change.old.as_ref()), oids(|change| change.new.as_ref()));
        let sizes = self.sizes(checkout, &[old.as_slice(), new.as_slice()].concat()).await?;
        let (back, forth) = sizes.split_at(old.len().min(sizes.len()));
        let (back, forth) = (back.iter().sum::<u64>() + BESIDE, forth.iter().sum::<u64>() + BESIDE);
        let held = checkout.folder.clone();
        let taken = blocking(move || {
            let room = Room::take(&held, back + forth)?;
            room.keep(back);
            Ok::<_, io::Error>(room)
        });
        taken.await?.map_err(|why| {
            let (place, mib) = (checkout.folder.path().display(), (back + forth).div_ceil(1 << 20));
            Trouble::Plain(format!("nothing was done: the files of {place} cannot follow without {mib} MiB: {why}"))
        })
    }

    /// How many bytes each of these objects has.
    async fn sizes(&self, checkout: &Checkout, oids: &[&str]) -> Result<Vec<u64>, Trouble> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        let call = checkout.call("cat-file").arg("--batch-check=%(objectsize)").limit(BRING);
        let said = self.run(call.input(oids.join("\n") + "\n")).await?;
        // One that is missing has none; git will say so where it wants it.
        Ok(String::from_utf8_lossy(&said).lines().map(|line| line.parse().unwrap_or_default()).collect())
    }

    /// Has a checkout follow its branch, which has been moved; or the branch go back.
    pub(super) async fn follow(&self, ready: Ready) -> Result<(), Trouble> {
        let Ready { checkout, changes, following, room } = ready;
        if !self.is_to_follow(&checkout, &following).await? {
            return Ok(self.folder.followed()?);
        }
        let blocked = blocks(&checkout, &changes).await?;
        let (why, back) = if blocked.is_empty() {
            let Err(why) = self.write_files(&checkout, &following).await else { return Ok(self.folder.followed()?) };
            drop(room);
            (why.to_string(), self.put_back(&checkout, &following, &changes).await)
        } else {
            // It came there at this very moment. Nothing is written yet.
            (in_words(&checkout, &blocked), self.move_back(&checkout, &following).await)
        };
        let place = checkout.folder.path().display();
        Err(Trouble::Plain(match back {
            Ok(()) => {
                self.folder.followed()?;
                format!("the files in {place} could not follow, and were put back: {why}")
            }
            Err(also) => could_not(&checkout, &why, also),
        }))
    }

    /// Has a checkout follow that an earlier life of the daemon has left behind, or the branch go back. It need not be one
    /// of the target's: somebody may have named another since.
    pub(super) async fn catch_up(&self) -> Result<(), Trouble> {
        let Some(following) = self.folder.following().map_err(|why| why.to_string())? else { return Ok(()) };
        let there = following.folder.join(".git");
        if !blocking(move || there.exists()).await? {
            return Ok(self.folder.followed()?);
        }
        let folder = self.hold(&following.folder).await?;
        let (hands, place) = (Arc::clone(self.hands), folder.clone());
        let found = blocking(move || Reach::of(&hands).open_repository(&place)).await?;
        let (common, parts) = found.map_err(|why| Trouble::Plain(why.into_words()))?;
        let _turn = self.turn(&common).await?;
        let branch = common.path().join(format!("{}.lock", following.branch));
        let around = std::iter::once(common).chain(parts).collect();
        let Some(checkout) = self.checkout(folder, around).await? else { return Ok(self.folder.followed()?) };
        // Of a git that was killed with the daemon, as it was writing down there what is to be gone on with. One that is
        // younger is given the time to go by itself.
        let left = [checkout.git.join("index.lock"), checkout.git.join("HEAD.lock"), branch];
        blocking(move || left.iter().for_each(|lock| locks::clear(lock))).await?;
        if !self.is_to_follow(&checkout, &following).await? || self.has_followed(&checkout, &following).await? {
            return Ok(self.folder.followed()?);
        }
        let changes = self.changes(&checkout, &following.from, &following.to).await?;
        let blocked = blocks(&checkout, &changes).await?;
        let why = if blocked.is_empty() {
            match self.write_files(&checkout, &following).await {
                Ok(()) => return Ok(self.folder.followed()?),
                Err(why) => why.to_string(),
            }
        } else {
            in_words(&checkout, &blocked)
        };
        // From there it is as if it had never been tried.
        match self.put_back(&checkout, &following, &changes).await {
            Ok(()) => Ok(self.folder.followed()?),
            Err(also) => Err(Trouble::Plain(could_not(&checkout, &why, also))),
        }
    }

    /// Whether the branch is where it was moved to, and it is still that which is checked out.
    async fn is_to_follow(&self, checkout: &Checkout, following: &Following) -> Result<bool, Trouble> {
        let call = checkout.call("for-each-ref").arg("--format=%(HEAD)%(objectname) %(refname)");
        let said = self.hands.git.run(&Cancel::default(), call.names([&following.branch])).await?;
        Ok(said.line() == Some(format!("*{} {}", following.to, following.branch)))
    }

    /// Whether its files are what they are to be: git writes its index last.
    async fn has_followed(&self, checkout: &Checkout, following: &Following) -> Result<bool, Trouble> {
        let call =
            checkout.call("diff-index").args(["--cached", "--quiet", "--no-ext-diff", "--ignore-submodules=none"]);
        Ok(self.hands.git.run(&Cancel::default(), call.names([&following.to]).fine(&[0, 1])).await?.code == 0)
    }

    /// Nothing calls it off: half of it is worse than late.
    async fn write_files(&self, checkout: &Checkout, following: &Following) -> Result<(), GitError> {
        let write = || self.files(checkout, "read-tree").args(["-m", "-u"]).names([&following.from, &following.to]);
        self.unlocked(&Cancel::default(), write).await
    }

    /// Has git do this. Another git, which looks at the same files for a moment, is waited for: none of ours, as it is our
    /// turn.
    async fn unlocked(&self, cancel: &Cancel, call: impl Fn() -> Call) -> Result<(), GitError> {
        let began = Instant::now();
        loop {
            match self.hands.git.run(cancel, call()).await {
                Err(why) if is_locked(&why) && began.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
                done => return done.map(drop),
            }
        }
    }

    /// A call of git that writes files of the user's, as the user's own git would.
    pub(super) fn files(&self, checkout: &Checkout, verb: &str) -> Call {
        let call = checkout.call(verb).env("GIT_LFS_SKIP_SMUDGE", "0").limit(BRING);
        call.fenced(checkout.around.iter().chain([&checkout.folder]), &[self.scratch.path(), &self.target.bare])
    }
}

async fn blocks(checkout: &Checkout, changes: &Arc<[Change]>) -> Result<BTreeSet<OsString>, Trouble> {
    let (folder, changes) = (checkout.folder.clone(), Arc::clone(changes));
    Ok(blocking(move || in_the_way(&folder, &changes)).await??)
}

fn in_words(checkout: &Checkout, blocked: &BTreeSet<OsString>) -> String {
    let files: Vec<&[u8]> = blocked.iter().map(|file| file.as_bytes()).collect();
    let (files, place) = (named(&files), checkout.folder.path().display());
    format!("the work has files where {place} has some that are in no commit, which are left as they are: {files}")
}

fn could_not(checkout: &Checkout, why: &str, also: Trouble) -> String {
    let (place, also) = (checkout.folder.path().display(), also.into_words());
    format!(
        "the files in {place} could not follow: {why}; nor could all be put back, which is tried again the next time: {also}"
    )
}
