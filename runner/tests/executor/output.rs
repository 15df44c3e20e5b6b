//! What agents write, and how it is read.

use makima_core::effect::Work;
use makima_core::id::TaskId;
use makima_core::input::{Chunk, Outcome, Part, Stream};

use crate::support::{Options, World, portable, task, text_of};

async fn ready() -> (World, TaskId) {
    let mut world = World::new();
    let id = task();
    world.prepare(id, None).await;
    (world, id)
}

async fn chunk(world: &mut World, id: TaskId, from: u64) -> Chunk {
    match world.run(id, Work::Read { from }).await {
        Outcome::Chunk(chunk) => chunk,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_line_is_there_as_soon_as_it_is_written() {
    let (mut world, id) = ready().await;
    world.start(id, "echo one; read x; echo two >&2; read x; printf three; read x").await;
    let first = chunk(&mut world, id, 0).await;
    assert_eq!(first.parts, [Part { stream: Stream::Stdout, text: "one\n".to_owned(), to: 13, line_end: Some(13) }]);
    let waiting = world.ask(id, Work::Read { from: first.to });
    world.run(id, Work::Stdin { n: 1, text: "\n".to_owned() }).await;
    let second = match world.answer(waiting).await {
        Outcome::Chunk(chunk) => chunk,
        other => panic!("{other:?}"),
    };
    assert_eq!(second.parts, [Part { stream: Stream::Stderr, text: "two\n".to_owned(), to: 26, line_end: Some(26) }]);
    world.run(id, Work::Stdin { n: 2, text: "\n".to_owned() }).await;
    let third = chunk(&mut world, id, second.to).await;
    assert_eq!(third.parts, [Part { stream: Stream::Stdout, text: "three".to_owned(), to: third.to, line_end: None }]);
    // Nothing more: one that waits is answered when it is cancelled.
    let waiting = world.ask(id, Work::Read { from: third.to });
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    world.executor.cancel(waiting);
    let called_off = Chunk { from: third.to, to: third.to, ..Chunk::default() };
    assert_eq!(world.answer(waiting).await, Outcome::Chunk(called_off));
    let waiting = world.ask(id, Work::Read { from: third.to });
    assert_eq!(world.empty(id).await.1, third.to);
    let empty = Chunk {
        from: third.to,
        to: third.to,
        log: third.to,
        closed: true,
        begun: Some(Stream::Stdout),
        parts: Vec::new(),
    };
    assert_eq!(world.answer(waiting).await, Outcome::Chunk(empty));
}

#[tokio::test]
async fn much_output_is_read_whole_and_in_order() {
    let (mut world, id) = ready().await;
    world.start(id, "seq 1 300000; seq 1 1000 >&2").await;
    let (parts, end) = world.output(id, 0).await;
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(text_of(&parts, Stream::Stdout) == expected);
    let expected: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    assert!(text_of(&parts, Stream::Stderr) == expected);
    assert!(parts.iter().all(|part| part.text.len() <= 64 * 1024));
    assert_eq!(world.empty(id).await.1, end);
    // A next life of the daemon goes on anywhere.
    let mut world = world.again();
    let (mut texts, mut at) = (Vec::new(), 0);
    while at < end {
        let next = chunk(&mut world, id, at).await;
        let last = next.parts.last().unwrap();
        // At the last whole line, as somebody who has lost the rest would.
        at = last.line_end.unwrap();
        let cut = last.text.rfind('\n').unwrap() + 1;
        texts.extend(next.parts.iter().take(next.parts.len() - 1).map(|part| part.text.clone()));
        texts.push(last.text[..cut].to_owned());
        if at % 3 == 0 {
            world = world.again();
        }
    }
    let whole: String = parts.iter().map(|part| part.text.as_str()).collect();
    assert!(texts.concat() == whole);
}

#[tokio::test]
async fn characters_are_not_cut_and_what_is_none_is_replaced() {
    let (mut world, id) = ready().await;
    let script =
        "printf 'a\\342'; sleep 0.1; printf '\\202'; sleep 0.1; echo b >&2; sleep 0.1; printf '\\254c\\377d\\342'";
    world.start(id, script).await;
    let (parts, _) = world.output(id, 0).await;
    assert_eq!(text_of(&parts, Stream::Stdout), "a€c\u{fffd}d\u{fffd}");
    assert_eq!(text_of(&parts, Stream::Stderr), "b\n");
}

#[tokio::test]
async fn secrets_do_not_come_through_however_they_are_written() {
    let agent_env = vec![("MY_TOKEN".to_owned(), "s3cret-t0ken+1".to_owned())];
    let mut world = World::with(Options { agent_env, ..Options::default() });
    let id = task();
    world.prepare(id, None).await;
    let script = r#"echo "a $MY_TOKEN b"; printf 's3cret'; sleep 0.1; printf -- '-t0ken+1 c\n'; sleep 0.1
        printf 'd s3cre'; sleep 0.1; echo between >&2; sleep 0.1; printf 't-t0ken+1 e\n'; sleep 0.1
        printf "x$MY_TOKEN" | base64; printf "xx$MY_TOKEN" | base64; printf "xxx$MY_TOKEN" | base64
        echo 's3cret%2Dt0ken%2B1'; printf 'f s3cr'"#;
    world.start(id, script).await;
    let (parts, _) = world.output(id, 0).await;
    let text = text_of(&parts, Stream::Stdout);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("a *** b"));
    assert_eq!(lines.next(), Some("*** c"));
    assert_eq!(lines.next(), Some("d *** e"));
    for line in lines.by_ref().take(3) {
        assert!(line.contains("***"), "{line}");
    }
    assert_eq!(lines.next(), Some("***"));
    assert_eq!(lines.next(), Some("f s3cr"));
}

/// Protects what the user gives to agents only: any value of it is a secret, whatever its name.
#[tokio::test]
async fn what_is_configured_for_agents_is_masked_whatever_its_name() {
    let agent_env = [("DATABASE_URL", "postgres://ada:pw@db/x"), ("TEAM", "blue"), ("LANG", "de_DE.UTF-8")];
    let agent_env = agent_env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let more = vec![("LC_TIME".to_owned(), "en_GB.UTF-8".to_owned())];
    let mut world = World::with(Options { agent_env, more, ..Options::default() });
    let id = task();
    world.prepare(id, None).await;
    world.start(id, "echo $DATABASE_URL $TEAM $LANG $LC_TIME").await;
    let (parts, _) = world.output(id, 0).await;
    assert_eq!(text_of(&parts, Stream::Stdout), "*** blue *** en_GB.UTF-8\n");
    assert_eq!(world.secrets.masked("cannot reach postgres://ada:pw@db/x"), "cannot reach ***");
}

#[tokio::test]
async fn a_stream_that_a_grandchild_holds_open_ends_with_the_tree() {
    let (mut world, id) = ready().await;
    let (effect, _) = world.start(id, "sleep 1000 & echo done").await;
    world.exit(effect).await;
    let first = chunk(&mut world, id, 0).await;
    let waiting = world.ask(id, Work::Read { from: first.to });
    assert_eq!(world.empty(id).await, (u32::from(!portable()), first.to));
    assert!(matches!(world.answer(waiting).await, Outcome::Chunk(chunk) if chunk.to == first.to));
}

#[tokio::test]
async fn a_record_that_a_crash_has_torn_is_cut() {
    let (mut world, id) = ready().await;
    world.act(id, "echo one").await;
    let mut world = world.again();
    let path = world.home.task(id).join("output.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let whole = bytes.len() as u64;
    bytes.extend_from_slice(&[0, 1, 0, 0, 0, 50, 0, 0, 0, b'x']);
    std::fs::write(&path, bytes).unwrap();
    let (parts, end) = world.output(id, 0).await;
    assert_eq!((text_of(&parts, Stream::Stdout).as_str(), end), ("one\n", whole));
    // A place that is none.
    let why = world.refused(id, Work::Read { from: 3 }).await;
    assert!(why.contains("has no position 3"), "{why}");
}

#[tokio::test]
async fn a_full_disk_neither_blocks_nor_kills_and_is_said() {
    let place = crate::support::folder();
    let mount = |args: &[&str]| {
        let status = std::process::Command::new("mount").args(args).arg(place.path()).status();
        status.is_ok_and(|status| status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=300m", "none"]) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let unmount = || std::process::Command::new("umount").arg("-l").arg(place.path()).status();
    let folder = tempfile::tempdir_in(place.path()).unwrap();
    std::fs::create_dir(folder.path().join("user")).unwrap();
    let mut world = World::on(folder, Options::default());
    let id = task();
    world.prepare(id, None).await;
    let fill = world.path("fill");
    let script = format!(
        "echo first; sleep 0.2; head -c 1G /dev/zero > {0} 2> /dev/null; seq 1 100000; rm {0}; sleep 0.2; echo last",
        fill.display()
    );
    let (effect, _) = world.start(id, &script).await;
    assert_eq!(world.exit(effect).await, makima_core::input::ExitStatus::Code(0));
    let (_, end) = world.empty(id).await;
    let (parts, to) = world.output(id, 0).await;
    assert_eq!(to, end);
    let out = text_of(&parts, Stream::Stdout);
    assert!(out.starts_with("first\n") && out.ends_with("last\n"), "{} bytes", out.len());
    let said = text_of(&parts, Stream::Stderr);
    assert!(said.contains("bytes of output are missing here"), "{said}");
    // No room for a worktree: told with the numbers.
    std::process::Command::new("head")
        .args(["-c", "200M", "/dev/zero"])
        .stdout(std::fs::File::create(&fill).unwrap())
        .status()
        .unwrap();
    let other = task();
    let why = world.refused(other, crate::support::preparing(other, None, None)).await;
    assert!(why.starts_with("only ") && why.contains("200 MiB"), "{why}");
    drop(world);
    let _ = unmount();
}

/// The disk is full until long after the agent's end: nobody gives its supervisor up before it has said what is missing.
#[tokio::test]
async fn what_a_full_disk_took_is_said_however_long_it_is_full() {
    let Some(disk) = crate::support::Disk::of("300m") else { return };
    let (folder, elsewhere) = (disk.folder(), crate::support::folder());
    std::fs::create_dir(folder.path().join("user")).unwrap();
    let mut world = World::on(folder, Options::default());
    let (id, go) = (task(), elsewhere.path().join("go"));
    world.prepare(id, None).await;
    // A record that ends where a page of the disk does: not even a word fits behind it.
    let first = 4096 - 9;
    let script = format!("printf '%{first}s' x; until test -e {}; do sleep 0.02; done; seq 1 20000", go.display());
    let (effect, _) = world.start(id, &script).await;
    let log = world.home.task(id).join("output.log");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while log.metadata().is_ok_and(|log| log.len() < 4096) && std::time::Instant::now() < until {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    disk.fill(0);
    std::fs::write(&go, "").unwrap();
    assert_eq!(world.exit(effect).await, makima_core::input::ExitStatus::Code(0));
    let outcome = world.run(id, Work::Empty).await;
    assert!(matches!(&outcome, Outcome::NoRoom(why) if why.contains("its supervisor cannot write")), "{outcome:?}");
    disk.empty();
    let (_, end) = world.empty(id).await;
    let (parts, to) = world.output(id, 0).await;
    assert_eq!(to, end);
    let (out, said) = (text_of(&parts, Stream::Stdout), text_of(&parts, Stream::Stderr));
    let missing = (1..=20_000).map(|n| format!("{n}\n").len()).sum::<usize>() + first - out.len();
    let told =
        said.lines().filter_map(|line| line.strip_prefix("[makima: ")?.strip_suffix(AFTER)?.parse::<usize>().ok());
    assert_eq!(told.sum::<usize>(), missing, "{said:?}");
}

/// What stands behind the number of bytes that are missing.
const AFTER: &str = " bytes of output are missing here: they could not be written]";
