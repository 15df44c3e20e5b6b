//! The output log, its marks, and what is written down as gone.

use std::path::Path;

use makima_core::id::SecretId;
use makima_core::input::Chunk;

use super::super::gone::MARKS;
use super::super::log::{HEAD, Shared, settle};
use super::super::mask::Secrets;
use super::super::reader::Reader;
use super::super::record::Folder;
use crate::fuzz::place;

/// Between the log, the marks and the record of what is gone.
const BETWEEN: &[u8] = b"\n%%\n";

const SECRET: &str = "s3cret-token";

/// A log that nobody writes to any more is cut to whole records, and read to its end, wherever one begins. No secret
/// is shown.
pub(crate) fn log(data: &[u8]) {
    let place = place();
    let (log, rest) = parted(data);
    let (marks, gone) = parted(rest.unwrap_or_default());
    let put = |name: &str, bytes: &[u8]| std::fs::write(place.path().join(name), bytes).is_ok();
    assert!(put("output.log", log), "there is no room");
    // Of logs alone more is known.
    let plain = rest.is_none();
    assert!(plain || put(MARKS, marks), "there is no room");
    assert!(gone.is_none_or(|gone| put("output.gone", gone)), "there is no room");
    let folder = Folder::at(place.path());
    let Ok(shared) = settle(&folder) else { return };
    assert!(shared.length() <= log.len() as u64);
    assert_eq!(settle(&folder).ok().map(|again| again.length()), Some(shared.length()), "it is cut twice");
    for secret in [None, Some(SECRET)] {
        let secrets = Secrets::default();
        if let Some(secret) = secret {
            secrets.set(SecretId::DaemonKey, secret);
        }
        let chunks = read(&mut Reader::new(folder.clone(), secrets.clone()), &shared, plain);
        let mut shown = 0_usize;
        for chunk in &chunks {
            shown = shown.saturating_add(chunk.parts.iter().map(|part| part.text.len()).sum());
            for part in &chunk.parts {
                assert!(secret.is_none_or(|secret| !part.text.contains(secret)), "{}", part.text);
                assert!(part.to >= chunk.from && part.to <= chunk.to, "{chunk:?}");
                assert!(part.line_end.is_none_or(|end| end >= chunk.from && end <= part.to), "{chunk:?}");
            }
        }
        // A byte that is no text shows as three; what is missing is said in a line.
        assert!(shown <= log.len().saturating_mul(3).saturating_add(1_000), "{shown} of {}", log.len());
        if plain {
            from_anywhere(place.path(), &secrets, &shared, &chunks);
        }
    }
}

fn parted(data: &[u8]) -> (&[u8], Option<&[u8]>) {
    match data.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        Some(at) => (data.get(..at).unwrap_or_default(), data.get(at + BETWEEN.len()..)),
        None => (data, None),
    }
}

/// All chunks. Each begins where the one before ended.
fn read(reader: &mut Reader, shared: &Shared, plain: bool) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut at = 0;
    loop {
        let chunk = match reader.next(at, shared) {
            Ok(Some(chunk)) => chunk,
            // What was made up of its marks and its gaps need not be there.
            Ok(None) | Err(_) if !plain => return chunks,
            other => unreachable!("it ends at {at} of {}: {other:?}", shared.length()),
        };
        assert_eq!(chunk.from, at);
        if chunk.to == at {
            assert!(at >= shared.length());
            return chunks;
        }
        assert!(chunk.to > at && (!plain || chunk.to <= shared.length()), "{chunk:?}");
        at = chunk.to;
        chunks.push(chunk);
        assert!(chunks.len() as u64 <= shared.length() / HEAD as u64 + 2, "there is no end of it");
    }
}

/// Whoever begins at a chunk is told the same as who has read all before it.
fn from_anywhere(folder: &Path, secrets: &Secrets, shared: &Shared, chunks: &[Chunk]) {
    let folder = Folder::at(folder);
    // Not all, of many: each is a walk over what stands before it.
    for chunk in chunks.iter().step_by((chunks.len() / 8).max(1)) {
        let alone = Reader::new(folder.clone(), secrets.clone()).next(chunk.from, shared);
        assert_eq!(alone.ok().flatten().as_ref(), Some(chunk));
        let again = Reader::new(folder.clone(), secrets.clone()).again(chunk);
        assert_eq!(again.ok().flatten().as_ref(), Some(&chunk.parts));
    }
}
