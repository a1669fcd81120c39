//! The only way from a tool to another machine: every connection, request and name lookup is
//! decided here, and nowhere else.
//!
//! Invariants: it knows agents by name and runs by an opaque id, and nothing else of them. One
//! function decides for every door (`decide.rs`); what it does not allow in so many words, cannot
//! read without doubt or cannot find out in time, is refused. The address that was checked is the
//! one that is dialled. Every decision makes exactly one record. See docs/EGRESS.md.

mod address;
mod body;
mod call;
mod channel;
mod decide;
mod dial;
mod dns;
mod explain;
mod fetch;
mod fetch_client;
mod fetch_url;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head;
mod hello;
mod meter;
mod name_server;
mod options;
mod plain;
mod proxy;
mod quota;
mod reason;
mod record;
mod resolve;
mod response;
mod secrets;
mod template;
mod tunnel;

pub use channel::{Channel, Doors, Serving};
pub use explain::{Destination, Explanation};
pub use fetch::{FetchError, FetchRequest, FetchResponse};
pub use options::{BoundSecret, EgressError, Options, Timeouts, Upstream, UpstreamError};
pub use reason::{Quota, Reason};
pub use record::{OnRecord, Traffic};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rustls::ClientConfig;
use tokio::sync::{Semaphore, watch};

use crate::{
    domain::{AgentName, EgressLimits, HostPolicy},
    runtime::{Tasks, tasks::lock},
};
use resolve::Resolver;
use secrets::Secrets;

/// Connections from all sandboxes together: each needs two descriptors of the daemon.
const INBOUND_MAX: usize = 1_024;

/// An agent's policy as it is now; `None` until it is set.
type Live = Option<Arc<HostPolicy>>;

/// Every agent's way out. Clones share it.
#[derive(Clone)]
pub struct Egress {
    shared: Arc<Shared>,
}

/// What all channels share.
struct Shared {
    tasks: Tasks,
    resolver: Resolver,
    upstream: Option<Upstream>,
    secrets: Secrets,
    timeouts: Timeouts,
    tls: Arc<ClientConfig>,
    on_record: OnRecord,
    agents: Mutex<HashMap<AgentName, watch::Sender<Live>>>,
    inbound: Arc<Semaphore>,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

impl Egress {
    /// Makes the machinery; no agent reaches anything before [`Egress::set_policy`].
    ///
    /// # Errors
    /// When a setting cannot work.
    pub fn new(options: Options, tasks: &Tasks) -> Result<Self, EgressError> {
        let shared = Shared {
            tasks: tasks.clone(),
            resolver: Resolver::new(&options.name_servers, options.connect_to)?,
            upstream: options.upstream,
            secrets: Secrets::checked(options.secrets)?,
            timeouts: options.timeouts,
            tls: fetch_client::tls(options.extra_roots)?,
            on_record: options.on_record,
            agents: Mutex::default(),
            inbound: Arc::new(Semaphore::new(INBOUND_MAX)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sets an agent's live policy. A decision needs the call's policy and this one to allow; an
    /// agent that was never set reaches nothing. Open connections that it no longer allows are cut.
    pub fn set_policy(&self, agent: &AgentName, policy: Arc<HostPolicy>) {
        self.shared.live(agent, |sender| {
            sender.send_replace(Some(policy));
        });
    }

    /// Puts other secrets in the place of those that placeholders stood for.
    ///
    /// # Errors
    /// When one cannot stand in a header; then nothing changes.
    pub fn set_secrets(&self, secrets: Vec<BoundSecret>) -> Result<(), EgressError> {
        self.shared.secrets.replace(secrets)
    }

    /// A run's channel. Quotas count over its life. It closes with its last clone.
    pub fn open(&self, agent: AgentName, run: String, limits: EgressLimits) -> Channel {
        let live = self.shared.live(&agent, watch::Sender::subscribe);
        Channel::new(Arc::clone(&self.shared), agent, run, limits, live)
    }

    /// What the live policy would decide, without a call and without connecting; the name is looked
    /// up only if rules allow it.
    pub async fn explain(&self, agent: &AgentName, destination: &Destination) -> Explanation {
        let live = self.shared.live(agent, |sender| sender.borrow().clone());
        explain::explain(&self.shared.resolver, agent, live.as_deref(), destination).await
    }
}

impl Shared {
    fn live<T>(&self, agent: &AgentName, f: impl FnOnce(&watch::Sender<Live>) -> T) -> T {
        let mut agents = lock(&self.agents);
        f(agents.entry(agent.clone()).or_insert_with(|| watch::channel(None).0))
    }
}
