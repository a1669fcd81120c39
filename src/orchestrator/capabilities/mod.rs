//! What runs and calls are given: a capability when a run is taken up, a part of it for each call.
//!
//! Invariants: a run that is worked on holds exactly one, of this claim; no call starts without a
//! part of it that covers the call, stored in the transaction of the call's intent. What a person
//! has revoked is not given again.

mod manage;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

pub use manage::CapabilityView;

use super::{Inner, transition::Actor};
use crate::{
    auth::capability::{
        Action, Ask, Capability, Category, Circumstances, Claims, Delegation, Issuer, Needs,
        Permission, Refusal, Resource, Use, of_agent,
    },
    domain::{
        AgentDef, AuditKind, CallFacts, CapabilityId, CapabilityRecord, Grant, HostPolicy,
        RevokedFor, ToolCall,
    },
    store::{RunCore, StoreError, Tx},
};

/// Life beyond the working time: the last commit of a run may wait for the store.
const MARGIN: Duration = Duration::from_secs(60);
/// Permissions that an audit row names; more are counted.
const NAMED_MAX: usize = 32;

/// What a run holds while it is worked on.
#[derive(Clone, Debug)]
pub(super) struct Held {
    capability: Capability,
    /// What its agent could reach when it was given.
    hosts: Arc<HostPolicy>,
}

impl Held {
    pub(super) const fn id(&self) -> CapabilityId {
        self.capability.claims().id
    }

    /// What a run was given, as it was stored; none when it is not this run's or not signed.
    pub(super) fn stored(inner: &Inner, run: &RunCore, record: &CapabilityRecord) -> Option<Self> {
        let capability = inner.authority.open(&record.token).ok()?;
        let claims = capability.claims();
        let is_own = claims.run == run.id && claims.agent.as_str() == run.agent;
        let is_own = is_own && claims.id == record.id && record.revoked.is_none();
        let hosts = inner.hosts.effective(&claims.agent);
        is_own.then_some(Self { capability, hosts })
    }
}

/// Gives a run what its agent may do, when it is taken up; none when a person took it away before.
pub(super) async fn give(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    agent: &AgentDef,
) -> Result<Option<Held>, StoreError> {
    if run.started_at.is_some() {
        let before = tx.capabilities().of_run(run.id).await?;
        let revoked = before.and_then(|record| record.revoked);
        if revoked.is_some_and(|revoked| revoked.cause == RevokedFor::Person) {
            return Ok(None);
        }
        let now = tx.now();
        tx.capabilities().supersede(run.id, now).await?;
    }
    Ok(Some(issue(tx, inner, run, agent)))
}

/// Gives the run another one where its agent's hosts have changed since, or where the wall clock
/// has jumped: how long a run may work is counted by a clock that nobody sets.
async fn renew(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    agent: &AgentDef,
    held: &mut Held,
) -> Result<(), StoreError> {
    let hosts = inner.hosts.effective(&agent.name);
    let is_same = Arc::ptr_eq(&hosts, &held.hosts) || *hosts == *held.hosts;
    let is_over = held.capability.claims().expires <= tx.now();
    if (!is_same || is_over) && !tx.is_revoked(held.id()) {
        let now = tx.now();
        tx.capabilities().supersede(run.id, now).await?;
        *held = issue(tx, inner, run, agent);
    }
    Ok(())
}

fn issue(tx: &mut Tx, inner: &Inner, run: &RunCore, agent: &AgentDef) -> Held {
    let hosts = inner.hosts.effective(&agent.name);
    let work = Duration::from_secs(run.limits.timeout_secs);
    let left = work.saturating_sub(Duration::from_millis(run.worked_ms));
    let capability = inner.authority.grant(Claims {
        id: CapabilityId::new(tx.ids()),
        run: run.id,
        agent: agent.name.clone(),
        permissions: of_agent(agent, &hosts),
        issuer: Issuer::Daemon,
        purpose: Use::Run,
        issued: tx.now(),
        expires: tx.now().plus(left.saturating_add(MARGIN)),
        delegatable: true,
        parent: None,
    });
    store(tx, run, &capability);
    Held { capability, hosts }
}

/// Whether the run may use this tool at all: before any rule about what it touches.
pub(super) async fn check(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    agent: &AgentDef,
    held: &mut Option<Held>,
    facts: &CallFacts,
) -> Result<Result<(), Refusal>, StoreError> {
    let Some(held) = held else { return Ok(Err(Refusal::Missing)) };
    renew(tx, inner, run, agent, held).await?;
    let wall_secs = Some(agent.tool_limits.wall_secs);
    let ask = Ask {
        category: Category::Tool,
        action: Action::Use,
        resource: Some(Resource::Tool(facts.tool)),
        at: Circumstances { wall_secs, is_released: false },
    };
    let is_revoked = |id| tx.is_revoked(id);
    Ok(inner.authority.check(&held.capability, &[ask], tx.now(), is_revoked))
}

/// Makes the capability under which one call runs: its tool and what its grant lets it touch, for
/// as long as it may take. `is_released`: a person or a rule of the policy has released the call.
///
/// # Errors
/// What is in the way; the call must not start.
pub(super) fn hand_on(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    held: Option<&Held>,
    call: &ToolCall,
    what: (&CallFacts, &Grant, bool),
) -> Result<CapabilityId, Refusal> {
    let (facts, grant, is_released) = what;
    let held = held.ok_or(Refusal::Missing)?;
    let needs = Needs::of(facts, grant, is_released).ok_or_else(|| Refusal::NotAllowed {
        id: held.id(),
        what: "a path that leads nowhere".to_owned(),
    })?;
    let delegation = Delegation {
        id: CapabilityId::new(tx.ids()),
        call: call.id,
        permissions: needs.permissions(),
        expires: tx.now().plus(grant.limits.wall().saturating_add(MARGIN)),
    };
    let (authority, now) = (&inner.authority, tx.now());
    let is_revoked = |id| tx.is_revoked(id);
    let own = authority.delegate(&held.capability, delegation, now, is_revoked)?;
    authority.check(&own, &needs.asks(), now, is_revoked)?;
    store(tx, run, &own);
    Ok(own.claims().id)
}

fn store(tx: &mut Tx, run: &RunCore, capability: &Capability) {
    let claims = capability.claims();
    let call = match claims.purpose {
        Use::Run => None,
        Use::Call(call) => Some(call),
    };
    tx.capability(CapabilityRecord {
        id: claims.id,
        parent: claims.parent,
        run: claims.run,
        call,
        agent: claims.agent.to_string(),
        token: capability.text(),
        issued_at: claims.issued,
        expires_at: claims.expires,
        revoked: None,
        is_over: false,
    });
    let data = json!({
        "capability_id": claims.id, "parent": claims.parent, "call_id": call,
        "agent": claims.agent, "permissions": texts(&claims.permissions),
        "expires_at": claims.expires, "delegatable": claims.delegatable,
    });
    tx.audit(Actor::system().entry(AuditKind::CapabilityGranted, run, data));
}

/// Records that a capability did not allow a call.
pub(super) fn denied(
    tx: &mut Tx,
    run: &RunCore,
    held: Option<&Held>,
    call: &ToolCall,
    why: &Refusal,
) {
    let data = json!({
        "capability_id": held.map(Held::id), "call_id": call.id, "tool": call.tool,
        "rule": why.rule(), "reason": why.to_string(),
    });
    tx.audit(Actor::system().entry(AuditKind::CapabilityDenied, run, data));
    metrics::counter!("agent_runtime_capability_denied_total", "rule" => why.rule()).increment(1);
}

/// The sentence with which a run ends whose capability a person has revoked.
pub(super) async fn why_revoked(tx: &mut Tx, run: &RunCore) -> Result<String, StoreError> {
    let record = tx.capabilities().of_run(run.id).await?;
    let reason = record.and_then(|record| record.revoked).and_then(|revoked| revoked.reason);
    let why = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    Ok(format!("an administrator took away what this run may do{why}"))
}

fn texts(permissions: &[Permission]) -> Value {
    let mut texts: Vec<String> =
        permissions.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = permissions.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    json!(texts)
}
