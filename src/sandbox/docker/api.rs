//! The Docker engine's API over its unix socket, as little of it as is needed.
//!
//! Invariants: one connection per request, in HTTP/1.0, so that an answer ends where the
//! connection ends; answers and waits are bounded. No client program is started: nothing of a call
//! passes through a command line, and a stream that is dropped is closed at once.

use std::{path::PathBuf, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::runtime::failpoint::{Point, reach};

/// How long one request may take; making a container is the longest.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Longest words of the engine that are passed on.
const MESSAGE_CHARS_MAX: usize = 400;

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error(
        "cannot connect to the docker engine at {}: {cause} (is it installed and running, and \
         may this user open the socket?)",
        socket.display()
    )]
    Unreachable { socket: PathBuf, cause: std::io::Error },
    #[error("the docker engine gave no answer to `{doing}` in {REQUEST_MAX:?}")]
    Silent { doing: &'static str },
    #[error("the docker engine's answer to `{doing}` is not understood: {why}")]
    Strange { doing: &'static str, why: &'static str },
    #[error("the docker engine refused to {doing} ({status}): {message}")]
    Refused { doing: &'static str, status: u16, message: String },
}

impl ApiError {
    /// Whether the thing that was asked about is not there, or no longer runs.
    pub(super) const fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: 404 | 409, .. })
    }
}

/// An answer, read whole.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// The engine behind one socket.
#[derive(Clone, Debug)]
pub(super) struct Api {
    socket: PathBuf,
}

impl Api {
    pub(super) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks for something to be read.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &str,
    ) -> Result<T, ApiError> {
        let body = self.ask(doing, "GET", path, None).await?;
        read_json(doing, &body)
    }

    /// Asks for something to be made, and reads what is told of it.
    pub(super) async fn make<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &str,
        what: &Value,
    ) -> Result<T, ApiError> {
        let body = self.ask(doing, "POST", path, Some(what)).await?;
        read_json(doing, &body)
    }

    /// Asks for something to be done.
    pub(super) async fn act(
        &self,
        doing: &'static str,
        method: &str,
        path: &str,
    ) -> Result<(), ApiError> {
        self.ask(doing, method, path, None).await.map(drop)
    }

    /// The lines of an answer that holds one JSON value per line.
    pub(super) async fn lines(&self, doing: &'static str, path: &str) -> Result<usize, ApiError> {
        let body = self.ask(doing, "GET", path, None).await?;
        Ok(body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count())
    }

    /// Turns a request's connection into a stream, and gives what had come already.
    pub(super) async fn hijack(
        &self,
        doing: &'static str,
        path: &str,
        what: Option<&Value>,
    ) -> Result<(UnixStream, Vec<u8>), ApiError> {
        let mut stream = self.send(doing, "POST", path, what).await?;
        let head = async {
            let mut bytes = Vec::new();
            while head_end(&bytes).is_none() && bytes.len() < HEAD_BYTES_MAX {
                let count = stream.read_buf(&mut bytes).await.unwrap_or(0);
                if count == 0 {
                    break;
                }
            }
            bytes
        };
        let bytes = timeout(REQUEST_MAX, head).await.ok().ok_or(ApiError::Silent { doing })?;
        let answer = parse(doing, bytes)?;
        if answer.status == 200 || answer.status == 101 {
            return Ok((stream, answer.body));
        }
        let mut body = answer.body;
        let mut rest = stream.take(ANSWER_BYTES_MAX);
        if timeout(REQUEST_MAX, rest.read_to_end(&mut body)).await.is_err() {
            return Err(ApiError::Silent { doing });
        }
        Err(refused(doing, answer.status, &body))
    }

    async fn ask(
        &self,
        doing: &'static str,
        method: &str,
        path: &str,
        what: Option<&Value>,
    ) -> Result<Vec<u8>, ApiError> {
        let exchange = async {
            let stream = self.send(doing, method, path, what).await?;
            let mut bytes = Vec::new();
            let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await;
            read.ok().ok_or(ApiError::Strange { doing, why: "it broke off" })?;
            parse(doing, bytes)
        };
        let answer =
            timeout(REQUEST_MAX, exchange).await.ok().ok_or(ApiError::Silent { doing })??;
        match answer.status {
            200..=299 => Ok(answer.body),
            status => Err(refused(doing, status, &answer.body)),
        }
    }

    async fn send(
        &self,
        doing: &'static str,
        method: &str,
        path: &str,
        what: Option<&Value>,
    ) -> Result<UnixStream, ApiError> {
        let unreachable = |cause| ApiError::Unreachable { socket: self.socket.clone(), cause };
        let body = what.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            reach(Point::SandboxBuildBefore).await?;
            stream.write_all(request.as_bytes()).await?;
            reach(Point::SandboxBuildAfter).await?;
            Ok::<_, std::io::Error>(stream)
        };
        let sent = timeout(REQUEST_MAX, exchange).await.ok().ok_or(ApiError::Silent { doing })?;
        sent.map_err(unreachable)
    }
}

/// Text as it stands in a query.
pub(super) fn in_query(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// Takes the head off; only its status counts, since the body ends with the connection.
fn parse(doing: &'static str, mut bytes: Vec<u8>) -> Result<Answer, ApiError> {
    let strange = |why| ApiError::Strange { doing, why };
    let end = head_end(&bytes).ok_or_else(|| strange("it is no HTTP"))?;
    let body = bytes.split_off(end);
    let status = std::str::from_utf8(&bytes)
        .ok()
        .filter(|head| head.starts_with("HTTP/1."))
        .and_then(|head| head.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| strange("it is no HTTP"))?;
    Ok(Answer { status, body })
}

fn refused(doing: &'static str, status: u16, body: &[u8]) -> ApiError {
    let said = serde_json::from_slice::<Value>(body).ok();
    let message = said.as_ref().and_then(|v| v.get("message")?.as_str()).unwrap_or("no reason");
    let message = message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect();
    ApiError::Refused { doing, status, message }
}

fn read_json<T: DeserializeOwned>(doing: &'static str, body: &[u8]) -> Result<T, ApiError> {
    let read = serde_json::from_slice(body).ok();
    read.ok_or(ApiError::Strange { doing, why: "it is not the expected JSON" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_what_follows_the_head() {
        let answer = parse("x", b"HTTP/1.0 201 Created\r\nA: b\r\n\r\n{\"a\":1}\r\n\r\n".to_vec());
        let answer = answer.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (201, &b"{\"a\":1}\r\n\r\n"[..]));
        for bad in ["", "HTTP/1.0 200 OK\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.0 abc\r\n\r\n"] {
            assert!(parse("x", bad.as_bytes().to_vec()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_engines_words_are_bounded_and_on_one_line() {
        let body = format!("{{\"message\":\"no\\nway {}\"}}", "x".repeat(10_000));
        let text = refused("try", 500, body.as_bytes()).to_string();
        assert!(text.starts_with("the docker engine refused to try (500): noway x"), "{text}");
        assert!(text.len() < 500);
        assert!(refused("try", 404, b"<html>").is_gone());
        assert!(!refused("try", 500, b"").is_gone());
    }

    #[tokio::test]
    async fn a_missing_engine_is_named() {
        let api = Api::new("/nowhere/docker.sock".into());
        let error = api.get::<Value>("look", "/version").await.unwrap_err().to_string();
        assert!(error.contains("cannot connect") && error.contains("/nowhere/docker.sock"));
    }
}
