//! What administrators do with capabilities: see them, and take them away.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::super::{
    Inner, Orchestrator,
    commands::{Done, Idempotency},
    error::{CommandError, check_reason},
    transition::Actor,
};
use crate::{
    auth::{CallContext, ManageCapabilities, Permit, capability::Capability},
    domain::{
        AuditKind, CapabilityId, CapabilityRecord, CapabilityState, EventBody, Revocation,
        RevokedFor, RunId, Timestamp, ToolCallId,
    },
    store::{CapabilityFilter, Page, Paged, StoreError, Tx},
};

/// A capability as it is shown: everything but the signed text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CapabilityView {
    /// Id.
    pub id: CapabilityId,
    /// The one that it was made out of.
    pub parent: Option<CapabilityId>,
    /// The run that it is for.
    pub run_id: RunId,
    /// The one call that it is for; none when it is the run's.
    pub call_id: Option<ToolCallId>,
    /// The run's agent.
    pub agent: String,
    /// Where it stands.
    pub state: CapabilityState,
    /// What it allows; nothing when its signature does not hold.
    pub permissions: Vec<String>,
    /// Whether this daemon has signed it, and nobody has changed it since.
    pub is_signed: bool,
    /// Whether another may be made out of it.
    pub delegatable: bool,
    /// When it was given.
    pub issued_at: Timestamp,
    /// Until when it holds.
    pub expires_at: Timestamp,
    /// That it was taken away.
    pub revoked: Option<Revocation>,
}

impl Inner {
    fn view(&self, record: CapabilityRecord, now: Timestamp) -> CapabilityView {
        let state = record.state(now);
        let opened = self.authority.open(&record.token).ok();
        let claims = opened.as_ref().map(Capability::claims);
        // The columns are what is searched; the signed text is what counts.
        let claims = claims.filter(|claims| {
            (claims.id, claims.run, claims.parent) == (record.id, record.run, record.parent)
        });
        let texts = |permissions: &[_]| permissions.iter().map(ToString::to_string).collect();
        CapabilityView {
            id: record.id,
            parent: record.parent,
            run_id: record.run,
            call_id: record.call,
            agent: record.agent,
            state,
            permissions: claims.map(|c| texts(c.permissions.as_slice())).unwrap_or_default(),
            is_signed: claims.is_some(),
            delegatable: claims.is_some_and(|claims| claims.delegatable),
            issued_at: record.issued_at,
            expires_at: record.expires_at,
            revoked: record.revoked,
        }
    }
}

impl Orchestrator {
    /// Capabilities, newest first; only those that can be used now, where `is_live`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn capabilities(
        &self,
        _permit: &Permit<ManageCapabilities>,
        filter: CapabilityFilter,
        is_live: bool,
        page: Page,
    ) -> Result<Paged<CapabilityView>, StoreError> {
        let now = self.inner.clock.now();
        let filter = CapabilityFilter { live_at: is_live.then_some(now), ..filter };
        let found = self.inner.store.read().await?.capabilities().list(&filter, &page).await?;
        let Paged { items, next_cursor } = found;
        let items = items.into_iter().map(|record| self.inner.view(record, now)).collect();
        Ok(Paged { items, next_cursor })
    }

    /// One capability.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn capability(
        &self,
        _permit: &Permit<ManageCapabilities>,
        id: CapabilityId,
    ) -> Result<CapabilityView, CommandError> {
        let record = self.inner.store.read().await?.capabilities().get(id).await?;
        let record = record.ok_or(NOT_FOUND)?;
        Ok(self.inner.view(record, self.inner.clock.now()))
    }

    /// Takes a capability away, and every one that was made out of it. What runs under it is told to
    /// stop when this returns; a run whose own it was fails, also when it holds a newer one by now.
    /// Doing it again changes nothing.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn revoke_capability(
        &self,
        permit: Permit<ManageCapabilities>,
        id: CapabilityId,
        reason: Option<String>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<CapabilityView>, CommandError> {
        check_reason(reason.as_deref())?;
        let mut masking = self.inner.masking();
        let reason = masking.optional("reason", reason);
        let (cx, inner) = (permit.context().clone(), Arc::clone(&self.inner));
        let shared = Arc::clone(&inner);
        let work = async move {
            let done = shared
                .administer(&cx, idempotency, move |tx| {
                    Box::pin(async move {
                        let record = revoke(tx, permit.context(), id, reason).await?;
                        masking.record(tx, &Actor::from(permit.context()), Some(record.run));
                        Ok(inner.view(record, tx.now()))
                    })
                })
                .await?;
            shared.in_force_everywhere().await?;
            Ok(done)
        };
        // On its own feet: who asked may go away between the commit and its taking effect.
        self.inner.detached(work).await
    }
}

const NOT_FOUND: CommandError = CommandError::NotFound { what: "the capability" };

async fn revoke(
    tx: &mut Tx,
    cx: &CallContext,
    id: CapabilityId,
    reason: Option<String>,
) -> Result<CapabilityRecord, CommandError> {
    // Another job of the group may have given it.
    tx.flush().await?;
    let record = tx.capabilities().get(id).await?.ok_or(NOT_FOUND)?;
    // What a lockdown took away comes back when the run goes on; what a person takes away does not.
    if record.revoked.as_ref().is_some_and(|revoked| revoked.cause == RevokedFor::Person) {
        return Ok(record);
    }
    let (at, by, cause) = (tx.now(), cx.principal.id.to_string(), RevokedFor::Person);
    let revocation = Revocation { at, by, cause, reason: reason.clone() };
    let before = record.state(at);
    let mut revoked = tx.capabilities().revoke(id, record.run, &revocation).await?;
    // A run that was taken up again holds a newer one: who takes away what it was given means the run.
    let held = match record.call {
        Some(_) => None,
        None => tx.capabilities().of_run(record.run).await?.map(|newest| newest.id),
    };
    if let Some(newer) = held.filter(|held| *held != id) {
        revoked.extend(tx.capabilities().revoke(newer, record.run, &revocation).await?);
    }
    let run = tx.runs().core(record.run).await?;
    let mut run = run.ok_or_else(|| StoreError::Missing { what: record.run.to_string() })?;
    let data = json!({
        "capability_id": id, "call_id": record.call, "before": before,
        "after": CapabilityState::Revoked, "revoked": revoked, "reason": reason,
    });
    tx.audit(Actor::from(cx).entry(AuditKind::CapabilityRevoked, &run, data));
    metrics::counter!("agent_runtime_capability_revoked_total").increment(1);
    let is_current = match record.call {
        Some(_) => before == CapabilityState::Live,
        None => true,
    };
    if is_current && !run.state.is_terminal() {
        let (capability_id, call_id) = (held.unwrap_or(id), record.call);
        tx.event(&mut run, EventBody::CapabilityRevoked { capability_id, call_id, reason })?;
        let epoch = run.epoch;
        tx.runs().save(&run, epoch).await?;
    }
    tx.capabilities().get(id).await?.ok_or(NOT_FOUND)
}
