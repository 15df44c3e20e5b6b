//! What the client asks, and what it makes of answers.

use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::fake::Fake;
use super::*;

const LEADER: &str = "019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f00";
const ONE: &str = "019f0c3b-7b1e-7c54-9d55-0a8a5d0a4f11";
const DONE: &str = r#"{"id":"019f0c3b-7b1e-7c54-9d55-0a8a5d0a4f11","name":"parser","status":"done","success":true,"branch":"makima/parser","createdAt":"2026-01-01T00:00:00.000Z","new":1}"#;

fn id(text: &str) -> Uuid {
    Uuid::parse_str(text).expect("an id")
}

fn mesh(url: &str) -> Mesh {
    let read = |name: &str| {
        Some(match name {
            URL => url.to_owned(),
            KEY => " key-of-the-task\n".to_owned(),
            _ => LEADER.to_owned(),
        })
    };
    Mesh::of_environment(read).expect("it is all there")
}

fn subtask() -> Subtask {
    Subtask {
        task_id: id(ONE),
        task_name: "parser".to_owned(),
        plan: "write it".to_owned(),
        after: Vec::new(),
        base_branch: None,
        copy_files: Vec::new(),
        is_orchestrator: false,
    }
}

/// Protects whoever runs it outside of a task: it is said what is missing, and whose matter that is.
#[test]
fn an_environment_that_lacks_something_is_told_of() {
    let without = |missing: &str, instead: &str| {
        let read = |name: &str| {
            let usual = [(URL, "http://127.0.0.1:7600"), (KEY, "key"), (TASK, LEADER)];
            if name == missing {
                Some(instead.to_owned())
            } else {
                Some(usual.iter().find(|(n, _)| *n == name)?.1.to_owned())
            }
        };
        let failure = Mesh::of_environment(read).expect_err(missing);
        assert_eq!(failure.code, 2);
        assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("makima run --orchestrate")), "{failure}");
        failure.to_string()
    };
    for name in [URL, KEY, TASK] {
        assert!(without(name, " ").starts_with(&format!("{name} is not set")));
    }
    assert!(without(TASK, "one").contains("`one` is no id"));
    assert!(without(URL, "ftp://host").contains(URL));
    // A key does not go over a network that anybody can read.
    assert!(without(URL, "http://example.com").contains("unencrypted"));
    assert!(!without(KEY, "sec\nret").contains("sec"));
}

/// Protects the contract with the server: a subtask is asked for by these fields, and by no other.
#[tokio::test]
async fn a_subtask_is_asked_for_with_the_key_of_the_task() {
    let fake = Fake::start(|asked| (201, json!({ "id": asked.body["taskId"] }).to_string())).await;
    let mesh = mesh(&fake.url());
    assert_eq!(mesh.spawn(&subtask()).await.expect("it is made"), id(ONE));
    let asked = fake.last();
    assert_eq!((asked.what.as_str(), asked.authorization.as_str()), ("POST /tasks", "Bearer key-of-the-task"));
    let mut expected = json!({ "taskId": ONE, "taskName": "parser", "plan": "write it", "isOrchestrator": false });
    assert_eq!(asked.body, expected);

    let (after, copy_files) = (vec![id(LEADER)], vec!["notes.md".to_owned()]);
    let whole = Subtask { after, copy_files, base_branch: Some("main".to_owned()), is_orchestrator: true, ..subtask() };
    mesh.spawn(&whole).await.expect("it is made");
    expected["after"] = json!([LEADER]);
    expected["copyFiles"] = json!(["notes.md"]);
    expected["baseBranch"] = json!("main");
    expected["isOrchestrator"] = json!(true);
    assert_eq!(fake.last().body, expected);
}

#[tokio::test]
async fn each_question_goes_where_it_is_answered() {
    let fake = Fake::start(|asked| match asked.what.as_str() {
        "GET /tasks" => (200, format!("[{DONE}]")),
        what if what.contains("/wait?") => (200, format!(r#"{{"over":true,"tasks":[{DONE}]}}"#)),
        what if what.contains("/merge/check") => {
            (200, json!({ "taskId": LEADER, "canComplete": true, "unmergedBranches": [], "mergedCount": 1, "skippedCount": 0 }).to_string())
        }
        what if what.contains("/merge") => {
            (200, json!({ "taskId": LEADER, "success": false, "message": "no", "conflicts": ["a"] }).to_string())
        }
        what if what.ends_with("/output?from=0") => (200, "one\ntwö\n".to_owned()),
        _ => (202, format!(r#"{{"id":"{ONE}"}}"#)),
    })
    .await;
    let (mesh, one) = (mesh(&fake.url()), id(ONE));
    let below = |rest: &str| format!("POST /tasks/{ONE}/{rest}");

    let list = mesh.list().await.expect("a list");
    assert!(list.text.contains(r#""new":1"#) && list.body[0].name == "parser", "what is new is passed on: {list:?}");
    assert_eq!(mesh.resolve("parser").await.expect("one is called so"), one);
    mesh.message(one, "hear").await.expect("told");
    assert_eq!((fake.last().what, fake.last().body), (below("messages"), json!({ "message": "hear" })));
    mesh.hold(one, true).await.expect("told");
    assert_eq!(fake.last().what, below("pause"));
    mesh.hold(one, false).await.expect("told");
    assert_eq!(fake.last().what, below("resume"));
    mesh.interrupt(one, true).await.expect("told");
    assert_eq!((fake.last().what, fake.last().body), (below("interrupt"), json!({ "graceful": true })));
    let mut output = String::new();
    mesh.output(one, |text| output.push_str(text)).await.expect("an output");
    assert_eq!(output, "one\ntwö\n");

    let waited = mesh.wait(Until::Any, &[one, id(LEADER)], 5).await.expect("an answer");
    assert!(waited.body.over && waited.body.tasks.len() == 1);
    assert_eq!(fake.last().what, format!("GET /tasks/{LEADER}/wait?mode=any&wait=5&for={ONE},{LEADER}"));
    mesh.wait(Until::All, &[], 600).await.expect("an answer");
    assert_eq!(fake.last().what, format!("GET /tasks/{LEADER}/wait?mode=all&wait=600"));

    let merge: Answer<MergeResult> = mesh.merge(Merge::Start("b"), 7).await.expect("an answer");
    assert_eq!(merge.body.conflicts.as_deref(), Some(&["a".to_owned()][..]));
    let of_leader = |rest: &str| format!("POST /tasks/{LEADER}/{rest}?wait=7");
    assert_eq!((fake.last().what, fake.last().body), (of_leader("merge"), json!({ "branch": "b" })));
    let step = Merge::Resolve("a", "ours");
    drop(mesh.merge::<MergeResult>(step, 7).await.expect("an answer"));
    assert_eq!(fake.last().body, json!({ "file": "a", "strategy": "ours" }));
    drop(mesh.merge::<MergeResult>(Merge::Skip(one, "why"), 7).await.expect("an answer"));
    assert_eq!(fake.last().body, json!({ "subtaskId": ONE, "reason": "why" }));
    let check: Answer<MergeCompleteCheck> = mesh.merge(Merge::Check, 7).await.expect("an answer");
    assert!(check.body.can_complete);
}

/// Protects the one who reads an exit code, and the one who reads the message.
#[tokio::test]
async fn what_the_server_will_not_do_is_told_in_its_words() {
    let codes = [(400, 2), (401, 3), (403, 1), (404, 1), (409, 1), (503, 1), (504, 1)];
    for (status, code) in codes {
        let body = json!({ "error": { "code": "some", "message": "64 subtasks are all that may be" } }).to_string();
        let fake = Fake::start(move |_| (status, body.clone())).await;
        let error = mesh(&fake.url()).spawn(&subtask()).await.expect_err("it will not");
        assert_eq!(error.to_string(), "64 subtasks are all that may be");
        let failure = Failure::from(error);
        assert!(failure.code == code && failure.message.contains("64 subtasks"), "{status}: {failure:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_none_of_ours_is_told_of() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let failure = Failure::from(mesh(&gone).list().await.expect_err("nobody is there"));
    assert!(failure.code == 4 && failure.message.contains("is not reached"), "{failure:?}");

    let fake = Fake::start(|_| (200, "<html>".to_owned())).await;
    let failure = Failure::from(mesh(&fake.url()).list().await.expect_err("it is none of ours"));
    assert!(failure.code == 1 && failure.message.contains("not understood"), "{failure:?}");

    let fake = Fake::start(|_| (202, r#"{"pending":true}"#.to_owned())).await;
    let pending = mesh(&fake.url()).merge::<MergeResult>(Merge::Abort, 0).await.expect_err("no answer yet");
    assert!(pending.to_string().contains("ask how it stands"), "{pending}");
}

/// Protects an agent from a server that takes a request and says nothing, for ever: whatever it is asked. (Time passes as soon as
/// everybody waits.)
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_not_waited_for_without_an_end() {
    let fake = Fake::start(|_| (0, String::new())).await;
    let (mesh, one) = (mesh(&fake.url()), id(ONE));
    let bound = Duration::from_secs(700);
    let looks = [
        timeout(bound, async { mesh.list().await.map(drop) }).await,
        timeout(bound, async { mesh.status(one).await.map(drop) }).await,
        timeout(bound, mesh.output(one, |_| ())).await,
        timeout(bound, async { mesh.wait(Until::All, &[], LONGEST_WAIT).await.map(drop) }).await,
        timeout(bound, async { mesh.merge::<MergeStatusResponse>(Merge::Status, 60).await.map(drop) }).await,
    ];
    for answer in looks {
        let error = answer.expect("a bound").expect_err("no answer");
        assert!(matches!(error, MeshError::Server(RestError::Away { .. })) && error.may_pass(), "{error}");
    }
    let deeds = [
        timeout(bound, async { mesh.spawn(&subtask()).await.map(drop) }).await,
        timeout(bound, async { mesh.message(one, "x").await.map(drop) }).await,
        timeout(bound, async { mesh.hold(one, true).await.map(drop) }).await,
        timeout(bound, async { mesh.interrupt(one, true).await.map(drop) }).await,
        timeout(bound, async { mesh.merge::<MergeResult>(Merge::Start("b"), 60).await.map(drop) }).await,
    ];
    for answer in deeds {
        let error = answer.expect("a bound").expect_err("no answer");
        assert!(error.to_string().contains("may have been done all the same"), "{error}");
        assert_eq!(Failure::from(error).code, NOT_REACHED);
    }
}

/// Protects a merge by a subtask's name from tasks deeper down that are called the same, and a branch's own name from being looked up.
#[tokio::test]
async fn a_branch_is_meant_by_its_subtasks_name() {
    let deeper = DONE.replace(ONE, LEADER);
    let fake = Fake::start(move |asked| match asked.what.as_str() {
        "GET /tasks" => (200, format!("[{DONE},{deeper}]")),
        what if what.contains("/branches") => {
            let branch = json!({ "name": "makima/parser", "taskId": ONE, "isMerged": false, "lastCommit": "c", "lastCommitMessage": "m" });
            (200, json!({ "taskId": LEADER, "branches": [branch] }).to_string())
        }
        _ => (404, String::new()),
    })
    .await;
    let mesh = mesh(&fake.url());
    assert_eq!(mesh.branch("parser", 5).await.expect("the one that has a branch"), "makima/parser");
    assert_eq!(mesh.branch("theirs", 5).await.expect("as it is"), "theirs");
    let asked = fake.asked().len();
    assert_eq!(mesh.branch("makima/x", 5).await.expect("as it is"), "makima/x");
    assert_eq!(fake.asked().len(), asked, "nobody is asked");
}
