//! The numbers of dead processes are given out again: whoever bears one now is never taken for the one of before.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::support::{Fleet, Innocent, Place, Repo, SOON, apart, not_portable, portable, until};

/// The numbers of a task's supervisor and agent.
fn numbers(place: &Place, id: &str) -> (i32, i32) {
    let record = fs::read(place.home().join("tasks").join(id).join("agent")).expect("its record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    let number = |who: &str| record[who]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process");
    (number("supervisor"), number("agent"))
}

/// Waits until a number belongs to nobody.
#[track_caller]
fn free(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a process");
    until("its number is free", SOON, || test_kill_process(pid).is_err().then_some(()));
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("it is there");
}

/// Another daemon finds that the task has failed, and why; its work is kept.
#[track_caller]
fn failed(place: &Place, repo: &Repo, fleet: &mut Fleet, id: &str, why: &str) {
    fleet.daemon = Fleet::daemon(place);
    let task = fleet.ended(id);
    // A lock does not say when it was let go of.
    let unsure = "the supervisor was killed, or the machine was restarted";
    let why = if portable() { unsure } else { why };
    assert_eq!((task["status"].as_str(), task["error"].as_str()), (Some("failed"), Some(why)), "{task}");
    assert_eq!(repo.show(task["branch"].as_str().expect("a branch"), "x"), "work");
}

/// A daemon that is killed with a task under way.
fn killed(place: &Place, repo: &Repo, plan: &str) -> (Fleet, String) {
    let mut fleet = Fleet::start(place);
    let id = fleet.plan(repo, plan);
    fleet.writes(&id, "begun");
    fleet.daemon.signal(Signal::KILL);
    until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
    (fleet, id)
}

const WAITS: &str = "echo work > x; echo begun; exec sleep 1000";

/// Both numbers are borne by leaders of sessions, and then of groups only.
fn taken_by_others(leads_session: bool) {
    let place = Place::new();
    let repo = place.repo();
    let (mut fleet, id) = killed(&place, &repo, WAITS);
    let (supervisor, agent) = numbers(&place, &id);
    for pid in [supervisor, agent] {
        kill(pid);
        free(pid);
    }
    let mut one = Innocent::numbered(supervisor, leads_session, &place.path("one"));
    let mut two = Innocent::numbered(agent, leads_session, &place.path("two"));
    failed(&place, &repo, &mut fleet, &id, "the supervisor was killed");
    one.is_unharmed();
    two.is_unharmed();
    drop((one, two));
    fleet.end();
}

#[test]
fn leaders_of_sessions_with_the_numbers_of_the_dead_are_left_alone() {
    if apart("numbers::leaders_of_sessions_with_the_numbers_of_the_dead_are_left_alone") {
        taken_by_others(true);
    }
}

#[test]
fn leaders_of_groups_with_the_numbers_of_the_dead_are_left_alone() {
    if apart("numbers::leaders_of_groups_with_the_numbers_of_the_dead_are_left_alone") {
        taken_by_others(false);
    }
}

/// The supervisor lives, and so does a process that the agent left behind; the agent's own number is another's.
#[test]
fn an_agents_number_is_another_s_while_its_supervisor_lives() {
    if not_portable("who leaves the agent's group is not waited for") {
        return;
    }
    if !apart("numbers::an_agents_number_is_another_s_while_its_supervisor_lives") {
        return;
    }
    let place = Place::new();
    let repo = place.repo();
    let go = place.path("go");
    let plan = format!(
        "echo work > x; setsid -f sleep 1000; echo begun; until test -e {}; do sleep 0.02; done; exit 3",
        go.display()
    );
    let (mut fleet, id) = killed(&place, &repo, &plan);
    let (_, agent) = numbers(&place, &id);
    fs::write(go, "").expect("a file");
    free(agent);
    let mut innocent = Innocent::numbered(agent, true, &place.path("innocent"));
    failed(&place, &repo, &mut fleet, &id, "the script ended with exit code 3");
    innocent.is_unharmed();
    drop(innocent);
    fleet.end();
}

/// Somebody still holds the agent's lock, so that it is looked for; its number is another's, its supervisor's nobody's.
#[test]
fn in_the_portable_way_a_lock_alone_makes_no_number_the_agents() {
    if !portable() {
        return eprintln!("left out: this is a run in the full way");
    }
    if !apart("numbers::in_the_portable_way_a_lock_alone_makes_no_number_the_agents") {
        return;
    }
    for leads_session in [true, false] {
        let place = Place::new();
        let repo = place.repo();
        let left = place.path("left");
        let plan = format!(
            "echo work > x; setsid -f sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000'; \
             until test -e {0}; do sleep 0.02; done; echo begun; exec sleep 1000",
            left.display()
        );
        let (mut fleet, id) = killed(&place, &repo, &plan);
        let (supervisor, agent) = numbers(&place, &id);
        for pid in [supervisor, agent] {
            kill(pid);
            free(pid);
        }
        let mut innocent = Innocent::numbered(agent, leads_session, &place.path("innocent"));
        failed(&place, &repo, &mut fleet, &id, "the supervisor was killed");
        innocent.is_unharmed();
        drop(innocent);
        // Who left the group is there still.
        let left = fs::read_to_string(left).expect("its number").trim().parse().expect("a number");
        kill(left);
        free(left);
        fleet.end();
    }
}

/// The number of a killed daemon means nothing either.
#[test]
fn a_daemons_number_is_another_s() {
    if !apart("numbers::a_daemons_number_is_another_s") {
        return;
    }
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    let daemon = fleet.daemon.pid();
    fleet.daemon.signal(Signal::KILL);
    until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
    free(daemon);
    let mut innocent = Innocent::numbered(daemon, true, &place.path("innocent"));
    fleet.daemon = Fleet::daemon(&place);
    let id = fleet.plan(&repo, "echo y > y");
    assert_eq!(fleet.ended(&id)["status"], "done");
    innocent.is_unharmed();
    drop(innocent);
    fleet.end();
}

/// Lets the machine have another run.
fn restart(place: &Place) {
    let id = place.path("boot-id");
    fs::write(&id, "01234567-89ab-4cde-8f01-23456789abcd\n").expect("a file");
    let over = Path::new("/proc/sys/kernel/random/boot_id");
    let mount = Command::new("mount").arg("--bind").arg(id).arg(over).status().expect("it can be started");
    assert!(mount.success(), "{mount}");
}

#[test]
fn after_a_restart_of_the_machine_the_numbers_are_others() {
    if !apart("numbers::after_a_restart_of_the_machine_the_numbers_are_others") {
        return;
    }
    let place = Place::new();
    let repo = place.repo();
    let (mut fleet, id) = killed(&place, &repo, WAITS);
    let (supervisor, agent) = numbers(&place, &id);
    for pid in [supervisor, agent] {
        kill(pid);
        free(pid);
    }
    let mut one = Innocent::numbered(supervisor, true, &place.path("one"));
    let mut two = Innocent::numbered(agent, true, &place.path("two"));
    restart(&place);
    failed(&place, &repo, &mut fleet, &id, "the machine was restarted");
    one.is_unharmed();
    two.is_unharmed();
    drop((one, two));
    fleet.end();
}

/// In another run of the machine a process may bear the very number, and have begun at the very tick.
#[test]
fn after_a_restart_of_the_machine_not_even_an_equal_process_is_signalled() {
    if not_portable("locks do not outlast the machine's run, and this test only says that there was another") {
        return;
    }
    if !apart("numbers::after_a_restart_of_the_machine_not_even_an_equal_process_is_signalled") {
        return;
    }
    let place = Place::new();
    let repo = place.repo();
    let notes = place.path("notes");
    let plan = format!(
        "for s in HUP INT TERM CONT; do trap \"echo $s >> {0}\" $s; done; : > {0}; echo work > x; echo begun; \
         while :; do sleep 0.05; done",
        notes.display()
    );
    let (mut fleet, id) = killed(&place, &repo, &plan);
    let (supervisor, agent) = numbers(&place, &id);
    restart(&place);
    failed(&place, &repo, &mut fleet, &id, "the machine was restarted");
    assert_eq!(fs::read_to_string(&notes).expect("its notes"), "");
    for pid in [agent, supervisor] {
        let there = test_kill_process(Pid::from_raw(pid).expect("a process"));
        assert!(there.is_ok(), "process {pid} is there: {there:?}");
        kill(pid);
    }
    free(agent);
    fleet.end();
}
