//! The one record for replay, live feeds and delivery.
//!
//! Durable events of a run are numbered from 1 without gaps, and its state is the fold of them:
//! [`fold`] is what the daemon's tests, the demo and the invariant checker use to say so.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    approval::{Approval, ApprovalState, DecisionRecord},
    egress::EgressRecord,
    ids::{ApprovalId, BundleId, CapabilityId, ConversationId, RunId, SteerId, ToolCallId},
    message::{Author, Part},
    run::{Confinement, InterruptMode, RunError, RunInput, RunState, Usage, WaitReason},
    time::Timestamp,
    tool::{Effect, Risk, ToolStatus},
};

/// A message as events carry it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageBody {
    /// Who said it.
    pub role: Author,
    /// What was said.
    pub content: Vec<Part>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[expect(missing_docs, reason = "API.md names each event; the fields are its wire names")]
pub enum EventBody {
    #[serde(rename = "run.created")]
    RunCreated { agent: String, input: String, retry_of: Option<RunId> },
    #[serde(rename = "run.started")]
    RunStarted {},
    #[serde(rename = "run.recovered")]
    RunRecovered {
        from_epoch: u64,
        to_epoch: u64,
        recoveries: u32,
        /// Why it waits for a person now, if it does; otherwise it is back in the queue.
        paused: Option<WaitReason>,
    },
    #[serde(rename = "message.completed")]
    MessageCompleted { message: MessageBody },
    #[serde(rename = "tool.requested")]
    ToolRequested { call_id: ToolCallId, tool: String, args: Value, effect: Effect, risk: Risk },
    #[serde(rename = "tool.denied")]
    ToolDenied {
        call_id: ToolCallId,
        tool: String,
        reason: String,
        rule: String,
        /// Where the rule stands; none when something before policy refused the call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        layer: Option<String>,
    },
    #[serde(rename = "tool.started")]
    ToolStarted {
        call_id: ToolCallId,
        tool: String,
        attempt: u32,
        /// The rule that let it through, or that asked the person who did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// Where that rule stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        layer: Option<String>,
    },
    #[serde(rename = "tool.completed")]
    ToolCompleted {
        call_id: ToolCallId,
        status: ToolStatus,
        exit_code: Option<i32>,
        output: String,
        truncated: bool,
        duration_ms: u64,
        confinement: Option<Confinement>,
    },
    #[serde(rename = "approval.requested")]
    ApprovalRequested {
        // `data` is the approval itself (API.md).
        #[serde(flatten)]
        approval: Box<Approval>,
    },
    #[serde(rename = "approval.decided")]
    ApprovalDecided {
        approval_id: ApprovalId,
        call_id: Option<ToolCallId>,
        state: ApprovalState,
        decision: DecisionRecord,
    },
    #[serde(rename = "approval.expired")]
    ApprovalExpired { approval_id: ApprovalId, call_id: Option<ToolCallId> },
    #[serde(rename = "approval.voided")]
    ApprovalVoided { approval_id: ApprovalId, call_id: Option<ToolCallId>, reason: String },
    #[serde(rename = "run.steer_accepted")]
    SteerAccepted { steer_id: SteerId, input: String },
    #[serde(rename = "run.steer_applied")]
    SteerApplied { steer_id: SteerId, step: u32 },
    #[serde(rename = "run.steer_failed")]
    SteerFailed { steer_id: SteerId, input: String, started_run_id: Option<RunId> },
    #[serde(rename = "run.interrupt_requested")]
    InterruptRequested { mode: InterruptMode },
    #[serde(rename = "run.paused")]
    RunPaused { reason: WaitReason, detail: Option<String> },
    #[serde(rename = "run.resumed")]
    RunResumed { reason: WaitReason },
    #[serde(rename = "run.cancel_requested")]
    CancelRequested { reason: Option<String> },
    #[serde(rename = "bundle.committed")]
    BundleCommitted { bundle_id: BundleId, parent_id: Option<BundleId> },
    #[serde(rename = "secret.blocked")]
    SecretBlocked { place: String },
    #[serde(rename = "egress.denied")]
    EgressDenied {
        #[serde(flatten)]
        attempt: EgressRecord,
    },
    #[serde(rename = "budget.refused")]
    BudgetRefused { limit: String, allowed: String, needed: String },
    #[serde(rename = "capability.revoked")]
    CapabilityRevoked {
        capability_id: CapabilityId,
        /// The one call that it was for; none when it was the run's.
        call_id: Option<ToolCallId>,
        reason: Option<String>,
    },
    #[serde(rename = "run.succeeded")]
    RunSucceeded { output: String, usage: Usage },
    #[serde(rename = "run.failed")]
    RunFailed { error: RunError, usage: Usage },
    #[serde(rename = "run.cancelled")]
    RunCancelled { reason: Option<String>, unknown_effects: Vec<ToolCallId>, usage: Usage },
    #[serde(rename = "run.expired")]
    RunExpired { error: RunError, usage: Usage },
}

impl EventBody {
    /// The type's name on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RunCreated { .. } => "run.created",
            Self::RunStarted { .. } => "run.started",
            Self::RunRecovered { .. } => "run.recovered",
            Self::MessageCompleted { .. } => "message.completed",
            Self::ToolRequested { .. } => "tool.requested",
            Self::ToolDenied { .. } => "tool.denied",
            Self::ToolStarted { .. } => "tool.started",
            Self::ToolCompleted { .. } => "tool.completed",
            Self::ApprovalRequested { .. } => "approval.requested",
            Self::ApprovalDecided { .. } => "approval.decided",
            Self::ApprovalExpired { .. } => "approval.expired",
            Self::ApprovalVoided { .. } => "approval.voided",
            Self::SteerAccepted { .. } => "run.steer_accepted",
            Self::SteerApplied { .. } => "run.steer_applied",
            Self::SteerFailed { .. } => "run.steer_failed",
            Self::InterruptRequested { .. } => "run.interrupt_requested",
            Self::RunPaused { .. } => "run.paused",
            Self::RunResumed { .. } => "run.resumed",
            Self::CancelRequested { .. } => "run.cancel_requested",
            Self::BundleCommitted { .. } => "bundle.committed",
            Self::SecretBlocked { .. } => "secret.blocked",
            Self::EgressDenied { .. } => "egress.denied",
            Self::BudgetRefused { .. } => "budget.refused",
            Self::CapabilityRevoked { .. } => "capability.revoked",
            Self::RunSucceeded { .. } => "run.succeeded",
            Self::RunFailed { .. } => "run.failed",
            Self::RunCancelled { .. } => "run.cancelled",
            Self::RunExpired { .. } => "run.expired",
        }
    }

    /// Whether nothing can follow it.
    pub const fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::RunSucceeded { .. }
                | Self::RunFailed { .. }
                | Self::RunCancelled { .. }
                | Self::RunExpired { .. }
        )
    }

    /// What this event does to a run in `state`; `None` for events that change no state.
    pub fn input(&self, state: RunState) -> Option<RunInput> {
        match self {
            Self::RunStarted { .. } => Some(RunInput::Claim),
            Self::RunRecovered { paused: None, .. } => Some(RunInput::Recover),
            Self::RunRecovered { paused: Some(_), .. } => Some(RunInput::RecoverPaused),
            Self::ApprovalRequested { .. } => {
                // The approvals of a paused run are asked after the pause and change nothing.
                (state == RunState::Running).then_some(RunInput::Gate)
            }
            Self::ApprovalDecided { state: decided, .. } => (state == RunState::AwaitingApproval
                && *decided != ApprovalState::Pending)
                .then_some(RunInput::Decide),
            Self::ApprovalExpired { .. } => {
                (state == RunState::AwaitingApproval).then_some(RunInput::Decide)
            }
            Self::RunPaused { .. } => Some(RunInput::Pause),
            Self::RunResumed { .. } => Some(RunInput::Resume),
            Self::CancelRequested { .. } => {
                (state == RunState::Running).then_some(RunInput::RequestCancel)
            }
            Self::RunSucceeded { .. } => Some(RunInput::Succeed),
            Self::RunFailed { .. } => Some(RunInput::Fail),
            Self::RunCancelled { .. } => Some(RunInput::Cancel),
            Self::RunExpired { .. } => Some(RunInput::Expire),
            Self::RunCreated { .. }
            | Self::MessageCompleted { .. }
            | Self::ToolRequested { .. }
            | Self::ToolDenied { .. }
            | Self::ToolStarted { .. }
            | Self::ToolCompleted { .. }
            | Self::ApprovalVoided { .. }
            | Self::SteerAccepted { .. }
            | Self::SteerApplied { .. }
            | Self::SteerFailed { .. }
            | Self::InterruptRequested { .. }
            | Self::BundleCommitted { .. }
            | Self::SecretBlocked { .. }
            | Self::EgressDenied { .. }
            | Self::BudgetRefused { .. }
            | Self::CapabilityRevoked { .. } => None,
        }
    }
}

/// A durable event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
    /// The run.
    pub run_id: RunId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// Position in the run, from 1, without gaps.
    pub seq: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// The run's epoch then.
    pub epoch: u64,
}

/// A live frame that is never stored: dropped first under pressure, replaced by the durable event
/// that follows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ephemeral {
    /// What is happening.
    #[serde(flatten)]
    pub body: EphemeralBody,
    /// The run.
    pub run_id: RunId,
    /// The last durable event before it.
    pub after_seq: u64,
}

/// What is happening.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EphemeralBody {
    /// A piece of the model's answer.
    #[serde(rename = "message.delta")]
    MessageDelta {
        /// The piece.
        text: String,
    },
    /// A piece of a running tool's output.
    #[serde(rename = "tool.output")]
    ToolOutput {
        /// The call.
        call_id: ToolCallId,
        /// `stdout` or `stderr`.
        stream: OutputStream,
        /// The piece, invalid UTF-8 replaced.
        text: String,
    },
}

impl EphemeralBody {
    /// The type's name on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::MessageDelta { .. } => "message.delta",
            Self::ToolOutput { .. } => "tool.output",
        }
    }
}

/// Which stream a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a list of events is not a run's history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The first event is not `run.created`.
    #[error("the history does not begin with run.created")]
    NoBeginning,
    /// A number is missing or repeated.
    #[error("expected event {expected}, found {found}")]
    Gap {
        /// The number that should follow.
        expected: u64,
        /// The number that was found.
        found: u64,
    },
    /// An event that the state does not allow.
    #[error("event {seq} ({kind}) is not legal in state {state}")]
    Illegal {
        /// Its number.
        seq: u64,
        /// Its type.
        kind: &'static str,
        /// The state before it.
        state: RunState,
    },
    /// The epoch went backwards.
    #[error("event {seq} carries an older epoch than the event before it")]
    StaleEpoch {
        /// Its number.
        seq: u64,
    },
}

/// The state that a run's history says it is in.
///
/// # Errors
/// When the history has a gap, an illegal transition, an event after a terminal one, or an epoch
/// that goes backwards.
pub fn fold(events: &[Event]) -> Result<RunState, FoldError> {
    let Some(first) = events.first() else { return Err(FoldError::NoBeginning) };
    if !matches!(first.body, EventBody::RunCreated { .. }) {
        return Err(FoldError::NoBeginning);
    }
    let mut state = RunState::Queued;
    let mut epoch = first.epoch;
    for (event, expected) in events.iter().zip(1_u64..) {
        if event.seq != expected {
            return Err(FoldError::Gap { expected, found: event.seq });
        }
        if event.epoch < epoch {
            return Err(FoldError::StaleEpoch { seq: event.seq });
        }
        epoch = event.epoch;
        let illegal = FoldError::Illegal { seq: event.seq, kind: event.body.kind(), state };
        if state.is_terminal()
            || (expected > 1 && matches!(event.body, EventBody::RunCreated { .. }))
        {
            return Err(illegal);
        }
        if let Some(input) = event.body.input(state) {
            state = state.after(input).ok_or(illegal)?;
        }
    }
    Ok(state)
}
