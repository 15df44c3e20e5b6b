//! A seed is a run, wherever and whenever it is run: what was found once is found again by whoever looks.

use std::process::Command;

/// The trace of a seed, from a process of its own with this environment.
fn trace(seed: u64, environment: &[(&str, &str)], folder: &str) -> String {
    let seed = seed.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["--show", "--seeds", "1", "--seed", &seed])
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Protects every seed that is written down from being another run elsewhere: by what is hashed with a key that each process
/// draws, by an address, the environment or the time.
#[test]
fn a_seed_is_the_same_run_in_every_process() {
    let long = "x".repeat(10_000);
    let here = [("PATH", "/usr/bin:/bin"), ("TZ", "UTC"), ("LANG", "C")];
    let there = [
        ("TZ", "Pacific/Chatham"),
        ("LANG", "tr_TR.UTF-8"),
        ("HOME", "/nowhere"),
        ("MAKIMA_HOME", "/nowhere"),
        ("RUST_BACKTRACE", "1"),
        ("RUST_LOG", "trace"),
        ("LONG", &long),
    ];
    let all: Vec<String> = (0..12).map(|seed| trace(seed, &here, "/")).collect();
    // The clock has gone on by now, too.
    for (seed, first) in (0..).zip(&all) {
        let second = trace(seed, &there, env!("CARGO_MANIFEST_DIR"));
        let difference = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
    let digests = |trace: &str| trace.lines().filter(|line| line.starts_with("   = ")).count();
    assert!(all.iter().all(|trace| digests(trace) > 1), "there is something to compare");
    assert!(all.iter().map(|trace| digests(trace)).sum::<usize>() > 500);
    assert_ne!(all[0], all[1]);
}
