//! Names from outside become a name of ours or a refusal: never an option, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use makima_core::id::TaskId;
use makima_core::policy::{BranchName, RepositoryUrl, revision, task_name};

fuzz_target!(|text: &str| {
    if let Ok(url) = RepositoryUrl::read(text) {
        assert!(!url.as_str().starts_with('-') && !url.as_str().contains("::"));
    }
    if let Ok(name) = revision(text) {
        assert!(!name.starts_with('-'));
    }
    let name = task_name(text, text);
    assert!(!name.is_empty() && !name.chars().any(char::is_control));
    let id = TaskId(Default::default());
    let branch = BranchName::of(&name, id);
    assert_eq!(BranchName::task_of(branch.as_str()), Some(id));
    assert!(revision(branch.as_str()).is_ok());
});
