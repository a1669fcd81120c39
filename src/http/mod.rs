//! People and programs reach us here: REST, server-sent events and WebSocket over HTTP/1.1.
//!
//! Invariants: a handler reads, or makes one command, nothing longer. Nothing here decides what is
//! allowed (`auth` does) or keeps state that a restart would lose. Tokens are never read from a
//! query and never logged.

pub mod admin;
pub mod api;
pub mod kit;
pub mod metrics;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    auth::{Authenticator, Authorizer},
    domain::{Clock, IdSource},
    orchestrator::Orchestrator,
    runtime::Tasks,
};

pub use api::{Info, ROUTES, ToolView};
pub use kit::serve::ListenError;

/// Where and for whom to listen.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address; port 0 picks one.
    pub addr: SocketAddr,
    /// Host names, without port, that are served besides loopback and the address called;
    /// `*` for every name.
    pub hosts: Vec<String>,
    /// Origins that browsers may call from, such as `https://console.example`. Empty: none.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Open connections.
    pub connections_max: usize,
    /// Requests in progress at once.
    pub requests_max: usize,
}

impl Options {
    /// The defaults, on this address.
    pub fn on(addr: SocketAddr) -> Self {
        Self {
            addr,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            connections_max: kit::limit::CONNECTIONS_MAX,
            requests_max: kit::limit::REQUESTS_MAX,
        }
    }
}

/// What the listener is built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Runs agents.
    pub orchestrator: Orchestrator,
    /// Who is this?
    pub authenticator: Authenticator,
    /// May they?
    pub authorizer: Authorizer,
    /// Ids of requests.
    pub ids: IdSource,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What `/api/v1/tools` shows.
    pub tools: Vec<ToolView>,
    /// What `/api/v1/info` shows.
    pub info: Info,
}

/// Opens the listener and serves the API until the daemon stops. Returns the address that was
/// bound.
///
/// # Errors
/// When the address cannot be had.
pub async fn start(
    options: Options,
    parts: Parts,
    tasks: &Tasks,
) -> Result<SocketAddr, ListenError> {
    let (listener, bound) = kit::serve::listen(options.addr).await?;
    let connections_max = options.connections_max;
    let app = api::router(options, parts, tasks);
    kit::serve::serve(listener, app, connections_max, tasks);
    Ok(bound)
}
