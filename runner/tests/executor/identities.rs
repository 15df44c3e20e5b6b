//! As whom work is committed, and how it is signed: by the environment, the repository on this machine that it came from,
//! the user's configuration and the machine's, as git itself would have it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use makima_core::effect::{Deed, Delivery, Work};
use makima_core::input::Outcome;
use makima_core::policy::CommitText;

use crate::commits::Done;
use crate::merges::sh;
use crate::support::{Options, World, branch, folder, git};

fn program(path: &Path, script: &str) -> PathBuf {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// A signer that notes how it was called.
fn signer(folder: &Path, name: &str) -> PathBuf {
    let signer = folder.join(name);
    let script = format!(
        "echo \"$0 $*\" >> {}/signed; echo '-----BEGIN PGP SIGNATURE-----'; echo; echo by-{name}; \
         echo '-----END PGP SIGNATURE-----'; echo '[GNUPG:] SIG_CREATED ' >&2; cat > /dev/null",
        folder.display()
    );
    program(&signer, &script)
}

/// A world with these configurations of the machine and of the user.
fn world(machine: &str, user: &str, more: &[(&str, &str)]) -> World {
    let folder = folder();
    let own = folder.path().join("user");
    std::fs::create_dir(&own).unwrap();
    let signers = ["gpg-of-the-machine", "gpg-of-the-user", "gpg-of-the-repository"];
    signers.iter().for_each(|name| drop(signer(folder.path(), name)));
    let within = |text: &str| text.replace("HERE", &folder.path().display().to_string());
    std::fs::write(own.join(".gitconfig"), within(user)).unwrap();
    std::fs::write(folder.path().join("work"), "[user]\n\tname = Work\n").unwrap();
    let system = folder.path().join("system");
    std::fs::write(&system, within(machine)).unwrap();
    let script = format!("export GIT_CONFIG_SYSTEM={}\nexec git \"$@\"", system.display());
    let git = program(&folder.path().join("git"), &script);
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    World::on(folder, Options { git, more, ..Options::default() })
}

const MACHINE: &str =
    "[user]\n\tname = Machine\n\temail = machine@example.org\n[gpg]\n\tprogram = HERE/gpg-of-the-machine\n";

/// Protects the user's identity: what they have told git for this machine and for this repository counts as it does for git.
#[tokio::test]
async fn work_is_committed_by_whom_git_would_have_commit_there() {
    let ada = "[user]\n\tname = Ada\n\temail = ada@example.org\n";
    let grace = "git config user.name Grace; git config user.email grace@example.org";
    let env = [("GIT_AUTHOR_NAME", "Eve"), ("GIT_AUTHOR_EMAIL", "eve@example.org")];
    let apart = "[author]\n\tname = Byron\n";
    for (machine, user, repository, more, author, committer) in [
        (MACHINE, "", "true", &[][..], "Machine <machine@example.org>", None),
        (MACHINE, ada, "true", &[], "Ada <ada@example.org>", None),
        (MACHINE, "[user]\n\tname = Ada\n", "true", &[], "Ada <machine@example.org>", None),
        (MACHINE, ada, grace, &[], "Grace <grace@example.org>", None),
        ("", "", grace, &[], "Grace <grace@example.org>", None),
        ("", ada, "git config user.email work@example.org", &[], "Ada <work@example.org>", None),
        ("", ada, grace, &env, "Eve <eve@example.org>", Some("Grace <grace@example.org>")),
        ("", &format!("{ada}{apart}"), "true", &[], "Byron <ada@example.org>", Some("Ada <ada@example.org>")),
        (
            "",
            &format!("{ada}[includeIf \"gitdir:**/upstream/\"]\n\tpath = HERE/work\n"),
            "true",
            &[],
            "Work <ada@example.org>",
            None,
        ),
        ("", "", "git config user.name Grace", &[], "makima <makima@localhost>", None),
    ] {
        let world = world(machine, user, more);
        let upstream = world.repository("upstream");
        sh(&upstream, repository);
        let mut done = Done::by_on(world, &upstream, "echo a > a; git add a; git commit -qm mine; echo b > b").await;
        let change = done.commit().await.expect("a change");
        let said = done.git(&["log", "-2", "--format=%an <%ae>, %cn <%ce>", &change.commit]);
        let one = format!("{author}, {}", committer.unwrap_or(author));
        assert_eq!(said, format!("{one}\n{one}"), "{user} {repository}: the agent's and ours");
    }
}

/// Protects from programs that a repository names, and keeps to the keys that it names.
#[tokio::test]
async fn work_is_signed_as_git_would_sign_there_by_a_program_of_the_users() {
    let ada = "[user]\n\tname = Ada\n\temail = ada@example.org\n";
    let own = format!("{ada}[gpg]\n\tprogram = HERE/gpg-of-the-user\n");
    let signs = "[commit]\n\tgpgsign = true\n";
    let repository = "git config commit.gpgsign true; git config user.signingkey KEY";
    let apart = "git config commit.gpgsign true; git config user.signingkey KEY; \
        git config gpg.program ../gpg-of-the-repository; git config gpg.openpgp.program ../gpg-of-the-repository";
    for (machine, user, repository, by, told) in [
        (&format!("{MACHINE}{signs}") as &str, ada, "true", Some("gpg-of-the-machine"), "-bsau Ada <ada@example.org>"),
        (MACHINE, &format!("{own}{signs}"), "true", Some("gpg-of-the-user"), "-bsau Ada"),
        (MACHINE, &own, repository, Some("gpg-of-the-user"), "-bsau KEY"),
        (MACHINE, ada, repository, Some("gpg-of-the-machine"), "-bsau KEY"),
        ("", &format!("{own}{signs}"), "git config commit.gpgsign false", None, ""),
        // What it means is signed by a program of its own, which is not run: the user's own wishes count.
        (MACHINE, &own, apart, None, ""),
        (MACHINE, &format!("{own}{signs}"), apart, Some("gpg-of-the-user"), "-bsau Ada"),
        (
            "",
            &format!("{own}[gpg \"x509\"]\n\tprogram = HERE/gpg-of-the-machine\n"),
            "git config commit.gpgsign true; git config gpg.format x509",
            Some("gpg-of-the-machine"),
            "-bsau",
        ),
    ] {
        let world = world(machine, user, &[]);
        let signed = world.path("signed");
        let upstream = world.repository("upstream");
        sh(&upstream, repository);
        let mut done = Done::by_on(world, &upstream, "echo a > a").await;
        let change = done.commit().await.expect("a change");
        let commit = done.git(&["cat-file", "commit", &change.commit]);
        let told_it = std::fs::read_to_string(&signed).unwrap_or_default();
        match by {
            Some(by) => {
                assert!(commit.contains(&format!("by-{by}")), "{repository}: {commit}");
                assert!(told_it.contains(by) && told_it.contains(told), "{repository}: {told_it}");
            }
            None => assert!(!commit.contains("gpgsig"), "{commit}"),
        }
        assert!(!told_it.contains("gpg-of-the-repository"), "{told_it}");
    }
}

/// A merge into a repository of the user's is theirs as that repository knows them.
#[tokio::test]
async fn a_merge_is_made_by_whom_git_would_have_make_it_there() {
    let ada = "[user]\n\tname = Ada\n\temail = ada@example.org\n[gpg]\n\tprogram = HERE/gpg-of-the-user\n";
    let world = world("", ada, &[]);
    let upstream = world.repository("upstream");
    let mut done = Done::by_on(world, &upstream, "echo a > a").await;
    let change = done.commit().await.expect("a change");
    sh(
        &upstream,
        "echo more > more; git add -A; git commit -qm more; git config user.name Grace; git config user.email g@example.org; \
         git config commit.gpgsign true",
    );
    let work = Delivery {
        deed: Deed::Merge,
        target: Some(upstream.display().to_string()),
        repository: None,
        credentials: None,
        branch: branch(done.id),
        commit: Some(change.commit.clone()),
        into: None,
        base: None,
        text: CommitText::of("a task", done.id, None),
    };
    let merged = done.world.run(done.id, Work::Deliver(Box::new(work))).await;
    assert!(matches!(merged, Outcome::Delivered { .. }), "{merged:?}");
    assert_eq!(git(&upstream, &["log", "-1", "--format=%an <%ae>"]), "Grace <g@example.org>");
    assert!(git(&upstream, &["cat-file", "commit", "HEAD"]).contains("by-gpg-of-the-user"));
}

/// A git that is killed while a daemon starts is asked once more: else that daemon could not be, or knew nobody all its life.
#[tokio::test]
async fn a_git_that_is_killed_at_the_start_is_asked_once_more() {
    let folder = folder();
    let own = folder.path().join("user");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join(".gitconfig"), "[user]\n\tname = Somebody\n\temail = some@example.com\n").unwrap();
    let noted = folder.path().display();
    let script = format!(
        "for verb in version config; do
           case \" $* \" in *\" $verb \"*) test -e {noted}/$verb || {{ : > {noted}/$verb; kill -9 $$; }} ;; esac
         done
         exec git \"$@\""
    );
    let git = program(&folder.path().join("git"), &script);
    let world = World::on(folder, Options { git, ..Options::default() });
    assert!(world.path("version").exists() && world.path("config").exists(), "it was killed");
    let upstream = world.repository("upstream");
    let mut done = Done::by_on(world, &upstream, "echo b > b").await;
    let change = done.commit().await.expect("a change");
    let said = done.git(&["log", "-1", "--format=%an <%ae>", &change.commit]);
    assert_eq!(said, "Somebody <some@example.com>");
}
