//! Our messages in the order that providers accept.
//!
//! Both protocols refuse a call without a result right behind it, and a result without a call.
//! A conversation can hold either after an interrupt, or when its older part was cut off, and a
//! refused request would end every later run of that conversation. So here, and only here, the
//! order is repaired: results follow the answer that asked for them, in its order; a call without
//! a result gets a sentence that says so; a result without a call is left out.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Value, json};

use crate::domain::{Author, Message, Part, ToolCallId, ToolStatus};

/// What stands in for a result that was never recorded.
pub(super) const NO_RESULT: &str = "No result was recorded for this call.";

/// One call as it goes back to the provider.
#[derive(Debug, PartialEq)]
pub(super) struct Call<'m> {
    pub(super) id: ToolCallId,
    pub(super) tool: Cow<'m, str>,
    pub(super) args: &'m Value,
}

/// One result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallResult<'m> {
    pub(super) id: ToolCallId,
    pub(super) is_error: bool,
    pub(super) text: &'m str,
}

/// One entry of the repaired conversation.
#[derive(Debug, PartialEq)]
pub(super) enum Turn<'m> {
    User(&'m str),
    Assistant { texts: Vec<&'m str>, calls: Vec<Call<'m>> },
    Results(Vec<CallResult<'m>>),
}

/// The conversation as turns.
pub(super) fn turns<'m>(messages: impl Iterator<Item = &'m Message> + Clone) -> Vec<Turn<'m>> {
    let mut results = results(messages.clone());
    let mut turns = Vec::new();
    for message in messages {
        match message.role {
            Author::User => turns.extend(texts(message).map(Turn::User)),
            Author::Assistant => {
                let texts: Vec<_> = texts(message).collect();
                let calls: Vec<_> = calls(message).collect();
                let answers: Vec<_> = calls.iter().map(|c| take(&mut results, c.id)).collect();
                if !texts.is_empty() || !calls.is_empty() {
                    turns.push(Turn::Assistant { texts, calls });
                }
                if !answers.is_empty() {
                    turns.push(Turn::Results(answers));
                }
            }
            // Collected above.
            Author::Tool => {}
        }
    }
    turns
}

fn results<'m>(
    messages: impl Iterator<Item = &'m Message>,
) -> BTreeMap<ToolCallId, CallResult<'m>> {
    messages
        .flat_map(|m| &m.content)
        .filter_map(|part| match part {
            Part::ToolResult { call_id, status, text } => Some((
                *call_id,
                CallResult { id: *call_id, is_error: *status != ToolStatus::Ok, text },
            )),
            Part::Text { .. } | Part::ToolCall { .. } => None,
        })
        .collect()
}

fn take<'m>(results: &mut BTreeMap<ToolCallId, CallResult<'m>>, id: ToolCallId) -> CallResult<'m> {
    results.remove(&id).unwrap_or(CallResult { id, is_error: true, text: NO_RESULT })
}

fn texts(message: &Message) -> impl Iterator<Item = &str> {
    message.content.iter().filter_map(|part| match part {
        // Providers refuse an empty text.
        Part::Text { text } if !text.trim().is_empty() => Some(text.as_str()),
        Part::Text { .. } | Part::ToolCall { .. } | Part::ToolResult { .. } => None,
    })
}

fn calls(message: &Message) -> impl Iterator<Item = Call<'_>> {
    message.content.iter().filter_map(|part| match part {
        Part::ToolCall { call_id, tool, args } => {
            Some(Call { id: *call_id, tool: tool_name(tool), args })
        }
        Part::Text { .. } | Part::ToolResult { .. } => None,
    })
}

/// The arguments as the object that providers insist on. What the model wrote wrongly is shown
/// back to it inside one.
pub(super) fn arguments_object(args: &Value) -> Cow<'_, Value> {
    match args {
        Value::Object(_) => Cow::Borrowed(args),
        other => Cow::Owned(json!({ "not_an_object": other })),
    }
}

/// The tool's name as providers accept it. A model may have made up one that they refuse, and
/// would refuse again in every later request of the conversation.
fn tool_name(name: &str) -> Cow<'_, str> {
    const BYTES_MAX: usize = 64;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=BYTES_MAX).contains(&name.len()) && name.chars().all(is_allowed) {
        return Cow::Borrowed(name);
    }
    let allowed = name.chars().map(|c| if is_allowed(c) { c } else { '_' });
    let name: String = allowed.take(BYTES_MAX).collect();
    if name.is_empty() { Cow::Borrowed("unnamed") } else { Cow::Owned(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::testing::{self, call_id};

    fn result(id: u8, text: &str) -> CallResult<'_> {
        CallResult { id: call_id(id), is_error: false, text }
    }

    #[test]
    fn results_follow_their_calls_in_the_order_of_the_calls() {
        let messages = [
            testing::user("go"),
            testing::assistant("", &[(1, "a", json!({})), (2, "b", json!({}))]),
            testing::user("steer"),
            testing::tool(&[(2, ToolStatus::Ok, "two")]),
            testing::tool(&[(1, ToolStatus::Ok, "one")]),
        ];
        let turns = turns(messages.iter().map(AsRef::as_ref));
        assert_eq!(turns.len(), 4);
        assert_eq!(turns[2], Turn::Results(vec![result(1, "one"), result(2, "two")]));
        assert_eq!(turns[3], Turn::User("steer"));
    }

    #[test]
    fn a_name_that_providers_refuse_is_made_acceptable() {
        assert_eq!(tool_name("read_file"), "read_file");
        assert_eq!(tool_name("files.read é"), "files_read__");
        assert_eq!(tool_name(""), "unnamed");
        assert_eq!(tool_name(&"x".repeat(99)).len(), 64);
    }

    #[test]
    fn a_missing_result_is_filled_in_and_a_stray_one_left_out() {
        let messages = [
            testing::tool(&[(9, ToolStatus::Ok, "stray")]),
            testing::assistant("hm", &[(1, "a", json!({}))]),
            testing::user(" "),
        ];
        let turns = turns(messages.iter().map(AsRef::as_ref));
        assert_eq!(turns.len(), 2, "{turns:?}");
        let missing = CallResult { id: call_id(1), is_error: true, text: NO_RESULT };
        assert_eq!(turns[1], Turn::Results(vec![missing]));
    }
}
