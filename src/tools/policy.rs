//! What operators set and ask of the network and the sandbox of tools, handed on to both, and how
//! they stop them all.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Tools;
use crate::{
    domain::{AgentName, HostPolicy, limits},
    egress::{Destination, Explanation, Reason},
    sandbox::{SandboxError, Session},
};

/// The code of a host whose addresses are refused.
pub const ADDRESS_REFUSED: &str = Reason::AddressRefused.as_str();

impl Tools {
    /// From now on the agent reaches this and no more; open connections beyond it are cut.
    pub fn set_host_policy(&self, agent: &AgentName, policy: Arc<HostPolicy>) {
        self.sessions.egress().set_policy(agent, policy);
    }

    /// What would become of a connection of this agent; connects to nothing.
    pub async fn explain(&self, agent: &AgentName, destination: &Destination) -> Explanation {
        self.sessions.egress().explain(agent, destination).await
    }

    /// Places for kept sandboxes that are free.
    pub fn sessions_free(&self) -> usize {
        self.sandbox.sessions_free()
    }

    /// Lets tools work for as long as a lease that was `confirmed` then holds: no call begins after
    /// ten seconds, and every process dies after twelve, even when this daemon stands still.
    ///
    /// # Errors
    /// When the kernel gives no timer for that.
    pub fn let_live(&self, confirmed: Instant) -> Result<(), SandboxError> {
        self.gate.let_in_until(confirmed + limits::REPLICA_FENCE);
        let left = (confirmed + limits::REPLICA_TOOLS).saturating_duration_since(Instant::now());
        self.sandbox.let_live(left)
    }

    /// From now on no call begins, those under way are told to stop, every connection is cut.
    /// [`Halting::done`] waits for the end of it.
    pub fn halt(&self) -> Halting {
        let calls = self.gate.shut();
        Halting { calls, idle: self.sessions.end_all() }
    }

    /// Calls may begin again.
    pub fn resume(&self) {
        self.gate.open();
    }

    /// Waits until no call is under way: of each that ended, no process is left. Cancel-safe.
    pub async fn is_idle(&self) {
        self.gate.is_empty().await;
    }
}

/// What is being stopped.
#[derive(Debug, Default)]
#[must_use = "the sandboxes die when it is dropped; `done` waits until they are gone"]
pub struct Halting {
    /// Calls that were under way.
    pub calls: usize,
    idle: Vec<Session>,
}

impl Halting {
    /// Sandboxes that no call used.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Waits until the sandboxes that no call used are gone.
    pub async fn done(self) {
        join_all(self.idle.into_iter().map(Session::close)).await;
    }
}
