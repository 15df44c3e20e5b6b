//! What a repository wants: of its own word, once the user has agreed, or of the user's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use makima_core::effect::{Arg, Check, Launch, Merge, Start, Value, Work};
use makima_core::id::TaskId;
use makima_core::input::{ExitStatus, Outcome, Prepared, Stream};
use makima_core::wants::Wants;
use makima_runner::consent::{Book, key, parse};
use makima_runner::executor::OwnWants;

use crate::support::{Options, World, branch, git, is_alive, leaves, number_in, preparing, task, text_of};

const FILE: &str = "setup = ['echo ready > set-up', 'echo $WORD']\nchecks = ['test -f built']\n[env]\nWORD = 'hello'\n";

fn says(repository: &Path, text: &str) {
    std::fs::write(repository.join(".makima.toml"), text).unwrap();
    git(repository, &["add", "-A"]);
    git(repository, &["commit", "-q", "-m", "what it wants"]);
}

fn allow(world: &World, repository: &Path, text: &str) {
    let name = key(repository.canonicalize().unwrap().to_str().unwrap());
    Book::of(world.home.root()).allow(&name, &parse(text).unwrap()).unwrap();
}

fn launch(prepared: &Prepared, script: &str) -> Work {
    let argv = ["sh", "-c", script].map(|word| Arg::Text(word.to_owned())).to_vec();
    let env = prepared.env.iter().map(|(name, value)| (name.clone(), Value::Text(value.clone()))).collect();
    Work::Start(Launch { setup: prepared.setup.clone(), env, ..Launch::script(argv) })
}

async fn start(world: &mut World, id: TaskId, work: Work) -> makima_core::id::EffectId {
    let asked = world.ask(id, work);
    match world.answer(asked).await {
        Outcome::Started { .. } => asked,
        other => panic!("{other:?}"),
    }
}

fn setting_up(commands: &[&str], script: &str) -> Work {
    let setup = commands.iter().map(|command| (*command).to_owned()).collect();
    launch(&Prepared { setup, ..Prepared::default() }, script)
}

async fn check(world: &mut World, id: TaskId, commands: &[&str]) -> Option<String> {
    let commands = commands.iter().map(|command| (*command).to_owned()).collect();
    match world.run(id, Work::Check(Box::new(Check { commands, env: vec![("WORD".into(), "hello".into())] }))).await {
        Outcome::Checked { failed } => failed,
        other => panic!("{other:?}"),
    }
}

/// Protects the user: a repository's commands are run once they are agreed to, and not when they have changed since.
#[tokio::test]
async fn what_a_repository_wants_is_done_once_the_user_has_agreed() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    says(&repository, FILE);
    let prepared = world.prepare(task(), Some(&repository)).await;
    assert_eq!((&prepared.setup, &prepared.checks, &prepared.env), (&vec![], &vec![], &vec![]));
    let told = prepared.notes.join("\n");
    assert!(told.contains("`echo ready > set-up`") && told.contains("makima repo allow /"), "{told}");

    allow(&world, &repository, FILE);
    let id = task();
    let prepared = world.prepare(id, Some(&repository)).await;
    assert_eq!((prepared.setup.len(), prepared.checks.len(), prepared.notes.len()), (2, 1, 0), "{prepared:?}");
    let asked = start(&mut world, id, launch(&prepared, "cat set-up; echo $WORD")).await;
    assert_eq!(world.exit(asked).await, ExitStatus::Code(0));
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    assert_eq!(text_of(&parts, Stream::Stdout), "hello\nready\nhello\n", "the log goes on");
    assert_eq!(text_of(&parts, Stream::Stderr), "$ echo ready > set-up\n$ echo $WORD\n");

    says(&repository, "setup = ['echo evil']\n");
    let prepared = world.prepare(task(), Some(&repository)).await;
    assert!(prepared.setup.is_empty());
    assert!(prepared.notes.join("\n").contains("has changed since you agreed"), "{prepared:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_fails_only_those_who_rely_on_it() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    for (text, reason) in [("\nsteup = []\n", "line 2, column 1"), ("setup = 'make'", "line 1, column 9")] {
        says(&repository, text);
        let prepared = world.prepare(task(), Some(&repository)).await;
        let told = prepared.notes.join("\n");
        assert!(prepared.setup.is_empty() && told.contains(reason), "{told}");
    }
    // A link is not followed, wherever it leads.
    std::fs::remove_file(repository.join(".makima.toml")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", repository.join(".makima.toml")).unwrap();
    git(&repository, &["commit", "-qam", "a link"]);
    let told = world.prepare(task(), Some(&repository)).await.notes.join("\n");
    assert!(told.contains("it is no file"), "{told}");
    std::fs::remove_file(repository.join(".makima.toml")).unwrap();
    says(&repository, &format!("# {}", "x".repeat(65 * 1024)));
    allow(&world, &repository, FILE);
    let why = world.refused(task(), preparing(task(), Some(&repository), None)).await;
    assert!(why.contains(".makima.toml: it is larger than 64 KiB"), "{why}");
}

#[tokio::test]
async fn the_users_own_word_goes_first_and_needs_no_agreement() {
    let folder = crate::support::folder();
    let path = folder.path().canonicalize().unwrap().join("upstream");
    let wants = Wants { setup: vec!["echo mine".to_owned()], ..Wants::default() };
    let own = OwnWants { repository: key(path.to_str().unwrap()), wants };
    std::fs::create_dir(folder.path().join("user")).unwrap();
    let mut world = World::on(folder, Options { repositories: vec![own], ..Options::default() });
    let repository = world.repository("upstream");
    says(&repository, "setup = ['echo theirs']\n");
    let prepared = world.prepare(task(), Some(&repository)).await;
    assert_eq!((prepared.setup, prepared.notes), (vec!["echo mine".to_owned()], Vec::new()));
}

#[tokio::test]
async fn a_set_up_that_fails_starts_no_agent() {
    let mut world = World::new();
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    let asked = start(&mut world, id, setting_up(&["echo one", "exit 7", "touch three"], "touch agent")).await;
    assert_eq!(world.exit(asked).await, ExitStatus::NotSetUp(7));
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    let told = text_of(&parts, Stream::Stderr);
    assert!(told.ends_with("$ exit 7\nmakima: `exit 7` failed with exit code 7\n"), "{told}");
    let worktree = world.home.worktree(id);
    assert!(!worktree.join("agent").exists() && !worktree.join("three").exists());
}

#[tokio::test]
async fn a_set_up_that_does_not_end_is_ended_with_all_that_it_has_started() {
    let mut world = World::with(Options { set_up_max: Duration::from_secs(1), ..Options::default() });
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    let hangs = format!("({} sh -c 'echo $$ > pid; exec sleep 1000') & wait", leaves());
    let asked = start(&mut world, id, setting_up(&[&hangs], "touch agent")).await;
    assert_eq!(world.exit(asked).await, ExitStatus::NotSetUp(124));
    let worktree = world.home.worktree(id);
    let pid = number_in(&worktree.join("pid")).await;
    world.empty(id).await;
    assert!(!is_alive(pid) && !worktree.join("agent").exists());
}

/// Protects what users say: it is for the agent, and no command of a set-up reads it away.
#[tokio::test]
async fn what_users_say_during_a_set_up_reaches_the_agent() {
    let mut world = World::new();
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    let asked = start(&mut world, id, setting_up(&["cat; sleep 0.3"], "read line; echo got $line")).await;
    assert_eq!(world.run(id, Work::Stdin { n: 1, text: "a word\n".to_owned() }).await, Outcome::Done);
    assert_eq!(world.exit(asked).await, ExitStatus::Code(0));
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    assert_eq!(text_of(&parts, Stream::Stdout), "got a word\n");
}

/// Protects a machine from a set-up that is run twice beside itself: the next life finds the one that runs.
#[tokio::test]
async fn a_set_up_outlives_its_daemon_and_is_found_and_frozen_and_ended() {
    let mut world = World::new();
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    let commands = ["echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done"];
    start(&mut world, id, setting_up(&commands, "echo agent; exit 3")).await;
    let pid = number_in(&world.home.worktree(id).join("pid")).await;
    let mut world = world.again();
    let attached = world.ask(id, Work::Attach);
    assert!(matches!(world.answer(attached).await, Outcome::Started { .. }));
    assert_eq!(world.run(id, Work::Freeze).await, Outcome::Done);
    assert_eq!(world.run(id, Work::Thaw).await, Outcome::Done);
    std::fs::write(world.home.worktree(id).join("go"), "").unwrap();
    assert_eq!(world.exit(attached).await, ExitStatus::Code(3), "the agent's own");
    world.empty(id).await;
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn checks_are_run_up_to_the_first_that_fails_in_a_tree_of_their_own() {
    let mut world = World::new();
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    world.act(id, "touch built").await;
    assert_eq!(check(&mut world, id, &["test -f built", "test $WORD = hello"]).await, None);
    let leaves = leaves();
    let left = format!("({leaves} sh -c 'echo $$ > pid; exec sleep 1000') & while [ ! -s pid ]; do sleep 0.01; done");
    let failed = check(&mut world, id, &[&left, "exit 2", "touch three"]).await;
    assert_eq!(failed.as_deref(), Some("the check `exit 2` failed with exit code 2"));
    let worktree = world.home.worktree(id);
    assert!(!worktree.join("three").exists());
    assert!(!is_alive(number_in(&worktree.join("pid")).await), "what they left behind is ended");
    // Again, as after a crash.
    assert_eq!(check(&mut world, id, &["true"]).await, None);
    assert_eq!(world.output(id, 0).await.0, [], "the task's log has ended before");
}

#[test]
fn checks_that_a_killed_daemon_left_are_ended_before_others_begin() {
    let life = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (id, first) = (task(), life());
    let (world, pid) = first.block_on(async {
        let mut world = World::new();
        let repository = world.repository("upstream");
        world.prepare(id, Some(&repository)).await;
        world.act(id, "true").await;
        let commands = vec!["echo $$ > pid; exec sleep 1000".to_owned()];
        world.ask(id, Work::Check(Box::new(Check { commands, env: Vec::new() })));
        let pid = number_in(&world.home.worktree(id).join("pid")).await;
        (world, pid)
    });
    // Whatever it was doing is not gone on with.
    drop(first);
    life().block_on(async {
        let mut world = world.again();
        assert!(is_alive(pid), "nobody ends them with the daemon");
        assert_eq!(check(&mut world, id, &["true"]).await, None);
        assert!(!is_alive(pid));
    });
}

/// Protects questions, and a merge, from waiting for as long as checks may run.
#[tokio::test]
async fn what_is_asked_about_a_merge_does_not_wait_for_checks() {
    let mut world = World::new();
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    world.act(id, "true").await;
    let commands = vec!["echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done".to_owned()];
    let asked = world.ask(id, Work::Check(Box::new(Check { commands, env: Vec::new() })));
    number_in(&world.home.worktree(id).join("pid")).await;
    assert!(matches!(world.run(id, Work::Merge(Merge::Status)).await, Outcome::Merging(_)));
    let listed = world.run(id, Work::Merge(Merge::List { children: Vec::new() })).await;
    assert!(matches!(listed, Outcome::Branches { .. }), "{listed:?}");
    std::fs::write(world.home.worktree(id).join("go"), "").unwrap();
    assert_eq!(world.answer(asked).await, Outcome::Checked { failed: None });
}

/// Protects what is under way for a task from being done beside what is asked next, also when its end has been told.
#[tokio::test]
async fn a_closed_task_still_does_one_thing_after_the_other() {
    let mut world = World::new();
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    world.act(id, "true").await;
    let go = world.home.worktree(id).join("go");
    let commands = vec!["echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done".to_owned()];
    let check = world.ask(id, Work::Check(Box::new(Check { commands, env: Vec::new() })));
    number_in(&world.home.worktree(id).join("pid")).await;
    let close = world.ask(id, Work::Close);
    let to = world.path("copy").display().to_string();
    let clone = world.ask(id, Work::Clone { to, branch: branch(id) });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(world.is_quiet(), "something overtook the check");
    std::fs::write(&go, "").unwrap();
    assert_eq!(world.answer(check).await, Outcome::Checked { failed: None });
    assert_eq!(world.answer(close).await, Outcome::Done);
    assert!(matches!(world.answer(clone).await, Outcome::Cloned { .. }));
}

#[tokio::test]
async fn checks_that_are_called_off_are_ended() {
    let mut world = World::new();
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    world.act(id, "true").await;
    let commands = vec!["echo $$ > pid; exec sleep 1000".to_owned()];
    let asked = world.ask(id, Work::Check(Box::new(Check { commands, env: Vec::new() })));
    let pid = number_in(&world.home.worktree(id).join("pid")).await;
    world.executor.cancel(asked);
    assert!(matches!(world.answer(asked).await, Outcome::Failed(_)));
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn files_that_git_ignores_are_brought_along_where_they_are_named() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    std::fs::write(repository.join(".gitignore"), ".env\nbuild/\nlink\n").unwrap();
    std::fs::write(repository.join(".worktreeinclude"), ".env\nbuild/kept\nlink\nREADME\nloose\n").unwrap();
    git(&repository, &["add", "-A"]);
    git(&repository, &["commit", "-qm", "names"]);
    std::fs::create_dir(repository.join("build")).unwrap();
    for (name, text) in
        [(".env", "TOKEN=1"), ("build/kept", "k"), ("build/other", "o"), ("loose", "l"), ("README", "mine")]
    {
        std::fs::write(repository.join(name), text).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", repository.join("link")).unwrap();
    let id = task();
    let prepared = world.prepare(id, Some(&repository)).await;
    let worktree = world.home.worktree(id);
    let has = |name: &str| std::fs::read_to_string(worktree.join(name)).ok();
    assert_eq!(has(".env").as_deref(), Some("TOKEN=1"));
    assert_eq!(has("build/kept").as_deref(), Some("k"));
    assert_eq!(has("README").as_deref(), Some("hello\n"), "what is tracked is the base's");
    assert_eq!((has("build/other"), has("loose"), has("link")), (None, None, None));
    assert!(prepared.notes.join("\n").contains("leads out of the worktree"), "{prepared:?}");
    // Not even where the branch's own .gitignore goes.
    std::fs::write(worktree.join(".gitignore"), "").unwrap();
    assert_eq!(git(&worktree, &["status", "--porcelain"]), "M .gitignore");
}

#[tokio::test]
async fn only_the_folders_that_are_wanted_are_checked_out_and_the_rest_stays_in_commits() {
    let mut world = World::new();
    let repository = world.repository("upstream");
    for name in ["core/src", "docs"] {
        std::fs::create_dir_all(repository.join(name)).unwrap();
        std::fs::write(repository.join(name).join("file"), name).unwrap();
    }
    let text = "sparse = ['core/src']\n";
    says(&repository, text);
    allow(&world, &repository, text);
    let id = task();
    let base = world.prepare(id, Some(&repository)).await.base;
    let worktree = world.home.worktree(id);
    assert!(worktree.join("core/src/file").exists() && worktree.join("README").exists());
    assert!(!worktree.join("docs").exists());
    world.act(id, "echo new > core/src/file; git sparse-checkout list > ../list").await;
    let change = world.commit(id, base.as_deref()).await.expect("a change");
    assert_eq!(change.files, 1, "{change:?}");
    let files = git(&world.bare(), &["ls-tree", "-r", "--name-only", &change.commit]);
    assert!(files.contains("docs/file"), "{files}");
    let list: PathBuf = worktree.parent().unwrap().join("list");
    assert_eq!(std::fs::read_to_string(list).unwrap(), "core/src\n");
}

/// Protects the files that a sparse worktree leaves out from being committed as deleted where the agent's index is lost,
/// or all of its repository; also from one who goes on with the task.
#[tokio::test]
async fn what_is_left_out_is_not_deleted_where_the_index_is_lost() {
    for breaks in
        ["rm .git/index", "echo rubbish > .git/index", "rm -r .git", "rm .git/index .git/info/sparse-checkout"]
    {
        let mut world = World::new();
        let repository = world.repository("upstream");
        for name in ["core/src", "core/docs", "docs"] {
            std::fs::create_dir_all(repository.join(name)).unwrap();
            std::fs::write(repository.join(name).join("file"), name).unwrap();
        }
        std::fs::write(repository.join("core/src/old"), "old").unwrap();
        let text = "sparse = ['core/src']\n";
        says(&repository, text);
        allow(&world, &repository, text);
        let (id, next) = (task(), task());
        let base = world.prepare(id, Some(&repository)).await.base;
        world.act(id, &format!("echo new > core/src/new; rm core/src/old; {breaks}")).await;
        let Work::Prepare(mut wanted) = preparing(next, Some(&repository), None) else { panic!("another work") };
        wanted.start = Start::Continue(id);
        let gone_on = world.run(next, Work::Prepare(wanted)).await;
        if let Outcome::Prepared(_) = gone_on {
            let status = git(&world.home.worktree(next), &["status", "--porcelain"]);
            assert_eq!(status, "D core/src/old\n?? core/src/new", "{breaks}");
        } else {
            assert!(breaks.contains("rubbish"), "{breaks}: {gone_on:?}");
        }
        let change = world.commit(id, base.as_deref()).await.expect("a change");
        let told = git(&world.bare(), &["diff", "--name-status", &base.expect("a commit"), &change.commit]);
        assert_eq!(told, "A\tcore/src/new\nD\tcore/src/old", "{breaks}: {change:?}");
    }
}
