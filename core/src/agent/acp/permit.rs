//! What an agent may do that asks: by the rules of its task, or by a person.

use alloc::format;
use alloc::string::String;

use super::read::{Question, Tool};
use crate::agent::{Permissions, Policy};

/// What comes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// It may.
    Allow,
    /// It may not.
    Deny,
    /// A person has to say.
    Ask,
}

/// What the rules say of it. `folder`: the worktree.
pub(super) fn permit(rules: &Permissions, tool: &Tool, folder: &str) -> Permit {
    let is_of = |list: &[String]| list.iter().any(|rule| matches(rule, tool));
    if is_of(&rules.deny) {
        return Permit::Deny;
    }
    if is_of(&rules.allow) {
        return Permit::Allow;
    }
    match rules.policy {
        Policy::Full => Permit::Allow,
        Policy::Ask => Permit::Ask,
        Policy::AcceptEdits if is_an_edit(tool, folder) => Permit::Allow,
        Policy::AcceptEdits => Permit::Deny,
    }
}

/// Whether a rule is about this: its kind, or its title; a `*` at the end stands for anything.
fn matches(rule: &str, tool: &Tool) -> bool {
    let is = |text: &Option<String>| {
        text.as_ref().is_some_and(|text| match rule.strip_suffix('*') {
            Some(begin) => text.starts_with(begin),
            None => text == rule,
        })
    };
    is(&tool.kind) || is(&tool.title)
}

/// Whether it changes files of the worktree, and nothing else.
fn is_an_edit(tool: &Tool, folder: &str) -> bool {
    let inside = |path: &String| {
        let rest = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|rest| !rest.split('/').any(|part| part == ".." || part == ".git"))
    };
    tool.kind.as_deref() == Some("edit") && !tool.paths.is_empty() && tool.paths.iter().all(inside)
}

/// The choice that says yes, or no, as narrowly as can be.
pub(super) fn choice(question: &Question, allow: bool) -> Option<&str> {
    let kinds = if allow { ["allow_once", "allow_always"] } else { ["reject_once", "reject_always"] };
    let of_kind = |kind: &str| question.choices.iter().find(|choice| choice.kind == kind);
    kinds.into_iter().find_map(of_kind).map(|choice| choice.id.as_str())
}

/// What it asks, for people.
pub(super) fn described(tool: &Tool) -> String {
    let kind = tool.kind.as_deref().unwrap_or("use a tool");
    match tool.title.as_deref() {
        Some(title) if !title.is_empty() => format!("{kind}: {title}"),
        _ => String::from(kind),
    }
}
