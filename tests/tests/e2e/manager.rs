//! The daemon under a service manager: what it tells that, and what it takes no harm from.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Call, Fleet, Place, SOON, mounts, not_portable, until};

fn alone(place: &Place, socket: &str) -> Call {
    let call = place.makima(["daemon", "--agent", "shell", "--server", "ws://127.0.0.1:1"]);
    call.env("MAKIMA_API_KEY", "k").env("NOTIFY_SOCKET", socket)
}

/// What the service manager hears until this word comes.
#[track_caller]
fn hears(manager: &UnixDatagram, word: &str) -> Vec<String> {
    manager.set_read_timeout(Some(SOON)).expect("a bound");
    let mut heard = Vec::new();
    loop {
        let mut buffer = [0; 512];
        let n =
            manager.recv(&mut buffer).unwrap_or_else(|why| panic!("{word:?} is to come: {why}; there was {heard:?}"));
        heard.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        if heard.last().is_some_and(|last| last == word) {
            return heard;
        }
    }
}

/// Whether nothing comes for a while, once what was under way has been heard.
fn is_silent(manager: &UnixDatagram) -> bool {
    manager.set_read_timeout(Some(Duration::from_millis(50))).expect("a bound");
    let soon = Instant::now() + SOON;
    while manager.recv(&mut [0; 512]).is_ok() && Instant::now() < soon {}
    manager.set_read_timeout(Some(Duration::from_secs(2))).expect("a bound");
    manager.recv(&mut [0; 512]).is_err()
}

#[test]
fn it_is_told_that_the_daemon_is_ready_alive_and_about_to_end() {
    let place = Place::new();
    let path = place.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    // The server is never there: that is not what ready means.
    let daemon = alone(&place, path.to_str().expect("plain")).env("WATCHDOG_USEC", "200000").start();
    assert_eq!(hears(&manager, "READY=1"), ["READY=1"], "first of all");
    let heard = hears(&manager, "WATCHDOG=1");
    assert!(heard.iter().any(|word| word.starts_with("STATUS=") && word.ends_with("; 0 tasks")), "{heard:?}");
    for _ in 0..5 {
        hears(&manager, "WATCHDOG=1");
    }
    daemon.signal(Signal::STOP);
    assert!(is_silent(&manager), "it hangs");
    daemon.signal(Signal::CONT);
    hears(&manager, "WATCHDOG=1");
    daemon.signal(Signal::TERM);
    hears(&manager, "STOPPING=1");
    daemon.wait(SOON).code(0);
}

#[test]
fn a_socket_by_an_abstract_name() {
    let place = Place::new();
    let name = place.path("notify").display().to_string();
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = UnixDatagram::bind_addr(&address).expect("a socket");
    let daemon = alone(&place, &format!("@{name}")).start();
    hears(&manager, "READY=1");
    daemon.signal(Signal::TERM);
    let heard = hears(&manager, "STOPPING=1");
    assert!(!heard.contains(&"WATCHDOG=1".to_owned()), "nobody asked for that");
    daemon.wait(SOON).code(0);
}

#[test]
fn a_manager_that_is_not_there_or_is_another_ones() {
    let place = Place::new();
    let daemon = alone(&place, "/no/such/socket").start();
    daemon.notes("the service manager cannot be told");
    daemon.terminate().code(0);
    let path = place.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let call = alone(&place, path.to_str().expect("plain"));
    let daemon = call.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1").start();
    hears(&manager, "READY=1");
    // Twenty times of the watchdog's.
    std::thread::sleep(Duration::from_secs(2));
    daemon.signal(Signal::TERM);
    let heard = hears(&manager, "STOPPING=1");
    assert!(!heard.contains(&"WATCHDOG=1".to_owned()), "the watchdog is meant for somebody else");
    daemon.wait(SOON).code(0);
}

/// The limit is too low for what is asked for; nothing is lost by that, and it is said.
#[test]
fn a_daemon_without_descriptors_loses_no_task() {
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    let home = place.path("other");
    let call = place.makima(["daemon", "--agent", "shell", "--max-tasks", "16", "--server", &fleet.url]);
    let call = call.env("MAKIMA_API_KEY", &fleet.token).env("MAKIMA_HOME", &home);
    // Enough to begin with.
    let other = call.after("ulimit -n 48").start();
    other.notes("connected to the server");
    std::mem::replace(&mut fleet.daemon, other).terminate().code(0);
    let ids: Vec<String> = (0..16).map(|_| fleet.plan(&repo, "echo up; sleep 2; echo x > x")).collect();
    let ends: Vec<_> = ids.iter().map(|id| fleet.ended(id)).collect();
    let reasons: Vec<&str> = ends.iter().filter_map(|task| task["error"].as_str()).collect();
    let done = ends.iter().filter(|task| task["status"] == "done").count();
    assert_eq!(done + reasons.len(), ends.len(), "each has its end, and a reason where that is not good: {ends:#?}");
    // Git's own words, or those of whoever was cut off by it, may be others; most name it.
    assert!(reasons.iter().any(|why| why.contains("open files")), "the limit is not told of: {reasons:#?}");
    assert!(fleet.daemon.is_running());
    // With room again everything goes on.
    let id = fleet.plan(&repo, "echo x > x");
    assert_eq!(fleet.ended(&id)["status"], "done");
    let told = until("an answer", SOON, || {
        let done = place.makima(["status", "--json"]).env("MAKIMA_HOME", &home).done().json();
        Some(done).filter(|told| told["daemon"]["answers"] == true)
    });
    assert_eq!(told["daemon"]["busy"], 0);
    fleet.end();
}

/// A control group as a service has it: the daemon is in it, or in one below it, and only the daemon is signalled.
struct Group {
    name: String,
    /// As systemd makes it of `DelegateSubgroup`.
    of_the_daemon: &'static str,
}

impl Group {
    /// What a shell does to be in it.
    fn join(&self) -> String {
        let own = self.own();
        format!("mount -t cgroup2 none /mnt && mkdir -p /mnt{own} && echo 0 > /mnt{own}/cgroup.procs")
    }

    /// The daemon's, below the root of all groups.
    fn own(&self) -> String {
        format!("/{}{}", self.name, self.of_the_daemon)
    }

    /// Where a process is, below the root of all groups; none once it is gone.
    fn of(pid: u64) -> Option<String> {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Some(groups.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let script = format!("mount -t cgroup2 none /mnt && rmdir /mnt/{0}/* /mnt/{0}", self.name);
        let _ = Command::new("unshare").args(["--mount", "sh", "-c", &script]).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_service_that_is_stopped_leaves_agents_and_supervisors_in_its_group_and_the_next_finds_them() {
    stops_and_starts("");
}

/// Protects the limits of tasks: the kernel holds nobody below a group that has processes itself.
#[test]
fn a_service_whose_daemon_has_a_group_of_its_own_has_nobody_in_the_one_above() {
    stops_and_starts("/makima-daemon");
}

fn stops_and_starts(of_the_daemon: &'static str) {
    if not_portable("there are no control groups") {
        return;
    }
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let (repo, go) = (place.repo(), place.path("go"));
    let name = place.root().file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
    let group = Group { name, of_the_daemon };
    let mut fleet = Fleet::start(&place);
    let service = || {
        let daemon = place.makima(["daemon", "--agent", "shell"]).under(&group.join()).start();
        daemon.notes("connected to the server");
        daemon
    };
    std::mem::replace(&mut fleet.daemon, place.makima(["version"]).start()).terminate().code(0);
    fleet.daemon = service();
    if Group::of(fleet.daemon.pid().unsigned_abs().into()) != Some(group.own()) {
        fleet.end();
        return eprintln!("skipped: there are no control groups of version 2");
    }
    let id = fleet.plan(&repo, &format!("echo up; until test -e {}; do sleep 0.02; done; echo x > x", go.display()));
    fleet.writes(&id, "up");
    let told = place.makima(["status", "--json"]).done().code(0).json();
    let agent = told["tasks"][0]["pid"].as_u64().expect("it runs");
    let stat = std::fs::read_to_string(format!("/proc/{agent}/stat")).expect("it runs");
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
    let supervisor: u64 = parent.expect("its supervisor");
    let of_task = format!("/{}/makima-{id}-", group.name);
    let stand = || (Group::of(agent), Group::of(supervisor));
    let expected = stand();
    assert!(expected.0.as_ref().is_some_and(|group| group.starts_with(&of_task)), "{expected:?}");
    assert_eq!(expected.1, Some(group.own()));
    // As `KillMode=process` has it.
    std::mem::replace(&mut fleet.daemon, place.makima(["version"]).start()).terminate().code(0);
    assert_eq!(stand(), expected);
    fleet.daemon = service();
    assert_eq!(stand(), expected, "the same agent, under the same supervisor");
    std::fs::write(&go, "").expect("a file");
    let task = fleet.ended(&id);
    assert_eq!((&task["status"], repo.branches().len()), (&"done".into(), 1), "{task}");
    until("both are gone", SOON, || (stand() == (None, None)).then_some(()));
    fleet.end();
}
