//! By the kernel: Landlock.

use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, Scope,
};
use rustix::fs::{Mode, OFlags, open};

use super::places::OPEN_HEARTS;
use super::plan::{Plan, around};

/// The newest set of rules that is made use of: what a kernel does not know of it, it does not hold anybody to.
const NEWEST: ABI = ABI::V10;

/// The oldest that holds anybody off all files: before, a file could be cut that could not be written to.
const OLDEST: ABI = ABI::V3;

/// Whether this kernel has what it takes; why not.
pub(super) fn is_here() -> Result<(), String> {
    has(AccessFs::from_all(OLDEST))
        .then_some(())
        .ok_or_else(|| "this kernel does not have it (Linux 6.2 does)".to_owned())
}

/// Whether this kernel keeps signals inside, and off sockets without a file.
pub(super) fn holds_signals() -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strict.scope(Scope::from_all(NEWEST)).and_then(|rules| rules.create()).is_ok()
}

fn has(rights: BitFlags<AccessFs>) -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strict.handle_access(rights).and_then(|rules| rules.create()).is_ok()
}

/// Closes a fence around this thread and all that it starts.
pub(super) fn close(rules: RulesetCreated) -> Result<(), String> {
    let status = rules.restrict_self().map_err(|failure| failure.to_string())?;
    match status.ruleset {
        landlock::RulesetStatus::NotEnforced => Err("the kernel does not hold it".to_owned()),
        landlock::RulesetStatus::FullyEnforced | landlock::RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

/// What the kernel is to hold whoever is inside to. They may write to these devices as well.
pub(super) fn rules(plan: &Plan, devices: &[&str]) -> Result<RulesetCreated, String> {
    let all = AccessFs::from_all(NEWEST);
    let mut looks = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    if plan.sockets {
        looks |= AccessFs::ResolveUnix;
    }
    // Who is root could make a disk for itself, and read that.
    let works = all & !(AccessFs::MakeBlock | AccessFs::MakeChar);
    let failed = |failure: landlock::RulesetError| failure.to_string();
    let begun = Ruleset::default().handle_access(all).map_err(failed)?;
    let begun = begun.scope(Scope::from_all(NEWEST)).map_err(failed)?;
    let mut fence = Fence { rules: Some(begun.create().map_err(failed)?), why: None };
    // Names are seen everywhere, so that `ls ~` works; what is in files is not.
    fence.allow(Path::new("/"), AccessFs::ReadDir.into());
    let hidden: Vec<PathBuf> = plan.hidden.iter().cloned().chain([PathBuf::from("/dev")]).collect();
    around(Path::new("/"), &hidden, &mut |path| fence.allow(path, looks));
    for device in harmless_to_read() {
        around(&device, &plan.hidden, &mut |path| fence.allow(path, looks));
    }
    for path in &plan.shown {
        fence.allow(path, looks);
    }
    // This program runs what comes before an agent, from wherever it lies.
    fence.allow_open(Path::new("/proc/self/exe"), looks, OFlags::empty());
    // Shared memory in which the daemon lives is not shared.
    let is_shared = |device: &&Path| !plan.hidden.iter().any(|hidden| hidden.starts_with(device));
    for device in devices.iter().map(Path::new).filter(is_shared) {
        fence.allow(device, works);
    }
    // A folder that was named above what is hidden does not show it. What was given to the task lies in there.
    for path in &plan.write {
        match plan.hidden.iter().any(|hidden| path.starts_with(hidden)) {
            true => fence.allow(path, works),
            false => around(path, &plan.hidden, &mut |path| fence.allow(path, works)),
        }
    }
    fence.rules.ok_or_else(|| fence.why.unwrap_or_default())
}

/// What is in `/dev` but for disks and memory.
fn harmless_to_read() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let harmless = entries.filter(|entry| {
        let is_open_heart = OPEN_HEARTS.iter().any(|name| entry.file_name() == *name);
        entry.file_type().is_ok_and(|kind| !kind.is_block_device() && !kind.is_symlink()) && !is_open_heart
    });
    harmless.map(|entry| entry.path())
}

/// A fence in the making.
struct Fence {
    rules: Option<RulesetCreated>,
    why: Option<String>,
}

impl Fence {
    /// What is not there cannot be touched.
    fn allow(&mut self, path: &Path, rights: BitFlags<AccessFs>) {
        self.allow_open(path, rights, OFlags::NOFOLLOW);
    }

    fn allow_open(&mut self, path: &Path, rights: BitFlags<AccessFs>, how: OFlags) {
        let Ok(file) = open(path, OFlags::PATH | OFlags::CLOEXEC | how, Mode::empty()) else { return };
        let Ok(facts) = rustix::fs::fstat(&file) else { return };
        let is_folder = rustix::fs::FileType::from_raw_mode(facts.st_mode).is_dir();
        let rights = if is_folder { rights } else { rights & AccessFs::from_file(NEWEST) };
        let Some(rules) = self.rules.take().filter(|_| !rights.is_empty()) else { return };
        match rules.add_rule(PathBeneath::new(file.as_fd(), rights)) {
            Ok(rules) => self.rules = Some(rules),
            Err(failure) => self.why = Some(format!("{}: {failure}", path.display())),
        }
    }
}
