//! What operators set and ask of the network and the sandbox of tools, handed on to both.

use std::sync::Arc;

use super::Tools;
use crate::{
    domain::{AgentName, HostPolicy},
    egress::{Destination, Explanation, Reason},
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
}
