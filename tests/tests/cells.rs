//! What comes of each input in each state of the core's machines: a table, reviewed, and drawings of it for people.

use std::collections::BTreeMap;
use std::path::Path;

use insta::assert_snapshot;
use makima_tests::cells::{Cells, document, rare};
use makima_tests::swarm::Run;

/// So many seeds show all that is not rare.
const SEEDS: u64 = 600;

/// So many more are looked through for what is, if `MAKIMA_CELLS` does not say otherwise.
const MORE: u64 = 200;

/// Protects every rule about what may happen when. A cell that has changed is looked at: either it is a bug, or what is
/// written about it changes with it.
#[test]
fn each_cell_is_as_it_was_reviewed() {
    let cells = Cells::of(0..SEEDS);
    let faults = cells.faults();
    assert!(faults.is_empty(), "{faults:#?}");
    assert_snapshot!(cells.text());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/machines.md");
    let document = document(&cells);
    if std::env::var_os("MAKIMA_WRITE").is_some() {
        std::fs::write(&path, &document).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&path).expect("the drawings are one of the documents");
    let help = "MAKIMA_WRITE=1 cargo test -p makima-tests --test cells";
    assert!(written == document, "docs/machines.md draws another machine; it is written anew by: {help}");
}

/// Protects the review from a table of what is usual: what hardly a run shows is reviewed as well. With `MAKIMA_WRITE` a
/// short run is kept for each cell that is not in the table yet.
#[test]
fn what_is_rare_was_reviewed_too() {
    let more = std::env::var("MAKIMA_CELLS").map_or(MORE, |more| more.parse().expect("a number"));
    let (mut beyond, mut watch) = (BTreeMap::new(), Some(Box::default()));
    for seed in SEEDS..SEEDS + more {
        let (run, world) = Run::watched(seed, watch);
        watch = world.unwrap_or_else(|why| panic!("seed {seed}: {why}")).watch;
        let cells = watch.as_ref().map(|watch| watch.cells().beyond_reviewed());
        for cell in cells.unwrap_or_default() {
            beyond.entry(cell).or_insert_with(|| (seed, run.clone()));
        }
    }
    if std::env::var_os("MAKIMA_WRITE").is_some() {
        for (cell, (seed, run)) in &beyond {
            let path = rare::keep(run, cell).unwrap_or_else(|why| panic!("{why}"));
            println!("{cell} (seed {seed}): {}", path.display());
        }
    } else {
        let beyond: Vec<_> = beyond.iter().map(|(cell, (seed, _))| format!("{cell} (seed {seed})")).collect();
        assert!(beyond.is_empty(), "see CONTRIBUTING.md, the table: {beyond:#?}");
    }
}
