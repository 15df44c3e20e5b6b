//! What is different between two commits.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use super::super::cancel::Cancel;
use super::super::git::BRING;
use super::super::refs;
use super::super::trouble::Trouble;
use super::Job;
use super::follow::Checkout;

/// What a commit has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
    /// A commit of another repository. What is inside is left alone.
    Module,
}

/// What a commit has at a path, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) oid: String,
}

/// A path at which they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: OsString,
    pub(super) old: Option<Entry>,
    pub(super) new: Option<Entry>,
}

impl Entry {
    fn read(mode: &str, oid: &str) -> Option<Self> {
        let kind = match mode.get(..2)? {
            "10" => Kind::File,
            "12" => Kind::Link,
            "16" => Kind::Module,
            _ => return None,
        };
        refs::is_oid(oid).then(|| Self { kind, oid: oid.to_owned() })
    }

    /// Whether it is content, of which there may be much.
    pub(super) fn has_content(&self) -> bool {
        self.kind != Kind::Module
    }
}

impl Job<'_> {
    pub(super) async fn changes(&self, checkout: &Checkout, from: &str, to: &str) -> Result<Arc<[Change]>, Trouble> {
        let call = checkout.call("diff-tree").args(["-r", "-z", "--raw", "--no-abbrev", "--no-renames"]);
        let call = call.args(["--ignore-submodules=none", "--no-ext-diff", "--no-textconv"]).limit(BRING);
        let said = self.hands.git.run(&Cancel::default(), call.names([from, to])).await?.out;
        Ok(read(&said))
    }
}

/// Reads `:<mode> <mode> <oid> <oid> <status>\0<path>\0`.
fn read(listed: &[u8]) -> Arc<[Change]> {
    let mut fields = listed.split(|byte| *byte == 0);
    let mut changes = Vec::new();
    while let (Some(words), Some(path)) = (fields.next(), fields.next()) {
        let words = String::from_utf8_lossy(words);
        let words: Vec<&str> = words.trim_start_matches(':').split(' ').collect();
        let [old_mode, new_mode, old, new, ..] = words.as_slice() else { continue };
        let (old, new) = (Entry::read(old_mode, old), Entry::read(new_mode, new));
        changes.push(Change { path: OsStr::from_bytes(path).to_owned(), old, new });
    }
    changes.into()
}

/// Reads what git says of two commits: see `crate::fuzz`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(listed: &[u8]) {
    let changes = read(listed);
    assert!(changes.iter().map(|change| change.path.len()).sum::<usize>() <= listed.len());
    let entries = changes.iter().flat_map(|change| change.old.iter().chain(&change.new));
    assert!(entries.clone().all(|entry| refs::is_oid(&entry.oid)), "{changes:?}");
}
