//! What a fence must not take from a task: that its set-up and checks are run, and that people are told which of them failed.

use makima_core::effect::{Arg, Check, Launch, Work};
use makima_core::id::TaskId;
use makima_core::input::{ExitStatus, Outcome, Stream};
use makima_runner::config::SandboxFile;
use makima_runner::sandbox::{By, Sandbox, Settled};

use crate::support::{Options, World, task, text_of};

/// The fences that this machine has, as this file has them.
fn fences(file: &SandboxFile) -> Vec<Sandbox> {
    let settled = |by| Sandbox::settle(&SandboxFile { by: Some(by), ..file.clone() });
    let fences = [By::Landlock, By::Bubblewrap].into_iter().filter_map(|by| match settled(by) {
        Ok(Settled::On(sandbox)) => Some(sandbox),
        Ok(Settled::Off(why)) => {
            eprintln!("skipped: {why}");
            None
        }
        Err(why) => panic!("{why:?}"),
    });
    fences.collect()
}

async fn world(sandbox: Sandbox) -> (World, TaskId) {
    let mut world = World::with(Options { sandbox: Some(sandbox), ..Options::default() });
    let (id, repository) = (task(), world.repository("upstream"));
    world.prepare(id, Some(&repository)).await;
    (world, id)
}

/// How a script ends behind these commands, and what both have said.
async fn runs(world: &mut World, id: TaskId, setup: &[&str], script: &str) -> (ExitStatus, String, String) {
    let setup = setup.iter().map(|command| (*command).to_owned()).collect();
    let argv = ["sh", "-c", script].map(|word| Arg::Text(word.to_owned())).to_vec();
    let asked = world.ask(id, Work::Start(Launch { setup, ..Launch::script(argv) }));
    match world.answer(asked).await {
        Outcome::Started { .. } => {}
        other => panic!("{other:?}"),
    }
    let status = world.exit(asked).await;
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    (status, text_of(&parts, Stream::Stdout), text_of(&parts, Stream::Stderr))
}

async fn check(world: &mut World, id: TaskId, commands: &[&str]) -> Option<String> {
    let commands = commands.iter().map(|command| (*command).to_owned()).collect();
    match world.run(id, Work::Check(Box::new(Check { commands, env: Vec::new() }))).await {
        Outcome::Checked { failed } => failed,
        other => panic!("{other:?}"),
    }
}

/// Protects people from reading of an exit code where a command of theirs has failed, and of a failure where none has.
#[tokio::test]
async fn inside_a_fence_it_is_known_which_command_failed() {
    for sandbox in fences(&SandboxFile::default()) {
        let by = sandbox.held_by().name();
        let (mut first, id) = world(sandbox.clone()).await;
        let (status, out, told) = runs(&mut first, id, &["echo one", "exit 7", "touch three"], "touch agent").await;
        assert_eq!((status, out.as_str()), (ExitStatus::NotSetUp(7), "one\n"), "{by}: {told}");
        assert!(told.ends_with("$ exit 7\nmakima: `exit 7` failed with exit code 7\n"), "{by}: {told}");
        let worktree = first.home.worktree(id);
        assert!(!worktree.join("agent").exists() && !worktree.join("three").exists());

        let (mut world, id) = world(sandbox).await;
        let (status, out, told) = runs(&mut world, id, &["echo set up; echo x > made"], "cat made; exit 7").await;
        assert_eq!((status, out.as_str()), (ExitStatus::Code(7), "set up\nx\n"), "{by}: the agent's own: {told}");
        assert_eq!(check(&mut world, id, &["test -f made"]).await, None, "{by}");
        let failed = check(&mut world, id, &["test -f made", "exit 2", "touch three"]).await;
        assert_eq!(failed.as_deref(), Some("the check `exit 2` failed with exit code 2"), "{by}");
        assert_eq!(check(&mut world, id, &["true"]).await, None, "{by}: what failed before is forgotten");
    }
}

/// Protects who reads of a task's end from an agent that would have it be one of its set-up.
#[tokio::test]
async fn an_agent_cannot_tell_in_the_name_of_its_set_up() {
    for sandbox in fences(&SandboxFile::default()) {
        let by = sandbox.held_by().name();
        let (mut world, id) = world(sandbox).await;
        // `.launch` is how the daemon hears that it has begun.
        let looks = "ls -A $TMPDIR | grep -v '^.launch$'; find /proc/$$/fd -lname \"$TMPDIR/*\"; \
                     for name in $TMPDIR/.set-up $TMPDIR/../set-up.failed; do echo '9\nit was not' > $name; done; exit 7";
        let (status, out, told) = runs(&mut world, id, &["true"], looks).await;
        assert_eq!((status, out.as_str()), (ExitStatus::Code(7), ""), "{by}: {told}");
    }
}
