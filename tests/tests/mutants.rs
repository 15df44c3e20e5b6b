//! What came of small changes of the core is told of the core as it is.

use std::collections::BTreeSet;
use std::path::Path;

use makima_tests::mutants::{MODULES, check};

/// Protects the record from being of older code, and from a mutant that nothing catches and nobody looked at. What is not
/// through yet is on a list, and comes off it when it is.
#[test]
fn every_module_is_through_or_known_not_to_be() {
    let wrong = check().expect("records can be read");
    assert!(wrong.is_empty(), "`cargo run -p makima-tests --bin mutants -- --help` says what to do: {wrong:#?}");
}

/// Protects a new file of a task or of the link from being left out.
#[test]
fn every_file_of_a_task_and_of_the_link_is_in_one_module() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let named: Vec<&str> = MODULES.iter().flat_map(|(_, files)| files.iter().copied()).collect();
    assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len(), "one is in two");
    let absent = named.iter().find(|file| !source.join(file).is_file());
    assert_eq!(absent, None, "it is gone");
    for folder in ["task", "link", "outbox"] {
        for entry in std::fs::read_dir(source.join(folder)).expect("a folder of the core") {
            let name = entry.expect("an entry").file_name().into_string().expect("a name");
            let file = format!("{folder}/{name}");
            let tests = name == "tests.rs" || !name.ends_with(".rs");
            assert!(tests || named.contains(&file.as_str()), "{file} is in no module");
        }
    }
}
