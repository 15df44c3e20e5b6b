//! A repository of the user's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A repository, by its path.
#[derive(Clone, Debug)]
pub(crate) struct Repo(PathBuf);

impl Repo {
    /// What is there already.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A new one without a commit.
    pub(crate) fn empty(path: &Path) -> Self {
        fs::create_dir_all(path).expect("a folder");
        let repo = Self(path.to_owned());
        repo.git(["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// A new one with one commit, in which there are two files.
    pub(crate) fn with_a_commit(path: &Path) -> Self {
        let repo = Self::empty(path);
        repo.write("readme", "first\n");
        repo.write("src/code", "one\n");
        repo.commit("Begin");
        repo
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Commits everything and returns the commit's id.
    pub(crate) fn commit(&self, subject: &str) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--allow-empty", "-m", subject]);
        self.git(["rev-parse", "HEAD"])
    }

    /// What git says, without the last newline.
    #[track_caller]
    pub(crate) fn git<const N: usize>(&self, words: [&str; N]) -> String {
        self.try_git(words).unwrap_or_else(|why| panic!("git {words:?}: {why}"))
    }

    pub(crate) fn try_git<const N: usize>(&self, words: [&str; N]) -> Result<String, String> {
        let mut command = Command::new("git");
        command.args(words).current_dir(&self.0).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Somebody").env(format!("GIT_{role}_EMAIL"), "some@example.com");
        }
        let output = command.output().expect("git can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The branches that makima has put here.
    pub(crate) fn branches(&self) -> Vec<String> {
        let list = self.git(["for-each-ref", "--format=%(refname:short)", "refs/heads/makima/"]);
        list.lines().map(str::to_owned).collect()
    }

    /// The one branch that makima has put here.
    #[track_caller]
    pub(crate) fn branch(&self) -> String {
        let branches = self.branches();
        assert_eq!(branches.len(), 1, "{branches:?}");
        branches[0].clone()
    }

    /// What a file holds at a commit, byte for byte but for the last newline.
    #[track_caller]
    pub(crate) fn show(&self, commit: &str, file: &str) -> String {
        self.git(["show", &format!("{commit}:{file}")])
    }

    /// Everything about the user's own files: what a run must leave as it is.
    pub(crate) fn state(&self) -> String {
        let index = fs::read(self.0.join(".git/index")).unwrap_or_default();
        let mut state = vec![format!("{index:?}")];
        for words in [["rev-parse", "HEAD"], ["symbolic-ref", "HEAD"], ["stash", "list"]] {
            state.push(self.try_git(words).unwrap_or_else(|why| why));
        }
        let status = self.git(["--no-optional-locks", "status", "--porcelain=v2", "--ignored"]);
        for name in self.git(["ls-files", "--cached", "--others"]).lines() {
            state.push(format!("{name} {:?}", fs::read(self.0.join(name)).ok()));
        }
        state.push(status);
        state.join("\n")
    }
}
