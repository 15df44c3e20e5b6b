//! `makima mcp` and `makima mesh` as they are run: the program, its pipes, and a server that answers as it is told.

#[path = "../../src/mesh/fake.rs"]
mod fake;
mod mcp;
mod scripts;

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use fake::Asked;

/// For anything that the program is to do at once.
const SOON: Duration = Duration::from_secs(60);

const LEADER: &str = "019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f00";
const ONE: &str = "019f0c3b-7b1e-7c54-9d55-0a8a5d0a4f11";
const TWO: &str = "019f0c3c-7b1e-7c54-9d55-0a8a5d0a4f12";

/// The program, as the agent of a task starts it.
fn makima(words: &[&str], url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_makima"));
    command.args(words).env_remove("RUST_LOG").env("MAKIMA_HOME", "/nonexistent/makima");
    command.env("MAKIMA_API_URL", url).env("MAKIMA_TOOL_KEY", "key-of-the-task").env("MAKIMA_TASK_ID", LEADER);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs it to its end, with this on stdin.
async fn run(mut command: Command, stdin: &str) -> Output {
    let mut child = command.spawn().expect("the program");
    let mut pipe = child.stdin.take().expect("a pipe");
    // Who does not read it has ended already.
    let _ = pipe.write_all(stdin.as_bytes()).await;
    drop(pipe);
    timeout(SOON, child.wait_with_output()).await.expect("it ends").expect("an end")
}

/// Where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

fn task(id: &str, name: &str, success: Option<bool>) -> serde_json::Value {
    let status = match success {
        Some(true) => "done",
        Some(false) => "failed",
        None => "running",
    };
    let error = (success == Some(false)).then_some("exit code 7");
    serde_json::json!({ "id": id, "name": name, "status": status, "success": success, "error": error, "branch": null,
        "createdAt": "2026-01-01T00:00:00.000Z", "endedAt": null })
}

fn error(status: u16, code: &str, message: &str) -> (u16, String) {
    (status, serde_json::json!({ "error": { "code": code, "message": message } }).to_string())
}

/// A server with two subtasks, one of which has failed, and a branch that cannot be merged without help.
fn two_subtasks(asked: &Asked) -> (u16, String) {
    if asked.authorization != "Bearer key-of-the-task" {
        return error(401, "unauthorized", "the token is wrong");
    }
    let (one, two) = (task(ONE, "parser", Some(true)), task(TWO, "tests", Some(false)));
    let step = |success: bool, message: &str, conflicts: &[&str]| {
        let conflicts = (!conflicts.is_empty()).then_some(conflicts);
        let body = serde_json::json!({ "taskId": LEADER, "success": success, "message": message, "commitSha": null,
            "conflicts": conflicts });
        (200, body.to_string())
    };
    let what = asked.what.replace(LEADER, "T").replace(ONE, "ONE").replace(TWO, "TWO");
    match what.split('?').next().unwrap_or_default() {
        "GET /tasks" => (200, serde_json::json!([one, two]).to_string()),
        "POST /tasks" if asked.body["plan"] == "one too many" => {
            error(403, "too_many_subtasks", "64 tasks are all that may be below one (max_subtasks)")
        }
        "POST /tasks" => (201, serde_json::json!({ "id": asked.body["taskId"] }).to_string()),
        "GET /tasks/ONE" => (200, one.to_string()),
        "GET /tasks/TWO" => (200, two.to_string()),
        "GET /tasks/ONE/output" => (200, "one\n\u{1b}[31mtwo\u{1b}[0m\nthree\n".to_owned()),
        "GET /tasks/T/wait" => {
            let of = [("ONE", &one), ("TWO", &two)]
                .into_iter()
                .filter(|(name, _)| !what.contains("for=") || what.contains(name));
            let tasks: Vec<_> = of.map(|(_, task)| task).collect();
            (200, serde_json::json!({ "over": true, "tasks": tasks }).to_string())
        }
        "GET /tasks/T/branches" => {
            let branch = serde_json::json!({ "name": "makima/parser", "taskId": ONE, "isMerged": false,
                "lastCommit": "abc1234", "lastCommitMessage": "Write it" });
            (200, serde_json::json!({ "taskId": LEADER, "branches": [branch] }).to_string())
        }
        "POST /tasks/T/merge" if asked.body["branch"] == "makima/tests" => {
            step(false, "conflicts in 1 file", &["readme"])
        }
        "POST /tasks/T/merge/commit" => (202, serde_json::json!({ "pending": true }).to_string()),
        "GET /tasks/T/merge" => {
            let body = serde_json::json!({ "taskId": LEADER, "inProgress": true, "sourceBranch": "makima/tests",
                "conflictedFiles": ["readme"] });
            (200, body.to_string())
        }
        "GET /tasks/T/merge/check" => {
            let body = serde_json::json!({ "taskId": LEADER, "canComplete": false, "unmergedBranches": ["makima/tests"],
                "mergedCount": 1, "skippedCount": 0 });
            (200, body.to_string())
        }
        what if what.starts_with("POST /tasks/T/merge") => step(true, "done", &[]),
        what if what.starts_with("POST /tasks/ONE/") || what.starts_with("POST /tasks/TWO/") => {
            (202, serde_json::json!({ "id": ONE }).to_string())
        }
        _ => error(404, "no_such_task", "there is no such task"),
    }
}
