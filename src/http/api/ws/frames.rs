//! What goes over a WebSocket, in both directions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    domain::{Event, Principal, RunId, Secret, event::Ephemeral, limits},
    http::kit::{
        Problem,
        extract::{parse, typed},
        limit::WEBSOCKET_FRAME_BYTES_MAX,
        problem::code,
    },
};

/// Sent to whoever presented no credential.
pub(super) const AUTH_REQUIRED: &str = r#"{"type":"auth_required"}"#;

/// Bytes of a client's frame id.
const ID_BYTES_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    r#type: AuthType,
    token: String,
    #[serde(default)]
    #[expect(dead_code, reason = "clients may number every frame; this one has no reply")]
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthType {
    Auth,
}

/// The token of an `auth` frame; none where the frame is another.
pub(super) fn token_of(text: &str) -> Option<Secret<String>> {
    let Auth { r#type: AuthType::Auth, token, .. } = serde_json::from_str(text).ok()?;
    Some(Secret::new(token))
}

/// A client's frame: its id, what it asks, and the fields that come with it.
#[derive(Debug)]
pub(super) struct Request {
    /// The client's number for it, repeated in the reply.
    pub(super) id: Option<String>,
    /// What is asked.
    pub(super) kind: Result<Kind, Problem>,
    /// The client's promise that a repeated frame is the same one.
    pub(super) key: Option<String>,
    /// Everything else.
    pub(super) fields: Map<String, Value>,
}

/// What a client can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Kind {
    #[serde(rename = "subscribe")]
    Subscribe,
    #[serde(rename = "unsubscribe")]
    Unsubscribe,
    #[serde(rename = "run.create")]
    RunCreate,
    #[serde(rename = "run.interrupt")]
    RunInterrupt,
    #[serde(rename = "run.steer")]
    RunSteer,
    #[serde(rename = "run.resume")]
    RunResume,
    #[serde(rename = "run.cancel")]
    RunCancel,
    #[serde(rename = "run.retry")]
    RunRetry,
    #[serde(rename = "run.fork")]
    RunFork,
    #[serde(rename = "approval.decide")]
    ApprovalDecide,
    #[serde(rename = "ping")]
    Ping,
}

/// Every command by its name, so that tests can go through all of them.
pub static COMMANDS: &[&str] = &[
    Kind::Subscribe.as_str(),
    Kind::Unsubscribe.as_str(),
    Kind::RunCreate.as_str(),
    Kind::RunInterrupt.as_str(),
    Kind::RunSteer.as_str(),
    Kind::RunResume.as_str(),
    Kind::RunCancel.as_str(),
    Kind::RunRetry.as_str(),
    Kind::RunFork.as_str(),
    Kind::ApprovalDecide.as_str(),
    Kind::Ping.as_str(),
];

impl Kind {
    /// The name on the wire, which is also the path that a fingerprint covers.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::RunCreate => "run.create",
            Self::RunInterrupt => "run.interrupt",
            Self::RunSteer => "run.steer",
            Self::RunResume => "run.resume",
            Self::RunCancel => "run.cancel",
            Self::RunRetry => "run.retry",
            Self::RunFork => "run.fork",
            Self::ApprovalDecide => "approval.decide",
            Self::Ping => "ping",
        }
    }
}

/// `{"run_id":…,"after":N}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    pub(super) run_id: RunId,
    #[serde(default)]
    pub(super) after: u64,
}

/// `{"run_id":…}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneRun {
    pub(super) run_id: RunId,
}

impl Request {
    /// Reads a frame.
    ///
    /// # Errors
    /// When it is no JSON object or its id is no short text; such a frame cannot be replied to by
    /// id.
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        let mut fields: Map<String, Value> = parse(text.as_bytes())?;
        let id = match fields.remove("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.len() <= ID_BYTES_MAX => Some(id),
            Some(_) => return Err(Problem::invalid("/id", "`id` is a text of at most 128 bytes")),
        };
        let kind = match fields.remove("type") {
            Some(name) => typed::<Kind>(name).map_err(|problem| {
                let detail = problem.errors().first().map_or("", |e| e.detail.as_str()).to_owned();
                Problem::invalid("/type", detail)
            }),
            None => Err(Problem::invalid("/type", "missing field `type`")),
        };
        let key = match fields.remove("idempotency_key") {
            None | Some(Value::Null) => None,
            Some(Value::String(key)) => Some(key),
            Some(_) => {
                let kind = Err(Problem::invalid("/idempotency_key", "expected a text"));
                return Ok(Self { id, kind, key: None, fields });
            }
        };
        Ok(Self { id, kind, key, fields })
    }

    /// Takes the id of what the frame is about, so that the rest is the body that REST takes.
    ///
    /// # Errors
    /// When it is missing or none.
    pub(super) fn take<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<T, Problem> {
        let pointer = format!("/{name}");
        let Some(value) = self.fields.remove(name) else {
            return Err(Problem::invalid(pointer, format!("missing field `{name}`")));
        };
        typed(value)
            .ok()
            .ok_or_else(|| Problem::invalid(pointer, format!("`{name}` is not a valid id")))
    }

    /// The rest as a typed body.
    ///
    /// # Errors
    /// As [`typed`].
    pub(super) fn body<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Problem> {
        typed(Value::Object(std::mem::take(&mut self.fields)))
    }
}

/// The first frame to somebody recognised.
pub(super) fn hello(principal: &Principal) -> String {
    json!({
        "type": "hello",
        "principal": principal,
        "limits": {
            "messages_per_minute": limits::WEBSOCKET_MESSAGES_PER_MINUTE,
            "frame_bytes_max": WEBSOCKET_FRAME_BYTES_MAX,
            "subscriptions_max": limits::WEBSOCKET_SUBSCRIPTIONS_MAX,
            "queue_events_max": limits::SUBSCRIBER_EVENTS_MAX,
            "queue_bytes_max": limits::SUBSCRIBER_BYTES_MAX,
        },
    })
    .to_string()
}

/// The reply to a frame.
pub(super) fn reply(id: Option<&str>, answer: Result<Value, Problem>, request_id: &str) -> String {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Outcome<'a> {
        Data { data: Value },
        Problem { problem: crate::http::kit::problem::Written<'a> },
    }
    #[derive(Serialize)]
    struct Reply<'a> {
        r#type: &'static str,
        id: Option<&'a str>,
        ok: bool,
        #[serde(flatten)]
        outcome: Outcome<'a>,
    }
    let (ok, problem) = match answer {
        Ok(data) => (Ok(data), None),
        Err(problem) => (Err(()), Some(problem)),
    };
    let outcome = match (ok, &problem) {
        (Ok(data), _) => Outcome::Data { data },
        (Err(()), Some(problem)) => Outcome::Problem { problem: problem.written(request_id) },
        (Err(()), None) => Outcome::Data { data: Value::Null },
    };
    let reply = Reply { r#type: "reply", id, ok: problem.is_none(), outcome };
    serde_json::to_string(&reply).unwrap_or_default()
}

/// A durable event: the event with `type` = `event`, its own type under `event`.
pub(super) fn event(event: &Event) -> Option<String> {
    renamed(&serde_json::to_string(event).ok()?)
}

/// A frame that is not stored, in the same shape.
pub(super) fn ephemeral(frame: &Ephemeral) -> Option<String> {
    renamed(&serde_json::to_string(frame).ok()?)
}

/// Events are written with their `type` first; putting the envelope's in front of it spares a
/// second walk through the whole event for every listener.
fn renamed(json: &str) -> Option<String> {
    let rest = json.strip_prefix("{\"type\":")?;
    Some(format!("{{\"type\":\"event\",\"event\":{rest}"))
}

/// Says that the connection was too slow; what follows was read from the store, from `after` on.
pub(super) fn resync(run_id: RunId, after: u64) -> String {
    json!({ "type": "resync", "run_id": run_id, "after": after }).to_string()
}

/// Says that a subscription is over, and why where it did not end with its run.
pub(super) fn ended(run_id: RunId, after: u64, reason: &str) -> String {
    json!({ "type": "unsubscribed", "run_id": run_id, "after": after, "reason": reason })
        .to_string()
}

/// The answer to a frame that is no text.
pub(super) fn not_text() -> Problem {
    Problem::new(&code::MALFORMED, "frames are JSON text")
}

#[cfg(test)]
mod tests;
