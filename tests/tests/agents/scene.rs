//! What one test plays in: a place of its own, a repository, a model that is a script, and one version of Claude Code.

use std::fs;
use std::path::Path;
use std::time::Duration;

use makima_tests::api::{Api, Kind, Request, Script, Turn};
use serde_json::{Value, json};

use crate::support::{Call, Done, Fleet, Place, Proc, Repo, until};

/// For whatever an agent does, on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// What the agent may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Change files.
    Edit,
    /// Everything, commands too: that is what it may where nothing else is said, in a sandbox.
    All,
    /// What a person lets it do.
    Ask,
}

/// A place with all that an agent needs.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) repo: Repo,
    pub(crate) api: Api,
}

impl Scene {
    pub(crate) fn new(claude: &Path, may: May, script: Script) -> Self {
        let place = Place::new();
        let repo = place.repo();
        let scene = Self { place, repo, api: Api::start(script).expect("a port") };
        scene.command(&[&claude.display().to_string()], may);
        scene
    }

    /// How the agent is started, and what it may do.
    pub(crate) fn command(&self, words: &[&str], may: May) {
        let permissions = match may {
            May::Edit => "permissions = \"accept-edits\"\n",
            May::All => "",
            May::Ask => "permissions = \"ask\"\n",
        };
        // Quotes in which a path is what it is.
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let agent = format!("[agent]\nname = \"claude\"\ncommand = [{}]\n", words.join(", "));
        // What commands say to the test they write into files of the place.
        let sandbox = format!("[sandbox]\nwrite = [\"{}\"]\n", self.place.root().display());
        self.place.configure(&(permissions.to_owned() + &agent + &sandbox));
    }

    /// `makima run` of a plan in the repository.
    pub(crate) fn run(&self, plan: &str) -> Call {
        self.with_agent(self.place.makima(["run", "--agent", "claude", plan]).at(self.repo.path()))
    }

    /// The same, to its end.
    #[track_caller]
    pub(crate) fn done(&self, plan: &str) -> Done {
        self.run(plan).start().wait(PATIENCE)
    }

    /// A server, and a daemon under it.
    pub(crate) fn fleet(&self) -> Fleet {
        Fleet::with(&self.place, self.daemon())
    }

    /// The daemon that there is in a fleet.
    pub(crate) fn daemon(&self) -> Call {
        self.with_agent(self.place.makima(["daemon", "--agent", "claude"]))
    }

    /// `makima task …`.
    #[track_caller]
    pub(crate) fn task(&self, words: &[&str]) -> Done {
        self.place.makima([&["task"], words].concat()).done()
    }

    /// What the agent is handed.
    pub(crate) fn with_agent(&self, call: Call) -> Call {
        call.env("MAKIMA_SANDBOX", "required")
            .env("ANTHROPIC_BASE_URL", self.api.url())
            .env("ANTHROPIC_API_KEY", "sk-ant-api03-nobodys-key")
            .env("CLAUDE_CONFIG_DIR", self.place.path("claude"))
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_TELEMETRY", "1")
            .env("DISABLE_ERROR_REPORTING", "1")
    }

    /// A path for what a test says to a command, or a command to it.
    pub(crate) fn file(&self, name: &str) -> String {
        self.place.path(name).display().to_string()
    }

    /// Waits for a file of a command's.
    #[track_caller]
    pub(crate) fn is_there(&self, name: &str) {
        until(&format!("the file {name}"), PATIENCE, || self.place.path(name).exists().then_some(()));
    }

    /// Makes a file that a command waits for.
    pub(crate) fn make(&self, name: &str) {
        fs::write(self.place.path(name), "").expect("a file");
    }

    /// Requests of the agent's own loop.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.api.requests().into_iter().filter(|request| request.kind == Kind::Main).collect()
    }

    /// Waits until so many deltas of the answer to this request of the agent's loop are out, which it still is.
    #[track_caller]
    pub(crate) fn streams(&self, nth: usize, deltas: usize) {
        let is_main = |request: &&Request| request.kind == Kind::Main;
        let out = |all: &[Request]| all.iter().filter(is_main).nth(nth).is_some_and(|one| one.deltas >= deltas);
        assert!(self.api.wait_until(out, PATIENCE), "no answer {nth} streams: {:#?}", self.short());
        assert_eq!(self.asked()[nth].end, None, "answer {nth} is still on its way");
    }

    /// Asserts that each of these was said to the model once, by the last that it was asked.
    #[track_caller]
    pub(crate) fn said_once(&self, texts: &[&str]) {
        let newest = self.api.newest().expect("it was asked");
        for text in texts {
            assert_eq!(newest.times_said(text), 1, "{text:?} is to be said once: {:#?}", newest.user_texts());
        }
    }

    /// What was asked, for people.
    pub(crate) fn short(&self) -> Vec<String> {
        let short = |request: &Request| {
            let results: Vec<String> = request.tool_results().into_iter().map(|result| result.text).collect();
            format!("{:?} {:?}: {:?} {results:?}", request.answer, request.end, request.user_texts())
        };
        self.api.requests().iter().map(short).collect()
    }
}

/// A call of the tool that runs commands.
pub(crate) fn bash(turn: Turn, command: &str) -> Turn {
    turn.tool("Bash", json!({ "command": command, "description": "Work" }))
}

/// A call of the tool that writes files, into the worktree.
pub(crate) fn write(turn: Turn, name: &str, content: &str) -> Turn {
    let path = format!("{{cwd}}/{name}");
    turn.tool("Write", json!({ "file_path": path, "content": content }))
}

/// An answer of so many parts, which begins at once and has one of them each tenth of a second.
pub(crate) fn slowly(parts: usize) -> Turn {
    let text: String = (0..parts).map(|part| format!("part {part:03}; ")).collect();
    Turn::text(&text).chunk("part 000; ".len()).delay(Duration::from_millis(100))
}

/// The task that a run has asked for.
#[track_caller]
pub(crate) fn task_of(run: &Proc) -> String {
    let line = line_of(run, "task ");
    // Behind it stands how its agent is run.
    line.split(',').next().unwrap_or_default().to_owned()
}

/// The agent's process, as the run tells it.
#[track_caller]
pub(crate) fn agent_of(run: &Proc) -> i32 {
    let line = line_of(run, "agent started (process ");
    line.trim_end_matches(')').parse().expect("a number")
}

/// What stands behind this in a line of a run's stderr, which may begin with the time.
#[track_caller]
fn line_of(run: &Proc, begin: &str) -> String {
    until(&format!("a line with {begin:?} on stderr"), PATIENCE, || {
        let err = run.err();
        let whole = err.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let told = |line: &str| line.split_once("] ").map_or(line, |(_, told)| told).to_owned();
        whole.map(told).find_map(|line| line.strip_prefix(begin).map(str::to_owned))
    })
}

/// Waits until a run has told this on its stderr so many times.
#[track_caller]
pub(crate) fn tells(run: &Proc, text: &str, times: usize) {
    until(&format!("{text:?} {times} times on stderr"), PATIENCE, || {
        (run.err().matches(text).count() >= times).then_some(())
    });
}

/// Asserts that each of these is a line of what a run has shown of its agent.
#[track_caller]
pub(crate) fn shows(done: &Done, texts: &[&str]) {
    for text in texts {
        assert!(done.out().lines().any(|line| line == *text), "{text:?} is to be a line of stdout");
    }
}

/// How many turns of its agent a run has shown the end of.
pub(crate) fn turns(out: &str) -> usize {
    out.lines().filter(|line| line.starts_with("— ")).count()
}

/// Waits until a run has shown the end of a turn.
#[track_caller]
pub(crate) fn ends_a_turn(run: &Proc) {
    until("the end of a turn on stdout", PATIENCE, || (turns(&run.out()) > 0).then_some(()));
}

/// Lines of an agent's output.
#[track_caller]
pub(crate) fn lines(output: &str) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: no JSON: {line}"));
    output.lines().map(read).collect()
}

/// What an agent has said to people, by its output.
pub(crate) fn spoken(lines: &[Value]) -> Vec<String> {
    let replies = lines.iter().filter(|line| line["type"] == "assistant");
    let blocks = replies.filter_map(|line| line["message"]["content"].as_array()).flatten();
    blocks.filter_map(|block| block["text"].as_str().map(str::to_owned)).collect()
}
