//! Merging in worktrees whose agents want something else, and by daemons that are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use makima_core::effect::{Merge, Side, Source, Work};
use makima_core::input::{Merging, Outcome};

use crate::lives::{kills, live_and_die};
use crate::merges::{Family, sh};
use crate::reaches::{ROUNDS, inventory, swap};
use crate::support::{Disk, Options, World, folder, git};

const OURS: &str = "printf 'one\\nours\\nthree\\n' > file; git commit -qam ours";
const THEIRS: &str = "printf 'one\\ntheirs\\nthree\\n' > file; echo new > new; rm d/y; ln -s x link";

#[tokio::test]
async fn nothing_that_an_agent_chooses_is_run() {
    let mut family = Family::of(OURS, &[THEIRS]).await;
    let canary = family.world.path("canary");
    let touch = format!("touch {}", canary.display());
    let hooks = "pre-commit commit-msg prepare-commit-msg post-commit reference-transaction post-index-change \
        pre-merge-commit post-merge post-checkout post-rewrite update";
    let keys = "core.fsmonitor filter.evil.clean filter.evil.smudge filter.evil.process diff.external \
        diff.evil.command diff.evil.textconv merge.evil.driver uploadpack.packObjectsHook core.sshCommand \
        gpg.program core.alternateRefsCommand core.editor sequence.editor credential.helper";
    let script = format!(
        "echo '* filter=evil diff=evil merge=evil' > .git/info/attributes; mkdir -p .git/hooks; \
         for h in {hooks}; do printf '#!/bin/sh\\n{touch}\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done; \
         for k in {keys}; do git config $k '{touch}'; done; git config commit.gpgsign true; \
         git config core.hooksPath .git/hooks; git config merge.default evil; \
         git config url.ext::sh.insteadOf /; git config protocol.ext.allow always; \
         git config extensions.partialClone origin; git config remote.origin.promisor true; rm -f {}",
        canary.display()
    );
    sh(&family.tree, &script);
    let _ = std::fs::remove_file(&canary);
    assert_eq!(family.begin(0).await, family.open(0, &["file"]));
    assert_eq!(family.ask(Merge::Abort).await, Merging::Aborted);
    family.begin(0).await;
    let child = family.child(0);
    assert!(family.list(vec![child]).await.1);
    family.ask(Merge::Resolve { file: "file".into(), side: Side::Theirs }).await;
    assert!(matches!(family.commit().await, Merging::Committed(_)));
    assert!(!canary.exists());
}

/// Whatever has become of the repository: an answer, and nothing of anybody else's is touched.
#[tokio::test]
async fn a_repository_that_is_none_is_refused() {
    for breakage in [
        "rm -rf .git",
        "mv .git ../stolen; ln -s ../stolen .git",
        "mv .git ../stolen; echo gitdir: ../stolen > .git",
        "echo garbage > .git/HEAD",
        "rm -rf .git/objects; ln -s /etc .git/objects",
        "mkfifo .gitattributes",
        "git update-ref -d HEAD",
        "echo 0123456789012345678901234567890123456789 > .git/HEAD",
        "echo garbage > .git/index",
    ] {
        let mut family = Family::of(OURS, &[THEIRS]).await;
        sh(&family.tree, breakage);
        let source = Source::Child(family.child(0));
        let why = family.world.refused(family.id, Work::Merge(Merge::Start { source })).await;
        assert!(!why.is_empty(), "{breakage}");
        assert!(!family.tree.join("new").exists() && !family.tree.join(".git/index.lock").exists(), "{breakage}");
    }
}

#[tokio::test]
async fn where_the_agent_stands_is_what_moves() {
    let mut family = Family::of(&format!("{OURS}; git switch -q --detach"), &["echo new > new"]).await;
    family.begin(0).await;
    let Merging::Committed(made) = family.commit().await else { panic!("no commit") };
    assert_eq!(family.git(&["rev-parse", "HEAD"]), made);
    assert_eq!(family.git(&["branch", "--show-current"]), "");
    // A merge that names rubbish is none.
    std::fs::write(family.tree.join(".git/MERGE_HEAD"), "garbage\n").unwrap();
    assert_eq!(family.ask(Merge::Status).await, Merging::Nothing);
    assert_eq!(family.begin(0).await, Merging::Busy(None));
    std::fs::write(family.tree.join(".git/MERGE_HEAD"), format!("{}\n", "1".repeat(40))).unwrap();
    let commit = Merge::Commit { message: None, trailers: Vec::new() };
    let why = family.world.refused(family.id, Work::Merge(commit)).await;
    assert!(why.contains("no commit that is there"), "{why}");
    assert_eq!(family.git(&["rev-parse", "HEAD"]), made);
}

/// Protects from a daemon killed at any moment: what was there before, or what was to be; never half.
#[tokio::test]
async fn a_daemon_killed_at_any_moment_leaves_before_or_after() {
    let kills = kills();
    let mut family = Family::of(&format!("{OURS}; echo mine > untracked"), &[THEIRS]).await;
    let before = family.state();
    let head = family.git(&["rev-parse", "HEAD"]);
    let mut cut = [0_u32; 2];
    for n in 0..kills {
        let does = ["start", "abort", "settle"][n as usize % 3];
        if does != "start" {
            assert_eq!(family.begin(0).await, family.open(0, &["file"]));
        }
        if does == "settle" {
            family.ask(Merge::Resolve { file: "file".into(), side: Side::Theirs }).await;
        }
        family.world = live_and_die(family.world, family.id, does, &family.children[0].to_string(), n).await;
        let now = family.ask(Merge::Status).await;
        cut[usize::from(now == Merging::Nothing)] += 1;
        if does == "settle" {
            let Merging::Committed(made) = family.commit().await else { panic!("{n}: no commit") };
            assert_eq!(family.git(&["rev-parse", "HEAD", "HEAD^1"]), format!("{made}\n{head}"), "{n}");
            assert_eq!(family.git(&["status", "--porcelain"]), "?? untracked", "{n}");
            sh(&family.tree, &format!("git reset -q --hard {head}"));
        } else if now != Merging::Nothing {
            assert_eq!(now, family.open(0, &["file"]), "{n}: {does}");
            assert_eq!(family.begin(0).await, now, "{n}");
            assert_eq!(family.ask(Merge::Abort).await, Merging::Aborted, "{n}");
        }
        assert_eq!(family.state(), before, "{n}: {does}");
        family.git(&["fsck", "--strict", "--no-dangling"]);
        git(&family.world.bare(), &["fsck", "--strict", "--no-dangling"]);
    }
    assert!(kills < 20 || (cut[0] > 0 && cut[1] > 0), "it was killed too early or too late: {cut:?}");
}

#[tokio::test]
async fn a_disk_that_is_full_leaves_everything_as_it_was() {
    let mut family = Family::of(OURS, &[THEIRS]).await;
    let before = family.state();
    // Where the result is to be written there is no room for a folder.
    let place = family.world.home.task(family.id).join("index");
    std::fs::create_dir(&place).unwrap();
    let source = Source::Child(family.child(0));
    family.world.refused(family.id, Work::Merge(Merge::Start { source })).await;
    assert_eq!(family.state(), before);
    std::fs::remove_dir(&place).unwrap();
    assert!(matches!(
        family.world.run(family.id, Work::Merge(Merge::Status)).await,
        Outcome::Merging(Merging::Nothing)
    ));
}

/// Protects the agent's files from a merge for which there is no room: at once, or in the middle.
#[tokio::test]
async fn a_merge_that_finds_no_room_is_taken_back() {
    let Some(disk) = Disk::of("280m") else { return };
    let world = World::with_user(disk.folder(), Options::default());
    let theirs = &["seq 50000 > large; seq 20000 > d/large; printf 'one\\ntheirs\\nthree\\n' > file; rm d/y"];
    let mut family = Family::on(world, &format!("{OURS}; echo mine > untracked"), theirs).await;
    let before = family.state();
    let mut failed = 0;
    for left in [0, 8 << 10, 64 << 10, 160 << 10, 400 << 10, 600 << 10, 800 << 10] {
        let source = Source::Child(family.child(0));
        disk.fill(left);
        let outcome = family.world.run(family.id, Work::Merge(Merge::Start { source })).await;
        disk.empty();
        let is_refused = matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_));
        failed += u32::from(is_refused);
        let status = family.ask(Merge::Status).await;
        let open = family.open(0, &["file"]);
        assert_eq!(status, if is_refused { Merging::Nothing } else { open.clone() }, "{left}: {outcome:?}");
        assert_eq!(family.begin(0).await, open, "{left}");
        disk.fill(left);
        let outcome = family.world.run(family.id, Work::Merge(Merge::Abort)).await;
        disk.empty();
        failed += u32::from(matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_)));
        family.ask(Merge::Abort).await;
        assert_eq!(family.state(), before, "{left}: {outcome:?}");
    }
    assert!(failed >= 4, "there was room: {failed}");
}

/// Protects what is outside from an agent that swaps a folder of its worktree, or its repository, for a link while something is
/// merged into it: the daemon would write there where the agent may not.
#[tokio::test]
async fn what_is_swapped_for_a_link_under_a_merge_leads_nowhere() {
    let deep = "d/a/b/c/e/f/g/h/i/j/k/l/m/n/o/p";
    let theirs = format!("mkdir -p {deep}; for n in 1 2 3 4 5 6 7 8; do echo theirs > {deep}/$n; done");
    for victim in ["d", ".git"] {
        let mut family = Family::of(OURS, &[&theirs]).await;
        let outside = folder();
        let bait = outside.path().join("bait");
        // What is outside looks like what is to be changed.
        copy(&family.tree.join(victim), &bait);
        std::fs::create_dir_all(bait.join(deep.strip_prefix("d/").unwrap())).unwrap();
        let before = inventory(outside.path());
        let stop = Arc::new(AtomicBool::new(false));
        let swapper = swap(family.tree.join(victim), bait, Arc::clone(&stop));
        for _ in 0..ROUNDS {
            let source = Source::Child(family.child(0));
            // What comes of it depends on the moment.
            family.world.run(family.id, Work::Merge(Merge::Start { source })).await;
            family.world.run(family.id, Work::Merge(Merge::Abort)).await;
            if inventory(outside.path()) != before {
                break;
            }
        }
        stop.store(true, Ordering::Release);
        swapper.join().unwrap();
        let after = inventory(outside.path());
        let new: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
        assert!(after == before, "{victim}: it was led out: {new:?}");
    }
}

/// Protects what is hidden from agents in a sandbox from the daemon that merges for them: an agent's repository names folders to read
/// objects from. Without a sandbox it may read there itself.
#[tokio::test]
async fn a_merge_reads_nothing_that_is_hidden_from_the_agent() {
    for fenced in [false, true] {
        let sandbox = match makima_runner::sandbox::Sandbox::settle(&makima_runner::config::SandboxFile::default()) {
            Ok(makima_runner::sandbox::Settled::On(sandbox)) if sandbox.held_by().name() == "Landlock" => Some(sandbox),
            Ok(_) | Err(_) => return eprintln!("skipped: there is no Landlock"),
        };
        let world = World::with(Options { sandbox: sandbox.filter(|_| fenced), ..Options::default() });
        let mut family = Family::on(world, OURS, &[]).await;
        // In the daemon's own home, as another task's would be.
        let hidden = family.world.home.root().join("another");
        std::fs::create_dir(&hidden).unwrap();
        sh(&hidden, "git init -q; echo secret > secret; git add -A; git -c user.name=x -c user.email=x commit -qm x");
        let tip = git(&hidden, &["rev-parse", "HEAD"]);
        let lenders = hidden.join(".git/objects");
        let script =
            format!("echo {} >> .git/objects/info/alternates; echo {tip} > .git/refs/heads/theirs", lenders.display());
        sh(&family.tree, &script);
        let source = Source::Branch("theirs".to_owned());
        family.world.run(family.id, Work::Merge(Merge::Start { source })).await;
        assert_eq!(family.tree.join("secret").exists(), !fenced);
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()));
}
