//! How the result of a command becomes a response: fresh, or the stored answer of its first time.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;

use super::problem::{Problem, code};
use crate::{
    orchestrator::Done,
    runtime::failpoint::{Point, reach},
};

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a command gave, as JSON.
#[derive(Debug)]
pub struct Reply {
    /// The body.
    pub json: Value,
    /// Whether it is the stored answer of an earlier request.
    pub is_replayed: bool,
}

impl Reply {
    /// As `view` shows a fresh result. A stored answer is shown as it was stored.
    pub fn of<T, V: Serialize>(done: Done<T>, view: impl FnOnce(T) -> V) -> Result<Self, Problem> {
        match done {
            Done::Fresh(value) => Ok(Self { json: to_json(&view(value))?, is_replayed: false }),
            Done::Replayed(json) => Ok(Self { json, is_replayed: true }),
        }
    }

    /// A field of the body as text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.json.get(field).and_then(Value::as_str)
    }

    /// The body with this status.
    pub fn with(self, status: StatusCode) -> Response {
        let mut response = (status, Json(self.json)).into_response();
        if self.is_replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }

    /// The body of something new that is found below `base`.
    pub fn created(self, base: &str, status: StatusCode) -> Response {
        let location = self.text("id").map(|id| format!("{base}/{id}"));
        let mut response = self.with(status);
        if let Some(location) = location.and_then(|l| HeaderValue::from_str(&l).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// The last step before a client hears that something was done. A fault here is a connection that
/// breaks: what was done stands, and nobody was told.
pub(super) async fn acknowledged(is_reading: bool, response: Response) -> Response {
    if is_reading || !response.status().is_success() {
        return response;
    }
    match reach(Point::HttpAnswerBefore).await {
        Ok(()) => response,
        Err(_injected) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// A value as JSON.
///
/// # Errors
/// When a type of ours does not serialise, which is a bug.
pub fn to_json<T: Serialize>(value: &T) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| {
        tracing::error!(%error, "an answer does not serialise");
        Problem::new(&code::INTERNAL, "the answer could not be written")
    })
}
