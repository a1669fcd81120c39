//! What handlers take: the caller, ids, queries and bodies, checked before a handler runs.

use std::{str::FromStr, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::QueryRejection},
};
use http::{HeaderMap, Method, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use sha2::{Digest, Sha256};

use crate::{
    auth::{CallContext, authn::TokenRef},
    domain::limits,
    orchestrator::Idempotency,
};

use super::{
    limit,
    problem::{Problem, code},
};

/// Who sent the request, once the edge has recognised them.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who asks, in which request.
    pub cx: CallContext,
    /// By which token; long-lived connections ask again whether it stands.
    pub token: TokenRef,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// Who came through the admin door.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Who asks, in which request.
    pub cx: CallContext,
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// The answer to whoever is not recognised.
pub fn unauthenticated() -> Problem {
    Problem::new(&code::UNAUTHENTICATED, "send `Authorization: Bearer <token>` with a valid token")
}

/// The id in the path. A text that is no id names nothing, so it is answered like one that does
/// not exist.
#[derive(Debug)]
pub struct Id<T>(pub T);

impl<T: FromStr + Send, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.ok();
        let id = text.and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| {
            Problem::new(&code::NOT_FOUND, "nothing has this id; ids look like `run_<uuid>`")
        })
    }
}

/// The query, with unknown names refused where `T` says so.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|rejection| bad_query(&rejection))
    }
}

/// `Failed to deserialize query string: limit: invalid digit` → pointer `/limit`.
fn bad_query(rejection: &QueryRejection) -> Problem {
    let text = rejection.body_text();
    let detail = text.split_once(": ").map_or(text.as_str(), |(_, detail)| detail);
    let name = match detail.split_once(": ") {
        Some((name, _)) if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => name,
        Some(_) | None => named_field(detail).unwrap_or_default(),
    };
    Problem::invalid(format!("/{name}"), format!("in the query: {detail}"))
}

/// A request that acts: its typed body, and the key under which its answer is kept. No body at
/// all counts as `{}`.
#[derive(Debug)]
pub struct Command<T> {
    /// The body.
    pub body: T,
    /// The caller's key, if they gave one.
    pub idempotency: Option<Idempotency>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Command<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let key = idempotency_key(&parts.headers)?;
        let bytes = read(&parts.headers, body, limit::BODY_WAIT).await?;
        if !bytes.is_empty() && !is_json(&parts.headers) {
            let detail = "send the body as JSON, with `Content-Type: application/json`";
            return Err(Problem::new(&code::MEDIA_TYPE, detail));
        }
        let idempotency = key.map(|key| Idempotency {
            key,
            fingerprint: fingerprint(&parts.method, parts.uri.path(), &bytes),
        });
        let json = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
        Ok(Self { body: parse(json)?, idempotency })
    }
}

/// Reads a body within its bounds of size and time.
async fn read(headers: &HeaderMap, body: Body, wait: Duration) -> Result<bytes::Bytes, Problem> {
    let too_large = || {
        let detail = format!("a body has at most {} bytes", limits::BODY_BYTES_MAX);
        Problem::new(&code::TOO_LARGE, detail)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > limits::BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let collected = Limited::new(body, limits::BODY_BYTES_MAX).collect();
    match tokio::time::timeout(wait, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(&code::MALFORMED, "the body ended early")),
        Err(_) => Err(Problem::new(&code::SLOW, "the body took too long to arrive")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(key) if values.next().is_none() && is_key(key) => Ok(Some(key.to_owned())),
        Ok(_) | Err(_) => Err(key_invalid()),
    }
}

/// Whether a text can be an idempotency key.
pub fn is_key(key: &str) -> bool {
    (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_graphic())
}

/// The answer to a key that is none.
pub fn key_invalid() -> Problem {
    let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
    let detail = format!("one Idempotency-Key, 1 to {max} visible ASCII characters");
    Problem::new(&code::KEY_INVALID, detail)
}

/// What tells two requests under one key apart: SHA-256 over method, path and body.
pub fn fingerprint(method: &Method, path: &str, body: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(method.as_str())
        .chain_update([0])
        .chain_update(path)
        .chain_update([0])
        .chain_update(body)
        .finalize();
    data_encoding::HEXLOWER.encode(&digest)
}

/// Reads JSON into `T`: 400 where it is no JSON, 422 with a pointer where it is not `T`.
///
/// # Errors
/// A [`Problem`] with one of the two.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    let mut source = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let pointer = pointer_of(error.path());
        of_json(&pointer, error.inner())
    })?;
    match source.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(of_json("", &error)),
    }
}

/// As [`parse`], from a value that was read already.
///
/// # Errors
/// As [`parse`].
pub fn typed<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer_of(error.path());
        of_json(&pointer, error.inner())
    })
}

fn of_json(pointer: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    match error.classify() {
        Category::Data => {
            // serde_json adds " at line 1 column 9", which a pointer says better.
            let detail = text.split_once(" at line ").map_or(text.as_str(), |(head, _)| head);
            let pointer = match named_field(detail) {
                Some(field) if !pointer.ends_with(&format!("/{}", escaped(field))) => {
                    format!("{pointer}/{}", escaped(field))
                }
                Some(_) | None => pointer.to_owned(),
            };
            Problem::invalid(pointer, detail)
        }
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::new(&code::MALFORMED, format!("the body is not JSON: {text}"))
        }
    }
}

/// The field that serde's message is about: "missing field `x`", "unknown field `x`, …".
fn named_field(detail: &str) -> Option<&str> {
    let about =
        ["missing field `", "unknown field `"].iter().find_map(|head| detail.strip_prefix(head))?;
    about.split_once('`').map(|(field, _)| field)
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        let name = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => escaped(key),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&name);
    }
    pointer
}

/// RFC 6901: `~` and `/` in a name are written `~0` and `~1`.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
