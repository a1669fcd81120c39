//! The way of a tool to other machines: every connection, request and name lookup is decided here,
//! and nowhere else.
//!
//! Invariants: it knows agents by name and runs by an opaque id, and nothing else of them. One
//! function decides for every door ([`decide`]); what it does not allow in so many words, or cannot
//! find out in time, is refused. The address that was checked is the one that is dialled. Every
//! decision makes exactly one record. See docs/EGRESS.md.

mod address;
mod channel;
mod dns;
mod fetch;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head;
mod hello;
mod options;
mod reason;
mod record;
mod template;

pub use channel::{Channel, Doors};
pub use fetch::{FetchError, FetchRequest, FetchResponse};
pub use options::{BoundSecret, EgressError, Options, Upstream};
pub use reason::{Quota, Reason};
pub use record::{OnRecord, Traffic};

use std::{net::IpAddr, sync::Arc};

use crate::{
    domain::{AgentName, EgressLimits, HostPolicy},
    runtime::Tasks,
};

/// Every agent's way out. Clones share it.
#[derive(Clone)]
pub struct Egress {
    inner: Arc<Inner>,
}

struct Inner {
    tasks: Tasks,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

/// What `egress test` asks about.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The host, as a person writes it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// An HTTP method and a path, for rules that name them. `None` asks about a TLS tunnel.
    pub request: Option<(String, String)>,
}

/// The decision about a [`Destination`] and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The host in its canonical form, where it has one.
    pub host: String,
    /// The rule that allows it, as the operator writes it; or what refuses it.
    pub decision: Result<String, Reason>,
    /// Every address of the host, if rules allow it, and why it may not be dialled.
    pub addresses: Vec<(IpAddr, Option<&'static str>)>,
    /// One sentence for a person: the decision and what changes it.
    pub text: String,
}

impl Egress {
    /// Makes the machinery; no agent reaches anything before [`Egress::set_policy`].
    ///
    /// # Errors
    /// When the system's resolver configuration cannot be read, or a setting cannot work.
    pub fn new(options: Options, tasks: &Tasks) -> Result<Self, EgressError> {
        drop(options);
        Ok(Self { inner: Arc::new(Inner { tasks: tasks.clone() }) })
    }

    /// Sets an agent's live policy. A decision needs the call's policy and this one to allow; an
    /// agent that was never set reaches nothing. Open connections that it no longer allows are cut.
    pub fn set_policy(&self, agent: &AgentName, policy: Arc<HostPolicy>) {
        drop((agent.clone(), policy));
    }

    /// A run's channel. Quotas count over its life.
    pub fn open(&self, agent: AgentName, run: String, limits: EgressLimits) -> Channel {
        drop(self.inner.tasks.clone());
        Channel::new(agent, run, limits)
    }

    /// What the live policy would decide, without a call and without connecting; names are
    /// resolved if rules allow them.
    pub async fn explain(&self, agent: &AgentName, destination: &Destination) -> Explanation {
        drop(agent.clone());
        Explanation {
            host: destination.host.clone(),
            decision: Err(Reason::NoPolicy),
            addresses: Vec::new(),
            text: String::new(),
        }
    }
}
