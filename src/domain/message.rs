//! What is said in a conversation. Messages are immutable once stored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ids::{ConversationId, MessageId, RunId, ToolCallId},
    limits,
    time::Timestamp,
    tool::ToolStatus,
};

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// A person or program.
    User,
    /// The model.
    Assistant,
    /// The outcome of tool calls.
    Tool,
}

impl Author {
    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Part {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// The model asks for a tool.
    ToolCall {
        /// Our id of the call.
        call_id: ToolCallId,
        /// The tool's name as the model wrote it.
        tool: String,
        /// The arguments as the model wrote them.
        args: Value,
    },
    /// What became of a call.
    ToolResult {
        /// Our id of the call.
        call_id: ToolCallId,
        /// How it ended.
        status: ToolStatus,
        /// What the model is shown.
        text: String,
    },
}

/// One entry of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Id.
    pub id: MessageId,
    /// The thread.
    pub conversation_id: ConversationId,
    /// Position in the thread, from 1.
    pub seq: u64,
    /// The run that it belongs to.
    pub run_id: RunId,
    /// Who said it.
    pub role: Author,
    /// What was said.
    pub content: Vec<Part>,
    /// When it was stored.
    pub at: Timestamp,
}

/// What a person asks: plain text, or a list of parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UserInput {
    /// Plain text.
    Text(String),
    /// Parts, text only for now.
    Parts(Vec<InputPart>),
}

/// A part of what a person asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum InputPart {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
}

/// Why an input was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Nothing was said.
    #[error("the input is empty")]
    Empty,
    /// Too much was said.
    #[error("the input is larger than {MAX} bytes", MAX = limits::MESSAGE_TEXT_BYTES_MAX)]
    TooLarge,
    /// Too many parts.
    #[error("the input has more than {MAX} parts", MAX = limits::INPUT_PARTS_MAX)]
    TooManyParts,
    /// A NUL byte.
    #[error("the input contains a NUL character")]
    Nul,
}

impl UserInput {
    /// The text of all parts, a line break between them.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts
                .iter()
                .map(|InputPart::Text { text }| text.as_str())
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }

    /// The same with every text changed.
    #[must_use]
    pub fn map(self, mut change: impl FnMut(&str) -> String) -> Self {
        match self {
            Self::Text(text) => Self::Text(change(&text)),
            Self::Parts(parts) => Self::Parts(
                parts
                    .into_iter()
                    .map(|InputPart::Text { text }| InputPart::Text { text: change(&text) })
                    .collect(),
            ),
        }
    }

    /// The parts as a message holds them.
    pub fn parts(&self) -> Vec<Part> {
        match self {
            Self::Text(text) => vec![Part::Text { text: text.clone() }],
            Self::Parts(parts) => parts
                .iter()
                .map(|InputPart::Text { text }| Part::Text { text: text.clone() })
                .collect(),
        }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// When it is empty, too large or holds a NUL.
    pub fn check(&self) -> Result<(), InputError> {
        if let Self::Parts(parts) = self
            && parts.len() > limits::INPUT_PARTS_MAX
        {
            return Err(InputError::TooManyParts);
        }
        let text = self.text();
        if text.trim().is_empty() {
            return Err(InputError::Empty);
        }
        if text.len() > limits::MESSAGE_TEXT_BYTES_MAX {
            return Err(InputError::TooLarge);
        }
        if text.contains('\0') {
            return Err(InputError::Nul);
        }
        Ok(())
    }
}
