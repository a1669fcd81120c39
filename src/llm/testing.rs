//! Short ways to write conversations in tests.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::Request;
use crate::domain::{Author, Message, Part, Timestamp, ToolCallId, ToolStatus};

pub(super) fn call_id(n: u8) -> ToolCallId {
    ToolCallId::from(Uuid::from_u128(u128::from(n)))
}

pub(super) fn message(role: Author, content: Vec<Part>) -> Arc<Message> {
    Arc::new(Message {
        id: Uuid::nil().into(),
        conversation_id: Uuid::nil().into(),
        seq: 1,
        run_id: Uuid::nil().into(),
        role,
        content,
        at: Timestamp::from_micros(0),
    })
}

fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned() }
}

pub(super) fn user(said: &str) -> Arc<Message> {
    message(Author::User, vec![text(said)])
}

pub(super) fn assistant(said: &str, calls: &[(u8, &str, Value)]) -> Arc<Message> {
    let said = (!said.is_empty()).then(|| text(said));
    let calls = calls.iter().map(|(id, tool, args)| Part::ToolCall {
        call_id: call_id(*id),
        tool: (*tool).to_owned(),
        args: args.clone(),
    });
    message(Author::Assistant, said.into_iter().chain(calls).collect())
}

pub(super) fn tool(results: &[(u8, ToolStatus, &str)]) -> Arc<Message> {
    let results = results.iter().map(|(id, status, text)| Part::ToolResult {
        call_id: call_id(*id),
        status: *status,
        text: (*text).to_owned(),
    });
    message(Author::Tool, results.collect())
}

pub(super) fn request(messages: Vec<Arc<Message>>) -> Request {
    Request {
        model: "default".to_owned(),
        system: "Be brief.".into(),
        messages,
        tools: Arc::new([]),
        max_output_tokens: 100,
    }
}
