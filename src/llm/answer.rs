//! An answer while it arrives, the same for every protocol.
//!
//! Invariant: text, names and arguments together stay within `limits::MODEL_ANSWER_BYTES_MAX`.

use serde_json::Value;

use super::{Completion, Finish, ProposedCall, error::ErrorClass, error::Failure};
use crate::domain::limits;

/// One tool call while it arrives.
#[derive(Debug, Default)]
struct CallParts {
    /// Where the provider put it: index in its list of calls or content blocks.
    index: u64,
    id: String,
    name: String,
    args: String,
}

/// Collects what a stream says.
#[derive(Debug, Default)]
pub(super) struct Answer {
    text: String,
    calls: Vec<CallParts>,
    bytes: usize,
    /// Text that arrived since it was last taken.
    fresh: String,
    /// Input tokens as the provider counted them.
    pub(super) input_tokens: Option<u64>,
    /// Output tokens as the provider counted them.
    pub(super) output_tokens: Option<u64>,
    /// Why the model stopped; none until it says so.
    pub(super) finish: Option<Finish>,
}

/// More than one answer may hold.
const TOO_LARGE: Failure = Failure::lasting(ErrorClass::Format, "the answer is too large");

impl Answer {
    fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > limits::MODEL_ANSWER_BYTES_MAX { Err(TOO_LARGE) } else { Ok(()) }
    }

    pub(super) fn push_text(&mut self, text: &str) -> Result<(), Failure> {
        self.grow(text.len())?;
        self.text.push_str(text);
        self.fresh.push_str(text);
        Ok(())
    }

    /// The text since the last call, for people who watch.
    pub(super) fn take_fresh(&mut self) -> Option<String> {
        if self.fresh.is_empty() { None } else { Some(std::mem::take(&mut self.fresh)) }
    }

    /// Adds to the call at `index`, which begins when it is new. Some compatible servers give
    /// every call the same index, or none, but each its own id.
    pub(super) fn push_call(
        &mut self,
        index: Option<u64>,
        id: &str,
        name: &str,
        args: &str,
    ) -> Result<(), Failure> {
        self.grow(id.len() + name.len() + args.len())?;
        let found = match index {
            Some(index) => self.calls.iter_mut().rev().find(|c| c.index == index),
            None => self.calls.last_mut(),
        };
        match found {
            Some(call) if id.is_empty() || call.id.is_empty() || call.id == id => {
                if call.id.is_empty() {
                    id.clone_into(&mut call.id);
                }
                // A name comes whole; servers that repeat it in every chunk must not double it.
                if call.name.is_empty() {
                    name.clone_into(&mut call.name);
                }
                call.args.push_str(args);
            }
            Some(_) | None => {
                self.grow(64)?;
                let index = index.unwrap_or_else(|| u64::try_from(self.calls.len()).unwrap_or(0));
                self.calls.push(CallParts {
                    index,
                    id: id.to_owned(),
                    name: name.to_owned(),
                    args: args.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The finished answer. `estimated_input` stands in where the provider did not count.
    pub(super) fn complete(self, model: String, estimated_input: u64) -> Completion {
        let written = super::price::tokens_of_bytes(self.bytes);
        let usage = super::TokenUsage {
            input: self.input_tokens.unwrap_or(estimated_input),
            output: self.output_tokens.unwrap_or(written),
            reported: self.input_tokens.is_some() && self.output_tokens.is_some(),
        };
        let calls = self
            .calls
            .into_iter()
            .map(|call| ProposedCall { name: call.name, args: arguments(call.args) })
            .collect();
        Completion {
            text: self.text,
            calls,
            usage,
            model,
            finish: self.finish.unwrap_or(Finish::Stop),
        }
    }
}

/// The arguments as JSON; a tool without parameters may be called with nothing at all. What does
/// not parse is kept as text, so that the model can be shown what it wrote. So is what is nested
/// deeply: within an event or a message it could be written but never read again, since reading
/// JSON has a bound of 128 levels.
fn arguments(raw: String) -> Value {
    if raw.trim().is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    match serde_json::from_str(&raw) {
        Ok(args) if is_within(&args, limits::TOOL_ARGS_DEPTH_MAX) => args,
        Ok(_) | Err(_) => Value::String(raw),
    }
}

/// Whether a value has at most so many levels. Its own depth is bounded: it has been parsed.
fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|v| is_within(v, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|v| is_within(v, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calls(answer: Answer) -> Vec<(String, Value)> {
        answer.complete("m".into(), 0).calls.into_iter().map(|c| (c.name, c.args)).collect()
    }

    #[test]
    fn calls_are_put_together_by_index() {
        let mut answer = Answer::default();
        answer.push_call(Some(0), "a", "read", "{\"p\"").unwrap();
        answer.push_call(Some(1), "b", "list", "").unwrap();
        answer.push_call(Some(0), "", "", ":1}").unwrap();
        assert_eq!(
            calls(answer),
            vec![("read".to_owned(), json!({"p": 1})), ("list".to_owned(), json!({}))]
        );
    }

    #[test]
    fn calls_without_an_index_are_told_apart_by_id() {
        let mut answer = Answer::default();
        answer.push_call(None, "a", "read", "[1").unwrap();
        answer.push_call(None, "", "", "]").unwrap();
        answer.push_call(None, "b", "list", "{}").unwrap();
        answer.push_call(Some(0), "c", "same_index", "{}").unwrap();
        assert_eq!(calls(answer).len(), 3);
    }

    #[test]
    fn arguments_that_do_not_parse_stay_text() {
        assert_eq!(arguments("{\"a\":".into()), json!("{\"a\":"));
        assert_eq!(arguments("  ".into()), json!({}));
        assert_eq!(arguments("[1]".into()), json!([1]));
    }

    #[test]
    fn arguments_that_could_not_be_read_again_stay_text() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let most = limits::TOOL_ARGS_DEPTH_MAX;
        assert!(arguments(nested(most)).is_array());
        for depth in [most + 1, 120, 127, 128, 100_000] {
            assert_eq!(arguments(nested(depth)), json!(nested(depth)), "{depth}");
        }
    }

    #[test]
    fn an_answer_has_a_bound() {
        let mut answer = Answer::default();
        let half = "x".repeat(limits::MODEL_ANSWER_BYTES_MAX / 2);
        answer.push_text(&half).unwrap();
        answer.push_call(Some(0), "", "", &half).unwrap_err();
        assert_eq!(answer.push_text("x"), Err(TOO_LARGE));
    }

    #[test]
    fn usage_says_whether_it_was_counted_or_guessed() {
        let mut answer = Answer::default();
        answer.push_text("123456").unwrap();
        let guessed = answer.complete("m".into(), 7).usage;
        assert_eq!((guessed.input, guessed.output, guessed.reported), (7, 2, false));
        let counted = Answer { input_tokens: Some(3), output_tokens: Some(4), ..Answer::default() };
        let usage = counted.complete("m".into(), 7).usage;
        assert_eq!((usage.input, usage.output, usage.reported), (3, 4, true));
    }
}
