//! The binary under test, another build of it, and where a run takes place.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Failure;

/// The other build's version.
const OTHER: &str = "99.0.0-kills";

/// The binary, and one of another build: what of them was named by whoever asks.
#[derive(Debug, Default)]
pub struct Builds {
    /// The usual one; else the one beside this program.
    pub makima: Option<PathBuf>,
    /// The other; else it is built.
    pub other: Option<PathBuf>,
}

impl Builds {
    /// Both of them, as they are there.
    ///
    /// # Errors
    /// One is missing and cannot be built.
    pub fn find(self) -> Result<[PathBuf; 2], Failure> {
        let own = std::env::current_exe()?;
        let makima = self.makima.unwrap_or_else(|| own.with_file_name("makima"));
        if !makima.is_file() {
            return Err(format!("{} is not there: build `makima-runner` in this profile", makima.display()).into());
        }
        let other = self.other.map_or_else(|| build_other(&own), Ok)?;
        let there = |path: PathBuf| path.canonicalize().map_err(|why| format!("{}: {why}", path.display()));
        Ok([there(makima)?, there(other)?])
    }
}

/// Builds the same sources as another version, in a target folder of its own: `<target>/other-version`.
fn build_other(own: &Path) -> Result<PathBuf, Failure> {
    let profile = own.parent().ok_or("this program lies in no folder")?;
    let name = profile.file_name().and_then(|name| name.to_str()).ok_or("a profile without a name")?;
    let target = profile.parent().ok_or("a profile without a target folder")?.join("other-version");
    println!("building makima {OTHER} in {}", target.display());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--package", "makima-runner", "--bin", "makima"]);
    command.args(["--profile", if name == "debug" { "dev" } else { name }]).arg("--target-dir").arg(&target);
    let status = command.env("MAKIMA_BUILD_VERSION", OTHER).current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    if !status.success() {
        return Err(format!("the other build fails: {status}").into());
    }
    Ok(target.join(name).join("makima"))
}

/// Where many small files are made: in memory where there is room for that, and nobody has said otherwise.
#[must_use]
pub fn memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match std::env::var_os("TMPDIR") {
        None if memory.is_dir() => memory.to_path_buf(),
        _ => std::env::temp_dir(),
    }
}

/// Any number that is another one each time.
#[must_use]
pub fn clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_secs()
}
