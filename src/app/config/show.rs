//! Shows the settings in force. A secret is shown as set or not set, never as it is.

use serde_json::{Value, json};

use super::{
    keys::Kind,
    resolve::{Effective, Entry},
};

/// For programs: one object per setting.
pub(crate) fn json(effective: &Effective) -> Value {
    let entries = effective.iter().map(|(key, entry)| {
        json!({ "key": key, "value": visible(entry), "origin": entry.origin.to_string() })
    });
    Value::Array(entries.collect())
}

/// For people: key, value, origin.
pub(crate) fn table(effective: &Effective) -> Vec<[String; 3]> {
    let row = |(key, entry): (&String, &Entry)| {
        let value = match visible(entry) {
            Value::Null => "-".to_owned(),
            Value::String(text) if text.is_empty() => "-".to_owned(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        [key.clone(), value, entry.origin.to_string()]
    };
    effective.iter().map(row).collect()
}

fn visible(entry: &Entry) -> Value {
    if entry.kind != Kind::Secret {
        return entry.value.clone();
    }
    match (&entry.secret, &entry.value) {
        (None, _) => Value::Null,
        (Some(_), Value::String(file)) => json!(format!("[redacted] (from {file})")),
        (Some(_), _) => json!("[redacted]"),
    }
}
