//! The two wire formats as a provider speaks them: reads requests, writes streams. Written from
//! the protocols' documentation and independent of the client under test.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fake_llm::Turn;

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    OpenAi,
    Anthropic,
}

/// One entry of the conversation in a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    User(String),
    Assistant { text: String, calls: Vec<(String, String, Value)> },
    Result { id: String, text: String, is_error: bool },
}

/// The conversation of a request; none where a provider would refuse it: streaming not asked
/// for, a result that follows no call, a call whose result does not follow, roles out of order.
pub(crate) fn read(wire: Wire, body: &Value) -> Option<Vec<Said>> {
    if body["stream"] != true || body["model"].as_str()?.is_empty() {
        return None;
    }
    let messages = body["messages"].as_array()?;
    let said = match wire {
        Wire::OpenAi => read_openai(messages)?,
        Wire::Anthropic => read_anthropic(body, messages)?,
    };
    has_every_result(&said).then_some(said)
}

fn read_openai(messages: &[Value]) -> Option<Vec<Said>> {
    let mut said = Vec::new();
    for message in messages {
        let text = message["content"].as_str().unwrap_or_default().to_owned();
        match message["role"].as_str()? {
            "system" => {}
            "user" => said.push(Said::User(text)),
            "assistant" => {
                let calls = match message.get("tool_calls") {
                    None => Vec::new(),
                    Some(calls) => calls
                        .as_array()?
                        .iter()
                        .map(|call| {
                            let function = &call["function"];
                            let args = function["arguments"].as_str()?;
                            Some((
                                call["id"].as_str()?.to_owned(),
                                function["name"].as_str()?.to_owned(),
                                serde_json::from_str(args).ok()?,
                            ))
                        })
                        .collect::<Option<_>>()?,
                };
                said.push(Said::Assistant { text, calls });
            }
            "tool" => {
                let id = message["tool_call_id"].as_str()?.to_owned();
                said.push(Said::Result { id, text, is_error: false });
            }
            _ => return None,
        }
    }
    Some(said)
}

fn read_anthropic(body: &Value, messages: &[Value]) -> Option<Vec<Said>> {
    body["max_tokens"].as_u64()?;
    let mut said = Vec::new();
    for (n, message) in messages.iter().enumerate() {
        let role = if n % 2 == 0 { "user" } else { "assistant" };
        if message["role"] != role {
            return None;
        }
        let (mut texts, mut calls) = (Vec::new(), Vec::new());
        for block in message["content"].as_array()? {
            match (role, block["type"].as_str()?) {
                (_, "text") => {
                    let text = block["text"].as_str().filter(|t| !t.trim().is_empty())?;
                    if role == "user" {
                        said.push(Said::User(text.to_owned()));
                    }
                    texts.push(text);
                }
                ("assistant", "tool_use") => calls.push((
                    block["id"].as_str()?.to_owned(),
                    block["name"].as_str()?.to_owned(),
                    block["input"].as_object()?.clone().into(),
                )),
                ("user", "tool_result") => said.push(Said::Result {
                    id: block["tool_use_id"].as_str()?.to_owned(),
                    text: block["content"].as_str()?.to_owned(),
                    is_error: block["is_error"] == true,
                }),
                _ => return None,
            }
        }
        if role == "assistant" {
            said.push(Said::Assistant { text: texts.join("\n"), calls });
        }
    }
    Some(said)
}

/// Whether the results right behind each answer are exactly those of its calls.
fn has_every_result(said: &[Said]) -> bool {
    let mut open = BTreeSet::new();
    for said in said {
        match said {
            Said::Result { id, .. } => {
                if !open.remove(id) {
                    return false;
                }
            }
            Said::User(_) | Said::Assistant { .. } if !open.is_empty() => return false,
            Said::User(_) => {}
            Said::Assistant { calls, .. } => {
                open = calls.iter().map(|(id, ..)| id.clone()).collect();
            }
        }
    }
    open.is_empty()
}

/// The stream that says the turn. `usage`: the input tokens to report.
pub(crate) fn frames(wire: Wire, turn: &Turn, usage: Option<usize>) -> Vec<String> {
    match wire {
        Wire::OpenAi => openai_frames(turn, usage),
        Wire::Anthropic => anthropic_frames(turn, usage),
    }
}

/// An error within a stream.
pub(crate) fn error_frame(kind: &str) -> String {
    let data = json!({ "type": "error", "error": { "type": kind, "message": "said the fake" } });
    format!("event: error\ndata: {data}\n\n")
}

/// The text in pieces of a few characters; long texts in larger ones.
fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let size = (chars.len() / 100).max(7);
    chars.chunks(size).map(|c| c.iter().collect()).collect()
}

fn openai_frames(turn: &Turn, usage: Option<usize>) -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        let data = json!({
            "id": "chatcmpl-fake", "object": "chat.completion.chunk", "choices": choices});
        format!("data: {data}\n\n")
    };
    let delta = |delta: Value| chunk(delta, Value::Null);
    let mut frames = vec![delta(json!({ "role": "assistant", "content": "" }))];
    frames.extend(pieces(&turn.text).into_iter().map(|p| delta(json!({ "content": p }))));
    for (index, call) in turn.calls.iter().enumerate() {
        frames.push(delta(json!({ "tool_calls": [{
            "index": index, "id": format!("fake_{index}"), "type": "function",
            "function": { "name": call.name, "arguments": "" } }] })));
        frames.extend(pieces(&call.args).into_iter().map(|piece| {
            delta(json!({ "tool_calls": [{
                "index": index, "function": { "arguments": piece } }] }))
        }));
    }
    let finish = if turn.calls.is_empty() { "stop" } else { "tool_calls" };
    frames.push(chunk(json!({}), json!(finish)));
    if let Some(input) = usage {
        let data = json!({ "choices": [], "usage": {
            "prompt_tokens": input, "completion_tokens": turn.text.len() / 4 + 1 } });
        frames.push(format!("data: {data}\n\n"));
    }
    frames.push("data: [DONE]\n\n".to_owned());
    frames
}

fn anthropic_frames(turn: &Turn, usage: Option<usize>) -> Vec<String> {
    let event = |data: Value| {
        let name = data["type"].as_str().unwrap_or_default().to_owned();
        format!("event: {name}\ndata: {data}\n\n")
    };
    let block = |frames: &mut Vec<String>, index: usize, block: Value, deltas: Vec<Value>| {
        frames.push(event(json!({
            "type": "content_block_start", "index": index, "content_block": block })));
        frames.push(event(json!({ "type": "ping" })));
        frames.extend(deltas.into_iter().map(|delta| {
            event(json!({ "type": "content_block_delta", "index": index, "delta": delta }))
        }));
        frames.push(event(json!({ "type": "content_block_stop", "index": index })));
    };
    let mut start = json!({ "id": "msg_fake", "role": "assistant", "content": [] });
    let mut end = json!({
        "type": "message_delta",
        "delta": { "stop_reason": if turn.calls.is_empty() { "end_turn" } else { "tool_use" } },
    });
    if let (Some(input), Some(start), Some(end)) =
        (usage, start.as_object_mut(), end.as_object_mut())
    {
        start.insert("usage".into(), json!({ "input_tokens": input, "output_tokens": 1 }));
        end.insert("usage".into(), json!({ "output_tokens": turn.text.len() / 4 + 1 }));
    }
    let mut frames = vec![event(json!({ "type": "message_start", "message": start }))];
    let mut index = 0;
    if !turn.text.is_empty() {
        let deltas = pieces(&turn.text).into_iter();
        let deltas = deltas.map(|p| json!({ "type": "text_delta", "text": p })).collect();
        block(&mut frames, index, json!({ "type": "text", "text": "" }), deltas);
        index += 1;
    }
    for call in &turn.calls {
        let id = format!("fake_{index}");
        let start = json!({ "type": "tool_use", "id": id, "name": call.name, "input": {} });
        let deltas = pieces(&call.args).into_iter();
        let deltas = deltas.map(|p| json!({ "type": "input_json_delta", "partial_json": p }));
        block(&mut frames, index, start, deltas.collect());
        index += 1;
    }
    frames.push(event(end));
    frames.push(event(json!({ "type": "message_stop" })));
    frames
}
