//! Why a call was decided as it was, or would be, and what would change it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::super::{Inner, Orchestrator, error::CommandError};
use crate::{
    auth::{
        ManagePolicy, Permit,
        policy::{self, Explanation, Policy, Question, Recorded},
    },
    domain::{
        AgentName, ApprovalId, ApprovalState, PolicyDecision, PolicyVersion, Role, RunId, Surface,
        Timestamp, ToolCall, ToolCallId, approval::DecisionRecord, policy::Outcome,
    },
    store::StoreError,
    tools,
};

/// Decisions about one call that an answer shows; the newest.
const SHOWN_MAX: u32 = 50;

/// A call that nobody has made.
#[derive(Clone, Debug)]
pub struct PolicyQuestion {
    /// Whose.
    pub agent: AgentName,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub args: Value,
    /// The role of whoever started the run.
    pub role: Role,
    /// Where the run was started.
    pub surface: Surface,
    /// Whether the run has read untrusted content.
    pub tainted: bool,
}

/// Why a call was decided as it was, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyAnswer {
    /// The call; none for a hypothetical one.
    pub call: Option<PastCall>,
    /// Everything that policy looks at.
    pub question: Recorded,
    /// Under the version that decided it last; none for a hypothetical call, and where this program
    /// cannot read that version any more.
    pub then: Option<Explanation>,
    /// Under the version that is in force.
    pub now: Explanation,
    /// Under the policy that came with the question.
    pub with: Option<Explanation>,
}

/// A call that policy has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PastCall {
    /// The call.
    pub call_id: ToolCallId,
    /// Its run.
    pub run_id: RunId,
    /// Whose.
    pub agent: AgentName,
    /// Every decision about it, oldest first.
    pub decisions: Vec<PastDecision>,
    /// What people were asked about it, and what they said.
    pub approvals: Vec<PastApproval>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PastDecision {
    /// Number of the run's last event before it.
    pub after_event: u64,
    /// When.
    pub at: Timestamp,
    /// What it came to.
    pub verdict: Outcome,
    /// The rule that decided.
    pub rule: String,
    /// Where that rule stood.
    pub layer: String,
    /// Under which version.
    pub policy_version: PolicyVersion,
}

/// A question to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PastApproval {
    /// Its id.
    pub id: ApprovalId,
    /// What it came to.
    pub state: ApprovalState,
    /// Who said what, when, where and why.
    pub decisions: Vec<DecisionRecord>,
}

impl From<PolicyDecision> for PastDecision {
    fn from(kept: PolicyDecision) -> Self {
        Self {
            after_event: kept.n,
            at: kept.at,
            verdict: kept.verdict,
            rule: kept.rule,
            layer: kept.layer,
            policy_version: kept.policy_version,
        }
    }
}

impl Orchestrator {
    /// Why a past call was decided as it was: under the version then, under the one in force, and
    /// under another policy where one is given.
    ///
    /// # Errors
    /// When there is no such call, or no rule has decided about it.
    pub async fn explain_call(
        &self,
        _permit: &Permit<ManagePolicy>,
        call: ToolCallId,
        with: Option<Arc<Policy>>,
    ) -> Result<PolicyAnswer, CommandError> {
        let (call, newest) = self.inner.past_call(call).await?;
        let question = read(&newest)?;
        let explained = |policy: &Policy| question.replay(|q| policy::explain(policy, q));
        let then = match self.inner.readable(newest.policy_version.as_str()).await {
            Ok(policy) => Some(explained(&policy)),
            // What was decided stands in the call's decisions all the same.
            Err(CommandError::Conflict { .. } | CommandError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let now = explained(&self.inner.policy.current());
        let with = with.map(|policy| explained(&policy));
        Ok(PolicyAnswer { call: Some(call), question, then, now, with })
    }

    /// What would become of a call that nobody has made. The agent's definition and hosts are those
    /// of now.
    ///
    /// # Errors
    /// When there is no such agent, or the tool cannot be called so.
    pub fn explain_question(
        &self,
        _permit: &Permit<ManagePolicy>,
        asked: &PolicyQuestion,
        with: Option<&Policy>,
    ) -> Result<PolicyAnswer, CommandError> {
        self.inner.check_agent(Some(&asked.agent))?;
        let agents = self.inner.authorizer.agents();
        let agent = agents.get(&asked.agent).ok_or(CommandError::NotFound { what: "the agent" })?;
        let invocation = tools::parse(&asked.tool, &asked.args).map_err(|error| {
            let pointer = match error {
                tools::ParseError::UnknownTool { .. } => "/tool",
                _ => "/args",
            };
            CommandError::Invalid {
                code: "policy.question",
                pointer: Some(pointer),
                detail: error.to_string(),
            }
        })?;
        let question = Question {
            agent,
            hosts: &self.inner.hosts.effective(&asked.agent),
            facts: &invocation.facts(),
            tainted: asked.tainted,
            role: asked.role,
            surface: asked.surface,
            conversation: None,
        };
        Ok(PolicyAnswer {
            call: None,
            question: Recorded::of(&question),
            then: None,
            now: policy::explain(&self.inner.policy.current(), &question),
            with: with.map(|policy| policy::explain(policy, &question)),
        })
    }
}

/// Why there is no decision about a call that exists.
fn not_asked(call: &ToolCall) -> String {
    match tools::parse(&call.tool, &call.args) {
        Err(error) => format!(
            "no rule decided about {}: it was refused before (tool.bad_arguments), since what the \
             model sent is no call that any policy could allow: {error}",
            call.id
        ),
        Ok(_) if call.outcome.is_some() => format!(
            "no rule decided about {}: it ended before its turn came; \
             `agent-runtime audit query --run {}` says how",
            call.id, call.run_id
        ),
        Ok(_) => format!("no rule has decided about {} yet: its turn comes later", call.id),
    }
}

/// The question of a decision, as it was kept.
pub(super) fn read(kept: &PolicyDecision) -> Result<Recorded, StoreError> {
    Recorded::joined(&kept.definition, &kept.question).map_err(|error| StoreError::Corrupt {
        what: format!("the question about {}: {error}", kept.call_id),
    })
}

impl Inner {
    async fn past_call(
        &self,
        call: ToolCallId,
    ) -> Result<(PastCall, PolicyDecision), CommandError> {
        let mut reader = self.store.read().await?;
        let decisions = reader.decisions().of_call(call, SHOWN_MAX).await?;
        let Some(newest) = decisions.last().cloned() else {
            let call = reader.calls().get(call).await?;
            let call = call.ok_or(CommandError::NotFound { what: "the call" })?;
            return Err(CommandError::conflict("policy.not_asked", not_asked(&call)));
        };
        let asked = reader.approvals().of_run(newest.run_id).await?;
        let approvals = asked
            .into_iter()
            .filter(|approval| approval.call_id == Some(call))
            .map(|a| PastApproval { id: a.id, state: a.state, decisions: a.decisions })
            .collect();
        let past = PastCall {
            call_id: call,
            run_id: newest.run_id,
            agent: newest.agent.clone(),
            decisions: decisions.into_iter().map(PastDecision::from).collect(),
            approvals,
        };
        Ok((past, newest))
    }
}
