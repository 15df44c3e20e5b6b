//! What git says, what agents write where git reads, and what the kernel tells of processes.

use std::path::Path;

use super::super::foreign;
use super::super::refs::{self, Head};
use super::super::scene::Scene;
use super::super::source::{self, Tips};
use super::super::{into, merge, pr, proc, stage, user, wants};
use crate::fuzz::place;

/// What git says to our questions. Names in it are those of whoever made the commits, or the far side's.
pub(crate) fn git(data: &[u8]) {
    let most = data.len().saturating_add(1);
    stage::fuzz(data);
    into::fuzz(data);
    merge::fuzz(data);
    pr::fuzz(data);
    wants::fuzz(data);
    source::fuzz(&String::from_utf8_lossy(data));
    for tips in [Tips::told(data), Tips::listed(data)] {
        assert!(tips.refs.len() <= most);
        for (name, oid) in &tips.refs {
            assert!(refs::is_oid(oid) && (name.starts_with("refs/heads/") || name.starts_with("refs/tags/")), "{name}");
        }
    }
    let known = user::User::default().as_said_by(data);
    // Somebody commits, always.
    assert_eq!(known.identity.len(), 4);
}

/// The files of a repository that an agent may have written.
pub(crate) fn refs(data: &[u8]) {
    let place = place();
    let git = place.path().join(".git");
    let put = |name: &str| std::fs::write(git.join(name), data).is_ok();
    let folders = ["refs/heads", "objects/info"].map(|folder| git.join(folder));
    assert!(folders.iter().all(|folder| std::fs::create_dir_all(folder).is_ok()), "there is no room");
    let files = ["HEAD", "packed-refs", "shallow", "MERGE_HEAD", "objects/info/alternates", "refs/heads/makima"];
    assert!(files.iter().all(|name| put(name)), "there is no room");
    let read = refs::read(&git);
    let mut all = read.unwrap_or_default();
    assert!(all.values().all(|oid| refs::is_oid(oid)), "{all:?}");
    // No far side can have others, and it is theirs that are packed.
    all.retain(|name, _| !name.chars().any(char::is_control));
    let packed = refs::pack(all.iter().map(|(name, oid)| (name.as_str(), oid.as_str())));
    assert!(
        std::fs::write(git.join("packed-refs"), packed).is_ok() && refs::read(&git).is_ok_and(|again| again == all)
    );
    match refs::head(&git) {
        Head::Symbolic(name) => {
            let inside = name.starts_with("refs/") && !name.split('/').any(|part| part == "..");
            assert!(inside, "{name}");
        }
        Head::Detached(oid) => assert!(refs::is_oid(&oid), "{oid}"),
        Head::Broken => {}
    }
    let scene = Scene::of(place.path(), "makima", Path::new("/nowhere"));
    let oids = scene.head.iter().chain(&scene.tip).chain(&scene.merging).chain(&scene.shallow);
    assert!(oids.clone().all(|oid| refs::is_oid(oid)), "{scene:?}");
    let _ = foreign::can_be_lent(&git.join("objects"), Path::new("/nowhere"));
}

/// A line of `/proc/<pid>/stat`, in which a process writes its own name.
pub(crate) fn processes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = proc::parse(&text);
    // Whatever it calls itself, the numbers are the kernel's.
    let name: String = text.chars().filter(|c| *c != '\n').take(15).collect();
    let process = proc::parse(&format!("42 ({name}) S 7 40 39 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 1"));
    let told =
        process.map(|process| (process.id.pid, process.id.start, process.parent, process.group, process.session));
    assert_eq!(told, Some((42, 9876, 7, 40, 39)), "{name}");
}
