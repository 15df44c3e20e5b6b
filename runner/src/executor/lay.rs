//! Laying a task's own repository.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use makima_core::policy::BranchName;

use super::foreign::{self, SMALL};
use super::source::Tips;
use super::{proc, refs, workshop};

/// In which run of the machine it was laid. Nothing is flushed for it, which would take longer than all the rest:
/// after a loss of power any part of it may be missing.
const LAID: &str = "makima-laid";

/// Whether the worktree at `place` was laid in this run of the machine.
pub(super) fn is_of_this_boot(place: &Path) -> bool {
    foreign::text(&place.join(".git").join(LAID), SMALL).is_ok_and(|boot| !boot.is_empty() && boot == proc::boot())
}

/// Where the work starts, and what stands around it.
pub(super) struct Start {
    /// The repository that is borrowed from.
    pub(super) bare: PathBuf,
    /// Where the agent's git finds the source.
    pub(super) address: Option<String>,
    /// The commit to start from; none for an empty repository.
    pub(super) base: Option<String>,
    /// What the source has.
    pub(super) tips: Tips,
    /// The branch of the work.
    pub(super) branch: BranchName,
}

impl Start {
    /// Writes what `git clone --shared --no-checkout` and `git switch -c` would, which take ten milliseconds for it.
    pub(super) fn lay(&self, place: &Path) -> io::Result<()> {
        let git = place.join(".git");
        let branch = format!("refs/heads/{}", self.branch);
        let branch_file = git.join(&branch);
        for folder in ["objects/info", "objects/pack", "refs/tags", "info", "hooks"] {
            fs::create_dir_all(git.join(folder))?;
        }
        if let Some(folder) = branch_file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(git.join("HEAD"), format!("ref: {branch}\n"))?;
        fs::write(git.join("objects/info/alternates"), format!("{}\n", self.bare.join("objects").display()))?;
        fs::write(git.join("info/exclude"), "")?;
        fs::write(git.join("config"), self.configuration())?;
        if let Some(base) = &self.base {
            fs::write(branch_file, format!("{base}\n"))?;
        }
        let tips = self.tips.refs.iter().map(|(name, oid)| match name.strip_prefix("refs/heads/") {
            Some(branch) => (format!("refs/remotes/origin/{branch}"), oid.as_str()),
            None => (name.clone(), oid.as_str()),
        });
        let tips: Vec<(String, &str)> = tips.collect();
        fs::write(git.join("packed-refs"), refs::pack(tips.iter().map(|(name, oid)| (name.as_str(), *oid))))?;
        if let Some(default) = self.tips.default.as_ref().and_then(|name| name.strip_prefix("refs/heads/")) {
            let folder = git.join("refs/remotes/origin");
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("HEAD"), format!("ref: refs/remotes/origin/{default}\n"))?;
        }
        fs::write(git.join(LAID), proc::boot())?;
        // What the shared repository does not have of the past, this one cannot borrow.
        workshop::write_shallow(&git, refs::shallow(&self.bare))
    }

    fn configuration(&self) -> String {
        let long = self.base.as_ref().is_some_and(|base| base.len() == 64);
        let mut text = String::from("[core]\n");
        text.push_str(&format!("\trepositoryformatversion = {}\n", u8::from(long)));
        text.push_str("\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n");
        if long {
            text.push_str("[extensions]\n\tobjectformat = sha256\n");
        }
        if let Some(address) = &self.address {
            let address = address.replace('\\', "\\\\").replace('"', "\\\"");
            text.push_str(&format!("[remote \"origin\"]\n\turl = \"{address}\"\n"));
            text.push_str("\tfetch = +refs/heads/*:refs/remotes/origin/*\n");
        }
        text
    }
}
