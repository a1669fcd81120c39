//! The messages protocol: what goes out, and what each streamed event means.
//!
//! Invariant: any text is accepted as an event without a panic.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Finish, Request,
    answer::Answer,
    error::{ErrorClass, Failure},
    sse::Event,
    transcript::{Turn, arguments_object, turns},
};
use crate::domain::ToolCallId;

/// The path behind the base address.
pub(super) const PATH: &str = "/v1/messages";
/// The protocol version that this file speaks.
pub(super) const VERSION: &str = "2023-06-01";

/// The request body, borrowing all that is said: a long conversation is written, not copied.
#[derive(Serialize)]
pub(super) struct Body<'r> {
    model: &'r str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    system: &'r str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'r>>,
    messages: Vec<Entry<'r>>,
}

#[derive(Serialize)]
struct Tool<'r> {
    name: &'r str,
    description: &'r str,
    input_schema: &'r Value,
}

#[derive(Serialize)]
struct Entry<'r> {
    role: Role,
    content: Vec<Content<'r>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'r> {
    Text { text: &'r str },
    ToolUse { id: ToolCallId, name: Cow<'r, str>, input: Cow<'r, Value> },
    ToolResult { tool_use_id: ToolCallId, content: &'r str, is_error: bool },
}

/// The request body.
pub(super) fn body<'r>(request: &'r Request, model: &'r str) -> Body<'r> {
    let tools = request.tools.iter().map(|tool| Tool {
        name: &tool.name,
        description: &tool.description,
        input_schema: &tool.parameters,
    });
    Body {
        model,
        max_tokens: request.max_output_tokens,
        stream: true,
        system: request.system.trim(),
        tools: tools.collect(),
        messages: entries(request),
    }
}

/// Roles must alternate and begin with the user, so neighbours of one role become one message.
fn entries(request: &Request) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(request.messages.len());
    for turn in turns(request.messages.iter().map(AsRef::as_ref)) {
        let (role, blocks) = blocks(turn);
        if entries.is_empty() && role == Role::Assistant {
            let start = Content::Text { text: "(earlier messages are not shown)" };
            entries.push(Entry { role: Role::User, content: vec![start] });
        }
        match entries.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            Some(_) | None => entries.push(Entry { role, content: blocks }),
        }
    }
    entries
}

fn blocks(turn: Turn<'_>) -> (Role, Vec<Content<'_>>) {
    match turn {
        Turn::User(text) => (Role::User, vec![Content::Text { text }]),
        Turn::Assistant { texts, calls } => {
            let texts = texts.into_iter().map(|text| Content::Text { text });
            let calls = calls.into_iter().map(|call| Content::ToolUse {
                id: call.id,
                name: call.tool,
                input: arguments_object(call.args),
            });
            (Role::Assistant, texts.chain(calls).collect())
        }
        Turn::Results(results) => {
            let blocks = results.into_iter().map(|result| Content::ToolResult {
                tool_use_id: result.id,
                content: result.text,
                is_error: result.is_error,
            });
            (Role::User, blocks.collect())
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Payload {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u64,
        delta: BlockDelta,
    },
    MessageDelta {
        delta: MessageDelta,
        usage: Option<Usage>,
    },
    MessageStop,
    Error {
        error: Value,
    },
    /// `ping`, `content_block_stop`, and events that are yet to be invented: the protocol asks
    /// readers to skip what they do not know.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Start {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockDelta {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct MessageDelta {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the protocol's names")]
struct Usage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Usage {
    fn read_into(&self, answer: &mut Answer) {
        if let Some(input) = self.input_tokens {
            let cached = self.cache_creation_input_tokens.unwrap_or(0);
            let cached = cached.saturating_add(self.cache_read_input_tokens.unwrap_or(0));
            let input = input.saturating_add(cached);
            // The last event may repeat the count without what came from the cache.
            answer.input_tokens = answer.input_tokens.max(Some(input));
        }
        answer.output_tokens = self.output_tokens.or(answer.output_tokens);
    }
}

/// Adds one event to the answer. `true`: the stream says that it is over.
pub(super) fn read(event: &Event, answer: &mut Answer) -> Result<bool, Failure> {
    let Ok(payload) = serde_json::from_str::<Payload>(&event.data) else {
        return Err(Failure::new(ErrorClass::Format, "the stream holds malformed JSON"));
    };
    match payload {
        Payload::MessageStart { message } => {
            if let Some(usage) = message.usage {
                usage.read_into(answer);
            }
        }
        Payload::ContentBlockStart { index, content_block } => match content_block {
            Block::Text { text } => answer.push_text(&text)?,
            Block::ToolUse { id, name, input } => {
                // Empty at first, filled by deltas; some compatible servers send it whole.
                let args = match &input {
                    Value::Object(map) if !map.is_empty() => input.to_string(),
                    _ => String::new(),
                };
                answer.push_call(Some(index), &id, &name, &args)?;
            }
            Block::Other => {}
        },
        Payload::ContentBlockDelta { index, delta } => match delta {
            BlockDelta::TextDelta { text } => answer.push_text(&text)?,
            BlockDelta::InputJsonDelta { partial_json } => {
                answer.push_call(Some(index), "", "", &partial_json)?;
            }
            BlockDelta::Other => {}
        },
        Payload::MessageDelta { delta, usage } => {
            if let Some(usage) = usage {
                usage.read_into(answer);
            }
            if let Some(reason) = delta.stop_reason {
                answer.finish = Some(match reason.as_str() {
                    "max_tokens" | "model_context_window_exceeded" => Finish::Length,
                    "refusal" => Finish::Refused,
                    // "end_turn", "tool_use", "stop_sequence", "pause_turn".
                    _ => Finish::Stop,
                });
            }
        }
        Payload::MessageStop => return Ok(true),
        Payload::Error { error } => return Err(super::status::stream_failure(&error)),
        Payload::Other => {}
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        domain::ToolStatus,
        llm::{ToolSchema, testing},
    };

    #[test]
    fn neighbours_of_one_role_become_one_message() {
        let mut request = testing::request(vec![
            testing::assistant("Earlier.", &[]),
            testing::user("list"),
            testing::assistant("I look.", &[(1, "list_files", json!({"path": "."}))]),
            testing::tool(&[(1, ToolStatus::Error, "denied")]),
            testing::user("and hurry"),
        ]);
        request.tools = Arc::new([ToolSchema {
            name: "exec".into(),
            description: "Runs".into(),
            parameters: json!({"type": "object"}),
        }]);
        let one = testing::call_id(1);
        assert_eq!(
            serde_json::to_value(body(&request, "claude")).unwrap(),
            json!({
                "model": "claude",
                "max_tokens": 100,
                "stream": true,
                "system": "Be brief.",
                "tools": [{"name": "exec", "description": "Runs",
                    "input_schema": {"type": "object"}}],
                "messages": [
                    {"role": "user", "content": [
                        {"type": "text", "text": "(earlier messages are not shown)"}]},
                    {"role": "assistant", "content": [{"type": "text", "text": "Earlier."}]},
                    {"role": "user", "content": [{"type": "text", "text": "list"}]},
                    {"role": "assistant", "content": [
                        {"type": "text", "text": "I look."},
                        {"type": "tool_use", "id": one, "name": "list_files",
                         "input": {"path": "."}}]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": one, "content": "denied",
                         "is_error": true},
                        {"type": "text", "text": "and hurry"}]},
                ],
            })
        );
    }

    fn read_all(events: &[Value]) -> Result<(Answer, bool), Failure> {
        let (mut answer, mut is_over) = (Answer::default(), false);
        for event in events {
            is_over = read(&Event { name: String::new(), data: event.to_string() }, &mut answer)?;
        }
        Ok((answer, is_over))
    }

    #[test]
    fn text_calls_and_usage_are_read_from_events() {
        let (answer, is_over) = read_all(&[
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 5,
                "cache_read_input_tokens": 10, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "text", "text": ""}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": "Hey"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block":
                {"type": "tool_use", "id": "t", "name": "exec", "input": {}}}),
            json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "{\"argv\":"}}),
            json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "[\"ls\"]}"}}),
            json!({"type": "content_block_start", "index": 2,
                "content_block": {"type": "thinking", "thinking": ""}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"},
                "usage": {"output_tokens": 6}}),
            json!({"type": "message_stop"}),
        ])
        .unwrap();
        assert!(is_over);
        let done = answer.complete("m".into(), 0);
        assert_eq!(done.text, "Hey");
        assert_eq!(done.calls.len(), 1);
        assert_eq!(done.calls[0].args, json!({"argv": ["ls"]}));
        assert_eq!((done.usage.input, done.usage.output, done.usage.reported), (15, 6, true));
    }

    #[test]
    fn an_error_in_the_stream_has_its_class() {
        let error = json!({"type": "error", "error": {"type": "overloaded_error"}});
        assert_eq!(read_all(&[error]).unwrap_err().class, ErrorClass::Overloaded);
    }

    proptest! {
        #[test]
        fn no_event_panics(data in ".{0,80}") {
            let event = Event { name: String::new(), data };
            prop_assert!(read(&event, &mut Answer::default()).is_err());
        }
    }
}
