//! The wire as a JSON Schema, made from the types that read and write it.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{DaemonCommand, DaemonMessage, Frame};

/// Every command, every message and the frames of version 2, as one document of draft 2020-12.
///
/// A line of version 1 is anything that the whole document takes. `#/$defs/DaemonCommand` and
/// `#/$defs/DaemonMessage` are the two directions, `#/$defs/ServerFrame` and `#/$defs/DaemonFrame` those of version 2.
/// It says how lines are read: fields that may be left out are not required, and unknown ones are allowed.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let (command, message) = (generator.subschema_for::<DaemonCommand>(), generator.subschema_for::<DaemonMessage>());
    let frame = generator.subschema_for::<Frame<'static>>();
    let mut definitions = generator.take_definitions(true);
    for (name, body, from) in [("ServerFrame", &command, "a server"), ("DaemonFrame", &message, "a daemon")] {
        let described = alloc::format!("One frame of version 2, from {from}.");
        let both = json!({ "description": described, "allOf": [frame, { "properties": { "body": body } }] });
        definitions.insert(name.into(), both);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The makima wire",
        "description": "A line of version 1 in either direction. $defs has each direction by itself, and the frames of version 2.",
        "anyOf": [command, message],
        "$defs": definitions,
    })
}
