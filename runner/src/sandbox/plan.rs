//! What one tree of processes may do.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use fs_err as fs;
use makima_core::agent::Own;

use super::places::{self, Named};
use super::{By, Network, Sandbox};

/// What one tree of processes may do. Paths are absolute and without links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) by: By,
    /// Whether it has a view of processes of its own.
    pub(crate) apart: bool,
    pub(crate) network: Network,
    pub(crate) sockets: bool,
    /// Where it may write, and read.
    pub(crate) write: Vec<PathBuf>,
    /// What it may not read.
    pub(crate) hidden: Vec<PathBuf>,
    /// What it may read of that all the same.
    pub(crate) shown: Vec<PathBuf>,
}

/// What is started in the place of something that is to run inside.
pub(crate) struct Inside {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// It inherits these: they are held until it is started.
    pub(crate) held: Vec<OwnedFd>,
}

/// What of the daemon's home is there for one task.
pub(crate) struct Room<'a> {
    /// The home.
    pub(crate) home: &'a Path,
    /// Where it works: the worktree, the temporary folder.
    pub(crate) works_in: [&'a Path; 2],
    /// What it reads: the plan, the repository that it borrows from, the daemon's program.
    pub(crate) reads: &'a [PathBuf],
    /// Where its agent keeps what is its own.
    pub(crate) own: &'a [Own],
    /// Its environment, but for what its repository says.
    pub(crate) env: &'a [(OsString, OsString)],
}

impl Sandbox {
    /// What the processes of a task may do. Folders of the agent's own that are not there yet are made. Blocks.
    pub(crate) fn plan(&self, room: &Room<'_>) -> Plan {
        let mut named: Vec<Named> = room.own.iter().filter_map(|own| named(own, room.env)).collect();
        named.extend(self.write.iter().map(|path| Named { path: path.clone(), is_made: false }));
        let cache = variable(room.env, "XDG_CACHE_HOME").map(PathBuf::from);
        named.extend(cache.map(|path| Named { path, is_made: false }));
        let real = |path: &Path| path.canonicalize().ok();
        let hidden = self.hidden(room.home);
        let works_in = room.works_in.iter().filter_map(|path| real(path));
        let write = once(works_in.chain(places::real(&named)).collect(), &hidden);
        let shown = room.reads.iter().filter_map(|path| real(path)).collect();
        let Self { by, apart, network, sockets, .. } = *self;
        Plan { by, apart, network, sockets, write, hidden, shown }
    }

    /// What is not to be read inside, but for what is named beside it; what is not there yet by its place. Blocks.
    pub(super) fn hidden(&self, home: &Path) -> Vec<PathBuf> {
        std::iter::once(home.to_path_buf()).chain(self.hide.iter().map(|path| places::to_be(path))).collect()
    }
}

/// Without those that lie in another: whoever may write there may have put something else in their place by the time they are
/// opened. What is hidden in between stands for itself.
fn once(all: Vec<PathBuf>, hidden: &[PathBuf]) -> Vec<PathBuf> {
    let is_shown_by = |path: &Path, above: &Path| {
        path != above
            && path.starts_with(above)
            && !hidden.iter().any(|hidden| path.starts_with(hidden) && hidden.starts_with(above))
    };
    let mut left: Vec<PathBuf> = Vec::new();
    for path in &all {
        if !left.contains(path) && !all.iter().any(|above| is_shown_by(path, above)) {
            left.push(path.clone());
        }
    }
    left
}

/// What is an agent's own; none where nothing names it.
fn named(own: &Own, env: &[(OsString, OsString)]) -> Option<Named> {
    let named = variable(env, own.variable).map(PathBuf::from);
    let folder = named.or_else(|| Some(Path::new(variable(env, "HOME")?).join(own.usual)))?;
    let path = if own.name.is_empty() { folder } else { folder.join(own.name) };
    Some(Named { path, is_made: !own.is_file })
}

/// The last word counts.
fn variable<'a>(env: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    let given = env.iter().rev().find(|(known, _)| !name.is_empty() && known == OsStr::new(name));
    given.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
}

impl Plan {
    /// As words, each of which says one thing.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let by = match self.by {
            By::Landlock => "by=landlock",
            By::Bubblewrap => "by=bubblewrap",
        };
        let mut words = vec![OsString::from(by)];
        if self.apart {
            words.push("processes=apart".into());
        }
        if self.network == Network::None {
            words.push("network=none".into());
        }
        if !self.sockets {
            words.push("sockets=none".into());
        }
        for (what, paths) in [("write=", &self.write), ("hide=", &self.hidden), ("show=", &self.shown)] {
            words.extend(paths.iter().map(|path| [OsStr::new(what), path.as_os_str()].into_iter().collect()));
        }
        words
    }

    /// Reads it again; none where a word is not understood or it is not said by what it is held.
    pub(crate) fn read<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Option<Self> {
        let (mut by, mut apart, mut network, mut sockets) = (None, false, Network::Open, true);
        let (mut write, mut hidden, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for word in words {
            let path = |what: &str| {
                let path = word.as_bytes().strip_prefix(what.as_bytes())?;
                Some(PathBuf::from(OsStr::from_bytes(path)))
            };
            match word.to_str() {
                Some("by=landlock") => by = Some(By::Landlock),
                Some("by=bubblewrap") => by = Some(By::Bubblewrap),
                Some("processes=apart") => apart = true,
                Some("network=none") => network = Network::None,
                Some("sockets=none") => sockets = false,
                Some(_) | None => match (path("write="), path("hide="), path("show=")) {
                    (Some(path), ..) => write.push(path),
                    (_, Some(path), _) => hidden.push(path),
                    (.., Some(path)) => shown.push(path),
                    (None, None, None) => return None,
                },
            }
        }
        Some(Self { by: by?, apart, network, sockets, write, hidden, shown })
    }

    /// Whether other programs stand between who starts something inside and what is started.
    pub(crate) fn is_by_others(&self) -> bool {
        self.by == By::Bubblewrap
    }

    /// How `argv` is started inside, with these variables.
    ///
    /// # Errors
    /// What it takes is not there, or cannot be written down: then nothing is to be started.
    pub(crate) fn inside(&self, argv: Vec<OsString>, env: Vec<(OsString, OsString)>) -> Result<Inside, String> {
        #[cfg(target_os = "linux")]
        if self.by == By::Bubblewrap {
            return super::bubblewrap::inside(self, argv, &env);
        }
        Ok(Inside { argv, env, held: Vec::new() })
    }

    /// Starts a process inside: what [`Plan::inside`] says.
    ///
    /// # Errors
    /// The fence cannot be closed: then nothing is started. Else as starting a process does.
    #[cfg(target_os = "linux")]
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        match self.by {
            By::Landlock => apart(|| {
                self.close().map_err(|why| io::Error::other(format!("the fence around it cannot be closed: {why}")))?;
                command.spawn()
            }),
            By::Bubblewrap => command.spawn(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        command.spawn()
    }

    /// Closes it around this thread.
    #[cfg(target_os = "linux")]
    fn close(&self) -> Result<(), String> {
        super::kernel::close(super::kernel::rules(self, super::places::DEVICES)?)?;
        super::calls::give_up()?;
        super::calls::close(self)
    }
}

/// Starts something from a thread that ends with that: what the thread is denied, those that it starts are denied, and no other.
///
/// # Errors
/// As `start` says, or it broke off.
#[cfg(target_os = "linux")]
pub(crate) fn apart<T: Send>(start: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let started = std::thread::scope(|scope| scope.spawn(start).join());
    started.unwrap_or_else(|_| Err(io::Error::other("the thread that was to start it broke off")))
}

/// What stands in place of a folder in which something is hidden: what is in it, but for what is hidden and what leads
/// there. `each` is called with every file and folder that may be seen whole.
pub(super) fn around(path: &Path, hidden: &[PathBuf], each: &mut impl FnMut(&Path)) {
    if hidden.iter().any(|hidden| path.starts_with(hidden)) {
        return;
    }
    if !hidden.iter().any(|hidden| hidden.starts_with(path)) {
        return each(path);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        // What a link leads to is seen where it lies.
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            around(&entry.path(), hidden, each);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects what is hidden from being reached by a link or by a folder above it.
    #[test]
    fn around_what_is_hidden_everything_else_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        for name in ["a/secret/key", "a/b/c", "d/e"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("a/secret"), root.join("d/link")).unwrap();
        std::os::unix::fs::symlink(root.join("a/secret"), root.join("a/link")).unwrap();
        let seen = |path: &Path, hidden: &[&str]| {
            let hidden: Vec<PathBuf> = hidden.iter().map(|name| root.join(name)).collect();
            let mut seen = Vec::new();
            around(path, &hidden, &mut |path| seen.push(path.strip_prefix(&root).unwrap().to_path_buf()));
            seen.sort();
            seen
        };
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(seen(&root, &["a/secret"]), paths(&["a/b", "d"]));
        assert_eq!(seen(&root, &["a/secret", "d"]), paths(&["a/b"]));
        assert_eq!(seen(&root.join("d"), &["a/secret"]), paths(&["d"]), "nothing is hidden there");
        assert_eq!(seen(&root.join("a/secret/key"), &["a/secret"]), paths(&[]));
    }

    /// Protects an agent's login: where it keeps that follows from its environment.
    #[test]
    fn folders_of_an_agents_own_are_found() {
        let env = |all: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let at = |path: &str, is_made| Some(Named { path: path.into(), is_made });
        let own = Own { variable: "AGENT_HOME", usual: ".agent", name: "", is_file: false };
        assert_eq!(named(&own, &[]), None);
        assert_eq!(named(&own, &env(&[("HOME", "/h")])), at("/h/.agent", true));
        let said = env(&[("HOME", "/h"), ("AGENT_HOME", "/h/x")]);
        assert_eq!(named(&own, &said), at("/h/x", true));
        assert_eq!(named(&Own { name: "f.json", is_file: true, ..own }, &said), at("/h/x/f.json", false));
    }

    #[test]
    fn what_lies_in_another_place_is_named_once() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let all = paths(&["/h/.makima/work", "/h", "/h/x", "/h", "/y", "/y/z"]);
        assert_eq!(once(all, &paths(&["/h/.makima"])), paths(&["/h/.makima/work", "/h", "/y"]));
    }
}
