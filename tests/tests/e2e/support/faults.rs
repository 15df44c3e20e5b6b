//! Calls of the C library that fail when a test says so, in all processes of a daemon: itself, supervisors, git, agents.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::place::Place;

/// The faults under one daemon.
pub(crate) struct Faults {
    rules: PathBuf,
    etc: PathBuf,
    library: PathBuf,
}

impl Faults {
    /// None are there yet.
    pub(crate) fn new(place: &Place) -> Self {
        let faults = Self { rules: place.path("rules"), etc: place.path("etc"), library: place.path("faults.so") };
        let source = place.path("faults.c");
        fs::write(&source, include_str!("faults.c")).expect("a file");
        let rules = format!("-DRULES={:?}", faults.rules.display().to_string());
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", &rules, "-o"]).arg(&faults.library).arg(source).arg("-ldl");
        let built = compiler.status().expect("whoever links Rust has a C compiler");
        assert!(built.success(), "{built}");
        faults
    }

    /// What lays them under a process and its children: for [`Call::under`](super::Call::under).
    pub(crate) fn mount(&self) -> String {
        let (etc, library) = (self.etc.display(), self.library.display());
        format!(
            "{{ test -d {etc} || cp -a /etc {etc}; }} && echo {library} > {etc}/ld.so.preload && mount --bind {etc} /etc"
        )
    }

    /// From now on what is of this kind (`write`, `open`) fails like that on paths with this in them, but for so many of
    /// them.
    pub(crate) fn begin(&self, kind: &str, errno: i32, skip: u64, part: &str) {
        for marks in ["met", "seen"] {
            let _ = fs::remove_file(self.rules.with_extension(marks));
        }
        let new = self.rules.with_extension("new");
        fs::write(&new, format!("{kind} {errno} {skip} {part}\n")).expect("a file");
        fs::rename(new, &self.rules).expect("a file");
    }

    /// The paths on which something failed since.
    pub(crate) fn met(&self) -> Vec<String> {
        let met = fs::read_to_string(self.rules.with_extension("met")).unwrap_or_default();
        met.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// No more of them.
    pub(crate) fn end(&self) {
        fs::remove_file(&self.rules).expect("there was one");
    }
}
