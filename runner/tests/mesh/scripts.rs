//! `makima mesh`, as a script uses it.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::{LEADER, ONE, TWO, error, makima, nowhere, run, task, two_subtasks};

/// What it printed, what it noted, and its exit code.
async fn mesh(url: &str, words: &[&str], stdin: &str) -> (String, String, i32) {
    let output = run(makima(&[&["mesh"], words].concat(), url), stdin).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr), output.status.code().expect("an exit code"))
}

async fn done(fake: &Fake, words: &[&str]) -> String {
    let (out, notes, code) = mesh(&fake.url(), words, "").await;
    assert_eq!(code, 0, "{words:?}: {out}{notes}");
    out
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Protects `id=$(makima mesh spawn …)`.
#[tokio::test]
async fn a_subtask_is_started_and_its_id_alone_is_printed() {
    let fake = Fake::start(two_subtasks).await;
    let words = [
        "spawn", "--name", "docs", "--after", "parser", "--after", TWO, "--copy", "a", "--copy", "b", "--base", "main",
    ];
    let (out, notes, code) = mesh(&fake.url(), &[&words[..], &["--leads", "-"]].concat(), "write\nthem\n").await;
    assert_eq!((code, notes.as_str()), (0, ""));
    let body = fake.last().body;
    let expected = json!({ "taskId": out.trim_end(), "taskName": "docs", "plan": "write\nthem\n", "after": [ONE, TWO],
        "baseBranch": "main", "copyFiles": ["a", "b"], "isOrchestrator": true });
    assert_eq!(body, expected);
    let out = done(&fake, &["spawn", "--name", "x", "--json", "two", "words"]).await;
    assert_eq!((&json_of(&out)["id"], &json!("two words")), (&fake.last().body["taskId"], &fake.last().body["plan"]));
}

#[tokio::test]
async fn subtasks_are_looked_at_and_told() {
    let fake = Fake::start(two_subtasks).await;
    let list = done(&fake, &["list"]).await;
    assert!(list.lines().count() == 3 && list.contains(ONE) && list.contains("failed"), "{list}");
    assert_eq!(json_of(&done(&fake, &["list", "--json"]).await)[1]["name"], "tests");
    assert!(done(&fake, &["status", "tests"]).await.contains("exit code 7"));
    assert_eq!(json_of(&done(&fake, &["status", "--json", "019f0c3b"]).await)["id"], ONE);
    assert_eq!(done(&fake, &["output", "--raw", "parser"]).await, "one\n\u{1b}[31mtwo\u{1b}[0m\nthree\n");
    assert_eq!(done(&fake, &["output", "--last", "1", "parser"]).await, "three\n");
    let output = json_of(&done(&fake, &["output", "--json", "--last", "1", "parser"]).await);
    assert_eq!(output, json!({ "id": ONE, "output": "three\n", "cut": true }));
    let (_, notes, code) = mesh(&fake.url(), &["message", "parser", "-"], "leave it\n").await;
    assert!(code == 0 && notes.contains("told") && fake.last().body == json!({ "message": "leave it\n" }), "{notes}");
    for (words, path) in
        [(vec!["pause"], "pause"), (vec!["resume", "--json"], "resume"), (vec!["interrupt"], "interrupt")]
    {
        done(&fake, &[&words[..], &["parser"]].concat()).await;
        assert_eq!(fake.last().what, format!("POST /tasks/{ONE}/{path}"));
    }
    assert_eq!(fake.last().body, json!({ "graceful": true }));
    done(&fake, &["interrupt", "--force", "parser"]).await;
    assert_eq!(fake.last().body, json!({ "graceful": false }));
}

/// Protects a script that goes by the exit code of `wait`.
#[tokio::test]
async fn a_wait_prints_each_and_fails_with_one_that_failed() {
    let fake = Fake::start(two_subtasks).await;
    let (out, _, code) = mesh(&fake.url(), &["wait"], "").await;
    let lines: Vec<&str> = out.lines().collect();
    assert!(code == 1 && lines.len() == 2 && lines[0].starts_with(ONE) && lines[1].contains("exit code 7"), "{out}");
    assert_eq!(done(&fake, &["wait", "parser"]).await.lines().count(), 1);
    assert_eq!(json_of(&done(&fake, &["wait", "--json", "--any", "parser"]).await)["over"], true);

    // One that does not end is waited for no longer than was said; and it goes on after an answer that is none yet.
    let slow = Fake::start(|asked| {
        let ended = asked.what.ends_with("wait=30").then_some(true);
        (200, json!({ "over": ended.is_some(), "tasks": [task(ONE, "parser", ended)] }).to_string())
    })
    .await;
    assert!(done(&slow, &["wait"]).await.contains("done"));
    let (out, notes, code) = mesh(&slow.url(), &["wait", "--timeout", "0"], "").await;
    assert!(code == 1 && out.contains("running") && notes.contains("time is over"), "{out}{notes}");
}

/// Protects a script that has waited for hours from a server that is started anew: its answer, its absence, and its not knowing the
/// key until the daemon is back.
#[tokio::test]
async fn a_wait_outlives_a_restart_of_the_server() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let anew = Fake::start(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => (200, json!({ "over": false, "tasks": [task(ONE, "parser", None)] }).to_string()),
        1 => error(503, "server_ends", "the server ends: ask again when it is back"),
        2 => error(401, "unauthorized", "no such key"),
        _ => (200, json!({ "over": true, "tasks": [task(ONE, "parser", Some(true))] }).to_string()),
    })
    .await;
    let (out, notes, code) = mesh(&anew.url(), &["wait"], "").await;
    assert!(code == 0 && out.contains("done"), "{out}{notes}");
    assert_eq!(notes.matches("asking again").count(), 1, "{notes}");
}

#[tokio::test]
async fn branches_are_merged_step_by_step() {
    let fake = Fake::start(two_subtasks).await;
    assert!(done(&fake, &["branches"]).await.contains("makima/parser"));
    assert_eq!(json_of(&done(&fake, &["branches", "--json"]).await)["branches"][0]["taskId"], ONE);
    done(&fake, &["merge", "start", "makima/parser"]).await;
    let (out, notes, code) = mesh(&fake.url(), &["merge", "start", "makima/tests"], "").await;
    assert!(code == 1 && out == "conflict  readme\n" && notes.contains("conflicts in 1 file"), "{out}{notes}");
    let (out, _, code) = mesh(&fake.url(), &["merge", "start", "--json", "makima/tests"], "").await;
    assert!(code == 1 && json_of(&out)["conflicts"] == json!(["readme"]), "{out}");
    assert!(done(&fake, &["merge", "status"]).await.contains("conflict  readme"));
    done(&fake, &["merge", "resolve", "readme", "theirs"]).await;
    assert_eq!(fake.last().body, json!({ "file": "readme", "strategy": "theirs" }));
    done(&fake, &["merge", "abort"]).await;
    done(&fake, &["merge", "skip", "tests", "--reason", "not needed"]).await;
    assert_eq!(fake.last().body, json!({ "subtaskId": TWO, "reason": "not needed" }));
    let (out, _, code) = mesh(&fake.url(), &["merge", "check"], "").await;
    assert!(code == 1 && out.contains("unmerged  makima/tests"), "{out}");
    let (_, notes, code) = mesh(&fake.url(), &["merge", "commit", "-m", "Take it", "--patience", "1"], "").await;
    assert!(code == 1 && notes.contains("has not answered within 1 s"), "{notes}");
    let asked = fake.last();
    assert_eq!(
        (asked.what, asked.body),
        (format!("POST /tasks/{LEADER}/merge/commit?wait=1"), json!({ "message": "Take it" }))
    );
}

/// Protects a script that asks what to do next by the exit code.
#[tokio::test]
async fn exit_codes_say_what_kind_of_trouble_it_is() {
    let fake = Fake::start(two_subtasks).await;
    let fails = async |url: &str, words: &[&str], told: &str| {
        let (out, notes, code) = mesh(url, words, "").await;
        assert!(out.is_empty() && notes.contains(told), "{words:?}: {out}{notes}");
        code
    };
    let url = fake.url();
    assert_eq!(fails(&url, &["spawn", "--name", "x", "one too many"], "max_subtasks").await, 1);
    assert_eq!(fails(&url, &["output", TWO], "no such task").await, 1);
    assert_eq!(fails(&url, &["spawn", "--name", "x", " "], "plan is empty").await, 2);
    assert_eq!(fails(&url, &["spawn", "plan"], "--name").await, 2);
    assert_eq!(fails(&url, &["status", "lexer"], "no subtask is called").await, 2);
    assert_eq!(fails(&nowhere(), &["list"], "is not reached").await, 4);
    assert_eq!(fails(&nowhere(), &["spawn", "--name", "x", "y"], "is not reached").await, 4);
    let other = Fake::start(|_| error(401, "unauthorized", "the token is wrong")).await;
    assert_eq!(fails(&other.url(), &["list"], "refuses the key").await, 3);

    let mut command = makima(&["mesh", "list"], &url);
    command.env_remove("MAKIMA_TASK_ID");
    let output = run(command, "").await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("MAKIMA_TASK_ID is not set"));
}

/// A server on which two subtasks have ended well, and the branch of the second is in conflict with that of the first.
async fn in_conflict() -> Fake {
    let (made, merged, open) = (Mutex::new(Vec::<Value>::new()), Mutex::new(Vec::<Value>::new()), Mutex::new(None));
    let step = |success: bool, conflicts: Option<[&str; 2]>| json!({ "taskId": LEADER, "success": success, "message": "so", "commitSha": null, "conflicts": conflicts });
    Fake::start(move |asked| {
        let (mut made, mut merged) = (made.lock().expect("one at a time"), merged.lock().expect("one at a time"));
        let mut open = open.lock().expect("one at a time");
        let what = asked.what.replace(LEADER, "T");
        let body = match what.split('?').next().unwrap_or_default() {
            "POST /tasks" => {
                made.push(asked.body["taskId"].clone());
                return (201, json!({ "id": asked.body["taskId"] }).to_string());
            }
            "GET /tasks/T/wait" => {
                let tasks = made.iter().map(|id| task(id.as_str().expect("an id"), "t", Some(true)));
                json!({ "over": true, "tasks": tasks.collect::<Vec<_>>() })
            }
            "GET /tasks/T/branches" => {
                let branch = |id: &Value| {
                    json!({ "name": id, "taskId": id, "isMerged": merged.contains(id), "lastCommit": "",
                    "lastCommitMessage": "" })
                };
                json!({ "taskId": LEADER, "branches": made.iter().map(branch).collect::<Vec<_>>() })
            }
            "POST /tasks/T/merge" => {
                *open = Some(asked.body["branch"].clone());
                let conflicts = (!merged.is_empty()).then_some(["readme", "with space"]);
                step(conflicts.is_none(), conflicts)
            }
            "GET /tasks/T/merge" => json!({ "taskId": LEADER, "inProgress": true, "sourceBranch": null,
                "conflictedFiles": ["readme", "with space"] }),
            "POST /tasks/T/merge/resolve" => step(true, None),
            "POST /tasks/T/merge/commit" => {
                merged.extend(open.take());
                step(true, None)
            }
            "GET /tasks/T/merge/check" => json!({ "taskId": LEADER, "canComplete": merged.len() == made.len(),
                "unmergedBranches": [], "mergedCount": merged.len(), "skippedCount": 0 }),
            _ => return error(404, "not_found", "nothing is there"),
        };
        (200, body.to_string())
    })
    .await
}

/// Protects a reader of the document from a script that does not do what is said of it.
#[tokio::test]
async fn the_script_of_the_document_works() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/orchestration.md");
    let text = std::fs::read_to_string(document).expect("the document");
    let script = text.split_once("```sh\n").and_then(|(_, rest)| rest.split_once("```")).expect("a script").0;
    if !Command::new("jq").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return eprintln!("left out: there is no jq here");
    }
    let fake = in_conflict().await;
    let program = Path::new(env!("CARGO_BIN_EXE_makima")).parent().expect("a folder").to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(program).chain(std::env::split_paths(&path))).expect("paths");
    let mut command = tokio::process::Command::new("sh");
    let whole = makima(&[], &fake.url());
    let set = whole.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.args(["-c", script]).envs(set).env("PATH", path);
    let pipes = std::process::Stdio::piped;
    command.stdin(pipes()).stdout(pipes()).stderr(pipes()).kill_on_drop(true);
    let output = run(command, "").await;
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && told.contains("nothing is left to merge"), "{told}");
    let asked = fake.asked();
    let times = |what: &str| asked.iter().filter(|asked| asked.what.contains(what)).count();
    assert_eq!(["/merge/resolve", "/merge/commit"].map(times), [2, 2], "{asked:?}");
    let settled: Vec<_> =
        asked.iter().filter(|asked| asked.what.contains("resolve")).map(|asked| &asked.body["file"]).collect();
    assert_eq!(settled, ["readme", "with space"]);
}
