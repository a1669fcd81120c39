//! The head of an HTTP/1 request, read strictly and written anew.
//!
//! Invariants: the server behind sees a head that we wrote from what we understood, never bytes of
//! the client that we only let pass; where two programs could read two requests out of the same
//! bytes (request smuggling), there is none. Sources: RFC 9110, RFC 9112. Pure.

mod forward;
mod parse;
#[cfg(test)]
mod tests;

use super::reason::Reason;
use crate::domain::{
    HostName,
    host::{HostError, RuleError},
};

/// Bytes of a head, request line included.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;
/// Fields in a head.
pub(crate) const HEADERS_MAX: usize = 100;

/// How the client named its target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetForm {
    /// `GET /path`: as to a server. The host is that of `Host`.
    Origin,
    /// `GET http://host/path`: as to a proxy.
    Absolute,
    /// `CONNECT host:port`.
    Authority,
}

/// How the body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A request's head, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// In upper case.
    pub(crate) method: String,
    /// How the target was named.
    pub(crate) form: TargetForm,
    /// The host.
    pub(crate) host: HostName,
    /// The port, 80 where none was named.
    pub(crate) port: u16,
    /// Path with query, beginning with a slash; empty for `CONNECT`.
    pub(crate) target: String,
    /// The end-to-end fields, names in lower case. Without host, framing and everything that is
    /// meant for a proxy.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

impl Request {
    /// Whether a tunnel is asked for.
    pub(crate) fn is_connect(&self) -> bool {
        self.form == TargetForm::Authority
    }

    /// The path without its query: what rules see and records show.
    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}

/// Why a head is refused. The texts hold names of fields, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// More than 16 KiB, or than 100 fields.
    #[error("the head has more than {HEAD_BYTES_MAX} bytes or {HEADERS_MAX} fields")]
    TooLarge,
    /// The bytes are no request line and fields.
    #[error("this is not an HTTP/1.0 or HTTP/1.1 request: {0}")]
    Malformed(&'static str),
    /// The scheme is not `http`.
    #[error("only `http://` goes through the proxy as a request; use CONNECT for `https://`")]
    Scheme,
    /// The host is none.
    #[error("the target names no host: {0}")]
    BadHost(#[source] HostError),
    /// The port is none.
    #[error("the target names no port: {0}")]
    BadPort(#[source] RuleError),
    /// No `Host`, or several.
    #[error("there must be exactly one Host field")]
    HostCount,
    /// `Host` names another host or port than the target.
    #[error("the Host field and the target name two hosts or ports")]
    HostMismatch,
    /// The body's length could be read in two ways.
    #[error("the body's length is unclear: {0}")]
    Framing(&'static str),
    /// A field that cannot be honoured.
    #[error("the field {0} has a value that is not understood here")]
    Field(&'static str),
    /// A field that was put in cannot be sent.
    #[error("a field that was put in cannot be sent: its name or value holds control characters")]
    Unsendable,
}

impl HeadError {
    /// What clients, records and metrics are told.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::BadHost(_) => Reason::BadHost,
            Self::HostMismatch => Reason::HostMismatch,
            Self::TooLarge
            | Self::Malformed(_)
            | Self::Scheme
            | Self::BadPort(_)
            | Self::HostCount
            | Self::Framing(_)
            | Self::Field(_)
            | Self::Unsendable => Reason::BadRequest,
        }
    }
}

/// Reads a head from the first bytes of a connection: the request and how many bytes it took;
/// `None` while more are needed.
///
/// # Errors
///
/// Everything that is not one clear request. Nothing more may be read from the connection then.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, HeadError> {
    parse::read(bytes)
}
