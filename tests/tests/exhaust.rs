//! The search that tries every run over a small alphabet: that it is whole, and that it finds what is there.

use std::time::Duration;

use makima_core::task::Status;
use makima_tests::exhaust::bounds::{Bounds, NAMED};
use makima_tests::exhaust::{Found, Reach, Search};
use makima_tests::world::{Act, World};

const REACH: Reach = Reach { time: Duration::from_secs(600), waiting: 100_000 };

fn bounds(name: &str) -> Bounds {
    *NAMED.iter().find(|bounds| bounds.name == name).expect("an alphabet of that name")
}

/// Protects the search from an alphabet that has lost an act: then there are fewer states.
#[test]
fn every_run_of_one_task_comes_to_rest() {
    for (name, least) in [("quiet", 287), ("quiet-1", 720), ("interrupt", 6_700)] {
        let found = whole(Search::new(bounds(name), None), name);
        assert!(found.states >= least, "{name}: {found:?}");
    }
}

/// Protects the search from taking two states for the same of which something else can become.
#[test]
fn what_is_taken_for_the_same_leads_to_the_same() {
    for name in ["quiet", "quiet-1"] {
        whole(Search::new(bounds(name), None).doubting(), name);
    }
}

/// Protects that from being a check which cannot fail: what is on its way to the daemon makes a difference.
#[test]
fn what_is_not_the_same_is_found_out() {
    let search = Search::new(bounds("quiet"), None).blind_to("replies").doubting();
    let failure = search.run(REACH).expect_err("it is found out");
    assert!(failure.why.contains("leads elsewhere"), "{}", failure.why);
}

fn whole(search: Search<'_>, name: &str) -> Found {
    let found = search.run(REACH).unwrap_or_else(|failure| {
        let line = serde_json::to_string(&failure.run).expect("a run can be written");
        panic!("{name}: {}\n{line}", failure.why)
    });
    assert!(found.complete, "{name}: {found:?}");
    found
}

/// A daemon that was killed while it had the task, and had not started it.
fn crashed_before_the_start(world: &World) -> bool {
    let preparing = world.daemon.statuses().any(|(_, status)| status == Status::Preparing);
    preparing && world.daemon.incarnation() == 2
}

/// Protects the search from one that explores nothing, and its runs from not leading where it was.
#[test]
fn what_can_be_reached_is_found() {
    let watch = |world: &World| match crashed_before_the_start(world) {
        true => Err("planted".to_string()),
        false => Ok(()),
    };
    let failure = Search::new(bounds("crash"), Some(&watch)).run(REACH).expect_err("it can be reached");
    assert_eq!(failure.why, "planted");
    assert!(failure.run.acts.iter().any(|act| matches!(act, Act::Kill { .. })), "{:?}", failure.run);
    let mut world = failure.run.world();
    for act in &failure.run.acts {
        world.apply(*act);
    }
    assert!(crashed_before_the_start(&world), "the run leads elsewhere: {:?}", failure.run);
    assert!(Search::new(bounds("quiet"), Some(&watch)).run(REACH).is_ok(), "nobody is killed there");
}
