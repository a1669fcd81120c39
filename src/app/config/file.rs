//! Reads the TOML file into a flat list of values, each with its line.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys::{self, Kind},
    problem::Problems,
};

/// A value as the file gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FileValue {
    pub(super) value: Value,
    pub(super) line: usize,
}

/// Concrete dotted path to value.
pub(super) type FileValues = BTreeMap<String, FileValue>;

/// Parses the text; whatever is wrong lands in `problems` with file and line.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Problems) -> FileValues {
    let mut reader = Reader { path, text, problems, values: FileValues::new() };
    match DeTable::parse(text) {
        Ok(table) => reader.table("", table.get_ref()),
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let place = format!("{}:{line}", path.display());
            reader.problems.add(place, error.message().to_owned());
        }
    }
    reader.values
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    problems: &'a mut Problems,
    values: FileValues,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let line = line_of(self.text, name.span().start);
            let own = name.get_ref();
            let path = if prefix.is_empty() { own.to_string() } else { format!("{prefix}.{own}") };
            if prefix_takes_names(prefix) && !is_name(own) {
                let hint = "use 1 to 64 lower-case letters, digits, `-` or `_`";
                self.complain(line, format!("`{own}` is not a name: {hint}"));
                continue;
            }
            self.entry(&path, line, value);
        }
    }

    fn entry(&mut self, path: &str, line: usize, value: &Spanned<DeValue<'_>>) {
        if let Some((key, is_file)) = keys::find(path) {
            let kind = if is_file { Kind::Text } else { key.kind };
            match convert(kind, value.get_ref()) {
                Ok(value) => {
                    self.values.insert(path.to_owned(), FileValue { value, line });
                }
                Err(wanted) => self.complain(line, format!("`{path}` must be {wanted}")),
            }
            return;
        }
        match value.get_ref() {
            DeValue::Table(table) if keys::is_section(path) => self.table(path, table),
            DeValue::Array(entries) if path == "auth.tokens" => {
                for entry in entries {
                    self.named_entry(path, line, entry);
                }
            }
            _ if keys::is_section(path) => {
                self.complain(line, format!("`{path}` must be a table"));
            }
            _ => {
                let hint = keys::nearest(path)
                    .map_or_else(String::new, |known| format!(": did you mean `{known}`?"));
                self.complain(line, format!("unknown key `{path}`{hint}"));
            }
        }
    }

    /// `[[auth.tokens]]` with a `name` reads like `[auth.tokens.NAME]`.
    fn named_entry(&mut self, path: &str, line: usize, entry: &Spanned<DeValue<'_>>) {
        let table = entry.get_ref().as_table();
        let name = table.and_then(|t| t.get("name")).and_then(|n| n.get_ref().as_str());
        let (Some(table), Some(name)) = (table, name) else {
            self.complain(line, format!("each `[[{path}]]` needs a `name`"));
            return;
        };
        if !is_name(name) || self.values.keys().any(|k| k.starts_with(&format!("{path}.{name}."))) {
            self.complain(line, format!("`{name}` in `[[{path}]]` is not a name, or not unique"));
            return;
        }
        for (key, value) in table {
            if key.get_ref() != "name" {
                let line = line_of(self.text, key.span().start);
                self.entry(&format!("{path}.{name}.{}", key.get_ref()), line, value);
            }
        }
    }

    fn complain(&mut self, line: usize, what: String) {
        self.problems.add(format!("{}:{line}", self.path.display()), what);
    }
}

/// Whether the keys below this path are names that the operator chooses.
fn prefix_takes_names(prefix: &str) -> bool {
    matches!(prefix, "models" | "agents" | "auth.tokens" | "egress.secrets" | "budget.principals")
}

fn is_name(text: &str) -> bool {
    text.parse::<crate::domain::AgentName>().is_ok()
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// The value as JSON, or what it should have been.
fn convert(kind: Kind, value: &DeValue<'_>) -> Result<Value, &'static str> {
    match kind {
        Kind::Text | Kind::Secret => value.as_str().map(|s| json!(s)).ok_or("a text in quotes"),
        Kind::Bool => value.as_bool().map(|b| json!(b)).ok_or("true or false"),
        Kind::Int => value
            .as_integer()
            .and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok())
            .map(|i| json!(i))
            .ok_or("a whole number that is not negative"),
        Kind::List => {
            let wanted = "a list of texts, such as [\"a\", \"b\"]";
            let items = value.as_array().ok_or(wanted)?;
            let texts: Option<Vec<&str>> = items.iter().map(|i| i.get_ref().as_str()).collect();
            texts.map(|t| json!(t)).ok_or(wanted)
        }
        Kind::Paths => {
            let wanted = "a list such as [{ path = \"/srv/docs\", access = \"ro\" }]";
            let items = value.as_array().ok_or(wanted)?;
            let rules: Option<Vec<Value>> = items.iter().map(|i| path_rule(i.get_ref())).collect();
            rules.map(Value::Array).ok_or(wanted)
        }
        Kind::Hosts => {
            let wanted =
                "a list such as [\"example.com\", { host = \"*.example.org\", port = 80 }]";
            let items = value.as_array().ok_or(wanted)?;
            let rules: Option<Vec<Value>> = items.iter().map(|i| host_rule(i.get_ref())).collect();
            rules.map(Value::Array).ok_or(wanted)
        }
        Kind::Map => {
            let wanted = "a table of texts, such as { \"a.example:443\" = \"10.0.0.1:8443\" }";
            let table = value.as_table().ok_or(wanted)?;
            let entry =
                |(name, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                    Some((name.get_ref().to_string(), json!(value.get_ref().as_str()?)))
                };
            let entries: Option<serde_json::Map<String, Value>> = table.iter().map(entry).collect();
            entries.map(Value::Object).ok_or(wanted)
        }
    }
}

/// A text, or a table of texts, numbers, truths and lists of texts: what it says is judged where
/// the rule is made.
fn host_rule(value: &DeValue<'_>) -> Option<Value> {
    if let Some(text) = value.as_str() {
        return Some(json!(text));
    }
    let plain = |value: &DeValue<'_>| {
        convert(Kind::Text, value)
            .or_else(|_| convert(Kind::Bool, value))
            .or_else(|_| convert(Kind::Int, value))
            .or_else(|_| convert(Kind::List, value))
            .ok()
    };
    let table = value.as_table()?;
    let entries = table
        .iter()
        .map(|(name, value)| Some((name.get_ref().to_string(), plain(value.get_ref())?)));
    entries.collect::<Option<serde_json::Map<String, Value>>>().map(Value::Object)
}

fn path_rule(value: &DeValue<'_>) -> Option<Value> {
    let table = value.as_table()?;
    let path = table.get("path")?.get_ref().as_str()?;
    let access = table.get("access").map_or(Some("ro"), |a| a.get_ref().as_str())?;
    (table.keys().all(|k| matches!(k.get_ref().as_ref(), "path" | "access")))
        .then(|| json!({ "path": path, "access": access }))
}
