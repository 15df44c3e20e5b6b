//! Plans that do what plans should not do. Each comes to its end, nothing is left running, nothing is lost.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Place, Repo, SOON, becomes_nobody, not_portable, number, portable, until};

/// A call to find a plan's leftovers by, whatever they do to their environment and their folder.
const MARK: &str = "86399.125";

/// Whether a process sleeps for exactly this long.
fn sleeps(seconds: &str) -> bool {
    !crate::support::processes_with(format!("sleep\0{seconds}").as_ref()).is_empty()
}

/// Runs a plan that leaves something behind, and looks that it is gone.
#[track_caller]
fn leaves_nothing(plan: &str, seconds: &str) {
    let place = Place::new();
    let repo = place.repo();
    let begun = Instant::now();
    let done = place.run(&repo, &[&plan.replace(MARK, seconds)]).done().code(0);
    assert!(begun.elapsed() < Duration::from_secs(20), "nobody is waited for: {:?}", begun.elapsed());
    assert!(done.out().contains("begun\n"));
    assert!(!sleeps(seconds), "what it left is ended");
    place.assert_nothing_runs();
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
    // In the portable way they are not counted.
    drop(done.noted(if portable() { &[] } else { &["left behind"] }));
}

/// Ctrl-C once; the work is there all the same.
#[track_caller]
fn ends_by_one_ctrl_c(plan: &str, within: Duration) {
    let place = Place::new();
    let repo = place.repo();
    let run = place.run(&repo, &[plan]).start();
    run.says("begun\n");
    let begun = Instant::now();
    run.ctrl_c();
    run.wait(SOON).code(130);
    assert!(begun.elapsed() < within, "{:?}", begun.elapsed());
    place.assert_nothing_runs();
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
}

/// Bytes that a plan prints, and that have to come out again.
fn count(repo: &Repo, place: &Place, plan: &str) -> u64 {
    let done = place.run(repo, &["--raw", plan]).start().wait(Duration::from_secs(300)).code(0);
    u64::try_from(done.bytes().len()).expect("a number")
}

#[test]
fn one_that_prints_very_much_loses_nothing() {
    let place = Place::new();
    let repo = place.repo();
    let megabytes = number("MAKIMA_E2E_MEGABYTES", if cfg!(debug_assertions) { 20 } else { 100 });
    let lines = megabytes * 1_000_000 / 100;
    let line = "x".repeat(91);
    let plan = format!("awk 'BEGIN {{ for (i = 1; i <= {lines}; i++) printf \"%08d{line}\\n\", i }}'");
    let done = place.run(&repo, &["--raw", &plan]).start().wait(Duration::from_secs(300)).code(0);
    assert_eq!(u64::try_from(done.bytes().len()).expect("a number"), megabytes * 1_000_000);
    for (number, line) in (1..).zip(done.bytes().split_inclusive(|byte| *byte == b'\n')) {
        assert!(line.len() == 100 && line.starts_with(format!("{number:08}x").as_bytes()), "line {number}");
    }
}

#[test]
fn one_that_prints_a_line_of_ten_megabytes() {
    let place = Place::new();
    let repo = place.repo();
    assert_eq!(count(&repo, &place, "head -c 10000000 /dev/zero | tr '\\0' y; echo"), 10_000_001);
}

#[test]
fn one_that_prints_what_is_no_text() {
    let place = Place::new();
    let repo = place.repo();
    let done = place.run(&repo, &["printf 'a\\377b\\303\\nc\\0d\\342\\202\\254\\n'; echo x > x"]).done().code(0);
    assert_eq!(done.out(), "a\u{fffd}b\u{fffd}\nc\0d€\n");
    assert_eq!(repo.branches().len(), 1);
}

#[test]
fn one_that_closes_its_output_and_goes_on() {
    let place = Place::new();
    let repo = place.repo();
    let plan = "echo begun; exec >&- 2>&- <&-; sleep 0.5; : > x; sleep 0.2; exit 0";
    let done = place.run(&repo, &[plan]).done().code(0);
    assert_eq!(done.out(), "begun\n");
    assert_eq!(repo.show(&repo.branch(), "x"), "");
}

#[test]
fn one_that_leaves_a_child_which_holds_its_output() {
    leaves_nothing("echo begun; echo x > x; sleep 86399.125 & exit 0", "86399.126");
}

#[test]
fn one_that_leaves_children_in_sessions_of_their_own() {
    if not_portable("who leaves the agent's group gets away") {
        return;
    }
    leaves_nothing(
        "echo begun; echo x > x; setsid -f sleep 86399.125; setsid -f sleep 86399.125 >&- 2>&-",
        "86399.127",
    );
}

#[test]
fn one_that_forks_twice_and_hides() {
    if not_portable("who leaves the agent's group gets away") {
        return;
    }
    // Without the environment, the folder and the session by which it could be known.
    let plan = "echo begun; echo x > x; (cd /; env -i setsid sh -c 'sleep 86399.125 & exit' >/dev/null 2>&1 &) & wait";
    leaves_nothing(&format!("{plan}; sleep 0.3"), "86399.128");
}

#[test]
fn one_that_leaves_a_stopped_child() {
    leaves_nothing("echo begun; echo x > x; sleep 86399.125 & kill -STOP $!", "86399.129");
}

#[test]
fn one_that_forks_for_as_long_as_it_is_let() {
    let plan = "echo begun; echo x > x; f() { sleep 0.01; (f &) ; }; f; sleep 0.2";
    let place = Place::new();
    let repo = place.repo();
    place.run(&repo, &[plan]).done().code(0);
    place.assert_nothing_runs();
}

#[test]
fn one_that_listens_to_ctrl_c_ends_at_once_and_may_tidy_up() {
    let plan = "trap 'echo tidied > x; echo x > x; exit 3' INT; echo begun; while :; do sleep 0.02; done";
    ends_by_one_ctrl_c(plan, Duration::from_secs(4));
}

#[test]
fn one_that_ignores_every_signal_is_killed_in_the_end() {
    let plan = "trap '' INT TERM HUP; echo x > x; echo begun; while :; do sleep 0.05; done";
    ends_by_one_ctrl_c(plan, Duration::from_secs(20));
}

#[test]
fn one_that_stops_itself_can_be_interrupted() {
    ends_by_one_ctrl_c("echo x > x; echo begun; kill -STOP $$; sleep 86399", Duration::from_secs(20));
}

#[test]
fn one_that_kills_its_own_group_or_its_parent_harms_nobody_else() {
    let place = Place::new();
    let repo = place.repo();
    let plan = "echo x > x; echo begun; kill -TERM 0; sleep 5";
    drop(place.run(&repo, &[plan]).done().code(1).noted(&["ended by signal 15"]));
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
}

#[test]
fn one_that_reads_its_input_comes_to_no_end_of_it_and_can_be_interrupted() {
    let place = Place::new();
    let repo = place.repo();
    let run = place.run(&repo, &["echo x > x; echo begun; cat; echo never"]).stdin("not for the agent\n").start();
    run.says("begun\n");
    run.ctrl_c();
    assert_eq!(run.wait(SOON).code(130).out(), "begun\n");
}

#[test]
fn one_that_destroys_its_repository_has_its_work_committed_all_the_same() {
    let place = Place::new();
    let repo = place.repo();
    let before = repo.state();
    place.run(&repo, &["echo x > x; rm -rf .git"]).done().code(0);
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
    assert_eq!(repo.state(), before);
    place.run(&repo, &["echo begun > x; git add x; git commit -qm mine; echo more > y"]).done().code(0);
    let branches = repo.branches();
    let own = branches.iter().find(|branch| branch.contains("begun")).expect("a branch");
    assert_eq!(repo.git(["log", "--format=%s", &format!("main..{own}")]).lines().nth(1), Some("mine"));
}

#[test]
fn one_that_removes_its_own_worktree_is_told_of_in_plain_words() {
    let place = Place::new();
    let repo = place.repo();
    let done =
        place.run(&repo, &["d=$PWD; cd /; rm -rf \"$d\""]).done().code(1).noted(&["could not be committed", "is gone"]);
    assert!(!done.err().contains("no changes"), "nobody knows that");
    assert!(repo.branches().is_empty());
    place.assert_nothing_runs();
}

#[test]
fn one_whose_reader_goes_away_ends_and_keeps_its_work() {
    // `makima run … | head -1`: the pipe breaks while the agent works. It is not for the agent to notice.
    let place = Place::new();
    let repo = place.repo();
    let plan = "trap \"\" PIPE; echo x > x; while :; do echo y; sleep 0.02; done";
    let line = format!("timeout 60 {} run --agent shell '{plan}' | head -1", crate::support::binary().display());
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &line])
        .current_dir(repo.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("a path"));
    shell.env("HOME", place.user()).env("MAKIMA_HOME", place.home());
    let output = shell.output().expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "y\n", "{output:?}");
    place.assert_nothing_runs();
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
}

#[test]
fn a_plan_that_ends_while_the_run_is_stopped_is_no_harm() {
    let place = Place::new();
    let repo = place.repo();
    let run = place.run(&repo, &["echo begun; sleep 0.2; echo x > x"]).start();
    run.says("begun\n");
    // Ctrl-Z, and `fg` after a while.
    run.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(600));
    run.signal(Signal::CONT);
    run.wait(SOON).code(0);
    until("the branch", SOON, || repo.branches().pop());
}

/// As the superuser nothing is shut: this needs another user.
#[test]
fn what_a_plan_shuts_away_is_work_like_any_other() {
    if !becomes_nobody() {
        return eprintln!("skipped: this user can be nobody else");
    }
    for (plan, file) in [
        ("echo a > secret; chmod 000 secret", "secret"),
        ("mkdir d; echo a > d/x; chmod 000 d", "d/x"),
        ("echo a > x; chmod 000 .", "x"),
    ] {
        let place = Place::new();
        let repo = place.repo();
        let own = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(place.all()).status();
        assert!(own.is_ok_and(|status| status.success()));
        let done = place.run(&repo, &[plan]).by_nobody().done().code(0);
        let own = std::process::Command::new("chown").args(["-R", "0:0"]).arg(place.all()).status();
        assert!(own.is_ok_and(|status| status.success()));
        assert_eq!(repo.show(&done.fact("branch"), file), "a");
    }
}
