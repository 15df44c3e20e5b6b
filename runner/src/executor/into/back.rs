//! Putting a checkout back that could not follow its branch: git was stopped in the middle of its files.
//!
//! Nothing is written down of how far it had come. What is there is compared with what git makes of the work's files: most
//! by one process, which hashes them; those that are neither the old nor the new, as what is half written, one by one.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, unlinkat};
use tokio::sync::mpsc;

use super::super::cancel::Cancel;
use super::super::git::{Call, GitError};
use super::super::reach::Held;
use super::super::record::Following;
use super::super::trouble::Trouble;
use super::super::{blocking, refs};
use super::Job;
use super::change::{Change, Entry, Kind};
use super::follow::Checkout;
use super::way::{There, look};

/// How many pieces of a file may wait to be compared.
const PIECES: usize = 8;

/// What is at the path of a file that comes.
struct Candidate {
    path: OsString,
    kind: FileType,
    old: Option<Entry>,
    new: Entry,
}

impl Job<'_> {
    /// Takes away what git has written, writes what it has taken away, and puts the branch where it was. Anything else
    /// in the folder is the user's.
    pub(super) async fn put_back(
        &self,
        checkout: &Checkout,
        following: &Following,
        changes: &Arc<[Change]>,
    ) -> Result<(), Trouble> {
        for path in self.written(checkout, following, changes).await? {
            let folder = checkout.folder.clone();
            blocking(move || take_away(&folder, &path)).await??;
        }
        let gone = self.gone(checkout, changes).await?;
        if !gone.is_empty() {
            let call = self.files(checkout, "checkout-index").args(["-z", "--stdin"]);
            self.hands.git.run(&Cancel::default(), call.input(gone)).await?;
        }
        self.move_back(checkout, following).await
    }

    /// Puts the branch where it was.
    pub(super) async fn move_back(&self, checkout: &Checkout, following: &Following) -> Result<(), Trouble> {
        let Following { branch, from, to, .. } = following;
        let call = self.files(checkout, "update-ref").args(["-m", "makima: merge taken back"]);
        Ok(self.hands.git.run(&Cancel::default(), call.names([branch, from, to])).await.map(drop)?)
    }

    /// Where git has written a file of the work's, or a part of one.
    async fn written(
        &self,
        checkout: &Checkout,
        following: &Following,
        changes: &Arc<[Change]>,
    ) -> Result<Vec<OsString>, Trouble> {
        let (folder, changes) = (checkout.folder.clone(), Arc::clone(changes));
        let found = blocking(move || candidates(&folder, &changes)).await??;
        let is_plain =
            |candidate: &&Candidate| (candidate.kind, candidate.new.kind) == (FileType::RegularFile, Kind::File);
        let plain: Vec<&OsStr> = found.iter().filter(is_plain).map(|candidate| candidate.path.as_os_str()).collect();
        let mut hashes = self.hashes(checkout, following, &plain).await.into_iter();
        let mut written = Vec::new();
        for candidate in &found {
            let hash = if is_plain(&candidate) { hashes.next() } else { None };
            let is = |entry: &Entry| hash.as_ref() == Some(&entry.oid);
            let takes = if is(&candidate.new) {
                true
            } else if candidate.old.as_ref().is_some_and(is) {
                false
            } else {
                self.is_part(checkout, following, candidate).await?
            };
            if takes {
                written.push(candidate.path.clone());
            }
        }
        Ok(written)
    }

    /// Which objects git would make of these files. None of any where it cannot say.
    async fn hashes(&self, checkout: &Checkout, following: &Following, paths: &[&OsStr]) -> Vec<String> {
        if paths.is_empty() {
            return Vec::new();
        }
        let list: Vec<u8> = paths.iter().flat_map(|path| quoted(path)).collect();
        let call = self.as_written(checkout, following, "hash-object").arg("--stdin-paths").input(list);
        let said = self.hands.git.run(&Cancel::default(), call).await.map(|answer| answer.out).unwrap_or_default();
        let hashes: Vec<String> = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect();
        if hashes.len() == paths.len() && hashes.iter().all(|hash| refs::is_oid(hash)) { hashes } else { Vec::new() }
    }

    /// Whether what is there is what git makes of it, or the beginning of that.
    async fn is_part(
        &self,
        checkout: &Checkout,
        following: &Following,
        candidate: &Candidate,
    ) -> Result<bool, Trouble> {
        let call = self.as_written(checkout, following, "cat-file");
        let call = match candidate.new.kind {
            // By its path it is known what is to be done with it.
            Kind::File => call.arg("--filters").arg(named("--path=", &candidate.path)),
            Kind::Link | Kind::Module => call.arg("blob"),
        };
        let (to, becomes) = mpsc::channel(PIECES);
        let call = call.names([&candidate.new.oid]).to(to);
        let (folder, path, kind) = (checkout.folder.clone(), candidate.path.clone(), candidate.kind);
        let compared = blocking(move || {
            if kind == FileType::Symlink {
                begins(link_at(&folder, &path)?.as_slice(), true, becomes)
            } else {
                begins(BufReader::new(open_at(&folder, &path)?), false, becomes)
            }
        });
        let never = Cancel::default();
        let (said, compared) = tokio::join!(self.hands.git.run(&never, call), compared);
        said.map_err(|why: GitError| Trouble::from(why))?;
        Ok(compared??)
    }

    /// What was taken away, and was there before: not what the user does not want there. For `checkout-index`.
    async fn gone(&self, checkout: &Checkout, changes: &Arc<[Change]>) -> Result<Vec<u8>, Trouble> {
        let call = self.files(checkout, "diff-files").args(["--name-only", "-z", "--diff-filter=D", "--no-ext-diff"]);
        let call = call.arg("--ignore-submodules=all");
        let said = self.hands.git.run(&Cancel::default(), call).await?.out;
        let (folder, changes) = (checkout.folder.clone(), Arc::clone(changes));
        let list = move || {
            let gone: BTreeSet<&OsStr> = said.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
            let ours = changes.iter().filter(|change| change.old.as_ref().is_some_and(Entry::has_content));
            let mut list = Vec::new();
            for change in ours.filter(|change| gone.contains(change.path.as_os_str())) {
                if look(&folder, &change.path)?.kind().is_none() {
                    list.extend([change.path.as_bytes(), b"\0"].concat());
                }
            }
            Ok::<_, io::Error>(list)
        };
        Ok(blocking(list).await??)
    }

    /// A call that takes files as git has written them: by the attributes of the work.
    fn as_written(&self, checkout: &Checkout, following: &Following, verb: &str) -> Call {
        self.files(checkout, verb).env("GIT_ATTR_SOURCE", &following.to)
    }
}

/// What is there where files and links come. Blocks.
fn candidates(folder: &Held, changes: &[Change]) -> io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for Change { path, old, new } in changes {
        let Some(new) = new.as_ref().filter(|new| new.has_content()) else { continue };
        if let Some(kind @ (FileType::RegularFile | FileType::Symlink)) = look(folder, path)?.kind() {
            found.push(Candidate { path: path.clone(), kind, old: old.clone(), new: new.clone() });
        }
    }
    Ok(found)
}

/// A path as git takes it in a list of lines.
fn quoted(path: &OsStr) -> Vec<u8> {
    let escaped = path.as_bytes().iter().flat_map(|byte| match byte {
        b'\n' => b"\\n".to_vec(),
        b'"' | b'\\' => vec![b'\\', *byte],
        other => vec![*other],
    });
    std::iter::once(b'"').chain(escaped).chain(*b"\"\n").collect()
}

fn named(before: &str, path: &OsStr) -> OsString {
    let mut name = OsString::from(before);
    name.push(path);
    name
}

fn vanished() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "a file is another than it was a moment ago")
}

/// Opens a file, through no link. Blocks.
fn open_at(folder: &Held, path: &OsStr) -> io::Result<File> {
    let There::Something(above, name, _) = look(folder, path)? else { return Err(vanished()) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(above.handle(), &name, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(vanished()) }
}

fn link_at(folder: &Held, path: &OsStr) -> io::Result<Vec<u8>> {
    let There::Something(above, name, _) = look(folder, path)? else { return Err(vanished()) };
    Ok(readlinkat(above.handle(), &name, Vec::new())?.into_bytes())
}

/// Whether this is how the pieces begin, or, if it has to be `whole`, all of them. Blocks.
fn begins(mut there: impl Read, whole: bool, mut becomes: mpsc::Receiver<Vec<u8>>) -> io::Result<bool> {
    while let Some(piece) = becomes.blocking_recv() {
        let mut same = Vec::with_capacity(piece.len());
        there.by_ref().take(piece.len() as u64).read_to_end(&mut same)?;
        if !piece.starts_with(&same) {
            return Ok(false);
        }
        if same.len() < piece.len() {
            return Ok(!whole);
        }
    }
    Ok(there.read(&mut [0])? == 0)
}

/// Takes a file away, and the folders that are empty then. Blocks.
fn take_away(folder: &Held, path: &OsStr) -> io::Result<()> {
    let There::Something(above, name, _) = look(folder, path)? else { return Ok(()) };
    unlinkat(above.handle(), &name, AtFlags::empty())?;
    for path in Path::new(path).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
        let There::Something(above, name, _) = look(folder, path.as_os_str())? else { break };
        if unlinkat(above.handle(), &name, AtFlags::REMOVEDIR).is_err() {
            break;
        }
    }
    Ok(())
}
