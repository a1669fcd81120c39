//! What an approval binds: one hash per tool and arguments, whatever the order of keys.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 (hex) over the tool and the canonical arguments: keys sorted, no white space.
pub fn args_hash(tool: &str, args: &Value) -> String {
    let mut text = String::new();
    // The name is quoted, so that no tool and arguments can read as another tool and arguments.
    write_canonical(&Value::from(tool), &mut text);
    write_canonical(args, &mut text);
    data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (n, (key, member)) in sorted.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_canonical(&Value::from(key.as_str()), out);
                out.push(':');
                write_canonical(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(tool: &str, args: &str) -> String {
        args_hash(tool, &serde_json::from_str(args).unwrap())
    }

    #[test]
    fn order_and_space_do_not_matter_and_everything_else_does() {
        let one = hash("exec", r#"{"argv":["a"],"env":{"X":"1","A":"2"}}"#);
        assert_eq!(one, hash("exec", r#"{ "env": {"A":"2","X":"1"}, "argv": ["a"] }"#));
        for (tool, args) in [
            ("shell", r#"{"argv":["a"],"env":{"X":"1","A":"2"}}"#),
            ("exec", r#"{"argv":["a"],"env":{"X":"1","A":"3"}}"#),
            ("exec", r#"{"argv":["a",""],"env":{"X":"1","A":"2"}}"#),
            ("exec", r#"{"argv":["a"],"env":{"X":"1","A":"2"},"cwd":null}"#),
        ] {
            assert_ne!(one, hash(tool, args), "{tool} {args}");
        }
        assert_eq!(one.len(), 64);
    }
}
