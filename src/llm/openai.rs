//! The chat-completions protocol: what goes out, and what each streamed chunk means.
//!
//! Invariant: any text is accepted as a chunk without a panic.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Finish, Request,
    answer::Answer,
    error::{ErrorClass, Failure},
    sse::Event,
    transcript::{Turn, arguments_object, turns},
};

/// The path behind the base address.
pub(super) const PATH: &str = "/chat/completions";

/// The request body.
pub(super) fn body(request: &Request, model: &str, base_url: &str) -> Value {
    let mut messages = Vec::new();
    if !request.system.trim().is_empty() {
        messages.push(json!({ "role": "system", "content": &*request.system }));
    }
    for turn in turns(request.messages.iter().map(AsRef::as_ref)) {
        push_turn(&mut messages, turn);
    }
    // The public service wants the new name for its newer models; compatible servers know the old.
    let is_public_service = base_url.contains("//api.openai.com");
    let limit = if is_public_service { "max_completion_tokens" } else { "max_tokens" };
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
        limit: request.max_output_tokens,
    });
    if !request.tools.is_empty() {
        let tools: Vec<Value> = request
            .tools
            .iter()
            .map(|tool| {
                json!({ "type": "function", "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                }})
            })
            .collect();
        if let Some(map) = body.as_object_mut() {
            map.insert("tools".to_owned(), Value::Array(tools));
        }
    }
    body
}

fn push_turn(messages: &mut Vec<Value>, turn: Turn<'_>) {
    match turn {
        Turn::User(text) => messages.push(json!({ "role": "user", "content": text })),
        Turn::Assistant { texts, calls } => {
            let content =
                if texts.is_empty() { Value::Null } else { Value::String(texts.join("\n")) };
            let mut message = json!({ "role": "assistant", "content": content });
            if let (Some(map), false) = (message.as_object_mut(), calls.is_empty()) {
                let calls = calls
                    .into_iter()
                    .map(|call| {
                        json!({ "id": call.id, "type": "function", "function": {
                            "name": call.tool,
                            "arguments": arguments_object(call.args).to_string(),
                        }})
                    })
                    .collect();
                map.insert("tool_calls".to_owned(), Value::Array(calls));
            }
            messages.push(message);
        }
        Turn::Results(results) => messages.extend(
            results
                .into_iter()
                .map(|r| json!({ "role": "tool", "tool_call_id": r.id, "content": r.text })),
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

    use super::*;
    use crate::{
        domain::ToolStatus,
        llm::{ToolSchema, testing},
    };

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
            body(&request, "gpt", "http://localhost"),
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
        let body = body(&request, "gpt", "https://api.openai.com/v1");
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
