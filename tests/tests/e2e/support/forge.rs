//! A forge of its own for a test: reached as ssh reaches one, spoken to by its own program.

use std::fs;
use std::path::PathBuf;

use super::place::Place;
use super::repo::Repo;

/// A forge that the origin of a repository is on.
pub(crate) struct Forge {
    /// The repository there.
    pub(crate) repo: Repo,
    notes: PathBuf,
}

impl Forge {
    /// Where each pull request of its is.
    pub(crate) const PR: &str = "https://github.com/o/r/pull/1";

    /// What the user's program has for a password there.
    pub(crate) const TOKEN: &str = "ghp_nobodysBusiness0123456789";

    /// What a daemon needs in its environment to come there.
    pub(crate) fn env(place: &Place) -> [(&'static str, String); 3] {
        let ssh = place.path("bin/ssh-to-here").display().to_string();
        [("PATH", place.programs()), ("GIT_SSH_COMMAND", ssh), ("GH_TOKEN", Self::TOKEN.to_owned())]
    }

    pub(crate) fn of(place: &Place, repo: &Repo) -> Self {
        let (forge, notes, pr) = (place.path("forge"), place.path("notes"), Self::PR);
        fs::create_dir_all(forge.join("o")).expect("a folder");
        let there = forge.join("o/r.git");
        repo.git(["clone", "-q", "--bare", ".", there.to_str().expect("text")]);
        repo.git(["remote", "add", "origin", "git@github.com:o/r.git"]);
        // As ssh does: the last word is the command that is run there.
        let ssh = format!("for last; do :; done; cd '{}' && eval \"$last\"", forge.display());
        place.program("ssh-to-here", &ssh);
        let gh = format!(
            "echo \"$*\" >> {0}; case \"$1 $2\" in 'pr list') cat {0}.list 2>/dev/null || echo '[]';; \
             'pr create') echo '[{{\"url\":\"{pr}\"}}]' > {0}.list; echo {pr};; esac",
            notes.display()
        );
        place.program("gh", &gh);
        Self { repo: Repo::at(there), notes }
    }

    /// How its program was called, each time.
    pub(crate) fn told(&self) -> String {
        fs::read_to_string(&self.notes).unwrap_or_default()
    }

    /// How many pull requests were opened.
    pub(crate) fn opened(&self) -> usize {
        self.told().lines().filter(|line| line.starts_with("pr create")).count()
    }
}
