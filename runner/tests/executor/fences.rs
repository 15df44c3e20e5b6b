//! What a fence must not take from a task: that its set-up and checks are run, and that people are told which of them failed.

use makima_core::agent::Own;
use makima_core::effect::{Arg, Check, Launch, Value, Work};
use makima_core::id::TaskId;
use makima_core::input::{ExitStatus, Outcome, Stream};
use makima_runner::config::SandboxFile;
use makima_runner::sandbox::{By, Network, Sandbox, Settled};

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

/// How what is started ends, and what it has said: to its standard output, and to its standard error.
async fn ends(world: &mut World, id: TaskId, launch: Launch) -> (ExitStatus, String, String) {
    let asked = world.ask(id, Work::Start(launch));
    match world.answer(asked).await {
        Outcome::Started { .. } => {}
        other => panic!("{other:?}"),
    }
    let status = world.exit(asked).await;
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    (status, text_of(&parts, Stream::Stdout), text_of(&parts, Stream::Stderr))
}

/// The same of a script behind these commands.
async fn runs(world: &mut World, id: TaskId, setup: &[&str], script: &str) -> (ExitStatus, String, String) {
    let setup = setup.iter().map(|command| (*command).to_owned()).collect();
    let argv = ["sh", "-c", script].map(|word| Arg::Text(word.to_owned())).to_vec();
    ends(world, id, Launch { setup, ..Launch::script(argv) }).await
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

/// Protects a machine's network where bubblewrap holds the rest: it makes a network of its own, for which it needs sockets itself.
#[tokio::test]
async fn without_a_network_agents_run_and_reach_nobody() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let speaks = format!(
        "perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0) or exit 1; exit !connect(S, pack_sockaddr_in({port}, inet_aton(\"127.0.0.1\")))' && echo tcp
         perl -MSocket -e 'exit !socketpair(A, B, PF_UNIX, SOCK_STREAM, 0)' && echo pair; \
         perl -MSocket -e 'exit !socket(S, PF_UNIX, SOCK_STREAM, 0)' && echo unix; true"
    );
    for (network, sockets, said) in [
        (Network::Open, true, "tcp\npair\nunix\n"),
        (Network::None, true, "pair\nunix\n"),
        (Network::Open, false, "tcp\npair\n"),
        (Network::None, false, "pair\n"),
    ] {
        for sandbox in fences(&SandboxFile { network, sockets, ..SandboxFile::default() }) {
            let by = sandbox.held_by().name();
            let (mut world, id) = world(sandbox).await;
            let (status, out, told) = runs(&mut world, id, &[], &speaks).await;
            assert_eq!((status, out.as_str()), (ExitStatus::Code(0), said), "{by}: {network:?} {sockets}: {told}");
        }
    }
}

/// Protects disks, memory and the kernel from an agent of the superuser's: only what is meant to be left is, however it is held.
#[tokio::test]
async fn of_what_the_superuser_may_little_is_left() {
    // CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, AUDIT_WRITE, SETFCAP
    const LEFT: u64 = 0xa004_05fb;
    for sandbox in fences(&SandboxFile::default()) {
        let by = sandbox.held_by().name();
        let (mut world, id) = world(sandbox).await;
        let sets = "sed -n 's/^Cap\\(Inh\\|Prm\\|Eff\\|Amb\\):.//p' /proc/self/status";
        let (_, out, told) = runs(&mut world, id, &[], sets).await;
        assert_eq!(out.lines().count(), 4, "{by}: {out}{told}");
        for set in out.lines() {
            let has = u64::from_str_radix(set, 16).unwrap();
            assert_eq!(has & !LEFT, 0, "{by}: {out}");
        }
    }
}

/// Protects what lies outside from programs and libraries that a repository names in its variables: what puts the fence up runs
/// without.
#[tokio::test]
async fn what_a_repository_names_is_not_run_outside() {
    for sandbox in fences(&SandboxFile::default()) {
        let by = sandbox.held_by().name();
        let (mut world, id) = world(sandbox).await;
        let (worktree, outside) = (world.home.worktree(id), world.path("outside"));
        for name in ["env", "bwrap"] {
            let text = format!("#!/bin/sh\necho by {name} > {}\nexec /usr/bin/{name} \"$@\"\n", outside.display());
            std::fs::write(worktree.join(name), text).unwrap();
            std::fs::set_permissions(worktree.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:/usr/bin:/bin", worktree.display());
        let argv =
            ["/bin/sh", "-c", "echo $PATH; echo $WORD; env true"].map(|word| Arg::Text(word.to_owned())).to_vec();
        let env = [("PATH", path.as_str()), ("WORD", "a word"), ("LD_PRELOAD", "/nowhere/at all.so")];
        let env = env.map(|(name, value)| (name.to_owned(), Value::Text(value.to_owned()))).to_vec();
        let (_, out, _) = ends(&mut world, id, Launch { env, ..Launch::script(argv) }).await;
        assert_eq!(out, format!("{path}\na word\n"), "{by}: the agent gets them");
        assert!(!outside.exists(), "{by}: {:?}", std::fs::read_to_string(&outside));
    }
}

/// Protects tasks from a fence in which each of them would die at once: what is tried is all of what is started then.
#[test]
fn bubblewrap_is_not_taken_where_what_goes_with_it_is_too_old() {
    let folder = crate::support::folder();
    let (home, programs) = (folder.path().join("home"), folder.path().join("programs"));
    for path in [&home, &programs] {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::write(home.join("config.toml"), "[sandbox]\nby = 'bubblewrap'\n").unwrap();
    let said = || {
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_makima"))
            .args(["doctor", "--json"])
            .env("MAKIMA_HOME", &home)
            .env("MAKIMA_SANDBOX", "auto")
            .env("PATH", path)
            .output()
            .unwrap();
        let checks: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let check = checks.as_array().unwrap().iter().find(|check| check["check"] == "sandbox").unwrap();
        check["detail"].as_str().unwrap().to_owned()
    };
    if !said().starts_with("held by bubblewrap") {
        return eprintln!("skipped: {}", said());
    }
    let env = programs.join("env");
    std::fs::write(&env, "#!/bin/sh\necho \"env: unrecognized option '$1'\" >&2\nexit 125\n").unwrap();
    std::fs::set_permissions(&env, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let told = said();
    assert!(told.starts_with("none: bubblewrap: ") && told.contains("env: unrecognized option"), "{told}");
}

/// A world whose agents have a folder of their own, named by `AGENT_HOME`, with a file and a folder in it that are named as well.
struct Owned {
    world: World,
    repository: std::path::PathBuf,
    folder: std::path::PathBuf,
    /// Outside, with a folder and a file in it.
    outside: std::path::PathBuf,
}

impl Owned {
    fn new(sandbox: Sandbox) -> Self {
        let folder = crate::support::folder();
        let root = folder.path().canonicalize().unwrap();
        for name in ["agent", "outside/folder", "user"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::write(root.join("outside/file"), "as it was").unwrap();
        // That the user keeps it elsewhere is the user's own link.
        std::os::unix::fs::symlink(root.join("agent"), root.join("link")).unwrap();
        let agent_env = vec![("AGENT_HOME".to_owned(), root.join("link").display().to_string())];
        let world = World::on(folder, Options { sandbox: Some(sandbox), agent_env, ..Options::default() });
        let repository = world.repository("upstream");
        Self { world, repository, folder: root.join("agent"), outside: root.join("outside") }
    }

    async fn runs(&mut self, env: &[(&str, &str)], script: &str) -> String {
        let id = task();
        self.world.prepare(id, Some(&self.repository)).await;
        let argv = ["sh", "-c", script].map(|word| Arg::Text(word.to_owned())).to_vec();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), Value::Text((*value).to_owned()))).collect();
        let own = |name, is_file| Own { variable: "AGENT_HOME", usual: ".agent", name, is_file };
        let own = vec![own("", false), own("settings.json", true), own("data", false)];
        let (_, out, told) = ends(&mut self.world, id, Launch { env, own, ..Launch::script(argv) }).await;
        out + &told
    }
}

/// Protects everything outside from an agent that lays a link where the next task's fence is to be open.
#[tokio::test]
async fn a_link_that_an_agent_made_opens_no_fence() {
    for sandbox in fences(&SandboxFile::default()) {
        let by = sandbox.held_by().name();
        let mut owned = Owned::new(sandbox);
        let outside = owned.outside.display().to_string();
        let lays = format!(
            "cd $AGENT_HOME; echo x > settings.json; echo x > data/kept && rm -r settings.json data; \
             ln -s {outside} settings.json; ln -s {outside}/folder data; echo laid"
        );
        assert_eq!(owned.runs(&[], &lays).await, "laid\n", "{by}: what is its own it writes to");
        let goes = format!(
            "for to in {outside}/file {outside}/new {outside}/folder/new $AGENT_HOME/settings.json/new; do \
             echo x > $to && echo $to; done 2> /dev/null; echo x > $AGENT_HOME/here && echo here"
        );
        assert_eq!(owned.runs(&[], &goes).await, "here\n", "{by}");
        assert!(!owned.outside.join("new").exists() && !owned.outside.join("folder/new").exists(), "{by}");
        assert!(owned.folder.join("here").exists(), "{by}");
    }
}

/// Protects everything outside from a repository that says to an agent that its own folders are elsewhere.
#[tokio::test]
async fn what_a_repository_names_opens_no_fence() {
    for sandbox in fences(&SandboxFile::default()) {
        let by = sandbox.held_by().name();
        let mut owned = Owned::new(sandbox);
        let outside = owned.outside.display().to_string();
        let names = ["AGENT_HOME", "XDG_CACHE_HOME", "HOME", "TMPDIR"].map(|name| (name, outside.as_str()));
        let said = owned.runs(&names, "echo $AGENT_HOME; echo x > $AGENT_HOME/new && echo out").await;
        assert!(said.starts_with(&format!("{outside}\n")) && !said.contains("out\n"), "{by}: {said}");
        assert!(!owned.outside.join("new").exists(), "{by}");
    }
}

/// Protects what is to be hidden and comes to be only while the daemon runs.
#[tokio::test]
async fn what_is_to_be_hidden_is_so_as_soon_as_it_is_there() {
    let place = crate::support::folder();
    let root = place.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(&root, root.join("way")).unwrap();
    // By a name that leads there.
    let hide = vec![root.join("way/keys/new"), root.join("way/alone")];
    let read = format!("cat {0}/keys/new/key {0}/alone {0}/keys/open 2> /dev/null; true", root.display());
    for sandbox in fences(&SandboxFile { hide, ..SandboxFile::default() }) {
        let by = sandbox.held_by().name();
        let (mut before, id) = world(sandbox.clone()).await;
        let (status, out, told) = runs(&mut before, id, &[], &read).await;
        assert_eq!((status, out.as_str()), (ExitStatus::Code(0), ""), "{by}: nothing is there: {told}");
        std::fs::create_dir_all(root.join("keys/new")).unwrap();
        for name in ["keys/new/key", "alone", "keys/open"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        let (mut world, id) = world(sandbox).await;
        let (status, out, told) = runs(&mut world, id, &[], &read).await;
        assert_eq!((status, out.as_str()), (ExitStatus::Code(0), "keys/open"), "{by}: {told}");
        std::fs::remove_dir_all(root.join("keys")).unwrap();
        std::fs::remove_file(root.join("alone")).unwrap();
    }
}
