//! The way to a socket in a folder. Its path may have some hundred bytes, and folders may lie deep.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// What every system takes as a socket's path, in bytes.
const SHORT: usize = 100;

/// A short way to a socket, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Near {
    path: PathBuf,
    _by: By,
}

#[derive(Debug)]
enum By {
    /// The path is short enough.
    Nothing,
    /// An open folder, which `/proc` names.
    Descriptor { _open: OwnedFd },
    /// A link to the folder, in this one.
    Link { _folder: tempfile::TempDir },
}

impl Near {
    /// The way to the socket of this name.
    ///
    /// # Errors
    /// The folder is not there; or no shorter way to it can be made.
    pub(crate) fn to(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        if path.as_os_str().len() <= SHORT {
            return Ok(Self { path, _by: By::Nothing });
        }
        let open = openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let near = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        if near.exists() {
            return Ok(Self { path: near.join(name), _by: By::Descriptor { _open: open } });
        }
        let short = tempfile::Builder::new().prefix("makima-").tempdir_in("/tmp")?;
        std::os::unix::fs::symlink(folder, short.path().join("to"))?;
        Ok(Self { path: short.path().join("to").join(name), _by: By::Link { _folder: short } })
    }

    /// The path of the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
