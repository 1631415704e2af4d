//! The bytes of a configuration that was changed: as go-containerregistry writes them, because an [`ImageId`] is of bytes
//! and other CNB tools rewrite images through that library. Fields that it does not know follow.
//!
//! [`ImageId`]: crate::ImageId

use serde_json::{Map, Value};

use crate::json;

const FIELDS: &[&str] = &[
    "architecture",
    "author",
    "container",
    "created",
    "docker_version",
    "history",
    "os",
    "rootfs",
    "config",
    "os.version",
    "variant",
    "os.features",
];

const HISTORY: &[&str] = &["author", "created", "created_by", "comment", "empty_layer"];

const EXECUTION: &[&str] = &[
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "Healthcheck",
    "Domainname",
    "Entrypoint",
    "Env",
    "Hostname",
    "Image",
    "Labels",
    "OnBuild",
    "OpenStdin",
    "StdinOnce",
    "Tty",
    "User",
    "Volumes",
    "WorkingDir",
    "ExposedPorts",
    "ArgsEscaped",
    "NetworkDisabled",
    "MacAddress",
    "StopSignal",
    "Shell",
];

/// Whether a value says no more than a missing field does.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// The bytes of changed fields. Serialising JSON values cannot fail: their keys are strings.
pub(super) fn serialise(fields: &Map<String, Value>) -> bytes::Bytes {
    let mut ordered = json::reorder(fields, FIELDS);
    drop_empty(&mut ordered, FIELDS);
    for name in ["architecture", "os"] {
        if !ordered.contains_key(name) {
            ordered.insert(name.to_owned(), Value::from(""));
        }
    }
    if let Some(Value::Array(history)) = ordered.get_mut("history") {
        for entry in history.iter_mut().filter_map(Value::as_object_mut) {
            *entry = json::reorder(entry, HISTORY);
            drop_empty(entry, HISTORY);
        }
    }
    if let Some(Value::Object(rootfs)) = ordered.get_mut("rootfs") {
        *rootfs = json::reorder(rootfs, &["type", "diff_ids"]);
    }
    let mut execution = match ordered.get("config") {
        Some(Value::Object(execution)) => json::reorder(execution, EXECUTION),
        _ => Map::new(),
    };
    drop_empty(&mut execution, EXECUTION);
    for name in ["Labels", "Volumes", "ExposedPorts"] {
        if let Some(Value::Object(fields)) = execution.get_mut(name) {
            *fields = json::sort(fields);
        }
    }
    ordered.insert("config".to_owned(), Value::Object(execution));
    let ordered = json::reorder(&ordered, FIELDS);
    json::to_go_bytes(&ordered).unwrap_or_default().into()
}

fn drop_empty(fields: &mut Map<String, Value>, known: &[&str]) {
    fields.retain(|name, value| !(known.contains(&name.as_str()) && is_empty(value)));
}
