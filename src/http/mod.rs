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
    auth::{Authenticator, Authorizer, RequestRates},
    domain::{Clock, IdSource, limits},
    orchestrator::Orchestrator,
    runtime::Tasks,
};

pub use api::{Info, ROUTES, ToolView};
use kit::serve::Caps;
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
    /// Of them from one address that is no trusted proxy.
    pub connections_per_address: usize,
    /// WebSockets.
    pub websockets_max: usize,
    /// Of them those of one principal.
    pub websockets_per_principal: usize,
    /// Event streams of one principal.
    pub streams_per_principal: usize,
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
            connections_per_address: kit::limit::CONNECTIONS_MAX / 2,
            websockets_max: limits::WEBSOCKETS_MAX,
            websockets_per_principal: limits::WEBSOCKETS_MAX / 2,
            streams_per_principal: kit::limit::CONNECTIONS_MAX / 4,
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
    /// How often may they ask?
    pub rates: RequestRates,
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
    let caps = Caps {
        connections: options.connections_max,
        per_address: options.connections_per_address,
        exempt: options.trusted_proxies.clone(),
    };
    let app = api::router(options, parts, tasks);
    kit::serve::serve(listener, app, caps, tasks);
    Ok(bound)
}
