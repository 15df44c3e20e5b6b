//! The kill loop and the night, short: `cargo run --release -p makima-tests --bin kills` is the whole of the one.

use std::process::Command;

use crate::support::{binary, number};

/// Without a second build, which takes minutes: to be restored from the other form is tested beside this.
#[test]
fn a_daemon_that_is_killed_all_the_time_loses_nothing_and_doubles_nothing() {
    let kills = (number("MAKIMA_KILLS", 5) * 4).to_string();
    let seed = number("MAKIMA_E2E_SEED", 1).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_kills"))
        .args(["--kills", &kills, "--agents", "10", "--seed", &seed])
        .arg("--makima")
        .arg(binary())
        .arg("--other")
        .arg(binary())
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success(), "{said}");
}

/// The night, short: `cargo run --release -p makima-tests --bin torture` is the whole of it.
#[test]
fn a_short_night_of_faults_loses_nothing_and_doubles_nothing() {
    let seed = number("MAKIMA_E2E_SEED", 1).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(["--minutes", "0.1", "--tasks", "8", "--seed", &seed])
        .arg("--makima")
        .arg(binary())
        .arg("--other")
        .arg(binary())
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success(), "{said}");
}
