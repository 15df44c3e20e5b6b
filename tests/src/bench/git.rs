//! What is done with git. It is a library's part, so a program beside this one, which is built from that library,
//! measures it.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::table::{Goal, Row};
use super::{Bench, Failure};

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let folder = bench.own.parent().ok_or("this program lies in no folder")?;
    let program = folder.join("examples/git_bench");
    if !program.is_file() {
        let how = "cargo build --release -p makima-runner --example git_bench";
        return Err(format!("{} is not there: {how}", program.display()).into());
    }
    let mut command = Command::new(program);
    command.arg(bench.folder.path()).arg("1000").arg("10000");
    let most = super::size("MAKIMA_BENCH_FILES", 0);
    if most > 0 {
        command.arg(most.to_string());
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("git_bench: {}", output.status).into());
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let figure: Value = serde_json::from_str(line)?;
        let text = |name: &str| figure[name].as_str().ok_or("a figure is missing");
        let (limit, most) = (figure["limit"].as_f64(), figure["most"].as_f64());
        let goal = match (limit, most) {
            (Some(_), Some(most)) => Goal::AtMostTimes(most),
            (None, Some(most)) => Goal::AtMost(most),
            (_, None) => Goal::None,
        };
        let ours = figure["ours"].as_f64().ok_or("a figure is missing")?;
        Row { name: text("name")?, unit: text("unit")?, ours, limit, goal }.print();
    }
    Ok(())
}
