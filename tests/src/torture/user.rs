//! The user: a repository with changes that are in no commit, a clean checkout of the branch that all work is merged
//! into, and what has to be true of both.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use makima_tests::real::{Failure, git};

use super::graph::SHARED;
use super::people::INTO;

/// The repository's own tests.
const CHECK: &str = include_str!("check.sh");

/// What the user has and git does not: a changed file, a new one, and one that git ignores.
const OWN: [(&str, &str); 3] = [("readme", "as the user left it\n"), ("notes", "the user's\n"), ("ignored", "too\n")];

/// The branches that the user is to have beside the two of before.
#[derive(Default)]
pub(crate) struct Branches {
    /// Those that have to be there, each with the work of that name.
    pub(crate) wanted: Vec<(String, String)>,
    /// Those that may be there.
    pub(crate) allowed: Vec<String>,
}

impl Branches {
    pub(crate) fn add(&mut self, more: Self) {
        self.wanted.extend(more.wanted);
        self.allowed.extend(more.allowed);
    }
}

/// What the user has there.
pub(crate) struct Desk {
    folder: PathBuf,
    /// The first commit.
    first: String,
}

impl Desk {
    /// Lays it out, in a folder that is empty.
    pub(crate) fn lay_out(folder: &Path) -> Result<Self, Failure> {
        let repository = folder.join("repository");
        fs::create_dir(&repository)?;
        let run = |words: &[&str]| git(&repository, words);
        run(&["init", "--quiet", "--initial-branch=main"])?;
        fs::create_dir(repository.join("shared"))?;
        for n in 0..SHARED {
            fs::write(repository.join(format!("shared/{n}")), "begin\n")?;
        }
        fs::write(repository.join("check.sh"), CHECK)?;
        fs::write(repository.join("readme"), "as it was committed\n")?;
        fs::write(repository.join(".gitignore"), "/ignored\n")?;
        run(&["add", "--all"])?;
        run(&["-c", "user.name=S", "-c", "user.email=s@example.com", "commit", "--quiet", "-m", "Begin"])?;
        run(&["worktree", "add", "--quiet", "-b", INTO, "../checkout"])?;
        for (name, text) in OWN {
            fs::write(repository.join(name), text)?;
        }
        let first = run(&["rev-parse", "HEAD"])?;
        Ok(Self { folder: folder.to_path_buf(), first })
    }

    fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    /// The repository's own tests, on what is committed in the user's branch.
    pub(crate) fn test(&self, scratch: &Path, expected: &str) -> Result<(), Failure> {
        let _ = fs::remove_dir_all(scratch);
        fs::create_dir_all(scratch.join("tree"))?;
        let (archive, list) = (scratch.join("archive.tar"), scratch.join("expected"));
        fs::write(&list, expected)?;
        git(&self.repository(), &["archive", "--output", &archive.display().to_string(), INTO])?;
        let tree = scratch.join("tree");
        let unpacked = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&tree).status()?;
        if !unpacked.success() {
            return Err(format!("tar: {unpacked}").into());
        }
        let output = Command::new("sh").arg("check.sh").arg(&list).current_dir(&tree).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Err(format!("the tests of the user's branch fail, in {}:\n{said}", scratch.display()).into())
    }

    /// What is wrong with it at the end.
    pub(crate) fn wrong(&self, branches: &Branches) -> Result<Vec<String>, Failure> {
        let (mut wrong, repository, checkout) = (Vec::new(), self.repository(), self.folder.join("checkout"));
        let mut is = |what: &str, found: &str, expected: &str| {
            if found != expected {
                wrong.push(format!("{what}: {found:?} instead of {expected:?}"));
            }
        };
        is("the user's branch", &git(&repository, &["symbolic-ref", "HEAD"])?, "refs/heads/main");
        is("its commit", &git(&repository, &["rev-parse", "main"])?, &self.first);
        is(
            "the user's changes",
            &git(&repository, &["status", "--porcelain", "--ignored"])?,
            " M readme\n?? notes\n!! ignored",
        );
        for (name, text) in OWN {
            is(name, &fs::read_to_string(repository.join(name))?, text);
        }
        is("the other checkout", &git(&checkout, &["symbolic-ref", "HEAD"])?, &format!("refs/heads/{INTO}"));
        is("its changes", &git(&checkout, &["status", "--porcelain", "--ignored"])?, "");
        let refs = git(&repository, &["for-each-ref", "--format=%(refname:short)"])?;
        let found: BTreeSet<&str> = refs.lines().collect();
        let strange = |name: &&&str| {
            ![INTO, "main"].contains(name)
                && !branches.wanted.iter().any(|(branch, _)| branch == *name)
                && !branches.allowed.iter().any(|branch| branch == *name)
        };
        let strange: Vec<_> = found.iter().filter(strange).collect();
        if !strange.is_empty() {
            wrong.push(format!("nobody wanted the branches {strange:?}"));
        }
        for (branch, name) in &branches.wanted {
            let work = git(&repository, &["show", &format!("{branch}:work/{name}")]);
            if !work.as_ref().is_ok_and(|work| work.starts_with(&format!("{name} "))) {
                wrong.push(format!("{branch} has no work of {name}: {work:?}"));
            }
        }
        wrong.extend(locks(&repository.join(".git"))?.into_iter().map(|lock| format!("{} is left", lock.display())));
        Ok(wrong)
    }

    /// What git finds wrong with the user's repository, and with those of the daemon's.
    pub(crate) fn fsck(&self, repositories: &Path) -> Result<Vec<String>, Failure> {
        let mut all = vec![self.repository()];
        for entry in fs::read_dir(repositories)? {
            let path = entry?.path();
            if path.join("objects").is_dir() {
                all.push(path);
            }
        }
        if all.len() < 2 {
            return Err("the daemon has no repository".into());
        }
        let checks = all.iter().map(|folder| git(folder, &["fsck", "--strict", "--no-dangling"]));
        Ok(checks.filter_map(|check| check.err().map(|why| why.to_string())).collect())
    }
}

/// Locks of gits that are gone.
fn locks(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(locks(&entry.path())?);
        } else if entry.path().extension().is_some_and(|it| it == "lock") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Branches, Desk};
    use crate::torture::people::INTO;
    use makima_tests::real::git;

    /// Protects what a night is judged by: each way in which work can be missing, doubled or mixed up is seen.
    #[test]
    fn the_repositorys_own_tests_see_what_is_missing_doubled_or_mixed_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let desk = Desk::lay_out(folder.path()).expect("git is there");
        let (scratch, checkout) = (folder.path().join("scratch"), folder.path().join("checkout"));
        let expected = "work 0-1 aa\nshared 2 aa\nwork 0-2 bb\nchoice 0-1 bb\n";
        let test = |files: &[(&str, &str)]| {
            for name in ["work", "choice"] {
                let _ = fs::remove_dir_all(checkout.join(name));
                fs::create_dir(checkout.join(name)).expect("a folder");
            }
            for (name, text) in files {
                fs::write(checkout.join(name), text).expect("a file");
            }
            git(&checkout, &["add", "--all"]).expect("git");
            git(&checkout, &["-c", "user.name=S", "-c", "user.email=s@e", "commit", "-qm", "m"]).expect("git");
            desk.test(&scratch, expected).map_err(|why| why.to_string())
        };
        let well =
            [("work/0-1", "0-1 aa\n"), ("work/0-2", "0-2 bb\n"), ("choice/0-1", "bb\n"), ("shared/2", "begin\naa\n")];
        assert_eq!(test(&well), Ok(()));
        assert_eq!(desk.wrong(&Branches::default()).expect("git"), Vec::<String>::new());
        for bad in [
            ("work/0-1", "0-1 ab\n"),
            ("work/0-3", "0-3 cc\n"),
            ("choice/0-1", "aa\n"),
            ("choice/0-2", "aa\n"),
            ("shared/2", "begin\n"),
            ("shared/2", "begin\naa\naa\n"),
            ("shared/2", "begin\naa\ncc\n"),
            ("shared/2", "begin\n<<<<<<< x\naa\n"),
        ] {
            assert!(test(&[well.as_slice(), &[bad]].concat()).is_err(), "{bad:?}");
        }
        assert!(test(&well[1..]).is_err());
        fs::write(folder.path().join("repository/readme"), "another\n").expect("a file");
        fs::write(folder.path().join("repository/.git/index.lock"), "").expect("a file");
        git(&checkout, &["branch", "another"]).expect("git");
        assert_eq!(desk.wrong(&Branches::default()).expect("git").len(), 3, "a file, a lock, a branch");
        assert_eq!(git(&checkout, &["branch", "--show-current"]).expect("git"), INTO);
    }
}
