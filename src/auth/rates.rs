//! How often a principal and an address may ask: beyond it 429, counted, and recorded once a burst.
//!
//! Only the public listener asks here: the local door of administrators has no such bound, so that
//! no flood can keep them out.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    domain::{AuditEntry, AuditKind, PrincipalId, Surface},
    runtime::{Rates, TooOften},
};

use super::{AuditSink, authn::Subject, context::CallContext};

/// Addresses, and principals, that are counted at once; about 6 MB when full.
const SUBJECTS_MAX: usize = 65_536;

/// Counts requests. Clones share the counts.
#[derive(Clone)]
pub struct RequestRates(Arc<Inner>);

struct Inner {
    addresses: Rates<Subject>,
    principals: Rates<PrincipalId>,
    audit: Arc<dyn AuditSink>,
}

impl fmt::Debug for RequestRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestRates")
    }
}

impl RequestRates {
    /// So many requests in a minute; 0: no bound.
    pub fn new(per_principal: u64, per_address: u64, audit: Arc<dyn AuditSink>) -> Self {
        Self(Arc::new(Inner {
            addresses: Rates::per_minute(per_address, SUBJECTS_MAX),
            principals: Rates::per_minute(per_principal, SUBJECTS_MAX),
            audit,
        }))
    }

    /// A request came from this address.
    ///
    /// # Errors
    /// How long to wait, when there were too many.
    pub fn of_address(&self, address: IpAddr, request_id: &str) -> Result<(), Duration> {
        let taken = self.0.addresses.take(Subject::address(address), 1, Instant::now());
        taken.map_err(|often| {
            let data = json!({ "limit": "requests_per_minute_per_address", "address": address });
            self.refused(often, "address", "unknown", request_id, data)
        })
    }

    /// A request, or a message on a WebSocket, came from this principal.
    ///
    /// # Errors
    /// How long to wait, when there were too many.
    pub fn of_principal(&self, cx: &CallContext) -> Result<(), Duration> {
        let taken = self.0.principals.take(cx.principal.id, 1, Instant::now());
        taken.map_err(|often| {
            let data = json!({ "limit": "requests_per_minute_per_principal" });
            let actor = cx.principal.id.to_string();
            self.refused(often, "principal", &actor, &cx.request_id, data)
        })
    }

    fn refused(
        &self,
        often: TooOften,
        of: &'static str,
        actor: &str,
        request_id: &str,
        data: Value,
    ) -> Duration {
        metrics::counter!("agent_runtime_rate_limited_total", "of" => of).increment(1);
        if often.is_news {
            tracing::warn!(actor, request_id, %data, "too many requests; more of them are counted only");
            self.0.audit.record(AuditEntry {
                kind: AuditKind::RateLimited,
                actor: actor.to_owned(),
                surface: Surface::Api,
                run_id: None,
                request_id: Some(request_id.to_owned()),
                data,
            });
        }
        often.retry_after
    }
}
