//! What people say to tasks and ask of them, over HTTP, with a daemon in the test's hands.

use makima_core::protocol::{
    BranchInfo, BranchList, CompletionActionResult, DaemonCommand, DaemonMessage, Heartbeat, MergeResult,
    MergeStatusResponse,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Daemon, World, complete, progress, soon, status};

impl Daemon {
    /// All of before was said.
    async fn beat(&mut self) {
        self.say(Heartbeat { active_tasks: Vec::new() }.into()).await;
        assert!(self.stored().await);
    }

    async fn kind(&mut self) -> &'static str {
        self.command().await.kind()
    }
}

fn merged(task_id: Uuid, message: &str) -> DaemonMessage {
    let conflicts = Some(vec!["a".to_owned()]);
    MergeResult { task_id, success: false, message: message.to_owned(), commit_sha: None, conflicts }.into()
}

fn standing(task_id: Uuid) -> DaemonMessage {
    let source_branch = Some("b".to_owned());
    MergeStatusResponse { task_id, in_progress: true, source_branch, conflicted_files: vec!["f".to_owned()] }.into()
}

async fn world_with_a_task() -> (World, Daemon, Uuid) {
    let world = World::new().await;
    let mut daemon = world.daemon("a").await;
    let id = world.create("x").await;
    assert_eq!(daemon.spawned().await, id);
    (world, daemon, id)
}

async fn refused(world: &World, path: &str, body: Value) -> (u16, String) {
    let (status, body) = world.post(path, body).await;
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

/// Protects what a person says on its way to the daemon, word by word.
#[tokio::test]
async fn what_people_say_reaches_the_daemon() {
    let (world, mut daemon, id) = world_with_a_task().await;
    let sibling = Uuid::now_v7();
    let context = json!({"siblingTaskId": sibling, "siblingName": "S", "siblingStatus": "running",
        "progressSummary": "half", "changedFiles": ["x", "y"]});
    for (path, body, command) in [
        ("pause", Value::Null, json!({"type": "pauseTask", "taskId": id})),
        ("resume", json!({}), json!({"type": "resumeTask", "taskId": id})),
        (
            "messages",
            json!({"message": "é \u{0} \"x\""}),
            json!({"type": "sendMessage", "taskId": id, "message": "é \u{0} \"x\""}),
        ),
        (
            "sibling-context",
            context,
            json!({"type": "injectSiblingContext", "taskId": id, "siblingTaskId": sibling,
            "siblingName": "S", "siblingStatus": "running", "progressSummary": "half", "changedFiles": ["x", "y"]}),
        ),
    ] {
        let path = format!("/api/v1/tasks/{id}/{path}");
        let answer = if body.is_null() {
            let request = world.http.post(world.url(&path)).bearer_auth(crate::common::TOKEN);
            let response = soon("answer", request.send()).await.unwrap();
            (response.status().as_u16(), response.json().await.unwrap())
        } else {
            world.post(&path, body).await
        };
        assert_eq!(answer, (202, json!({ "id": id })), "{path}");
        let told: Value = serde_json::from_str(&daemon.command().await.write()).unwrap();
        assert_eq!(told, command);
    }
    let of = |what: &str| format!("/api/v1/tasks/{id}/{what}");
    assert_eq!(refused(&world, &of("messages"), json!({"message": " "})).await, (400, "empty_message".to_owned()));
    assert_eq!(refused(&world, &of("messages"), json!({"text": "x"})).await, (400, "bad_json".to_owned()));
    assert_eq!(refused(&world, &of("pause"), json!({"when": 1})).await, (400, "bad_json".to_owned()));
    let unknown = format!("/api/v1/tasks/{}/pause", Uuid::now_v7());
    assert_eq!(refused(&world, &unknown, json!({})).await, (404, "no_such_task".to_owned()));
    daemon.say(complete(id, None)).await;
    assert!(daemon.stored().await);
    for (path, body) in [("pause", json!({})), ("resume", json!({})), ("messages", json!({"message": "x"}))] {
        assert_eq!(refused(&world, &of(path), body).await, (409, "task_ended".to_owned()));
    }
}

/// Protects what is said while the daemon is away, and an agent from hearing it twice: in version 1 a message leaves once,
/// the last wish as often as the daemon comes.
#[tokio::test]
async fn what_is_said_meanwhile_outlives_the_server() {
    let (mut world, daemon, id) = world_with_a_task().await;
    drop(daemon);
    let of = |what: &str| format!("/api/v1/tasks/{id}/{what}");
    for (path, body) in
        [("pause", json!({})), ("messages", json!({"message": "one"})), ("messages", json!({"message": "two"}))]
    {
        assert_eq!(world.post(&of(path), body).await.0, 202);
    }
    world.kill().await;
    let mut daemon = world.daemon("a").await;
    assert_eq!(daemon.spawned().await, id);
    assert_eq!(daemon.kind().await, "pauseTask");
    for expected in ["one", "two"] {
        let DaemonCommand::SendMessage(body) = daemon.command().await else { panic!("no message") };
        assert_eq!(body.message, expected);
    }
    drop(daemon);
    world.kill().await;
    let mut daemon = world.daemon("a").await;
    assert_eq!(daemon.spawned().await, id);
    assert_eq!(daemon.kind().await, "pauseTask");
    assert_eq!(world.post(&of("resume"), json!({})).await.0, 202);
    assert_eq!(daemon.kind().await, "resumeTask", "and no message again");
}

/// Protects memory and disk from messages that nobody takes.
#[tokio::test]
async fn messages_that_wait_are_bounded() {
    let world = World::new().await;
    let id = world.create("x").await;
    let path = format!("/api/v1/tasks/{id}/messages");
    let large = json!({"message": "x".repeat(400_000)});
    assert_eq!(world.post(&path, large.clone()).await.0, 202);
    assert_eq!(world.post(&path, large.clone()).await.0, 202);
    assert_eq!(refused(&world, &path, large).await, (429, "too_many".to_owned()));
    assert_eq!(world.post(&format!("/api/v1/tasks/{id}/interrupt"), json!({})).await.0, 202);
    let events = world.get(&format!("/api/v1/tasks/{id}/events")).send().await.unwrap().text().await.unwrap();
    assert!(events.contains("messages that came too late for the agent: 2"), "{events}");
}

/// Protects the way from a question to its answer, whatever else is under way.
#[tokio::test]
async fn a_question_is_answered_by_the_daemon() {
    let (world, mut daemon, id) = world_with_a_task().await;
    daemon.beat().await;
    let (branches, merge) = (format!("/api/v1/tasks/{id}/branches"), format!("/api/v1/tasks/{id}/merge"));
    let daemon = async {
        let mut kinds = Vec::new();
        while kinds.len() < 3 {
            let command = daemon.command().await;
            kinds.push(command.kind());
            if let DaemonCommand::ListBranches(_) = command {
                let info = BranchInfo {
                    name: "makima/x".to_owned(),
                    task_id: None,
                    is_merged: true,
                    last_commit: "abc".to_owned(),
                    last_commit_message: "m".to_owned(),
                };
                daemon.say(BranchList { task_id: id, branches: vec![info] }.into()).await;
            } else if let DaemonCommand::MergeStart(body) = command {
                daemon.say(merged(id, &body.source_branch)).await;
            }
        }
        kinds.sort_unstable();
        assert_eq!(kinds, ["listBranches", "mergeStart", "mergeStart"]);
    };
    let (_, branches, one, two) = tokio::join!(
        daemon,
        world.json(&branches),
        world.post(&merge, json!({"branch": "one"})),
        world.post(&merge, json!({"branch": "two"})),
    );
    assert_eq!(
        branches["branches"][0],
        json!({"name": "makima/x", "taskId": null, "isMerged": true,
        "lastCommit": "abc", "lastCommitMessage": "m"})
    );
    for (answer, branch) in [(one, "one"), (two, "two")] {
        let expected =
            json!({"taskId": id, "success": false, "message": branch, "commitSha": null, "conflicts": ["a"]});
        assert_eq!(answer, (200, expected));
    }
}

/// Protects every command of the wire that a client can have sent: the path, the fields.
#[tokio::test]
async fn every_question_has_its_command() {
    let (world, mut daemon, id) = world_with_a_task().await;
    daemon.beat().await;
    let child = Uuid::now_v7();
    let wait = "?wait=0";
    for (path, body, command) in [
        (
            "merge/resolve",
            json!({"file": "f", "strategy": "ours"}),
            json!({"type": "mergeResolve", "file": "f", "strategy": "ours"}),
        ),
        ("clone", json!({"targetDir": "/d"}), json!({"type": "cloneWorktree", "targetDir": "/d"})),
    ] {
        let (status, answer) = world.post(&format!("/api/v1/tasks/{id}/{path}{wait}"), body).await;
        assert_eq!((status, &answer["pending"]), (202, &json!(true)), "{path}");
        let mut told: Value = serde_json::from_str(&daemon.command().await.write()).unwrap();
        assert_eq!(told.as_object_mut().unwrap().remove("taskId"), Some(json!(id)));
        assert_eq!(told, command);
    }
    daemon.say(merged(id, "resolved")).await;
    for (path, body, command) in [
        ("merge/commit", json!({"message": "m"}), json!({"type": "mergeCommit", "message": "m"})),
        ("merge/abort", json!({}), json!({"type": "mergeAbort"})),
        (
            "merge/skip",
            json!({"subtaskId": child, "reason": "r"}),
            json!({"type": "mergeSkip", "subtaskId": child, "reason": "r"}),
        ),
    ] {
        assert_eq!(world.post(&format!("/api/v1/tasks/{id}/{path}{wait}"), body).await.0, 202, "{path}");
        let mut told: Value = serde_json::from_str(&daemon.command().await.write()).unwrap();
        assert_eq!(told.as_object_mut().unwrap().remove("taskId"), Some(json!(id)));
        assert_eq!(told, command);
        daemon.say(merged(id, "done")).await;
        assert!(daemon.stored().await);
    }
    for (path, kind) in [
        ("merge", "mergeStatus"),
        ("merge/check", "checkMergeComplete"),
        ("target-exists?dir=/d&", "checkTargetExists"),
    ] {
        let wait = if path.ends_with('&') { "wait=0" } else { wait };
        let answer = soon(path, world.get(&format!("/api/v1/tasks/{id}/{path}{wait}")).send()).await.unwrap();
        assert_eq!(answer.status(), 504, "{path}");
        assert_eq!(daemon.kind().await, kind);
    }
}

/// Protects the handing over of work that was done long ago: its fields, and its answer.
#[tokio::test]
async fn work_is_handed_over_again() {
    let (world, mut daemon, id) = world_with_a_task().await;
    daemon.beat().await;
    let completion = format!("/api/v1/tasks/{id}/completion");
    assert_eq!(refused(&world, &completion, json!({"action": "pr"})).await, (409, "task_not_ended".to_owned()));
    daemon.say(complete(id, None)).await;
    assert!(daemon.stored().await);
    let wish = json!({"action": "merge", "targetRepoPath": "/r", "targetBranch": "t"});
    let answer = async {
        let DaemonCommand::RetryCompletionAction(body) = daemon.command().await else { panic!("no retry") };
        assert_eq!(
            (body.task_name.as_str(), body.action.as_str(), body.target_repo_path.as_str()),
            ("x", "merge", "/r")
        );
        assert_eq!(body.target_branch.as_deref(), Some("t"));
        let pr_url = Some("https://host/1".to_owned());
        daemon
            .say(CompletionActionResult { task_id: id, success: true, message: "ok".to_owned(), pr_url }.into())
            .await;
    };
    let (_, (status, body)) = tokio::join!(answer, world.post(&completion, wish));
    assert_eq!((status, &body["prUrl"]), (200, &json!("https://host/1")));
    for (path, code) in [("merge?wait=x", "bad_query"), ("target-exists", "bad_query")] {
        let answer = soon(path, world.get(&format!("/api/v1/tasks/{id}/{path}")).send()).await.unwrap();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], code);
    }
}

/// Protects clients from waiting for somebody who is not there, and from an answer that nobody can give.
#[tokio::test]
async fn who_cannot_be_asked_is_named() {
    let (world, mut daemon, id) = world_with_a_task().await;
    daemon.beat().await;
    let merge = format!("/api/v1/tasks/{id}/merge");
    let cut = async {
        assert_eq!(daemon.kind().await, "mergeStart");
        drop(daemon);
    };
    let (_, (status, body)) = tokio::join!(cut, world.post(&merge, json!({"branch": "b"})));
    assert_eq!((status, &body["error"]["code"]), (502, &json!("not_known")));
    let (status, body) = world.post(&merge, json!({"branch": "b"})).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("daemon_away")));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("a.example") && message.contains("since 20"), "{message}");
    let world = World::new().await;
    let id = world.create("x").await;
    let answer = world.get(&format!("/api/v1/tasks/{id}/branches")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()["error"]["code"].clone()),
        (409, json!("no_daemon"))
    );
}

/// Protects a question that changes nothing from a link that breaks: it is asked again.
#[tokio::test]
async fn a_harmless_question_is_asked_again() {
    let (world, mut daemon, id) = world_with_a_task().await;
    daemon.beat().await;
    let merge = format!("/api/v1/tasks/{id}/merge");
    let answers = async {
        assert_eq!(daemon.kind().await, "mergeStatus");
        let mut daemon = world.daemon("a").await;
        assert_eq!(daemon.spawned().await, id);
        // Of before: it is not known whether it answers this question.
        daemon
            .say(
                MergeStatusResponse { task_id: id, in_progress: false, source_branch: None, conflicted_files: vec![] }
                    .into(),
            )
            .await;
        daemon.raw(tokio_tungstenite::tungstenite::Message::Ping(Vec::new().into())).await;
        // Once more than it was asked before: that one may be answered yet.
        assert_eq!((daemon.kind().await, daemon.kind().await), ("mergeStatus", "mergeStatus"));
        daemon.say(standing(id)).await;
        daemon.say(standing(id)).await;
        assert!(daemon.stored().await);
    };
    let (_, status) = tokio::join!(answers, world.json(&merge));
    assert_eq!(status, json!({"taskId": id, "inProgress": true, "sourceBranch": "b", "conflictedFiles": ["f"]}));
}

/// Protects the order in which tasks begin, and a task from waiting for what cannot come.
#[tokio::test]
async fn a_task_begins_after_others() {
    let mut world = World::new().await;
    let (first, second) = (world.create("first").await, world.create("second").await);
    let third = Uuid::now_v7();
    let wish = json!({"taskId": third, "plan": "third", "after": [second, first, second]});
    assert_eq!(world.post("/api/v1/tasks", wish.clone()).await, (201, json!({ "id": third })));
    assert_eq!(world.post("/api/v1/tasks", wish).await.0, 200, "the same again");
    let other = json!({"taskId": third, "plan": "third", "after": [first]});
    assert_eq!(refused(&world, "/api/v1/tasks", other).await, (409, "task_exists".to_owned()));
    let (status, fourth) = world.post("/api/v1/tasks", json!({"plan": "fourth", "after": [third]})).await;
    assert_eq!(status, 201);
    let unknown = json!({"plan": "x", "after": [Uuid::now_v7()]});
    assert_eq!(refused(&world, "/api/v1/tasks", unknown).await, (400, "no_such_need".to_owned()));
    let own = Uuid::now_v7();
    let itself = json!({"plan": "x", "taskId": own, "after": [own]});
    assert_eq!(refused(&world, "/api/v1/tasks", itself).await, (400, "needs_itself".to_owned()));
    let mut shown: Vec<Uuid> = serde_json::from_value(world.task(third).await["after"].clone()).unwrap();
    shown.sort_unstable();
    assert_eq!(shown, [first, second], "each once");
    world.kill().await;
    let mut daemon = world.daemon("a").await;
    assert_eq!((daemon.spawned().await, daemon.spawned().await), (first, second));
    daemon.say(complete(first, None)).await;
    assert!(daemon.stored().await);
    assert_eq!(world.task(third).await["status"], "pending");
    daemon.say(status_of(second)).await;
    daemon.say(complete(second, None)).await;
    assert_eq!(daemon.spawned().await, third);
    daemon.say(complete(third, Some("no"))).await;
    assert!(daemon.stored().await);
    let fourth = world.task(fourth["id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!((&fourth["status"], &fourth["error"]), (&json!("failed"), &json!("needs `third`, which failed")));
    let (status, fifth) = world.post("/api/v1/tasks", json!({"plan": "fifth", "after": [third]})).await;
    assert_eq!(status, 201);
    let fifth = world.task(fifth["id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!((&fifth["status"], &fifth["success"]), (&json!("failed"), &json!(false)), "it is certain already");
}

fn status_of(task: Uuid) -> DaemonMessage {
    status(task, "pending", "running")
}

/// Protects who follows a task's output as a stream: all that happens, resumed anywhere, ended by its end.
#[tokio::test]
async fn output_is_a_stream_for_those_who_accept_one() {
    let (world, mut daemon, id) = world_with_a_task().await;
    daemon.say(status(id, "pending", "running")).await;
    daemon.say(crate::common::output(id, "line", false)).await;
    daemon.say(progress(id, "step")).await;
    daemon.say(complete(id, None)).await;
    assert!(daemon.stored().await);
    let path = format!("/api/v1/tasks/{id}/output");
    let get = async |last: Option<&str>| {
        let mut request = world.get(&path).header("accept", "text/html;q=0.1, text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = soon("a stream", request.send()).await.unwrap();
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        soon("its end", response.text()).await.unwrap()
    };
    let whole = get(None).await;
    let kinds: Vec<&str> = whole.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(kinds, ["status", "output", "progress", "end"]);
    let ids: Vec<&str> = whole.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids.len(), kinds.len());
    let rest = get(Some(ids[1])).await;
    assert!(whole.ends_with(&rest) && rest.contains("event: progress") && !rest.contains("event: output"), "{rest}");
    assert_eq!(world.output(id).await, "line\n", "who accepts anything gets the text");
}
