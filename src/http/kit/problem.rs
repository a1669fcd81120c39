//! The one error type of the HTTP edge (RFC 9457). It never carries a cause chain.

use std::{fmt::Write, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{auth::Denied, orchestrator::CommandError};

/// Characters of a detail; it may quote what the caller sent.
const DETAIL_CHARS_MAX: usize = 400;

/// A stable code with its status and title. `docs/errors` says what to do about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `<area>.<reason>`, a promise to programs.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The same short sentence each time.
    pub title: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $const:ident = $name:literal $status:ident $title:literal;)+) => {
        /// Every code that this layer gives.
        pub mod code {
            use super::{Code, StatusCode};
            $(
                $(#[$doc])*
                #[doc = $title]
                pub static $const: Code =
                    Code { name: $name, status: StatusCode::$status, title: $title };
            )+
            /// All of them.
            pub static ALL: &[&Code] = &[$(&$const),+];
        }
    };
}

codes! {
    MALFORMED = "request.malformed" BAD_REQUEST "The request cannot be read";
    KEY_INVALID = "idempotency.key_invalid" BAD_REQUEST "The Idempotency-Key is not valid";
    UNAUTHENTICATED = "auth.required" UNAUTHORIZED "A valid bearer token is needed";
    FORBIDDEN = "auth.forbidden" FORBIDDEN "Your role does not allow this";
    HOST = "host.refused" FORBIDDEN "This host name is not served here";
    ORIGIN = "origin.refused" FORBIDDEN "This origin may not call this API";
    NO_ROUTE = "route.not_found" NOT_FOUND "There is no such path";
    NO_RUN = "run.not_found" NOT_FOUND "There is no such run";
    NO_APPROVAL = "approval.not_found" NOT_FOUND "There is no such approval";
    NO_PATTERN = "approval.pattern_not_found" NOT_FOUND "There is no such pattern";
    NO_CONVERSATION = "conversation.not_found" NOT_FOUND "There is no such conversation";
    NO_EGRESS_RULE = "egress.not_found" NOT_FOUND "There is no such egress rule";
    NO_BACKUP = "backup.not_found" NOT_FOUND "There is no such backup";
    NO_BUDGET = "budget.not_found" NOT_FOUND "No such budget was set";
    NO_POLICY = "policy.not_found" NOT_FOUND "There is no such policy version, or no such decision";
    NO_PRINCIPAL = "principal.not_found" NOT_FOUND "There is no such principal";
    NO_HOLD = "hold.not_found" NOT_FOUND "There is no such legal hold";
    NO_ERASURE = "erasure.not_found" NOT_FOUND "There is no such erasure";
    NO_TOKEN = "token.not_found" NOT_FOUND "There is no such token";
    NO_PAIRING = "pairing.not_found" NOT_FOUND "No request to link an account waits with this code or id";
    NO_LINK = "link.not_found" NOT_FOUND "There is no such link";
    NOT_FOUND = "resource.not_found" NOT_FOUND "It does not exist";
    METHOD = "route.method_not_allowed" METHOD_NOT_ALLOWED "This path does not have that method";
    SLOW = "request.too_slow" REQUEST_TIMEOUT "The request took too long to arrive";
    TERMINAL = "run.terminal" CONFLICT "The run has ended";
    CONFLICT = "resource.conflict" CONFLICT "The current state does not allow this";
    TOO_LARGE = "request.too_large" PAYLOAD_TOO_LARGE "The body is too large";
    MEDIA_TYPE = "request.media_type" UNSUPPORTED_MEDIA_TYPE "The body must be JSON";
    INVALID = "request.invalid" UNPROCESSABLE_ENTITY "A field is not valid";
    POLICY_WRONG = "policy.invalid" UNPROCESSABLE_ENTITY "The policy's text is wrong";
    UNKNOWN_AGENT = "agent.unknown" UNPROCESSABLE_ENTITY "There is no such agent";
    MISMATCH = "idempotency.mismatch" UNPROCESSABLE_ENTITY
        "The Idempotency-Key was used for a different request";
    UPGRADE = "request.upgrade_required" UPGRADE_REQUIRED "This path speaks WebSocket";
    LOCKED = "auth.locked" TOO_MANY_REQUESTS "Too many failed attempts";
    OVERLOADED = "request.overloaded" TOO_MANY_REQUESTS "Too many requests at once";
    RATE_LIMITED = "rate_limited" TOO_MANY_REQUESTS "Too many requests in a minute";
    QUEUE_FULL = "queue.full" TOO_MANY_REQUESTS "The queue is full";
    INTERNAL = "internal.error" INTERNAL_SERVER_ERROR "The request failed inside the daemon";
    UNAVAILABLE = "store.unavailable" SERVICE_UNAVAILABLE "The store is not available";
    LOCKDOWN = "lockdown" SERVICE_UNAVAILABLE "The daemon is locked down";
    NO_CAPABILITY = "capability.not_found" NOT_FOUND "There is no such capability";
    STOPPING = "daemon.stopping" SERVICE_UNAVAILABLE "The daemon is stopping";
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What went wrong, for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
}

/// A problem as it is written, together with the request that it answers.
#[derive(Debug, Serialize)]
pub struct Written<'p> {
    r#type: String,
    title: &'p str,
    status: u16,
    detail: &'p str,
    code: &'p str,
    request_id: &'p str,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'p [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: &Code, detail: impl Into<String>) -> Self {
        Self::coded(code.status, code.name, code.title, detail.into())
    }

    fn coded(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        let detail = detail.chars().take(DETAIL_CHARS_MAX).collect();
        Self { status, code, title, detail, errors: Vec::new(), retry_after: None }
    }

    /// A body that is JSON but wrong at `pointer`.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(&code::INVALID, detail.clone()).at(pointer, detail)
    }

    /// Names a field.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into().chars().take(DETAIL_CHARS_MAX).collect();
        self.errors.push(FieldError { pointer: pointer.into(), detail });
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A refused command; `missing` is the answer where something does not exist.
    pub fn of_command(error: CommandError, missing: &Code) -> Self {
        match error {
            CommandError::NotFound { .. } => Self::new(missing, missing.title),
            CommandError::Forbidden(why) => Self::new(&code::FORBIDDEN, why),
            CommandError::Terminal => Self::new(&code::TERMINAL, error.to_string()),
            CommandError::Conflict { code, detail } => {
                Self::coded(StatusCode::CONFLICT, code, code::CONFLICT.title, detail)
            }
            CommandError::Invalid { code, pointer, detail } => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let problem = Self::coded(status, code, code::INVALID.title, detail.clone());
                match pointer {
                    Some(pointer) => problem.at(pointer, detail),
                    None => problem,
                }
            }
            CommandError::IdempotencyMismatch => Self::new(&code::MISMATCH, error.to_string()),
            CommandError::Full { retry_after, .. } => {
                Self::new(&code::QUEUE_FULL, error.to_string()).retry_after(retry_after)
            }
            CommandError::TooOften { detail, retry_after } => {
                Self::new(&code::RATE_LIMITED, detail).retry_after(retry_after)
            }
            CommandError::LockedDown => Self::new(&code::LOCKDOWN, error.to_string()),
            CommandError::Locked { retry_after } => {
                Self::new(&code::LOCKED, error.to_string()).retry_after(retry_after)
            }
            CommandError::Unavailable { retry_after, ref source } => {
                tracing::warn!(error = chain(source), "the store is not available");
                Self::new(&code::UNAVAILABLE, error.to_string()).retry_after(retry_after)
            }
            CommandError::Internal { ref source } => {
                tracing::error!(error = chain(source), "a command failed");
                Self::new(&code::INTERNAL, "the failure is in the log, under this request id")
            }
        }
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The fields that are wrong.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// How long to wait before trying again.
    pub const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// As it is written in answer to a request.
    pub fn written<'p>(&'p self, request_id: &'p str) -> Written<'p> {
        Written {
            r#type: format!("urn:agent-runtime:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id,
            errors: &self.errors,
            retry_after: self.retry_after.map(whole_secs),
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_secs(wait)));
        }
        if matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            // The rest of the body is not read: who sent it must not send another request behind it.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let detail = denied.to_string();
        match denied {
            Denied::UnknownAgent => {
                Self::new(&code::UNKNOWN_AGENT, detail.clone()).at("/agent", detail)
            }
            Denied::Role { .. }
            | Denied::AgentClosed { .. }
            | Denied::ApprovalRole { .. }
            | Denied::OwnRequest
            | Denied::Scope { .. }
            | Denied::Gone
            | Denied::OwnRights
            | Denied::WiderScopes => Self::new(&code::FORBIDDEN, detail),
        }
    }
}

/// The answer without its body: the edge writes that, since it knows the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.headers()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// An error with its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a String cannot fail.
        write!(text, ": {cause}").ok();
        next = cause.source();
    }
    text
}

/// Rounded up: zero would invite the caller to try at once.
fn whole_secs(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests;
