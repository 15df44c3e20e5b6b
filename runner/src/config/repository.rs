//! `[[repository]]`: what the user wants of a repository, whatever it says itself.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use makima_core::policy::RepositoryUrl;
use makima_core::wants::Wants;
use serde::Deserialize;

use super::user_folder;
use crate::executor::OwnWants;
use crate::{consent, roots};

/// `[[repository]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryFile {
    /// Which: by URL, or by path.
    pub url: String,
    /// Commands that are run in a new worktree before the agent.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Commands that the work is checked by.
    #[serde(default)]
    pub checks: Vec<String>,
    /// Variables for these and for the agent.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether submodules are brought as well.
    #[serde(default)]
    pub submodules: bool,
    /// Folders that are all that is checked out.
    #[serde(default)]
    pub sparse: Vec<String>,
}

impl RepositoryFile {
    /// What is wanted of which repository.
    ///
    /// # Errors
    /// The URL is none, or something cannot be done: for people.
    pub fn wants(&self) -> Result<OwnWants, String> {
        let repository = match RepositoryUrl::read(&self.url).map_err(|refused| refused.to_string())? {
            RepositoryUrl::Remote(url) => url,
            RepositoryUrl::Local(path) => {
                let path = roots::expand(Path::new(&path), user_folder().as_deref()).unwrap_or_else(|| path.into());
                // One that is not there is compared as it is written.
                fs::canonicalize(&path).unwrap_or(path).to_string_lossy().into_owned()
            }
        };
        let Self { setup, checks, env, submodules, sparse, .. } = self.clone();
        let wants = Wants { setup, checks, env, submodules, sparse };
        wants.check()?;
        Ok(OwnWants { repository: consent::key(&repository), wants })
    }
}
