//! `makima replay --reduce`: what of a recording is needed for it to stop where it does.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use makima_core::policy::counted;
use serde_json::json;

use super::args::ReplayArgs;
use super::journal::{logs, opened, quietly, shown, stopped_by, unwritable};
use super::print;
use crate::journal::format;
use crate::journal::reduce::Reduced;
use crate::journal::replay::Recording;
use crate::report::{FAILED, Failure};

/// So often it is said how far it has come.
const TOLD: Duration = Duration::from_secs(2);

pub(super) fn reduce(recording: Recording, build: &str, args: &ReplayArgs) -> Result<(), Failure> {
    let steps = recording.records.len() as u64;
    let until = Instant::now().checked_add(Duration::from_secs(args.seconds));
    let until = until.ok_or_else(|| Failure::unusable("--seconds: that is longer than a clock counts"))?;
    let (logs, mut next) = (logs()?, Instant::now());
    let told = |left: usize| {
        if Instant::now() >= next {
            next = Instant::now().checked_add(TOLD).unwrap_or(next);
            print::note(&format!("{} of {steps} left", counted(left as u64, "step")));
        }
    };
    let reduced = quietly(|| recording.reduce(logs, until, told));
    match reduced.map_err(|why| stopped_by(why, build))? {
        Some(reduced) => tell(reduced, build, args),
        None if args.json => {
            print::json(&json!({ "steps": steps, "stops": null }));
            Ok(())
        }
        None => {
            print::line(&format!(
                "{}: all go the same way, and nothing breaks: nothing to reduce",
                counted(steps, "step")
            ));
            Ok(())
        }
    }
}

fn tell(reduced: Reduced, build: &str, args: &ReplayArgs) -> Result<(), Failure> {
    if let Some(out) = &args.out {
        write(&reduced, out)?;
    }
    let Reduced { records, stops, steps, done, .. } = reduced;
    if args.json {
        print::json(&json!({
            "steps": steps,
            "stops": stops.to_string(),
            "left": records.len(),
            "done": done,
            "out": args.out,
        }));
        return Err(Failure::silent(FAILED));
    }
    // What is written to stdout is the recording.
    if args.out.as_deref() != Some(Path::new("-")) {
        records.iter().for_each(|record| print::line(&shown(record, false)));
    }
    let more = if done { "" } else { "; time was over: more can be left out with more --seconds" };
    print::note(&format!("{} of {steps} left{more}", counted(records.len() as u64, "step")));
    Err(stopped_by(stops, build))
}

fn write(reduced: &Reduced, out: &Path) -> Result<(), Failure> {
    let written = opened(out).and_then(|mut to| {
        to.write_all(&format::line(&reduced.header)?)?;
        reduced.records.iter().try_for_each(|record| to.write_all(&format::line(record)?))?;
        to.flush()
    });
    written.map_err(|error| unwritable(out, &error))
}
