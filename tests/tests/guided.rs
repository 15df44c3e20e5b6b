//! The world under a fuzzer: what it found to lead to other places than all else is run again here, on any compiler, and
//! so are changes of that.

use std::path::{Path, PathBuf};

use makima_core::rng::Rng;
use makima_tests::guided::{decode, encode, run};
use makima_tests::swarm::Run;
use makima_tests::world::Speech;

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/world");
    let entries = std::fs::read_dir(&folder).expect("the corpus");
    let path = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").path();
    let mut files: Vec<_> = entries.map(path).map(|path| (std::fs::read(&path).expect("a file"), path)).collect();
    files.sort();
    files.into_iter().map(|(bytes, path)| (path, bytes)).collect()
}

/// Protects what a fuzzer has found its way to from breaking there.
#[test]
fn the_corpus_runs_clean() {
    for (path, bytes) in corpus() {
        run(&bytes).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

/// Protects the fuzzer, whose every change is to be one to one act: a byte more, a byte less, another byte.
#[test]
fn a_change_of_a_byte_is_a_change_of_one_act() {
    let mut rng = Rng::new(0);
    let mut below = |count: usize| rng.up_to(count as u64 - 1) as usize;
    for (_, bytes) in corpus().into_iter().filter(|(_, bytes)| bytes.len() > 3) {
        let before = decode(&bytes).acts;
        for how in 0..3 {
            let mut changed = bytes.clone();
            let at = 3 + below(bytes.len() - 3);
            match how {
                0 => changed[at] = below(256) as u8,
                1 => changed.insert(at, below(256) as u8),
                _ => drop(changed.remove(at)),
            }
            let after = decode(&changed).acts;
            let same = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
            let behind = before.iter().rev().zip(after.iter().rev()).take_while(|(one, other)| one == other).count();
            // An act that becomes a number is one fewer, and gives the next another number.
            let touched = before.len().max(after.len()).saturating_sub(same + behind);
            assert!(touched <= 2, "{touched} acts: {before:?}\n{after:?}");
        }
    }
}

/// Protects the corpus from a decoding that has changed: its bytes would stand for other runs.
#[test]
fn bytes_stand_for_the_runs_that_they_stood_for() {
    let all: Vec<u8> = [3, 7, 1].into_iter().chain((0..128).flat_map(|byte| [0x81, 0xc2, 0xe5, byte])).collect();
    let run = decode(&all);
    assert_eq!((run.literal, run.speech, run.seed), (true, Speech::One, 263));
    let acts: Vec<String> = run.acts.iter().map(|act| format!("{act:?}")).collect();
    assert_eq!(acts.len(), 128);
    insta::assert_snapshot!(acts.join("\n"));
    for some in [&[][..], &[1], &[1, 2], &[1, 2, 3], &[1, 2, 3, 0xff]] {
        assert_eq!(decode(some).acts, [], "{some:?}");
    }
}

/// Protects runs that are handed to the fuzzer to begin with from being others.
#[test]
fn a_run_is_written_as_bytes_that_stand_for_it() {
    for seed in 0..60 {
        let run = Run::of(seed).0;
        assert_eq!(decode(&encode(&run)), run, "seed {seed}");
    }
}
