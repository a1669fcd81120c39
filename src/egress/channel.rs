//! A run's channel: its doors, its quotas, the call under way.

use std::{
    net::{TcpListener, UdpSocket},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{
    fetch::{FetchError, FetchRequest, FetchResponse},
    record::Traffic,
};
use crate::domain::{AgentName, EgressLimits, HostPolicy, ToolCallId};

/// The sockets that a sandbox made inside its network namespace: nonblocking.
#[derive(Debug)]
pub struct Doors {
    /// Where proxy variables point to.
    pub proxy: TcpListener,
    /// Port 80 of every address.
    pub http: TcpListener,
    /// Port 443 of every address.
    pub https: TcpListener,
    /// Name lookups.
    pub dns: UdpSocket,
}

/// One run's way out. Clones share it.
#[derive(Clone, Debug)]
pub struct Channel {
    agent: AgentName,
    run: String,
    limits: EgressLimits,
}

impl Channel {
    pub(super) fn new(agent: AgentName, run: String, limits: EgressLimits) -> Self {
        Self { agent, run, limits }
    }

    /// Serves these doors until the channel is closed. May be called again when the run gets
    /// another sandbox.
    ///
    /// # Errors
    /// When a socket cannot be served.
    pub fn listen(&self, doors: Doors) -> std::io::Result<()> {
        drop((doors, &self.agent, &self.run, self.limits));
        Ok(())
    }

    /// A call begins: what comes through the doors is its, decided by this policy and the agent's
    /// live one. A call that was under way is ended.
    pub fn begin(&self, call_id: ToolCallId, policy: Arc<HostPolicy>) {
        drop((call_id, policy));
    }

    /// The call is over: its connections are cut, its records returned.
    pub fn end(&self) -> Traffic {
        Traffic::default()
    }

    /// The run is over: everything is cut, nothing is served any more.
    pub fn close(&self) {}

    /// Carries out the tool `http_request` as part of the call under way: each hop is decided like
    /// a connection of a tool. Ends when `stop` is cancelled or the call ends. Dropping it closes
    /// the connection.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(
        &self,
        request: FetchRequest,
        stop: CancellationToken,
    ) -> Result<FetchResponse, FetchError> {
        drop((request, stop));
        Err(FetchError::Stopped)
    }
}
