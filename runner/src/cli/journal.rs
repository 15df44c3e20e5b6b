//! `makima journal` and `makima replay`: what the daemon wrote down, checked, shown, taken again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use makima_core::id::TaskId;
use makima_core::input::{Chunk, Part};
use makima_core::policy::counted;
use makima_core::record::Record;
use serde_json::json;

use super::args::{JournalCommand, ReplayArgs};
use super::print;
use super::reduce::reduce;
use crate::config::{ConfigFile, home_path};
use crate::executor::Again;
use crate::journal::replay::{NoRecording, Recording, Stopped};
use crate::journal::{Damage, Segment, format, segments};
use crate::report::{FAILED, Failure};
use crate::service;

pub(super) fn journal(command: JournalCommand) -> Result<(), Failure> {
    match command {
        JournalCommand::Verify { file, json } => verify(&place(file)?, json),
        JournalCommand::Show { file, last, task, json } => show(&place(file)?, last, task.map(TaskId), json),
        JournalCommand::Export { file, out } => export(&place(file)?, &out),
    }
}

/// What is meant: the file that was named, else this home's journal.
fn place(file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    file.map_or_else(|| Ok(home_path()?.join("journal")), Ok)
}

fn files(place: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: io::Error| Failure::unusable(error.to_string());
    let files = if place.is_dir() { segments(place).map_err(unreadable)? } else { vec![place.to_path_buf()] };
    if files.is_empty() {
        return Err(Failure::unusable(NoRecording::None(place.to_path_buf()).to_string()));
    }
    Ok(files)
}

fn read(file: &Path) -> Result<Segment, Failure> {
    Segment::read(file).map_err(|error| Failure::unusable(error.to_string()))
}

fn verify(place: &Path, as_json: bool) -> Result<(), Failure> {
    let files = files(place)?;
    let mut damaged = false;
    for (at, file) in files.iter().enumerate() {
        let segment = read(file)?;
        // The newest may be written to just now.
        let written = segment.is_torn() && at.saturating_add(1) == files.len();
        damaged |= segment.damage.is_some() && !written;
        tell(&segment, written, as_json);
    }
    if damaged { Err(Failure::silent(FAILED)) } else { Ok(()) }
}

fn tell(segment: &Segment, written: bool, as_json: bool) {
    let (first, last) = (segment.records.first(), segment.records.last());
    if as_json {
        let damage = |Damage { line, byte, what, .. }: &Damage| json!({ "line": line, "byte": byte, "what": what.to_string(), "tail": written });
        return print::json(&json!({
            "file": segment.path,
            "build": segment.header.as_ref().ok().map(|header| &header.build),
            "first": first.map(|record| record.n),
            "last": last.map(|record| record.n),
            "records": segment.records.len(),
            "damage": segment.damage.as_ref().map(damage),
        }));
    }
    let span = first.zip(last).map_or_else(String::new, |(first, last)| format!(" ({} to {})", first.n, last.n));
    let records = counted(segment.records.len() as u64, "record");
    let state = match &segment.damage {
        None => "whole".to_string(),
        Some(damage) if written => format!("its end at byte {} is being written, or was cut off", damage.byte),
        Some(damage) => format!("damaged at line {}, byte {}: {}", damage.line, damage.byte, damage.what),
    };
    print::line(&format!("{}: {records}{span}, {state}", segment.path.display()));
}

fn show(place: &Path, last: Option<usize>, task: Option<TaskId>, as_json: bool) -> Result<(), Failure> {
    let mut lines: Vec<String> = Vec::new();
    let mut damage = None;
    for file in files(place)? {
        let segment = read(&file)?;
        let named = |record: &&Record| task.is_none_or(|task| names(record, task));
        lines.extend(segment.records.iter().filter(named).map(|record| shown(record, as_json)));
        damage = segment.damage.or(damage);
    }
    let from = lines.len().saturating_sub(last.unwrap_or(usize::MAX));
    for line in lines.get(from..).unwrap_or_default() {
        print::line(line);
    }
    if let Some(damage) = damage {
        print::note(&damage.to_string());
    }
    Ok(())
}

/// Whether a record says something of a task.
fn names(record: &Record, task: TaskId) -> bool {
    // Ids are told apart by their text wherever they stand: in commands, in what was done, in what was left.
    serde_json::to_string(record).is_ok_and(|line| line.contains(&task.to_string()))
}

pub(super) fn shown(record: &Record, as_json: bool) -> String {
    if as_json {
        return serde_json::to_string(record).unwrap_or_default();
    }
    let input = serde_json::to_string(&record.input).unwrap_or_default();
    let mut text = format!("{} {} {}", record.n, when(record), print::tame(&input));
    for effect in &record.effects {
        text.push_str("\n    ");
        text.push_str(&print::tame(effect));
    }
    text
}

/// The wall clock of a step, to the millisecond, in UTC.
fn when(record: &Record) -> String {
    let time = i64::try_from(record.now.unix.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| record.now.unix.0.to_string(), |time| format!("{time:.3}"))
}

/// The logs of this home's tasks, with all that is known to be secret there masked.
pub(super) fn logs() -> Result<impl FnMut(TaskId, &Chunk) -> Option<Vec<Part>>, Failure> {
    let home = home_path()?;
    let file = ConfigFile::read(&home)?;
    let secrets = service::known_secrets(&file)?;
    if let Ok(token) = std::fs::read_to_string(crate::server_file::token_file(&home)) {
        secrets.add(token.trim());
    }
    let mut again = Again::new(home.join("tasks"), secrets);
    Ok(move |task, chunk: &Chunk| again.parts(task, chunk))
}

fn recording(place: &Path) -> Result<Recording, Failure> {
    Recording::read(place).map_err(|error| Failure::unusable(error.to_string()))
}

/// A file that only its owner may read, or stdout.
pub(super) fn opened(out: &Path) -> io::Result<Box<dyn Write>> {
    if out == Path::new("-") {
        return Ok(Box::new(io::BufWriter::new(io::stdout().lock())));
    }
    Ok(Box::new(io::BufWriter::new(crate::home::private_file().open(out)?)))
}

pub(super) fn unwritable(out: &Path, error: &io::Error) -> Failure {
    Failure::unusable(format!("{}: {error}", out.display()))
}

fn export(place: &Path, out: &Path) -> Result<(), Failure> {
    let recording = recording(place)?;
    let failed = |error: io::Error| unwritable(out, &error);
    let mut to = opened(out).map_err(failed)?;
    let mut written = format::line(&recording.header).and_then(|line| to.write_all(&line));
    let logs = logs()?;
    let replayed = quietly(|| {
        recording.replay(logs, |record| {
            if written.is_ok() {
                written = format::line(&record).and_then(|line| to.write_all(&line));
            }
        })
    });
    written.and_then(|()| to.flush()).map_err(failed)?;
    let replayed = replayed.map_err(stopped)?;
    print::note(&format!("{} recorded, digest {:016x}", counted(replayed.steps, "step"), replayed.digest));
    Ok(())
}

pub(super) fn replay(args: ReplayArgs) -> Result<(), Failure> {
    let recording = recording(&place(args.file.clone())?)?;
    if let Some(damage) = &recording.damage {
        print::note(&format!("{damage}; taken again up to there"));
    }
    let (build, beyond) = (recording.header.build.clone(), recording.beyond);
    if args.reduce {
        return reduce(recording, &build, &args);
    }
    let logs = logs()?;
    let replayed = quietly(|| recording.replay(logs, drop)).map_err(|why| stopped_by(why, &build))?;
    if args.json {
        print::json(&json!({
            "steps": replayed.steps,
            "effects": replayed.effects,
            "digests": replayed.digests,
            "digest": format!("{:016x}", replayed.digest),
        }));
    } else {
        print::line(&format!(
            "{}, {} and {} compared: the same; digest {:016x}",
            counted(replayed.steps, "step"),
            counted(replayed.effects, "effect"),
            counted(replayed.digests, "digest"),
            replayed.digest
        ));
    }
    match beyond {
        0 => Ok(()),
        // Who wants to know whether it is the same does not know it of these.
        _ => Err(Failure::failed(format!("{} behind the damage could not be taken", counted(beyond as u64, "record")))),
    }
}

/// Checks that fail are told as what a replay stops at, and not by themselves.
pub(super) fn quietly<T>(replay: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = replay();
    std::panic::set_hook(hook);
    done
}

fn stopped(why: Stopped) -> Failure {
    Failure::failed(why.to_string())
}

pub(super) fn stopped_by(why: Stopped, build: &str) -> Failure {
    let failure = stopped(why);
    if build == crate::journal::BUILD {
        return failure;
    }
    failure.hint(format!("it was recorded by makima {build}, and this is {}", crate::journal::BUILD))
}
