//! How many files the objects of a shared repository lie in. Each task brings some, every git that looks for an object looks
//! through all of them, and nobody else tidies up there: a daemon that has worked for months would become slow.

use std::path::Path;
use std::time::{Duration, SystemTime};

use fs_err as fs;

use super::bare::Bare;
use super::blocking;
use super::cancel::Cancel;
use super::git::{Call, Git};

/// With more packs than this they are put together.
const PACKS: usize = 16;

/// With more objects than this that are files of their own, of the 256th part that is looked at: git's own measure.
const LOOSE: usize = 27;

/// Others wait meanwhile for their turn in the repository.
const LIMIT: Duration = Duration::from_secs(60);

/// What a git that was killed left half-written is nobody's by then.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

impl Bare {
    /// Puts small packs together, so that each is at least twice as large as all smaller ones: what is large is hardly ever
    /// written again. No object goes, also none that nothing leads to here: tasks borrow them. Whoever calls has the turn.
    pub(super) async fn put_together(&self, git: &Git, cancel: &Cancel) {
        let objects = self.path.join("objects");
        if !blocking(move || is_scattered(&objects)).await.unwrap_or_default() {
            return;
        }
        let call = Call::on(&self.path, "repack").args(["--geometric=2", "-d", "-n", "--quiet"]).limit(LIMIT);
        if let Err(why) = git.run(cancel, call.setting("repack.writeBitmaps", "false")).await {
            // It stays as it was, and slow.
            tracing::debug!("the packs of {} are not put together: {why}", self.path.display());
        }
    }
}

/// Whether objects lie in many files. Takes away what is in none. Blocks.
fn is_scattered(objects: &Path) -> bool {
    let names = |folder: &str| fs::read_dir(objects.join(folder)).into_iter().flatten().flatten();
    let mut packs = 0;
    for entry in names("pack") {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".tmp-") || name.starts_with("tmp_") {
            let written = entry.metadata().and_then(|data| data.modified());
            if written.is_ok_and(|written| SystemTime::now().duration_since(written).unwrap_or_default() > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        packs += usize::from(name.ends_with(".pack"));
    }
    packs > PACKS || names("17").take(LOOSE + 1).count() > LOOSE
}
