//! What became of one attempt to reach another machine.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ids::ToolCallId;

/// The door an attempt came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressVia {
    /// `CONNECT` at the proxy.
    Connect,
    /// A plain HTTP request, at the proxy or at port 80.
    Http,
    /// A TLS connection to port 443, known by its server name.
    Tls,
    /// A name lookup.
    Dns,
    /// The tool `http_request`.
    Fetch,
}

/// One decision, for the audit trail and the run's events. It never holds a query string, a header
/// or a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRecord {
    /// The tool call under way.
    pub call_id: Option<ToolCallId>,
    /// The door.
    pub via: EgressVia,
    /// The host as canonical text, or as far as it could be read, bounded.
    pub host: String,
    /// The port.
    pub port: u16,
    /// HTTP method, where it could be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Whether it was let through.
    pub allowed: bool,
    /// The rule that allowed it, or the code of the reason that did not (`x-egress-reason`).
    pub reason: String,
    /// The address that was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Bytes sent to it.
    pub bytes_up: u64,
    /// Bytes received from it.
    pub bytes_down: u64,
    /// From the request to the end of the connection.
    pub duration_ms: u64,
    /// Names of the secrets that were put in.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub secrets: Vec<String>,
}
