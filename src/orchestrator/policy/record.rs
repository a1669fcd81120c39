//! What of a decision is kept: with the call, in the audit trail, and for later explanations.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::force::version_of;
use crate::{
    auth::policy::{Layer, Policy, Question, Recorded, RuleName, Verdict},
    domain::{AgentDef, PolicyDecision, ToolCall, policy::Outcome},
    store::{RunCore, StoreError, Tx},
};

/// What an act on a call rests on: the rule, where it stands, under which policy.
#[derive(Clone, Debug)]
pub(in crate::orchestrator) struct Basis {
    /// The rule's name.
    pub(in crate::orchestrator) rule: RuleName,
    /// Where it stands; none when something before policy decided.
    pub(in crate::orchestrator) layer: Option<Layer>,
    /// The policy; none when something before it decided.
    policy: Option<String>,
}

impl Basis {
    /// A verdict of policy.
    pub(in crate::orchestrator) fn of(policy: &Policy, verdict: &Verdict) -> Self {
        Self {
            rule: verdict.rule().clone(),
            layer: Some(verdict.layer()),
            policy: Some(policy.version().to_owned()),
        }
    }

    /// Something that refuses a call before policy is asked.
    pub(in crate::orchestrator) fn before_policy(rule: &'static str) -> Self {
        Self { rule: rule.into(), layer: None, policy: None }
    }

    /// The layer's name, for events.
    pub(in crate::orchestrator) fn layer_name(&self) -> Option<String> {
        self.layer.map(|layer| layer.to_string())
    }

    /// Puts `rule`, `layer` and `policy_version` beside the rest of an audit row's data.
    pub(in crate::orchestrator) fn beside(&self, mut data: Value) -> Value {
        if let Some(members) = data.as_object_mut() {
            members.insert("rule".to_owned(), json!(self.rule));
            members.insert("layer".to_owned(), json!(self.layer));
            members.insert("policy_version".to_owned(), json!(self.policy));
        }
        data
    }
}

/// The layer of a refusal that came before policy was asked.
pub(in crate::orchestrator) const BEFORE: &str = "before_policy";

/// Keeps that something refused a call before policy was asked, and what policy would have been
/// asked.
pub(in crate::orchestrator) fn record_before(
    tx: &mut Tx,
    run: &RunCore,
    call: &ToolCall,
    policy: &Policy,
    question: &Question<'_>,
    rule: &'static str,
) -> Result<(), StoreError> {
    let said = (Outcome::Deny, rule.to_owned(), BEFORE.to_owned());
    keep(tx, run, call, policy, question, said)
}

/// Keeps what was asked of policy about a call and what it said, in this very transaction.
pub(in crate::orchestrator) fn record(
    tx: &mut Tx,
    run: &RunCore,
    call: &ToolCall,
    policy: &Policy,
    question: &Question<'_>,
    verdict: &Verdict,
) -> Result<(), StoreError> {
    let said = (verdict.outcome(), verdict.rule().to_string(), verdict.layer().to_string());
    keep(tx, run, call, policy, question, said)
}

fn keep(
    tx: &mut Tx,
    run: &RunCore,
    call: &ToolCall,
    policy: &Policy,
    question: &Question<'_>,
    (verdict, rule, layer): (Outcome, String, String),
) -> Result<(), StoreError> {
    let corrupt = |error| StoreError::Corrupt { what: format!("a question to policy: {error}") };
    let (definition, kept) = Recorded::of(question).split().map_err(corrupt)?;
    let decision = PolicyDecision {
        call_id: call.id,
        n: run.seq,
        run_id: run.id,
        at: tx.now(),
        agent: question.agent.name.clone(),
        policy_version: version_of(policy)?,
        verdict,
        rule,
        layer,
        question: kept,
        definition,
    };
    tx.decision(decision);
    Ok(())
}

/// What an approval binds beside the call: the agent's definition and the policy together, so that a
/// change of either asks again.
pub(in crate::orchestrator) fn bound_version(agent: &AgentDef, policy: &Policy) -> String {
    let mut hash = Sha256::new();
    hash.update(agent.version.as_bytes());
    hash.update([0]);
    hash.update(policy.version().as_bytes());
    data_encoding::HEXLOWER.encode(&hash.finalize())
}
