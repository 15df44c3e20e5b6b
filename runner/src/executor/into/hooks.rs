//! What the target's configuration says about a merge: its hooks, and who else may write to it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::super::git::Call;
use super::super::reach::Held;
use super::super::trouble::Trouble;
use super::super::user::{self, User};
use super::super::workshop::Workshop;
use super::Job;

/// What of the target's a merge asks.
const HOOKS: &[&str] = &["pre-merge-commit", "commit-msg", "reference-transaction"];

/// What the target's configuration says about it.
pub(super) struct Wishes {
    /// Where the hooks are. None where there are none that a merge asks.
    pub(super) hooks: Option<PathBuf>,
    /// Who commits there, and how.
    pub(super) user: User,
    /// Who else may write to it.
    pub(super) shared: Option<String>,
}

impl Job<'_> {
    /// Asks one of the target's hooks, on the index that would be committed.
    pub(super) async fn hook(
        &self,
        shop: &Workshop,
        hooks: &Path,
        cwd: &Held,
        name: &str,
        file: Option<&Path>,
    ) -> Result<(), Trouble> {
        let call = Call::held(cwd, "hook").theirs().args(["run", "--ignore-missing", name, "--"]).args(file);
        let call = call.env("GIT_INDEX_FILE", shop.index()).env("GIT_EDITOR", ":");
        self.run(call.setting("core.hooksPath", hooks.display().to_string())).await.map(drop).map_err(|why| {
            Trouble::Plain(format!("the hook `{name}` of {} refused it: {}", self.shown(), why.into_words()))
        })
    }

    /// What the target's configuration says.
    pub(super) async fn wishes(&self) -> Result<Wishes, Trouble> {
        let said = self.run(self.here("config").args(user::LIST)).await?;
        let told = Told::read(&said);
        let hooks = match told.elsewhere {
            true => self.hooks_path().await?,
            false => self.target.common.path().join("hooks"),
        };
        let asked = told.configured || HOOKS.iter().any(|name| hooks.join(name).exists());
        Ok(Wishes { hooks: asked.then_some(hooks), user: self.hands.user.as_said_by(&said), shared: told.shared })
    }

    /// Where the configuration says that hooks are.
    async fn hooks_path(&self) -> Result<PathBuf, Trouble> {
        let call = self.here("config").args(["--show-scope", "-z", "--type=path", "--get-all", "core.hooksPath"]);
        let said = self.run(call.fine(&[0, 1])).await?;
        Ok(last_path(&said).map_or_else(PathBuf::new, |path| self.target.place.path().join(path)))
    }
}

/// What `git config` lists of hooks and of who else writes: a scope, a name and mostly a value, again and again.
#[derive(Default)]
struct Told {
    /// Who else may write to it.
    shared: Option<String>,
    /// Newer versions of git take hooks from the configuration, too: it names some.
    configured: bool,
    /// Hooks lie in a folder that it names.
    elsewhere: bool,
}

impl Told {
    fn read(said: &[u8]) -> Self {
        let mut told = Self::default();
        let mut fields = said.split(|byte| *byte == 0);
        while let (Some(scope), Some(entry)) = (fields.next(), fields.next()) {
            let (name, value) = entry.split_at(entry.iter().position(|byte| *byte == b'\n').unwrap_or(entry.len()));
            match name {
                // What we say ourselves.
                b"core.hookspath" if scope == b"command" => {}
                b"core.hookspath" => told.elsewhere = true,
                // By its name alone it is on.
                b"core.sharedrepository" => {
                    let value = String::from_utf8_lossy(value.get(1..).unwrap_or(b"true"));
                    told.shared = Some(value.into_owned());
                }
                _ => told.configured |= name.starts_with(b"hook."),
            }
        }
        told
    }
}

/// The last of the paths that `git config` lists with their scopes, but for those that we say ourselves.
fn last_path(said: &[u8]) -> Option<&Path> {
    let mut fields = said.split(|byte| *byte == 0);
    let mut last = None;
    while let (Some(scope), Some(path)) = (fields.next(), fields.next()) {
        if scope != b"command" {
            last = Some(Path::new(OsStr::from_bytes(path)));
        }
    }
    last
}

/// Reads what git says of a configuration: see `crate::fuzz`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(said: &[u8]) {
    let told = Told::read(said);
    assert!(told.shared.is_none_or(|shared| shared.len() <= said.len().saturating_mul(3).saturating_add(4)));
    assert!(last_path(said).is_none_or(|path| path.as_os_str().len() <= said.len()));
    let ours: Vec<u8> = said.split(|byte| *byte == 0).flat_map(|entry| [b"command\0", entry, b"\0"].concat()).collect();
    assert!(!Told::read(&ours).elsewhere && last_path(&ours).is_none(), "what we say ourselves counts");
}
