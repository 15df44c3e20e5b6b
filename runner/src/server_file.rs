//! `server.json` in the home: where the embedded server is, and the token that it wants. Readable for its
//! owner only. It goes with the server; where that is killed it stays, with the token in it, until the next one
//! writes its own.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::home::write_atomic;
use crate::report::Failure;

/// Where the embedded server is.
#[derive(Clone, Serialize, Deserialize)]
pub struct ServerFile {
    /// Its address, as a URL.
    pub url: String,
    /// The token that it wants.
    pub token: String,
    /// Its process.
    pub pid: u32,
}

impl std::fmt::Debug for ServerFile {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerFile").field("url", &self.url).field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl ServerFile {
    /// What is written there, if anything that can be read is.
    #[must_use]
    pub fn read(home: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(home)).ok()?).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn write(&self, home: &Path) -> io::Result<()> {
        write_atomic(&path(home), &serde_json::to_vec_pretty(self)?, 0o600)
    }

    /// Takes it away, if it is still this one.
    pub fn remove(&self, home: &Path) {
        if Self::read(home).is_some_and(|there| there.pid == self.pid && there.url == self.url) {
            let _ = fs::remove_file(path(home));
        }
    }
}

fn path(home: &Path) -> PathBuf {
    home.join("server.json")
}

/// Where the embedded server's token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `MAKIMA_API_KEY`. It is kept for no other start; `server.json` bears it as it bears any token.
    Environment,
    /// An earlier start made it.
    Kept,
    /// It was made just now.
    New,
}

/// The file that keeps the token that was made.
#[must_use]
pub fn token_file(data: &Path) -> PathBuf {
    data.join("token")
}

/// The embedded server's token: `MAKIMA_API_KEY`, else the one in `data`, else a new one that is kept there.
///
/// # Errors
/// Where it cannot be read, made or kept.
pub fn token(data: &Path) -> Result<(String, Origin), Failure> {
    if let Some(key) = std::env::var("MAKIMA_API_KEY").ok().filter(|key| !key.trim().is_empty()) {
        return Ok((key.trim().to_string(), Origin::Environment));
    }
    let file = token_file(data);
    match fs::read_to_string(&file) {
        Ok(token) if !token.trim().is_empty() => return Ok((token.trim().to_string(), Origin::Kept)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::unusable(error.to_string())),
        Ok(_) | Err(_) => {}
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::unusable(format!("no random numbers: {error}")))?;
    let token = URL_SAFE_NO_PAD.encode(bytes);
    write_atomic(&file, token.as_bytes(), 0o600).map_err(|error| Failure::unusable(error.to_string()))?;
    Ok((token, Origin::New))
}
