//! Counting without a tokenizer: what a budget holds before the provider has counted.

use serde_json::Value;

use super::{Request, options::ModelOptions};
use crate::domain::{Message, Part, Usd};

/// Bytes per token, on the careful side: English has about four, code about three, and a
/// character of a script with one token per character has three bytes in UTF-8.
const BYTES_PER_TOKEN: usize = 3;
/// What the protocol adds around a message, a call or a tool.
const FRAME_TOKENS: u64 = 8;

/// Tokens of that many bytes, rounded up.
pub(super) fn tokens_of_bytes(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX)
}

/// Tokens that the request will cost as input; nearly always more than the provider counts.
pub(super) fn input_tokens(request: &Request) -> u64 {
    let messages: u64 = request.messages.iter().map(|m| message_tokens(m)).sum();
    let tools: u64 = request
        .tools
        .iter()
        .map(|t| {
            FRAME_TOKENS
                + tokens_of_bytes(t.name.len() + t.description.len() + json_bytes(&t.parameters))
        })
        .sum();
    FRAME_TOKENS + tokens_of_bytes(request.system.len()) + messages + tools
}

fn message_tokens(message: &Message) -> u64 {
    message
        .content
        .iter()
        .map(|part| {
            let bytes = match part {
                Part::Text { text } => text.len(),
                Part::ToolCall { tool, args, .. } => tool.len() + json_bytes(args) + ID_BYTES,
                Part::ToolResult { text, .. } => text.len() + ID_BYTES,
            };
            FRAME_TOKENS + tokens_of_bytes(bytes)
        })
        .sum()
}

/// A call id on the wire: `call_` and a UUID.
const ID_BYTES: usize = 41;

/// About the bytes of the value as JSON, without writing it.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 12,
        Value::String(text) => text.len() + 4,
        Value::Array(items) => 2 + items.iter().map(|v| json_bytes(v) + 1).sum::<usize>(),
        Value::Object(map) => {
            2 + map.iter().map(|(k, v)| k.len() + 4 + json_bytes(v)).sum::<usize>()
        }
    }
}

/// What so many tokens cost with this model.
pub(super) fn price(model: &ModelOptions, input: u64, output: u64) -> Usd {
    model
        .input_price_per_mtok
        .per_million(input)
        .plus(model.output_price_per_mtok.per_million(output))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::llm::{ToolSchema, testing};

    #[test]
    fn the_estimate_is_above_common_counts_and_grows_with_everything() {
        let mut request = testing::request(vec![testing::user("The quick brown fox jumps.")]);
        let small = input_tokens(&request);
        assert!(small > 6, "six tokens for a common tokenizer, {small} estimated");
        request.tools = Arc::new([ToolSchema {
            name: "read_file".into(),
            description: "Reads a file".into(),
            parameters: json!({"type": "object", "properties": {"path": {"type": "string"}}}),
        }]);
        assert!(input_tokens(&request) > small + 20);
    }

    #[test]
    fn the_price_is_the_sum_of_both_directions() {
        let model = ModelOptions {
            input_price_per_mtok: "3".parse().unwrap(),
            output_price_per_mtok: "15".parse().unwrap(),
            ..ModelOptions::default()
        };
        assert_eq!(price(&model, 1_000_000, 100_000), "4.5".parse().unwrap());
    }

    #[test]
    fn the_size_of_json_is_close_to_what_is_written() {
        let value = json!({"a": [1, 2.5, null, true], "text": "hello", "o": {}});
        let written = serde_json::to_string(&value).unwrap().len();
        assert!((written..written + 40).contains(&json_bytes(&value)));
    }
}
