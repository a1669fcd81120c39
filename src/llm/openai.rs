//! The chat-completions protocol: what goes out, and what each streamed chunk means.
//!
//! Invariant: any text is accepted as a chunk without a panic.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Finish, Request, ToolSchema,
    answer::Answer,
    error::{ErrorClass, Failure},
    sse::Event,
    transcript::{Turn, arguments_object, turns},
};
use crate::domain::ToolCallId;

/// The path behind the base address.
pub(super) const PATH: &str = "/chat/completions";

/// The request body, borrowing all that is said: a long conversation is written, not copied.
#[derive(Serialize)]
pub(super) struct Body<'r> {
    model: &'r str,
    messages: Vec<Entry<'r>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'r>>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Entry<'r> {
    System {
        content: &'r str,
    },
    User {
        content: &'r str,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<FunctionCall<'r>>,
    },
    Tool {
        tool_call_id: ToolCallId,
        content: &'r str,
    },
}

#[derive(Serialize)]
struct FunctionCall<'r> {
    id: ToolCallId,
    r#type: &'static str,
    function: Function<'r>,
}

#[derive(Serialize)]
struct Function<'r> {
    name: Cow<'r, str>,
    arguments: String,
}

#[derive(Serialize)]
struct Tool<'r> {
    r#type: &'static str,
    function: &'r ToolSchema,
}

/// The request body.
pub(super) fn body<'r>(request: &'r Request, model: &'r str, base_url: &str) -> Body<'r> {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.trim().is_empty() {
        messages.push(Entry::System { content: &request.system });
    }
    for turn in turns(request.messages.iter().map(AsRef::as_ref)) {
        push_turn(&mut messages, turn);
    }
    // The public service wants the new name for its newer models; compatible servers know the old.
    let limit = Some(request.max_output_tokens);
    let is_public_service = base_url.contains("//api.openai.com");
    Body {
        model,
        messages,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        max_tokens: limit.filter(|_| !is_public_service),
        max_completion_tokens: limit.filter(|_| is_public_service),
        tools: request.tools.iter().map(|t| Tool { r#type: FUNCTION, function: t }).collect(),
    }
}

/// The only type of tool.
const FUNCTION: &str = "function";

fn push_turn<'r>(messages: &mut Vec<Entry<'r>>, turn: Turn<'r>) {
    match turn {
        Turn::User(content) => messages.push(Entry::User { content }),
        Turn::Assistant { texts, calls } => {
            let content = if texts.is_empty() { None } else { Some(texts.join("\n")) };
            let calls = calls.into_iter().map(|call| FunctionCall {
                id: call.id,
                r#type: FUNCTION,
                function: Function {
                    name: call.tool,
                    arguments: arguments_object(call.args).to_string(),
                },
            });
            messages.push(Entry::Assistant { content, tool_calls: calls.collect() });
        }
        Turn::Results(results) => messages.extend(
            results.into_iter().map(|r| Entry::Tool { tool_call_id: r.id, content: r.text }),
        ),
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// Adds one event to the answer. `true`: the stream says that it is over.
pub(super) fn read(event: &Event, answer: &mut Answer) -> Result<bool, Failure> {
    let data = event.data.trim();
    if data == "[DONE]" {
        return Ok(true);
    }
    if data.is_empty() {
        return Ok(false);
    }
    let Ok(chunk) = serde_json::from_str::<Chunk>(data) else {
        return Err(Failure::new(ErrorClass::Format, "the stream holds malformed JSON"));
    };
    if let Some(error) = chunk.error.filter(|e| !e.is_null()) {
        return Err(super::status::stream_failure(&error));
    }
    if let Some(usage) = chunk.usage {
        answer.input_tokens = usage.prompt_tokens.or(answer.input_tokens);
        answer.output_tokens = usage.completion_tokens.or(answer.output_tokens);
    }
    // Only one choice was asked for.
    let Some(choice) = chunk.choices.into_iter().next() else { return Ok(false) };
    if let Some(delta) = choice.delta {
        for text in [delta.content, delta.refusal].into_iter().flatten() {
            answer.push_text(&text)?;
        }
        for call in delta.tool_calls.into_iter().flatten() {
            let id = call.id.unwrap_or_default();
            let (name, args) = call.function.map_or_else(Default::default, |f| {
                (f.name.unwrap_or_default(), f.arguments.unwrap_or_default())
            });
            answer.push_call(call.index, &id, &name, &args)?;
        }
    }
    if let Some(reason) = choice.finish_reason {
        answer.finish = Some(match reason.as_str() {
            "length" => Finish::Length,
            "content_filter" => Finish::Refused,
            // "stop", "tool_calls", the old "function_call", and whatever servers invent.
            _ => Finish::Stop,
        });
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{domain::ToolStatus, llm::testing};

    fn written(request: &Request, base_url: &str) -> Value {
        serde_json::to_value(body(request, "gpt", base_url)).unwrap()
    }

    #[test]
    fn a_conversation_with_calls_and_a_steer_is_written_as_the_protocol_says() {
        let mut request = testing::request(vec![
            testing::user("list"),
            testing::assistant("I look.", &[(1, "list_files", json!({"path": "."}))]),
            testing::tool(&[(1, ToolStatus::Ok, "a.txt")]),
            testing::user("and hurry"),
            testing::assistant("", &[(2, "exec", json!("{broken"))]),
            testing::tool(&[(2, ToolStatus::Error, "wrong arguments")]),
        ]);
        request.tools = Arc::new([ToolSchema {
            name: "exec".into(),
            description: "Runs".into(),
            parameters: json!({"type": "object"}),
        }]);
        let (one, two) = (testing::call_id(1), testing::call_id(2));
        assert_eq!(
            written(&request, "http://localhost"),
            json!({
                "model": "gpt",
                "stream": true,
                "stream_options": {"include_usage": true},
                "max_tokens": 100,
                "tools": [{"type": "function", "function": {
                    "name": "exec", "description": "Runs", "parameters": {"type": "object"}}}],
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "list"},
                    {"role": "assistant", "content": "I look.", "tool_calls": [
                        {"id": one, "type": "function", "function": {
                            "name": "list_files", "arguments": "{\"path\":\".\"}"}}]},
                    {"role": "tool", "tool_call_id": one, "content": "a.txt"},
                    {"role": "user", "content": "and hurry"},
                    {"role": "assistant", "content": null, "tool_calls": [
                        {"id": two, "type": "function", "function": {
                            "name": "exec", "arguments": "{\"not_an_object\":\"{broken\"}"}}]},
                    {"role": "tool", "tool_call_id": two, "content": "wrong arguments"},
                ],
            })
        );
    }

    #[test]
    fn the_public_service_gets_the_new_name_of_the_limit() {
        let request = testing::request(vec![testing::user("x")]);
        let body = written(&request, "https://api.openai.com/v1");
        assert_eq!(body["max_completion_tokens"], 100);
        assert!(body.get("max_tokens").is_none() && body.get("tools").is_none());
    }

    fn read_all(chunks: &[Value]) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        for chunk in chunks {
            read(&Event { name: String::new(), data: chunk.to_string() }, &mut answer)?;
        }
        Ok(answer)
    }

    #[test]
    fn text_calls_and_usage_are_read_from_chunks() {
        let answer = read_all(&[
            json!({"choices": [{"delta": {"role": "assistant", "content": "He"}}]}),
            json!({"choices": [{"delta": {"content": "y"}, "finish_reason": null}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "x",
                "function": {"name": "exec", "arguments": "{\"argv\":"}}]}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0,
                "function": {"arguments": "[\"ls\"]}"}}]}}]}),
            json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}}),
        ])
        .unwrap();
        let done = answer.complete("m".into(), 0);
        assert_eq!(done.text, "Hey");
        assert_eq!(done.calls[0].args, json!({"argv": ["ls"]}));
        assert_eq!((done.usage.input, done.usage.output, done.usage.reported), (5, 6, true));
        assert_eq!(done.finish, Finish::Stop);
    }

    #[test]
    fn an_error_in_the_stream_has_its_class() {
        let error = json!({"error": {"code": "rate_limit_exceeded", "message": "x"}});
        assert_eq!(read_all(&[error]).unwrap_err().class, ErrorClass::RateLimit);
    }

    proptest! {
        #[test]
        fn no_chunk_panics(data in ".{0,80}") {
            let event = Event { name: String::new(), data };
            prop_assert!(read(&event, &mut Answer::default()).is_ok() || !event.data.is_empty());
        }
    }
}
