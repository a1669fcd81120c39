//! What callers send. Unknown fields are refused; the orchestrator checks the bounds.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::schema;
use crate::{
    domain::{
        ApprovalId, ApprovalState, BundleId, ConversationId, Decision, DecisionScope,
        InterruptMode, OnBusy, PatternBounds, RunState, UnknownOutcome, Usd, UserInput,
    },
    orchestrator::{IfEnded, LimitsPatch, NewDecision, NewRun},
};

fn default_agent() -> String {
    "default".to_owned()
}

/// A new run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRun {
    /// Name of the agent.
    #[serde(default = "default_agent")]
    pub agent: String,
    /// The conversation to go on with; a new one when none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub conversation_id: Option<ConversationId>,
    /// The bundle to continue from: must be the conversation's newest.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub bundle_id: Option<BundleId>,
    /// What is asked.
    #[schema(value_type = schema::Input)]
    pub input: UserInput,
    /// What to do when the conversation's run is active.
    #[serde(default)]
    #[schema(value_type = schema::OnBusy)]
    pub on_busy: OnBusy,
    /// Lower bounds than the agent's.
    #[serde(default)]
    pub limits: Option<Limits>,
    /// The caller's own labels.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl CreateRun {
    /// The agent's name and the command.
    pub fn split(self) -> (String, NewRun) {
        let new = NewRun {
            conversation_id: self.conversation_id,
            bundle_id: self.bundle_id,
            input: self.input,
            on_busy: self.on_busy,
            limits: self.limits.map(Limits::patch).unwrap_or_default(),
            metadata: self.metadata,
        };
        (self.agent, new)
    }
}

/// Bounds of one run; each can only lower the agent's.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Seconds of work, waiting for people not counted in.
    #[serde(default)]
    pub timeout_secs: Option<u64>,
    /// Model calls.
    #[serde(default)]
    pub max_steps: Option<u32>,
    /// Tool calls.
    #[serde(default)]
    pub max_tool_calls: Option<u32>,
    /// Tokens, input and output together.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// Money, as a decimal string.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "1.00")]
    pub max_cost_usd: Option<Usd>,
}

impl Limits {
    fn patch(self) -> LimitsPatch {
        LimitsPatch {
            timeout_secs: self.timeout_secs,
            max_steps: self.max_steps,
            max_tool_calls: self.max_tool_calls,
            max_tokens: self.max_tokens,
            max_cost_usd: self.max_cost_usd,
        }
    }
}

/// How to interrupt.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Interrupt {
    /// `graceful` lets a running unsafe tool finish; `hard` kills it.
    #[serde(default = "graceful")]
    #[schema(value_type = schema::InterruptMode)]
    pub mode: InterruptMode,
}

const fn graceful() -> InterruptMode {
    InterruptMode::Graceful
}

/// A message for a run in progress.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// What to say.
    #[schema(value_type = schema::Input)]
    pub input: UserInput,
    /// What becomes of it when the run ends first.
    #[serde(default)]
    pub if_ended: SteerIfEnded,
}

/// What becomes of a steer whose run ends first.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SteerIfEnded {
    /// It starts a new run in the same conversation.
    #[default]
    StartNewRun,
    /// It comes back in `run.steer_failed`.
    Fail,
}

impl From<SteerIfEnded> for IfEnded {
    fn from(said: SteerIfEnded) -> Self {
        match said {
            SteerIfEnded::StartNewRun => Self::StartNewRun,
            SteerIfEnded::Fail => Self::Fail,
        }
    }
}

/// Sends a paused run on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The answer, where the run asked a question.
    #[serde(default)]
    #[schema(value_type = Option<schema::Input>)]
    pub input: Option<UserInput>,
}

/// Ends a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A body without fields.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Branches a run off into a new conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// The bundle to begin from; the run's newest when none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub bundle_id: Option<BundleId>,
    /// What is asked.
    #[schema(value_type = schema::Input)]
    pub input: UserInput,
}

/// An answer to an approval.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// Yes or no.
    #[schema(value_type = schema::Decision)]
    pub decision: Decision,
    /// How far a yes reaches.
    #[serde(default)]
    #[schema(value_type = schema::DecisionScope)]
    pub scope: DecisionScope,
    /// Bounds of a pattern; with `scope: pattern` only.
    #[serde(default)]
    #[schema(value_type = Option<schema::Pattern>)]
    pub pattern: Option<PatternBounds>,
    /// What happened, for an unknown effect.
    #[serde(default)]
    #[schema(value_type = Option<schema::UnknownOutcome>)]
    pub outcome: Option<UnknownOutcome>,
    /// Why; the reason of a no goes to the model.
    #[serde(default)]
    pub reason: Option<String>,
}

impl From<Decide> for NewDecision {
    fn from(said: Decide) -> Self {
        Self {
            decision: said.decision,
            scope: said.scope,
            pattern: said.pattern,
            outcome: said.outcome,
            reason: said.reason,
        }
    }
}

/// One answer to several approvals.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideMany {
    /// The approvals, 1 to 100; each is decided on its own.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<ApprovalId>,
    /// Yes or no.
    #[schema(value_type = schema::Decision)]
    pub decision: Decision,
    /// How far a yes reaches: `once` or `run`.
    #[serde(default)]
    #[schema(value_type = schema::DecisionScope)]
    pub scope: DecisionScope,
    /// Why; the reason of a no goes to the model.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Which patterns.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListPatterns {
    /// Those that are over too.
    #[serde(default)]
    pub all: bool,
    /// Items of a page, 1 to 500.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// A new conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateConversation {
    /// The owner's label.
    #[serde(default)]
    pub title: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Items of a page, 1 to 500.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRuns {
    /// Only those in this state.
    #[serde(default)]
    #[param(value_type = Option<schema::RunState>)]
    pub state: Option<RunState>,
    /// Only those of this agent.
    #[serde(default)]
    pub agent: Option<String>,
    /// Only those of this conversation.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub conversation_id: Option<ConversationId>,
    /// Items of a page, 1 to 500.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// Which approvals.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListApprovals {
    /// Only those in this state.
    #[serde(default)]
    #[param(value_type = Option<schema::ApprovalState>)]
    pub state: Option<ApprovalState>,
    /// Items of a page, 1 to 500.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// Whether to wait for the run.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Seconds, at most 60: answers 200 as soon as the run is terminal, paused or awaiting
    /// approval, else 202 at the end.
    #[serde(default)]
    #[param(maximum = 60)]
    pub wait: Option<u64>,
}

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEvents {
    /// The last event that is known already; 0 for all.
    #[serde(default)]
    pub after: Option<u64>,
    /// Items of a page, 1 to 500; not for streams.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub limit: Option<u32>,
}
