//! Fetching inside the daemon, for the tool `http_request`.
//!
//! Invariants: every hop is a decision and a record of its own; what comes back is bounded in
//! bytes and time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};

use super::{
    call::{self, Cut, Visit},
    fetch_client,
    fetch_url::Hop,
    meter::Meter,
    reason::Reason,
    record::Attempt,
};
use crate::domain::{EgressVia, host::Destination};

/// Redirects that are followed.
const HOPS_MAX: u32 = 5;
/// For everything, whatever the request says.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Headers of a response.
const HEADERS_MAX: usize = 100;
/// Bytes of a response's headers.
const HEADER_BYTES_MAX: usize = 32 << 10;

/// One request. Its parts come from a model: everything is checked here.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// HTTP method in upper case; not `CONNECT`, `TRACE` or `TRACK`.
    pub method: String,
    /// `http` or `https`.
    pub url: String,
    /// Headers; `{{secret:NAME}}` in a value stands for a bound secret. Those that frame or route
    /// the request are refused; `Accept-Encoding` is left out.
    pub headers: Vec<(String, String)>,
    /// The body; empty is none.
    pub body: Vec<u8>,
    /// For everything, redirects included; at most 600 s.
    pub timeout: Duration,
    /// Body of the response, in bytes; the rest is cut off and flagged.
    pub response_bytes_max: usize,
}

/// What came back from the last hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    /// Status code.
    pub status: u16,
    /// Where it came from, after redirects.
    pub final_url: String,
    /// Headers, at most 100 and 32 KiB; values that are not text are left out.
    pub headers: Vec<(String, String)>,
    /// Body, as the server sent it.
    pub body: Vec<u8>,
    /// Whether the body was longer.
    pub truncated: bool,
    /// Redirects that were followed.
    pub hops: u32,
}

impl FetchResponse {
    /// The body as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Refused, or the destination could not be reached.
    #[error("{sentence}")]
    Refused {
        /// The code.
        reason: Reason,
        /// For a person or a model.
        sentence: String,
    },
    /// The request makes no sense; nothing was sent.
    #[error("the request is not valid: {what}")]
    Invalid {
        /// Which part.
        what: &'static str,
    },
    /// A redirect that may not be followed.
    #[error("the redirect was not followed: {what}")]
    Redirect {
        /// Why.
        what: &'static str,
    },
    /// The server's certificate or the handshake was refused.
    #[error("no trusted TLS connection could be made")]
    Tls {
        /// What was wrong.
        #[source]
        source: std::io::Error,
    },
    /// The server broke off or does not speak HTTP/1.1.
    #[error("the server's answer could not be read")]
    Broken {
        /// What happened.
        #[source]
        source: hyper::Error,
    },
    /// The time for the whole request is over.
    #[error("no whole answer came within {secs} s")]
    Timeout {
        /// The bound.
        secs: u64,
    },
    /// It was asked to stop, or the call ended.
    #[error("the request was stopped")]
    Stopped,
}

impl FetchError {
    /// A refusal without a host that could be named.
    pub(super) fn refused(reason: Reason) -> Self {
        Self::Refused { reason, sentence: reason.sentence("", "the host of the URL", 443) }
    }
}

/// Carries out a request and follows its redirects.
pub(super) async fn fetch(
    visit: Visit,
    request: FetchRequest,
) -> Result<FetchResponse, FetchError> {
    let timeout = request.timeout.min(TIMEOUT_MAX);
    let bytes_max = request.response_bytes_max;
    let first = Hop::first(request);
    if let Err(FetchError::Refused { reason, .. }) = &first {
        visit.attempt(EgressVia::Fetch, "", 443, None).deny(*reason);
    }
    let mut hop = first?;
    let following = async {
        let mut hops = 0;
        loop {
            match one(&visit, &hop, bytes_max, hops).await? {
                Answer::Response(response) => return Ok(response),
                Answer::Redirect(_) if hops == HOPS_MAX => {
                    return Err(FetchError::Redirect { what: "there are too many" });
                }
                Answer::Redirect(next) => hop = *next,
            }
            hops += 1;
        }
    };
    let fetched = tokio::time::timeout(timeout, following).await;
    fetched.unwrap_or(Err(FetchError::Timeout { secs: timeout.as_secs() }))
}

enum Answer {
    Response(FetchResponse),
    Redirect(Box<Hop>),
}

/// One hop: a decision, a connection, a record.
async fn one(visit: &Visit, hop: &Hop, bytes_max: usize, hops: u32) -> Result<Answer, FetchError> {
    let (method, target) = (hop.method.as_str(), hop.target());
    let to = Destination::request(&hop.host, hop.port, method, hop.url.path());
    let attempt = visit.attempt(EgressVia::Fetch, hop.host.as_str(), hop.port, Some(method));
    let prepared = fetch_client::prepare(visit, &attempt, hop, &to, &target).await;
    let (connected, request) = prepared.map_err(|refusal| {
        attempt.deny(refusal.reason);
        FetchError::Refused { reason: refusal.reason, sentence: refusal.text }
    })?;
    let (meter, needs) = (Arc::clone(&connected.meter), connected.needs);
    let work = async {
        let (response, connection) = fetch_client::send(visit, hop, connected, request).await?;
        if let Some(next) = hop.next(response.status().as_u16(), response.headers())? {
            return Ok(Answer::Redirect(Box::new(next)));
        }
        let response = received(hop, response, bytes_max, hops).await?;
        drop(connection);
        Ok(Answer::Response(response))
    };
    let ended = visit.while_allowed(&to, (&*meter, needs), Box::pin(work)).await;
    finish(visit, &attempt, &meter, &to, ended)
}

/// Makes the record and the answer of one hop.
fn finish(
    visit: &Visit,
    attempt: &Attempt,
    meter: &Meter,
    to: &Destination<'_>,
    ended: Result<Result<Answer, FetchError>, Cut>,
) -> Result<Answer, FetchError> {
    call::settle(attempt, meter, &ended);
    let reason = match &ended {
        Err(Cut::Revoked(reason)) => Some(*reason),
        Ok(Err(_)) => meter.exceeded(),
        Ok(Ok(_)) | Err(Cut::Idle) => None,
    };
    if let Some(reason) = reason {
        let refusal = visit.refusal(reason, to.host.as_str(), to.port);
        return Err(FetchError::Refused { reason, sentence: refusal.text });
    }
    ended.unwrap_or(Err(FetchError::Timeout { secs: visit.shared.timeouts.idle.as_secs() }))
}

async fn received(
    hop: &Hop,
    response: Response<Incoming>,
    bytes_max: usize,
    hops: u32,
) -> Result<FetchResponse, FetchError> {
    let (head, mut rest) = response.into_parts();
    let mut body = Vec::new();
    let mut truncated = false;
    while let Some(frame) = rest.frame().await {
        let Ok(data) = frame.map_err(|source| FetchError::Broken { source })?.into_data() else {
            continue;
        };
        let room = bytes_max.saturating_sub(body.len());
        truncated = data.len() > room;
        let data: Bytes = data.slice(..room.min(data.len()));
        body.extend_from_slice(&data);
        if truncated {
            break;
        }
    }
    let mut headers = Vec::new();
    let mut bytes = 0;
    for (name, value) in &head.headers {
        let Ok(value) = value.to_str() else { continue };
        bytes += name.as_str().len() + value.len();
        if headers.len() == HEADERS_MAX || bytes > HEADER_BYTES_MAX {
            break;
        }
        headers.push((name.as_str().to_owned(), value.to_owned()));
    }
    let mut url = hop.url.clone();
    url.set_fragment(None);
    let (status, final_url) = (head.status.as_u16(), url.to_string());
    Ok(FetchResponse { status, final_url, headers, body, truncated, hops })
}
