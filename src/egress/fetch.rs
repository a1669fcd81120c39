//! Fetching inside the daemon, for the tool `http_request`.

use std::time::Duration;

use super::reason::Reason;

/// One request. Its parts come from a model: everything is checked here.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// HTTP method in upper case; not `CONNECT` and not `TRACE`.
    pub method: String,
    /// `http` or `https`.
    pub url: String,
    /// Headers; `{{secret:NAME}}` in a value stands for a bound secret. Those that frame or route
    /// the request are refused.
    pub headers: Vec<(String, String)>,
    /// The body; empty is none.
    pub body: Vec<u8>,
    /// For everything, redirects included.
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
