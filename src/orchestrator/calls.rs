//! Tool calls inside a transaction: decide, gate, start, complete. Nothing is executed here.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Inner,
    capabilities::{self, Held},
    consent::{self, Consent, Given, Looked, Now, consent},
    ending::End,
    policy::{Basis, bound_version, record, record_before},
    questions::{Question, gate},
    scoped,
    transition::Actor,
};
use crate::{
    auth::{
        Denied,
        capability::Refusal,
        policy::{self, Layer, Verdict},
    },
    domain::{
        AgentDef, ApprovalKind, AuditKind, Bound, CallFacts, CallInput, Effect, EventBody, Grant,
        HostPolicy, Role, ToolCall, ToolCallId, ToolOutcome, ToolStatus, limits,
    },
    store::{RunCore, StoreError, Tx},
    tools::{self, Invocation, Invoked},
};

/// Why a program may have failed that policy gave no network.
const OFFLINE_NOTE: &str = "[this call had no network, since the run has read content from \
                            outside; with `network`: true a person is asked for it]";
/// The reason of a refusal that is a finding: a secret's placeholder where it is not bound to.
const SECRET_MISUSED: &str = "secret_misused";
/// Refusals of one call that become events; the audit trail holds every one.
const REFUSALS_MAX: usize = 32;

/// What a decision on one call came to.
#[derive(Debug)]
pub(super) enum Decided {
    /// It has an outcome without being executed; look at the next one.
    Settled,
    /// Its intent is stored: execute it.
    Start {
        invocation: Box<Invocation>,
        grant: Arc<Grant>,
        bound: Option<Arc<Bound>>,
        note: Option<&'static str>,
    },
    /// First it must be found out what it would touch.
    Look { invocation: Box<Invocation>, grant: Arc<Grant> },
    /// The run cannot go on.
    End(End),
    /// A person is asked whether it may run; the run waits.
    Gated,
    /// The call is itself a question to a person; the run waits for input.
    Question(String),
}

/// Whether a call may have an effect that must not happen twice, judged before it is stored.
pub(super) fn effect_of(tool: &str, args: &Value) -> Effect {
    // What cannot be parsed is never executed; the class is then only a label.
    tools::parse(tool, args).map_or(Effect::Unsafe, |call| call.facts().effect)
}

/// Whose call it is, and what was found out about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) agent: &'a AgentDef,
    /// What it would touch, if that was just looked at.
    pub(super) looked: Option<&'a Looked>,
}

/// Lets policy decide on a call and stores what follows from it. Called again after an approval,
/// since policy may have changed meanwhile, and once what a gated call would touch is known.
pub(super) async fn decide(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    at: At<'_>,
    held: &mut Option<Held>,
    call: &mut ToolCall,
) -> Result<Decided, StoreError> {
    let At { agent, looked } = at;
    if let Some(end) = consent::requester_gone(inner, run, agent) {
        return Ok(Decided::End(end));
    }
    let invocation = match tools::parse(&call.tool, &call.args) {
        Ok(invocation) => invocation,
        Err(error) => {
            let basis = Basis::before_policy("tool.bad_arguments");
            return deny(tx, run, call, error.to_string(), &basis).await;
        }
    };
    let hosts = inner.hosts.effective(&agent.name);
    let facts = invocation.facts();
    let role = match scoped::check(tx, inner, run, &call.tool).await? {
        Ok(role) => role,
        Err(denied) => {
            let role = scoped::role(tx, inner, run).await?;
            let question = asked(role, run, agent, &hosts, &facts);
            return deny_scope(tx, inner, run, call, (&question, &denied)).await;
        }
    };
    let policy = inner.policy.current();
    // Between "the agent may use the tool", which policy says first, and every other rule.
    if agent.tools.contains(&facts.tool)
        && let Err(why) = capabilities::check(tx, inner, run, agent, held, &facts).await?
    {
        let question = asked(role, run, agent, &hosts, &facts);
        record_before(tx, run, call, &policy, &question, why.rule())?;
        return refuse(tx, run, held.as_ref(), call, &why).await;
    }
    let question = asked(role, run, agent, &hosts, &facts);
    let verdict = policy::decide(&policy, &question);
    let found = match &verdict {
        Verdict::Ask { grant, .. } => match looked.and_then(|looked| looked.of(call, grant)) {
            // Decided again, and then recorded, when it is known what the person is asked about.
            None => {
                let (invocation, grant) = (Box::new(invocation), Arc::new(grant.clone()));
                return Ok(Decided::Look { invocation, grant });
            }
            Some(found) => found.clone(),
        },
        Verdict::Allow { .. } | Verdict::Deny { .. } => Ok(Arc::default()),
    };
    record(tx, run, call, &policy, &question, &verdict)?;
    let basis = Basis::of(&policy, &verdict);
    match verdict {
        Verdict::Deny { reason, .. } => deny(tx, run, call, reason, &basis).await,
        Verdict::Allow { grant, risk, rule, layer } => {
            call.risk = risk;
            if let Some((question, options)) = invocation.question() {
                advance(call, CallInput::Gate)?;
                tx.calls().save(call).await?;
                return Ok(Decided::Question(question_text(question, options)));
            }
            let what = (&facts, &grant, layer == Layer::Rules);
            if let Err(why) = capabilities::hand_on(tx, inner, run, held.as_ref(), call, what) {
                return refuse(tx, run, held.as_ref(), call, &why).await;
            }
            start(tx, run, call, &basis, None).await?;
            let note = (rule == policy::OFFLINE).then_some(OFFLINE_NOTE);
            let (grant, invocation) = (Arc::new(grant), Box::new(invocation));
            Ok(Decided::Start { invocation, grant, bound: None, note })
        }
        Verdict::Ask { grant, risk, reasons, egress, required_role, quorum, .. } => {
            call.risk = risk;
            let bound = match found {
                Ok(bound) => bound,
                Err(why) => {
                    let basis = Basis::before_policy("approval.unbindable");
                    return deny(tx, run, call, why, &basis).await;
                }
            };
            let question = Question {
                kind: ApprovalKind::Tool,
                reasons,
                egress,
                bound: (*bound).clone(),
                policy_version: bound_version(agent, &policy),
                required_role,
                quorum,
                cwd: invocation.cwd().to_owned(),
                basis,
            };
            let gated =
                GatedCall { held: held.as_ref(), facts, grant, invocation, bound, question };
            start_or_ask(tx, inner, run, agent, call, gated).await
        }
    }
}

/// A call that runs only with somebody's consent.
struct GatedCall<'a> {
    held: Option<&'a Held>,
    facts: CallFacts,
    grant: Grant,
    invocation: Invocation,
    bound: Arc<Bound>,
    question: Question,
}

/// Starts a call to which somebody has said yes, or asks.
async fn start_or_ask(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    agent: &AgentDef,
    call: &mut ToolCall,
    gated: GatedCall<'_>,
) -> Result<Decided, StoreError> {
    let GatedCall { held, facts, grant, invocation, bound, mut question } = gated;
    let Question { egress, policy_version, basis, .. } = &question;
    let (required_role, quorum) = (question.required_role, question.quorum);
    let now = Now { call, bound: &bound, egress, policy_version, required_role, quorum };
    match consent(tx, inner, run, now).await? {
        Consent::Given(given) => {
            let what = (&facts, &grant, true);
            if let Err(why) = capabilities::hand_on(tx, inner, run, held, call, what) {
                return refuse(tx, run, held, call, &why).await;
            }
            start(tx, run, call, basis, Some(&given)).await?;
            let (invocation, grant) = (Box::new(invocation), Arc::new(grant));
            Ok(Decided::Start { invocation, grant, bound: Some(bound), note: None })
        }
        Consent::Missing(why) => {
            let again = why.map(|why| format!("asked again: {why}"));
            drop(question.reasons.splice(0..0, again));
            gate(tx, inner, run, agent, call, question).await?;
            Ok(Decided::Gated)
        }
    }
}

/// Somebody whose words the run has heard may not have the tool used.
async fn deny_scope(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    call: &mut ToolCall,
    (question, denied): (&policy::Question<'_>, &Denied),
) -> Result<Decided, StoreError> {
    record_before(tx, run, call, &inner.policy.current(), question, denied.rule())?;
    let basis = Basis::before_policy(denied.rule());
    deny(tx, run, call, denied.to_string(), &basis).await
}

/// The run's capability, or the part of it that the call needs, does not allow the call.
async fn refuse(
    tx: &mut Tx,
    run: &mut RunCore,
    held: Option<&Held>,
    call: &mut ToolCall,
    why: &Refusal,
) -> Result<Decided, StoreError> {
    capabilities::denied(tx, run, held, call, why);
    deny(tx, run, call, why.to_string(), &Basis::before_policy(why.rule())).await
}

/// Refuses a call of a run whose capability was revoked.
pub(super) async fn refuse_revoked(
    tx: &mut Tx,
    run: &mut RunCore,
    held: Option<&Held>,
    call: &mut ToolCall,
) -> Result<(), StoreError> {
    let why = held.map_or(Refusal::Missing, |held| Refusal::Revoked { id: held.id() });
    refuse(tx, run, held, call, &why).await.map(drop)
}

/// What policy is asked about a call of this run; `role`: see [`scoped::role`].
pub(super) fn asked<'a>(
    role: Role,
    run: &RunCore,
    agent: &'a AgentDef,
    hosts: &'a Arc<HostPolicy>,
    facts: &'a CallFacts,
) -> policy::Question<'a> {
    policy::Question {
        agent,
        hosts,
        facts,
        tainted: run.tainted,
        role,
        surface: run.surface,
        conversation: Some(run.conversation_id),
    }
}

fn question_text(question: &str, options: &[String]) -> String {
    if options.is_empty() {
        question.to_owned()
    } else {
        format!("{question} ({})", options.join(" / "))
    }
}

async fn deny(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    reason: String,
    basis: &Basis,
) -> Result<Decided, StoreError> {
    let rule = &basis.rule;
    let outcome = ToolOutcome::message(ToolStatus::Error, format!("Denied: {reason} [{rule}]"));
    record_denial(tx, run, call, reason, basis)?;
    run.usage.tool_calls += 1;
    settle(tx, call, outcome).await?;
    Ok(Decided::Settled)
}

/// Records a refusal in the event log and the audit trail.
fn record_denial(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &ToolCall,
    reason: String,
    basis: &Basis,
) -> Result<(), StoreError> {
    let rule = &basis.rule;
    let data = basis.beside(json!({
        "call_id": call.id, "tool": call.tool, "args_hash": call.args_hash, "reason": reason,
        "tainted": run.tainted,
    }));
    tx.audit(Actor::system().entry(AuditKind::ToolDenied, run, data));
    tx.event(
        run,
        EventBody::ToolDenied {
            call_id: call.id,
            tool: call.tool.clone(),
            reason,
            rule: rule.to_string(),
            layer: basis.layer_name(),
        },
    )?;
    metrics::counter!("agent_runtime_tool_denied_total", "rule" => rule.to_string()).increment(1);
    Ok(())
}

/// Gives a call its outcome without an event of its own.
pub(super) async fn settle(
    tx: &mut Tx,
    call: &mut ToolCall,
    outcome: ToolOutcome,
) -> Result<(), StoreError> {
    advance(call, CallInput::Finish)?;
    call.outcome = Some(outcome);
    tx.calls().save(call).await
}

async fn start(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    basis: &Basis,
    given: Option<&Given>,
) -> Result<(), StoreError> {
    advance(call, CallInput::Start)?;
    call.attempts += 1;
    run.usage.tool_calls += 1;
    tx.event(
        run,
        EventBody::ToolStarted {
            call_id: call.id,
            tool: call.tool.clone(),
            attempt: call.attempts,
            rule: Some(basis.rule.to_string()),
            layer: basis.layer_name(),
        },
    )?;
    let data = basis.beside(json!({
        "call_id": call.id, "tool": call.tool, "args_hash": call.args_hash,
        "effect": call.effect, "risk": call.risk, "attempt": call.attempts,
        "tainted": run.tainted, "consent": given,
    }));
    tx.audit(Actor::system().entry(AuditKind::ToolStarted, run, data));
    tx.calls().save(call).await
}

/// Stores what became of an executed call: what was refused on the network, whether the run is
/// tainted from now on, the result.
pub(super) async fn store(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    invoked: Invoked,
) -> Result<(), StoreError> {
    let Invoked { outcome, refusals, taints, changed } = invoked;
    for attempt in refusals.into_iter().take(REFUSALS_MAX) {
        let misused = (attempt.reason == SECRET_MISUSED)
            .then(|| format!("a request to {}:{}", attempt.host, attempt.port));
        tx.event(run, EventBody::EgressDenied { attempt })?;
        if let Some(place) = misused {
            let data = json!({ "call_id": call.id, "place": place });
            tx.audit(Actor::system().entry(AuditKind::SecretBlocked, run, data));
            tx.event(run, EventBody::SecretBlocked { place })?;
        }
    }
    run.tainted |= taints;
    match changed {
        Some(reason) => ask_anew(tx, run, call, reason).await,
        None => finish(tx, run, call, outcome).await,
    }
}

/// At the last moment something was not what was approved, and nothing was done: every yes to it is
/// void, and it is decided anew. A call that changes again and again is given up.
async fn ask_anew(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    reason: String,
) -> Result<(), StoreError> {
    consent::void_all(tx, run, call, &reason).await?;
    advance(call, CallInput::Refuse)?;
    let basis = Basis::before_policy("approval.changed");
    if call.attempts >= limits::REFUSALS_OF_CALL_MAX {
        let reason = format!("{reason}; this happened {} times", call.attempts);
        return deny(tx, run, call, reason, &basis).await.map(drop);
    }
    record_denial(tx, run, call, reason, &basis)?;
    tx.calls().save(call).await
}

/// Stores the result of an executed call.
pub(super) async fn finish(
    tx: &mut Tx,
    run: &mut RunCore,
    call: &mut ToolCall,
    outcome: ToolOutcome,
) -> Result<(), StoreError> {
    completed(tx, run, call.id, &outcome)?;
    if let Some(level) = outcome.confinement {
        run.confinement = Some(run.confinement.map_or(level, |before| before.weaker(level)));
    }
    settle(tx, call, outcome).await
}

/// Records a result in the event log and the audit trail.
pub(super) fn completed(
    tx: &mut Tx,
    run: &mut RunCore,
    call_id: ToolCallId,
    outcome: &ToolOutcome,
) -> Result<(), StoreError> {
    let data = json!({
        "call_id": call_id, "status": outcome.status, "exit_code": outcome.exit_code,
        "duration_ms": outcome.duration_ms, "confinement": outcome.confinement,
        "tainted": run.tainted,
    });
    tx.audit(Actor::system().entry(AuditKind::ToolCompleted, run, data));
    metrics::counter!("agent_runtime_tool_calls_total", "status" => outcome.status.as_str())
        .increment(1);
    tx.event(
        run,
        EventBody::ToolCompleted {
            call_id,
            status: outcome.status,
            exit_code: outcome.exit_code,
            output: outcome.output.clone(),
            truncated: outcome.truncated,
            duration_ms: outcome.duration_ms,
            confinement: outcome.confinement,
        },
    )
}

/// Moves a call to its next state.
pub(super) fn advance(call: &mut ToolCall, input: CallInput) -> Result<(), StoreError> {
    let next = call.state.after(input, call.effect);
    call.state = next.ok_or_else(|| StoreError::Corrupt {
        what: format!("{} cannot {input:?} while {}", call.id, call.state),
    })?;
    Ok(())
}

/// The agent that a run was started with is gone from the configuration.
pub(super) fn agent_removed(name: &str) -> End {
    End::failed("agent.removed", format!("agent `{name}` is no longer configured"))
}
