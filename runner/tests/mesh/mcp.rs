//! `makima mcp`, as an agent speaks with it.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::fake::Fake;
use crate::{LEADER, ONE, SOON, TWO, makima, nowhere, run, two_subtasks};

/// An agent that speaks with it.
struct Agent {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    id: u64,
}

impl Agent {
    /// One that has only started it.
    fn start(url: &str) -> Self {
        let mut child = makima(&["mcp"], url).spawn().expect("the program");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, stdin, stdout: BufReader::new(stdout).lines(), id: 0 }
    }

    /// One that has shaken hands with it.
    async fn greeted(url: &str) -> (Self, Value) {
        let mut agent = Self::start(url);
        let client = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
        let hello = agent.ask("initialize", client).await;
        agent.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        (agent, hello["result"].clone())
    }

    async fn write(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    async fn read(&mut self) -> Value {
        let line = timeout(SOON, self.stdout.next_line()).await.expect("it answers").expect("text");
        serde_json::from_str(&line.expect("it is there")).expect("nothing but JSON is on stdout")
    }

    /// Asks, and gives the answer to that: what else it says on the way is passed over.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let id = self.id;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()).await;
        loop {
            let answer = self.read().await;
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// Uses a tool. Gives its text, and whether that is an error.
    async fn call(&mut self, tool: &str, arguments: Value) -> (String, bool) {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await;
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{tool}: {answer}")).to_owned();
        (text, result["isError"] == true)
    }

    async fn good(&mut self, tool: &str, arguments: Value) -> Value {
        let (text, failed) = self.call(tool, arguments).await;
        assert!(!failed, "{tool}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{tool}: {error}: {text}"))
    }

    async fn bad(&mut self, tool: &str, arguments: Value) -> String {
        let (text, failed) = self.call(tool, arguments).await;
        assert!(failed, "{tool}: {text}");
        text
    }
}

#[tokio::test]
async fn an_agent_shakes_hands_and_sees_the_tools() {
    let fake = Fake::start(two_subtasks).await;
    let (mut agent, hello) = Agent::greeted(&fake.url()).await;
    assert_eq!((&hello["protocolVersion"], &hello["serverInfo"]["name"]), (&json!("2025-06-18"), &json!("makima")));
    let instructions = hello["instructions"].as_str().expect("instructions");
    assert!(
        ["stands alone", "end your turn", "merge_check", "never an instruction"]
            .iter()
            .all(|w| instructions.contains(w))
    );
    let listed = agent.ask("tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().expect("tools");
    assert_eq!(tools.len(), 17);
    for tool in tools {
        assert!(tool["description"].is_string() && tool["inputSchema"]["type"] == "object", "{tool}");
    }
    assert!(fake.asked().is_empty(), "nothing is asked before a tool is used");
    // Its end is the agent's: it closes the pipe.
    drop(agent.stdin);
    let status = timeout(SOON, agent.child.wait()).await.expect("it ends").expect("an end");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn each_tool_does_what_it_is_called() {
    let fake = Fake::start(two_subtasks).await;
    let (mut agent, _) = Agent::greeted(&fake.url()).await;
    let arguments = json!({ "name": "docs", "plan": "write them", "after": ["parser", TWO], "copy_files": ["notes.md"], "leads": true });
    let made = agent.good("spawn_subtask", arguments).await;
    let asked = fake.last();
    assert_eq!((&asked.body["taskId"], &asked.body["after"]), (&made["id"], &json!([ONE, TWO])));
    assert_eq!((&asked.body["copyFiles"], &asked.body["isOrchestrator"]), (&json!(["notes.md"]), &json!(true)));

    assert_eq!(agent.good("list_subtasks", json!({})).await[1]["error"], "exit code 7");
    assert_eq!(agent.good("subtask_status", json!({ "id": "parser" })).await["status"], "done");
    let output = agent.good("subtask_output", json!({ "id": "parser", "last_lines": 2 })).await;
    assert_eq!((&output["output"], &output["cut"]), (&json!("two\nthree\n"), &json!(true)));
    for (tool, path) in [("pause_subtask", "pause"), ("resume_subtask", "resume"), ("interrupt_subtask", "interrupt")] {
        agent.good(tool, json!({ "id": "tests" })).await;
        assert_eq!(fake.last().what, format!("POST /tasks/{TWO}/{path}"));
    }
    assert_eq!(fake.last().body, json!({ "graceful": true }));
    agent.good("message_subtask", json!({ "id": ONE, "message": "hear" })).await;
    assert_eq!(fake.last().body, json!({ "message": "hear" }));
    let waited = agent.good("wait_for_subtasks", json!({ "ids": ["tests"], "mode": "any", "seconds": 1 })).await;
    assert!(waited["over"] == true && waited["tasks"][0]["id"] == TWO, "{waited}");
    agent.good("wait_for_subtasks", json!({})).await;
    assert_eq!(fake.last().what, format!("GET /tasks/{LEADER}/wait?mode=all&wait=60"));

    assert_eq!(agent.good("list_branches", json!({})).await["branches"][0]["name"], "makima/parser");
    // A conflict is an answer, and no error: what to do about it stands in it.
    let merge = agent.good("merge_start", json!({ "branch": "makima/tests" })).await;
    assert_eq!((&merge["success"], &merge["conflicts"]), (&json!(false), &json!(["readme"])));
    assert_eq!(agent.good("merge_status", json!({})).await["inProgress"], true);
    agent.good("merge_resolve", json!({ "file": "readme", "strategy": "theirs" })).await;
    assert_eq!(fake.last().body, json!({ "file": "readme", "strategy": "theirs" }));
    agent.good("merge_abort", json!({})).await;
    agent.good("merge_skip", json!({ "subtask_id": "tests", "reason": "not needed" })).await;
    assert_eq!(fake.last().body, json!({ "subtaskId": TWO, "reason": "not needed" }));
    assert_eq!(agent.good("merge_check", json!({})).await["unmergedBranches"], json!(["makima/tests"]));
}

/// Protects a model from guessing: what went wrong is told by the tool, in the server's own words where it has some.
#[tokio::test]
async fn what_goes_wrong_is_told_by_the_tool() {
    let fake = Fake::start(two_subtasks).await;
    let (mut agent, _) = Agent::greeted(&fake.url()).await;
    let refused = agent.bad("spawn_subtask", json!({ "name": "x", "plan": "one too many" })).await;
    assert_eq!(refused, "64 tasks are all that may be below one (max_subtasks)");
    assert!(agent.bad("spawn_subtask", json!({ "name": "x", "plan": " " })).await.contains("plan is empty"));
    assert!(agent.bad("subtask_status", json!({ "id": "lexer" })).await.contains("no subtask is called `lexer`"));
    assert!(agent.bad("subtask_status", json!({ "id": "019f" })).await.contains("may be any of 2"));
    assert_eq!(agent.bad("subtask_output", json!({ "id": TWO })).await, "there is no such task");
    assert!(agent.bad("wait_for_subtasks", json!({ "seconds": 601 })).await.contains("600 at most"));
    assert!(agent.bad("merge_commit", json!({})).await.contains("has not answered within 60 s"));
    // What is missing, and what is not known.
    assert!(agent.bad("spawn_subtask", json!({ "name": "x" })).await.contains("plan"));
    assert!(agent.bad("merge_start", json!({ "branch": "b", "squash": true })).await.contains("squash"));
    assert!(agent.bad("merge_resolve", json!({ "file": "a", "strategy": "mine" })).await.contains("mine"));
    let unknown = agent.ask("tools/call", json!({ "name": "run_anything", "arguments": {} })).await;
    assert!(unknown["error"].is_object(), "{unknown}");
    assert_eq!(agent.good("list_subtasks", json!({})).await[0]["id"], ONE);
}

/// Protects an agent whose server is restarted: its tools say so, and work again as soon as the server does.
#[tokio::test]
async fn a_server_that_is_away_is_told_by_the_tool() {
    let (mut agent, _) = Agent::greeted(&nowhere()).await;
    assert!(agent.bad("list_subtasks", json!({})).await.contains("is not reached"));
    // That was never asked: nobody needs to look whether it was done.
    let refused = agent.bad("spawn_subtask", json!({ "name": "x", "plan": "y" })).await;
    assert!(refused.contains("is not reached") && !refused.contains("all the same"), "{refused}");
    assert!(agent.bad("merge_check", json!({})).await.contains("is not reached"));
}

/// Protects the conversation from what breaks into it.
#[tokio::test]
async fn lines_that_are_no_messages_do_not_end_it() {
    let fake = Fake::start(two_subtasks).await;
    let mut agent = Agent::start(&fake.url());
    agent.write("warning: this is no JSON").await;
    for line in ["", "[]", "null", "{}"] {
        agent.write(line).await;
    }
    let client =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    agent.ask("initialize", client).await;
    agent.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    for line in [
        "{\"jsonrpc\":\"2.0\",\"id\":",
        "[]",
        "null",
        "{\"jsonrpc\":\"2.0\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":7}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/of_no_kind\"}",
        "\u{0}\u{1}\u{fffd}",
    ] {
        agent.write(line).await;
    }
    let strange = agent.ask("of/no/kind", json!({})).await;
    assert!(strange["error"].is_object(), "{strange}");
    agent.write(&"x".repeat(1 << 20)).await;
    assert_eq!(agent.good("list_subtasks", json!({})).await[0]["id"], ONE);
}

/// Protects whoever sets it up: without a task it does not pretend to work.
#[tokio::test]
async fn without_a_task_it_says_what_is_missing() {
    for name in ["MAKIMA_API_URL", "MAKIMA_TOOL_KEY", "MAKIMA_TASK_ID"] {
        let mut command = makima(&["mcp"], "http://127.0.0.1:1");
        command.env_remove(name);
        let output = run(command, "").await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{told}");
        assert!(told.contains(&format!("{name} is not set")) && told.contains("makima run --orchestrate"), "{told}");
    }
    // Whoever starts it and leaves again has done nothing wrong.
    assert_eq!(run(makima(&["mcp"], "http://127.0.0.1:1"), "").await.status.code(), Some(0));
}
