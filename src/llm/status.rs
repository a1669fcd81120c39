//! What a refusal means: HTTP status, headers and error body become a [`Failure`].

use std::time::Duration;

use serde_json::Value;

use super::error::{ErrorClass, Failure};
use crate::domain::Timestamp;

/// Longest identifier of a provider that is repeated to people.
const CODE_BYTES_MAX: usize = 64;

/// The failure behind a status that is not 2xx.
pub(super) fn failure(status: u16, body: &[u8], retry_after: Option<Duration>) -> Failure {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let error = json.get("error").unwrap_or(&json);
    let by_body = classify(error);
    let (class, what) = match status {
        // Some providers say "no credit" with 400 or 429; trying again does not help then.
        400 | 402 | 403 | 413 | 422 | 429 if by_body == Some(ErrorClass::Billing) => BILLING,
        400 | 413 | 422 if by_body == Some(ErrorClass::ContextOverflow) => OVERFLOW,
        400 if by_body == Some(ErrorClass::Auth) => AUTH,
        401 | 403 => AUTH,
        402 => BILLING,
        404 => (ErrorClass::BadRequest, "the provider knows no such model or address"),
        408 | 504 => (ErrorClass::Timeout, "the provider took too long"),
        413 => (ErrorClass::ContextOverflow, "the request is too large for the provider"),
        429 => RATE,
        503 | 529 => OVERLOADED,
        500.. => (ErrorClass::Overloaded, "the provider failed"),
        300..=399 => (ErrorClass::BadRequest, "the provider redirects, which is not followed"),
        _ => (ErrorClass::BadRequest, "the provider refused the request"),
    };
    Failure { status: Some(status), code: code(error), retry_after, ..Failure::new(class, what) }
}

/// The failure behind an error that arrives within a stream.
pub(super) fn stream_failure(error: &Value) -> Failure {
    let (class, what) = match classify(error) {
        Some(ErrorClass::Billing) => BILLING,
        Some(ErrorClass::ContextOverflow) => OVERFLOW,
        Some(ErrorClass::Auth) => AUTH,
        Some(ErrorClass::RateLimit) => RATE,
        Some(ErrorClass::BadRequest) => {
            (ErrorClass::BadRequest, "the provider refused the request")
        }
        Some(ErrorClass::Timeout) => (ErrorClass::Timeout, "the provider took too long"),
        Some(_) | None => OVERLOADED,
    };
    Failure { code: code(error), ..Failure::new(class, what) }
}

type Kind = (ErrorClass, &'static str);
const AUTH: Kind = (ErrorClass::Auth, "the provider refused the key");
const BILLING: Kind = (ErrorClass::Billing, "the account has no credit");
const RATE: Kind = (ErrorClass::RateLimit, "too many requests");
const OVERFLOW: Kind = (ErrorClass::ContextOverflow, "the conversation is too long for the model");
const OVERLOADED: Kind = (ErrorClass::Overloaded, "the provider is overloaded");

/// The class by the error's own words: identifiers first, then the few sentences that providers
/// use where they have no identifier.
fn classify(error: &Value) -> Option<ErrorClass> {
    let field = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    for id in [field("code"), field("type")] {
        let class = match id {
            "insufficient_quota" | "billing_error" | "billing_hard_limit_reached" => {
                ErrorClass::Billing
            }
            "context_length_exceeded" | "request_too_large" => ErrorClass::ContextOverflow,
            "invalid_api_key" | "authentication_error" | "permission_error" => ErrorClass::Auth,
            "rate_limit_exceeded" | "rate_limit_error" => ErrorClass::RateLimit,
            "overloaded_error" | "api_error" | "server_error" => ErrorClass::Overloaded,
            "timeout_error" => ErrorClass::Timeout,
            _ => continue,
        };
        return Some(class);
    }
    let said = field("message").to_ascii_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|t| said.contains(t));
    if says(&["prompt is too long", "context length", "context window", "maximum context"]) {
        Some(ErrorClass::ContextOverflow)
    } else if says(&["credit balance", "billing"]) {
        Some(ErrorClass::Billing)
    } else if field("type") == "invalid_request_error" {
        Some(ErrorClass::BadRequest)
    } else {
        None
    }
}

/// The provider's identifier, if it looks like one: its sentences may quote the key or the
/// conversation and stay here.
fn code(error: &Value) -> Option<String> {
    let is_id = |s: &&str| {
        (1..=CODE_BYTES_MAX).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    ["code", "type"]
        .iter()
        .filter_map(|name| error.get(*name).and_then(Value::as_str))
        .find(is_id)
        .map(str::to_owned)
}

/// `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(secs) = value.parse::<u64>() {
        return Some(Duration::from_secs(secs));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Timestamp::from_micros(at.as_microsecond()).since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn class(status: u16, body: &Value) -> ErrorClass {
        failure(status, body.to_string().as_bytes(), None).class
    }

    #[test]
    fn statuses_have_classes() {
        let none = Value::Null;
        for (status, expected) in [
            (301, ErrorClass::BadRequest),
            (400, ErrorClass::BadRequest),
            (401, ErrorClass::Auth),
            (402, ErrorClass::Billing),
            (403, ErrorClass::Auth),
            (404, ErrorClass::BadRequest),
            (408, ErrorClass::Timeout),
            (413, ErrorClass::ContextOverflow),
            (422, ErrorClass::BadRequest),
            (429, ErrorClass::RateLimit),
            (500, ErrorClass::Overloaded),
            (502, ErrorClass::Overloaded),
            (503, ErrorClass::Overloaded),
            (504, ErrorClass::Timeout),
            (529, ErrorClass::Overloaded),
        ] {
            assert_eq!(class(status, &none), expected, "{status}");
        }
    }

    #[test]
    fn the_body_makes_the_class_more_exact() {
        let quota = json!({"error": {"code": "insufficient_quota"}});
        assert_eq!(class(429, &quota), ErrorClass::Billing);
        let long = json!({"error": {"code": "context_length_exceeded"}});
        assert_eq!(class(400, &long), ErrorClass::ContextOverflow);
        let long = json!({"type": "error", "error": {"type": "invalid_request_error",
            "message": "prompt is too long: 250000 tokens > 200000 maximum"}});
        assert_eq!(class(400, &long), ErrorClass::ContextOverflow);
        let credit = json!({"error": {"type": "invalid_request_error",
            "message": "Your credit balance is too low"}});
        assert_eq!(class(400, &credit), ErrorClass::Billing);
    }

    #[test]
    fn a_providers_sentence_never_leaves() {
        let body = json!({"error": {"code": "Key sk-123 is bad", "message": "Key sk-123 is bad",
            "type": "invalid_request_error"}});
        let failure = failure(401, body.to_string().as_bytes(), None);
        assert_eq!(failure.code.as_deref(), Some("invalid_request_error"));
        assert!(!format!("{failure} {failure:?}").contains("sk-123"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:49:47 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(10)));
        let past = "Sun, 06 Nov 1994 08:49:07 GMT";
        assert_eq!(retry_after(past, now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-1", now), None);
    }

    proptest! {
        #[test]
        fn no_refusal_panics(
            status in 300_u16..1000,
            body in proptest::collection::vec(any::<u8>(), 0..60),
            header in ".{0,40}",
        ) {
            let after = retry_after(&header, Timestamp::from_micros(0));
            prop_assert_eq!(failure(status, &body, after).status, Some(status));
        }
    }
}
