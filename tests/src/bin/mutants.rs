//! Mutation testing of the core.
//!
//! `cargo run -p makima-tests --bin mutants -- MODULE`

use std::process::ExitCode;

use makima_tests::mutants::{MODULES, Module, Record, Survivor, UNFINISHED, check, faults, run};

const HELP: &str = "\
Changes the core here and there, and sees that some test fails each time. What came of it is kept in tests/mutants.

Usage: mutants MODULE... [--own]
       mutants --check
       mutants --list

  MODULE   try its mutants: first those tests judge that are in the core, then, of what they let through, the simulated world
  --own    the core's own tests only: quick, and what they let through stays open
  --check  see that every module but those that are known to be unfinished was tried as its code is now, that of each
           mutant that nothing catches it is said why, and that 95 of a hundred are caught
  --list   print the modules, and how far each is

`cargo install --locked cargo-mutants` comes first. It works on a copy, target/mutants/tree, and what it builds lies in
target/mutants/build. It may be ended at any time; what was caught is written down after each few mutants, and not tried
again while the code is the same.

A mutant that survives is a test that is missing; write it, and run the module again. Where nobody could tell the two apart,
say in the record why. Then take the module off the list of unfinished ones in tests/src/mutants/mod.rs.

Exit code 1 where something is not as it should be.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] => Err(format!("which module?\n\n{HELP}")),
        words if words.iter().any(|word| ["--help", "-h"].contains(word)) => {
            println!("{HELP}");
            Ok(())
        }
        ["--list"] => list(),
        ["--check"] => checked(),
        words => try_all(words),
    };
    done.map_or_else(
        |why| {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn try_all(words: &[&str]) -> Result<(), String> {
    let judges = if words.contains(&"--own") { 1 } else { usize::MAX };
    let module = |name: &&str| {
        let found = MODULES.iter().find(|(module, _)| module == name);
        found.ok_or_else(|| format!("there is no module `{name}`; see --list"))
    };
    let modules: Vec<&Module> = words.iter().filter(|word| **word != "--own").map(module).collect::<Result<_, _>>()?;
    for module in modules {
        let record = run(module, judges)?;
        for Survivor { mutant, .. } in record.open() {
            println!("open: {}: {}\n    {}", mutant.file, mutant.change, mutant.line);
        }
    }
    Ok(())
}

fn list() -> Result<(), String> {
    for module in MODULES {
        let (name, files) = module;
        let state = match Record::read(name)? {
            Some(record) => {
                let (caught, viable) = record.caught();
                let open = record.open().count();
                let equal = record.survivors.len() - open;
                let old =
                    if faults(module)?.iter().any(|fault| fault.contains("another")) { ", of older code" } else { "" };
                format!("{caught} of {viable} caught, {equal} cannot be, {open} open{old}")
            }
            None => "never tried".to_string(),
        };
        println!("{name}: {state}: {}", files.join(", "));
    }
    Ok(())
}

fn checked() -> Result<(), String> {
    println!("{} modules, unfinished: {}", MODULES.len(), UNFINISHED.join(", "));
    let wrong = check()?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}
