//! A fence around a process that is started: it may write to some folders and nowhere else, whatever its paths lead to by
//! then. Git asks for its own path and uses that; a link that is put there in between would lead it out. The kernel
//! (Landlock) holds it to the folders themselves. Where that cannot, the folders are opened as everywhere, and no more.

use std::io;
use std::path::{Path, PathBuf};

use tokio::process::{Child, Command};

use super::reach::Held;
#[cfg(target_os = "linux")]
use crate::sandbox::apart;

/// Where a process may write.
#[derive(Clone, Debug)]
pub(super) struct Fence {
    folders: Vec<Held>,
    ours: Vec<PathBuf>,
}

impl Fence {
    pub(super) fn around<'a>(folders: impl IntoIterator<Item = &'a Held>, ours: &[&Path]) -> Self {
        let folders = folders.into_iter().cloned().collect();
        Self { folders, ours: ours.iter().map(|path| path.to_path_buf()).collect() }
    }

    /// Starts a process inside of it. To be used inside a tokio runtime.
    #[cfg(target_os = "linux")]
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let runtime = tokio::runtime::Handle::current();
        apart(|| {
            let _inside = runtime.enter();
            self.close().map_err(io::Error::other)?;
            command.spawn()
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        command.spawn()
    }

    /// Closes it around this thread.
    #[cfg(target_os = "linux")]
    fn close(&self) -> Result<(), landlock::RulesetError> {
        use std::os::fd::AsFd as _;

        use landlock::{
            ABI, AccessFs, PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, path_beneath_rules,
        };
        // What the kernel does not know of this, it does not hold anybody to.
        let writes = AccessFs::from_write(ABI::V3);
        let mut rules = Ruleset::default().handle_access(writes)?.create()?;
        for folder in &self.folders {
            rules = rules.add_rule(PathBeneath::new(folder.handle().as_fd(), writes))?;
        }
        // One of ours that is not there is not written to.
        rules = rules.add_rules(path_beneath_rules(&self.ours, writes))?;
        rules = rules.add_rules(path_beneath_rules(["/dev/null"], AccessFs::WriteFile | AccessFs::Truncate))?;
        rules.restrict_self().map(drop)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Protects what lies outside from a process that is inside, and this process from its fence.
    #[tokio::test]
    async fn who_is_inside_writes_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["in", "ours", "out"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let held = Held::open(root.join("in")).unwrap();
        // The path is led out behind our back; the folder stays where it is.
        std::fs::rename(root.join("in"), root.join("moved")).unwrap();
        std::os::unix::fs::symlink(root.join("out"), root.join("in")).unwrap();
        let fence = Fence::around([&held], &[&root.join("ours"), &root.join("absent")]);
        let script = "cd $0; for to in /dev/null ours/x moved/x in/x y; do true > $to; done; cat out/z; rm -f out/z; mkdir out/d";
        std::fs::write(root.join("out/z"), "readable").unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(&root)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null());
        let said = fence.spawn(&mut command).unwrap().wait_with_output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "readable");
        assert!(root.join("ours/x").exists() && root.join("moved/x").exists());
        std::fs::write(root.join("here"), "this process is free").unwrap();
        if is_held() {
            let left: Vec<_> =
                std::fs::read_dir(root.join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, ["z"]);
            assert!(!root.join("y").exists());
        }
    }

    /// Whether this kernel has what it takes.
    fn is_held() -> bool {
        std::fs::read_to_string("/sys/kernel/security/lsm").map_or(true, |all| all.contains("landlock"))
    }
}
