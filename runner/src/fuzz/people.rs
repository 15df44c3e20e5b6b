//! What people write, and the authors of repositories.

use crate::config::ConfigFile;
use crate::config::check::problems;
use crate::consent;

/// The configuration and a repository's `.makima.toml`: where one cannot be read it is said why, in places that are
/// there; and a repository is known under one name.
pub(super) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let problems = problems(text);
    let read = toml::from_str::<ConfigFile>(text);
    assert!(read.is_ok() || !problems.is_empty(), "nothing is said of {:?}", read.err());
    let lines = text.split('\n').count();
    for problem in &problems {
        assert!(problem.line >= 1 && problem.line <= lines.max(1) && problem.column >= 1, "{problem:?}");
    }
    if let Ok(file) = read {
        let _ = (file.keep.keep(), file.compat(), file.agent_name(), file.forges(), file.log.bounds());
        for own in &file.repository {
            let _ = own.wants();
        }
    }
    if let Ok(wants) = consent::parse(text) {
        // As the daemon writes it down, to be agreed to.
        let written = serde_json::to_vec(&wants).unwrap_or_default();
        assert_eq!(serde_json::from_slice(&written).ok().as_ref(), Some(&wants));
        assert!(wants.check().is_ok(), "{wants:?}");
    }
    let key = consent::key(text);
    assert!(key.len() <= text.len() + 1, "{key}");
}

/// The file of `makima run --tasks`: each task stands behind those that it comes after.
#[cfg(feature = "server")]
pub(super) fn tasks(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    crate::cli::fuzz_tasks(text);
}

/// Requests to the embedded server.
#[cfg(feature = "server")]
pub(super) fn requests(data: &[u8]) {
    makima_control::fuzz::requests(data, super::place().path());
}
