//! The journal on the disk that the target folder lies on. It is a library's part, so a program beside this one, which
//! is built from that library, measures it.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::table::{Goal, Row};
use super::{Bench, Failure};

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let folder = bench.own.parent().ok_or("this program lies in no folder")?;
    let program = folder.join("examples/journal_bench");
    if !program.is_file() {
        let how = "cargo build --release -p makima-runner --example journal_bench";
        return Err(format!("{} is not there: {how}", program.display()).into());
    }
    let output = Command::new(program).arg(folder).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("journal_bench: {}", output.status).into());
    }
    let figures: Value = serde_json::from_slice(&output.stdout)?;
    let figure = |name: &str| figures[name].as_f64().ok_or("a figure is missing");
    let (ours, limit) = (figure("group")? * 1e6, Some(figure("bare")? * 1e6));
    Row { name: "journal, a flush and a bare one", unit: "us", ours, limit, goal: Goal::AtMostTimes(1.3) }.print();
    let (ours, limit) = (figure("rate")?, Some(figure("single")?));
    Row { name: "  100 tasks and a flush each", unit: "inputs/s", ours, limit, goal: Goal::Times(20.0) }.print();
    Ok(())
}
