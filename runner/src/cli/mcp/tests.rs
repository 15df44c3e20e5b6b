//! What a model is told of the tools.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use serde_json::Value;

fn tools() -> Vec<rmcp::model::Tool> {
    Tools::tool_router().list_all()
}

/// Protects a model from a tool, or a word of its parameters, that it has to guess at.
#[test]
fn every_tool_and_each_of_its_parameters_is_described() {
    for tool in tools() {
        let name = &tool.name;
        assert!(tool.description.as_ref().is_some_and(|text| text.len() > 20), "{name} says nothing of itself");
        let schema = Value::Object((*tool.input_schema).clone());
        assert_eq!(schema["type"], "object", "{name}: {schema}");
        for (parameter, of) in schema["properties"].as_object().into_iter().flatten() {
            assert!(of["description"].is_string(), "{name}: nothing is said of `{parameter}`: {of}");
            assert!(of.get("$ref").is_none(), "{name}: `{parameter}` is somewhere else: {of}");
        }
    }
}

/// Protects what agents and documents call the tools, and what of each has to be given.
#[test]
fn the_tools_are_these() {
    let mut listed: Vec<String> = tools()
        .iter()
        .map(|tool| {
            let required = tool.input_schema.get("required").and_then(Value::as_array);
            let required: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
            format!("{}({})", tool.name, required.join(", "))
        })
        .collect();
    listed.sort();
    let expected = [
        "interrupt_subtask(id)",
        "list_branches()",
        "list_subtasks()",
        "merge_abort()",
        "merge_check()",
        "merge_commit()",
        "merge_resolve(file, strategy)",
        "merge_skip(subtask_id, reason)",
        "merge_start(branch)",
        "merge_status()",
        "message_subtask(id, message)",
        "pause_subtask(id)",
        "resume_subtask(id)",
        "spawn_subtask(name, plan)",
        "subtask_output(id)",
        "subtask_status(id)",
        "wait_for_subtasks()",
    ];
    assert_eq!(listed, expected);
}

/// Protects a reader of `docs/orchestration.md` from tools and parameters that are not there, and from those that it leaves out.
#[test]
fn the_document_has_each_tool() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/orchestration.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(")`")?.0.split_once('('));
    let listed: BTreeMap<String, BTreeSet<String>> = rows
        .map(|(name, parameters)| {
            let parameters = parameters.split(", ").map(|name| name.trim_end_matches("[]"));
            (name.to_owned(), parameters.filter(|name| !name.is_empty()).map(str::to_owned).collect())
        })
        .collect();
    let properties = |tool: &rmcp::model::Tool| -> BTreeSet<String> {
        let of = tool.input_schema.get("properties").and_then(Value::as_object);
        of.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let tools: BTreeMap<_, _> = tools().iter().map(|tool| (tool.name.to_string(), properties(tool))).collect();
    assert_eq!(listed, tools);
}
