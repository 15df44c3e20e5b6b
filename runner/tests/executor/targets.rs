//! The user's repository, whose configuration names programs: what of them a delivery runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use makima_core::effect::{Deed, Delivery, Work};
use makima_core::input::Outcome;
use makima_core::policy::CommitText;

use crate::merges::sh;
use crate::support::{World, branch, git, task};

/// A program that leaves a canary, and hands on what it gets.
fn program(place: &Path, name: &str) -> String {
    let path = place.join(name);
    let canary = place.join(format!("{name}.ran"));
    std::fs::write(&path, format!("#!/bin/sh\ntouch '{}'\ncat\n", canary.display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Protects the user from an agent whose attributes choose among the programs that the user's repository names, and from
/// those that git would run by itself. Hooks of a merge are asked, as git asks them.
#[tokio::test]
async fn of_what_the_repository_names_hooks_alone_are_run() {
    for deed in [Deed::Branch, Deed::Merge] {
        let mut world = World::new();
        let target = world.repository("upstream");
        let id = task();
        let base = world.prepare(id, Some(&target)).await.base;
        world.act(id, "printf '* diff=evil merge=evil\\n' > .gitattributes; echo theirs >> README; echo a > a").await;
        let commit = world.commit(id, base.as_deref()).await.expect("a change").commit;
        let place = world.path("programs");
        std::fs::create_dir(&place).unwrap();
        let names =
            ["fsmonitor", "textconv", "external", "driver", "pager", "editor", "ssh", "gpg", "askpass", "alias"];
        let [fsmonitor, textconv, external, driver, pager, editor, ssh, gpg, askpass, alias] =
            names.map(|name| program(&place, name));
        for (key, value) in [
            ("core.fsmonitor", &fsmonitor),
            ("diff.evil.textconv", &textconv),
            ("diff.evil.command", &external),
            ("diff.external", &external),
            ("merge.evil.driver", &driver),
            ("core.pager", &pager),
            ("core.editor", &editor),
            ("core.sshCommand", &ssh),
            ("gpg.program", &gpg),
            ("core.askPass", &askpass),
            ("alias.fetch", &format!("!{alias}")),
            ("commit.gpgSign", &"true".to_owned()),
            ("uploadpack.packObjectsHook", &alias),
        ] {
            git(&target, &["config", key, value]);
        }
        sh(
            &target,
            "git -c core.fsmonitor=false -c commit.gpgSign=false -c core.pager=cat commit -q --allow-empty -m more",
        );
        for hook in
            ["pre-merge-commit", "commit-msg", "post-merge", "post-checkout", "pre-auto-gc", "post-index-change"]
        {
            let path = target.join(".git/hooks").join(hook);
            let script = format!("#!/bin/sh\ntouch '{}'\n", place.join(format!("{hook}.ran")).display());
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for ran in
            std::fs::read_dir(&place).unwrap().map(Result::unwrap).filter(|entry| entry.path().extension().is_some())
        {
            std::fs::remove_file(ran.path()).unwrap();
        }
        let work = Work::Deliver(Box::new(Delivery {
            deed,
            target: Some(target.display().to_string()),
            repository: None,
            credentials: None,
            branch: branch(id),
            commit: Some(commit),
            into: None,
            base: None,
            text: CommitText::of("a task", id, None),
        }));
        let outcome = world.run(id, work).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{deed:?}: {outcome:?}");
        let ran =
            std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut ran: Vec<String> = ran.filter(|name| name.ends_with(".ran")).collect();
        ran.sort();
        let hooks: &[&str] = if deed == Deed::Merge { &["commit-msg.ran", "pre-merge-commit.ran"] } else { &[] };
        assert_eq!(ran, hooks, "{deed:?}");
    }
}

/// Files that a filter of the user's makes are as the user's own git makes them: else a clean checkout were not clean
/// afterwards.
#[tokio::test]
async fn a_checkout_that_is_moved_along_is_clean_by_the_users_filters() {
    let mut world = World::new();
    let target = world.repository("upstream");
    sh(&target, "echo '*.up filter=up' > .gitattributes; git add -A; git commit -qm filter");
    git(&target, &["config", "filter.up.smudge", "tr a-z A-Z"]);
    git(&target, &["config", "filter.up.clean", "tr A-Z a-z"]);
    let id = task();
    let base = world.prepare(id, Some(&target)).await.base;
    world.act(id, "echo loud > x.up").await;
    let commit = world.commit(id, base.as_deref()).await.expect("a change").commit;
    let work = Work::Deliver(Box::new(Delivery {
        deed: Deed::Merge,
        target: Some(target.display().to_string()),
        repository: None,
        credentials: None,
        branch: branch(id),
        commit: Some(commit),
        into: None,
        base: None,
        text: CommitText::of("a task", id, None),
    }));
    let outcome = world.run(id, work).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(target.join("x.up")).unwrap(), "LOUD\n");
    assert_eq!(git(&target, &["status", "--porcelain"]), "");
}
