//! A checkout of the user's that follows its branch: what it must not cost the user, and what becomes of it where
//! something comes in between.

use std::time::Duration;

use makima_core::input::Outcome;

use crate::intos::{GONE_ON, Into};
use crate::merges::sh;
use crate::support::{Options, World, folder};

/// Protects what git ignores in the user's checkout: to git it is expendable, and it is in no commit.
#[tokio::test]
async fn what_git_ignores_there_is_not_written_over() {
    let ignored = |what: &str, made: &str| format!("{GONE_ON}; echo '{what}' >> .git/info/exclude; {made}");
    for (work, then, named) in [
        ("echo theirs > .env", ignored(".env", "echo mine > .env"), "`.env`"),
        ("echo theirs > x.o; git add -f x.o; git commit -qm forced", ignored("", "echo mine > x.o"), "`x.o`"),
        ("> .gitignore; mkdir d; echo theirs > d/x.o", ignored("", "mkdir d; echo mine > d/x.o"), "`d/x.o`"),
        ("echo theirs > build", ignored("build/", "mkdir -p build/deep; echo mine > build/deep/1"), "`build/deep/1`"),
        ("echo theirs > build", ignored("build/", "mkdir -p build/deep; mkfifo build/deep/1"), "`build/deep/1`"),
        ("echo theirs > build", ignored("build/", "git init -q build"), "`build/.git/HEAD`"),
        ("echo theirs > build", ignored("build", "ln -s ../elsewhere build"), "`build`"),
        ("mkdir cache; echo theirs > cache/x", ignored("cache", "echo mine > cache"), "`cache`"),
        ("mkdir -p a/b/c; echo theirs > a/b/c/x", ignored("b", "mkdir a; ln -s ../.. a/b"), "`a/b`"),
        ("rm README; mkdir README; echo theirs > README/x.o; git add -f .", ignored("", "true"), ""),
    ] {
        let mut into = Into::of(work, &then).await;
        let before = into.state();
        if named.is_empty() {
            into.merge(None).await;
            continue;
        }
        let why = into.refused(None).await;
        assert!(why.contains(named) && why.contains("in no commit") && why.contains("is kept in"), "{then}: {why}");
        assert_eq!(into.state(), before, "{then}");
        assert_eq!(into.git(&["reflog", "main"]).lines().count(), 2, "{then}: it was not even tried");
    }
}

/// What git knows gives way, and what does not stand in the way stays.
#[tokio::test]
async fn what_is_in_commits_gives_way() {
    let first = "mkdir -p a/b; echo 1 > a/b/c; echo 2 > a/x; ln -s a l; git add -A; git commit -qm first";
    let work =
        "rm -r a l README; echo file > a; mkdir -p l README; echo 3 > l/3; echo 4 > README/4; mkdir d; echo 5 > d/5";
    let then = format!("{GONE_ON}; mkdir d a/e; echo mine > d/x.o");
    let mut into = Into::on(World::new(), first, work, &then).await;
    into.merge(None).await;
    assert_eq!(into.git(&["status", "--porcelain"]), "");
    assert_eq!(sh(&into.repository, "cat a l/3 README/4 d/5 d/x.o"), "file\n3\n4\n5\nmine\n");
}

/// Protects a checkout that the user's own git calls clean: what its file system cannot do, it says in its configuration.
#[tokio::test]
async fn clean_is_what_the_users_git_calls_clean() {
    for then in [
        "git config core.fileMode false; chmod +x README",
        "ln -s README l; git add l; git commit -qm l; git config core.symlinks false; rm l; printf README > l",
        "sleep 1.1; touch README; git config core.checkStat minimal",
    ] {
        let mut into = Into::of("echo a > a; echo more >> README; ln -s a k", &format!("{GONE_ON}; {then}")).await;
        into.merge(None).await;
        assert_eq!(into.git(&["status", "--porcelain"]), "", "{then}");
    }
}

/// Protects the user's files from a wish to stop that comes in the middle: a branch that is moved is followed.
#[tokio::test]
async fn a_cancel_in_the_middle_leaves_no_half() {
    let mut into = Into::of("echo a > a", GONE_ON).await;
    let before = into.git(&["rev-parse", "main"]);
    into.hook("reference-transaction", "test \"$1\" != committed || sleep 1");
    let work = into.work(&into.repository, None);
    let asked = into.world.ask(into.id, work);
    while into.git(&["rev-parse", "main"]) == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    into.world.executor.cancel(asked);
    let outcome = into.world.answer(asked).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(into.git(&["status", "--porcelain"]), "");
}

/// The branch was moved and a life of the daemon ended before its checkout had followed; then this happened.
async fn cut_short(then: &str) -> Into {
    let into = Into::of("echo a > a; echo more >> README", "true").await;
    let from = into.git(&["rev-parse", "main"]);
    let bare = into.world.bare();
    into.git(&["fetch", "-q", bare.to_str().unwrap(), &into.commit]);
    into.git(&["update-ref", "refs/heads/main", &into.commit]);
    let folder = into.repository.canonicalize().unwrap();
    let record = format!(
        r#"{{"version":1,"folder":"{}","branch":"refs/heads/main","from":"{from}","to":"{}"}}"#,
        folder.display(),
        into.commit
    );
    let tasks = into.world.home.root().join("tasks").join(into.id.to_string());
    std::fs::write(tasks.join("into.json"), record).unwrap();
    sh(&into.repository, then);
    into
}

/// Protects what the user has done since: only a folder that has the branch checked out follows it.
#[tokio::test]
async fn who_comes_after_follows_where_the_branch_still_is() {
    let mut into = cut_short("true").await;
    assert!(into.merge(None).await.contains("has all of it already"));
    assert_eq!(into.git(&["status", "--porcelain"]), "");
    assert!(into.repository.join("a").exists());
    for then in [
        // It is on another branch by now, or on none.
        "git branch other main^; git symbolic-ref HEAD refs/heads/other",
        "git checkout -qf --detach main^",
        // The user has put it right.
        "git reset -q --hard; echo mine > x.o; echo mine > README",
    ] {
        let mut into = cut_short(then).await;
        let before = into.state();
        assert!(into.merge(Some("main")).await.contains("has all of it already"), "{then}");
        assert_eq!(into.state(), before, "{then}");
    }
}

/// Protects what the user has put there since where git ignores it: it goes back, and is refused then.
#[tokio::test]
async fn who_comes_after_writes_over_nothing_either() {
    let mut into = cut_short("echo a >> .git/info/exclude; echo mine > a").await;
    let why = into.refused(None).await;
    assert!(why.contains("`a`"), "{why}");
    assert_eq!(sh(&into.repository, "cat a README; git status --porcelain"), "mine\nhello\n");
    assert!(into.git(&["rev-parse", "main"]) != into.commit);
}

/// A user whose git writes the files of a checkout, does `then` with them, and fails.
fn breaking(then: &str) -> World {
    let folder = folder();
    let wrapper = folder.path().join("git");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in 'read-tree -m -u --end'*)\n cp .git/index .git/half; GIT_INDEX_FILE=.git/half git \"$@\"; \
         {then}; rm -f .git/half*; echo 'fatal: it broke' >&2; exit 128;;\nesac\nexec git \"$@\"\n"
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    World::with_user(folder, Options { git: wrapper, ..Options::default() })
}

/// Whatever was written of the work goes again, and what it took away comes back.
async fn is_put_back(first: &str, work: &str, then: &str, half: &str) {
    let mut into = Into::on(breaking(half), first, work, then).await;
    let before = into.state();
    let why = into.refused(None).await;
    assert!(why.contains("were put back") && why.contains("it broke"), "{why}");
    assert_eq!(into.state(), before, "{half}");
}

const FIRST: &str = "mkdir -p away near; for n in $(seq 30); do echo $n > near/$n; done; echo 1 > away/1; echo 2 > away/2; \
    ln -s near l; git add -A; git commit -qm first";
const WORK: &str =
    "for n in $(seq 30); do echo new >> near/$n; done; rm near/3 away/1; echo new > away/2; rm l; ln -s away l; \
    echo x > 'near/a
\"b\\'; ln -s l k; chmod +x near/4; rm -r near/5; mkdir near/5; echo x > near/5/x";

#[tokio::test]
async fn what_broke_in_the_middle_is_put_back() {
    for half in ["true", "truncate -s 1 near/7; rm near/8 l", "git checkout-index -f near/9; > 'near/a\n\"b\\'"] {
        is_put_back(FIRST, WORK, GONE_ON, half).await;
    }
}

/// Files that were not written because the user does not want them there are not written to put them back.
#[tokio::test]
async fn a_sparse_checkout_is_put_back() {
    let sparse = format!("{GONE_ON}; git sparse-checkout set --no-cone '/*' '!/away/'");
    is_put_back(FIRST, WORK, &sparse, "true").await;
    let cone = format!("{GONE_ON}; git sparse-checkout set --cone --sparse-index near");
    is_put_back(FIRST, WORK, &cone, "truncate -s 1 near/7").await;
}

/// A file of any size is put back, whole or half.
#[tokio::test]
async fn large_files_are_put_back() {
    let work = "head -c 70M /dev/zero > big; head -c 70M /dev/zero > half; head -c 66M /dev/zero > filtered.up";
    let first = "echo '*.up filter=up' > .gitattributes; git add -A; git commit -qm first; \
        git config filter.up.smudge cat; git config filter.up.clean cat";
    is_put_back(first, work, GONE_ON, "truncate -s 65M half filtered.up").await;
}

/// What a filter of the user's has made of a file is known to be git's, and one that cannot be turned round as well.
#[tokio::test]
async fn filtered_files_are_put_back() {
    let first = "git config filter.up.smudge 'tr a-z A-Z'; git config filter.up.clean 'tr A-Z a-z'; \
        git config filter.in.smudge 'sed s/^/in/'; git config filter.in.clean cat";
    let work = "printf '*.up filter=up\\n*.in filter=in\\n*.crlf eol=crlf\\n' > .gitattributes; echo loud > x.up; echo x > x.in; echo x > x.crlf";
    is_put_back(first, work, GONE_ON, "true").await;
    is_put_back(first, work, GONE_ON, "rm .gitattributes; truncate -s 2 x.up x.in").await;
}

/// What the user has put there in the meantime is not what git wrote.
#[tokio::test]
async fn what_is_the_users_is_not_put_back() {
    let mut into = Into::on(breaking("echo mine > near/7; echo mine > near/5/mine"), FIRST, WORK, GONE_ON).await;
    let why = into.refused(None).await;
    assert!(why.contains("it broke"), "{why}");
    assert_eq!(sh(&into.repository, "cat near/7 near/5/mine; ls near/5"), "mine\nmine\nmine\n");
}

/// Few processes put many files back.
#[tokio::test]
async fn putting_back_starts_no_process_for_each_file() {
    let first = "mkdir n; for n in $(seq 300); do echo $n > n/$n; done; git add -A; git commit -qm first";
    let world = breaking("true");
    let (wrapper, count) = (world.path("git"), world.path("upstream/.git/started"));
    let script = std::fs::read_to_string(&wrapper).unwrap();
    let script = script.replace("\nexec", &format!("\ntest ! -e {0} || echo >> {0}\nexec", count.display()));
    std::fs::write(&wrapper, script).unwrap();
    let mut into = Into::on(world, first, "for n in $(seq 300); do echo new > n/$n; done", GONE_ON).await;
    std::fs::write(&count, "").unwrap();
    let why = into.refused(None).await;
    assert!(why.contains("were put back"), "{why}");
    let started = std::fs::read_to_string(&count).unwrap().lines().count();
    assert!((10..30).contains(&started), "{started}");
    assert_eq!(into.git(&["status", "--porcelain"]), "");
}
