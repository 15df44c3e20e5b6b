//! `makima worktree list`: whose each is, how large, whether all of it is committed, why it is kept.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Fleet, Place, SOON, until};

/// A look at what may go, which the daemon of the last test has every minute.
const LOOK: Duration = Duration::from_secs(90);

#[track_caller]
fn of(place: &Place, name: &str) -> Value {
    let all = place.makima(["worktree", "list", "--json"]).done().code(0).json();
    let found = all
        .as_array()
        .expect("an array")
        .iter()
        .find(|tree| tree["path"].as_str().is_some_and(|path| path.ends_with(name)));
    found.unwrap_or_else(|| panic!("no {name:?} in {all:#}")).clone()
}

#[test]
fn each_is_listed_with_its_task_its_size_and_why_it_is_there() {
    let place = Place::new();
    drop(place.makima(["worktree", "list"]).done().code(0).noted(&["no worktrees"]));
    assert!(!place.home().exists(), "nothing is made by looking");
    let fleet = Fleet::start(&place);
    let repo = place.repo();
    let id = fleet.plan(&repo, "head -c 3000000 /dev/zero > large; echo done > done");
    assert_eq!(fleet.ended(&id)["status"], "done");
    let tree = of(&place, &id);
    assert_eq!(
        (&tree["task"], &tree["status"], &tree["dirty"]),
        (&id.as_str().into(), &"done".into(), &false.into()),
        "{tree:#}"
    );
    let told = || place.home().join("tasks").join(&id).join("closed").exists().then_some(());
    until("its server knows", SOON, told);
    let tree = of(&place, &id);
    assert_eq!((&tree["kept"], &tree["goes"]), (&"ended today, goes in 14 days".into(), &false.into()), "{tree:#}");
    assert!(tree["bytes"].as_u64().is_some_and(|bytes| bytes > 3_000_000), "{tree:#}");
    assert!(tree["branch"].as_str().is_some_and(|branch| branch.starts_with("makima/") && branch.ends_with(&id)));

    // What somebody does there afterwards is seen; nothing that stands in the repository is run for it.
    let folder = place.home().join("worktrees").join(&id);
    let trap = place.path("trapped");
    let config = format!("\n[core]\n\tfsmonitor = touch {0}\n[filter \"x\"]\n\tclean = touch {0}\n", trap.display());
    let file = folder.join(".git/config");
    let old = fs::read_to_string(&file).expect("a configuration");
    fs::write(&file, old + &config).expect("it can be written");
    fs::write(folder.join(".gitattributes"), "* filter=x\n").expect("it can be written");
    fs::write(folder.join("done"), "changed\n").expect("it can be written");
    assert_eq!(of(&place, &id)["dirty"], true);
    assert!(!trap.exists(), "what an agent wrote into its configuration was run");

    let running = fleet.plan(&repo, "echo started; sleep 600");
    fleet.writes(&running, "started");
    assert_eq!(of(&place, &running)["kept"], "runs");
    fs::create_dir_all(place.home().join("worktrees/somebody's")).expect("a folder");
    let other = of(&place, "somebody's");
    assert_eq!(
        (&other["kept"], &other["task"], &other["dirty"]),
        (&"no task known".into(), &Value::Null, &Value::Null)
    );
    let table = place.makima(["worktree", "list"]).done().code(0).out();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("dirty") && table.contains("no task known") && !table.contains('\u{1b}'), "{table}");
    let done = place.makima(["task", "interrupt", "--force", &running, "--server", &fleet.url]);
    drop(done.env("MAKIMA_API_KEY", &fleet.token).done().code(0));
    fleet.ended(&running);
    fleet.end();
}

/// As if its server had known of its end for so many days.
fn age(place: &Place, id: &str, days: u64) {
    let closed = place.home().join("tasks").join(id).join("closed");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !closed.exists() && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let file = fs::File::options().write(true).open(closed).expect("its server knows");
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 24 * 60 * 60);
    file.set_modified(then).expect("a time");
}

#[test]
fn what_has_ended_is_put_away_and_had_back() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let repo = place.repo();
    let id = fleet.plan(&repo, "echo told; echo work > work");
    assert_eq!(fleet.ended(&id)["status"], "done");
    let folder = place.home().join("worktrees").join(&id);
    age(&place, &id, 0);
    let stays = place.makima(["worktree", "clean"]).done().code(0).out();
    assert!(stays.contains("stays") && stays.contains("ended today, goes in 14 days"), "{stays}");
    age(&place, &id, 15);
    // Those who look are told what those are who clean.
    let tree = of(&place, &id);
    assert_eq!((&tree["kept"], &tree["goes"]), (&"ended today, may go".into(), &true.into()), "{tree:#}");
    let table = place.makima(["worktree", "list"]).done().code(0).out();
    assert!(table.contains("  ended today, may go  "), "{table}");
    let would = place.makima(["worktree", "clean", "--dry-run"]).done().code(0).out();
    assert!(would.contains("would go") && folder.exists(), "{would}");

    let running = fleet.plan(&repo, "echo started; sleep 600");
    fleet.writes(&running, "started");
    let gone = place.makima(["worktree", "clean", "--json"]).done().code(0).json();
    let fate = |id: &str| {
        let all = gone.as_array().expect("an array");
        all.iter().find(|tree| tree["task"] == id).map(|tree| (tree["goes"].clone(), tree["why"].clone()))
    };
    assert_eq!(fate(&id), Some((true.into(), "ended today".into())), "{gone:#}");
    assert_eq!(fate(&running), Some((false.into(), "runs".into())), "{gone:#}");
    assert!(!folder.exists());
    let named = place.makima(["worktree", "clean", &running]).done().code(1);
    assert!(named.err().contains("stayed that should have gone"), "{}", named.err());

    let table = place.makima(["worktree", "list", "--trash"]).done().code(0).out();
    assert!(table.contains(&id) && table.contains("30 days"), "{table}");
    let begin = &id[..13];
    let back = place.makima(["worktree", "restore", begin]).done().code(0);
    assert!(back.err().contains("it stays until you put it away"), "{}", back.err());
    assert_eq!(back.out().trim(), folder.canonicalize().expect("it is back").display().to_string());
    assert_eq!(fs::read_to_string(folder.join("work")).expect("a file"), "work\n");
    let tree = of(&place, &id);
    assert_eq!((&tree["kept"], &tree["goes"]), (&"was taken out of the trash".into(), &false.into()), "{tree:#}");
    let wanted = place.makima(["worktree", "clean"]).done().code(0).out();
    assert!(wanted.contains("was taken out of the trash") && folder.exists(), "{wanted}");
    let none = place.makima(["worktree", "restore", begin]).done().code(1);
    assert!(none.err().contains("no task here"), "{}", none.err());

    drop(place.makima(["worktree", "clean", begin]).done().code(0));
    assert!(!folder.exists());
    drop(place.makima(["worktree", "clean", "--trash"]).done().code(0).noted(&["1 thing out of the trash, for good"]));
    drop(place.makima(["worktree", "list", "--trash"]).done().code(0).noted(&["the trash is empty"]));
    let done = place.makima(["task", "interrupt", "--force", &running, "--server", &fleet.url]);
    drop(done.env("MAKIMA_API_KEY", &fleet.token).done().code(0));
    fleet.ended(&running);
    fleet.end();
}

/// Protects a disk from filling up with work that was handed over long ago, and work that is nowhere else from making room.
#[test]
fn what_was_handed_over_makes_room_where_the_disk_is_bounded() {
    let place = Place::new();
    place.configure("[keep]\ndisk_gib = 1\nlook_minutes = 1\n");
    let large = place.home().join("trash/large");
    fs::create_dir_all(&large).expect("a folder");
    let file = fs::File::create(large.join("file")).expect("a file");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 1 << 30).expect("a gibibyte in memory");
    let fleet = Fleet::start(&place);
    let repo = place.repo();
    let plan = |plan: &str| {
        let id = fleet.plan(&repo, plan);
        assert_eq!(fleet.ended(&id)["status"], "done");
        id
    };
    let worktree = |id: &str| place.home().join("worktrees").join(id);
    let (over, touched) = (plan("echo work > work"), plan("echo work > more"));
    fs::write(worktree(&touched).join("more"), "somebody went on here\n").expect("a file");

    until("one has made room", LOOK, || (!worktree(&over).exists()).then_some(()));
    fleet.daemon.notes("MiB more than `keep.disk_gib` allows");
    assert!(worktree(&touched).join("more").exists(), "what is in no commit has gone");
    assert!(repo.branches().iter().any(|branch| branch.ends_with(&over)), "its branch has gone");
    drop(place.makima(["worktree", "restore", &over]).done().code(0));
    assert_eq!(fs::read_to_string(worktree(&over).join("work")).expect("a file"), "work\n");
    fleet.end();
}
