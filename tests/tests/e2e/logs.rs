//! The daemon's own log: where it goes, and that nothing that happens to it happens to a task.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::support::{Call, Fleet, Place, Proc, SOON, mounts, until};

/// A server and a daemon whose call is changed, with one task that has to come to its end.
#[track_caller]
fn a_task_ends_well(place: &Place, change: impl FnOnce(Call) -> Call) {
    let mut fleet = Fleet::start(place);
    let (home, repo) = (place.path("other"), place.repo());
    let call = place.makima(["daemon", "-vv", "--agent", "shell", "--server", &fleet.url]);
    let call = call.env("MAKIMA_API_KEY", &fleet.token).env("MAKIMA_HOME", &home);
    let other = change(call).start();
    std::mem::replace(&mut fleet.daemon, other).terminate().code(0);
    let id = fleet.plan(&repo, "echo x > x; for n in 1 2 3 4 5 6 7 8 9; do echo $n; done");
    assert_eq!(fleet.ended(&id)["status"], "done");
    assert!(fleet.daemon.is_running());
    fleet.end();
}

fn daemon(place: &Place) -> Call {
    place.makima(["daemon", "--agent", "shell", "--server", "ws://127.0.0.1:1"]).env("MAKIMA_API_KEY", "the key 123")
}

fn holds(path: &Path, text: &str) {
    until(&format!("{text:?} in {}", path.display()), SOON, || {
        fs::read_to_string(path).ok()?.contains(text).then_some(())
    });
}

fn pipe(place: &Place) -> PathBuf {
    let path = place.path("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    path
}

fn reader(path: &Path) -> fs::File {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag");
    fs::File::options().read(true).custom_flags(flags).open(path).expect("a pipe")
}

#[test]
fn the_log_goes_where_the_flag_the_environment_or_the_file_says() {
    let place = Place::new();
    let [by_file, by_env, by_flag] = ["file", "env", "flag"].map(|name| place.path(name));
    place.configure(&format!("[log]\nfile = {by_file:?}\nmax_mib = 1\nfiles = 2\n"));
    let said = "makima 0";
    let quiet = |daemon: Proc| assert_eq!(daemon.terminate().code(0).err(), "");

    let running = daemon(&place).start();
    holds(&by_file, said);
    quiet(running);
    let running = daemon(&place).env("MAKIMA_LOG_FILE", &by_env).start();
    holds(&by_env, said);
    quiet(running);
    let flag = by_flag.to_str().expect("a plain path");
    let running = daemon(&place).args(["--log-file", flag]).env("MAKIMA_LOG_FILE", &by_env).start();
    holds(&by_flag, said);
    quiet(running);
    // What is done in a moment keeps its words for whoever asked.
    drop(place.makima(["task", "list"]).done().code(2).noted(&["no control server was named"]));
    assert_eq!(fs::read_to_string(&by_file).expect("text").matches(said).count(), 1);
    let text = fs::read_to_string(&by_flag).expect("text");
    assert!(text.contains("leaving; agents go on") && !text.contains("the key 123"), "{text}");
}

#[test]
fn a_log_that_cannot_be_had_is_said_at_once() {
    let place = Place::new();
    drop(
        daemon(&place)
            .args(["--log-file", "/no/such/folder/log"])
            .done()
            .code(2)
            .noted(&["/no/such/folder/log", "--log-file"]),
    );
    place.configure("[log]\nfile = \"log\"\n");
    drop(daemon(&place).done().code(2).noted(&["line 2", "log is no absolute path"]));
}

#[test]
fn what_stands_in_the_environment_for_the_log_and_makes_no_sense_is_said() {
    let place = Place::new();
    let running = daemon(&place).env("RUST_LOG", "makima=shout").start();
    running.notes("RUST_LOG cannot be read");
    running.notes("makima 0");
    running.terminate().code(0);
    let running = daemon(&place).env("RUST_LOG", "error").args(["-v"]).start();
    running.notes("makima 0");
    running.terminate().code(0);
}

#[test]
fn a_full_disk_under_the_log() {
    let place = Place::new();
    a_task_ends_well(&place, |call| call.args(["--log-file", "/dev/full"]));
}

#[test]
fn a_small_disk_under_the_log() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let folder = place.path("logs");
    fs::create_dir(&folder).expect("a folder");
    let log = folder.join("log");
    let mount = format!("mount -t tmpfs -o size=4k none {}", folder.display());
    a_task_ends_well(&place, |call| call.args([Path::new("--log-file"), &log]).under(&mount));
}

#[test]
fn a_stderr_that_is_full_or_closed() {
    let place = Place::new();
    a_task_ends_well(&place, |call| call.after("exec 2>/dev/full"));
    let place = Place::new();
    a_task_ends_well(&place, |call| call.after("exec 2>&-"));
}

#[test]
fn a_stderr_whose_reader_has_left() {
    let place = Place::new();
    let path = pipe(&place);
    let mut reads = Some(reader(&path));
    let home = place.path("other");
    a_task_ends_well(&place, |call| {
        let probe = place.makima(["daemon", "--agent", "shell", "--server", "ws://127.0.0.1:1"]);
        let probe = probe.env("MAKIMA_API_KEY", "k").env("MAKIMA_HOME", &home);
        let probe = probe.after(&format!("exec 2>{}", path.display())).start();
        until("a daemon", SOON, || home.join("daemon.json").exists().then_some(()));
        drop(reads.take());
        // It has nobody to talk to any more when it says that it leaves.
        probe.terminate().code(0);
        // A shell cannot open a pipe that nobody reads; the next reader leaves as soon as it is there.
        let next = reader(&path);
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(next);
        });
        call.after(&format!("exec 2>{}", path.display()))
    });
}

#[test]
fn a_stderr_that_nobody_reads() {
    let place = Place::new();
    let path = pipe(&place);
    let reads = reader(&path);
    rustix::pipe::fcntl_setpipe_size(&reads, 4_096).expect("a small pipe");
    a_task_ends_well(&place, |call| call.after(&format!("exec 2>{}", path.display())));
}
