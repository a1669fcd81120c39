//! The call under way, and what one connection of it may do.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Live, Shared,
    decide::{Allowed, Needs, Permitted, Policies, Refusal},
    dial::{Carries, dial},
    meter::{Meter, Metered},
    quota::Quotas,
    reason::Reason,
    record::{Attempt, Log},
};
use crate::domain::{AgentName, EgressVia, HostName, HostPolicy, host::Destination};

/// A tool call, or the time between two of them.
pub(super) struct Call {
    pub(super) agent: AgentName,
    /// `None` between calls: nothing is allowed.
    pub(super) policy: Option<Arc<HostPolicy>>,
    pub(super) live: watch::Receiver<Live>,
    pub(super) log: Arc<Log>,
    /// Cancelled when the call is over.
    pub(super) stop: CancellationToken,
}

/// One connection, lookup or request of a call.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) shared: Arc<Shared>,
    pub(super) quotas: Arc<Quotas>,
    pub(super) call: Arc<Call>,
}

/// A connection to where it was allowed.
pub(super) struct Connected {
    pub(super) stream: Metered,
    pub(super) meter: Arc<Meter>,
    /// An upstream proxy is at the other end.
    pub(super) is_proxied: bool,
    pub(super) needs: Needs,
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing moved for too long.
    Idle,
    /// A policy that is in force now refuses it.
    Revoked(Reason),
}

impl Visit {
    pub(super) fn attempt(
        &self,
        via: EgressVia,
        host: &str,
        port: u16,
        method: Option<&str>,
    ) -> Attempt {
        self.call.log.attempt(via, host, port, method)
    }

    pub(super) fn refusal(&self, reason: Reason, host: &str, port: u16) -> Refusal {
        let text = reason.sentence(self.call.agent.as_str(), host, port);
        Refusal { reason, text }
    }

    /// The decision: rules, then addresses. The name is looked up only if rules allow it and the
    /// run's bound on names leaves room, since whoever answers for a name learns it.
    pub(super) async fn decide(&self, to: &Destination<'_>) -> Result<Allowed, Refusal> {
        let live = self.call.live.borrow().clone();
        let policies = self.policies(live.as_deref());
        let permitted = policies.judge(to)?;
        let resolver = &self.shared.resolver;
        if resolver.asks_for(to.host, to.port) {
            let counted = self.quotas.name(to.host);
            counted
                .map_err(|quota| self.refusal(Reason::Quota(quota), to.host.as_str(), to.port))?;
        }
        policies.with_addresses(resolver, permitted, to.host, to.port).await
    }

    /// The decision about a name, for any port: rules alone.
    pub(super) fn judge_name(&self, host: &HostName) -> Result<Permitted, Refusal> {
        let live = self.call.live.borrow().clone();
        self.policies(live.as_deref()).judge_name(host)
    }

    /// The checked addresses of a name that may be looked up.
    pub(super) async fn addresses(
        &self,
        permitted: Permitted,
        host: &HostName,
    ) -> Result<Allowed, Refusal> {
        let live = self.call.live.borrow().clone();
        let port = permitted.port;
        let policies = self.policies(live.as_deref());
        policies.with_addresses(&self.shared.resolver, permitted, host, port).await
    }

    fn policies<'p>(&'p self, live: Option<&'p HostPolicy>) -> Policies<'p> {
        Policies { agent: &self.call.agent, call: self.call.policy.as_deref(), live }
    }

    /// Connects to what was allowed, within the run's bounds.
    pub(super) async fn connect(
        &self,
        attempt: &Attempt,
        allowed: &Allowed,
        to: &Destination<'_>,
        carries: Carries,
    ) -> Result<Connected, Refusal> {
        let refuse = |reason| self.refusal(reason, to.host.as_str(), to.port);
        let place = self.quotas.connection().map_err(|quota| refuse(Reason::Quota(quota)))?;
        let shared = &self.shared;
        let upstream = shared.upstream.as_ref();
        let (target, wait) = ((to.host, to.port), shared.timeouts.connect);
        let dialled = dial(allowed, target, carries, upstream, &shared.resolver, wait).await;
        let dialled = dialled.map_err(|error| {
            tracing::debug!(%error, host = to.host.as_str(), "a host could not be reached");
            refuse(Reason::ConnectFailed).because(&error)
        })?;
        if let Some(address) = dialled.address {
            attempt.dialled(address);
        }
        let meter = Meter::new(Arc::clone(&self.quotas), attempt.clone(), place);
        let stream = Metered::new(dialled.stream, Arc::clone(&meter));
        let needs = Needs { private: allowed.is_private, opaque: false };
        Ok(Connected { stream, meter, is_proxied: dialled.address.is_none(), needs })
    }

    /// Does the work of a connection until it ends or must not go on.
    pub(super) async fn while_allowed<T>(
        &self,
        to: &Destination<'_>,
        (meter, needs): (&Meter, Needs),
        work: impl Future<Output = T>,
    ) -> Result<T, Cut> {
        // Cancel-safe: what is dropped closes, which is what a cut is.
        tokio::select! {
            done = work => Ok(done),
            reason = self.revoked(to, needs) => Err(Cut::Revoked(reason)),
            () = meter.idle(self.shared.timeouts.idle) => Err(Cut::Idle),
        }
    }

    /// Waits until the live policy refuses what it allowed, or grants less than is needed.
    /// Cancel-safe.
    async fn revoked(&self, to: &Destination<'_>, needs: Needs) -> Reason {
        let mut live = self.call.live.clone();
        loop {
            let now = live.borrow_and_update().clone();
            let lacking = match self.policies(now.as_deref()).judge(to) {
                Ok(permitted) => needs.lacking(&permitted),
                Err(refusal) => Some(refusal.reason),
            };
            if let Some(reason) = lacking {
                return reason;
            }
            if live.changed().await.is_err() {
                return Reason::Closed;
            }
        }
    }
}

/// Makes the record of a connection that was let through.
pub(super) fn settle<T>(attempt: &Attempt, meter: &Meter, ended: &Result<T, Cut>) {
    let revoked = match ended {
        Err(Cut::Revoked(reason)) => Some(*reason),
        Ok(_) | Err(Cut::Idle) => None,
    };
    match revoked.or_else(|| meter.exceeded()) {
        Some(reason) => attempt.deny(reason),
        None => attempt.end(),
    }
}
