//! What comes of each input in each state of the core's machines: a table, reviewed, and drawings of it for people.

use std::path::Path;

use insta::assert_snapshot;
use makima_tests::cells::{Cells, document};

/// So many seeds show everything three times over: what 200 show, 600 do not change.
const SEEDS: u64 = 600;

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
