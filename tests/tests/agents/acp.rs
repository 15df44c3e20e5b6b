//! Real agents that speak the Agent Client Protocol.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use makima_tests::api::{Api, Kind, Request, Script, Turn};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::claudes::is_skipped;
use crate::scene::{PATIENCE, agent_of, slowly, task_of};
use crate::support::{Call, Fleet, Place, Proc, Repo, until};

/// The folder in which they are installed.
const FOLDER: &str = "MAKIMA_TEST_ACP";

/// What they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Claude Code, behind an adapter.
    Claude,
    Opencode,
}

const ALL: [Which; 2] = [Which::Claude, Which::Opencode];

struct Scene {
    place: Place,
    repo: Repo,
    api: Api,
    which: Which,
    folder: PathBuf,
}

/// Plays this with each of them.
#[track_caller]
fn with_each(all: &[Which], policy: &str, script: impl Fn() -> Script, play: impl Fn(Scene)) {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        let why = format!("{FOLDER} does not say where agents are");
        assert!(std::env::var("MAKIMA_TEST_AGENTS").as_deref() != Ok("required"), "{why}");
        return is_skipped(&why);
    };
    for which in all {
        eprintln!("--- with {which:?}");
        play(Scene::new(*which, &folder, policy, script()));
    }
}

impl Scene {
    fn new(which: Which, folder: &Path, policy: &str, script: Script) -> Self {
        let place = Place::new();
        let repo = place.repo();
        let api = Api::start(script).expect("a port");
        let bin = folder.join("node_modules/.bin");
        let [node, adapter, opencode] = ["node", "claude-agent-acp", "opencode"].map(|name| bin.join(name));
        let command = match which {
            Which::Claude => format!("['{}', '{}']", node.display(), adapter.display()),
            Which::Opencode => format!("['{}', 'acp']", opencode.display()),
        };
        // What commands say to the test they write into files of the place.
        let sandbox = format!("[sandbox]\nwrite = [\"{}\"]\n", place.root().display());
        let agent = format!("[agent]\nname = 'acp'\ncommand = {command}\n");
        place.configure(&format!("permissions = '{policy}'\n{agent}{sandbox}"));
        let scene = Self { place, repo, api, which, folder: folder.to_owned() };
        let settings = scene.place.path("opencode.json");
        let options = json!({ "baseURL": format!("{}/v1", scene.api.url()), "apiKey": "sk-ant-api03-nobodys-key" });
        let provider = json!({ "npm": "@ai-sdk/anthropic", "options": options, "models": { "fake-1": {} } });
        let permission = json!({ "bash": "ask", "edit": "ask" });
        let all = json!({ "model": "fake/fake-1", "small_model": "fake/fake-1", "provider": { "fake": provider }, "permission": permission });
        fs::write(settings, all.to_string()).expect("its settings");
        scene
    }

    fn with_agent(&self, call: Call) -> Call {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.folder.join("node_modules/.bin");
        call.env("PATH", format!("{}:{path}", bin.display()))
            .env("MAKIMA_SANDBOX", "required")
            .env("ANTHROPIC_BASE_URL", self.api.url())
            .env("ANTHROPIC_API_KEY", "sk-ant-api03-nobodys-key")
            .env("CLAUDE_CONFIG_DIR", self.place.path("claude"))
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_TELEMETRY", "1")
            .env("OPENCODE_CONFIG", self.place.path("opencode.json"))
            .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
            .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
            .env("OPENCODE_DISABLE_LSP_DOWNLOAD", "1")
    }

    fn run(&self, plan: &str) -> Call {
        self.with_agent(self.place.makima(["run", plan]).at(self.repo.path()))
    }

    fn fleet(&self) -> Fleet {
        Fleet::with(&self.place, self.with_agent(self.place.makima(["daemon"])))
    }

    /// What the agent's own loop has asked its model.
    fn asked(&self) -> Vec<Request> {
        self.api.requests().into_iter().filter(|request| request.kind == Kind::Main).collect()
    }

    /// A turn that writes a file, by whichever tool it has for that.
    fn write(&self, text: &str, name: &str, content: &str) -> Turn {
        let path = format!("{{cwd}}/{name}");
        match self.which {
            Which::Claude => Turn::text(text).tool("Write", json!({ "file_path": path, "content": content })),
            Which::Opencode => Turn::text(text).tool("write", json!({ "filePath": path, "content": content })),
        }
    }

    /// A turn that uses one of the tools by which agents lead others.
    fn mesh(&self, name: &str, input: Value) -> Turn {
        let begin = if self.which == Which::Claude { "mcp__makima__" } else { "makima_" };
        Turn::default().tool(&format!("{begin}{name}"), input)
    }

    /// A turn that runs a command.
    fn bash(&self, text: &str, command: &str) -> Turn {
        let input = json!({ "command": command, "description": "Work" });
        Turn::text(text).tool(if self.which == Which::Claude { "Bash" } else { "bash" }, input)
    }
}

/// Protects the whole way of a plan: it becomes a branch, by any agent that speaks the protocol, which may change files of its
/// worktree and nothing else.
#[test]
fn a_plan_becomes_a_branch_and_what_is_not_allowed_is_denied() {
    with_each(&ALL, "accept-edits", Script::new, |scene| {
        let denied = scene.place.path("denied");
        scene.api.push(scene.write("I write it.", "made", "by an agent\n"));
        scene.api.push(scene.bash("I try.", &format!("sh -c 'echo no > {}'", denied.display())));
        scene.api.push(Turn::text("I do without it."));
        let done = scene.run("Write it").start().wait(PATIENCE).code(0);
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "by an agent");
        assert!(!denied.exists(), "it was not run");
        for text in ["I write it.", "● edit"] {
            assert!(done.out().contains(text), "{text:?} is to be shown");
        }
        // Not every agent tells what it changes.
        assert!(done.out().contains("  + by an agent") || scene.which != Which::Claude);
        drop(done.noted(&["denied, as its permissions are: execute: ", "] done"]));
        scene.place.assert_nothing_runs();
    });
}

/// Protects a message that is said while the agent works: it is the next turn, and the task does not end over it.
#[test]
fn a_message_while_it_works_is_the_next_turn() {
    with_each(&ALL, "full", Script::new, |scene| {
        scene.api.push(slowly(40));
        scene.api.push(Turn::text("Yes, that too."));
        let run = scene.run("Talk").start();
        let id = task_of(&run);
        let streams = |all: &[Request]| all.iter().any(|one| one.kind == Kind::Main && one.deltas >= 3);
        assert!(scene.api.wait_until(streams, PATIENCE), "it talks");
        drop(scene.place.makima(["task", "send", &id, "and that too"]).done().code(0));
        let done = run.wait(PATIENCE).code(0);
        let newest = scene.asked().last().cloned().expect("it was asked");
        assert_eq!(
            (newest.times_said("Talk"), newest.times_said("and that too")),
            (1, 1),
            "{:#?}",
            newest.user_texts()
        );
        assert!(done.out().contains("Yes, that too."));
    });
}

/// Protects people who press Ctrl-C: the turn is broken off, what was done is kept, and nothing is left.
#[test]
fn an_interrupt_breaks_its_turn_off() {
    with_each(&ALL, "full", Script::new, |scene| {
        scene.api.push(scene.write("I write it.", "made", "before\n"));
        scene.api.push(slowly(600));
        let run = scene.run("Go on and on").start();
        let streams =
            |all: &[Request]| all.iter().filter(|one| one.kind == Kind::Main).nth(1).is_some_and(|one| one.deltas >= 3);
        assert!(scene.api.wait_until(streams, PATIENCE), "it talks");
        run.ctrl_c();
        drop(run.wait(PATIENCE).code(130));
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "before");
        scene.place.assert_nothing_runs();
    });
}

/// Protects an agent that asks, and the person who answers.
#[test]
fn a_person_answers_what_it_asks() {
    with_each(&ALL, "ask", Script::new, |scene| {
        scene.api.push(scene.bash("I try.", "echo yes > allowed"));
        scene.api.push(Turn::text("It is done."));
        let fleet = scene.fleet();
        let id = fleet.plan(&scene.repo, "Try it");
        until("the question", PATIENCE, || {
            let needs = fleet.task(&id)["needsPerson"].clone();
            needs.as_str().is_some_and(|needs| needs.starts_with("question 1: execute: ")).then_some(())
        });
        drop(scene.place.makima(["task", "answer", &id, "1", "allow"]).done().code(0));
        let task = ended(&fleet, &id);
        assert_eq!(task["status"], "done", "{task}");
        assert_eq!(scene.repo.show(&scene.repo.branch(), "allowed"), "yes");
        fleet.end();
    });
}

#[track_caller]
fn ended(fleet: &Fleet, id: &str) -> Value {
    until("the task's end", PATIENCE, || Some(fleet.task(id)).filter(|task| !task["endedAt"].is_null()))
}

/// Protects work under a daemon that is killed: the agent goes on, and the next daemon hears the rest.
#[test]
fn under_a_killed_daemon_it_goes_on() {
    with_each(&ALL, "full", Script::new, |scene| {
        scene.api.push(scene.write("I write it.", "made", "by an agent\n").first_delay(Duration::from_secs(2)));
        scene.api.push(slowly(20));
        let mut fleet = scene.fleet();
        let id = fleet.plan(&scene.repo, "Write it");
        assert!(scene.api.wait_until(|all| all.iter().any(|one| one.kind == Kind::Main), PATIENCE));
        fleet.daemon.signal(Signal::KILL);
        until("its end", PATIENCE, || (!fleet.daemon.is_running()).then_some(()));
        fleet.daemon = Fleet::connected(scene.with_agent(scene.place.makima(["daemon"])));
        drop(scene.place.makima(["task", "send", &id, "and tell me"]).done().code(0));
        let task = ended(&fleet, &id);
        assert_eq!(task["status"], "done", "{task}");
        assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "by an agent");
        let newest = scene.asked().last().cloned().expect("it was asked");
        assert_eq!(
            (newest.times_said("Write it"), newest.times_said("and tell me")),
            (1, 1),
            "{:#?}",
            newest.user_texts()
        );
        fleet.end();
    });
}

/// Protects a session of before: who goes on has it, where the agent can load it, and the files in any case.
#[test]
fn a_task_is_gone_on_with() {
    with_each(&ALL, "full", Script::new, |scene| {
        scene.api.push(scene.write("I write one.", "one", "1\n"));
        scene.api.push(Turn::text("One is there."));
        let run: Proc = scene.run("Write one").start();
        let id = task_of(&run);
        assert!(agent_of(&run) > 0);
        drop(run.wait(PATIENCE).code(0));
        scene.api.push(Turn::text("I am back."));
        let next =
            scene.with_agent(scene.place.makima(["task", "continue", &id, "once", "more"]).at(scene.repo.path()));
        let next = next.start();
        let other = task_of(&next);
        let done = next.wait(PATIENCE).code(0);
        assert!(done.out().contains("I am back."));
        let newest = scene.asked().last().cloned().expect("it was asked");
        assert_eq!(newest.times_said("once more"), 1, "{:#?}", newest.user_texts());
        let worktree = scene.place.home().join("worktrees").join(&other);
        assert_eq!(fs::read_to_string(worktree.join("one")).expect("the file of before"), "1\n");
    });
}

/// Protects plans that are too large for one agent: any agent of the protocol that takes tools leads others by those that it is handed.
#[test]
fn an_agent_of_the_protocol_leads_others() {
    with_each(
        &ALL,
        "full",
        || Script::new().fallback(Turn::text("Done.")),
        |scene| {
            let lead = "LEAD the work";
            let after = |results: usize, turn: Turn| {
                turn.when_ever(lead).when_request(move |request| request.tool_results().len() == results)
            };
            scene.api.push(scene.write("I do my part.", "made", "by a subtask\n").when("PART-one"));
            let spawn = scene.mesh("spawn_subtask", json!({ "name": "one", "plan": "Write PART-one" }));
            scene.api.push(spawn.when(lead));
            scene.api.push(after(1, Turn::text("It is at work.")));
            scene.api.push(scene.mesh("merge_start", json!({ "branch": "one" })).when("subtasks still at work: 0"));
            scene.api.push(after(2, scene.mesh("merge_commit", json!({ "message": "Take one" }))));
            scene.api.push(after(3, Turn::text("It is merged.")));
            let run = scene.place.makima(["run", "--orchestrate", &format!("{lead}: one part")]).at(scene.repo.path());
            let done = scene.with_agent(run).start().wait(PATIENCE).code(0);
            assert!(done.out().contains("It is merged."), "{}", done.out());
            assert_eq!(scene.repo.show(&scene.repo.branch(), "made"), "by a subtask");
            assert_eq!(scene.repo.git(["log", "--merges", "--format=%s", &scene.repo.branch()]), "Take one");
        },
    );
}
