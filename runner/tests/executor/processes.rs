//! Starting agents, and ending all that they started.

use makima_core::effect::{Arg, Launch, Signal, Value, Work};
use makima_core::id::TaskId;
use makima_core::input::{ExitStatus, Outcome, Stream};

use crate::support::{Options, World, is_alive, leaves, number_in, portable, shell, task, text_of};

/// A world with one worktree.
async fn ready(options: Options) -> (World, TaskId) {
    let mut world = World::with(options);
    let id = task();
    world.prepare(id, None).await;
    (world, id)
}

#[tokio::test]
async fn an_agent_runs_in_its_worktree_with_what_it_may_know() {
    let more = [("OPENAI_API_KEY", "sk-1"), ("LC_TIME", "C"), ("MAKIMA_KEY", "x"), ("GIT_DIR", "/tmp")];
    let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let agent_env = vec![("TEAM".to_owned(), "blue".to_owned())];
    let (mut world, id) = ready(Options { more: more.to_vec(), agent_env, ..Options::default() }).await;
    let mut launch = shell("pwd; env | sort; cat; ps -o sid= -p $$; exit 7");
    launch.env.push(("DEPTH".to_owned(), Value::Text("1".to_owned())));
    let effect = world.ask(id, Work::Start(launch));
    let pid = match world.answer(effect).await {
        Outcome::Started { pid, .. } => pid,
        other => panic!("{other:?}"),
    };
    // `cat` ends with its input: the agent's end closes it.
    assert_eq!(world.run(id, Work::Stdin { n: 1, text: "hello\n".to_owned() }).await, Outcome::Done);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(world.run(id, Work::Signal { signal: Signal::Terminate }).await, Outcome::Done);
    assert_eq!(world.exit(effect).await, ExitStatus::Signal(15));
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    let text = text_of(&parts, Stream::Stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first().copied(), world.home.worktree(id).to_str());
    for line in [
        "TERM=dumb",
        "TEAM=blue",
        "DEPTH=1",
        "LC_TIME=C",
        "GIT_AUTHOR_NAME=Ada",
        "hello",
        "GIT_COMMITTER_EMAIL=ada@example.org",
        &format!("TMPDIR={}", world.home.task(id).join("tmp").display()),
    ] {
        assert!(lines.contains(&line), "{line} is missing in {text}");
    }
    for name in ["OPENAI_API_KEY", "MAKIMA_KEY", "GIT_DIR"] {
        assert!(!text.contains(name), "{name} is in {text}");
    }
    assert!(!is_alive(i32::try_from(pid).unwrap()));
    assert!(world.is_quiet());
}

#[tokio::test]
async fn an_agent_leads_a_group_in_a_session_of_its_own_and_has_no_descriptor_of_ours() {
    let (mut world, id) = ready(Options::default()).await;
    let (effect, pid) = world.start(id, "ps -o pid=,sid=,pgid= -p $$; ls /proc/$$/fd | tr '\\n' ' '; exit 7").await;
    assert_eq!(world.exit(effect).await, ExitStatus::Code(7));
    world.empty(id).await;
    let (parts, _) = world.output(id, 0).await;
    let text = text_of(&parts, Stream::Stdout);
    let words: Vec<&str> = text.split_whitespace().collect();
    let pid = pid.to_string();
    let (session, group) = (words[1], words[2]);
    // 0 where the session of these tests began outside of their pid namespace: `ps` may say so, rustix may not.
    let own = std::process::Command::new("ps").args(["-o", "sid=", "-p", &std::process::id().to_string()]).output();
    let own = String::from_utf8(own.unwrap().stdout).unwrap();
    assert_eq!((words[0], group), (pid.as_str(), pid.as_str()), "{text}");
    assert!(session != pid && session != own.trim(), "its supervisor's: {text}");
    // What whoever runs these tests left open is open in any child.
    let mut plain = std::process::Command::new("sh");
    let plain = plain.args(["-c", "ls /proc/$$/fd; exit"]).output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    let more: Vec<&str> = words.into_iter().skip(3).filter(|fd| !plain.lines().any(|open| open == *fd)).collect();
    // In the portable way a lock is lent to it.
    assert_eq!(more.len(), usize::from(portable()), "{text}");
}

#[tokio::test]
async fn what_cannot_be_run_is_told_and_is_no_exit() {
    let (mut world, id) = ready(Options::default()).await;
    let launch = |program: &str| Work::Start(Launch::script(vec![Arg::Text(program.to_owned())]));
    let why = world.refused(id, launch("no-such-agent")).await;
    assert_eq!(why, "`no-such-agent` was not found; is it installed, and on the PATH?");
    let why = world.refused(id, launch("/etc/passwd")).await;
    assert_eq!(why, "`/etc/passwd` is not a program that may be run");
    let why = world.refused(id, launch(world.path("user").to_str().unwrap().to_owned().as_str())).await;
    assert!(why.contains("is not a program"), "{why}");
    // An exit with the launcher's own status is an exit.
    for code in [127, 2, 0] {
        let id = task();
        world.prepare(id, None).await;
        let (effect, _) = world.start(id, &format!("exit {code}")).await;
        assert_eq!(world.exit(effect).await, ExitStatus::Code(code));
        world.empty(id).await;
    }
    assert!(world.is_quiet());
    std::fs::remove_dir_all(world.home.worktree(id)).unwrap();
    let why = world.refused(id, Work::Start(shell("true"))).await;
    assert!(why.ends_with("is gone"), "{why}");
}

/// Ways to get away from a task's end. Each writes the number of who got away into `pid`.
const WAYS: &[(&str, &str)] = &[
    ("plain", "sleep 1000 & echo $! > pid"),
    ("session", "setsid sh -c 'echo $$ > pid; exec sleep 1000' &"),
    ("double fork", "( setsid sh -c 'sh -c \"echo \\$\\$ > pid; exec sleep 1000\" & exit' & )"),
    ("closed pipes", "setsid sh -c 'echo $$ > pid; exec sleep 1000' < /dev/null > /dev/null 2>&1 &"),
    ("stopped", "setsid sh -c 'echo $$ > pid; kill -STOP $$; exec sleep 1000' &"),
    ("deaf", "setsid sh -c 'trap \"\" INT TERM HUP; echo $$ > pid; while :; do sleep 1; done' &"),
    ("breeding", "setsid sh -c 'echo $$ > pid; while :; do sleep 0.01 & done' > /dev/null 2>&1 &"),
];

/// Protects from the promise that the portable way does not make: who leaves the agent's group goes on, is told of, and
/// is not signalled.
#[tokio::test]
async fn in_the_portable_way_who_leaves_the_group_gets_away() {
    if !portable() {
        return eprintln!("left out: this is a run in the full way");
    }
    let (mut world, id) = ready(Options::default()).await;
    let script = "setsid sh -c 'echo $$ > pid; exec sleep 1000' & while [ ! -s pid ]; do sleep 0.01; done";
    let (effect, _) = world.start(id, script).await;
    let survivor = number_in(&world.home.worktree(id).join("pid")).await;
    assert_eq!(world.exit(effect).await, ExitStatus::Code(0));
    assert_eq!(world.empty(id).await.0, 0);
    assert!(is_alive(survivor));
    let survivor = rustix::process::Pid::from_raw(survivor).unwrap();
    rustix::process::kill_process(survivor, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn nobody_gets_away() {
    if portable() {
        return eprintln!("left out in the portable way: who leaves the agent's group gets away");
    }
    for groups in [true, false] {
        for (way, script) in WAYS {
            let (mut world, id) = ready(Options { groups, ..Options::default() }).await;
            let (effect, _) =
                world.start(id, &format!("{script}\nwhile [ ! -s pid ]; do sleep 0.01; done; sleep 0.1")).await;
            let survivor = number_in(&world.home.worktree(id).join("pid")).await;
            assert_eq!(world.exit(effect).await, ExitStatus::Code(0), "{way}");
            assert!(is_alive(survivor), "{way}");
            let (killed, _) = world.empty(id).await;
            assert!(killed >= 1, "{way}");
            assert!(!is_alive(survivor), "{way}, groups {groups}");
            // Again there is nobody.
            assert_eq!(world.empty(id).await.0, 0, "{way}");
        }
    }
}

#[tokio::test]
async fn a_cleared_environment_in_another_session_is_found_by_the_group() {
    let (mut world, id) = ready(Options::default()).await;
    let started = std::fs::read_dir("/sys/fs/cgroup").is_ok();
    let script = "( setsid env -i sh -c 'echo $$ > pid; exec sleep 1000' & )\nwhile [ ! -s pid ]; do sleep 0.01; done";
    let (effect, _) = world.start(id, script).await;
    let survivor = number_in(&world.home.worktree(id).join("pid")).await;
    world.exit(effect).await;
    let record = std::fs::read_to_string(world.home.task(id).join("started.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let Some(group) = record.get("group").and_then(|group| group.as_str()) else {
        eprintln!("skipped: no control group can be made here (file system there: {started})");
        let _ = std::process::Command::new("kill").args(["-9", &survivor.to_string()]).status();
        return;
    };
    assert!(std::path::Path::new(group).exists());
    assert_eq!(world.empty(id).await.0, 1);
    assert!(!is_alive(survivor));
    assert!(!std::path::Path::new(group).exists(), "the group is left behind");
}

#[tokio::test]
async fn others_are_left_alone() {
    let mut world = World::new();
    let (one, two) = (task(), task());
    for id in [one, two] {
        world.prepare(id, None).await;
    }
    world.start(one, "sleep 1000").await;
    let (_, other) = world.start(two, "sleep 1000").await;
    world.empty(one).await;
    assert!(is_alive(i32::try_from(other).unwrap()));
    world.empty(two).await;
}

#[tokio::test]
async fn an_agent_that_is_killed_is_not_counted_as_left_over() {
    let (mut world, id) = ready(Options::default()).await;
    let (effect, _) = world.start(id, "exec sleep 1000").await;
    assert_eq!(world.empty(id).await.0, 0);
    assert_eq!(world.exit(effect).await, ExitStatus::Signal(9));
}

#[tokio::test]
async fn a_signal_reaches_the_group_and_what_is_left_of_it() {
    let (mut world, id) = ready(Options::default()).await;
    let script = "trap 'echo int; exit 3' INT; sleep 1000 & wait";
    let (effect, _) = world.start(id, script).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(world.run(id, Work::Signal { signal: Signal::Interrupt }).await, Outcome::Done);
    assert_eq!(world.exit(effect).await, ExitStatus::Code(3));
    world.empty(id).await;
    assert_eq!(world.run(id, Work::Signal { signal: Signal::Interrupt }).await, Outcome::Done);
    // The leader has gone, others have not.
    let other = task();
    world.prepare(other, None).await;
    let (effect, _) = world.start(other, "sleep 1000 & echo $! > pid").await;
    let survivor = number_in(&world.home.worktree(other).join("pid")).await;
    world.exit(effect).await;
    assert_eq!(world.run(other, Work::Signal { signal: Signal::Terminate }).await, Outcome::Done);
    for _ in 0..500 {
        if !is_alive(survivor) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!is_alive(survivor));
}

#[tokio::test]
async fn the_next_life_of_the_daemon_ends_what_the_last_one_left() {
    for groups in [true, false] {
        let (mut world, id) = ready(Options { groups, ..Options::default() }).await;
        let leaves = leaves();
        let script = format!("{leaves} sleep 1000 & echo $! > pid; echo before; sleep 1000");
        let (_, pid) = world.start(id, &script).await;
        let survivor = number_in(&world.home.worktree(id).join("pid")).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut world = world.again();
        assert!(is_alive(survivor));
        let (killed, log_end) = world.empty(id).await;
        assert!(killed >= 1 || portable(), "{killed}");
        assert!(!is_alive(survivor) && !is_alive(i32::try_from(pid).unwrap()));
        let (parts, end) = world.output(id, 0).await;
        assert_eq!((text_of(&parts, Stream::Stdout).as_str(), end), ("before\n", log_end));
    }
}

#[tokio::test]
async fn a_task_that_was_never_started_is_empty() {
    let (mut world, id) = ready(Options::default()).await;
    assert_eq!(world.empty(id).await, (0, 0));
    assert_eq!(world.run(id, Work::Signal { signal: Signal::Interrupt }).await, Outcome::Done);
    let why = world.refused(id, Work::Stdin { n: 2, text: "x".to_owned() }).await;
    assert!(why.contains("no agent"), "{why}");
}

#[tokio::test]
async fn what_an_agent_does_not_read_can_be_given_up() {
    let (mut world, id) = ready(Options::default()).await;
    world.start(id, "sleep 1000").await;
    let effect = world.ask(id, Work::Stdin { n: 3, text: "x".repeat(1 << 20) });
    let next = world.ask(id, Work::Stdin { n: 4, text: "y".to_owned() });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    world.executor.cancel(effect);
    assert!(matches!(world.answer(effect).await, Outcome::Failed(why) if why.contains("cancelled")));
    world.empty(id).await;
    let answer = world.answer(next).await;
    assert!(
        matches!(&answer, Outcome::Failed(why) if why.contains("has ended") || why.contains("closed")),
        "{answer:?}"
    );
}

/// Somebody has removed the folder of a task whose agent runs: there is nobody any more to write down its end for.
#[tokio::test]
async fn a_supervisor_whose_folder_is_gone_leaves_with_its_agent() {
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    let (agent, _) = world.start(id, "sleep 0.3").await;
    let held: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.home.task(id).join("agent")).unwrap()).unwrap();
    let supervisor = i32::try_from(held["supervisor"]["pid"].as_i64().unwrap()).unwrap();
    std::fs::remove_dir_all(world.home.task(id)).unwrap();
    world.exit(agent).await;
    for _ in 0..500 {
        if !is_alive(supervisor) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let left = rustix::process::Pid::from_raw(supervisor).expect("a number");
    let _ = rustix::process::kill_process(left, rustix::process::Signal::KILL);
    panic!("the supervisor stays for ever");
}

/// Protects the processes of another daemon, with a home of its own, that was handed a task of the same id.
#[tokio::test]
async fn a_task_of_the_same_id_in_another_home_is_left_alone() {
    let (mut world, id) = ready(Options::default()).await;
    let mut other = World::new();
    other.prepare(id, None).await;
    let (theirs, pid) = other.start(id, "echo on; while :; do sleep 0.05; done").await;
    let (ours, _) = world.start(id, "while :; do sleep 0.05; done").await;
    assert_eq!(world.run(id, Work::Signal { signal: Signal::Terminate }).await, Outcome::Done);
    assert_eq!(world.exit(ours).await, ExitStatus::Signal(15));
    world.empty(id).await;
    assert!(is_alive(i32::try_from(pid).unwrap()), "it is another daemon's");
    assert_eq!(other.run(id, Work::Signal { signal: Signal::Terminate }).await, Outcome::Done);
    assert_eq!(other.exit(theirs).await, ExitStatus::Signal(15));
    other.empty(id).await;
}

/// Protects an end from waiting for ever for output: who waited for more of a log that nobody had in hand hears that there
/// is no more.
#[tokio::test]
async fn who_waits_for_more_output_hears_of_its_end() {
    let (mut world, id) = ready(Options::default()).await;
    world.start(id, "echo on; while :; do sleep 0.05; done").await;
    let mut world = world.again();
    let first = loop {
        match world.run(id, Work::Read { from: 0 }).await {
            Outcome::Chunk(chunk) if chunk.to > 0 => break chunk,
            Outcome::Chunk(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            other => panic!("{other:?}"),
        }
    };
    let waits = world.ask(id, Work::Read { from: first.to });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let (_, end) = world.empty(id).await;
    assert_eq!(end, first.to);
    assert!(matches!(world.answer(waits).await, Outcome::Chunk(chunk) if chunk.from == chunk.to));
}
