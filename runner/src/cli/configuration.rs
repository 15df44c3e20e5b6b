//! `makima config`: what holds, where it comes from, and what is wrong with the file.

use std::path::{Path, PathBuf};

use console::style;
use makima_core::allowance::Then;
use makima_core::policy::{MASK, counted};
use makima_core::time::Millis;
use makima_core::{Compat, Keep};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::{ConfigCommand, ConfigShowArgs};
use super::host::bounds;
use super::print;
use crate::config::check::problems;
use crate::config::{self, AgentSetting, ConfigFile, Flags, LimitsFile, OrchestrationFile, SandboxFile};
use crate::news::Kind;
use crate::report::{FAILED, Failure};
use crate::sandbox::{CACHES, Mode};
use crate::service::MAX_TASKS;
use crate::{edge, executor, logging};

pub(super) fn configuration(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show(args) => show(args),
        ConfigCommand::Check { file, json } => check(file.as_deref(), *json),
        ConfigCommand::Path => {
            print::line(&path()?.display().to_string());
            Ok(())
        }
    }
}

fn path() -> Result<PathBuf, Failure> {
    Ok(config::home_path()?.join("config.toml"))
}

fn check(file: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let path = file.map_or_else(path, |file| Ok(file.to_path_buf()))?;
    let text = match fs_err::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            print::note(&format!("there is no {}: everything is at its default", path.display()));
            String::new()
        }
        Err(error) => return Err(Failure::unusable(error.to_string()).hint("name a file that you can read")),
    };
    let problems = problems(&text);
    if as_json {
        print::json(&problems);
    }
    for problem in problems.iter().filter(|_| !as_json) {
        let place = format!("{}:{}:{}:", path.display(), problem.line, problem.column);
        print::line(&format!("{} {}", style(place).bold(), print::tame(&problem.message)));
        if let Some(help) = &problem.help {
            print::line(&format!("  {}", print::tame(help)));
        }
    }
    match problems.len() as u64 {
        0 if as_json => Ok(()),
        0 => {
            print::note(&format!("{} is in order", path.display()));
            Ok(())
        }
        _ if as_json => Err(Failure::silent(FAILED)),
        n => Err(Failure::failed(format!("{} in {}", counted(n, "problem"), path.display()))),
    }
}

/// Where a setting comes from. Which goes before which: the flag, the environment, the file, the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Flag,
    Environment,
    File,
    Default,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    /// None where nothing holds.
    value: Value,
    source: Source,
    /// The flag's name, the variable's, or that of the key in the file.
    by: Option<String>,
}

/// Collects settings by the one order in which they count.
struct Settings<'a> {
    args: &'a ConfigShowArgs,
    file: &'a ConfigFile,
    found: Vec<Setting>,
}

impl Settings<'_> {
    fn push(&mut self, key: &str, source: Source, by: Option<&str>, value: Value) {
        self.found.push(Setting { key: key.to_owned(), value, source, by: by.map(str::to_owned) });
    }

    /// The first of these that is there. The file's is named by the key.
    fn settle(&mut self, key: &str, flag: Option<(&str, Value)>, variable: &str, file: Option<Value>, default: Value) {
        if let Some((name, value)) = flag {
            return self.push(key, Source::Flag, Some(name), value);
        }
        if let Some(value) = variable_of(variable) {
            return self.push(key, Source::Environment, Some(variable), json!(value));
        }
        match file {
            Some(value) => self.push(key, Source::File, Some(key), value),
            None => self.push(key, Source::Default, None, default),
        }
    }

    fn collect(&mut self) -> Result<(), Failure> {
        let home = config::home_path()?;
        self.settle("home", None, "MAKIMA_HOME", None, json!(home));
        self.of_the_server();
        self.of_the_agent()?;
        let (args, file) = (self.args, self.file);
        let max_tasks = args.max_tasks.map(|n| ("--max-tasks", json!(n)));
        self.settle("max_tasks", max_tasks, "", file.max_tasks.map(Value::from), json!(MAX_TASKS));
        let roots = file.allowed_roots.as_ref().map(|_| json!(file.allowed_roots()));
        self.settle("allowed_roots", None, "", roots, json!(file.allowed_roots()));
        let output = json!(executor::OUTPUT_MAX >> 20);
        self.settle("output_mib", None, "", file.output_mib.map(Value::from), output);
        // The variable switches it on; it does not switch it off.
        let portable = args.portable.then_some(("--portable", json!(true)));
        match (&portable, file.portable) {
            (None, false) if is_set("MAKIMA_PORTABLE") => {
                self.push("portable", Source::Environment, Some("MAKIMA_PORTABLE"), json!(true));
            }
            (_, known) => self.settle("portable", portable, "", known.then_some(json!(true)), json!(false)),
        }
        let codes = json!(Compat::default().refused_codes);
        self.settle("compat.refused_codes", None, "", file.compat.refused_codes.as_ref().map(|it| json!(it)), codes);
        let continues = file.compat.continues_conversation.map(|it| json!(it));
        self.settle("compat.continues_conversation", None, "", continues, json!(false));
        self.of_the_log();
        let (keep, usual) = (file.keep, Keep::default());
        let days = |span: Millis| json!(span.0 / (24 * 60 * 60 * 1_000));
        for (name, set, usual) in [
            ("keep.worktree_days", keep.worktree_days, usual.worktrees),
            ("keep.trash_days", keep.trash_days, usual.trash),
            ("keep.task_days", keep.task_days, usual.tasks),
        ] {
            self.settle(name, None, "", set.map(|days| json!(days)), days(usual));
        }
        self.settle("keep.disk_gib", None, "", keep.disk_gib.map(|gib| json!(gib)), Value::Null);
        let usual = json!(usual.look.0 / 60_000);
        self.settle("keep.look_minutes", None, "", keep.look_minutes.map(|minutes| json!(minutes)), usual);
        let minutes = json!(executor::SET_UP_MAX.as_secs() / 60);
        self.settle("setup_minutes", None, "", file.setup_minutes.map(|it| json!(it)), minutes);
        self.of_the_limits();
        for own in &file.repository {
            // Their variables may be secrets.
            let told = json!({"setup": own.setup, "checks": own.checks, "env": own.env.keys().collect::<Vec<_>>(),
                "submodules": own.submodules, "sparse": own.sparse});
            let key = format!("repository {}", without_secrets(&own.url));
            self.push(&key, Source::File, Some("repository"), told);
        }
        for forge in file.forges() {
            let key = format!("forge.{}", forge.host);
            self.push(&key, Source::File, Some(&key), json!(forge.kind));
        }
        let notify = &file.notify;
        let command = (!notify.command.is_empty()).then(|| json!(notify.command));
        self.settle("notify.command", None, "", command, Value::Null);
        // It may bear a key.
        let webhook = notify.webhook.as_ref().map(|_| json!(MASK));
        self.settle("notify.webhook", None, "", webhook, Value::Null);
        self.settle("notify.on", None, "", notify.on.as_ref().map(|on| json!(on)), json!(Kind::ALL));
        let listen = file.metrics.listen.map(|address| json!(address.to_string()));
        self.settle("metrics.listen", None, "", listen, Value::Null);
        let remote = file.metrics.allow_remote.then_some(json!(true));
        self.settle("metrics.allow_remote", None, "", remote, json!(false));
        Ok(())
    }

    fn of_the_server(&mut self) {
        let (args, file) = (self.args, self.file);
        let url = args.server.as_ref().map(|url| ("--server", json!(url)));
        let known = file.server.as_ref().map(|url| json!(url));
        self.settle("server", url, "MAKIMA_SERVER_URL", known, Value::Null);
        if let Some(server) = self.found.last_mut() {
            server.value = server.value.as_str().map_or(Value::Null, |url| json!(without_secrets(url)));
        }
        // A file that is named by a flag goes before the variable.
        let key = args.api_key_file.as_ref().map(|path| ("--api-key-file", json!(path)));
        let known = file.api_key_file.as_ref().map(|path| json!(path));
        match (key, variable_of("MAKIMA_API_KEY")) {
            (None, Some(_)) => self.push("api_key", Source::Environment, Some("MAKIMA_API_KEY"), json!(MASK)),
            (key, _) => self.settle("api_key_file", key, "", known, Value::Null),
        }
    }

    fn of_the_agent(&mut self) -> Result<(), Failure> {
        let (args, file) = (self.args, self.file);
        let Flags { agent, permissions, sandbox } = args.agent.flags();
        let agent = agent.map(|name| ("--agent", json!(name)));
        self.settle("agent", agent, "", file.agent_name().map(Value::from), Value::Null);
        // What follows from the sandbox follows from the one of these flags.
        let mut settled = file.clone();
        settled.sandbox.mode = sandbox.unwrap_or(settled.sandbox.mode);
        settled.settle_permissions(false)?;
        let permissions = permissions.map(|policy| ("--permissions", json!(policy.name())));
        let known = file.permissions.policy.map(|policy| json!(policy.name()));
        let usual = settled.permissions.policy.map(|policy| json!(policy.name()));
        self.settle("permissions.policy", permissions, "", known, usual.into());
        let lists = [("permissions.allow", &file.permissions.allow), ("permissions.deny", &file.permissions.deny)];
        for (key, rules) in lists {
            self.settle(key, None, "", (!rules.is_empty()).then(|| json!(rules)), json!([]));
        }
        self.of_the_sandbox(settled.sandbox.mode);
        if let Some(AgentSetting::Table(table)) = &file.agent {
            if !table.wrap.is_empty() {
                self.push("agent.wrap", Source::File, Some("agent.wrap"), json!(table.wrap));
            }
            if !table.command.is_empty() {
                self.push("agent.command", Source::File, Some("agent.command"), json!(table.command));
            }
            if let Some(model) = &table.model {
                self.push("agent.model", Source::File, Some("agent.model"), json!(model));
            }
            for name in table.env.keys() {
                let key = format!("agent.env.{name}");
                self.push(&key, Source::File, Some(&key), json!(MASK));
            }
        }
        Ok(())
    }

    fn of_the_sandbox(&mut self, mode: Mode) {
        let SandboxFile { mode: in_file, network, sockets, write, hide, by } = self.file.sandbox.clone();
        let usual = SandboxFile::default();
        // The variable is read with the flag, which goes before it.
        let by_variable = variable_of("MAKIMA_SANDBOX");
        let flag = self.args.agent.flags().sandbox.filter(|mode| by_variable.as_deref() != Some(mode.name()));
        let flag = flag.map(|mode| ("--sandbox", json!(mode)));
        let known = (in_file != usual.mode).then(|| json!(in_file));
        self.settle("sandbox.mode", flag, "MAKIMA_SANDBOX", known, json!(mode));
        let known = (network != usual.network).then(|| json!(network));
        self.settle("sandbox.network", None, "", known, json!(usual.network));
        self.settle("sandbox.sockets", None, "", (!sockets).then(|| json!(sockets)), json!(usual.sockets));
        self.settle("sandbox.write", None, "", write.map(|paths| json!(paths)), json!(CACHES));
        self.settle("sandbox.hide", None, "", (!hide.is_empty()).then(|| json!(hide)), json!([]));
        self.settle("sandbox.by", None, "", by.map(|by| json!(by)), Value::Null);
    }

    fn of_the_limits(&mut self) {
        let file = self.file;
        let LimitsFile { minutes, memory_mib, processes, cost, then } = &file.limits;
        self.settle("limits.minutes", None, "", minutes.map(|it| json!(it)), Value::Null);
        self.settle("limits.memory_mib", None, "", memory_mib.map(|it| json!(it)), Value::Null);
        self.settle("limits.processes", None, "", processes.map(|it| json!(it)), Value::Null);
        self.settle("limits.cost", None, "", cost.map(|it| json!(it)), Value::Null);
        let known = (*then != Then::default()).then(|| json!(then));
        self.settle("limits.then", None, "", known, json!(Then::default()));
        let OrchestrationFile { max_depth, max_subtasks, max_cost } = file.orchestration;
        let usual = bounds(OrchestrationFile::default());
        self.settle("orchestration.max_depth", None, "", max_depth.map(|it| json!(it)), json!(usual.max_depth));
        let known = max_subtasks.map(|it| json!(it));
        self.settle("orchestration.max_subtasks", None, "", known, json!(usual.max_subtasks));
        self.settle("orchestration.max_cost", None, "", max_cost.map(|it| json!(it)), Value::Null);
    }

    fn of_the_log(&mut self) {
        let (file, usual) = (self.file, logging::Bounds::default());
        self.settle("log.file", None, "MAKIMA_LOG_FILE", file.log.path().map(|path| json!(path)), Value::Null);
        let (bytes, files) = (json!(usual.bytes >> 20), json!(usual.files));
        self.settle("log.max_mib", None, "", file.log.max_mib.map(|mib| json!(mib.get())), bytes);
        self.settle("log.files", None, "", file.log.files.map(|files| json!(files.get())), files);
    }
}

/// Whether a variable switches something on.
pub(super) fn is_set(variable: &str) -> bool {
    let off = |value: &str| ["0", "f", "false", "n", "no", "off"].contains(&value.trim().to_ascii_lowercase().as_str());
    variable_of(variable).is_some_and(|value| !off(&value))
}

fn variable_of(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !name.is_empty() && !value.trim().is_empty())
}

/// A URL without a password, and without its query, which may hold one.
fn without_secrets(url: &str) -> String {
    let bare = edge::shown(url);
    match bare.split_once('?') {
        Some((bare, _)) => format!("{bare}?{MASK}"),
        None => bare,
    }
}

fn show(args: &ConfigShowArgs) -> Result<(), Failure> {
    let file = ConfigFile::read(&config::home_path()?)?;
    let mut settings = Settings { args, file: &file, found: Vec::new() };
    settings.collect()?;
    if args.json {
        print::json(&settings.found);
        return Ok(());
    }
    for Setting { key, value, source, by } in &settings.found {
        let from = match (source, by) {
            (Source::Flag, Some(by)) => format!("flag {by}"),
            (Source::Environment, Some(by)) => format!("environment, {by}"),
            (Source::File, _) => "config.toml".to_owned(),
            (Source::Default, _) => "default".to_owned(),
            (Source::Flag | Source::Environment, None) => String::new(),
        };
        let from = style(format!("{from:30}")).dim();
        print::line(&format!("{key:22} {from} {}", print::tame(&plain(value))));
    }
    Ok(())
}

/// A value as people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
