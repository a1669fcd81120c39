//! Tool calls: what a model may ask for, how risky it is, and what became of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    host::HostName,
    ids::{RunId, ToolCallId},
    run::{Confinement, UnknownName},
};

macro_rules! names {
    ($type:ident, $what:literal, { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the wire and in the store.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|v| v.as_str() == text)
                    .ok_or(UnknownName { what: $what })
            }
        }
    };
}

/// A built-in tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolName {
    /// Runs a program without a shell.
    Exec,
    /// Runs a `/bin/sh -eu` script.
    Shell,
    /// Reads a text file.
    ReadFile,
    /// Creates, replaces or extends a file.
    WriteFile,
    /// Replaces text in a file.
    EditFile,
    /// Lists a directory.
    ListFiles,
    /// Searches file contents.
    SearchFiles,
    /// Sends one HTTP request.
    HttpRequest,
    /// Asks the person a question and waits.
    AskUser,
}

names!(ToolName, "tool", {
    Exec => "exec",
    Shell => "shell",
    ReadFile => "read_file",
    WriteFile => "write_file",
    EditFile => "edit_file",
    ListFiles => "list_files",
    SearchFiles => "search_files",
    HttpRequest => "http_request",
    AskUser => "ask_user",
});

/// How risky a call is. High needs an admin's approval, medium an operator's where policy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Allowed.
    Low,
    /// Allowed inside the workspace; recorded.
    Medium,
    /// Asks a person.
    High,
}

names!(Risk, "risk", { Low => "low", Medium => "medium", High => "high" });

/// What a second execution would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes nothing.
    Pure,
    /// Doing it twice is the same as once.
    Idempotent,
    /// May do harm when done twice: never repeated without a person's word.
    Unsafe,
}

names!(Effect, "effect", { Pure => "pure", Idempotent => "idempotent", Unsafe => "unsafe" });

impl Effect {
    /// Whether a crash between intent and result may simply run the call again.
    pub const fn is_repeatable(self) -> bool {
        match self {
            Self::Pure | Self::Idempotent => true,
            Self::Unsafe => false,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It did what it was asked.
    Ok,
    /// It failed, was denied, or its arguments were wrong.
    Error,
    /// It took longer than allowed and was killed.
    Timeout,
    /// It was killed by a person, a cancel or a signal.
    Killed,
    /// It hit a resource limit.
    Limit,
    /// Nobody knows whether it happened.
    Unknown,
}

names!(ToolStatus, "tool status", {
    Ok => "ok",
    Error => "error",
    Timeout => "timeout",
    Killed => "killed",
    Limit => "limit",
    Unknown => "unknown",
});

/// What became of a call, bounded and redacted before it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolOutcome {
    /// How it ended.
    pub status: ToolStatus,
    /// Exit code of a process.
    pub exit_code: Option<i32>,
    /// What the model is shown.
    pub output: String,
    /// Whether output was cut.
    pub truncated: bool,
    /// Time from start to end.
    pub duration_ms: u64,
    /// How the process was confined; none for tools without a process.
    pub confinement: Option<Confinement>,
}

impl ToolOutcome {
    /// An outcome that is only a sentence, for calls that never started.
    pub fn message(status: ToolStatus, text: impl Into<String>) -> Self {
        Self {
            status,
            exit_code: None,
            output: text.into(),
            truncated: false,
            duration_ms: 0,
            confinement: None,
        }
    }
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Asked for; policy has not decided.
    Proposed,
    /// A person is asked.
    Gated,
    /// A person approved; policy decides once more before it starts.
    Approved,
    /// The intent is durable; the effect may have begun.
    Started,
    /// A crash left it undecided; a person is asked what happened.
    Unknown,
    /// It has an outcome.
    Done,
}

names!(CallState, "call state", {
    Proposed => "proposed",
    Gated => "gated",
    Approved => "approved",
    Started => "started",
    Unknown => "unknown",
    Done => "done",
});

/// What can happen to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallInput {
    /// Policy asks a person, or the call itself is a question to one.
    Gate,
    /// A person said yes.
    Approve,
    /// Its intent becomes durable.
    Start,
    /// It has an outcome: a result, a denial, a skip, a person's word.
    Finish,
    /// The daemon died before the outcome was stored.
    Crash,
    /// A person said that it did not happen and shall run.
    RunAgain,
    /// It was not executed, since what was approved was no longer there; it is decided anew.
    Refuse,
}

impl CallInput {
    /// Every input, for exhaustive tests.
    pub const ALL: [Self; 7] = [
        Self::Gate,
        Self::Approve,
        Self::Start,
        Self::Finish,
        Self::Crash,
        Self::RunAgain,
        Self::Refuse,
    ];
}

impl CallState {
    /// The state after `input`, or `None` where it is not legal. This is where an unsafe call is
    /// kept from running twice: after a crash it can only start again through a person.
    #[must_use]
    pub const fn after(self, input: CallInput, effect: Effect) -> Option<Self> {
        use CallInput as I;
        match self {
            Self::Proposed => match input {
                I::Gate => Some(Self::Gated),
                I::Start => Some(Self::Started),
                I::Finish => Some(Self::Done),
                I::Approve | I::Crash | I::RunAgain | I::Refuse => None,
            },
            Self::Gated => match input {
                I::Approve => Some(Self::Approved),
                I::Finish => Some(Self::Done),
                I::Gate | I::Start | I::Crash | I::RunAgain | I::Refuse => None,
            },
            Self::Approved => match input {
                I::Gate => Some(Self::Gated),
                I::Start => Some(Self::Started),
                I::Finish => Some(Self::Done),
                I::Approve | I::Crash | I::RunAgain | I::Refuse => None,
            },
            Self::Started => match input {
                I::Finish => Some(Self::Done),
                I::Refuse => Some(Self::Proposed),
                I::Crash if effect.is_repeatable() => Some(Self::Proposed),
                I::Crash => Some(Self::Unknown),
                I::Gate | I::Approve | I::Start | I::RunAgain => None,
            },
            Self::Unknown => match input {
                I::RunAgain => Some(Self::Approved),
                I::Finish => Some(Self::Done),
                I::Gate | I::Approve | I::Start | I::Crash | I::Refuse => None,
            },
            Self::Done => match input {
                I::Gate
                | I::Approve
                | I::Start
                | I::Finish
                | I::Crash
                | I::RunAgain
                | I::Refuse => None,
            },
        }
    }
}

/// One tool call of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Id; also the idempotency key of the effect.
    pub id: ToolCallId,
    /// The run.
    pub run_id: RunId,
    /// The step that asked for it, from 1.
    pub step: u32,
    /// Position within the step, from 0.
    pub index: u32,
    /// The tool's name as the model wrote it; may name no tool.
    pub tool: String,
    /// The arguments as the model wrote them.
    pub args: Value,
    /// SHA-256 (hex) over tool and canonical arguments; what an approval binds.
    pub args_hash: String,
    /// Effect class.
    pub effect: Effect,
    /// Risk as policy saw it.
    pub risk: Risk,
    /// Where it stands.
    pub state: CallState,
    /// Times that it was started.
    pub attempts: u32,
    /// What became of it.
    pub outcome: Option<ToolOutcome>,
}

/// What policy needs to know of a call; made by `tools` from typed arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFacts {
    /// The tool.
    pub tool: ToolName,
    /// Its effect class with these arguments.
    pub effect: Effect,
    /// The program and its arguments, for `exec`.
    pub argv: Vec<String>,
    /// The script of `shell`.
    pub script: Option<String>,
    /// Whether the call sets environment variables.
    pub sets_env: bool,
    /// Paths that the call names, as it names them.
    pub paths: Vec<PathUse>,
    /// Whether the call goes through everything below its paths.
    #[serde(default)]
    pub is_tree: bool,
    /// Whether a process call says that it needs the network, or needs none; it may say nothing.
    pub network: Option<bool>,
    /// The request of `http_request`.
    pub request: Option<RequestUse>,
}

/// An HTTP request that a call would send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestUse {
    /// Method, in upper case.
    pub method: String,
    /// To which host.
    pub host: HostName,
    /// To which port.
    pub port: u16,
    /// Whether over TLS.
    pub is_tls: bool,
    /// The path, without the query.
    pub path: String,
    /// Whether it carries words of the caller's own beyond the address of a page: a body, a query,
    /// a header that says more than which form of the page is wanted, or a long path.
    pub carries_data: bool,
}

/// A path that a call names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathUse {
    /// As written: relative to the workspace, or absolute.
    pub path: String,
    /// Whether the call would write there.
    pub is_write: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsafe_call_that_crashed_starts_again_only_through_a_person() {
        let crashed = CallState::Started.after(CallInput::Crash, Effect::Unsafe);
        assert_eq!(crashed, Some(CallState::Unknown));
        assert_eq!(CallState::Unknown.after(CallInput::Start, Effect::Unsafe), None);
        assert_eq!(
            CallState::Unknown.after(CallInput::RunAgain, Effect::Unsafe),
            Some(CallState::Approved)
        );
        let crashed = CallState::Started.after(CallInput::Crash, Effect::Pure);
        assert_eq!(crashed, Some(CallState::Proposed));
    }

    #[test]
    fn an_outcome_is_final() {
        for input in CallInput::ALL {
            for effect in Effect::ALL {
                assert_eq!(CallState::Done.after(input, *effect), None);
            }
        }
    }
}
