//! Walls around what the daemon itself does with files that an agent has in its hands. A link that is put in the place of a
//! folder at the right moment, or a list of folders to read objects from, would lead it where the agent may not go itself. Inside
//! it reaches no further than the agent does, and writes to what it is about alone. The kernel holds it to that (Landlock); where
//! that cannot, there are none.

use std::io;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::{path::PathBuf, sync::Arc};

#[cfg(target_os = "linux")]
use landlock::RulesetCreated;
use tokio::process::{Child, Command};

use super::Sandbox;
#[cfg(target_os = "linux")]
use super::{By, Network, Plan, apart, kernel};

/// The walls, if there are some.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walls(#[cfg(target_os = "linux")] Option<Arc<Result<RulesetCreated, String>>>);

impl Walls {
    /// Around work that writes to these folders of the home's. Where agents are in a sandbox, what is hidden from them is hidden
    /// here too. Blocks.
    #[cfg(target_os = "linux")]
    pub(crate) fn around(home: &Path, sandbox: Option<&Sandbox>, write: &[&Path]) -> Self {
        if By::Landlock.is_here(Network::Open).is_err() {
            return Self::default();
        }
        let real = |path: &&Path| path.canonicalize().ok();
        let hidden: Vec<PathBuf> = sandbox.map(|sandbox| sandbox.hidden(home)).unwrap_or_default();
        let write = write.iter().filter_map(real).collect();
        let (by, network) = (By::Landlock, Network::Open);
        let plan = Plan { by, apart: false, network, sockets: true, write, hidden, shown: Vec::new() };
        Self(Some(Arc::new(kernel::rules(&plan, &["/dev/null"]))))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn around(_: &Path, _: Option<&Sandbox>, _: &[&Path]) -> Self {
        Self()
    }

    /// Does something inside. Blocks.
    ///
    /// # Errors
    /// The walls cannot be closed: then nothing is done. Else as `work` says.
    #[cfg(target_os = "linux")]
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let Some(rules) = &self.0 else { return work() };
        let open = |why: String| io::Error::other(format!("it cannot be kept to what it is about: {why}"));
        let rules = rules.as_ref().as_ref().map_err(|why| open(why.clone()))?;
        let rules = rules.try_clone()?;
        apart(|| {
            kernel::close(rules).map_err(open)?;
            work()
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        work()
    }

    /// Starts a process inside. To be used inside a tokio runtime.
    ///
    /// # Errors
    /// As [`Walls::within`].
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let runtime = tokio::runtime::Handle::current();
        self.within(|| {
            let _inside = runtime.enter();
            command.spawn()
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::SandboxFile;
    use crate::sandbox::Settled;

    /// Protects what an agent may not reach from the daemon that works for it.
    #[test]
    fn who_is_inside_reaches_no_further_than_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["home/work", "home/other", "hidden", "free"] {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("f"), name).unwrap();
        }
        let file = SandboxFile { hide: vec![root.join("hidden")], ..SandboxFile::default() };
        let Ok(Settled::On(sandbox)) = Sandbox::settle(&file) else { return eprintln!("skipped: there is no sandbox") };
        let work = root.join("home/work");
        let tried = |walls: &Walls| {
            let read = |name: &str| walls.within(|| fs::read(root.join(name).join("f"))).is_ok();
            let write = |name: &str| walls.within(|| fs::write(root.join(name).join("new"), "")).is_ok();
            ["home/work", "home/other", "hidden", "free"].map(|name| (read(name), write(name)))
        };
        let free = [(true, true); 4];
        assert_eq!(tried(&Walls::default()), free);
        if By::Landlock.is_here(Network::Open).is_err() {
            return eprintln!("skipped: there is no Landlock");
        }
        let no_sandbox = Walls::around(&root.join("home"), None, &[&work]);
        assert_eq!(tried(&no_sandbox), [(true, true), (true, false), (true, false), (true, false)]);
        let walls = Walls::around(&root.join("home"), Some(&sandbox), &[&work]);
        assert_eq!(tried(&walls), [(true, true), (false, false), (false, false), (true, false)]);
        assert_eq!(tried(&Walls::default()), free, "this process is free");
    }
}
