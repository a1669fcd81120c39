//! From a model's JSON to a typed call, or to a sentence from which the model can correct itself.
//!
//! Invariants: pure; unknown arguments are refused; whatever passes is bounded.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    catalog,
    http::{self, HttpRequest},
};
use crate::{
    domain::{
        Effect, ToolName, limits,
        tool::{CallFacts, PathUse},
    },
    sandbox::ARGUMENT_BYTES_MAX,
};

/// Options of one question.
const OPTIONS_MAX: usize = 20;
/// Longest path.
const PATH_BYTES_MAX: usize = 4_095;
/// Longest pattern, before compilation, which has bounds of its own.
const PATTERN_BYTES_MAX: usize = 1_000;

/// Why a call cannot be understood. Its text is for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No such tool.
    #[error("there is no tool `{name}`; the tools are: {}", known())]
    UnknownTool {
        /// What was asked for.
        name: String,
    },
    /// The arguments are no JSON object.
    #[error(
        "{tool}: the arguments must be one JSON object; what was sent is not. Send it again as valid JSON"
    )]
    NotAnObject {
        /// The tool.
        tool: ToolName,
    },
    /// The arguments do not fit.
    #[error("{tool}: {problem}. Arguments: {expected}. Correct them and call again")]
    BadArguments {
        /// The tool.
        tool: ToolName,
        /// What is wrong.
        problem: String,
        /// What there is to give.
        expected: String,
    },
}

fn known() -> String {
    ToolName::ALL.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(", ")
}

/// A typed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Runs a program.
    Exec(Exec),
    /// Runs a script.
    Shell(Shell),
    /// Reads a file.
    ReadFile(ReadFile),
    /// Writes a file.
    WriteFile(WriteFile),
    /// Replaces text.
    EditFile(EditFile),
    /// Lists a directory.
    ListFiles(ListFiles),
    /// Searches files.
    SearchFiles(SearchFiles),
    /// Sends an HTTP request.
    HttpRequest(HttpRequest),
    /// Asks a person.
    AskUser(AskUser),
}

/// Arguments of `exec`. The catalogue describes each argument of every tool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    pub argv: Vec<String>,
    #[serde(default = "here")]
    pub cwd: String,
    #[serde(default)]
    pub stdin: String,
    pub timeout_secs: Option<u64>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    pub network: Option<bool>,
}

/// Arguments of `shell`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    pub script: String,
    #[serde(default = "here")]
    pub cwd: String,
    pub timeout_secs: Option<u64>,
    pub network: Option<bool>,
}

/// Arguments of `read_file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFile {
    pub path: String,
    pub offset: Option<usize>,
    pub limit: Option<usize>,
}

/// How `write_file` treats what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// The file must not exist.
    Create,
    /// The file is replaced.
    Overwrite,
    /// The text goes to its end.
    Append,
}

/// Arguments of `write_file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteFile {
    pub path: String,
    pub content: String,
    pub mode: WriteMode,
}

/// Arguments of `edit_file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditFile {
    pub path: String,
    pub old: String,
    pub new: String,
    pub count: Option<usize>,
}

/// Arguments of `list_files`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFiles {
    #[serde(default = "here")]
    pub path: String,
    #[serde(default)]
    pub recursive: bool,
    pub glob: Option<String>,
}

/// Arguments of `search_files`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchFiles {
    pub pattern: String,
    #[serde(default = "here")]
    pub path: String,
    pub glob: Option<String>,
}

/// Arguments of `ask_user`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskUser {
    pub question: String,
    #[serde(default)]
    pub options: Vec<String>,
}

fn here() -> String {
    ".".to_owned()
}

/// Understands a call.
pub fn parse(tool: &str, args: &Value) -> Result<Invocation, ParseError> {
    let Ok(name) = tool.parse::<ToolName>() else {
        let name = tool.chars().take(64).collect();
        return Err(ParseError::UnknownTool { name });
    };
    if !args.is_object() {
        return Err(ParseError::NotAnObject { tool: name });
    }
    let call = match name {
        ToolName::Exec => Invocation::Exec(read(name, args)?),
        ToolName::Shell => Invocation::Shell(read(name, args)?),
        ToolName::ReadFile => Invocation::ReadFile(read(name, args)?),
        ToolName::WriteFile => Invocation::WriteFile(read(name, args)?),
        ToolName::EditFile => Invocation::EditFile(read(name, args)?),
        ToolName::ListFiles => Invocation::ListFiles(read(name, args)?),
        ToolName::SearchFiles => Invocation::SearchFiles(read(name, args)?),
        ToolName::HttpRequest => Invocation::HttpRequest(http::parse(args)?),
        ToolName::AskUser => Invocation::AskUser(read(name, args)?),
    };
    match problem(&call) {
        None => Ok(call),
        Some(problem) => Err(bad(name, problem)),
    }
}

pub(super) fn read<T: DeserializeOwned>(tool: ToolName, args: &Value) -> Result<T, ParseError> {
    T::deserialize(args).map_err(|error| bad(tool, error.to_string()))
}

pub(super) fn bad(tool: ToolName, problem: String) -> ParseError {
    ParseError::BadArguments { tool, problem, expected: expected(tool) }
}

/// The arguments in one line: name, type, whether required.
fn expected(tool: ToolName) -> String {
    let Some(spec) = catalog::spec(tool) else { return String::new() };
    let member = |key: &str| spec.schema.get(key).cloned().unwrap_or_default();
    let required = member("required");
    let is_required = |name: &str| {
        required.as_array().is_some_and(|r| r.iter().any(|v| v.as_str() == Some(name)))
    };
    let properties = member("properties");
    let all = properties.as_object().into_iter().flatten().map(|(name, property)| {
        let kind = property.get("type").and_then(Value::as_str).unwrap_or("any");
        let note = if is_required(name) { ", required" } else { "" };
        format!("`{name}` ({kind}{note})")
    });
    all.collect::<Vec<_>>().join(", ")
}

/// What types alone do not say.
fn problem(call: &Invocation) -> Option<String> {
    let say = |text: &str| Some(text.to_owned());
    let path = match call {
        Invocation::ReadFile(ReadFile { path, .. })
        | Invocation::WriteFile(WriteFile { path, .. })
        | Invocation::EditFile(EditFile { path, .. })
        | Invocation::ListFiles(ListFiles { path, .. })
        | Invocation::SearchFiles(SearchFiles { path, .. }) => path,
        Invocation::Exec(Exec { cwd, .. }) | Invocation::Shell(Shell { cwd, .. }) => cwd,
        Invocation::HttpRequest(_) | Invocation::AskUser(_) => ".",
    };
    if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return say("the path is empty, too long or holds a NUL byte");
    }
    match call {
        Invocation::Exec(Exec { argv, .. }) if argv.first().is_none_or(String::is_empty) => {
            say("`argv` must name a program")
        }
        Invocation::Exec(Exec { timeout_secs: Some(0), .. })
        | Invocation::Shell(Shell { timeout_secs: Some(0), .. }) => {
            say("`timeout_secs` must be at least 1")
        }
        Invocation::Shell(Shell { script, .. }) if script.trim().is_empty() => {
            say("`script` is empty")
        }
        Invocation::Shell(Shell { script, .. }) if script.len() > ARGUMENT_BYTES_MAX => {
            say("`script` is too long: write it into a file with `write_file` and run that")
        }
        Invocation::ReadFile(ReadFile { offset: Some(0), .. }) => say("`offset` counts from 1"),
        Invocation::ReadFile(ReadFile { limit: Some(0), .. }) => say("`limit` must be at least 1"),
        Invocation::WriteFile(WriteFile { content, .. })
            if content.len() > limits::TOOL_ARGS_BYTES_MAX =>
        {
            say("`content` is too long: write it in pieces with mode `append`")
        }
        Invocation::EditFile(EditFile { old, .. }) if old.is_empty() => {
            say("`old` is empty: to fill a file use `write_file`")
        }
        Invocation::EditFile(EditFile { old, new, .. }) if old == new => {
            say("`old` and `new` are the same")
        }
        Invocation::EditFile(EditFile { count: Some(0), .. }) => say("`count` must be at least 1"),
        Invocation::SearchFiles(SearchFiles { pattern, .. })
            if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX =>
        {
            say("`pattern` must have 1 to 1000 bytes")
        }
        Invocation::ListFiles(ListFiles { glob: Some(glob), .. })
        | Invocation::SearchFiles(SearchFiles { glob: Some(glob), .. })
            if glob.len() > PATTERN_BYTES_MAX =>
        {
            say("`glob` must have at most 1000 bytes")
        }
        Invocation::AskUser(AskUser { question, .. }) if question.trim().is_empty() => {
            say("`question` is empty")
        }
        Invocation::AskUser(AskUser { options, .. }) if options.len() > OPTIONS_MAX => {
            say("at most 20 `options`")
        }
        _ => None,
    }
}

impl Invocation {
    /// Which tool it is.
    pub const fn tool(&self) -> ToolName {
        match self {
            Self::Exec(_) => ToolName::Exec,
            Self::Shell(_) => ToolName::Shell,
            Self::ReadFile(_) => ToolName::ReadFile,
            Self::WriteFile(_) => ToolName::WriteFile,
            Self::EditFile(_) => ToolName::EditFile,
            Self::ListFiles(_) => ToolName::ListFiles,
            Self::SearchFiles(_) => ToolName::SearchFiles,
            Self::HttpRequest(_) => ToolName::HttpRequest,
            Self::AskUser(_) => ToolName::AskUser,
        }
    }

    /// What a second execution would do.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Exec(_) | Self::Shell(_) => Effect::Unsafe,
            Self::ReadFile(_) | Self::ListFiles(_) | Self::SearchFiles(_) | Self::AskUser(_) => {
                Effect::Pure
            }
            Self::WriteFile(write) => match write.mode {
                WriteMode::Create | WriteMode::Overwrite => Effect::Idempotent,
                WriteMode::Append => Effect::Unsafe,
            },
            Self::EditFile(_) => Effect::Idempotent,
            Self::HttpRequest(request) => request.effect(),
        }
    }

    /// What policy needs to know.
    pub fn facts(&self) -> CallFacts {
        let used = |path: &str, is_write| vec![PathUse { path: path.to_owned(), is_write }];
        let (argv, paths) = match self {
            Self::Exec(exec) => (exec.argv.clone(), used(&exec.cwd, false)),
            Self::Shell(shell) => (Vec::new(), used(&shell.cwd, false)),
            Self::ReadFile(call) => (Vec::new(), used(&call.path, false)),
            Self::WriteFile(call) => (Vec::new(), used(&call.path, true)),
            Self::EditFile(call) => (Vec::new(), used(&call.path, true)),
            Self::ListFiles(call) => (Vec::new(), used(&call.path, false)),
            Self::SearchFiles(call) => (Vec::new(), used(&call.path, false)),
            Self::HttpRequest(_) | Self::AskUser(_) => (Vec::new(), Vec::new()),
        };
        let (network, request) = match self {
            Self::Exec(Exec { network, .. }) | Self::Shell(Shell { network, .. }) => {
                (*network, None)
            }
            Self::HttpRequest(request) => (None, Some(request.facts())),
            _ => (None, None),
        };
        let script = match self {
            Self::Shell(shell) => Some(shell.script.clone()),
            _ => None,
        };
        let sets_env = matches!(self, Self::Exec(exec) if !exec.env.is_empty());
        let is_tree = match self {
            Self::SearchFiles(_) => true,
            Self::ListFiles(list) => list.recursive,
            _ => false,
        };
        let (tool, effect) = (self.tool(), self.effect());
        CallFacts { tool, effect, argv, script, sets_env, paths, is_tree, network, request }
    }

    /// The question and its options, for `ask_user`.
    pub fn question(&self) -> Option<(&str, &[String])> {
        match self {
            Self::AskUser(ask) => Some((&ask.question, &ask.options)),
            _ => None,
        }
    }

    /// The working directory as the call names it.
    pub fn cwd(&self) -> &str {
        match self {
            Self::Exec(exec) => &exec.cwd,
            Self::Shell(shell) => &shell.cwd,
            _ => ".",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_says_how_to_correct() {
        let text = parse("read_file", &json!({"file": "x"})).unwrap_err().to_string();
        for part in ["read_file", "unknown field `file`", "`path` (string, required)", "`offset`"] {
            assert!(text.contains(part), "{text}");
        }
        let text = parse("rm", &json!({})).unwrap_err().to_string();
        assert!(text.contains("`rm`") && text.contains("list_files"), "{text}");
        let text = parse("exec", &json!("{\"argv\": [")).unwrap_err().to_string();
        assert!(text.contains("JSON object"), "{text}");
    }

    #[test]
    fn what_types_do_not_say_is_checked() {
        for (tool, args) in [
            ("exec", json!({"argv": []})),
            ("exec", json!({"argv": [""]})),
            ("exec", json!({"argv": ["a"], "timeout_secs": 0})),
            ("shell", json!({"script": " "})),
            ("shell", json!({"script": "x".repeat(200_000)})),
            ("read_file", json!({"path": ""})),
            ("read_file", json!({"path": "a\u{0}b"})),
            ("read_file", json!({"path": "a", "offset": 0})),
            ("edit_file", json!({"path": "a", "old": "", "new": "x"})),
            ("edit_file", json!({"path": "a", "old": "x", "new": "x"})),
            ("search_files", json!({"pattern": ""})),
            ("ask_user", json!({"question": ""})),
        ] {
            assert!(
                matches!(parse(tool, &args), Err(ParseError::BadArguments { .. })),
                "{tool} {args}"
            );
        }
    }

    #[test]
    fn facts_name_what_is_touched_and_what_a_repeat_would_do() {
        let facts = |tool: &str, args: Value| parse(tool, &args).unwrap().facts();
        let append = facts("write_file", json!({"path": "a", "content": "", "mode": "append"}));
        assert_eq!(append.effect, Effect::Unsafe);
        assert_eq!(append.paths, [PathUse { path: "a".to_owned(), is_write: true }]);
        let exec = facts("exec", json!({"argv": ["ls", "-l"], "cwd": "/srv"}));
        assert_eq!(exec.argv, ["ls", "-l"]);
        assert_eq!(exec.paths, [PathUse { path: "/srv".to_owned(), is_write: false }]);
        for (tool, args, is_tree) in [
            ("list_files", json!({}), false),
            ("list_files", json!({"recursive": true}), true),
            ("search_files", json!({"pattern": "x"}), true),
            ("read_file", json!({"path": "a"}), false),
        ] {
            assert_eq!(facts(tool, args).is_tree, is_tree, "{tool}");
        }
        let ask = parse("ask_user", &json!({"question": "why?", "options": ["a"]})).unwrap();
        assert_eq!(ask.question(), Some(("why?", &["a".to_owned()][..])));
    }
}
