//! The records in a task's folder. The agent runs as the same user, and may have written there.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::super::brought::Lent;
use super::super::leftovers::leftovers_in;
use super::super::record::Folder;
use crate::consent::Book;
use crate::fuzz::place;
use crate::roots;
use crate::server_file::ServerFile;

const ID: &str = "0193a4e0-0000-7000-8000-000000000001";

const NAMES: &[&str] = &[
    "spec.json",
    "end.json",
    "prepared.json",
    "started.json",
    "agent",
    "exit",
    "output.gone",
    "delivered",
    "skipped.json",
    "merge.json",
    "into.json",
    "harvest.json",
    "brought",
];

/// What is read of a record is written so that the same is read again; what cannot be read is left where it is.
pub(crate) fn records(data: &[u8]) {
    let place = place();
    let path = place.path().join(ID);
    let made = std::fs::create_dir(&path).is_ok();
    assert!(made && NAMES.iter().all(|name| std::fs::write(path.join(name), data).is_ok()), "there is no room");
    let folder = Folder::at(&path);
    same(&folder, Folder::standing, Folder::prepared);
    same(&folder, Folder::intent, Folder::start);
    same(&folder, Folder::held, Folder::holds);
    same(&folder, Folder::ending, Folder::ends);
    same(&folder, Folder::begun, Folder::merges);
    same(&folder, Folder::following, Folder::follows);
    same(&folder, Folder::harvest, Folder::harvests);
    if let Ok(gone) = folder.gone() {
        let _ = (gone.total(), gone.at(1), gone.next(1), gone.with(3..9).total());
        assert!(folder.loses(&gone).is_ok() && folder.gone().is_ok_and(|again| again == gone));
    }
    if let Some(end) = folder.end() {
        let before = shape(&end);
        assert!(folder.conclude(end).is_ok() && folder.end().map(|end| shape(&end)) == Some(before));
    }
    let lent = Lent::read(data);
    assert_eq!(Lent::read(&lent.bytes()), lent);
    let _ = (folder.spec(), lent.patterns());
    let left = leftovers_in(place.path());
    assert!(left.is_ok_and(|left| left.tasks.len() + left.unreadable.len() <= 1));
    elsewhere(place.path(), data);
}

type Write<T> = fn(&Folder, &T) -> std::io::Result<()>;
type Read<T> = fn(&Folder) -> Result<Option<T>, super::super::RecordError>;

fn same<T: PartialEq + std::fmt::Debug>(folder: &Folder, read: Read<T>, write: Write<T>) {
    if let Some(record) = read(folder).ok().flatten() {
        assert!(write(folder, &record).is_ok(), "it cannot be written: {record:?}");
        assert_eq!(read(folder).ok().flatten(), Some(record));
    }
}

fn shape(record: &impl Serialize) -> Option<Value> {
    serde_json::to_value(record).ok()
}

/// Records that lie in the home itself.
fn elsewhere(home: &Path, data: &[u8]) {
    let book = Book::of(home);
    assert!(std::fs::create_dir(home.join("consent")).is_ok());
    for name in ["x.allowed.json", "x.asked.json", "../allowed-roots"] {
        assert!(std::fs::write(home.join("consent").join(name), data).is_ok(), "there is no room");
    }
    let _ = (book.list(), book.asked("x"));
    let lines = data.split(|byte| *byte == b'\n').count();
    assert!(roots::allowed(home).len() <= lines);
    let _ = ServerFile::read(home);
}
