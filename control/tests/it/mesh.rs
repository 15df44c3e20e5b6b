//! What agents that lead others ask over HTTP by their task's key, with a daemon in the test's hands.

use std::time::{Duration, Instant};

use makima_control::Bounds;
use makima_core::agent::{Answer, Verdict};
use makima_core::protocol::{BranchList, DaemonCommand, DaemonMessage, Heartbeat, RegisterToolKey, RevokeToolKey};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Daemon, TOKEN, World, complete, progress, soon};

const KEY: &str = "the key of the task";

fn register(id: Uuid, key: &str) -> DaemonMessage {
    RegisterToolKey { task_id: id, key: key.to_owned() }.into()
}

/// A tree: `top`, `lead` below it, whose key it is, `one` and `two` below that, and `deep` below `one`.
struct Tree {
    world: World,
    daemon: Daemon,
    top: Uuid,
    lead: Uuid,
    one: Uuid,
    two: Uuid,
    deep: Uuid,
}

impl Tree {
    async fn new() -> Self {
        Self::in_world(World::new().await).await
    }

    async fn in_world(world: World) -> Self {
        let mut daemon = world.daemon("a").await;
        let mut parent: Option<Uuid> = None;
        let mut ids = Vec::new();
        for (name, depth) in [("top", 0), ("lead", 1), ("one", 2), ("two", 2), ("deep", 3)] {
            parent = match name {
                "two" => ids.get(1).copied(),
                "deep" => ids.get(2).copied(),
                _ => parent,
            };
            let task = json!({"plan": "x", "taskName": name, "parentTaskId": parent, "depth": depth,
                "repoUrl": "https://u:secret@example.org/r"});
            let (status, body) = world.post("/api/v1/tasks", task).await;
            assert_eq!(status, 201, "{body}");
            let id: Uuid = body["id"].as_str().unwrap().parse().unwrap();
            assert_eq!(daemon.spawned().await, id);
            ids.push(id);
            parent = Some(id);
        }
        daemon.say(register(ids[1], KEY)).await;
        assert!(daemon.stored().await);
        Self { world, daemon, top: ids[0], lead: ids[1], one: ids[2], two: ids[3], deep: ids[4] }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        ask(&self.world, KEY, method, path, body).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Status and code.
    async fn refused(&self, method: Method, path: &str, body: &Value) -> (u16, String) {
        let (status, body) = self.ask(method, path, Some(body)).await;
        (status, body["error"]["code"].as_str().unwrap_or("none").to_owned())
    }

    async fn end(&mut self, id: Uuid) {
        self.daemon.say(complete(id, None)).await;
        assert!(self.daemon.stored().await);
    }
}

async fn ask(world: &World, key: &str, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
    let mut request = world.http.request(method, world.url(&format!("/api/v1{path}"))).bearer_auth(key);
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = soon(path, request.send()).await.unwrap();
    let status = response.status().as_u16();
    let text = soon(path, response.text()).await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn names(tasks: &Value) -> Vec<&str> {
    tasks.as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect()
}

/// Protects tasks from the keys of others, path by path: what each opens for itself, below itself and elsewhere.
#[tokio::test]
async fn a_key_opens_what_the_table_says() {
    let tree = Tree::new().await;
    let outside = tree.world.create("x").await;
    // What is open for the task itself, and for those below it. Of what is asked of the daemon nothing is waited for.
    let merging = ["/branches?wait=0", "/merge?wait=0", "/merge/check?wait=0"].map(|path| (Method::GET, path));
    let merges = ["/merge", "/merge/resolve", "/merge/commit", "/merge/skip"].map(|path| (Method::POST, path));
    let looks = ["", "/output"].map(|path| (Method::GET, path));
    let steers = ["/pause", "/resume", "/interrupt", "/messages"].map(|path| (Method::POST, path));
    let abort = [(Method::POST, "/merge/abort?wait=0"), (Method::GET, "/wait?wait=0")];
    let rows = (looks.iter().map(|row| (row, true, true)))
        .chain(steers.iter().map(|row| (row, false, true)))
        .chain(merging.iter().chain(&merges).chain(&abort).map(|row| (row, true, false)));
    let wrong = json!({"no such field": 1});
    for ((method, path), own, below) in rows {
        for (id, open) in [(tree.lead, own), (tree.one, below), (tree.deep, below)] {
            let body = (*method == Method::POST).then_some(&wrong);
            let (status, body) = tree.ask(method.clone(), &format!("/tasks/{id}{path}"), body).await;
            let code = body["error"]["code"].as_str().unwrap_or_default();
            assert_eq!(code == "forbidden", !open, "{method} {path}: {status} {body}");
            assert_eq!(status == 403, !open, "{method} {path}: {status} {body}");
        }
        for id in [tree.top, outside, Uuid::now_v7()] {
            let refused = tree.refused(method.clone(), &format!("/tasks/{id}{path}"), &wrong).await;
            assert_eq!(refused, (404, "no_such_task".to_owned()), "{method} {path}");
        }
    }
    // That one goes on and on: it is enough that it begins.
    let places = [(tree.lead, 200), (tree.one, 200), (tree.deep, 200), (tree.top, 404), (outside, 404)];
    for (id, status) in places {
        assert_eq!(tree.ask(Method::HEAD, &format!("/tasks/{id}/events"), None).await.0, status);
    }
    assert_eq!(tree.refused(Method::GET, "/tasks/rubbish", &wrong).await.0, 404);
    assert_eq!(tree.get("/info").await.0, 200);
    let (_, tasks) = tree.get("/tasks").await;
    assert_eq!(names(&tasks), ["one", "two", "deep"]);
}

/// Protects everything else: it is for people, whichever task it is about.
#[tokio::test]
async fn a_key_opens_nothing_else() {
    let tree = Tree::new().await;
    let forbidden = (403, "forbidden".to_owned());
    let source = include_str!("../../src/http/mod.rs");
    let paths: Vec<&str> = source.split(".route(\"/api/v1").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let for_people =
        ["/daemons", "/continue", "/answers", "/sibling-context", "/completion", "/clone", "/target-exists"];
    let mut seen = 0;
    for path in paths.iter().filter(|path| for_people.iter().any(|end| path.ends_with(end))) {
        seen += 1;
        for id in [tree.lead, tree.one, tree.top] {
            let path = path.replace("{id}", &id.to_string());
            for method in [Method::GET, Method::POST, Method::DELETE] {
                assert_eq!(tree.refused(method, &path, &json!({})).await, forbidden, "{path}");
            }
        }
    }
    assert_eq!(seen, for_people.len());
    for (method, path) in [
        (Method::POST, "/info"),
        (Method::DELETE, "/tasks"),
        (Method::GET, "/nothing"),
        (Method::POST, "/mesh/daemons/connect/poll"),
        (Method::POST, "/mesh/daemons/connect/push"),
    ] {
        assert_eq!(tree.refused(method, path, &json!({})).await, forbidden, "{path}");
    }
    let daemon = crate::common::authenticate("b", TOKEN);
    let daemon: Value = serde_json::from_str(&daemon.write()).unwrap();
    let opened = tree.refused(Method::POST, "/mesh/daemons/connect/session", &daemon).await;
    assert_eq!(opened, (401, "invalid_key".to_owned()), "a task is no daemon");
}

/// Protects the server from keys that are void: an ended task's, a revoked one, one of before.
#[tokio::test]
async fn a_key_that_is_void_opens_nothing() {
    let mut tree = Tree::new().await;
    let wrong = ask(&tree.world, "the key of the tasl", Method::GET, "/info", None).await;
    assert_eq!((wrong.0, &wrong.1["error"]["code"]), (401, &json!("unauthorized")));
    tree.daemon.say(RevokeToolKey { task_id: tree.lead }.into()).await;
    assert!(tree.daemon.stored().await);
    assert_eq!(tree.get("/info").await.0, 401, "revoked");
    tree.daemon.say(register(tree.lead, KEY)).await;
    assert!(tree.daemon.stored().await);
    assert_eq!(tree.get("/info").await.0, 200);
    tree.world.stop().await;
    tree.world.start().await;
    assert_eq!(tree.get("/info").await.0, 401, "of before the restart");
    tree.daemon = tree.world.daemon("a").await;
    tree.daemon.say(register(tree.lead, KEY)).await;
    assert!(tree.daemon.stored().await);
    let (_, tasks) = tree.get("/tasks").await;
    assert_eq!(names(&tasks), ["one", "two", "deep"], "told again, and the tree is known");
    tree.end(tree.lead).await;
    assert_eq!(tree.get("/info").await.0, 401, "its task has ended");
}

/// Protects a subtask's place: it is told to the daemon with what its parent has, and what was asked for.
#[tokio::test]
async fn a_subtask_is_made_by_its_parents_key() {
    let mut tree = Tree::in_world(World::bounded(Bounds { max_depth: 4, ..Bounds::default() }).await).await;
    let id = Uuid::now_v7();
    let task = json!({"taskId": id, "taskName": "N", "plan": "P", "baseBranch": "b", "copyFiles": ["f"], "isOrchestrator": true});
    assert_eq!(tree.post("/tasks", &task).await, (201, json!({ "id": id })));
    let told: Value = serde_json::from_str(&tree.daemon.command().await.write()).unwrap();
    let expected = json!({"type": "spawnTask", "taskId": id, "taskName": "N", "plan": "P", "baseBranch": "b",
        "copyFiles": ["f"], "isOrchestrator": true, "parentTaskId": tree.lead, "depth": 2, "completionAction": "none",
        "repoUrl": "https://u:secret@example.org/r", "targetBranch": null, "targetRepoPath": null,
        "continueFromTaskId": null});
    assert_eq!(told, expected);
    assert_eq!(tree.post("/tasks", &task).await, (200, json!({ "id": id })), "the same twice is one");
    let other = json!({"taskId": id, "taskName": "N", "plan": "another"});
    assert_eq!(tree.refused(Method::POST, "/tasks", &other).await, (409, "task_exists".to_owned()));
    let (_, shown) = tree.get(&format!("/tasks/{id}")).await;
    assert_eq!((&shown["repoUrl"], &shown["name"]), (&json!("https://example.org/r"), &json!("N")));
    assert_eq!(names(&tree.get("/tasks").await.1), ["one", "two", "deep", "N"]);
    let after = json!({"taskName": "M", "plan": "P", "after": [id, tree.deep]});
    let (status, body) = tree.post("/tasks", &after).await;
    assert_eq!(status, 201, "{body}");
    let (_, shown) = tree.get(&format!("/tasks/{}", body["id"].as_str().unwrap())).await;
    assert_eq!(shown["after"].as_array().unwrap().len(), 2);
}

/// Protects people from tasks that choose for themselves where they go, or wait for what is not theirs.
#[tokio::test]
async fn a_subtask_may_say_only_what_is_its_own() {
    let tree = Tree::new().await;
    for field in [
        "repoUrl",
        "targetBranch",
        "parentTaskId",
        "depth",
        "targetRepoPath",
        "completionAction",
        "continueFromTaskId",
        "agent",
    ] {
        let (status, body) = tree.post("/tasks", &json!({"taskName": "N", "plan": "P", field: null})).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("bad_json")), "{field}");
        assert!(body["error"]["message"].as_str().unwrap().contains(field), "{body}");
    }
    for need in [tree.lead, tree.top, Uuid::now_v7()] {
        let task = json!({"taskName": "N", "plan": "P", "after": [tree.one, need]});
        assert_eq!(tree.refused(Method::POST, "/tasks", &task).await, (400, "no_such_need".to_owned()));
    }
}

/// Protects a person's machine and money: each bound is named, with where it is set.
#[tokio::test]
async fn a_tree_that_is_too_large_is_told_so() {
    let refusal = async |tree: &Tree| {
        let (status, body) = tree.post("/tasks", &json!({"taskName": "N", "plan": "P"})).await;
        let code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
        (status, code, body["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    for (bounds, code, parts) in [
        (Bounds { max_depth: 1, ..Bounds::default() }, "too_deep", ["1", "max_depth"]),
        (Bounds { max_subtasks: 4, ..Bounds::default() }, "too_many_subtasks", ["4", "max_subtasks"]),
        (Bounds { max_cost: Some(500_000), ..Bounds::default() }, "over_budget", ["$0.5000", "max_cost"]),
    ] {
        let mut tree = Tree::in_world(World::bounded(bounds).await).await;
        for id in [tree.top, tree.deep] {
            let step = "turn over (3 tokens read, 4 written; $0.2500 so far)";
            tree.daemon.say(progress(id, step)).await;
        }
        assert!(tree.daemon.stored().await);
        let (status, told, message) = refusal(&tree).await;
        assert_eq!((status, told.as_str()), (403, code), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        let (status, body) =
            tree.world.post("/api/v1/tasks", json!({"plan": "x", "parentTaskId": tree.lead, "depth": 9})).await;
        assert_eq!(status, 201, "people are not bounded: {body}");
    }
}

/// Protects a tree from steering that goes astray: it reaches the daemon, about the task that was meant.
#[tokio::test]
async fn those_below_are_steered() {
    let mut tree = Tree::new().await;
    for (path, body, kind) in [
        ("pause", json!({}), "pauseTask"),
        ("resume", json!({}), "resumeTask"),
        ("messages", json!({"message": "m"}), "sendMessage"),
        ("interrupt", json!({"graceful": true}), "interruptTask"),
    ] {
        let answer = tree.post(&format!("/tasks/{}/{path}", tree.deep), &body).await;
        assert_eq!(answer, (202, json!({ "id": tree.deep })));
        let told: Value = serde_json::from_str(&tree.daemon.command().await.write()).unwrap();
        assert_eq!((&told["type"], &told["taskId"]), (&json!(kind), &json!(tree.deep)));
    }
}

/// Protects people from an agent that answers in their place what another may do: an answer is a message of a form of its own.
#[tokio::test]
async fn no_agent_answers_for_a_person() {
    let tree = Tree::new().await;
    let answer = Answer { question: 1, verdict: Verdict::Allow }.write();
    let (status, body) = tree.post(&format!("/tasks/{}/messages", tree.deep), &json!({ "message": answer })).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("forbidden")));
    let (status, _) =
        tree.world.post(&format!("/api/v1/tasks/{}/messages", tree.deep), json!({ "message": answer })).await;
    assert_eq!(status, 202, "who has the token is a person");
}

/// Protects a leader's merging: the daemon is asked about its own task, and its answer comes back.
#[tokio::test]
async fn a_leader_asks_its_daemon() {
    let mut tree = Tree::new().await;
    tree.daemon.say(Heartbeat { active_tasks: Vec::new() }.into()).await;
    assert!(tree.daemon.stored().await);
    let (world, lead) = (&tree.world, tree.lead);
    let path = format!("/tasks/{lead}/branches");
    let asking = ask(world, KEY, Method::GET, &path, None);
    let answering = async {
        let DaemonCommand::ListBranches(body) = tree.daemon.command().await else { panic!("another question") };
        assert_eq!(body.task_id, lead);
        tree.daemon.say(BranchList { task_id: lead, branches: Vec::new() }.into()).await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer, (200, json!({"taskId": lead, "branches": []})));
}

/// Protects siblings from not hearing of each other: what one has come to reaches those that are under way.
#[tokio::test]
async fn a_sibling_hears_of_an_end() {
    let mut tree = Tree::new().await;
    tree.daemon.say(progress(tree.two, "agent: I begin")).await;
    tree.daemon.say(progress(tree.one, "committed 1 on b")).await;
    tree.daemon.say(complete(tree.one, None)).await;
    let told: Value = serde_json::from_str(&tree.daemon.command().await.write()).unwrap();
    let expected = json!({"type": "injectSiblingContext", "taskId": tree.two, "siblingTaskId": tree.one,
        "siblingName": "one", "siblingStatus": "done", "progressSummary": "committed 1 on b", "changedFiles": []});
    assert_eq!(told, expected);
}

/// Protects a leader's patience: it hears as soon as all, or any, have ended, and is told when its time is over.
#[tokio::test]
async fn a_leader_waits_for_those_below() {
    let mut tree = Tree::new().await;
    let path = format!("/tasks/{}/wait", tree.lead);
    let (status, body) = tree.get(&format!("{path}?wait=0")).await;
    assert_eq!((status, &body["over"], names(&body["tasks"])), (200, &json!(false), vec!["one", "two"]));
    for mode in ["any", "all"] {
        let begun = Instant::now();
        let (_, body) = tree.get(&format!("{path}?wait=1&mode={mode}")).await;
        assert_eq!(body["over"], json!(false), "{mode}");
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
    // Any of those named; an end that came before the call is none.
    let named = format!("{path}?mode=any&for={},{},{}", tree.deep, tree.two, tree.deep);
    let (one, two, deep) = (tree.one, tree.two, tree.deep);
    let (world, daemon) = (&tree.world, &mut tree.daemon);
    let waiting = async |daemon: &mut Daemon, path: &str, ends: &[Uuid]| {
        let asking = ask(world, KEY, Method::GET, path, None);
        let ending = async {
            // Whether it comes before the question or after changes nothing for `all`, and is waited out for `any`.
            tokio::time::sleep(Duration::from_millis(100)).await;
            for id in ends {
                daemon.say(complete(*id, None)).await;
            }
        };
        tokio::join!(asking, ending).0
    };
    let (_, body) = waiting(daemon, &named, &[deep]).await;
    assert_eq!((&body["over"], names(&body["tasks"])), (&json!(true), vec!["deep", "two"]));
    assert_eq!((&body["tasks"][0]["status"], &body["tasks"][1]["status"]), (&json!("done"), &json!("pending")));
    let again = ask(world, KEY, Method::GET, &format!("{named}&wait=0"), None).await;
    assert_eq!(again.1["over"], json!(false), "one is left, and has not ended meanwhile");
    let (_, body) = waiting(daemon, &path, &[one, two]).await;
    assert_eq!(body["over"], json!(true));
    assert_eq!(body["tasks"], json!([world.task(one).await, world.task(two).await]));
    for mode in ["any", "all"] {
        let (_, body) = ask(world, KEY, Method::GET, &format!("{path}?mode={mode}&wait=0"), None).await;
        assert_eq!(body["over"], json!(true), "none was left unended: {mode}");
    }
}

/// Protects whoever asks for what cannot be waited for from waiting.
#[tokio::test]
async fn what_cannot_be_waited_for_is_refused() {
    let tree = Tree::new().await;
    let path = format!("/tasks/{}/wait", tree.lead);
    for (query, status, code) in [
        ("mode=some".to_owned(), 400, "bad_query"),
        ("wait=long".to_owned(), 400, "bad_query"),
        ("for=rubbish".to_owned(), 404, "no_such_task"),
        ("for=".to_owned(), 404, "no_such_task"),
        (format!("for={},{}", tree.one, tree.top), 404, "no_such_task"),
        (format!("for={}", tree.lead), 404, "no_such_task"),
        (format!("for={}", Uuid::now_v7()), 404, "no_such_task"),
    ] {
        let (got, body) = tree.get(&format!("{path}?{query}")).await;
        assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)), "{query}");
    }
    let childless = tree.world.json(&format!("/api/v1/tasks/{}/wait", tree.deep)).await;
    assert_eq!(childless, json!({"over": true, "tasks": []}), "people wait for any task");
    let of_top = tree.world.get(&format!("/api/v1/tasks/{}/wait", tree.top)).header("prefer", "wait=0");
    let of_top: Value = of_top.send().await.unwrap().json().await.unwrap();
    assert_eq!((&of_top["over"], names(&of_top["tasks"])), (&json!(false), vec!["lead"]));
    let nothing = tree.world.get(&format!("/api/v1/tasks/{}/wait", Uuid::now_v7())).send().await.unwrap();
    assert_eq!(nothing.status(), 404);
}

/// Protects an end of the server from those who wait: they are told to come again, at once.
#[tokio::test]
async fn a_server_that_ends_lets_go_of_those_who_wait() {
    let mut tree = Tree::new().await;
    let url = tree.world.url(&format!("/api/v1/tasks/{}/wait?wait=600", tree.lead));
    let asking = tokio::spawn(tree.world.http.get(url).bearer_auth(KEY).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    tree.world.stop().await;
    let response = soon("the answer", asking).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(response.status(), 503);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "server_ends");
}
