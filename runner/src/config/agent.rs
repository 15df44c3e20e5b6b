//! Which agent runs the tasks, and what it may do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use makima_core::agent::{Acp, Agent, Claude, Permissions, Policy};
use rustix::fs::{Access, access};
use serde::Deserialize;
use serde::de::Deserializer;

use super::ConfigFile;
use super::either::Either;
use crate::report::Failure;
use crate::sandbox::{Mode, Sandbox, Settled};

/// The agents that this version can run.
pub const AGENTS: &[&str] = &["claude", "acp:COMMAND", "shell"];

/// `agent = "shell"`, or a table `[agent]`.
#[derive(Clone, Debug)]
pub enum AgentSetting {
    /// Its name.
    Name(String),
    /// Its name and more.
    Table(AgentTable),
}

/// `[agent]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentTable {
    /// Its name.
    pub name: Option<String>,
    /// The command line that starts it, where that is not its name.
    #[serde(default)]
    pub command: Vec<String>,
    /// The model that it is to use.
    pub model: Option<String>,
    /// What is put before that command line: a container around the agent. `{worktree}`, `{repository}`, `{tmp}` and `{plan}`
    /// stand for its folders and the file with its plan.
    #[serde(default)]
    pub wrap: Vec<String>,
    /// Variables for its environment. Their values are masked wherever they show up, from 8 characters on: shorter
    /// ones would garble ordinary text.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// `permissions = "full"`, or a table `[permissions]`.
#[derive(Clone, Debug, Default)]
pub struct PermissionsFile {
    /// The rule; none where the file does not say.
    pub policy: Option<Policy>,
    /// What the agent may always do.
    pub allow: Vec<String>,
    /// What it may never do.
    pub deny: Vec<String>,
    /// The rule holds in a sandbox only.
    pub only_fenced: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PermissionsTable {
    policy: Option<Policy>,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

impl<'de> Deserialize<'de> for AgentSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either {
            expects: "an agent's name, or a table with `name`, `command`, `wrap`, `model` and `env`",
            word: |name| Ok(Self::Name(name.to_owned())),
            table: Self::Table,
        })
    }
}

impl<'de> Deserialize<'de> for PermissionsFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either {
            expects: "ask, accept-edits or full, or a table with `policy`, `allow` and `deny`",
            word: |name| policy(name).map(|policy| Self { policy: Some(policy), ..Self::default() }),
            table: |PermissionsTable { policy, allow, deny }| Self { policy, allow, deny, only_fenced: false },
        })
    }
}

/// What an agent may do, by its name.
///
/// # Errors
/// There is no such policy.
pub fn policy(name: &str) -> Result<Policy, String> {
    Policy::ALL.into_iter().find(|policy| policy.name() == name).ok_or_else(|| {
        let known: Vec<&str> = Policy::ALL.iter().map(|policy| policy.name()).collect();
        format!("`{name}` is not one of {}", known.join(", "))
    })
}

impl ConfigFile {
    /// The agent's name.
    #[must_use]
    pub fn agent_name(&self) -> Option<&str> {
        match self.agent.as_ref()? {
            AgentSetting::Name(name) => Some(name),
            AgentSetting::Table(table) => table.name.as_deref(),
        }
    }

    /// The agent's own variables.
    #[must_use]
    pub fn agent_env(&self) -> Vec<(String, String)> {
        self.agent_table().map(|table| table.env.clone().into_iter().collect()).unwrap_or_default()
    }

    fn agent_table(&self) -> Option<&AgentTable> {
        match &self.agent {
            Some(AgentSetting::Table(table)) => Some(table),
            Some(AgentSetting::Name(_)) | None => None,
        }
    }

    /// The command line that starts the agent, where one is named.
    #[must_use]
    pub fn agent_command(&self) -> &[String] {
        self.agent_table().map(|table| table.command.as_slice()).unwrap_or_default()
    }

    /// What is put before an agent's command line.
    #[must_use]
    pub fn wrap(&self) -> Vec<String> {
        self.agent_table().map(|table| table.wrap.clone()).unwrap_or_default()
    }

    /// The sandbox that agents run in here.
    ///
    /// # Errors
    /// One is required, and none can be.
    pub fn sandbox(&self) -> Result<Settled, Failure> {
        if self.wrap().is_empty() {
            let mut file = self.sandbox.clone();
            // Keys that are the daemon's lie wherever its user has put them.
            file.hide.extend(self.api_key_file.clone());
            file.hide.extend(self.forges().into_iter().filter_map(|forge| forge.token_file));
            return Sandbox::settle(&file);
        }
        match self.sandbox.mode {
            // Who makes containers needs what nobody has in there.
            Mode::Off | Mode::Auto => Ok(Settled::Off("`wrap` under [agent] is around it instead".to_owned())),
            Mode::Required => Err(Failure::unusable("a sandbox is required, and `wrap` under [agent] does without")
                .hint("take one of the two out of config.toml, or write --sandbox auto")),
        }
    }

    /// Flags go before what stands here. Of an agent's settings only those of the same agent stay.
    ///
    /// # Errors
    /// An agent is to do everything by a flag alone, without a sandbox; or a sandbox is required and cannot be.
    pub fn overrule(&mut self, flags: Flags<'_>) -> Result<(), Failure> {
        let Flags { agent, permissions, sandbox } = flags;
        if let Some(name) = agent {
            let table = self.agent_table().cloned().unwrap_or_default();
            let table = match self.agent_name() {
                Some(known) if known != name => {
                    AgentTable { env: table.env, wrap: table.wrap, ..AgentTable::default() }
                }
                Some(_) | None => table,
            };
            self.agent = Some(AgentSetting::Table(AgentTable { name: Some(name.to_owned()), ..table }));
        }
        self.sandbox.mode = sandbox.unwrap_or(self.sandbox.mode);
        if permissions == Some(Policy::Full) && self.permissions.policy != Some(Policy::Full) {
            if let Settled::Off(why) = self.sandbox()? {
                return Err(Failure::unusable(format!(
                    "an agent that may do everything has to be fenced in, and here it is not: {why}"
                ))
                .hint("or put permissions = \"full\" into config.toml: everything that you may do on this machine it may do then"));
            }
            self.permissions.only_fenced = true;
        }
        self.permissions.policy = permissions.or(self.permissions.policy);
        Ok(())
    }

    /// The rule where no other stands anywhere: in a sandbox an agent may do everything; without one somebody is asked, if
    /// anybody is there.
    ///
    /// # Errors
    /// A sandbox is required and cannot be.
    pub fn settle_permissions(&mut self, is_somebody_there: bool) -> Result<(), Failure> {
        if self.permissions.policy.is_some() {
            return Ok(());
        }
        let fenced = matches!(self.sandbox()?, Settled::On(_));
        self.permissions.only_fenced = fenced;
        self.permissions.policy = Some(match (fenced, is_somebody_there) {
            (true, _) => Policy::Full,
            (false, true) => Policy::Ask,
            (false, false) => Policy::AcceptEdits,
        });
        Ok(())
    }
}

/// What was written on the command line about agents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags<'a> {
    /// Which one.
    pub agent: Option<&'a str>,
    /// What it may do.
    pub permissions: Option<Policy>,
    /// Whether it is fenced in.
    pub sandbox: Option<Mode>,
}

/// Settles which agent runs the tasks: the one that is named, else Claude Code where it is to be found.
///
/// # Errors
/// None was named and none is there, or one that this version cannot run.
pub fn agent(file: &ConfigFile) -> Result<Agent, Failure> {
    let table = file.agent_table();
    let name = match file.agent_name() {
        Some(name) => name,
        None if find("claude").is_some() || table.is_some_and(|table| !table.command.is_empty()) => "claude",
        None => {
            return Err(Failure::unusable("no agent was named, and there is no `claude` on PATH").hint(format!(
                "{GET}, or write --agent shell to run the plan as a shell script, or put agent = \"shell\" into \
                     config.toml"
            )));
        }
    };
    match name {
        "shell" => Ok(Agent::Shell),
        "claude" => {
            let program = table.map(|table| table.command.clone()).filter(|command| !command.is_empty());
            let program = program.unwrap_or_else(|| vec!["claude".to_owned()]);
            is_there(program.first().map_or("", String::as_str))?;
            Ok(Agent::Claude(Claude {
                program,
                model: table.and_then(|table| table.model.clone()),
                permissions: permissions(file),
            }))
        }
        name if name == "acp" || name.starts_with(ACP) => {
            let command = table.map(|table| table.command.clone()).filter(|command| !command.is_empty());
            let words = || name.strip_prefix(ACP).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
            let program: Vec<String> = command.unwrap_or_else(words);
            let Some(first) = program.first() else {
                return Err(Failure::unusable(format!("the agent `{name}` has no command"))
                    .hint("write how it is started: --agent 'acp:opencode acp', or `command` under [agent]"));
            };
            is_on_path(first)?;
            Ok(Agent::Acp(Acp { program, permissions: permissions(file) }))
        }
        name => {
            let known = AGENTS.join(", ");
            Err(Failure::unusable(format!("the agent `{name}` is not one that this version can run"))
                .hint(format!("agents of this version: {known}")))
        }
    }
}

/// An agent's name and what it may do, for people.
#[must_use]
pub fn told(agent: &Agent) -> String {
    let may = agent.permissions().map(|rules| format!(", permissions {}", rules.policy.name()));
    agent.name() + &may.unwrap_or_default()
}

/// How the name of an agent begins that speaks the Agent Client Protocol; its command line follows.
const ACP: &str = "acp:";

/// How one comes by Claude Code.
const GET: &str = "get Claude Code (npm install -g @anthropic-ai/claude-code)";

/// An agent that cannot be started is no agent: that is said before a task is taken on.
fn is_there(program: &str) -> Result<(), Failure> {
    let how = format!("{GET}, or say how it is started: `command` under [agent] in config.toml");
    is_on_path(program).map_err(|failure| failure.hint(how))
}

fn is_on_path(program: &str) -> Result<(), Failure> {
    if program.contains('/') || find(program).is_some() {
        return Ok(());
    }
    Err(Failure::unusable(format!("there is no `{program}` on PATH")))
}

fn permissions(file: &ConfigFile) -> Permissions {
    let PermissionsFile { policy, allow, deny, only_fenced } = file.permissions.clone();
    Permissions { policy: policy.unwrap_or_default(), allow, deny, only_fenced }
}

/// A program as a shell would find it, by its name or its path. None where it cannot be run. What is no whole path is looked
/// for in the folder in which the agent works: that is not known yet.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    if !name.contains('/') {
        return find(name);
    }
    let path = PathBuf::from(name);
    (path.is_relative() || is_program(&path)).then_some(path)
}

/// A program on PATH, as a shell would find it.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    places.find(|place| is_program(place))
}

/// Whether a file can be run.
pub(crate) fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        toml::from_str(text).expect("a configuration")
    }

    fn claude(file: &ConfigFile) -> Claude {
        match agent(file).expect("an agent") {
            Agent::Claude(claude) => claude,
            other @ (Agent::Shell | Agent::Acp(_)) => panic!("{other:?}"),
        }
    }

    /// Protects people from a name that does not say how the agent is started.
    #[test]
    fn any_agent_of_the_protocol_is_named_by_its_command() {
        let program = |text: &str| match agent(&file(text)) {
            Ok(Agent::Acp(Acp { program, .. })) => program,
            other => panic!("{other:?}"),
        };
        assert_eq!(program("agent = 'acp:/bin/agent  --acp'"), ["/bin/agent", "--acp"]);
        assert_eq!(program("[agent]\nname = 'acp'\ncommand = ['/a b/agent', 'acp']"), ["/a b/agent", "acp"]);
        let why = |text: &str| agent(&file(text)).expect_err("it cannot be started").to_string();
        assert!(why("agent = 'acp'").contains("has no command"));
        assert!(why("agent = 'acp:no-such-agent'").contains("no `no-such-agent` on PATH"));
    }

    #[test]
    fn a_flag_goes_before_the_file_and_leaves_what_is_of_the_same_agent() {
        let text = "[agent]\nname = 'claude'\ncommand = ['/bin/true', 'x']\nmodel = 'm'\nenv = { A = 'b' }\n";
        for text in [text, &text.replace("name = 'claude'\n", "")] {
            let mut file = file(text);
            file.overrule(Flags { agent: Some("claude"), ..Flags::default() }).expect("allowed");
            let Claude { program, model, .. } = claude(&file);
            assert_eq!((program, model.as_deref()), (vec!["/bin/true".to_owned(), "x".to_owned()], Some("m")));
        }
        let mut other = file(text);
        other.overrule(Flags { agent: Some("shell"), ..Flags::default() }).expect("allowed");
        assert_eq!(agent(&other).expect("an agent"), Agent::Shell);
        assert_eq!(other.agent_env(), [("A".to_owned(), "b".to_owned())], "what every agent gets stays");
    }

    /// Protects a user from an agent that may do everything because of a slip on a command line.
    #[test]
    fn without_a_fence_everything_is_allowed_by_the_file_alone() {
        let flag = |permissions| Flags { permissions: Some(permissions), ..Flags::default() };
        let mut bare = file("agent = 'shell'\nsandbox = 'off'");
        assert!(bare.overrule(flag(Policy::Full)).is_err());
        let mut full = file("permissions = 'full'\nsandbox = 'off'\n[agent]\ncommand = ['/bin/true']\n");
        full.overrule(flag(Policy::Full)).expect("the file allows it");
        let Permissions { policy, only_fenced, .. } = claude(&full).permissions;
        assert_eq!((policy, only_fenced), (Policy::Full, false));
        full.overrule(flag(Policy::Ask)).expect("less is always allowed");
        assert_eq!(claude(&full).permissions.policy, Policy::Ask);
    }

    /// Protects it the other way round: what is allowed because of a fence is not without it.
    #[test]
    fn what_an_agent_may_do_follows_from_its_fence() {
        let settled = |text: &str, somebody| {
            let mut file = file(&format!("{text}\n[agent]\ncommand = ['/bin/true']\n"));
            file.settle_permissions(somebody).expect("nothing is required");
            let Permissions { policy, only_fenced, .. } = claude(&file).permissions;
            (policy, only_fenced)
        };
        assert_eq!(settled("sandbox = 'off'", true), (Policy::Ask, false));
        assert_eq!(settled("sandbox = 'off'", false), (Policy::AcceptEdits, false));
        assert_eq!(settled("permissions = 'accept-edits'", true), (Policy::AcceptEdits, false));
        if let Ok(Settled::On(_)) = file("").sandbox() {
            assert_eq!(settled("", true), (Policy::Full, true));
            let mut flagged = file("[agent]\ncommand = ['/bin/true']");
            flagged.overrule(Flags { permissions: Some(Policy::Full), ..Flags::default() }).expect("it is fenced in");
            assert!(claude(&flagged).permissions.only_fenced);
        }
    }

    /// Protects a user who has both from believing that one of them holds.
    #[test]
    fn a_container_takes_the_place_of_the_sandbox() {
        let wrapped = "[agent]\nwrap = ['podman', 'run']\n";
        assert!(matches!(file(wrapped).sandbox(), Ok(Settled::Off(_))));
        assert!(file(&format!("sandbox = 'required'\n{wrapped}")).sandbox().is_err());
    }

    #[test]
    fn permissions_are_a_word_or_a_table() {
        let table = "[agent]\ncommand = ['/bin/true']\n[permissions]\nallow = ['Bash(ls)']\ndeny = ['WebFetch']\n";
        let Permissions { policy, allow, deny, .. } = claude(&file(table)).permissions;
        assert_eq!(
            (policy, allow, deny),
            (Policy::AcceptEdits, vec!["Bash(ls)".to_owned()], vec!["WebFetch".to_owned()])
        );
        for wrong in
            ["permissions = 'all'", "[permissions]\npolicy = 'all'", "[permissions]\nalow = []", "permissions = 1"]
        {
            let why = toml::from_str::<ConfigFile>(wrong).expect_err(wrong).to_string();
            assert!(why.contains("accept-edits") || why.contains("allow"), "{why}");
        }
    }

    #[test]
    fn an_agent_that_is_not_there_is_told_before_anything_begins() {
        let why = agent(&file("[agent]\nname = 'claude'\ncommand = ['no-such-program']")).expect_err("it is not there");
        assert!(why.message.contains("there is no `no-such-program` on PATH"), "{}", why.message);
    }
}
