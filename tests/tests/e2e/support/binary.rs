//! The binary that is tested: never an older one than the sources.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `MAKIMA_BIN`, else the one beside this test, built anew if need be.
pub(crate) fn makima() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("MAKIMA_BIN").map_or_else(build, PathBuf::from))
}

/// `<target>/<profile>/deps/e2e-…` is this test, `<target>/<profile>/makima` that program.
fn build() -> PathBuf {
    let this = std::env::current_exe().expect("the test knows its own file");
    let folder = this.parent().and_then(Path::parent).expect("it lies in <profile>/deps");
    let profile = folder.file_name().and_then(|name| name.to_str()).expect("the profile has a name");
    let target = folder.parent().expect("the profile's folder lies in the target folder");
    // A runner that starts a process for each test says which run it is: one build will do for all of them.
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_default();
    let mut stamp = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(".e2e-built"))
        .expect("the target folder can be written to");
    stamp.lock().expect("it can be locked");
    let mut built = String::new();
    stamp.read_to_string(&mut built).expect("it can be read");
    if run.is_empty() || built != run {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--package", "makima-runner", "--bin", "makima", "--target-dir"]).arg(target);
        command.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        let status = command.status().expect("cargo can be started");
        assert!(status.success(), "the binary cannot be built: {status}");
        stamp.set_len(0).and_then(|()| stamp.rewind()).expect("it can be emptied");
        stamp.write_all(run.as_bytes()).expect("it can be written");
    }
    folder.join("makima")
}
