//! Which programs are tested.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;

/// The programs, with colons between them.
const PROGRAMS: &str = "MAKIMA_TEST_CLAUDE";

/// `required`: a test for which there is no program has failed.
const AGENTS: &str = "MAKIMA_TEST_AGENTS";

/// 1: with tests that take minutes.
const LONG: &str = "MAKIMA_LONG";

/// Plays this with each version of Claude Code that there is, with all of them at once: most of the time is waited.
#[track_caller]
pub(crate) fn with_each(play: impl Fn(&Path) + Sync) {
    let programs = programs();
    if programs.is_empty() {
        let why = format!("{PROGRAMS} does not say where `claude` is");
        assert!(std::env::var(AGENTS).as_deref() != Ok("required"), "{why}, and {AGENTS} asks for it");
        return is_skipped(&why);
    }
    thread::scope(|threads| {
        let play = &play;
        let begin = |program: &PathBuf| {
            let (thread, program) = (thread::Builder::new().name(format!("with {program:?}")), program.clone());
            thread.spawn_scoped(threads, move || play(&program)).expect("a thread")
        };
        let played: Vec<_> = programs.iter().map(|program| (program, begin(program))).collect();
        let ended: Vec<_> = played.into_iter().map(|(program, thread)| (program, thread.join())).collect();
        let failed: Vec<&PathBuf> = ended.iter().filter(|(_, end)| end.is_err()).map(|(program, _)| *program).collect();
        assert!(failed.is_empty(), "it fails with {failed:?}");
    });
}

/// Plays this with the first of them, which is to be the newest.
#[track_caller]
pub(crate) fn with_the_newest(play: impl Fn(&Path)) {
    match programs().first() {
        Some(program) => play(program),
        None => with_each(|_| {}),
    }
}

/// The same, of what takes minutes.
#[track_caller]
pub(crate) fn with_each_for_long(play: impl Fn(&Path) + Sync) {
    if std::env::var(LONG).as_deref() == Ok("1") { with_each(play) } else { is_skipped(&format!("{LONG} is not 1")) }
}

/// Says that this test is left out. Not by the macro: what that prints of a test that passes nobody sees.
pub(crate) fn is_skipped(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "{test} is skipped: {why}");
}

fn programs() -> Vec<PathBuf> {
    let named = std::env::var_os(PROGRAMS).unwrap_or_default();
    let programs: Vec<PathBuf> = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
    for program in &programs {
        assert!(program.is_absolute() && program.is_file(), "{PROGRAMS}: no program: {}", program.display());
    }
    programs
}
